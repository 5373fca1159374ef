"""The two records that travel: a `Batch` goes into a method, a `Prediction` comes out.

    B batch, N cameras, S sources, H W network height and width, h w any other size

The camera axis is folded into the batch, the camera varying fastest: a tensor of a six-camera rig is
(B·6, ...), of a single camera (B, ...). `Batch.per_camera` opens it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Frame = int | str  # 0 target, -1 previous, +1 next, "s" the other camera of a stereo pair


@dataclass
class Batch:
    """What a loader gives a method. A sample is a Batch of one; `Batch.cat` collates.

    Attributes:
        images: frame → (B·N, 3, H, W) RGB; uint8 from the loader, float in [0, 1] after `to`.
        intrinsics: (B·N, 3, 3) pixels at H x W; (0, 0) is the centre of the first pixel.
        index: (B,) int64, each sample's place in its dataset. Names the sample and seeds its augmentation.
        T_source_from_target: frame → (B·N, 4, 4), the poses that are known beforehand (stereo, rig).
        augmented: frame → what networks see where it differs from `images` (colour jitter). Losses always
            read `images`.
        cameras: N.
        rig_from_camera: (B·N, 4, 4) each camera's place on the vehicle, metres; None where it is not known.
        maps: name → (B·N, C, H, W) what is known of each pixel of the target, such as `visible` (bool, False
            where the camera sees its own vehicle) or `labels` (uint8 train ids).
        points: name → (B·N, K, 2 + C) what is known of single places in the target: x and y in pixels at
            H x W, then the rest, such as a depth. A list is as long as the dataset makes it; a row of padding
            has a depth of 0.
        extra: name → (B·N, ...), what a particular method asks of its data.
        detailed: the same samples with larger pictures, for a method that zooms into them; no more than
            pictures, intrinsics and index.
        companion: as many samples of another dataset, such as labelled pictures of another domain.
    """

    images: dict[Frame, Tensor]
    intrinsics: Tensor
    index: Tensor
    T_source_from_target: dict[Frame, Tensor] = field(default_factory=dict)
    augmented: dict[Frame, Tensor] | None = None
    cameras: int = 1
    rig_from_camera: Tensor | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)
    points: dict[str, Tensor] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)
    detailed: Batch | None = None
    companion: Batch | None = None

    @property
    def network_images(self) -> dict[Frame, Tensor]:
        """What networks see: the jittered images where there are any."""
        return self.images if self.augmented is None else self.augmented

    @property
    def sources(self) -> list[Frame]:
        """Every frame but the target, in the order of the options."""
        return [frame for frame in self.images if frame != 0]

    def __len__(self) -> int:
        return len(self.index)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The same record with `function` applied to every tensor."""
        return _map(self, function)

    def to(self, device: torch.device | str) -> Batch:
        """Move to `device`; uint8 pictures become float in [0, 1] there, a quarter of the bytes moved."""
        moved = self.map(lambda tensor: tensor.to(device, non_blocking=True))
        for batch in (part for part in (moved, moved.detailed, moved.companion) if part is not None):
            for pictures in (batch.images, batch.augmented or {}):
                for frame, picture in pictures.items():
                    if picture.dtype == torch.uint8:
                        pictures[frame] = picture.float().div_(255)
        return moved

    def pin_memory(self) -> Batch:
        """Page-locked memory, so that `to` overlaps with computing. The DataLoader calls this."""
        return self.map(Tensor.pin_memory)

    def per_camera(self, tensor: Tensor) -> Tensor:
        """(B·N, ...) → (B, N, ...)."""
        return tensor.unflatten(0, (-1, self.cameras))

    @staticmethod
    def cat(samples: list[Batch]) -> Batch:
        """Join along the batch axis: the collate function of every loader.

        Raises:
            ValueError: samples of different sizes, with both sizes.
        """
        first = samples[0]
        for sample in samples:
            if sample.images[0].shape[1:] != first.images[0].shape[1:]:
                raise ValueError(
                    f"pictures of one batch must have one size, got {tuple(first.images[0].shape[2:])} "
                    f"and {tuple(sample.images[0].shape[2:])}"
                )
        return _cat(samples)


@dataclass
class Prediction:
    """What a method makes of a Batch.

    Attributes:
        disparities: scale → (B·N, 1, H / 2**scale, W / 2**scale) sigmoid in [0, 1], 1 nearest.
        depths: scale → (B·N, 1, h, w), the depth the photometric term of that scale warps with. Up to one
            factor unless the method is scale-aware.
        T_source_from_target: frame → (B·N, 4, 4).
        warped: scale → (S, B·N, 3, h, w), the sources resampled into the target view, in the order of
            `batch.sources`.
        masks: scale → (B·N, S, h, w) in [0, 1], a predicted weight of each source (explainability).
        extra: name → what a particular method's losses and pictures need.
    """

    disparities: dict[int, Tensor]
    depths: dict[int, Tensor] = field(default_factory=dict)
    T_source_from_target: dict[Frame, Tensor] = field(default_factory=dict)
    warped: dict[int, Tensor] = field(default_factory=dict)
    masks: dict[int, Tensor] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """`function` applied to every tensor inside dataclasses and dicts."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _map(item, function) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        names = [item.name for item in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: _map(getattr(value, name), function) for name in names})
    return value


def _cat(values: Iterable[Any]) -> Any:
    """The same record with every tensor joined along its first axis."""
    values = list(values)
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, dict):
        return {key: _cat(value[key] for value in values) for key in first}
    if dataclasses.is_dataclass(first):
        names = [item.name for item in dataclasses.fields(first)]
        return dataclasses.replace(
            first, **{name: _cat(getattr(value, name) for value in values) for name in names}
        )
    return first
