"""The base of every dataset: images in time, read as uint8 at network size with their intrinsics.

A dataset lists its samples (`lines`) and says, for one of them, where a frame's images lie, what the
camera's intrinsics are and, where it knows, the true depth. Everything else is here: decoding, resizing,
intrinsics that follow, missing files found when the dataset is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.io import ImageReadMode, decode_image

from metrics import Protocol
from structures import Batch, Frame
from utils import InputError

RESIZES = ("bicubic", "lanczos", "bilinear")
_DECODED_BY_TORCHVISION = {".jpg", ".jpeg", ".png"}


class SequenceDataset(Dataset):
    """Target and source frames of video, one Batch of one a sample.

    A subclass sets `lines` before it calls `super().__init__` and defines `paths`, `intrinsics` and, where
    it has them, `pose`, `rig_from_camera`, `maps`, `points` and `depth`.

    Args:
        data_path: the dataset's root folder.
        frame_ids: 0 and the sources: offsets in frames, "s" the other camera of a stereo pair.
        height: network input height, pixels, a multiple of 32.
        width: network input width, pixels, a multiple of 32.
        resize: `bicubic` (antialiased, several times faster), `lanczos` (Pillow's, as most published systems
            do; their checkpoints are evaluated with it) or `bilinear` (antialiased, as SGDepth does).
        skip_missing: leave out samples that lack an image instead of refusing to start.

    Raises:
        InputError: no samples, a size that is no multiple of 32, an image that is not there.
    """

    protocol: ClassVar[Protocol]  # how this dataset is evaluated
    cameras: int = 1
    detail: int = 1  # above 1, samples carry `Batch.detailed` of that many times the network's size
    camera_names: Sequence[str] = ()  # what tables call the cameras of a rig
    # Settings that describe one particular folder: an evaluation elsewhere does not take them from training.
    describes_folder: ClassVar[tuple[str, ...]] = ()
    lines: Sequence[Any]

    def __init__(
        self,
        data_path: str | Path,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        height: int = 192,
        width: int = 640,
        resize: str = "bicubic",
        skip_missing: bool = False,
    ) -> None:
        check_size(height, width)
        if resize not in RESIZES:
            raise InputError(f"resize is one of {', '.join(RESIZES)}, got '{resize}'")
        self.data_path = Path(data_path)
        self.frame_ids = tuple(frame_ids)
        self.height, self.width = height, width
        self.resize = resize
        self.skip_missing = skip_missing
        check_folder(self.data_path)
        self.lines = self._with_all_images(skip_missing)

    # What a subclass answers.

    def paths(self, line: Any, frame: Frame) -> list[Path]:
        """The image of each camera, for frame `frame` beside the sample `line`."""
        raise NotImplementedError

    def read_images(self, line: Any, frame: Frame) -> list[Tensor]:
        """(3, h, w) uint8 RGB of each camera; for datasets that crop, rectify or unpack what they read."""
        return [read_image(path) for path in self.paths(line, frame)]

    def intrinsics(self, line: Any, camera: int, height: int, width: int) -> np.ndarray:
        """(3, 3) pixels at the size (height, width) of what `images` gives."""
        raise NotImplementedError

    def pose(self, line: Any, frame: Frame) -> np.ndarray | None:
        """(N, 4, 4) T_source_from_target where it is known beforehand, as for "s"; otherwise None."""
        return None

    def rig_from_camera(self, line: Any) -> np.ndarray | None:
        """(N, 4, 4) each camera's place on the vehicle, metres; None where it is not known."""
        return None

    def maps(self, line: Any) -> dict[str, Tensor]:
        """What is known of each pixel of the target: name → (N, C, height, width), the network's size."""
        return {}

    def points(self, line: Any) -> dict[str, Tensor]:
        """What is known of single places in the target: name → (N, K, 2 + C), see `structures.Batch`."""
        return {}

    def depth(self, index: int) -> np.ndarray | None:
        """(N, h, w) metres at the dataset's own size, 0 where unknown; None without ground truth."""
        return None

    def name(self, index: int) -> str:
        """What a person calls the sample, for errors and per-image tables."""
        return str(self.lines[index])

    # What every dataset shares.

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> Batch:
        line = self.lines[index]
        images: dict[Frame, Tensor] = {}
        larger: dict[Frame, Tensor] = {}
        poses: dict[Frame, Tensor] = {}
        for frame in self.frame_ids:
            recorded = self.read_images(line, frame)
            if frame == 0:
                sizes = [image.shape[-2:] for image in recorded]
            images[frame] = torch.stack([self._resize(image) for image in recorded])
            if self.detail > 1:
                larger[frame] = torch.stack([self._resize(image, self.detail) for image in recorded])
            pose = None if frame == 0 else self.pose(line, frame)
            if pose is not None:
                poses[frame] = torch.from_numpy(np.asarray(pose, np.float32))
        intrinsics = np.stack([self.network_intrinsics(line, n, *size) for n, size in enumerate(sizes)])
        rig = self.rig_from_camera(line)
        return Batch(
            images=images,
            intrinsics=torch.from_numpy(intrinsics.astype(np.float32)),
            index=torch.tensor([index]),
            detailed=self._detailed(larger, intrinsics, index) if larger else None,
            T_source_from_target=poses,
            cameras=self.cameras,
            rig_from_camera=None if rig is None else torch.from_numpy(np.asarray(rig, np.float32)),
            maps=self.maps(line),
            points=self.points(line),
        )

    def network_intrinsics(self, line: Any, camera: int, height: int, width: int) -> np.ndarray:
        """(3, 3) pixels at the network's size, of an image that is (height, width) on disk."""
        K = self.intrinsics(line, camera, height, width)
        return resize_intrinsics(K, (height, width), (self.height, self.width))

    def _resize(self, image: Tensor, detail: int = 1) -> Tensor:
        """(3, h, w) uint8 to (3, H, W) uint8, or to `detail` times that."""
        return resize_image(image, detail * self.height, detail * self.width, self.resize)

    def _detailed(self, images: dict[Frame, Tensor], intrinsics: np.ndarray, index: int) -> Batch:
        """The sample with larger images; `intrinsics` (N, 3, 3) are those at the network's size."""
        sizes = (self.height, self.width), (self.detail * self.height, self.detail * self.width)
        larger = np.stack([resize_intrinsics(K, *sizes) for K in intrinsics]).astype(np.float32)
        return Batch(images, torch.from_numpy(larger), torch.tensor([index]), cameras=self.cameras)

    def _with_all_images(self, skip_missing: bool) -> list[Any]:
        """The lines whose every image exists; folders are listed once instead of asking per file."""
        if not len(self.lines):
            raise InputError(f"{type(self).__name__} has no samples under {self.data_path}")
        listed: dict[str, set[str]] = {}

        def exists(path: Path) -> bool:
            folder, name = os.path.split(path)
            if folder not in listed:
                listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            return name in listed[folder]

        kept: list[Any] = []
        first: tuple[Any, Path] | None = None
        for line in self.lines:
            missing = (p for frame in self.frame_ids for p in self.paths(line, frame) if not exists(p))
            path = next(missing, None)
            if path is None:
                kept.append(line)
            elif first is None:
                first = line, path
        if first is not None and not (skip_missing and kept):
            where = getattr(first[0], "source", first[0])
            absent = len(self.lines) - len(kept)
            raise InputError(
                f"{where}: no image at {first[1]}; {absent} of {len(self.lines)} samples lack an image"
                + (" (--skip_missing trains on the others)" if kept else "")
            )
        return kept


