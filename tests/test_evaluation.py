"""A drawn dataset is evaluated: whole, in shards, from saved predictions, mirrored, by several protocols."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import shared_memory
from datasets.sequence import SequenceDataset
from evaluation import (
    LOSS_GOAL,
    Loading,
    Result,
    Row,
    compare,
    constant_predictor,
    depth_goal,
    evaluate,
    map_predictor,
    mean_depth_map,
    predict_inverse_depths,
    validate_depth,
)
from evaluation.loop import predict_flipped
from evaluation.saved import SavedInverseDepths, read_inverse_depths
from metrics import METRICS, GroundTruth, Protocol
from structures import Batch, Prediction
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


def from_brightness(batch: Batch) -> Prediction:
    """The depth that a Wall's image shows, to the rounding of its 8 bits."""
    return Prediction({}, {0: 1 / batch.images[0][:, :1].clamp(min=1e-3)})


def half(batch: Batch) -> Prediction:
    """Half of that depth."""
    return Prediction({}, {0: from_brightness(batch).depths[0] / 2})


def one(predict, wall: Wall, protocol: Protocol | None = None, about=None, **loading) -> Result:
    """The result of a single protocol."""
    protocols = None if protocol is None else {"": protocol}
    return evaluate(predict, wall, protocols, Loading(**loading), about)[""]


def saved(predict, wall: Wall, **loading) -> np.ndarray:
    """The inverse depths that a predictor leaves in a file."""
    return torch.cat(list(predict_inverse_depths(predict, wall, Loading(**loading)))).numpy()


def test_images_are_evaluated_to_the_rounding_of_their_bits(tmp_path):
    result = one(from_brightness, Wall(tmp_path), batch_size=2)
    assert [row.name for row in result.rows] == [f"wall {n}" for n in range(5)]
    assert [row.pixels for row in result.rows] == [96 * (40 + n) for n in range(5)]
    assert result.mean["abs_rel"] < 0.03
    assert result.mean["a1"] == 1
    assert result.ratio_median == pytest.approx(1, abs=0.03)


def test_median_scaling_forgives_one_factor(tmp_path):
    wall = Wall(tmp_path, count=2)
    aligned, metric = one(half, wall), one(half, wall, METRIC)
    assert aligned.mean["abs_rel"] == pytest.approx(one(from_brightness, wall).mean["abs_rel"], abs=1e-6)
    assert metric.mean["abs_rel"] == pytest.approx(0.5, abs=0.03)
    assert aligned.ratio_median == pytest.approx(2, rel=0.03)


def test_flip_averaging_predicts_the_mirrored_batch(tmp_path):
    wall = Wall(tmp_path, count=1)
    seen = []

    def predict(batch):
        seen.append(batch)
        return from_brightness(batch)

    plain, flipped = one(predict, wall), one(predict, wall, flip=True)
    assert flipped.mean["abs_rel"] == pytest.approx(plain.mean["abs_rel"], abs=1e-5)
    assert torch.equal(seen[2].images[0], seen[1].images[0].flip(3))
    assert seen[1].intrinsics[0, 0, 2] + seen[2].intrinsics[0, 0, 2] == pytest.approx(63)
    assert flipped.card()["flip"].startswith("flip averaging") and plain.card()["flip"] == "none"


def test_flip_averaging_takes_the_mean_of_logits():
    def predict(batch):  # the class scores are the image and its x position
        x = torch.arange(8.0).expand(1, 1, 4, 8)
        return Prediction({}, {0: torch.ones(1, 1, 4, 8)}, logits=torch.cat([batch.images[0][:, :1], x], 1))

    batch = Batch({0: torch.rand(1, 3, 4, 8)}, torch.eye(3)[None], torch.tensor([0]))
    logits = predict_flipped(predict, batch).logits
    assert torch.allclose(logits[:, :1], batch.images[0][:, :1])
    assert torch.allclose(logits[:, 1:], torch.full((1, 1, 4, 8), 3.5))


