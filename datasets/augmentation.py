"""Augmentation on the device: mirroring, image and geometry alike, and one colour jitter a sample.

Every draw is a function of (seed, epoch, sample), so it does not depend on the batch a sample travels in,
on the number of processes, or on where a run was resumed. Colours follow Monodepth2: with probability one
half, brightness, contrast and saturation factors in [0.8, 1.2] and a hue shift in [-0.1, 0.1] turns,
applied in a random order, the same for all frames of a sample. Losses see the images without jitter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets._random_crop import RandomCrop
from devices import constants
from structures import Batch, Frame
from utils import InputError, check_settings

NUMBERS = 5  # random numbers per sample for augmented views
COMPANION = 7919  # added to the seed, so that a companion does not repeat the draws of its sample
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601 luma, as Pillow and torchvision weigh RGB


@dataclass
class Augment:
    """Mirror and jitter a float Batch.

    Args:
        flip: probability of mirroring left and right.
        jitter: probability of changing colours.
        brightness, contrast, saturation: factors are drawn from [1 - value, 1 + value].
        hue: shifts are drawn from [-value, value], in turns of the colour circle.
        seed: the run's seed.
        crop: rescale and crop before all else; settings of `datasets._random_crop.RandomCrop`. For a
            companion of single images, since views and larger images of a video would not follow.
        companion: settings of the companion's own augmentation that differ from these.

    Raises:
        InputError: a probability outside [0, 1], a negative range, an unknown setting.
    """

    flip: float = 0.5
    jitter: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1
    seed: int = 0
    crop: Mapping[str, Any] | None = None
    companion: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("flip", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a probability in [0, 1], got {getattr(self, name)}")
        for name, most in (("brightness", 1), ("contrast", 1), ("saturation", 1), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"{name} must be in [0, {most}], got {getattr(self, name)}")
        if self.crop is not None:
            check_settings("augment.crop", RandomCrop, self.crop)
            if missing := {"height", "width"} - set(self.crop):
                raise InputError(f"augment.crop needs a {min(missing)}, such as {min(missing)}: 192")
            self._crop = RandomCrop(**{"seed": self.seed, **self.crop})
        if self.companion is not None:
            check_settings("augment.companion", Augment, self.companion)
        own = {"crop": None, "companion": None, **(self.companion or {})}
        self._companion = {**own, "seed": own.get("seed", self.seed + COMPANION)}

    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """The batch mirrored and with `augmented` filled; drawn for this epoch.

        `extra["draws"]` (B·N, 5) in [0, 1), on the CPU, are random numbers for augmented views.
        """
        if batch.detailed is not None:  # the same samples, hence the same draws
            batch = dataclasses.replace(batch, detailed=self(batch.detailed, epoch))
        if batch.companion is not None:
            other = dataclasses.replace(self, **self._companion)
            batch = dataclasses.replace(batch, companion=other(batch.companion, epoch))
        if self.crop is not None:
            batch = self._crop(batch, epoch)
        draws = [self._draw(epoch, index) for index in batch.index.tolist()]
        draws = [draw for draw in draws for _ in range(batch.cameras)]
        batch = mirror(batch, torch.tensor([draw.flip for draw in draws]))
        numbers = torch.tensor([draw.numbers for draw in draws], dtype=torch.float64)
        batch = dataclasses.replace(batch, extra={**batch.extra, "draws": numbers})
        jittered = [n for n, draw in enumerate(draws) if draw.order is not None]
        if not jittered:
            return batch
        # (B·N, F, 3, H, W): a sample's frames side by side share its draw.
        frames = torch.stack(list(batch.images.values()), 1)
        whole = frames.new_empty(0, dtype=torch.int64)
        for position in range(4):
            for operation, change in enumerate((_brightness, _contrast, _saturation, _hue)):
                chosen = [n for n in jittered if draws[n].order[position] == operation]
                if chosen:
                    amount = constants([draws[n].amounts[operation] for n in chosen], like=frames)
                    rows = constants(chosen, like=whole)
                    frames[rows] = change(frames[rows], amount[:, None, None, None, None])
        augmented: dict[Frame, Tensor] = dict(zip(batch.images, frames.unbind(1)))
        return dataclasses.replace(batch, augmented=augmented)

    def _draw(self, epoch: int, index: int) -> _Draw:
        rng = np.random.default_rng([self.seed, epoch, index])
        flip, jitter = rng.random() < self.flip, rng.random() < self.jitter
        amounts = [1 + rng.uniform(-x, x) for x in (self.brightness, self.contrast, self.saturation)]
        amounts.append(rng.uniform(-self.hue, self.hue))
        order = rng.permutation(4)
        return _Draw(flip, order.tolist() if jitter else None, amounts, rng.random(NUMBERS).tolist())


@dataclass(frozen=True)
class _Draw:
    flip: bool
    order: list[int] | None  # order of brightness, contrast, saturation, hue; None: no jitter
    amounts: list[float]
    numbers: list[float]  # in [0, 1), for augmented views


def mirror(batch: Batch, flip: Tensor) -> Batch:
    """Mirror the samples where `flip` (B·N,) is true: images, maps, points, principal point, poses, rig.

    With F = diag(-1, 1, 1), a mirrored camera sees F x, so a pose T becomes F T F and cx becomes W - 1 - cx.
    The vehicle is mirrored left to right, S = diag(1, -1, 1), so rig_from_camera becomes S T F: a proper
    rotation again, and the motion between any two cameras is what F T F makes of it.
    """
    if not flip.any():
        return batch
    flip = constants(flip.tolist(), like=batch.intrinsics) > 0
    image_flip = flip[:, None, None, None]

    def flipped(values: Tensor) -> Tensor:
        return torch.where(image_flip, values.flip(-1), values)

    def mirrored(points: Tensor) -> Tensor:
        x = torch.where(flip[:, None], width - 1 - points[..., 0], points[..., 0])
        return torch.cat([x[..., None], points[..., 1:]], -1)

    width = batch.images[0].shape[-1]
    intrinsics = batch.intrinsics.clone()
    intrinsics[:, 0, 2] = torch.where(flip, width - 1 - intrinsics[:, 0, 2], intrinsics[:, 0, 2])
    sign = torch.where(flip, -1.0, 1.0)[:, None] * constants([1, 0, 0, 0], like=intrinsics)
    sign = sign + constants([0, 1, 1, 1], like=intrinsics)  # (B·N, 4): F's diagonal, or ones
    rig = batch.rig_from_camera
    if rig is not None:
        rig = sign[:, [1, 0, 2, 3], None] * rig * sign[:, None, :]
    return dataclasses.replace(
        batch,
        images={frame: flipped(image) for frame, image in batch.images.items()},
        intrinsics=intrinsics,
        camera=None if batch.camera is None else batch.camera.mirrored(width, flip),
        T_source_from_target={
            frame: sign[:, :, None] * T * sign[:, None, :] for frame, T in batch.T_source_from_target.items()
        },
        rig_from_camera=rig,
        maps={name: flipped(values) for name, values in batch.maps.items()},
        points={name: mirrored(points) for name, points in batch.points.items()},
    )


def _grey(images: Tensor) -> Tensor:
    """(..., 3, H, W) to (..., 1, H, W)."""
    red, green, blue = images.unbind(-3)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).unsqueeze(-3)


def _brightness(images: Tensor, factor: Tensor) -> Tensor:
    return (images * factor).clamp_(0, 1)


def _contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = _grey(images).mean((-3, -2, -1), keepdim=True)
    return torch.lerp(mean, images, factor).clamp_(0, 1)


def _saturation(images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(_grey(images), images, factor).clamp_(0, 1)


def _hue(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate the hue of HSV; value and saturation stay.

    A channel of hue h is v - c clamp(min(k, 4 - k), 0, 1) with k = (n + h) mod 6 and n = 5, 3, 1 for red,
    green and blue; v is the largest channel, c the largest minus the smallest.
    """
    red, green, blue = images.unbind(-3)
    value, smallest = images.amax(-3), images.amin(-3)
    chroma = value - smallest
    safe = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + 6 * turns.squeeze(-3)
    channels = []
    for n in (5, 3, 1):
        k = (hue + n) % 6
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.stack(channels, -3).clamp_(0, 1)
