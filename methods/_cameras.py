"""Intrinsics as parameters of a training, one camera for each recording (Gordon et al., ICCV 2019).

    fx' = fx exp(a),  fy' = fy exp(a),  cx' = cx + 0.1 b_x W,  cy' = cy + 0.1 b_y H

a and b begin at 0. The principal point is learned ten times slower, since most cameras have it in the middle
and few motions determine it. They are learned with the pose network from the photometric error, which depends
on them only if the camera also rotates; datasets/_folder_cameras.py leaves out the recordings where it does
not. The batch is changed before it is augmented, so that mirroring and cropping apply to the learned
intrinsics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from intrinsics import as_text, parse_intrinsics
from structures import Batch

CENTRE_RATE = 0.1
CAMERA_ID = "camera_id"  # entry of `Batch.extra`: (B·N,) number of the camera
# Times the learning rate. The first steps of random networks say nothing about a camera: at 3 times the rate,
# 500 steps moved a focal length by 1.3 % away from its true value (docs/own-data.md).
CAMERA_RATE = 0.3
RECORD = "cameras"  # entry of a checkpoint's options: `Folder.camera_record` with the present values


class LearnedCameras(nn.Module):
    """Corrections of the intrinsics of some cameras.

    Args:
        learned: for each camera, whether it is learned; the others keep their intrinsics.
    """

    def __init__(self, learned: Sequence[bool]) -> None:
        super().__init__()
        self.log_focal = nn.Parameter(torch.zeros(len(learned)))
        self.centre = nn.Parameter(torch.zeros(len(learned), 2))
        self.register_buffer("learned", torch.tensor(learned, dtype=torch.float32), persistent=False)

    def forward(self, batch: Batch) -> Batch:
        """The batch with corrected intrinsics, also of its `detailed` images."""
        numbers = batch.extra[CAMERA_ID]
        detailed = batch.detailed
        if detailed is not None:
            detailed = dataclasses.replace(detailed, intrinsics=self._corrected(detailed, numbers))
        return dataclasses.replace(batch, intrinsics=self._corrected(batch, numbers), detailed=detailed)

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
    learned = [False] * (1 + max(camera["number"] for camera in record.values()))
    for camera in record.values():
        learned[camera["number"]] = bool(camera["learned"])
    return LearnedCameras(learned)
