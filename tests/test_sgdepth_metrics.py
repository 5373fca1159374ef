"""SGDepth's published depth and pose evaluation, by our protocols."""

import numpy as np
import pytest
import torch

from layers import disparity_to_depth
from metrics import GroundTruth, Protocol, measure
from tests import goldens
from trajectories import snippet_errors

CASE = "sgdepth_depth_metrics"
RULES = {
    "kitti_zhou": Protocol("zhou", "LiDAR", crop="garg"),
    "kitti_kitti": Protocol("kitti", "LiDAR", cap_ground_truth=False),
    "cityscapes": Protocol("cityscapes", "stereo"),
}


def ground_truth():
    full = 0.5 + 94.5 * goldens.image(f"B/{CASE}/gt_full", 3, 75, 124, 1)[:, 0]
    return np.where(goldens.uniform(f"B/{CASE}/gt_hole", (3, 75, 124)) > 0.5, full, 0).astype(np.float32)


@pytest.mark.parametrize("rule", RULES)
def test_depth_errors_are_the_published_ones(rule):
    golden, maps = goldens.Golden(CASE), ground_truth()
    if rule == "cityscapes":  # its crop is written down in the published code and used by no loader
        inside = np.zeros_like(maps)
        inside[:, int(0.1 * 75) : int(0.7 * 75), int(0.1 * 124) : int(0.9 * 124)] = 1
        maps = maps * inside
    protocol = RULES[rule]
    sparse = GroundTruth.of(maps, protocol)
    mask = np.zeros((75, 124), bool)
    mask[sparse.rows[0][sparse.valid[0]], sparse.columns[0][sparse.valid[0]]] = True
    assert np.array_equal(mask[None], golden[f"{rule}_mask_0"].astype(bool))
    depth = disparity_to_depth(torch.from_numpy(golden["disp"]), 0.1, 100.0)
    measured = measure(depth, sparse, protocol)
    golden.close(f"{rule}_each", measured.errors)
    golden.close(f"{rule}_scores", measured.errors.mean(0))
    golden.close(f"{rule}_ratios", measured.ratio)


def test_pose_errors_are_the_published_ones():
    golden = goldens.Golden("sgdepth_pose_metrics")
    path = np.tile(np.eye(4), (9, 1, 1))
    path[:, :3] = golden["ground_truth"]
    motions = np.linalg.inv(path[1:]) @ path[:-1]  # T_later_from_earlier
    errors = snippet_errors(golden["predictions"].astype(np.float64), motions, formula="published")
    whole = errors[: len(motions) - 3]  # SGDepth leaves out the snippets that are cut short
    assert np.allclose([whole.mean(), whole.std()], golden["ate"], atol=1e-6)
