"""Patch reshuffle: the image cut at a column and at a row, the parts swapped (Liu et al., RA-L 2024).

    x' = (x - x0) mod W,     y' = (y - y0) mod H

A reshuffled image has no geometry. Its restored disparity has the geometry of the image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from structures import Batch, Frame, Prediction


@dataclass(frozen=True)
class PatchReshuffle:
    """The cut positions of each image.

    Attributes:
        size: (H, W) of the images.
        cuts: (column, row) of each image: the part left of the column moves to the right end, the part above
            the row to the bottom.
    """

    size: tuple[int, int]
    cuts: list[tuple[int, int]]

    @staticmethod
    def draw(draws: Tensor, size: tuple[int, int]) -> PatchReshuffle:
        """Draw n views from (n, 5) random numbers in [0, 1). Cuts lie in the middle 80 % of the image."""
        shares = (0.1 + 0.8 * draws[:, 3:5]).tolist()
        return PatchReshuffle(tuple(size), [(int(size[1] * x), int(size[0] * y)) for x, y in shares])

    def apply(self, image: Tensor) -> Tensor:
        """Swap the parts of images (n, C, H, W)."""
        return torch.stack([one.roll((-y, -x), (1, 2)) for one, (x, y) in zip(image, self.cuts)])

    def restore(self, values: Tensor) -> Tensor:
        """Swap the parts of a reshuffled map (n, C, H / 2**s, W / 2**s) back."""
        factor = values.shape[-1] / self.size[1]
        restored = []
        for one, (x, y) in zip(values, self.cuts):
            seams = round((self.size[0] - y) * factor), round((self.size[1] - x) * factor)
            restored.append(one.roll((-seams[0], -seams[1]), (1, 2)))
        return torch.stack(restored)

    def batch(self, batch: Batch, frames: Sequence[Frame] = (0,)) -> Batch:
        """The batch as networks see it: the images of `frames` reshuffled. It has no geometry."""
        images = {frame: self.apply(batch.network_images[frame]) for frame in frames}
        return dataclasses.replace(batch, images=images, augmented=None)

    def restore_prediction(self, prediction: Prediction) -> None:
        """Restore every map that the networks predicted, also of source frames, in place."""
        for maps in (prediction.disparities, prediction.masks):
            for scale, values in maps.items():
                maps[scale] = self.restore(values)
        if prediction.logits is not None:
            prediction.logits = self.restore(prediction.logits)
        for source in prediction.sources.values():
            self.restore_prediction(source)
