"""Files in PackNet's form: each is read back by its own reader and compared with the prediction."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from datasets._depth_files import read_depth
from evaluation.saved import read_depth_folder
from predictor import find_images
from test_simple import main
from tests.test_test_simple import draw
from tests.tiny_models import save_run
from utils import InputError

DEPTH = 1 / (1 / 100 + (1 / 0.1 - 1 / 100) * 0.25)  # at disparity 0.25


@pytest.fixture(scope="module")
def wall(tmp_path_factory) -> Path:
    """A network that answers disparity 0.25 everywhere."""
    return save_run(tmp_path_factory.mktemp("wall"), disparity=0.25)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


def predict(image: Path, run: Path, *words: object) -> None:
    main(["--image_path", str(image), "--run", str(run), *map(str, words), "--device", "cpu"])


def test_packnets_four_files_are_read_back(run, tmp_path):
    path = draw(tmp_path / "a.png", 50, 70)
    predict(path, run, "--save", "npz", "png", "rgb", "viz", "--save_npy", "--intrinsics", "80 81 34 25")
    depth = np.load(tmp_path / "a_depth.npy")
    with np.load(tmp_path / "a_depth.npz", allow_pickle=False) as saved:
        assert sorted(saved.files) == ["depth", "intrinsics"]
        assert saved["depth"].dtype == np.float32 and np.array_equal(saved["depth"], depth)
        assert saved["intrinsics"].tolist() == [[80, 0, 34], [0, 81, 25], [0, 0, 1]]
    values = cv2.imread(str(tmp_path / "a_depth.png"), cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16 and np.abs(values / 256 - depth).max() <= 1 / 512 + 1e-6
    with Image.open(tmp_path / "a_rgb.png") as written, Image.open(path) as image:
        assert np.array_equal(np.asarray(written), np.asarray(image))
    inverse = 1 / depth
    expected = colormaps["plasma"](np.clip(inverse / np.percentile(inverse, 95), 0, 1))[..., :3] * 255
    with Image.open(tmp_path / "a_viz.png") as written:
        assert np.abs(np.asarray(written) - expected).max() < 4
    assert find_images(str(tmp_path)) == [path]  # outputs are not input


def test_depth_factor_fits_the_values_of_the_16_bits(wall, tmp_path):
    predict(draw(tmp_path / "a.png"), wall, "--save", "png", "--depth_factor", 5000)
    assert read_depth(tmp_path / "a_depth.png", 5000) == pytest.approx(DEPTH, abs=1e-4)
    with pytest.raises(InputError, match="--depth_factor is for --save png"):
        predict(tmp_path / "a.png", wall, "--depth_factor", 5000)


def test_guessed_intrinsics_are_not_written_as_a_calibration(wall, tmp_path, capsys):
    predict(draw(tmp_path / "a.png"), wall, "--save", "npz")
    assert np.load(tmp_path / "a_depth.npz").files == ["depth"]
    assert "have no intrinsics" in (said := capsys.readouterr().out) and "their .npz hold depth only" in said
    assert "points" not in said
    (tmp_path / "cam.txt").write_text("80 80 35 25\n")
    predict(tmp_path / "a.png", wall, "--save", "npz")
    assert np.load(tmp_path / "a_depth.npz")["intrinsics"][0].tolist() == [80, 0, 35]


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_saved_files_are_read_by_the_evaluation(wall, tmp_path, kind):
    for name in ("a", "b"):
        predict(draw(tmp_path / f"{name}.png"), wall, "--save", kind, "viz", "--output", tmp_path / "out")
    depths = read_depth_folder(tmp_path / "out")
    assert depths.shape == (2, 50, 70)
    assert np.abs(depths - DEPTH).max() <= 1 / 512


def test_images_for_the_eye_are_not_taken_for_saved_depth(wall, tmp_path):
    predict(draw(tmp_path / "a.png"), wall, "--save", "viz", "--output", tmp_path / "out")
    with pytest.raises(InputError, match="is not a depth image: expected one 16-bit channel"):
        read_depth_folder(tmp_path / "out")
