"""Spatial term: zero if neighbours agree or do not see a pixel; points behind them are never seen."""

import numpy as np
import pytest
import torch

from cameras import BrownConrady, KannalaBrandt
from datasets.surround import pose_from_quaternion
from layers import warp
from losses.spatial import Neighbours, Spatial
from methods import check_needs
from structures import Batch, Prediction
from utils import InputError

H, W = 32, 48
K = torch.tensor([[30.0, 0, 23.5], [0, 30.0, 15.5], [0, 0, 1]])


def camera(degrees: float, left: float = 0.0) -> torch.Tensor:
    """(4, 4) rig_from_camera: turned to the left by `degrees`, `left` metres to that side."""
    half = np.radians(degrees) / 2
    yaw = pose_from_quaternion((np.cos(half), 0, 0, np.sin(half)), (0, left, 0), "yaw")
    return torch.from_numpy(yaw @ pose_from_quaternion((0.5, -0.5, 0.5, -0.5), (0, 0, 0), "ahead")).float()


def rig(images, *places) -> Batch:
    n = len(images)
    batch = Batch({0: images}, K.expand(n, 3, 3), torch.arange(1), cameras=n)
    batch.rig_from_camera = torch.stack(places)
    return batch


def wall(depth: float = 5.0, count: int = 2) -> torch.Tensor:
    return torch.full((count, 1, H, W), depth)


def smooth(count: int) -> torch.Tensor:
    torch.manual_seed(0)
    coarse = torch.rand(count, 3, 8, 12)
    return torch.nn.functional.interpolate(coarse, (H, W), mode="bicubic", align_corners=False).clamp(0, 1)


def side_by_side(baseline: float = 0.5, depth: float = 5.0) -> Batch:
    """Two cameras ahead of a wall; the second, to the left, sees the first image shifted to the right."""
    first = smooth(1)
    T = torch.eye(4)[None].clone()
    T[:, 0, 3] = -baseline  # the first camera's x of a point of the second
    second = warp(first, wall(depth, 1), K[None], T)
    return rig(torch.cat([first, second]), camera(0), camera(0, left=baseline))


def test_correct_depth_of_a_wall_has_the_lowest_error():
    batch = side_by_side()
    right, near, far = (
        Spatial()(batch, Prediction({}, depths={0: wall(depth)})).item() for depth in (5.0, 2.5, 20.0)
    )
    assert right < 0.1 * min(near, far)


def test_gradient_leads_to_metric_depth():
    """From 4 and from 6 m the wall goes towards its 5 m: the baseline is known in metres."""
    for start, sign in ((4.0, -1), (6.0, 1)):
        depth = wall(start).requires_grad_()
        Spatial()(side_by_side(), Prediction({}, depths={0: depth})).backward()
        assert sign * depth.grad.sum() > 0


def test_neighbours_without_overlap_add_nothing():
    batch = rig(smooth(2), camera(0), camera(180))
    assert Spatial()(batch, Prediction({}, depths={0: wall()})).item() == 0


def test_cameras_see_their_neighbours_through_their_lenses():
    batch = side_by_side()
    plain = Neighbours(batch).warp(wall())
    batch.camera = BrownConrady(batch.intrinsics.clone(), torch.zeros(2, 4))
    through = Neighbours(batch).warp(wall())
    assert torch.allclose(through[0], plain[0], atol=1e-4)
    assert (through[1] != plain[1]).float().mean() < 0.01
    batch.camera.distortion[1] = torch.tensor([0.2, 0.0, 0.0, 0.0])  # only of the second camera
    bent = Neighbours(batch).warp(wall())[0]
    assert (bent - plain[0]).abs().amax((2, 3, 4)).min() > 0.01  # it is the source once and the target once


def test_fisheye_does_not_see_a_neighbour_facing_away():
    batch = rig(smooth(2), camera(0), camera(180))
    batch.camera = KannalaBrandt(batch.intrinsics.clone(), torch.tensor([[0.0, -0.2, 0, 0]]).repeat(2, 1))
    assert Neighbours(batch).warp(wall())[1].sum() == 0


def test_only_published_code_sees_points_behind_the_neighbour():
    batch = rig(smooth(2), camera(0), camera(180))
    prediction = Prediction({}, depths={0: wall()})
    assert Spatial(published=True)(batch, prediction).item() > 0.01
    _, seen = Neighbours(batch).warp(wall())
    assert not seen.any()


def test_each_camera_has_two_neighbours_in_a_closed_ring():
    """Six images of one grey each: camera 0 is compared with 5 and with 1."""
    greys = torch.linspace(0, 1, 6)[:, None, None, None].expand(6, 3, H, W)
    batch = rig(greys, *(camera(0) for _ in range(6)))
    warped, seen = Neighbours(batch).warp(wall(count=6))
    assert seen.all()
    torch.testing.assert_close(warped[0, :, 0, 16, 24], torch.tensor([1, 0, 0.2, 0.4, 0.6, 0.8]))
    torch.testing.assert_close(warped[1, :, 0, 16, 24], torch.tensor([0.2, 0.4, 0.6, 0.8, 1, 0]))


def test_frame_sets_of_a_batch_are_independent():
    first, second = side_by_side(), rig(smooth(2).flip(3), camera(0), camera(180))
    both = Batch.cat([first, second])
    alone = Spatial()(first, Prediction({}, depths={0: wall(4.0)}))
    together = Spatial()(both, Prediction({}, depths={0: wall(4.0, 4)}))
    torch.testing.assert_close(together, alone / 2)  # the second frame set's half adds nothing


def test_ego_mask_is_left_out_in_target_and_neighbour():
    batch = side_by_side()
    prediction = Prediction({}, depths={0: wall(3.0)})
    whole = Spatial()(batch, prediction)
    for camera_number in (0, 1):
        visible = torch.ones(2, 1, H, W, dtype=torch.bool)
        visible[camera_number] = False  # either as target or as neighbour it is in each comparison
        batch.maps = {"ego_mask": ~visible}
        assert whole > 0 and Spatial()(batch, prediction) == 0


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (rig(smooth(1), camera(0)), r"needs cameras.*rig.*such as --dataset ddad"),
        (
            Batch({0: smooth(2)}, K.expand(2, 3, 3), torch.arange(1), cameras=2),
            r"needs rig_from_camera.*such as --dataset ddad",
        ),
    ],
)
def test_batch_without_a_rig_is_refused(batch, words):
    with pytest.raises(InputError, match=words):
        check_needs({entry: "losses.spatial" for entry in Spatial.needs}, batch)


def test_invalid_settings_are_refused():
    with pytest.raises(InputError, match=r"ssim_weight must be in \[0, 1\], got 2"):
        Spatial(ssim_weight=2)
    with pytest.raises(InputError, match="leave v1_multiscale off"):
        Spatial()(side_by_side(), Prediction({}, depths={1: torch.ones(2, 1, 16, 24)}))
