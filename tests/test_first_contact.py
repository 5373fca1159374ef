"""Help, lists and mistakes are answered before torch is imported, in one sentence, by one process."""

import subprocess
import sys

import pytest

from parallax.commands import commands
from tests import runs
from utils import PROJECT

# Runs an entry's main and prints whether torch was loaded meanwhile.
WATCH = """
import sys
import {module}
from utils import run_main
sys.argv = ["{module}", *{words!r}]
try:
    run_main({module}.main)
finally:
    print("torch" if "torch" in sys.modules else "no torch", file=sys.stderr)
"""


def watch(module, *words):
    code = WATCH.format(module=module, words=words)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, timeout=runs.HANG
    )


HEAVY = ("torch", "torchvision", "timm", "cv2", "onnx", "transformers", "pandas", "scipy", "matplotlib")
HELP = """
import importlib, sys
from utils import run_main
sys.argv = ["parallax", "--help"]
try:
    run_main(importlib.import_module("{module}").main)
finally:
    print(*sorted({heavy!r} & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.parametrize("module", sorted({*commands().values(), "test_video"}))
def test_help_imports_nothing_heavy(module):
    """So that every command answers in a fraction of a second."""
    code = HELP.format(module=module, heavy=set(HEAVY))
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout and done.stderr == "\n" and done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--list"],
        ["--heigth", "64"],
        ["--height", "100"],
        ["--method", "monodeth2"],
        ["--dataset.basline", "1"],
        ["--losses.smoothness.wait", "1"],
        ["--config", "nowhere.yaml"],
    ],
    ids=" ".join,
)
def test_torch_is_not_imported_for(words):
    done = watch("run", *words)
    assert done.stderr.endswith("\nno torch\n") or done.stderr == "no torch\n", done.stderr
    assert done.returncode == (2 if done.stderr.startswith("error: ") else 0)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--version"],
        ["trian"],
        ["train", "--list"],
        ["doctor", "--help"],
        ["train", "walk.mp4", "--heigth", "64"],
        ["train", "nowhere.mp4"],
        ["predict", "walk.mp4", "--outptu", "a.gif"],
        ["predict", "walk.mp4", "--run"],
        ["evaluate", "KITTI"],
    ],
    ids=" ".join,
)
def test_torch_is_not_imported_for_the_command(words):
    done = watch("parallax.__main__", *words)
    assert done.stderr.endswith("no torch\n"), done.stderr
    assert done.returncode == (2 if done.stderr.startswith("error: ") else 0)


@pytest.mark.parametrize("words", [["--help"], ["--data_path", "x"]], ids=" ".join)
def test_torch_is_not_imported_for_the_flags_of_a_tool(words):
    done = watch("tools.pseudo_depth", *words)
    assert done.stderr.endswith("no torch\n") and done.returncode == (0 if words == ["--help"] else 2)


@pytest.mark.parametrize("words", [["--help"], ["--run", "x", "--to", "a.tflite"]], ids=" ".join)
def test_torch_is_not_imported_for_the_flags_of_the_export(words):
    done = watch("tools.export", *words)
    assert done.stderr.endswith("no torch\n") and done.returncode == (0 if words == ["--help"] else 2)


def test_the_list_has_a_description_for_each_name(capsys):
    import run

    run.main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    entries = [line for line in lines if line.startswith("  ")]
    assert len(entries) > 40
    for line in entries:
        assert len(line.split(maxsplit=1)) == 2, f"no description: {line}"
    assert any(line.startswith("  smoothness ") and "Edge-aware smoothness" in line for line in entries)
    assert any(
        line.startswith("  kitti/eigen_zhou ") and line.endswith("lists: train, val") for line in entries
    )


def test_a_closed_pipe_ends_the_list_quietly():
    command = f"{sys.executable} run.py --list | head -1"
    done = subprocess.run(command, shell=True, cwd=PROJECT, capture_output=True, text=True, timeout=runs.HANG)
    assert (done.stdout, done.stderr) == ("methods:\n", "")


@pytest.mark.parametrize("script", ["run.py"])
def test_outside_of_the_environment_it_says_what_to_do(script):
    # -S: no installed packages.
    done = subprocess.run(
        [sys.executable, "-S", script], cwd=PROJECT, capture_output=True, text=True, timeout=runs.HANG
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "is not installed for" in done.stderr and ".venv/bin/activate" in done.stderr


def test_a_wrong_encoder_is_told_before_the_data(tmp_path):
    done = watch("run", "--encoder", "resnet19", "--data_path", str(tmp_path / "nowhere"))
    assert "resnet has 18, 34, 50, 101 or 152 layers, got 19" in done.stderr


def test_torchrun_says_an_error_once_at_the_end():
    words = ["--nproc_per_node", "2", "--master_port", str(runs.free_port()), "run.py", "--height", "100"]
    output = runs.finish(runs.start("-m", "torch.distributed.run", *words), expected=1)
    assert output.count("--height must be a multiple of 32") == 1
    assert "error: --height must be" in "\n".join(output.splitlines()[-3:])
