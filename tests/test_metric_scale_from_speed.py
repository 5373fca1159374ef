"""View synthesis through a fisheye couples depth to motion; speed then gives both their metric scale."""

import numpy as np
import pytest
import torch

from cameras import stacked_grid
from datasets.synthetic import FisheyeCamera, World
from layers import sample
from losses.photometric import Photometric
from losses.velocity import Velocity
from structures import Batch, Prediction
from tools.layouts._base import looking_ahead

H, W = 64, 208
TIMES = {0: 1.0, -1: 0.9, 1: 1.1}


@pytest.fixture(scope="module")
def drive():
    """A batch of one with speed, and the ground truth of its distances and poses."""
    world, camera = World(0, 3.0), FisheyeCamera.of_size(H, W)
    poses = {frame: world.ego_pose(time) @ looking_ahead(0, 0, 1.65) for frame, time in TIMES.items()}
    views = {frame: world.render(camera, poses[frame], time) for frame, time in TIMES.items()}
    images = {
        frame: torch.from_numpy(view.image).permute(2, 0, 1)[None] / 255 for frame, view in views.items()
    }
    T = {frame: torch.from_numpy(np.linalg.inv(poses[frame]) @ poses[0])[None].float() for frame in (-1, 1)}
    lens = camera.model
    lens.intrinsics, lens.distortion = lens.intrinsics.float(), lens.distortion.float()
    batch = Batch(
        images,
        lens.intrinsics,
        torch.arange(1),
        speed={frame: T[frame][:, :3, 3].norm(dim=1) / 0.1 for frame in T},
        time_step={-1: torch.tensor([-0.1]), 1: torch.tensor([0.1])},
        camera=lens,
    )
    distance = torch.from_numpy(views[0].depth)[None, None]
    return batch, torch.where(distance > 0, distance, 200.0), T


def scales_after_training(drive, velocity_weight):
    """Factors of depth and translation, both 0.7 at first, after 150 steps."""
    batch, distance, T = drive
    logs = torch.full((2,), np.log(0.7)).requires_grad_()  # of depth and translation
    optimizer = torch.optim.Adam([logs], 0.02)
    photometric, velocity = Photometric(noise=0.0), Velocity()
    for _ in range(150):
        poses = {}
        for frame, true in T.items():
            poses[frame] = torch.cat([true[:, :, :3], true[:, :, 3:] * scale_column(logs[1])], 2)
        depth = distance * logs[0].exp()
        grid = stacked_grid(
            depth.repeat(2, 1, 1, 1),
            batch.intrinsics.repeat(2, 1, 1),
            torch.cat([poses[-1], poses[1]]),
            batch.camera,
            (H, W),
        )
        warped = sample(torch.cat([batch.images[-1], batch.images[1]]), grid)[:, None]
        prediction = Prediction({}, depths={0: depth}, T_source_from_target=poses, warped={0: warped})
        loss = photometric(batch, prediction) + velocity_weight * velocity(batch, prediction)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return logs.detach().exp().tolist()


def scale_column(log):
    """(4, 1): the factor for x, y and z of a translation, 1 for the last row."""
    return torch.cat([log.exp().expand(3), log.new_ones(1)])[:, None]


def test_speed_gives_depth_its_metric_scale(drive):
    depth, translation = scales_after_training(drive, velocity_weight=0.2)
    assert translation == pytest.approx(1, abs=0.03)
    assert depth == pytest.approx(1, abs=0.05)


def test_without_speed_the_scale_stays_where_it_began(drive):
    depth, translation = scales_after_training(drive, velocity_weight=0.0)
    assert depth / translation == pytest.approx(1, abs=0.05)
    assert 0.6 < depth < 0.85
