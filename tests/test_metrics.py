"""Known depths against known ground truth: perfect, scaled, sparse, capped, cropped."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evaluation import flip_post_process
from metrics import (
    METRICS,
    GroundTruth,
    Protocol,
    crop_box,
    depth_errors,
    look_up,
    masked_median,
    measure,
)
from tests.goldens import Golden, tensor
from utils import InputError

EIGEN = Protocol("Eigen", "velodyne", crop="garg")
PLAIN = Protocol("plain", "drawn", cap_ground_truth=False)


def published(
    disparity: np.ndarray, ground_truth: np.ndarray, garg: bool, scale: float, median: bool
) -> list[float]:
    """The published arithmetic in plain numpy and OpenCV."""
    depth = 1 / cv2.resize(disparity, ground_truth.shape[::-1])
    mask = ground_truth > 0
    if garg:
        top, bottom, left, right = crop_box("garg", *ground_truth.shape)
        mask = (ground_truth > 1e-3) & (ground_truth < 80)
        mask[:top] = mask[bottom:] = mask[:, :left] = mask[:, right:] = False
    p, t = depth[mask] * scale, ground_truth[mask]
    if median:
        p = p * (np.median(t) / np.median(p))
    p = np.clip(p, 1e-3, 80)
    factor = np.maximum(t / p, p / t)
    return [
        np.mean(np.abs(t - p) / t),
        np.mean((t - p) ** 2 / t),
        np.sqrt(np.mean((t - p) ** 2)),
        np.sqrt(np.mean((np.log(t) - np.log(p)) ** 2)),
        *(np.mean(factor < 1.25**k) for k in (1, 2, 3)),
    ]


@pytest.mark.parametrize(
    ("case", "protocol"),
    [
        ("eigen_median", EIGEN),
        ("eigen_stereo", Protocol("", "", crop="garg", alignment="none", scale=5.4)),
        ("eigen_raw", Protocol("", "", crop="garg", alignment="none", scale=3.0)),
        ("benchmark_median", PLAIN),
    ],
)
def test_images_of_different_sizes_get_published_numbers(case, protocol):
    golden = Golden("monodepth2_eval")
    values = golden.inputs()
    ground_truths = [values[f"gt{n}"] for n in range(4)]
    disparities = [values[f"pd{n}"] for n in range(4)]
    ground_truth = GroundTruth.cat([GroundTruth.of(depth[None], protocol) for depth in ground_truths])
    depth = 1 / tensor(np.stack(disparities))[:, None]
    measured = measure(depth, ground_truth, protocol)
    golden.close(case, measured.errors)
    assert measured.pixels.tolist() == golden[f"{case}.count"].tolist()
    golden.close(f"{case}.gt_mean", ground_truth.depth.sum(1) / ground_truth.valid.sum(1))
    for errors, known, disparity in zip(measured.errors, ground_truths, disparities):
        plain = published(disparity, known, protocol.crop == "garg", protocol.scale, "median" in case)
        np.testing.assert_allclose(errors, plain, rtol=1e-6)


def test_the_mean_prediction_is_the_published_one():
    golden = Golden("monodepth2_eval")
    values = golden.inputs()
    for n in range(4):
        ground_truth = GroundTruth.of(values[f"gt{n}"][None], EIGEN)
        disparity = tensor(values[f"pd{n}"])[None].double()
        seen = 1 / look_up(disparity, ground_truth.rows, ground_truth.columns, ground_truth.sizes)
        seen = (
            seen
            * masked_median(ground_truth.depth, ground_truth.valid)
            / masked_median(seen, ground_truth.valid)
        )
        mean = seen.clamp(1e-3, 80).mean().item()
        assert mean == pytest.approx(golden["eigen_median.pred_mean"][n], rel=1e-6)


def test_flip_post_processing_is_the_published_one():
    golden = Golden("monodepth2_eval")
    values = golden.inputs()
    golden.close("post_process", flip_post_process(tensor(values["ld"]), tensor(values["rd"])))
    later = Golden("bdedepth_eval")
    later.close("post_process", flip_post_process(*(tensor(later.inputs()[name]) for name in ("ld", "rd"))))
    rig = Golden("surrounddepth_eval")
    disparity, mirrored = (tensor(rig.inputs()[name]) for name in ("disp", "disp_flip"))
    rig.close("post_process", flip_post_process(disparity, mirrored.flip(-1)))


TORCH = {"align_corners": True, "median": "lower"}  # how BDEdepth resizes and aligns
NYU = Protocol("", "", max_depth=10, resize="nearest", median="lower")
MAKE3D = Protocol("", "", max_depth=70, resize="nearest", median="lower", log10=True, reported=METRICS[:4])
METRES = {"alignment": "none", "scale": 5.4}


def decoded(disparity: np.ndarray, max_depth: float = 100.0) -> torch.Tensor:
    """(B, 1, H, W) depth of a sigmoid disparity, which reaches from 0.1 m to `max_depth`."""
    return 1 / (1 / max_depth + (1 / 0.1 - 1 / max_depth) * tensor(disparity))


def joined(disparity: np.ndarray, mirrored: np.ndarray, max_depth: float = 100.0) -> torch.Tensor:
    """The same of an image and of its mirror image, whose disparity is still mirrored."""
    direct, other = 1 / decoded(disparity, max_depth), 1 / decoded(mirrored, max_depth)
    return 1 / flip_post_process(direct.double(), other.flip(-1).double())


@pytest.mark.parametrize(
    ("case", "protocol"),
    [
        ("kitti_eigen", Protocol("", "", crop="garg", **TORCH)),
        ("kitti_benchmark", Protocol("", "", cap_ground_truth=False, **TORCH)),
        ("kitti_stereo", Protocol("", "", crop="garg", **TORCH, **METRES)),
        ("kitti_postprocess", Protocol("", "", crop="garg", **TORCH)),
        ("kitti_during_training", Protocol("", "", crop="garg", median="lower")),
        ("nyu", NYU),
        ("nyu_max100", NYU),
        ("nyu_postprocess", NYU),
        ("make3d", MAKE3D),
        ("make3d_stereo", replace(MAKE3D, **METRES)),
        ("cityscapes", Protocol("", "", **TORCH)),
    ],
)
def test_bdedepths_four_benchmarks_get_their_published_numbers(case, protocol):
    golden = Golden("bdedepth_eval")
    values, benchmark = golden.inputs(), case.split("_")[0].replace("cityscapes", "city")
    far = 10.0 if case in ("nyu", "nyu_postprocess") else 100.0
    disparity = values[f"disp_{benchmark}"]
    depth = decoded(disparity, far)
    if "postprocess" in case:
        depth = joined(disparity, values[f"disp_{benchmark}_flip"], far)
    if f"{benchmark}_gt" in values:
        ground_truths = list(values[f"{benchmark}_gt"])
    else:
        ground_truths = [values[f"{benchmark}_gt{n}"] for n in range(2)]
    if benchmark == "city":  # the car's bonnet is cropped, the borders are ignored
        ground_truths = [ground_truth[:768] for ground_truth in ground_truths]
        for ground_truth in ground_truths:
            ground_truth[:256] = ground_truth[:, :192] = ground_truth[:, 1856:] = 0
    measured = measure(
        depth,
        GroundTruth.cat([GroundTruth.of(ground_truth[None], protocol) for ground_truth in ground_truths]),
        protocol,
    )
    columns = [METRICS.index(name) for name in protocol.reported]
    golden.close(case, measured.errors[:, columns])
    if f"{case}.count" in golden.arrays:
        assert measured.pixels.tolist() == golden[f"{case}.count"].tolist()


def test_make3ds_log_error_is_in_decimal_logarithms():
    golden = Golden("bdedepth_eval")
    values = golden.inputs()
    ground_truth, prediction = tensor(values["cgt"])[None], tensor(values["cpred"])[None]
    golden.close("depth_errors", depth_errors(prediction, ground_truth)[0])
    golden.close("make3d_errors", depth_errors(prediction, ground_truth, log10=True)[0, :4])
    assert "decimal" in MAKE3D.card()["logarithm"]
    assert "logarithm" not in PLAIN.card()


@pytest.mark.parametrize(
    ("case", "max_depth", "focal"), [("ddad", 200.0, True), ("nusc", 80.0, True), ("nofocal", 200.0, False)]
)
def test_six_cameras_get_surround_depths_published_numbers(case, max_depth, focal):
    golden = Golden("surrounddepth_eval")
    values = golden.inputs()
    depth = joined(values["disp"], values["disp_flip"], max_depth)
    if focal:
        depth = depth * tensor(golden["K_0"])[:, 0, 0].view(6, 1, 1, 1).double() / (0.58 * 96)
    for alignment, name in (("median", "scale_ambiguous"), ("none", "scale_aware")):
        protocol = Protocol("", "", min_depth=0.1, max_depth=max_depth, resize="depth", alignment=alignment)
        golden.close(
            f"{case}.{name}", measure(depth, GroundTruth.of(values["gt"], protocol), protocol).errors
        )


@pytest.mark.parametrize("old", [(24, 40), (100, 300), (7, 5)])
@pytest.mark.parametrize("new", [(75, 131), (24, 40), (10, 17)])
def test_sampling_equals_resizing_the_whole_map(old, new):
    maps = torch.rand(2, *old, generator=torch.Generator().manual_seed(1))
    rows, columns = torch.meshgrid(torch.arange(new[0]), torch.arange(new[1]), indexing="ij")
    places = rows.flatten().expand(2, -1), columns.flatten().expand(2, -1), torch.tensor([new, new])

    def seen(**how):
        return look_up(maps.double(), *places, **how).view(2, *new).float()

    def resized(mode, **how):
        return F.interpolate(maps[:, None], new, mode=mode, **how)[:, 0]

    for result, wanted in [
        (seen(), resized("bilinear", align_corners=False)),
        (seen(), torch.from_numpy(np.stack([cv2.resize(m.numpy(), new[::-1]) for m in maps]))),
        (seen(align_corners=True), resized("bilinear", align_corners=True)),
        (seen(nearest=True), resized("nearest")),
    ]:
        torch.testing.assert_close(
            result, wanted, rtol=0, atol=5e-5
        )  # F.interpolate computes coordinates in float32


def test_the_nearest_pixel_at_equal_size_is_the_pixel_itself():
    """427 * (1 / 427) is less than 1 in float32, which once shifted NYUv2's maps by a row."""
    maps = torch.arange(427.0 * 561).view(1, 427, 561)
    rows, columns = torch.meshgrid(torch.arange(427), torch.arange(561), indexing="ij")
    sizes = torch.tensor([[427, 561]])
    seen = look_up(maps, rows.reshape(1, -1), columns.reshape(1, -1), sizes, nearest=True)
    assert torch.equal(seen, maps.flatten(1))


