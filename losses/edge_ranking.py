"""Edge-guided relative normals: angles between normals across an edge match those of pseudo-depth.

    mean over pairs of  | n_A . n_B - n*_A . n*_B |

Anchors lie on edges of the image and of pseudo-depth's normals, but not near steps in depth, where normals
are meaningless. Four points on the line across each edge, two on each side, give the pairs (1, 2), (2, 3) and
(3, 4) (Sun, Bian et al., SC-DepthV3, PAMI 2023, section 3.4; sampling after Xian et al., CVPR 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from losses import LOSSES
from losses._counted import CountedMean
from losses._draws import generator_for
from losses._normals import depth_to_normals, known_around, sobel
from losses._pairs import MEAN, STD
from losses._pseudo_depth import pseudo_and_predicted
from structures import Batch, Prediction
from utils import InputError

NEAR, FAR = 3, 19  # pixels from the anchor to a point
STEP = 0.1  # relative change of pseudo-depth between neighbouring pixels from which it is a step
BORDER = 5  # width in pixels of the image border in which edges of normals are ignored


@dataclass
class Edges:
    """Edge pixels of a batch.

    Attributes:
        mask: (B·N, H, W) bool.
        across: (B·N, 2, H, W) unit vector x, y across the edge.
    """

    mask: Tensor
    across: Tensor


@dataclass
class Draws:
    """Random numbers for one set of edges.

    Attributes:
        anchor: (K,) int64, indices of edge pixels in the flattened (B·N, H, W).
        distance: (4, K) pixels from the anchor along the line across the edge.
        valid: (K,) bool, False for an image without edges.
    """

    anchor: Tensor
    distance: Tensor
    valid: Tensor


@LOSSES.register
class EdgeRanking(CountedMean):
    """Mean over the pairs of both sets of edges.

    Args:
        threshold: smallest gradient of an edge, as a share of the largest gradient of its image.
        anchors: number of anchors for each set of edges, as a share of the image's pixels.
        published: reproduce the published code. It treats gradients of pseudo-depth above a tenth of the
            batch's largest as steps, reads edges only from the red channel, draws as many anchors as there
            are edge pixels, puts all points on a line that always runs down to the right, moves points beyond
            the border onto it, and compares absolute cosines.

    Raises:
        InputError: a share outside (0, 1]; a batch without pseudo-depth.
    """

    needs: ClassVar[tuple[str, ...]] = ("maps.pseudo_depth",)

    def __init__(self, threshold: float = 0.1, anchors: float = 0.25, published: bool = False) -> None:
        super().__init__()
        for name, value in (("threshold", threshold), ("anchors", anchors)):
            if not 0 < value <= 1:
                raise InputError(f"{name} is a share in (0, 1], got {value}")
        self.threshold, self.anchors, self.published = threshold, anchors, published

    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """Scalar in [0, 2]; 0 if there is no edge."""
        pseudo, depth = pseudo_and_predicted(batch, prediction, "edge_ranking")
        known = known_around(pseudo)
        pseudo = torch.nan_to_num(pseudo, nan=0.0, posinf=0.0, neginf=0.0)
        normals = depth_to_normals(depth, batch.intrinsics)
        reference = depth_to_normals(pseudo, batch.intrinsics)
        sets = self.edges((batch.images[0] - MEAN) / STD, pseudo, reference, known)
        generator = generator_for(batch, "edge_ranking")
        return self.compare(normals, reference, known, sets, [self.draw(one.mask, generator) for one in sets])

    def edges(self, image: Tensor, pseudo: Tensor, reference: Tensor, known: Tensor) -> list[Edges]:
        """Edges of the image and of the reference normals, away from steps in depth.

        Args:
            image: (B·N, 3, H, W).
            pseudo: (B·N, 1, H, W), 0 where unknown.
            reference: (B·N, 3, H, W) normals of `pseudo`.
            known: (B·N, 1, H, W) bool.
        """
        step = _gradient(pseudo)[0]
        limit = self.threshold * step.amax() if self.published else 8 * STEP * pseudo[:, 0]
        steps = F.max_pool2d((step >= limit).float(), 3, 1, 1) > 0
        if self.published:
            strength, across = _gradient(image[:, :1])
            found = [(strength, across.abs())]
            gx, gy = (g.abs().mean(1) for g in sobel(reference))
            strength, across = _polar(gx, gy)
            found.append((strength, across))
        else:
            steps |= ~known[:, 0]
            found = [_gradient(image), _gradient(reference)]
        result = []
        for number, (strength, across) in enumerate(found):
            strength = strength.masked_fill(steps, 0.0)
            if number == 1:
                inner = strength[:, BORDER:-BORDER, BORDER:-BORDER]
                strength = F.pad(inner, (BORDER,) * 4)
            limit = self.threshold * strength.amax((1, 2), keepdim=True)
            mask = strength >= limit
            result.append(Edges(mask if self.published else mask & (strength > 0), across))
        return result

    def draw(self, mask: Tensor, generator: torch.Generator) -> Draws:
        """Anchors, with replacement, and distances for the edge pixels `mask` (B·N, H, W)."""
        pixels, settings = mask[0].numel(), {"generator": generator, "device": mask.device}
        if self.published:
            anchors = []
            for number, one in enumerate(mask.flatten(1)):
                indices = one.nonzero()[:, 0]
                chosen = torch.randint(len(indices), (len(indices),), **settings)
                anchors.append(number * pixels + indices[chosen])
            anchor = torch.cat(anchors)
            distance = torch.randint(NEAR, FAR + 1, (4, len(anchor)), **settings)
            return Draws(anchor, _both_sides(distance), torch.ones_like(anchor, dtype=torch.bool))
        # The running count reaches k + 1 at the edge pixel of index k.
        running = mask.flatten(1).cumsum(1)
        count = running[:, -1:]
        uniform = torch.rand((len(mask), max(1, int(self.anchors * pixels))), **settings)
        pixel = torch.searchsorted(running, (uniform * count).long().clamp(max=count - 1) + 1)
        offset = pixels * torch.arange(len(mask), device=mask.device)[:, None]
        anchor = (pixel.clamp(max=pixels - 1) + offset).flatten()
        near_far = torch.randint(NEAR, FAR + 1, (2, 2, len(anchor)), **settings).sort(1).values
        distance = torch.stack([near_far[0, 1], near_far[0, 0], near_far[1, 0], near_far[1, 1]])
        return Draws(anchor, _both_sides(distance), (count > 0).expand_as(pixel).flatten())

    def compare(
        self, normals: Tensor, reference: Tensor, known: Tensor, sets: list[Edges], draws: list[Draws]
    ) -> Tensor:
        """The loss for given edges and random numbers.

        Args:
            normals, reference: (B·N, 3, H, W) unit normals.
            known: (B·N, 1, H, W) bool, True where `reference` is known.
            sets: the sets of edges.
            draws: random anchors and distances of each set.
        """
        points = [_points(edges, draw, clamp=self.published) for edges, draw in zip(sets, draws)]
        index, inside = (torch.cat([one[part] for one in points], 1) for part in (0, 1))
        found, wanted = (_flat(values)[index] for values in (normals, reference))  # (4, K, 3)
        cosine, goal = (torch.einsum("pkc,pkc->pk", values[:-1], values[1:]) for values in (found, wanted))
        if self.published:
            return (goal.abs() - cosine.abs()).abs().mean()
        usable = inside & _flat(known)[index, 0]
        valid = usable[:-1] & usable[1:] & torch.cat([one.valid for one in draws])
        return self.masked_mean((goal - cosine).abs(), valid)


def _gradient(values: Tensor) -> tuple[Tensor, Tensor]:
    """Strength (B, H, W) and direction (B, 2, H, W) of the strongest channel's gradient, 0 at the border."""
    gx, gy = sobel(values)
    strongest = (gx.square() + gy.square()).argmax(1, keepdim=True)
    return _polar(gx.gather(1, strongest)[:, 0], gy.gather(1, strongest)[:, 0])


