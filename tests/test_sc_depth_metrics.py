"""SC-Depth's published evaluation: `compute_errors` of training and test.py, and `eval_depth.py` of files."""

import dataclasses

import numpy as np
import pytest
import torch

from datasets.testing_tree import BENCHMARKS
from evaluation.details import ALWAYS, errors_in_parts
from evaluation.result import LATEX, Result, Row
from metrics import METRICS, GroundTruth, align_prediction, depth_errors, sample_prediction
from tests.goldens import image, uniform
from tests.scdepth_goldens import ScDepthGolden
from utils import InputError

SIZES = {"nyu": (480, 640)}
# Lowest depth and span of the ground truth that the goldens were drawn with.
DEPTHS = {"kitti": (1.8, 88.2), "ddad": (4.4, 215.6), "nyu": (0.22, 10.78)}
FILES = ("abs_rel", "sq_rel", "log10", "rmse", "rmse_log", "a1", "a2", "a3")  # columns of eval_depth.py


def drawn(case, name, count, hole_shape):
    """(count, H, W) metres with holes."""
    height, width = SIZES.get(name, (75, 124))
    low, span = DEPTHS.get(name, (0.22, 10.78))
    full = low + span * image(f"B/{case}/{name}_gt_full", count, height, width, 1)[:, 0]
    hole = uniform(f"B/{case}/{name}_hole", hole_shape(height, width), 0, 1).reshape(full.shape)
    return np.where(hole > 0.5, full, 0).astype(np.float32)


def measured(maps, predicted, protocol, masks=None):
    """Metric → (B,) errors, and (B,) ratios."""
    masks = [None] * len(maps) if masks is None else [mask[None] for mask in masks]
    known = GroundTruth.cat([GroundTruth.of(m[None], protocol, mask) for m, mask in zip(maps, masks)])
    depth, ratio = align_prediction(sample_prediction(predicted, known, protocol), known, protocol)
    errors = dict(zip(METRICS, depth_errors(depth, known.depth, known.valid).T))
    return {**errors, **dict(zip(ALWAYS, errors_in_parts(depth, known).T))}, ratio


@pytest.mark.parametrize("name", ["kitti", "nyu", "ddad", "bonn", "tum"])
def test_compute_errors_is_the_protocol_with_the_lower_median(name):
    golden = ScDepthGolden("scdepth_compute_errors")
    maps = drawn(golden.case, name, 2, lambda h, w: (2, 1, h, w))
    protocol = dataclasses.replace(BENCHMARKS[name].protocol, median="lower")
    found, _ = measured(maps, golden[f"{name}_pred"], protocol)
    golden.close(name, torch.stack([found[metric].mean() for metric in LATEX]))


@pytest.mark.parametrize("name", ["kitti", "bonn", "ddad"])
def test_eval_depth_is_the_protocol_of_the_benchmark(name):
    golden = ScDepthGolden("scdepth_eval_depth")
    maps = drawn(golden.case, name, 3, lambda h, w: (3, h, w))
    if name == "bonn":  # read from a 16-bit image
        maps = np.round(1000 * maps).astype(np.uint16).astype(np.float32) / np.float32(1000)
    masks = golden["ddad_mask"].numpy() > 0 if name == "ddad" else None
    found, ratio = measured(maps, golden[f"{name}_pred"][:, None], BENCHMARKS[name].protocol, masks)
    golden.close(f"{name}_ratios", ratio, relative=1e-5)
    full = torch.stack([found[metric] for metric in FILES], 1)
    if name != "ddad":
        golden.close(f"{name}_full", full, relative=1e-5)
        return
    for region in ("dynamic", "static"):
        errors = torch.stack([found[f"{metric}_{region}"] for metric in FILES], 1)
        golden.close(f"ddad_{region}", errors[errors.isfinite().all(1)], relative=1e-5)
    dynamic = found["abs_rel_dynamic"].isfinite()
    twice = torch.repeat_interleave(full, 1 + dynamic.long(), 0)
    golden.close("ddad_full", twice, relative=1e-5)


def result_of(values, protocol):
    """A result of two images; the first has dynamic pixels, with twice the error."""
    rows = []
    for number, value in enumerate(values):
        more = {"abs_diff": value, "log10": value}
        more |= {f"{metric}_dynamic": 2 * value for metric in METRICS} if number == 0 else {}
        rows.append(Row(number, 0, str(number), 9, 1.0, dict.fromkeys(METRICS, value), details=more))
    return Result(protocol, rows, len(rows))


def test_an_image_with_dynamic_pixels_counts_twice_on_request():
    protocol = BENCHMARKS["bonn"].protocol
    once = result_of([0.3, 0.6], protocol)
    twice = result_of([0.3, 0.6], dataclasses.replace(protocol, dynamic_twice=True))
    assert once.mean["abs_rel"] == pytest.approx(0.45) and twice.mean["abs_rel"] == pytest.approx(0.4)
    assert once.details["log10"] == pytest.approx(0.45) and twice.details["log10"] == pytest.approx(0.4)
    assert once.regions == twice.regions == {"dynamic": dict.fromkeys(METRICS, 0.6)}
    assert "dynamic pixels" in once.table() and "static pixels" not in once.table()


def test_the_latex_line_has_the_columns_of_test_py():
    names, values = result_of([0.25], BENCHMARKS["bonn"].protocol).latex().splitlines()
    assert names == r"& abs\_diff & abs\_rel & sq\_rel & log10 & rmse & rmse\_log & a1 & a2 & a3 \\"
    assert values == " ".join(["& 0.250"] * 9) + r" \\"


def test_masks_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"must have the ground truth's size \(1, 4, 6\), got \(1, 4, 5\)"):
        GroundTruth.of(np.ones((1, 4, 6)), BENCHMARKS["bonn"].protocol, np.zeros((1, 4, 5), bool))
