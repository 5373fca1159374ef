"""Pseudo-depth of a batch: depth of any scale from a network that was trained on other data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
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


SAMPLED = 1024  # pixels of an image whose ranks are compared
INVERTED = -0.2  # mean rank correlation below which pseudo-depth and depth run against each other


class RankOrder:
    """Mean over an epoch of the rank correlation between pseudo-depth and predicted depth.

    A negative value means that one of them is inverted: pseudo-depth that is inverse depth, or a training
    that has gone wrong. Which of the two it is cannot be told from here, so the number is reported.
    """

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.images: Tensor | float = 0.0

    @torch.no_grad()
    def add(self, batch: Batch, prediction: Prediction) -> None:
        """Count the images of a training step. Does not wait for the GPU."""
        pseudo, depth = batch.maps["pseudo_depth"].float(), prediction.depths.get(0)
        if depth is None or depth.shape[-2:] != pseudo.shape[-2:]:
            return
        found = rank_correlation(pseudo.flatten(1), depth.detach().float().flatten(1))
        self.total = self.total + torch.where(found.isfinite(), found, 0.0).sum()
        self.images = self.images + found.isfinite().sum()

    def take(self) -> tuple[float, int]:
        """Sum and number of images since the last call."""
        sums = float(self.total), int(self.images)
        self.total = self.images = 0.0
        return sums

    @staticmethod
    def sentence(epoch: int, gathered: Sequence[Mapping[str, tuple[float, int]]]) -> str | None:
        """The report after the first epoch, and after each with a clearly negative correlation; else None.

        Args:
            epoch: the epoch that ended, from 0.
            gathered: `take()` of every process, under "rank_order"; empty without pseudo-depth.
        """
        sums = [one["rank_order"] for one in gathered if "rank_order" in one]
        if not sums:
            return None
        total, images = map(sum, zip(*sums))
        if not images:
            return "no image of this epoch has known pseudo-depth; look at its files"
        found = total / images
        said = f"rank correlation of pseudo-depth and predicted depth after epoch {epoch + 1}: {found:.2f}"
        if found < INVERTED:
            return (
                f"{said}, so one of them is inverted; check the quantity, depth or inverse_depth, that "
                "pseudo_depth.json states next to the files"
            )
        return None if epoch else said


def rank_correlation(pseudo: Tensor, depth: Tensor) -> Tensor:
    """(B,) Spearman's rank correlation of (B, P) maps over evenly spaced pixels with known pseudo-depth.

    nan if an image has fewer than two such pixels.
    """
    step = math.ceil(pseudo.shape[1] / SAMPLED)
    pseudo, depth = pseudo[:, ::step], depth[:, ::step]
    known = (pseudo > 0) & pseudo.isfinite() & depth.isfinite()
    count = known.sum(1, keepdim=True)

    def centred_ranks(values: Tensor) -> Tensor:
        # Unknown pixels come last, so that the known ones have the ranks 0 to count - 1.
        ranks = torch.where(known, values, math.inf).argsort(1).argsort(1).double()
        return torch.where(known, ranks - (count - 1) / 2, 0.0)

    a, b = centred_ranks(pseudo), centred_ranks(depth)
    found = (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(count[:, 0] > 1, found, math.nan)