def _polar(gx: Tensor, gy: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H - 2, W - 2) derivatives to strength (B, H, W) and unit direction (B, 2, H, W)."""
    # In float64, as published: the points are rounded to pixels.
    angle = torch.atan2(F.pad(gy, (1,) * 4), F.pad(gx, (1,) * 4)).double()
    strength = F.pad((gx.square() + gy.square()).sqrt(), (1,) * 4)
    return strength, torch.stack([angle.cos(), angle.sin()], 1)


def _both_sides(distance: Tensor) -> Tensor:
    """Four distances (4, K), the first two with a minus sign."""
    return torch.cat([-distance[:2], distance[2:]])


def _points(edges: Edges, draws: Draws, clamp: bool) -> tuple[Tensor, Tensor]:
    """Four points per anchor: indices (4, K) into the flattened (B·N, H, W), and bool (4, K), True inside."""
    height, width = edges.mask.shape[-2:]
    image, pixel = draws.anchor // (height * width), draws.anchor % (height * width)
    x_across, y_across = _flat(edges.across)[draws.anchor].unbind(1)
    x = pixel % width + (draws.distance * x_across).round().long()
    y = pixel // width + (draws.distance * y_across).round().long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    return (image * height + y) * width + x, torch.ones_like(inside) if clamp else inside


def _flat(values: Tensor) -> Tensor:
    """(B, C, H, W) to (B · H · W, C)."""
    return values.movedim(1, -1).flatten(0, 2)
