"""The base of surround data: a ring of drawn cameras."""

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.augmentation import mirror
from datasets.surround import RING, SurroundDataset, pose_from_quaternion
from metrics import Protocol
from structures import Batch
from utils import InputError


class Ring(SurroundDataset):
    """Cameras that face outwards from a circle of 1 m; one frame set, frames by name."""

    protocol = Protocol("ring", "none")

    def __init__(self, data_path, **settings):
        self.samples = ["000"]
        super().__init__(data_path, **{"frame_ids": (0,), "height": 32, "width": 64, **settings})

    def paths(self, sample, frame):
        return [self.data_path / f"{name}_{sample}.png" for name in self.camera_names]

    def intrinsics(self, sample, camera, height, width):
        return np.array([[60.0 + camera, 0, (width - 1) / 2 + 4], [0, 60.0, (height - 1) / 2], [0, 0, 1]])

    def rig_from_camera(self, sample):
        return np.stack([looking(60 * RING.index(name)) for name in self.camera_names])

    def mask_path(self, sample, camera):
        return self.data_path / f"mask_{self.camera_names[camera]}.png"

    def match_path(self, sample, camera):
        return self.matches / f"{self.camera_names[camera]}.npy"

    def image_size(self, sample, camera):
        return 64, 128


def looking(degrees):
    """(4, 4) rig_from_camera of a camera turned to the left by `degrees`, one metre out."""
    turn = np.radians(degrees) / 2
    yaw = pose_from_quaternion((np.cos(turn), 0, 0, np.sin(turn)), (0, 0, 0), "yaw")
    return yaw @ pose_from_quaternion((0.5, -0.5, 0.5, -0.5), (1, 0, 1.5), "forward")


@pytest.fixture
def ring(tmp_path):
    for number, name in enumerate(RING):
        image = np.full((64, 128, 3), 40 * number, np.uint8)
        Image.fromarray(image).save(tmp_path / f"{name}_000.png")
        mask = np.zeros((64, 128), np.uint8)
        mask[47:, :64] = 255
        Image.fromarray(mask).save(tmp_path / f"mask_{name}.png")
        rows = [[1, 1, 1, 1, 5, 5], [10 + number, 20, 5.0, 3, 0.1, 0.2], [63.5, 31.5, 7.0, 3, 0.3, 0.9]]
        np.save(tmp_path / f"{name}.npy", np.array(rows))
    return tmp_path


def test_the_cameras_of_a_frame_set_are_one_sample_in_ring_order(ring):
    sample = Ring(ring, camera_names=("back", "front_left", "front"))[0]
    assert sample.images[0].shape == (3, 3, 32, 64) and sample.cameras == 3
    assert sample.images[0][:, 0, 0, 0].tolist() == [0, 40, 120]
    assert sample.rig_from_camera.shape == (3, 4, 4)
    two = Batch.cat([sample, sample])
    assert two.per_camera(two.images[0]).shape == (2, 3, 3, 32, 64) and two.rig_from_camera.shape == (6, 4, 4)


def test_a_forward_camera_looks_along_the_vehicles_x_axis():
    forward = pose_from_quaternion((0.5, -0.5, 0.5, -0.5), (1.5, 0.25, 1.6), "test")
    np.testing.assert_allclose(forward[:3, :3], [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], atol=1e-12)
    np.testing.assert_allclose(forward[:3, 3], (1.5, 0.25, 1.6))


def test_masks_and_matches_follow_the_image(ring):
    sample = Ring(ring, width=96, masks=True, matches=ring, max_matches=2)[0]
    visible, matches = ~sample.maps["ego_mask"], sample.points["matches"]
    assert visible.shape == (6, 1, 32, 96) and visible.dtype == torch.bool
    assert not visible[0, 0, 30, 2] and visible[0, 0, 30, 60] and visible[0, 0, 2, 2]
    assert not visible[0, 0, 30, 47] and visible[0, 0, 30, 48]  # the vehicle ends within the first of them
    assert not visible[0, 0, 23, 2] and visible[0, 0, 22, 2]  # half a row of the vehicle is masked
    assert matches.shape == (6, 2, 6)  # the row farthest from its epipolar line is the one left out
    torch.testing.assert_close(matches[2, :, :3], torch.tensor([[8.875, 9.75, 5.0], [47.5, 15.5, 7.0]]))


