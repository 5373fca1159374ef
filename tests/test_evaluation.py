"""A drawn dataset is evaluated: whole, in shards, saved, mirrored, by several protocols."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.sequence import SequenceDataset
from evaluation import (
    Result,
    Row,
    compare,
    constant_predictor,
    evaluate,
    evaluate_disparities,
    evaluate_several,
    evaluate_several_disparities,
    join,
    map_predictor,
    mean_depth_map,
    predict_disparities,
)
from metrics import METRICS, Protocol
from utils import InputError

PLAIN = Protocol("plain", "drawn", cap_ground_truth=False)
METRIC = Protocol("plain", "drawn", alignment="none")


class Wall(SequenceDataset):
    """Images whose brightness is their inverse depth: a ramp from 8 m at the left to 24 m at the right."""

    protocol = PLAIN

    def __init__(
        self, root: Path, count: int = 5, cameras: int = 1, ground_truth: set[int] | None = None
    ) -> None:
        self.cameras = cameras
        self.samples = list(range(count))
        self.ground_truth = set(self.samples) if ground_truth is None else ground_truth
        for n in range(count * cameras):
            grey = np.rint(255 / self.metres(40 + n // cameras)).astype(np.uint8)
            Image.fromarray(np.stack([grey] * 3, -1)).save(root / f"{n}.png")
        super().__init__(root, (0,), 32, 64)

    @staticmethod
    def metres(height: int) -> np.ndarray:
        return np.linspace(8, 24, 96)[None].repeat(height, 0)

    def paths(self, sample, frame):
        return [self.data_path / f"{sample * self.cameras + n}.png" for n in range(self.cameras)]

    def intrinsics(self, sample, camera, height, width):
        return np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]])

    def depth(self, index):
        return np.stack([self.metres(40 + index)] * self.cameras) if index in self.ground_truth else None

    def name(self, index):
        return f"wall {index}"


def from_brightness(images: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """The depth a Wall's image shows, to the rounding of its 8 bits."""
    return 1 / images[:, :1].clamp(min=1e-3)


def test_the_images_of_a_drawn_dataset_are_evaluated_to_their_rounding(tmp_path):
    result = evaluate(from_brightness, Wall(tmp_path), batch_size=2)
    assert [row.name for row in result.rows] == [f"wall {n}" for n in range(5)]
    assert [row.pixels for row in result.rows] == [96 * (40 + n) for n in range(5)]
    assert result.mean["abs_rel"] < 0.03
    assert result.mean["a1"] == 1
    assert result.ratio_median == pytest.approx(1, abs=0.03)


def test_median_scaling_forgives_one_factor_and_metric_evaluation_does_not(tmp_path):
    wall = Wall(tmp_path, count=2)

    def half(images, intrinsics):
        return from_brightness(images, intrinsics) / 2

    aligned, metric = evaluate(half, wall), evaluate(half, wall, METRIC)
    assert aligned.mean["abs_rel"] == pytest.approx(evaluate(from_brightness, wall).mean["abs_rel"], abs=1e-6)
    assert metric.mean["abs_rel"] == pytest.approx(0.5, abs=0.03)
    assert aligned.ratio_median == pytest.approx(2, rel=0.03)


def test_flipping_evaluates_the_mirror_image_at_the_left_border(tmp_path):
    wall = Wall(tmp_path, count=1)
    centres = []

    def predict(images, intrinsics):
        centres.append(intrinsics[0, 0, 2].item())
        return from_brightness(images, intrinsics)

    plain, flipped = evaluate(predict, wall), evaluate(predict, wall, flip=True)
    assert flipped.mean["abs_rel"] == pytest.approx(plain.mean["abs_rel"], abs=1e-5)
    assert centres[1] + centres[2] == pytest.approx(63)
    assert flipped.card()["flip"] != plain.card()["flip"]


def test_workers_and_batches_do_not_change_a_number(tmp_path):
    wall = Wall(tmp_path)
    one, many = evaluate(from_brightness, wall, batch_size=1), evaluate(from_brightness, wall, workers=2)
    assert one.rows == many.rows


