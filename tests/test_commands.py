"""The command `parallax`: names, what the words before the first flag mean, and choices for a recording."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from parallax import __version__, commands, recordings
from utils import PROJECT, InputError


@pytest.fixture
def walk(tmp_path, monkeypatch):
    """A working folder with a landscape video `walk.mp4` and a folder `steps` of upright images."""
    import cv2

    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("walk.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 20, (640, 360))
    writer.write(np.zeros((360, 640, 3), np.uint8))
    writer.release()
    (tmp_path / "steps").mkdir()
    for n in range(3):
        Image.new("RGB", (360, 640)).save(f"steps/{n}.png")
    return tmp_path


def test_each_tool_is_a_command_with_a_sentence():
    tools = {path.stem.replace("_", "-") for path in (PROJECT / "tools").glob("[a-z]*.py")}
    assert tools - set(commands.commands()) == commands.CHECKOUT_ONLY
    lines = [line for line in commands.overview().splitlines() if line.startswith("  ")]
    described = {
        line.split()[0]: line.split(maxsplit=1)[1] for line in lines if "parallax" not in line.split()
    }
    assert described.keys() == commands.commands().keys()


@pytest.mark.parametrize("tool", sorted((PROJECT / "tools").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_a_tool_extends_the_path_only_as_a_script(tool):
    """In the wheel the same line would let `datasets` and `utils` be ours for a whole process."""
    lines = tool.read_text().splitlines()
    changes = [number for number, line in enumerate(lines) if "sys.path." in line]
    assert all(lines[number - 1].startswith("if not __package__:") for number in changes)


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("train", "train"),
        ("run.py", "train"),
        ("test_video.py", "predict"),
        ("tools/doctor.py", "doctor"),
        ("make_masks", "make-masks"),
    ],
)
def test_a_command_is_found_by_its_name_and_its_script(typed, command):
    assert commands.command_of(typed) == command


@pytest.mark.parametrize(("typed", "near"), [("trian", "train"), ("evaluate-depth", "evaluate-pose")])
def test_an_unknown_command_gets_the_nearest(typed, near):
    with pytest.raises(InputError, match=f"there is no command '{typed}'; did you mean '{near}'"):
        commands.command_of(typed)


def test_words_before_the_flags_are_the_input():
    assert commands.resolve("doctor", ["walk.mp4", "--samples", "4"]) == (
        "tools.doctor",
        ["--data_path", "walk.mp4", "--samples", "4"],
    )
    assert commands.resolve("evaluate", ["--run", "runs/a"]) == ("evaluate_depth", ["--run", "runs/a"])
    assert commands.resolve("export", ["runs/a", "--int8"]) == ("tools.export", ["--run", "runs/a", "--int8"])
    with pytest.raises(InputError, match="parallax evaluate takes one input, got a and b"):
        commands.resolve("evaluate", ["a", "b"])


def test_the_version_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["parallax", "--version"])
    commands.run()
    assert capsys.readouterr().out == f"parallax {__version__}\n"


@pytest.mark.parametrize(
    ("recording", "size"), [("walk.mp4", ["192", "352"]), ("steps", ["352", "192"])], ids=str
)
def test_a_recording_is_trained_at_a_size_that_fits(walk, capsys, recording, size):
    module, words = recordings.train([recording], ["--num_epochs", "2"])
    name = recording.removesuffix(".mp4")
    assert module == "run"
    assert words == [
        *("--dataset", "folder", "--data_path", recording, "--model_name", name),
        *("--dataset.intrinsics", "guess", "--height", size[0], "--width", size[1], "--num_epochs", "2"),
    ]
    assert capsys.readouterr().err.startswith("parallax train --dataset folder --data_path ")


def test_typed_flags_take_precedence(walk):
    typed = ["--model_name", "a", "--dataset.intrinsics", "9 9 4 4", "--height", "64"]
    assert recordings.train(["walk.mp4"], typed) == (
        "run",
        ["--dataset", "folder", "--data_path", "walk.mp4", *typed],
    )


def test_a_resumed_run_keeps_its_own_choices(walk):
    (walk / "runs/walk").mkdir(parents=True)
    (walk / "runs/walk/options.yaml").touch()
    words = recordings.train(["walk.mp4"], ["--resume", "auto"])[1]
    own = ["--dataset", "folder", "--data_path", "walk.mp4", "--model_name", "walk"]
    assert words == [*own, "--resume", "auto"]


def test_the_input_of_a_dataset_is_its_root(walk):
    words = recordings.train(["steps"], ["--dataset", "kitti"])[1]
    assert words == ["--data_path", "steps", "--dataset", "kitti"]


def test_what_cannot_be_trained_is_refused(walk):
    with pytest.raises(
        InputError, match=r"takes one input, got walk\.mp4 and steps; put them into one folder"
    ):
        recordings.train(["walk.mp4", "steps"], [])
    with pytest.raises(InputError, match=r"there is no video or folder run\.mp4"):
        recordings.train(["run.mp4"], [])
    (walk / "broken.mp4").write_bytes(b"0" * 100)
    with pytest.raises(InputError, match=r"broken\.mp4"):
        recordings.train(["broken.mp4"], [])


@pytest.mark.parametrize(
    ("given", "rest", "module"),
    [
        ("walk.mp4", [], "test_video"),
        ("steps", [], "test_simple"),
        ("steps/0.png", [], "test_simple"),
        ("steps", ["--output", "depth.gif"], "test_video"),
        ("steps", ["--output=depth.webm"], "test_video"),
    ],
)
def test_videos_and_images_have_a_script_each(walk, given, rest, module):
    words = ["--image_path", given, *rest, "--run", "runs/a"]
    assert recordings.predict([given], [*rest, "--run", "runs/a"]) == (module, words)


def test_an_animation_is_a_video(walk):
    frames = [Image.new("L", (8, 8), 100 * n) for n in range(2)]
    frames[0].save("walk.webp", save_all=True, append_images=frames[1:])
    assert recordings.predict(["walk.webp"], ["--run", "runs/a"])[0] == "test_video"


def test_the_model_is_the_inputs_own_run_else_the_newest(walk, capsys):
    with pytest.raises(InputError, match="no model was given, and runs/ holds no run"):
        recordings.predict(["walk.mp4"], [])
    for name in ("walk", "newer"):
        (walk / f"runs/{name}/checkpoints").mkdir(parents=True)
        (walk / f"runs/{name}/checkpoints/last.pt").touch()
    assert recordings.predict(["walk.mp4"], [])[1][-2:] == ["--run", "runs/walk"]
    assert recordings.predict(["steps/0.png"], [])[1][-2:] == ["--run", "runs/newer"]
    assert "the model is runs/newer; --run names another" in capsys.readouterr().err


def test_a_mistyped_flag_of_prediction_is_refused(walk):
    with pytest.raises(InputError, match="there is no flag --outptu; did you mean '--output'"):
        recordings.predict(["walk.mp4"], ["--outptu", "a.gif"])


def test_help_of_prediction_shows_both_scripts(capsys):
    assert recordings.predict([], ["--help"]) == ("test_simple", ["--help"])
    assert "--fps" in capsys.readouterr().out
