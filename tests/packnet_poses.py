"""Poses of the recorded PackNet cases: vectors (tx, ty, tz, rx, ry, rz) with R = Rx Ry Rz, radians."""

import torch
from torch import Tensor

from layers import rigid


def packnet_pose(vector: Tensor) -> Tensor:
    """(B, 6) to (B, 4, 4), differentiable."""
    one, zero = torch.ones_like(vector[:, 0]), torch.zeros_like(vector[:, 0])
    (cx, cy, cz), (sx, sy, sz) = vector[:, 3:].cos().unbind(1), vector[:, 3:].sin().unbind(1)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, 1).view(-1, 3, 3)

    rotation = (
        matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx)
        @ matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
        @ matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    )
    return rigid(rotation, vector[:, :3])