def test_workers_and_batches_do_not_change_a_number(tmp_path):
    wall = Wall(tmp_path)
    assert one(from_brightness, wall, batch_size=1).rows == one(from_brightness, wall, workers=2).rows


@pytest.mark.gpu
def test_a_gpu_finds_the_same_numbers(tmp_path):
    wall = Wall(tmp_path)
    cpu, gpu = (one(from_brightness, wall, device=device, flip=True) for device in ("cpu", "cuda"))
    assert gpu.mean == pytest.approx(cpu.mean, rel=1e-6)


def test_evaluation_takes_no_random_number_from_training(tmp_path):
    wall, before = Wall(tmp_path), torch.get_rng_state()
    one(from_brightness, wall, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_shards_join_to_the_whole(tmp_path):
    wall = Wall(tmp_path, ground_truth={0, 1, 3, 4})
    whole = one(from_brightness, wall)
    shards = [one(from_brightness, wall, indices=range(rank, 5, 3)) for rank in range(3)]
    assert [len(shard.rows) for shard in shards] == [2, 2, 0]
    assert Result.join(shards) == whole


def test_saved_predictions_get_the_numbers_of_their_model(tmp_path):
    wall = Wall(tmp_path)
    array = saved(from_brightness, wall, batch_size=2)
    assert array.shape == (5, 32, 64)
    again = one(SavedInverseDepths(array, wall), wall, batch_size=2)
    assert again.mean == pytest.approx(one(from_brightness, wall).mean, rel=1e-6)
    assert again.card()["flip"] == "as saved"


@pytest.mark.parametrize("resize", ["disparity", "depth", "nearest"])
def test_a_saved_zero_is_an_infinite_depth_that_is_clamped(tmp_path, resize):
    """A saved zero gives the errors of a depth of 1e30 m, with each kind of resizing."""
    wall = Wall(tmp_path, count=1)
    zero, far = saved(from_brightness, wall), saved(from_brightness, wall)
    zero[0, 16, 32], far[0, 16, 32] = 0, 1e-30
    protocol = Protocol("plain", "drawn", cap_ground_truth=False, resize=resize, alignment="none")
    results = [one(SavedInverseDepths(values, wall), wall, protocol) for values in (zero, far)]
    assert results[0].mean == pytest.approx(results[1].mean, rel=1e-9)
    assert results[0].mean["rmse"] > 1.5 * one(from_brightness, wall, protocol).mean["rmse"]


def test_an_image_of_zeros_is_clamped_and_not_nan(tmp_path):
    wall = Wall(tmp_path, count=1)
    result = one(SavedInverseDepths(np.zeros((1, 8, 8), np.float32), wall), wall)
    expected = np.mean((80 - wall.metres(1)) / wall.metres(1))
    assert result.mean["abs_rel"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "not finite"), (np.inf, "not finite"), (-0.5, "negative")]
)
def test_saved_values_without_depth_are_named(tmp_path, value, word):
    wall = Wall(tmp_path, count=3)
    array = np.ones((3, 8, 8), np.float32)
    array[1, 2, 3] = value
    with pytest.raises(InputError, match=f"disps.npy: 1 of 64 values of map 1 are {word}"):
        one(SavedInverseDepths(array, wall, "disps.npy"), wall)


