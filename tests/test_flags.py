"""Flags that several scripts share: one model, its device, loading, settings of the dataset."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flags
from tests.tiny_models import save_run
from utils import PROJECT, InputError


def parser(saved: dict[str, str] | None = None):
    result = flags.new_parser("some.py", "Does something.")
    flags.add_model_flags(result, saved)
    flags.add_dataset_flags(result)
    flags.add_loading_flags(result)
    flags.add_device_flags(result)
    return result


def parse(*words: str, **settings):
    return flags.parse(parser(**settings), words)


@pytest.mark.parametrize(
    "words",
    [
        ["--dataset.depth_scale", "1000", "--dataset.files=left.png 0*.png"],
        ["--set", "depth_scale=1000", "files=left.png 0*.png"],
        ["--set", "depth_scale=256", "--dataset.depth_scale=1000", "--set", "files=left.png 0*.png"],
    ],
)
def test_dataset_settings_have_two_spellings(words):
    settings = parse("--run", "r", *words).dataset_settings
    assert settings == {"depth_scale": 1000, "files": "left.png 0*.png"}


@pytest.mark.parametrize("key", ["name", "data_path", "height", "skip_missing"])
def test_settings_that_have_a_flag_are_refused(key):
    flag = "--dataset" if key == "name" else f"--{key}"
    for words in (["--set", f"{key}=1"], [f"--dataset.{key}", "1"]):
        with pytest.raises(InputError, match=f"--dataset.{key} would shadow {flag}; give {flag}"):
            parse("--run", "r", *words)


def test_settings_of_a_dataset_need_one():
    parser = flags.new_parser("test_video.py", "A video.")
    with pytest.raises(
        InputError, match=r"--dataset\.stride is a setting of a dataset, and test_video\.py opens"
    ):
        flags.parse(parser, ["--dataset.stride", "2"])


def test_a_tilde_that_the_shell_leaves_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    args = parse("--run=~/runs/a", "--data_path=~/data")
    assert (args.run, args.data_path) == ("/somewhere/runs/a", "/somewhere/data")


def test_one_model_is_named(tmp_path, monkeypatch):
    assert flags.model_path(parse("--pretrained_path", "w.pth")) == Path("w.pth")
    (tmp_path / "models" / "mono_640x192").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert flags.model_path(parse("--model_name", "mono_640x192")) == Path("models/mono_640x192")
    saved = {"--ext_disp_to_eval": "saved disparities"}
    assert flags.model_path(parse("--ext_disp_to_eval", "d.npy", saved=saved)) is None
    for words, sentence in [
        ([], "no model was given: add one of --run, --load_weights_folder, --pretrained_path, --model_name"),
        (["--run", "a", "--model_name", "b"], "--run and --model_name name two models; give one"),
        (["--model_name", "mono_640x193"], "no models/mono_640x193; did you mean 'mono_640x192'"),
    ]:
        with pytest.raises(InputError, match=sentence):
            flags.model_path(parse(*words))


def test_size_and_decode_range_win_over_the_checkpoints(tmp_path):
    words = ["--run", str(save_run(tmp_path)), "--height", "128", "--max_depth", "20"]
    method, options = flags.open_model(parse(*words), "cpu")
    assert (options["height"], options["width"]) == (128, 96)
    assert (method.min_depth, method.max_depth) == (0.1, 20)


def test_the_published_flag_for_the_cpu_is_understood():
    assert flags.device_name(parse("--no_cuda")) == "cpu"
    assert flags.device_name(parse("--device", "cuda:1")) == "cuda:1"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--deviec", "cpu"], r"there is no flag --deviec; did you mean '--device'\?"),
        (["--batch", "4"], "there is no flag --batch"),  # no abbreviations
        (["runs/a"], "unexpected argument 'runs/a'$"),
        (
            ["--dataset.intrinsics", "60", "60", "48", "32"],
            """unexpected argument '60'; in quotes .*: --dataset.intrinsics "60 60 48 32"$""",
        ),
        (["--intrinsics", "60 60 48 32"], r"no flag --intrinsics; did you mean '--dataset\.intrinsics'\?$"),
        (["--frobnicate"], r"there is no flag --frobnicate; see .* --help$"),
        (["--batch_size", "0"], "--batch_size must be 1 or more, got 0"),
        (["--num_workers", "-1"], "--num_workers must be 0 or more, got -1"),
        (["--dataset.depth_scale"], "--dataset.depth_scale needs a value"),
        (["--set", "depth_scale"], "--set must be KEY=VALUE, got 'depth_scale'"),
        (["--checkpoint", "first"], "invalid choice: 'first'"),
    ],
)
def test_mistakes_are_one_sentence(words, sentence):
    with pytest.raises(InputError, match=sentence):
        parse(*words)


@pytest.mark.parametrize("script", ["evaluate_depth.py", "evaluate_pose.py"])
def test_help_and_mistakes_do_not_import_torch(script):
    """A folder in front of the path holds a `torch` that fails."""
    code = (
        "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    for words, status in (["--help"], 0), (["--runn", "a"], 2):
        done = subprocess.run(
            [sys.executable, "-c", code, script, *words],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
