"""`make demo` in miniature: every step of it, on a world of a few frames."""

from PIL import Image

from tests import runs
from tools import demo


def test_the_demo_goes_from_nothing_to_images_and_a_table(tmp_path, capfd):
    world = f"--out {tmp_path} --sequences 4 --frames 5 --height 64 --width 96"
    training = "--height 64 --width 96 --num_epochs 1 --batch_size 2 --max_steps 2"
    command = f"{world} --run_options {training}".split()
    demo.main(command)
    first = capfd.readouterr().out
    for line in ("one constant depth", "mean depth of each pixel", "learned from video", "minutes in all"):
        assert line in first
    with Image.open(tmp_path / "images" / "depth.png") as image_grid:
        assert image_grid.width == 3 * 96 + 2 * 4
    with Image.open(tmp_path / "images" / "depth.gif") as video:
        assert video.n_frames == 5
    assert (tmp_path / "run" / "evaluation" / "test" / "results.json").exists()

    demo.main(command)
    assert "is there already" in capfd.readouterr().out


def test_it_starts_as_a_script():
    assert "Learn depth from a synthetic video" in runs.finish(runs.start("tools/demo.py", "--help"))