def check_folder(data_path: Path) -> None:
    """Refuse a root that is not there.

    Raises:
        InputError: there is no such folder.
    """
    if not data_path.is_dir():
        raise InputError(f"there is no folder {data_path}; give the dataset's root with --data_path")


def check_offsets(frame_ids: Sequence[Frame], what: str) -> None:
    """Refuse frame "s" where there is video alone.

    Raises:
        InputError: a frame is no offset; the sentence begins with `what`.
    """
    if not all(isinstance(frame, int) for frame in frame_ids):
        given = " ".join(map(str, frame_ids))
        raise InputError(f"{what} has no stereo partner: frame_ids are offsets such as 0 -1 1, got {given}")


def check_size(height: int, width: int, multiple: int = 32) -> None:
    """Refuse a network size that does not halve evenly, with the nearest that does.

    Raises:
        InputError: height or width is no positive multiple of `multiple`.
    """
    for name, value in (("height", height), ("width", width)):
        if value <= 0 or value % multiple:
            nearest = max(multiple, round(value / multiple) * multiple)
            raise InputError(f"{name} must be a multiple of {multiple}, got {value}; try {nearest}")


def read_image(path: str | Path) -> Tensor:
    """An image as (3, h, w) uint8 RGB, laid out with the channels innermost.

    Raises:
        InputError: missing, truncated, no image, or one of floating-point numbers.
    """
    path = Path(path)
    try:
        if path.suffix.lower() in _DECODED_BY_TORCHVISION:
            encoded = np.fromfile(path, np.uint8)
            # torchvision reads PNGs of 16 bits a channel only since 0.20.
            if encoded[:4].tobytes() != b"\x89PNG" or encoded[24:25].tobytes() != b"\x10":
                return decode_image(torch.from_numpy(encoded), ImageReadMode.RGB)
        with Image.open(path) as image:
            return as_rgb(image)
    except FileNotFoundError:
        raise InputError(f"there is no image at {path}") from None
    except InputError as error:
        raise InputError(f"{path} is {error}") from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = re.sub(r".*\.cpp:\d+, ", "", reason)  # torchvision names the line of its own source
        raise InputError(f"{path} cannot be read as an image ({reason}); is it truncated?") from None


def as_rgb(image: Image.Image) -> Tensor:
    """A PIL image as (3, h, w) uint8 RGB.

    Raises:
        InputError: its values are floating-point numbers, of which nobody knows the range.
    """
    if image.mode == "F":
        raise InputError("an image of floating-point numbers; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):  # grey of 16 bits: the upper eight are the image
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def resize_image(image: Tensor, height: int, width: int, resize: str = "bicubic") -> Tensor:
    """(3, h, w) uint8 to (3, height, width) uint8, antialiased; `resize` as in `SequenceDataset`."""
    if image.shape[-2:] == (height, width):
        return image.contiguous()
    if resize == "lanczos":
        pixels = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
        resized = np.array(pixels.resize((width, height), Image.Resampling.LANCZOS))
        return torch.from_numpy(resized).permute(2, 0, 1).contiguous()
    inner = image[None].contiguous(memory_format=torch.channels_last)  # torch has a fast path for it
    return F.interpolate(inner, (height, width), mode=resize, antialias=True)[0].contiguous()


def resize_intrinsics(K: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """Intrinsics that follow an image resized from `old` to `new` (height, width).

    A pixel's centre is an integer, so the image spans -0.5 ... W - 0.5 and x becomes (x + 0.5) s - 0.5.
    """
    sy, sx = new[0] / old[0], new[1] / old[1]
    shift = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return shift @ np.asarray(K, np.float64)