@pytest.mark.gpu
def test_a_gpu_finds_the_same_numbers(tmp_path):
    wall = Wall(tmp_path)
    cpu, gpu = (evaluate(from_brightness, wall, device=device, flip=True) for device in ("cpu", "cuda"))
    assert gpu.mean == pytest.approx(cpu.mean, rel=1e-6)


def test_looking_leaves_the_random_numbers_of_training_alone(tmp_path):
    wall, before = Wall(tmp_path), torch.get_rng_state()
    evaluate(from_brightness, wall, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_shards_join_to_the_whole(tmp_path):
    wall = Wall(tmp_path, ground_truth={0, 1, 3, 4})
    whole = evaluate(from_brightness, wall)
    shards = [evaluate(from_brightness, wall, indices=range(rank, 5, 3)) for rank in range(3)]
    assert [len(shard.rows) for shard in shards] == [2, 2, 0]
    assert join(shards) == whole


def test_saved_disparities_get_the_numbers_of_the_predictions(tmp_path):
    wall = Wall(tmp_path)
    saved = torch.cat(list(predict_disparities(from_brightness, wall, batch_size=2))).numpy()
    assert saved.shape == (5, 32, 64)
    assert evaluate_disparities(saved, wall).mean == pytest.approx(
        evaluate(from_brightness, wall).mean, rel=1e-6
    )


def test_each_camera_of_a_rig_has_its_rows(tmp_path):
    wall = Wall(tmp_path, count=2, cameras=3)
    result = evaluate(from_brightness, wall)
    assert [(row.index, row.camera) for row in result.rows] == [(i, n) for i in range(2) for n in range(3)]
    assert list(result.cameras) == [0, 1, 2]
    assert "camera 2" in result.table()


def test_a_rigs_mean_is_over_its_cameras_and_tables_call_them_by_name():
    def row(index: int, camera: int, error: float) -> Row:
        return Row(index, camera, f"frame set {index}", 10, 1.0, dict.fromkeys(METRICS, error))

    rows = [row(0, 0, 0.1), row(0, 1, 0.5), row(1, 0, 0.3)]  # the second camera has ground truth once
    result = Result(PLAIN, rows, 4, camera_names=("front", "back"))
    assert result.mean["abs_rel"] == pytest.approx((0.2 + 0.5) / 2)
    names = [line.split("  ")[1] for line in result.table().splitlines()[-3:]]
    assert names == ["front", "back", "mean over cameras"]


def test_the_spread_of_ratios_is_numpys_or_torchs():
    rows = [Row(n, 0, "", 1, ratio, {}) for n, ratio in enumerate([4.0, 1.0, 2.0, 3.0])]
    numpys, torchs = Result(PLAIN, rows, 4), Result(replace(PLAIN, median="lower"), rows, 4)
    assert (numpys.ratio_median, torchs.ratio_median) == (2.5, 2.0)
    ratios = torch.tensor([4.0, 1.0, 2.0, 3.0])
    assert torchs.ratio_std == pytest.approx((ratios / ratios.median()).std().item())
    assert numpys.ratio_std == pytest.approx(np.std(ratios.numpy() / 2.5))


def test_several_protocols_share_one_prediction(tmp_path):
    wall = Wall(tmp_path, count=3, cameras=2, ground_truth={0, 2})
    calls = []

    def half(images, intrinsics):
        calls.append(len(images))
        return from_brightness(images, intrinsics) / 2

    protocols = {"aligned": PLAIN, "metric": METRIC, "far": replace(PLAIN, min_depth=15)}
    protocols |= {"nearest": replace(PLAIN, resize="nearest"), "corners": replace(PLAIN, align_corners=True)}
    several = evaluate_several(half, wall, protocols, batch_size=2)
    assert calls == [4, 2]
    for name, protocol in protocols.items():
        assert several[name] == evaluate(half, wall, protocol, batch_size=2)
    saved = torch.cat(list(predict_disparities(half, wall))).numpy()
    again = evaluate_several_disparities(saved, wall, protocols)
    assert again["metric"].mean == pytest.approx(several["metric"].mean, rel=1e-5)
    shards = [evaluate_several(half, wall, protocols, indices=[n], batch_size=1) for n in range(3)]
    for name in protocols:
        whole = join([shard[name] for shard in shards])
        assert whole.mean == pytest.approx(several[name].mean)
        assert whole.asked == several[name].asked == 6


def test_a_table_has_the_columns_its_benchmark_reports(tmp_path):
    wall = Wall(tmp_path, count=1)
    few = evaluate(from_brightness, wall, replace(METRIC, reported=("abs_rel", "rmse_log")))
    assert few.table().splitlines()[-2].split() == ["abs_rel", "rmse_log"]
    assert set(few.mean) == set(METRICS)
    beside = compare({"few": few, "all": evaluate(from_brightness, wall)}).splitlines()
    assert beside[0].split() == list(METRICS)
    assert beside[1].split().count("-") == 5


def test_results_are_saved_with_their_card(tmp_path):
    wall = Wall(tmp_path, ground_truth={0, 2})
    result = evaluate(from_brightness, wall, about={"split": "drawn"})
    result.save(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert saved["mean"] == pytest.approx(result.mean)
    assert saved["card"]["split"] == "drawn"
    assert (saved["images"], saved["without_ground_truth"]) == (2, 3)
    with open(tmp_path / "out" / "per_image.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["wall 0", "wall 2"]
    assert np.mean([float(row["abs_rel"]) for row in rows]) == pytest.approx(result.mean["abs_rel"])
    for word in ("plain", "drawn", "median", "[0.001, 80] m", "3 more have no ground truth", "abs_rel"):
        assert word in result.table()


def test_the_mean_map_knows_the_layout_and_a_constant_nothing(tmp_path):
    wall = Wall(tmp_path)
    layout = mean_depth_map(wall, 32, 64)
    results = {
        "constant": evaluate(constant_predictor(), wall),
        "mean map": evaluate(map_predictor(layout), wall, METRIC),
    }
    assert results["mean map"].mean["abs_rel"] < 0.02
    assert results["constant"].mean["abs_rel"] > 0.2
    assert "mean map" in compare(results)


def test_a_mean_map_fills_the_sky_from_below(tmp_path):
    wall = Wall(tmp_path, count=1)
    wall.depth = lambda index: np.concatenate([np.zeros((1, 20, 40)), np.full((1, 20, 40), 7.0)], 1)
    assert torch.equal(mean_depth_map(wall, 4, 4), torch.full((4, 4), 7.0))


def test_a_prediction_that_is_not_finite_shows_in_the_table(tmp_path):
    result = evaluate(constant_predictor(float("nan")), Wall(tmp_path, count=1))
    assert np.isnan(result.mean["abs_rel"])
    result.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "results.json").read_text())["mean"]["abs_rel"] is None


def test_refusals_name_what_is_wrong(tmp_path):
    wall = Wall(tmp_path, ground_truth=set())
    with pytest.raises(InputError, match=r"none of the 5 samples of plain has ground truth \(.*\); is it un"):
        evaluate(from_brightness, wall)
    wall = Wall(tmp_path)
    with pytest.raises(InputError, match="4 saved disparities do not belong to the 5 images"):
        evaluate_disparities(np.ones((4, 8, 8), np.float32), wall)
    with pytest.raises(InputError, match=r"floats of shape \(count, height, width\)"):
        evaluate_disparities(np.ones((5, 1, 8, 8), np.float32), wall)
    with pytest.raises(InputError, match="no pixel of far's ground truth counts"):
        evaluate(from_brightness, wall, Protocol("far", "", min_depth=50))
    with pytest.raises(ValueError, match=r"\(5, 1, H, W\), got \(5, 32, 64\)"):
        evaluate(lambda images, intrinsics: images[:, 0], wall)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_image_that_cannot_be_read_is_one_sentence(tmp_path, workers):
    wall = Wall(tmp_path)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        evaluate(from_brightness, wall, workers=workers)
    assert "3.png cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)
