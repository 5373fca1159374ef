"""A training that learns the intrinsics of a recording: from a wrong start to those of the motion."""

import json

import pytest

from datasets._guessed_camera import _from_motion
from datasets.synthetic import Camera, Room
from intrinsics import centred
from matching import focal
from tests.runs import arguments, last, train
from tools.layouts._base import looking_ahead, save_image

HEIGHT, WIDTH, FOCAL = 96, 160, 120.0


@pytest.fixture
def walk(tmp_path, monkeypatch):
    """A camera that turns in a room; `cam.txt` has a focal length that is 10 % too long."""
    monkeypatch.setattr(focal, "TARGETS", 4)
    _from_motion.cache_clear()
    folder, room = tmp_path / "walk", Room(11, 2.0)
    camera = Camera(centred(FOCAL, HEIGHT, WIDTH), WIDTH, HEIGHT)
    for n in range(18):
        pose = room.ego_pose(n / 15) @ looking_ahead(0, 0, 0)
        save_image(folder / f"{n:03d}.png", room.render(camera, pose, n / 15).image)
    (folder / "cam.txt").write_text(f"{1.1 * FOCAL} {1.1 * FOCAL} 79.5 47.5\n")
    return folder


def test_a_run_goes_from_a_wrong_start_to_the_motion(walk, tmp_path):
    settings = {"dataset.intrinsics": "learn", "learning_rate": "1e-3", "scheduler": "constant"}
    # 3e-3 a step, the camera's rate, needs some 30 steps for 10 %.
    train(arguments(walk, tmp_path, num_epochs=20, val_mode="photo", save_frequency=20, **settings))
    camera = last(tmp_path).options["cameras"]["."]
    start, now = (float(camera[key].split()[0]) for key in ("start", "intrinsics"))
    share, error = camera["motion"]
    assert start == pytest.approx(1.1 * FOCAL) and error < 0.06
    assert now == pytest.approx(share * WIDTH, rel=0.02) and camera["learned"]
    steps = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    terms = [step["focal_length"] for step in steps if "focal_length" in step]
    assert terms[0] > 10 * terms[-1] > 0