@pytest.mark.parametrize(
    "array",
    [
        np.ones((5, 1, 8, 8), np.float32),
        np.ones((5, 8), np.float32),
        np.float32(1),
        np.ones((5, 0, 8), np.float32),
        np.ones((0, 8, 8), np.float32),
        np.ones((5, 8, 8), np.uint16),
        np.ones((5, 8, 8), complex),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_saved_values_of_another_shape_are_refused(tmp_path, array):
    np.save(tmp_path / "disps.npy", array)
    for eigen in (False, True):
        with pytest.raises(InputError, match=r"disps\.npy: saved disparities are floats of shape .*, got"):
            read_inverse_depths(tmp_path / "disps.npy", eigen)


def test_a_map_of_one_pixel_is_one_depth(tmp_path):
    wall = Wall(tmp_path, count=2)
    result = one(SavedInverseDepths(np.ones((2, 1, 1), np.float32), wall), wall)
    assert result.mean["abs_rel"] == pytest.approx(one(constant_predictor(1.0), wall).mean["abs_rel"])


def test_infinite_ground_truth_is_unknown(tmp_path):
    wall = Wall(tmp_path, count=1)
    maps = wall.metres(0)[None].copy()
    maps[0, :4] = np.inf
    maps[0, 4:8] = np.nan
    maps[0, 8:12] = -1
    kept = GroundTruth.of(maps, Protocol("plain", "drawn", cap_ground_truth=False))
    assert kept.valid.sum() == maps[0, 12:].size and kept.depth.isfinite().all()


def test_a_small_shared_memory_is_refused_before_workers_start(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 100_000)
    wall = Wall(tmp_path, ground_truth={2, 3, 4})  # the first samples have fewer bytes
    with pytest.raises(InputError, match=r"/dev/shm has 0 MB free .*or give --num_workers [01]$"):
        one(from_brightness, wall, workers=2)
    assert one(from_brightness, wall).rows


def test_each_camera_of_a_rig_has_its_rows(tmp_path):
    wall = Wall(tmp_path, count=2, cameras=3)
    result = one(from_brightness, wall)
    assert [(row.index, row.camera) for row in result.rows] == [(i, n) for i in range(2) for n in range(3)]
    assert list(result.cameras) == [0, 1, 2]
    assert "camera 2" in result.table()
    again = one(SavedInverseDepths(saved(from_brightness, wall), wall), wall)
    assert again.mean == pytest.approx(result.mean, rel=1e-6)


def test_a_rigs_mean_is_over_its_cameras():
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

    def counted(batch):
        calls.append(len(batch.images[0]))
        return half(batch)

    protocols = {"aligned": PLAIN, "metric": METRIC, "far": replace(PLAIN, min_depth=15)}
    protocols |= {"nearest": replace(PLAIN, resize="nearest"), "corners": replace(PLAIN, align_corners=True)}
    several = evaluate(counted, wall, protocols, Loading(batch_size=2))
    assert calls == [4, 2]
    for name, protocol in protocols.items():
        assert several[name] == one(half, wall, protocol, batch_size=2)
    again = evaluate(SavedInverseDepths(saved(half, wall), wall), wall, protocols)
    assert again["metric"].mean == pytest.approx(several["metric"].mean, rel=1e-5)
    shards = [evaluate(half, wall, protocols, Loading(indices=[n], batch_size=1)) for n in range(3)]
    for name in protocols:
        whole = Result.join([shard[name] for shard in shards])
        assert whole.mean == pytest.approx(several[name].mean)
        assert whole.evaluated == several[name].evaluated == 6


def test_a_table_has_the_metrics_its_benchmark_reports(tmp_path):
    wall = Wall(tmp_path, count=1)
    few = one(from_brightness, wall, replace(METRIC, reported=("abs_rel", "rmse_log")))
    assert few.table().splitlines()[-3].split() == ["abs_rel", "rmse_log"]
    assert set(few.mean) == set(METRICS)
    beside = compare({"few": few, "all": one(from_brightness, wall)}).splitlines()
    assert beside[0].split() == list(METRICS)
    assert beside[1].split().count("-") == 5


def test_results_are_saved_with_their_card(tmp_path):
    wall = Wall(tmp_path, ground_truth={0, 2})
    result = one(from_brightness, wall, about={"split": "drawn"})
    result.save(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "results.json").read_text())
    assert saved["mean"] == pytest.approx(result.mean)
    assert saved["card"]["split"] == "drawn"
    assert (saved["images"], saved["without_ground_truth"]) == (2, 3)
    with open(tmp_path / "out" / "per_image.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["wall 0", "wall 2"]
    assert np.mean([float(row["abs_rel"]) for row in rows]) == pytest.approx(result.mean["abs_rel"])
    for word in ("plain", "drawn", "median", "[0.001, 80] m", "3 more have no valid ground truth", "abs_rel"):
        assert word in result.table()


def test_a_mean_map_knows_the_layout_and_a_constant_nothing(tmp_path):
    wall = Wall(tmp_path)
    layout = mean_depth_map(wall, 32, 64)
    results = {
        "constant": one(constant_predictor(), wall),
        "mean map": one(map_predictor(layout), wall, METRIC),
    }
    assert results["mean map"].mean["abs_rel"] < 0.02
    assert results["constant"].mean["abs_rel"] > 0.2
    assert "mean map" in compare(results)


def test_a_mean_map_fills_the_sky_from_below(tmp_path):
    wall = Wall(tmp_path, count=1)
    wall.depth = lambda index: np.concatenate([np.zeros((1, 20, 40)), np.full((1, 20, 40), 7.0)], 1)
    assert torch.equal(mean_depth_map(wall, 4, 4), torch.full((4, 4), 7.0))


def test_a_prediction_that_is_not_finite_shows_in_the_table(tmp_path):
    result = one(constant_predictor(float("nan")), Wall(tmp_path, count=1))
    assert np.isnan(result.mean["abs_rel"])
    result.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "results.json").read_text())["mean"]["abs_rel"] is None


