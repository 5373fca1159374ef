"""Pseudo-depth of a batch: depth of any scale from a network that was trained on other data."""

from __future__ import annotations

from torch import Tensor

from structures import Batch, Prediction
from utils import InputError


def pseudo_and_predicted(batch: Batch, prediction: Prediction, term: str) -> tuple[Tensor, Tensor]:
    """`batch.maps["pseudo_depth"]` and the finest depth, both (B·N, 1, H, W).

    Args:
        batch: has the map, 0 where unknown.
        prediction: has `depths[0]` at the images' size.
        term: name of the loss term, for errors.

    Raises:
        InputError: maps of different sizes.
    """
    pseudo, depth = batch.maps["pseudo_depth"].float(), prediction.depths.get(0)
    if depth is None or depth.shape[-2:] != pseudo.shape[-2:]:
        size = "none" if depth is None else f"{depth.shape[-2]} x {depth.shape[-1]}"
        raise InputError(
            f"{term} needs depth of the pseudo-depth's size, {pseudo.shape[-2]} x {pseudo.shape[-1]}, "
            f"got {size}; set --scales 0"
        )
    return pseudo, depth
