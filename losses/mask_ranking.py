"""Mask ranking: pairs of pixels have the depth order of pseudo-depth; one set of pairs is on moving objects.

    mean over pairs of  log(1 + exp(-l r)),    r = log(d_A / d_B) / log 1.15
    l = 1 if d*_A / d*_B > 1.15, -1 if d*_B / d*_A > 1.15

Pairs with a ratio in between are left out. Published is r = d_A - d_B, whose value depends on the arbitrary
unit of depth: it moves distant pixels farther away without bound, until their depths differ by several units.
The logarithm has no unit, and its gradient vanishes for pairs in the right order. One set pairs each pixel of
the least consistent fifth of the image with a random pixel of the rest; inconsistent pixels are those of
moving objects, where view synthesis is wrong. The other set pairs random pixels of the whole image (Sun, Bian
et al., SC-DepthV3, PAMI 2023, section 3.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from losses import LOSSES
from losses._counted import CountedMean
from losses._draws import generator_for
from losses._pairs import compare_pairs
from losses._pseudo_depth import pseudo_and_predicted
from structures import Batch, Prediction
from utils import InputError


@dataclass
class Draws:
    """Random numbers of one batch.

    Attributes:
        partner: (B·N, K) int64, for each unreliable pixel the index of its partner among the reliable ones,
            both in raster order.
        first, second: (B·N or 1, M) int64, pixels of the other set, paired by position.
        ties: (B·N, P) int64, order of the pixels of equal weight; None for the order of the sort (published).
    """

    partner: Tensor
    first: Tensor
    second: Tensor
    ties: Tensor | None = None


@LOSSES.register
class MaskRanking(CountedMean):
    """Ranking loss on predicted depth.

    Args:
        unreliable: share of pixels with the lowest self-discovered weight; each of them is paired once.
        pairs: number of random pairs in the whole image, as a share of its pixels.
        ratio: pseudo-depth ratio above which a pair is ordered.
        published_pairs: pair the pixels of two random masks in raster order, as the published code does.
            Partners then lie within about two rows of each other, and the sort decides ties of the weight.
        published_difference: compare depths by their difference, as the published code does.
        published_warp: compute the self-discovered weight with the published warp; see
            `losses._pairs.compare_pairs`.

    Raises:
        InputError: a share outside (0, 1), a ratio of at most 1; a batch without pseudo-depth.
    """

    needs: ClassVar[tuple[str, ...]] = ("maps.pseudo_depth",)
    predicts: ClassVar[tuple[str, ...]] = ("sources.depths", "sources.T_target_from_source")

    def __init__(
        self,
        unreliable: float = 0.2,
        pairs: float = 0.1,
        ratio: float = 1.15,
        published_pairs: bool = False,
        published_difference: bool = False,
        published_warp: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("unreliable", unreliable), ("pairs", pairs)):
            if not 0 < value < 1:
                raise InputError(f"{name} is a share in (0, 1), got {value}")
        if ratio <= 1:
            raise InputError(f"ratio must be above 1, got {ratio}; 1.15 is published")
        self.unreliable, self.pairs, self.ratio = unreliable, pairs, ratio
        self.published_pairs, self.published_warp = published_pairs, published_warp
        self.published_difference = published_difference

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Mean over all ordered pairs. Returns a scalar; 0 if no pair is ordered."""
        pseudo, depth = pseudo_and_predicted(batch, prediction, "mask_ranking")
        weight = compare_pairs(batch, prediction, published_warp=self.published_warp).static_weight().detach()
        return self.rank(depth, pseudo, weight, self.draw(depth, generator_for(batch, "mask_ranking")))

    def draw(self, depth: Tensor, generator: torch.Generator) -> Draws:
        """Random pairs for depth maps (B·N, 1, H, W)."""
        images, pixels = len(depth), depth[0].numel()
        settings = {"generator": generator, "device": depth.device}
        lowest = int(self.unreliable * pixels)
        partner = torch.randint(pixels - lowest, (images, lowest), **settings)
        if self.published_pairs:
            chosen = torch.rand(pixels, **settings) >= 1 - self.pairs
            first, second = raster_pairs(chosen, torch.randperm(pixels, **settings))
            return Draws(partner, first, second)
        first, second = torch.randint(pixels, (2, images, max(1, int(self.pairs * pixels))), **settings)
        # If no pixel passes the automask, all weights are 1; in raster order the sky would count as moving.
        return Draws(partner, first, second, torch.rand((images, pixels), **settings).argsort(dim=1))

    def rank(self, depth: Tensor, pseudo: Tensor, weight: Tensor, draws: Draws) -> Tensor:
        """The loss for given pairs of pixels.

        Args:
            depth, pseudo: (B·N, 1, H, W), 0 where pseudo-depth is unknown.
            weight: (B·N, 1, H, W), low on moving objects.
            draws: the random pairs.
        """
        depth, pseudo = depth.flatten(1), pseudo.flatten(1)
        weight = weight.flatten(1)
        if draws.ties is None:
            order = weight.argsort(dim=1)
        else:
            order = draws.ties.gather(1, weight.gather(1, draws.ties).argsort(dim=1, stable=True))
        lowest = draws.partner.shape[1]
        moving, static = order[:, :lowest].sort(1).values, order[:, lowest:].sort(1).values
        first = torch.cat([moving, draws.first.expand(len(depth), -1)], 1)
        second = torch.cat([static.gather(1, draws.partner), draws.second.expand(len(depth), -1)], 1)
        a, b = pseudo.gather(1, first), pseudo.gather(1, second)
        known = (a > 0) & (b > 0) & a.isfinite() & b.isfinite()
        sign = (a > self.ratio * b).to(depth.dtype) - (b > self.ratio * a).to(depth.dtype)
        sign = sign.where(known, 0.0)
        if not self.published_difference:
            depth = depth.clamp(min=1e-9).log() / math.log(self.ratio)
        # softplus does not overflow for large differences of depth.
        losses = F.softplus(-sign * (depth.gather(1, first) - depth.gather(1, second)))
        return self.masked_mean(losses, sign != 0)


def raster_pairs(chosen: Tensor, permutation: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of a mask (P,) bool and of its permutation, each in raster order: two tensors (1, M)."""
    first, second = chosen.nonzero()[:, 0], chosen[permutation].nonzero()[:, 0]
    return first[None], second[None]
