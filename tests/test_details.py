"""Errors by distance, region and edge, and as point clouds, on pixels with known depth."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_depth
from evaluation import Loading, evaluate
from evaluation.cloud_errors import (
    CLOUD_DETAILS,
    all_pairs,
    cloud_errors,
    compare_clouds,
    nearest_distances,
)
from evaluation.depth_edges import edge_errors
from evaluation.details import ALWAYS, DetailChoice, errors_in_parts
from evaluation.regions import MovingMasks
from metrics import GroundTruth, Protocol
from tests.test_evaluation import PLAIN, Wall, from_brightness
from utils import InputError


def row_of(depths: list[float], valid: list[bool] | None = None) -> GroundTruth:
    """Ground truth of an image with one row of pixels."""
    t = torch.tensor([depths], dtype=torch.float64)
    known = torch.ones_like(t, dtype=torch.bool) if valid is None else torch.tensor([valid])
    columns = torch.arange(len(depths))[None]
    return GroundTruth(t, torch.zeros_like(columns), columns, known, torch.tensor([[1, len(depths)]]))


def test_bands_and_sq_rel_have_known_values():
    ground_truth = row_of([5.0, 8.0, 10.0, 50.0, 0.0], [True, True, True, True, False])
    p = torch.tensor([[6.0, 8.0, 15.0, 45.0, 3.0]], dtype=torch.float64)
    found = dict(zip(ALWAYS, errors_in_parts(p, ground_truth)[0].tolist()))
    assert found["abs_rel_0_10m"] == pytest.approx(0.1)
    assert found["abs_rel_10_20m"] == pytest.approx(0.5)
    assert math.isnan(found["abs_rel_20_40m"])
    assert found["abs_rel_40_80m"] == pytest.approx(0.1)
    assert [found[f"share_{band}"] for band in ("0_10m", "10_20m", "20_40m")] == [0.5, 0.25, 0]
    assert found["sq_rel_defined"] == pytest.approx((0.04 + 0.25 + 0.01) / 4)


def test_bands_are_saved_and_empty_ones_do_not_count(tmp_path):
    result = evaluate(from_brightness, Wall(tmp_path, count=2), {"": PLAIN}, Loading())[""]
    means = result.details
    assert means["share_0_10m"] + means["share_10_20m"] + means["share_20_40m"] == pytest.approx(1)
    assert "abs_rel_40_80m" not in means and "abs_rel_dynamic" not in means
    result.save(tmp_path / "out")
    with open(tmp_path / "out/per_image.csv") as file:
        row = next(csv.DictReader(file))
    assert float(row["sq_rel_defined"]) == pytest.approx(means["sq_rel_defined"], rel=0.2)


# -------------------------------------------------------------------------------------------------- regions


def test_moving_and_static_pixels_are_told_apart():
    ground_truth = row_of([10.0, 10.0, 20.0, 20.0, 0.0], [True, True, True, True, False])
    ground_truth.region = torch.tensor([[1, 0, 0, -1, 1]], dtype=torch.int8)
    p = torch.tensor([[15.0, 11.0, 26.0, 99.0, 7.0]], dtype=torch.float64)
    found = dict(zip(ALWAYS, errors_in_parts(p, ground_truth)[0].tolist()))
    assert found["abs_rel_dynamic"] == pytest.approx(0.5)
    assert found["abs_rel_static"] == pytest.approx((0.1 + 0.3) / 2)
    assert (found["share_dynamic"], found["share_static"]) == (0.25, 0.5)


def write_masks(folder, widths: list[int]) -> None:
    """A mask for each image of a Wall, above 0 in the first columns."""
    folder.mkdir()
    for n, width in enumerate(widths):
        mask = np.zeros((40 + n, 96), np.uint8)
        mask[:, :width] = 7
        Image.fromarray(mask).save(folder / f"{n}.png")


def ten_percent_off_on_the_left(batch):
    """The Wall's depth, 10 % too large left of the 32nd of 64 columns."""
    prediction = from_brightness(batch)
    prediction.depths[0][..., :32] *= 1.1
    return prediction


