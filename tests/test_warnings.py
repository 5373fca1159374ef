"""Python warnings are for programmers: with `python -W error` a user's commands run as without it."""

from __future__ import annotations

import pytest

from tests import runs


@pytest.fixture(scope="module")
def trained(tiny_kitti, tmp_path_factory):
    """The folder of a run of two steps, with its output."""
    folder = tmp_path_factory.mktemp("warnings")
    words = runs.arguments(tiny_kitti, folder, max_steps=2, num_workers=1)
    return folder, runs.finish(runs.start("-W", "error", "run.py", *words))


def assert_no_warning(output):
    assert "Warning" not in output and "Exception ignored" not in output, output


def test_training_has_no_warning(trained):
    folder, output = trained
    assert_no_warning(output)
    assert (folder / "run/checkpoints/last.pt").exists()


def test_evaluation_has_no_warning(trained, tiny_kitti, tmp_path):
    words = ["--run", trained[0] / "run", "--device", "cpu", "--data_path", tiny_kitti, "--num_workers", 1]
    output = runs.finish(runs.start("-W", "error", "evaluate_depth.py", *words, "--output", tmp_path))
    assert_no_warning(output)
    assert list(tmp_path.rglob("results.json"))


@pytest.mark.parametrize(
    ("script", "name", "words"),
    [("test_simple.py", "", "--save npz --ply"), ("test_video.py", "video.gif", "")],
)
def test_prediction_has_no_warning(trained, tiny_kitti, tmp_path, script, name, words):
    images = sorted(tiny_kitti.rglob("image_02/data"))[0]
    model = ["--run", trained[0] / "run", "--device", "cpu", "--image_path", images]
    output = runs.finish(
        runs.start("-W", "error", script, *model, "--output", tmp_path / name, *words.split())
    )
    assert_no_warning(output)
    assert list(tmp_path.glob("*.gif" if name else "*.ply"))
