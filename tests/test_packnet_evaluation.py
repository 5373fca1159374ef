"""PackNet-SfM's flip averaging and depth metrics are settings of ours."""

import numpy as np
import pytest
import torch

from evaluation import flip_post_process
from metrics import GroundTruth, Protocol, measure
from networks.packnet_san import PackNetSan
from tests.packnet_goldens import PacknetGolden, load_published

RANGES = {"kitti": (1e-6, 80.0), "ddad": (1e-6, 200.0)}


def protocol(crop: str, caps: str, alignment: str) -> Protocol:
    low, high = RANGES[caps]
    resized = {"resize": "depth", "align_corners": True}
    return Protocol("", "", low, high, crop=crop, alignment=alignment, median="lower", **resized)


def errors(depth: torch.Tensor, gt: torch.Tensor, protocol: Protocol) -> torch.Tensor:
    return measure(depth, GroundTruth.of(gt[:, 0].numpy(), protocol), protocol).errors


@pytest.mark.parametrize("crop", ["none", "garg"])
@pytest.mark.parametrize("caps", RANGES)
@pytest.mark.parametrize(("name", "alignment"), [("gt", "median"), ("raw", "none")])
def test_depth_metrics_are_the_published_ones(crop, caps, name, alignment):
    golden = PacknetGolden("depth_metrics")
    depth, gt = torch.from_numpy(np.array(golden.arrays["pred"])), golden.inputs()["gt"]
    result = errors(depth, gt, protocol(crop, caps, alignment)).mean(0)
    golden.close(f"{crop}_{caps}_{name}", result, relative=1e-5)


def test_an_image_without_ground_truth_is_left_out():
    golden = PacknetGolden("depth_metrics")
    depth, gt = torch.from_numpy(np.array(golden.arrays["pred"])), golden.inputs()["gt"]
    gt[1] = 0
    result = errors(depth, gt, protocol("none", "kitti", "median"))
    # The published mean divides by 2: the empty image counts as one without error.
    golden.close("one_empty_gt", result[0] / 2, relative=1e-5)
    assert result[1].isnan().all()


def test_flip_averaging_is_the_published_one():
    golden = PacknetGolden("postprocess")
    inputs = golden.inputs()
    golden.close("post_mean", flip_post_process(inputs["inv_depth"], inputs["inv_depth_flipped"].flip(3)))


def test_an_evaluated_batch_has_the_published_errors():
    golden = PacknetGolden("evaluate_depth")
    images, gt = golden.inputs()["rgb"], golden.inputs()["gt"]
    with torch.device("meta"):
        network = PackNetSan()
    network = load_published(network, "evaluate_depth")
    with torch.no_grad():
        plain = 2 * network(images)[0]
        both = flip_post_process(plain, 2 * network(images.flip(3))[0].flip(3))
    golden.close("inv_depth", both)
    for name, inverse in (("depth", plain), ("depth_pp", both)):
        for suffix, alignment in (("", "none"), ("_gt", "median")):
            result = errors(1 / inverse, gt, protocol("garg", "kitti", alignment)).mean(0)
            golden.close(f"{name}{suffix}", result, relative=1e-4)