def test_each_pixel_counts_once_and_each_image_once(tmp_path):
    wall = Wall(tmp_path, count=2)
    write_masks(tmp_path / "masks", [0, 24])
    protocol = Protocol("plain", "drawn", alignment="none", resize="nearest")
    choice = DetailChoice(("regions",), str(tmp_path / "masks"))
    result = evaluate(ten_percent_off_on_the_left, wall, {"": protocol}, Loading(), details=choice)[""]
    assert [row.details["share_dynamic"] for row in result.rows] == [0, 0.25]
    assert result.details["abs_rel_dynamic"] == pytest.approx(0.1, abs=0.02)  # one of two images
    errors, pixels = [row.details["abs_rel_static"] for row in result.rows], [40 * 96, 41 * 72]
    once = np.dot(errors, pixels) / sum(pixels)
    assert result.details["abs_rel_static"] == pytest.approx(np.mean(errors))
    assert result.details_per_pixel["abs_rel_static"] == pytest.approx(once)
    assert abs(once - np.mean(errors)) > 1e-4  # the two averages differ here
    result.save(tmp_path / "out")
    saved = json.loads((tmp_path / "out/results.json").read_text())
    assert saved["details_per_pixel"]["abs_rel_static"] == pytest.approx(once)


def test_labels_and_colours_say_what_moves(tmp_path):
    wall = Wall(tmp_path, count=1)
    folder = tmp_path / "masks"
    folder.mkdir()
    labels = np.full((40, 96), 7, np.uint8)  # road
    labels[:, :10], labels[:, 10:20] = 26, 4  # car; static, which Cityscapes ignores
    Image.fromarray(labels).save(folder / "0.png")
    mask = MovingMasks(wall, folder, "cityscapes").read(0)[0]
    assert mask[0, :30].tolist() == [1] * 10 + [-1] * 10 + [0] * 10
    colours = np.zeros((40, 96, 3), np.uint8)
    colours[:, :10], colours[:, 10:20] = (1, 2, 3), (3, 2, 1)
    Image.fromarray(colours).save(folder / "0.png")
    with pytest.raises(InputError, match="list those of moving objects"):
        MovingMasks(wall, folder).read(0)
    (folder / "dynamic_colors.txt").write_text("1 2 3\n")
    assert (MovingMasks(wall, folder).read(0)[0] == (np.arange(96) < 10)).all()


def test_masks_of_another_size_are_scaled(tmp_path):
    wall = Wall(tmp_path, count=1)
    folder = tmp_path / "masks"
    folder.mkdir()
    Image.fromarray(np.array([[1, 0, 0, 0]], np.uint8)).save(folder / "0.png")
    ground_truth = GroundTruth.of(wall.depth(0), PLAIN)
    moving = MovingMasks(wall, folder).at(0, ground_truth)
    assert torch.equal(moving == 1, ground_truth.columns < 24)


def test_regions_without_masks_are_refused(tmp_path):
    wall = Wall(tmp_path, count=1)
    with pytest.raises(InputError, match="--moving_masks FOLDER"):
        MovingMasks(wall)
    with pytest.raises(InputError, match="there is no folder"):
        MovingMasks(wall, tmp_path / "none")
    with pytest.raises(InputError, match=r"there is no mask .*0\.png"):
        (tmp_path / "masks").mkdir()
        MovingMasks(wall, tmp_path / "masks").read(0)
    with pytest.raises(InputError, match="no effect without --details regions"):
        DetailChoice((), "masks")
    with pytest.raises(InputError, match="no kind 'edgs'; did you mean 'edges'"):
        DetailChoice(("edgs",))


# ---------------------------------------------------------------------------------------------------- edges


def step(at: int, near: float = 5.0, far: float = 10.0) -> np.ndarray:
    """(60, 80) metres: near left of a column, far from it on."""
    return np.where(np.arange(80) < at, near, far)[None].repeat(60, 0)


