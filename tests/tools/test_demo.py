"""`make demo` in miniature: every step of it, on a world of a few frames."""

import subprocess
import sys

from PIL import Image

from utils import PROJECT


def test_the_demo_goes_from_nothing_to_images_and_a_table(tmp_path):
    words = [
        "tools/demo.py",
        "--out",
        tmp_path,
        "--sequences",
        4,
        "--frames",
        5,
        "--height",
        64,
        "--width",
        96,
    ]
    training = ["--height", 64, "--width", 96, "--num_epochs", 1, "--batch_size", 2, "--max_steps", 2]
    command = [sys.executable, *map(str, [*words, "--run_options", *training])]
    first = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-2000:]
    for line in ("one constant depth", "mean depth of each pixel", "learned from video", "minutes in all"):
        assert line in first.stdout
    with Image.open(tmp_path / "images" / "depth.png") as image_grid:
        assert image_grid.width == 3 * 96 + 2 * 4
    with Image.open(tmp_path / "images" / "depth.gif") as video:
        assert video.n_frames == 5
    assert (tmp_path / "run" / "evaluation" / "test" / "results.json").exists()

    again = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-2000:]
    assert "is there already" in again.stdout