def test_a_perfect_prediction_has_no_error():
    ground_truth = torch.rand(3, 50) * 70 + 1
    errors = depth_errors(ground_truth, ground_truth)
    assert torch.equal(errors, torch.tensor([[0.0, 0, 0, 0, 1, 1, 1]]).expand(3, 7))


def test_ten_percent_too_far_is_an_abs_rel_of_a_tenth():
    ground_truth = torch.tensor([[10.0, 20.0]], dtype=torch.float64)
    errors = dict(zip(METRICS, depth_errors(1.1 * ground_truth, ground_truth)[0].tolist()))
    assert errors["abs_rel"] == pytest.approx(0.1)
    assert errors["sq_rel"] == pytest.approx((0.1 + 0.2) / 2)
    assert errors["rmse"] == pytest.approx(np.sqrt((1 + 4) / 2))
    assert errors["rmse_log"] == pytest.approx(np.log(1.1))
    assert errors["a1"] == 1


def test_a_factor_of_exactly_1_25_is_outside_a1():
    errors = depth_errors(torch.tensor([[1.25, 1.0]]), torch.ones(1, 2))
    assert errors[0, 4:].tolist() == [0.5, 1, 1]


def test_a_median_of_an_even_count_follows_numpy_or_torch():
    values = torch.tensor([[4.0, 1, 9, 2, 100], [5, 0, 0, 0, 0]])
    valid = torch.tensor([[True, True, True, True, False], [True, False, False, False, False]])
    assert masked_median(values, valid).tolist() == [3, 5]
    assert masked_median(values, valid, "lower").tolist() == [2, 5]


