"""Intrinsics as parameters of a training, one camera for each recording (Gordon et al., ICCV 2019).

    fx' = fx exp(a),  fy' = fy exp(a),  cx' = cx + 0.01 b_x W,  cy' = cy + 0.01 b_y H
    loss: 0.001 huber((a - a_m) / e),   a_m = log(f_m / fx)

a and b begin at 0. They are learned with the pose network from the photometric error, which depends on them
only if the camera also rotates; datasets/_folder_cameras.py leaves out the recordings where it does not. The
principal point is learned a hundred times slower, since most cameras have it in the middle and few motions
determine it.

By itself, the photometric error does not find the focal length: the predicted motion takes over its effect
(docs/own-data.md has the numbers). The loss therefore adds what the matches of the recording say: the focal
length f_m with the relative standard error e (matching/focal.py). The less certain it is, the further the
photometric error can move the focal length.

The batch is changed before it is augmented, so that mirroring and cropping apply to the learned intrinsics.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from intrinsics import as_text, parse_intrinsics
from structures import Batch

CENTRE_RATE = 0.01
CAMERA_ID = "camera_id"  # entry of `Batch.extra`: (B·N,) number of the camera
CAMERA_RATE = 3.0  # times the learning rate; at 1e-4, 330 steps change a focal length by 10 %
MOTION_WEIGHT = 1e-3
LEAST_ERROR = 0.005  # standard errors below it are taken as this
UNKNOWN = 0.0, math.inf  # of `LearnedCameras.motion`
RECORD = "cameras"  # entry of a checkpoint's options: `Folder.camera_record` with the present values


class LearnedCameras(nn.Module):
    """Corrections of the intrinsics of some cameras.

    Args:
        learned: for each camera, whether it is learned; the others keep their intrinsics.
        motion: for each camera, log of the focal length from the motion over that of the start, and its
            standard error, which is infinite if the motion does not determine it.
    """

    def __init__(self, learned: Sequence[bool], motion: Sequence[tuple[float, float]] = ()) -> None:
        super().__init__()
        self.log_focal = nn.Parameter(torch.zeros(len(learned)))
        self.centre = nn.Parameter(torch.zeros(len(learned), 2))
        self.register_buffer("learned", torch.tensor(learned, dtype=torch.float32), persistent=False)
        motion = torch.tensor(list(motion) or [UNKNOWN] * len(learned), dtype=torch.float32)
        self.register_buffer("motion", motion, persistent=False)

    def forward(self, batch: Batch) -> Batch:
        """The batch with corrected intrinsics, also of its `detailed` images."""
        numbers = batch.extra[CAMERA_ID]
        detailed = batch.detailed
        if detailed is not None:
            detailed = dataclasses.replace(detailed, intrinsics=self._corrected(detailed, numbers))
        return dataclasses.replace(batch, intrinsics=self._corrected(batch, numbers), detailed=detailed)

    def loss(self) -> Tensor:
        """How far the focal lengths are from those of the motion, in standard errors; weighted.

        The loss is 0.001 times the mean of Huber's function over the learned cameras. Recordings that are
        held back for validation are among them.
        """
        focal, error = self.motion.unbind(1)
        deviation = self.learned * (self.log_focal - focal) / error.clamp(min=LEAST_ERROR)
        total = F.smooth_l1_loss(deviation, torch.zeros_like(deviation), reduction="sum")
        return MOTION_WEIGHT * total / self.learned.sum()

    def _corrected(self, batch: Batch, numbers: Tensor) -> Tensor:
        height, width = batch.images[0].shape[-2:]
        return self._learned_intrinsics(batch.intrinsics, numbers, height, width)

    def _learned_intrinsics(self, K: Tensor, numbers: Tensor, height: int, width: int) -> Tensor:
        """(B, 3, 3) corrected intrinsics in pixels at (height, width)."""
        weight = self.learned[numbers]
        factor = torch.exp(self.log_focal[numbers] * weight)
        shift = CENTRE_RATE * self.centre[numbers] * weight[:, None]
        one, zero = torch.ones_like(factor), torch.zeros_like(factor)
        fx, skew, cx = K[:, 0, 0] * factor, K[:, 0, 1] * factor, K[:, 0, 2] + shift[:, 0] * width
        fy, cy = K[:, 1, 1] * factor, K[:, 1, 2] + shift[:, 1] * height
        return torch.stack([fx, skew, cx, zero, fy, cy, zero, zero, one], 1).unflatten(1, (3, 3))

    @torch.no_grad()
    def record(self, record: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """A record of cameras (`Folder.camera_record`) with the present intrinsics of the learned ones."""
        found = {}
        for name, camera in record.items():
            start = torch.from_numpy(parse_intrinsics(camera["start"], name))[None].float()
            number = torch.tensor([camera["number"]], device=self.centre.device)
            K = (
                self._learned_intrinsics(start.to(self.centre.device), number, *camera["size"])[0]
                .cpu()
                .numpy()
            )
            found[name] = {**camera, "intrinsics": as_text(K)} if camera["learned"] else dict(camera)
        return found


def learned_cameras(record: Mapping[str, Mapping[str, Any]] | None) -> LearnedCameras | None:
    """The module for a record of cameras; None if no camera of it is learned."""
    if not any(camera["learned"] for camera in (record or {}).values()):
        return None
    count = 1 + max(camera["number"] for camera in record.values())
    learned, motion = [False] * count, [UNKNOWN] * count
    for name, camera in record.items():
        learned[camera["number"]] = bool(camera["learned"])
        if "motion" in camera:
            share, error = camera["motion"]
            start = parse_intrinsics(camera["start"], name)[0, 0] / camera["size"][1]
            motion[camera["number"]] = math.log(share / start), error
    return LearnedCameras(learned, motion)
