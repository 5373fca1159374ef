"""The two records: a `Batch` goes into a method, a `Prediction` comes out.

    B batch, N cameras, S sources, H W network height and width, h w any other size

The camera axis is folded into the batch, with the camera varying fastest: a tensor of a six-camera rig has
shape (B·6, ...), of a single camera (B, ...). `Batch.per_camera` unfolds it.
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
    """Input of a method. A sample is a Batch of one; `Batch.cat` collates samples.

    Attributes:
        images: frame → (B·N, 3, H, W) RGB; uint8 from the loader, float in [0, 1] after `to`.
        intrinsics: (B·N, 3, 3) pixels at H x W; (0, 0) is the centre of the first pixel.
        index: (B,) int64, index of each sample in its dataset. It identifies the sample and seeds its
            augmentation.
        T_source_from_target: frame → (B·N, 4, 4), poses known before training (stereo pair, rig).
        augmented: frame → network inputs with colour jitter; None without jitter. Losses always read
            `images`.
        cameras: N, the number of cameras.
        rig_from_camera: (B·N, 4, 4) camera-to-rig pose (extrinsics), metres; None if unknown.
        speed: frame → (B·N,) mean speed of the camera between target and source, metres per second, at least
            0; nan if unknown.
        time_step: frame → (B·N,) seconds from target to source, negative for earlier sources.
        maps: name → (B·N, C, H, W) per-pixel data of the target:
            `ego_mask` (bool, True where the camera sees its own vehicle), `labels` (uint8 train ids),
            `depth` (metres, 0 where unknown), `input_depth` (the same, as a network input), `pseudo_depth`.
        points: name → (B·N, K, 2 + C) sparse data at pixel coordinates of the target: x and y in pixels at
            H x W, then the values, such as a depth. K is fixed for a dataset; padding rows have depth 0.
        extra: name → (B·N, ...), data for one particular method.
        camera: a `cameras.Camera` of B·N rows at H x W, for lenses that are not pinholes; `intrinsics` are
            then its `nearest_pinhole`. None for the pinhole of `intrinsics`.
        detailed: the same samples at `Method.detail` times the resolution; only images, intrinsics and index
            are set.
        companion: an equal number of samples of another dataset, such as labelled images of another domain.
    """

    images: dict[Frame, Tensor]
    intrinsics: Tensor
    index: Tensor
    T_source_from_target: dict[Frame, Tensor] = field(default_factory=dict)
    augmented: dict[Frame, Tensor] | None = None
    cameras: int = 1
    rig_from_camera: Tensor | None = None
    speed: dict[Frame, Tensor] = field(default_factory=dict)
    time_step: dict[Frame, Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)
    points: dict[str, Tensor] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)
    camera: Any = None
    detailed: Batch | None = None
    companion: Batch | None = None

    @property
    def network_images(self) -> dict[Frame, Tensor]:
        """Inputs of the networks: `augmented` if given, else `images`."""
        return self.images if self.augmented is None else self.augmented

    @property
    def sources(self) -> list[Frame]:
        """Every frame except the target, in the order of the options."""
        return [frame for frame in self.images if frame != 0]

    def __len__(self) -> int:
        return len(self.index)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The same record with `function` applied to every tensor."""
        return _map(self, function)

    def to(self, device: torch.device | str) -> Batch:
        """Move to `device`; uint8 images become float in [0, 1] there, which moves a quarter of the bytes.

        `index` stays on the host, which is the only one that reads it.
        """
        moved = self.map(lambda tensor: tensor.to(device, non_blocking=True))
        for own, batch in zip(self._parts(), moved._parts()):
            batch.index = own.index
            for images in (batch.images, batch.augmented or {}):
                for frame, image in images.items():
                    if image.dtype == torch.uint8:
                        images[frame] = image.float().div_(255)
        return moved

    def _parts(self) -> list[Batch]:
        """This batch and those inside it."""
        return [part for part in (self, self.detailed, self.companion) if part is not None]

    def pin_memory(self) -> Batch:
        """Page-locked memory, so that `to` overlaps with computation. The DataLoader calls this."""
        return self.map(Tensor.pin_memory)

    def per_camera(self, tensor: Tensor) -> Tensor:
        """Split the first axis into batch and cameras: (B·N, ...) → (B, N, ...)."""
        return tensor.unflatten(0, (-1, self.cameras))

    @staticmethod
    def cat(samples: list[Batch]) -> Batch:
        """Join samples along the batch axis: the collate function of every loader.

        Raises:
            ValueError: images of different sizes (both are named); an entry that only some samples have (it
                is named).
        """
        first = samples[0]
        for sample in samples:
            if sample.images[0].shape[1:] != first.images[0].shape[1:]:
                raise ValueError(
                    f"images of one batch must have one size, got {tuple(first.images[0].shape[2:])} "
                    f"and {tuple(sample.images[0].shape[2:])}"
                )
        return _cat(samples, "")


@dataclass
class Prediction:
    """Output of a method for a Batch.

    Attributes:
        disparities: scale → (B·N, 1, H / 2**scale, W / 2**scale) sigmoid in [0, 1], 1 nearest.
        depths: scale → (B·N, 1, h, w), the depth that view synthesis of that scale uses; metres if the
            method is metric, else up to scale.
        T_source_from_target: frame → (B·N, 4, 4).
        grids: scale → (S, B·N, h, w, 2) normalised sampling coordinates in the sources, in [-1, 1] inside
            the image, in the order of `batch.sources`.
        warped: scale → (S, B·N, 3, h, w), the sources resampled into the target view, same order.
        masks: scale → (B·N, S, h, w) in [0, 1], a predicted weight of each source (explainability).
        logits: (B·N, classes, H, W) unnormalised class scores of the target; None without a segmentation
            head.
        sources: frame → the Prediction of that source image: its disparities and depths, and with key 0 in
            `T_source_from_target` the reverse pose T_target_from_source.
        companion: the Prediction of `batch.companion`, for methods that run on it.
        extra: name → data for the losses and logged images of one particular method.
    """

    disparities: dict[int, Tensor]
    depths: dict[int, Tensor] = field(default_factory=dict)
    T_source_from_target: dict[Frame, Tensor] = field(default_factory=dict)
    grids: dict[int, Tensor] = field(default_factory=dict)
    warped: dict[int, Tensor] = field(default_factory=dict)
    masks: dict[int, Tensor] = field(default_factory=dict)
    logits: Tensor | None = None
    sources: dict[Frame, Prediction] = field(default_factory=dict)
    companion: Prediction | None = None
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


def _cat(values: Iterable[Any], path: str) -> Any:
    """The same record with every tensor joined along its first axis; `path` names it in errors."""
    values = list(values)
    first = values[0]
    if any(type(value) is not type(first) for value in values):
        raise ValueError(
            f"only some samples of the batch have {path}; a dataset gives it for all or for none"
        )
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, dict):
        names = {name for value in values for name in value}
        for name in sorted(names, key=str):
            if not all(name in value for value in values):
                raise ValueError(
                    f"only some samples of the batch have {_join(path, name)}; a dataset gives it for all or "
                    "for none (zeros where unknown)"
                )
        return {key: _cat([value[key] for value in values], _join(path, key)) for key in first}
    if dataclasses.is_dataclass(first):
        names = [item.name for item in dataclasses.fields(first)]
        return dataclasses.replace(
            first,
            **{name: _cat([getattr(value, name) for value in values], _join(path, name)) for name in names},
        )
    return first


def _join(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)
