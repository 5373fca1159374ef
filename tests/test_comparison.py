"""Paired differences: known means, intervals by scene, gained and lost images."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from evaluate_depth import main
from evaluation import comparison_grid
from evaluation.choice import DatasetChoice, ProtocolChoice
from evaluation.choice import Model as Evaluated
from evaluation.comparison import bootstrap, compare_images, read_images
from evaluation.comparison_grid import draw_changes, error_map
from metrics import METRICS, GroundTruth
from structures import Prediction
from tests.test_evaluation import Wall
from utils import InputError


def write(path: Path, abs_rel: dict[str, float]) -> Path:
    """A per_image.csv whose a1 is 1 - abs_rel and whose other metrics are abs_rel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["index", "camera", "name", "pixels", "ratio", *METRICS])
        for n, (name, error) in enumerate(abs_rel.items()):
            errors = [
                1 - error if metric.startswith("a") and metric != "abs_rel" else error for metric in METRICS
            ]
            writer.writerow([n, 0, name, 10, 1.0, *errors])
    return path


def name(drive: int, frame: int) -> str:
    return f"2011_09_26/2011_09_26_drive_{drive:04d}_sync {frame} l"


IMAGES = {name(drive, frame): 0.1 + 0.01 * drive for drive in range(8) for frame in range(5)}


@pytest.fixture
def pair(tmp_path):
    """A, and B that is 0.02 better on all images but two: one gained 0.06, one lost 0.05."""
    better = {key: error - 0.02 for key, error in IMAGES.items()}
    better[name(3, 2)] -= 0.04
    better[name(5, 1)] += 0.07
    return write(tmp_path / "a/per_image.csv", IMAGES), write(tmp_path / "b/per_image.csv", better)


def test_clear_difference_is_called_by_its_winner(pair):
    found = compare_images(*map(read_images, pair))
    assert (found.images, found.scenes, found.only_one) == (40, 8, 0)
    first = found.differences[0]
    assert first.b - first.a == pytest.approx(-0.02 + 0.03 / 40)
    assert first.low < first.b - first.a < first.high < 0
    assert {one.words for one in found.differences} == {"B is better"}
    assert first.improved == pytest.approx(39 / 40)
    assert found.gained[0] == ((name(3, 2), ""), pytest.approx(-0.06))
    assert found.lost == [((name(5, 1), ""), pytest.approx(0.05))]


def test_evaluation_compared_with_itself_is_not_clear(pair):
    found = compare_images(read_images(pair[0]), read_images(pair[0]))
    assert {one.words for one in found.differences} == {"not clear"}
    assert found.gained == found.lost == []


def test_interval_by_scene_is_wider_than_by_image():
    random = np.random.default_rng(0)
    of_scene = random.normal(0, 1, 20)
    values = np.repeat(of_scene, 50)[:, None]
    scenes = np.repeat([f"s{n}" for n in range(20)], 50)
    by_scene, by_image = (np.ptp(bootstrap(values, groups)) for groups in (scenes, np.arange(1000)))
    assert by_scene == pytest.approx(2 * 1.96 * of_scene.std() / np.sqrt(20), rel=0.1)
    assert by_image == pytest.approx(by_scene / np.sqrt(50), rel=0.1)


def test_image_of_one_evaluation_is_left_out_and_counted(tmp_path, pair):
    more = write(tmp_path / "c.csv", {**IMAGES, name(9, 9): 0.5})
    found = compare_images(read_images(pair[0]), read_images(more))
    assert (found.images, found.only_one) == (40, 1)
    other = write(tmp_path / "d.csv", {"make3d": 0.1})
    with pytest.raises(InputError, match="share no image"):
        compare_images(read_images(pair[0]), read_images(other))


def test_run_with_several_evaluations_needs_a_folder(tmp_path):
    for split in ("eigen_test", "make3d"):
        write(tmp_path / "run/evaluation" / split / "per_image.csv", IMAGES)
    assert len(read_images(tmp_path / "run/evaluation/make3d").errors) == 40
    with pytest.raises(InputError, match="several evaluations"):
        read_images(tmp_path / "run")
    with pytest.raises(InputError, match="evaluate it first"):
        read_images(tmp_path / "absent")


def test_command_prints_the_comparison(pair, capsys):
    main(["--compare", str(pair[0].parent), str(pair[1])])
    out = capsys.readouterr().out
    assert "40 images of 8 scenes" in out and "B is better" in out and "B lost most" in out
    with pytest.raises(InputError, match="--compare reads saved evaluations"):
        main(["--compare", "a", "b", "--run", "c"])


class FromBrightness(torch.nn.Module):
    """Depth from brightness, with an error factor on the lower half of the image."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor, self.loss_terms = factor, torch.nn.ModuleDict()

    def predict(self, batch):
        depth = 1 / batch.images[0][:, :1].clamp(min=1e-3)
        depth[..., depth.shape[-2] // 2 :, :] *= self.factor
        return Prediction({}, {0: depth})


def test_changed_images_are_drawn_with_their_error_maps(tmp_path, monkeypatch):
    wall = Wall(tmp_path, count=3)
    monkeypatch.setattr(comparison_grid, "open_images", lambda *_: SimpleNamespace(images=wall))
    monkeypatch.setattr(comparison_grid, "choose_split", lambda *_: (None, None))
    files = [
        write(tmp_path / f"{n}.csv", {"wall 0": 0.1, "wall 1": error}) for n, error in enumerate((0.1, 0.3))
    ]
    found = compare_images(*map(read_images, files))
    models = [Evaluated(FromBrightness(factor), {"dataset": "folder"}) for factor in (1.0, 2.0)]
    path = tmp_path / "grid.png"
    assert draw_changes(path, models, DatasetChoice(), ProtocolChoice(), found) == 1  # wall 1 lost
    drawn = np.asarray(Image.open(path)).astype(float)
    assert drawn.shape == (240, 5 * 480 + 4 * 4, 3)
    right, wrong = drawn[:, 3 * 484 : 3 * 484 + 480], drawn[:, 4 * 484 : 4 * 484 + 480]
    assert wrong.mean() > right.mean() + 30


def test_error_map_marks_the_pixel_that_is_wrong():
    depth = torch.tensor([[10.0, 20.0]], dtype=torch.float64)
    rows = torch.tensor([[5, 25]])
    ground_truth = GroundTruth(
        depth, rows, rows, torch.ones(1, 2, dtype=torch.bool), torch.tensor([[40, 40]])
    )
    drawn = error_map(torch.tensor([[10.0, 26.0]]), ground_truth, (40, 40))
    assert drawn[25, 25].sum() > drawn[5, 5].sum() > 0
    assert drawn[0, 39].sum() == 0
