"""The path of a new user, with the commands of the README: from a video without calibration to points."""

from __future__ import annotations

import shlex
import sys

import pytest

from datasets.synthetic import Camera, Room
from intrinsics import centred
from parallax import commands
from prediction.frames import open_video
from tests.plys import read_ply
from tests.test_docs import BLOCK
from tools.layouts._base import looking_ahead
from utils import PROJECT
from videos import video

HEIGHT, WIDTH, FRAMES = 64, 96, 16
# Added to the README's line, so that a laptop trains it in seconds and without weights of ImageNet.
SMALL = {"weights_init": "scratch", "num_epochs": 1, "batch_size": 2, "steps_per_epoch": 2, "num_workers": 0,
         "precision": "float32", "device": "cpu"}  # fmt: skip


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working folder with `walk.mp4`, a second of a hand-held camera in a room."""
    monkeypatch.chdir(tmp_path)
    room, camera = Room(11, 2.0), Camera(centred(0.8 * WIDTH, HEIGHT, WIDTH), WIDTH, HEIGHT)
    with video("walk.mp4", 15) as write:
        for n in range(FRAMES):
            write(room.render(camera, room.ego_pose(n / 15) @ looking_ahead(0, 0, 0), n / 15).image)
    return tmp_path


def own_video_commands() -> list[list[str]]:
    """The words of each line of the README's block about a video of one's own."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    block = BLOCK.search(text[text.index("**My video**") :])[1]
    return [shlex.split(line) for line in block.splitlines()]


def test_the_readme_leads_from_a_video_to_a_point_cloud(desk, monkeypatch, capsys):
    said = {}
    for program, name, *words in own_video_commands():
        small = [word for key, value in SMALL.items() for word in (f"--{key}", str(value))]
        more = {
            "train": small,
            "predict": ["--device", "cpu", "--ply_agree", "1"],
            "doctor": ["--workers", "1"],
        }
        monkeypatch.setattr(sys, "argv", [program, name, *words, *more[name]])
        assert program == "parallax"
        try:
            commands.run()
        except SystemExit as end:
            assert name == "doctor" and not end.code, capsys.readouterr()
        said[name] = "".join(capsys.readouterr())
    assert list(said) == ["doctor", "train", "predict"]
    assert "can be trained on" in said["doctor"] and (desk / "doctor.html").is_file()
    assert "are guessed" in said["train"] and "trained 2 steps" in said["train"]
    assert sum(1 for _ in open_video(desk / "walk_depth.mp4").images) == FRAMES
    _, points, _ = read_ply(desk / "walk.ply")
    assert len(points) > 100