@pytest.mark.parametrize(
    ("crop", "size", "box"),
    [
        ("garg", (375, 1242), (153, 371, 44, 1197)),
        ("garg", (370, 1226), (151, 366, 44, 1181)),
        ("garg", (376, 1241), (153, 372, 44, 1196)),
        ("eigen", (375, 1242), (124, 342, 44, 1197)),
        ("none", (10, 20), (0, 10, 0, 20)),
    ],
)
def test_crops_are_the_published_rows_and_columns(crop, size, box):
    assert crop_box(crop, *size) == box


def test_caps_and_crop_decide_the_valid_ground_truth():
    ground_truth = np.full((1, 100, 100), 10.0)
    ground_truth[0, 50, 50:53] = 0, 1e-3, 80
    assert GroundTruth.of(ground_truth, EIGEN).valid.sum() == (99 - 40) * (96 - 3) - 3
    assert GroundTruth.of(ground_truth, PLAIN).valid.sum() == 10000 - 2


def test_predictions_are_clamped_after_alignment():
    ground_truth = GroundTruth.of(np.array([[[1.0, 2.0, 70.0]]]), Protocol("", ""))
    depth = torch.tensor([[[[2.0, 4.0, 1000.0]]]])
    errors = measure(depth, ground_truth, Protocol("", "")).errors[0]
    assert errors[0].item() == pytest.approx((10 / 70) / 3)  # 500 m count as 80
    metric = Protocol("", "", min_depth=4, alignment="none")
    near = measure(torch.ones(1, 1, 1, 1), GroundTruth.of(np.array([[[8.0]]]), metric), metric)
    assert near.errors[0, 0] == 0.5  # 1 m counts as 4


def test_a_wrong_protocol_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="did you mean 'garg'"):
        Protocol("", "", crop="grag")
    with pytest.raises(InputError, match="there is no metric 'absrel'; did you mean 'abs_rel'"):
        Protocol("", "", reported=("absrel",))
    with pytest.raises(InputError, match="reports at least one of abs_rel"):
        Protocol("", "", reported=())
    with pytest.raises(InputError, match="0 < min_depth < max_depth, got 90 and 80"):
        Protocol("", "", min_depth=90)