def test_mirrored_rig_sees_mirrored_points(ring):
    sample = Ring(ring, masks=True, matches=ring)[0].to("cpu")
    turned = mirror(sample, torch.ones(6, dtype=torch.bool))
    assert torch.equal(turned.maps["ego_mask"], sample.maps["ego_mask"].flip(3))
    torch.testing.assert_close(turned.points["matches"][..., 0], 63 - sample.points["matches"][..., 0])
    # A point of the world, mirrored, lands in the mirrored pixel of every camera.
    point = torch.tensor([3.0, 2.0, 1.0, 1.0])
    mirrored = point * torch.tensor([1.0, -1.0, 1.0, 1.0])
    for camera in range(6):
        seen = sample.rig_from_camera[camera].inverse() @ point
        again = turned.rig_from_camera[camera].inverse() @ mirrored
        torch.testing.assert_close(again[:3], seen[:3] * torch.tensor([-1.0, 1.0, 1.0]))
        before, after = sample.intrinsics[camera] @ seen[:3], turned.intrinsics[camera] @ again[:3]
        torch.testing.assert_close(after[0] / after[2], 63 - before[0] / before[2])
    assert torch.allclose(torch.linalg.det(turned.rig_from_camera[:, :3, :3]), torch.ones(6))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"camera_names": ("front", "left")}, "there is no camera 'left'"),
        ({"camera_names": ("front", "front")}, "each once"),
        ({"frame_ids": (0, "s")}, "no stereo partner"),
        ({"max_matches": 0}, "max_matches must be at least 1, got 0"),
    ],
)
def test_invalid_rig_is_refused(ring, settings, words):
    with pytest.raises(InputError, match=words):
        Ring(ring, **settings)


def test_a_missing_camera_mask_or_match_is_named(ring):
    (ring / "back.npy").unlink()
    with pytest.raises(InputError, match=r"back\.npy; tools/sift_matches.py makes them"):
        Ring(ring, matches=ring)
    (ring / "mask_front.png").unlink()
    with pytest.raises(InputError, match=r"mask_front\.png; tools/make_masks.py makes them"):
        Ring(ring, masks=True)
    (ring / "back_left_000.png").unlink()
    with pytest.raises(InputError, match=r"no image at .*back_left_000\.png"):
        Ring(ring)


def test_extrinsics_without_a_rotation_are_refused():
    with pytest.raises(
        InputError, match="calib, LIDAR: the quaternion of a rotation must have length 1, got 2"
    ):
        pose_from_quaternion((2, 0, 0, 0), (0, 0, 0), "calib, LIDAR")
    with pytest.raises(InputError, match="finite"):
        pose_from_quaternion((1, 0, 0, 0), (0, float("nan"), 0), "x")
    for quaternion in ([1, 0, 0], ["w", 0, 0, 0], None):
        with pytest.raises(InputError, match="x: a pose is 4 \\+ 3 finite numbers, got"):
            pose_from_quaternion(quaternion, (0, 0, 0), "x")


def test_published_intrinsics_scale_only_the_principal_point(ring):
    """128 x 64 at half size: cx of 67.5 pixels is 33.5 by pixel centres and 33.75 as SurroundDepth has it."""
    for published, cx, cy in ((False, 33.5, 15.5), (True, 33.75, 15.75)):
        K = Ring(ring, published_intrinsics=published)[0].intrinsics[0]
        assert (K[0, 2].item(), K[1, 2].item()) == (cx, cy)
        assert (K[0, 0].item(), K[1, 1].item()) == (30.0, 30.0)