def as_map(depth: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(depth)[None, None]


@pytest.mark.parametrize("shift", [0, 3, 7])
def test_a_shifted_edge_is_as_far_as_its_shift(shift):
    ground_truth = GroundTruth.of(step(40)[None], PLAIN)
    found = edge_errors(0.3 * as_map(step(40 + shift)), ground_truth)  # of any scale
    assert found[0].tolist() == pytest.approx([shift, shift])


def test_missing_and_additional_edges_are_told_apart():
    ground_truth = GroundTruth.of(step(40)[None], PLAIN)
    assert edge_errors(as_map(np.full((60, 80), 7.0)), ground_truth)[0].tolist() == [10, 10]
    twice = np.where(np.arange(80) < 48, step(40), 20)  # a second edge, 8 pixels away
    assert edge_errors(as_map(twice), ground_truth)[0].tolist() == pytest.approx([4, 0])
    far = np.where(np.arange(80) < 60, step(40), 20)  # beyond 10 pixels it does not count
    assert edge_errors(as_map(far), ground_truth)[0].tolist() == pytest.approx([0, 0])


def test_sparse_and_flat_ground_truth_have_no_edge():
    sparse = step(40)
    sparse[:, ::4] = 0
    for depth in (sparse, np.full((60, 80), 7.0)):
        found = edge_errors(as_map(step(40)), GroundTruth.of(depth[None], PLAIN))
        assert found.isnan().all()


def test_a_road_to_the_horizon_has_no_edge():
    road = (50 / np.arange(60.0, 0, -1))[:, None].repeat(80, 1)
    found = edge_errors(as_map(road), GroundTruth.of(road[None], PLAIN))
    assert found.isnan().all() or found[0].tolist() == [0, 0]


# --------------------------------------------------------------------------------------------------- clouds


def test_clouds_have_known_distances():
    true = torch.tensor([[0.0, 0, 5], [1, 0, 5]], dtype=torch.float64)
    predicted = torch.tensor([[0.0, 0, 5.05], [1, 0, 5.3], [0, 2, 5]], dtype=torch.float64)
    f_score, precision, recall, chamfer = compare_clouds(predicted, true)
    assert (precision, recall) == pytest.approx((1 / 3, 1 / 2))
    assert f_score == pytest.approx(2 / 5)
    assert chamfer == pytest.approx((0.05 + 0.3 + 2) / 3 + (0.05 + 0.3) / 2)


def test_a_wall_too_far_is_as_far_as_its_distance():
    ground_truth = GroundTruth.of(np.full((1, 20, 30), 10.0), PLAIN)
    ground_truth.intrinsics = torch.tensor([[[1000.0, 0, 15], [0, 1000.0, 10], [0, 0, 1]]]).double()
    found = dict(zip(CLOUD_DETAILS, cloud_errors(ground_truth.depth + 0.5, ground_truth)[0].tolist()))
    assert found["cloud_chamfer"] == pytest.approx(1, rel=1e-3)  # 0.5 m each way
    assert found["cloud_f_score"] == found["cloud_recall"] == 0
    found = dict(zip(CLOUD_DETAILS, cloud_errors(ground_truth.depth + 0.05, ground_truth)[0].tolist()))
    assert found["cloud_f_score"] == 1


def test_a_large_cloud_is_sampled_without_bias():
    x = torch.linspace(0, 10, 20000, dtype=torch.float64)
    true = torch.stack([x, 0 * x, 5 + 0 * x], 1)
    predicted = true + torch.tensor([0.0, 0, 1]) * torch.where(x < 2.5, 0.5, 0.05)[:, None]
    _, precision, recall, chamfer = compare_clouds(predicted, true)
    assert precision == pytest.approx(0.75, abs=0.02) and recall == pytest.approx(0.75, abs=0.03)
    assert chamfer == pytest.approx(2 * (0.25 * 0.5 + 0.75 * 0.05), abs=0.04)


def test_tree_and_all_pairs_agree():
    points, others = torch.rand(2, 300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = nearest_distances(60 + points, 60 + others[:200])
    assert torch.allclose(found, all_pairs(60 + points, 60 + others[:200]), atol=1e-4)


def test_all_kinds_are_saved_for_each_image(tmp_path):
    wall = Wall(tmp_path, count=2)
    write_masks(tmp_path / "masks", [8, 8])
    choice = DetailChoice(("regions", "edges", "clouds"), str(tmp_path / "masks"))
    result = evaluate(from_brightness, wall, {"": PLAIN}, Loading(batch_size=2), details=choice)[""]
    assert result.details["cloud_f_score"] > 0.3
    assert "edge_accuracy" not in result.details  # a ramp has none
    result.save(tmp_path / "out")
    with open(tmp_path / "out/per_image.csv") as file:
        row = next(csv.DictReader(file))
    assert float(row["cloud_chamfer"]) == pytest.approx(result.rows[0].details["cloud_chamfer"])
    assert float(row["abs_rel_dynamic"]) == pytest.approx(result.rows[0].details["abs_rel_dynamic"])


def test_details_are_of_one_dataset():
    with pytest.raises(InputError, match="--details is about one dataset"):
        evaluate_depth.parse(["--run", "r", "--kitti_path", "k", "--details", "edges"])