def test_validation_of_a_metric_model_applies_its_scale(tmp_path):
    wall = Wall(tmp_path, count=2)
    aligned = validate_depth(half, wall, None, Loading())
    assert set(METRICS) < set(aligned)
    metric = validate_depth(half, wall, 2.0, Loading())
    assert metric["abs_rel"] == pytest.approx(aligned["abs_rel"])
    assert metric["metric_abs_rel"] < 0.03 and metric["metric_a1"] == 1
    assert metric["ground_truth_per_prediction"] == pytest.approx(1, abs=0.03)
    assert validate_depth(half, wall, 1.0, Loading())["ground_truth_per_prediction"] == pytest.approx(2, 0.03)


def test_a_rig_is_validated_with_and_without_alignment(tmp_path):
    metrics = validate_depth(half, Wall(tmp_path, count=1, cameras=2), None, Loading())
    assert metrics["metric_abs_rel"] == pytest.approx(0.5, abs=0.03)


def test_a_goal_says_which_metric_and_which_direction():
    goal = depth_goal(PLAIN, None)
    assert goal == ("abs_rel", "plain", False)
    assert goal.is_better(0.1, None) and goal.is_better(0.1, 0.2) and not goal.is_better(0.3, 0.2)
    assert not goal.is_better(float("nan"), None)
    accuracy = depth_goal(replace(PLAIN, goal="a1"), 5.4)
    assert accuracy == ("metric_a1", "plain", True)
    assert accuracy.is_better(0.9, 0.8) and not accuracy.is_better(0.7, 0.8)
    assert LOSS_GOAL.is_better(0.1, 0.2)
    with pytest.raises(InputError, match="there is no metric 'miou'"):
        replace(PLAIN, goal="miou")


def test_refusals_name_what_is_wrong(tmp_path):
    wall = Wall(tmp_path, ground_truth=set())
    with pytest.raises(InputError, match=r"none of the 5 samples of plain has ground truth \(.*\); is it un"):
        one(from_brightness, wall)
    wall = Wall(tmp_path)
    with pytest.raises(InputError, match="4 saved disparities do not belong to the 5 images"):
        SavedInverseDepths(np.ones((4, 8, 8), np.float32), wall)
    with pytest.raises(InputError, match="no pixel of far's ground truth is valid"):
        one(from_brightness, wall, Protocol("far", "", min_depth=50))
    with pytest.raises(ValueError, match=r"\(5, 1, H, W\), got \(5, 32, 64\)"):
        one(lambda batch: Prediction({}, {0: batch.images[0][:, 0]}), wall)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_sentence(tmp_path, workers):
    wall = Wall(tmp_path)
    (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        one(from_brightness, wall, workers=workers)
    assert "3.png cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)
