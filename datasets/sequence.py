"""The base of every dataset: images in time, read as uint8 at network size with their intrinsics.

A dataset lists its samples and says, for each of them, where the images of a frame lie, what the camera's
intrinsics are and, if it has it, the ground-truth depth. The rest is here: decoding, resizing, intrinsics
that follow the resize, packed images in their place, and a check for missing files at the start.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cameras import Camera
from datasets._crop_borders import Cropped, check_borders
from datasets._sparse_depth import resize_sparse_depth
from datasets.image_files import image_size, read_image
from datasets.packed import PACK_TOOL, VERSION, NetworkImages, PackedImages
from datasets.resizing import RESIZES, check_size, resize_image, resize_intrinsics
from metrics import Protocol
from shards import is_first
from structures import Batch, Frame
from utils import InputError


class SequenceDataset(Cropped, Dataset):
    """Target and source frames of video, one Batch of one per sample.

    A subclass sets `samples` before it calls `super().__init__` and defines `paths`, `intrinsics` and, if it
    has them, `pose`, `motion`, `lens`, `rig_from_camera`, `maps`, `points` and `depth`. Its constructor lists
    the settings that it adds and passes `**settings` on.

    Attributes:
        protocol: how this dataset is evaluated.
        default_height, default_width: network size if neither the run nor the method gives one, pixels.
        for_losses: settings that only training reads; evaluation and prediction leave them out.
        describes_folder: settings that describe one folder of data; they are not carried over to another.
        pixel_settings: settings, also attributes, that change the pixels of `read_images`.
        provides: batch entry → the setting that adds it, as a clause for the error about a missing entry.
        cameras: cameras of a sample.
        camera_names: their names in tables, for a rig.
        detail: if above 1, samples carry `Batch.detailed` at that many times the network size.
        depth_resize: rule that brings measured depth to the network size; see datasets/_sparse_depth.py.
        samples: entries that `paths`, `intrinsics` and the others take.

    Args:
        data_path: root folder of the dataset.
        frame_ids: 0 and the sources: offsets in frames, "s" for the other camera of a stereo pair.
        height: network input height, pixels, a multiple of 32; the dataset's own if not given.
        width: network input width, pixels, a multiple of 32; the dataset's own if not given.
        resize: `bicubic` (antialiased, several times faster), `lanczos` (Pillow's; most published systems use
            it, so their checkpoints are evaluated with it) or `bilinear` (antialiased, as SGDepth does).
        skip_missing: leave out samples that lack an image instead of refusing to start.
        supervision: give the ground truth to the losses, as the map `depth` at network size: zeros where it
            is unknown and in samples without ground truth.
        crop_borders: window that is cut out of images and measured depth before they are resized, in
            training; see datasets/_crop_borders.py.
        packed: folder of tools/pack_dataset.py, whose images are read in place of the files; images that it
            lacks are read from their files.

    Raises:
        InputError: no samples, a size that is not a multiple of 32, a missing image, packed images of other
            settings or of other files.
    """

    protocol: ClassVar[Protocol]
    default_height: ClassVar[int] = 192
    default_width: ClassVar[int] = 640
    for_losses: ClassVar[tuple[str, ...]] = ("supervision", "crop_borders")
    describes_folder: ClassVar[tuple[str, ...]] = ("gt_path",)
    pixel_settings: ClassVar[tuple[str, ...]] = ()
    provides: ClassVar[Mapping[str, str]] = {}
    cameras: int = 1
    camera_names: Sequence[str] = ()
    detail: int = 1
    depth_resize: str = "points"
    samples: Sequence[Any]

    def __init__(
        self,
        data_path: str | Path,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        height: int | None = None,
        width: int | None = None,
        resize: str = "bicubic",
        skip_missing: bool = False,
        supervision: bool = False,
        crop_borders: Sequence[float] | None = None,
        packed: str | Path | None = None,
    ) -> None:
        self.height = self.default_height if height is None else height
        self.width = self.default_width if width is None else width
        check_size(self.height, self.width)
        if resize not in RESIZES:
            raise InputError(f"--resize is one of {', '.join(RESIZES)}, got '{resize}'")
        self.data_path = Path(data_path)
        self.frame_ids = tuple(frame_ids)
        self.resize, self.supervision, self.skip_missing = resize, supervision, skip_missing
        self.crop_borders = check_borders(crop_borders)
        if supervision and type(self).depth is SequenceDataset.depth:
            raise InputError(f"{type(self).__name__} has no ground truth; leave out --dataset.supervision")
        check_folder(self.data_path)
        self.packed = PackedImages(packed, self.pixels(), self._pack_command(packed)) if packed else None
        self.samples = self._with_all_images(skip_missing)

    # What a subclass defines.

    def paths(self, sample: Any, frame: Frame) -> list[Path]:
        """The image of each camera, for frame `frame` relative to the target of `sample`."""
        raise NotImplementedError

    def read_images(self, sample: Any, frame: Frame) -> list[Tensor]:
        """(3, h, w) uint8 RGB of each camera; for datasets that crop, rectify or unpack their images."""
        return [read_image(path) for path in self.paths(sample, frame)]

    def image_keys(self, sample: Any, frame: Frame) -> list[str]:
        """Name of each camera's image among packed images: its path below the root without the ending."""
        return [os.path.splitext(below(path, self.data_path))[0] for path in self.paths(sample, frame)]

    def intrinsics(self, sample: Any, camera: int, height: int, width: int) -> np.ndarray:
        """(3, 3) pixels at (height, width), the size of what `read_images` returns."""
        raise NotImplementedError

    def pose(self, sample: Any, frame: Frame) -> np.ndarray | None:
        """(N, 4, 4) T_source_from_target if it is known before training, as for "s"; otherwise None."""
        return None

    def motion(self, sample: Any, frame: Frame) -> tuple[Any, Any] | None:
        """Mean speed between target and source `frame`, metres per second (nan if unknown), and the seconds
        from target to source, one number each or (N,); None if the dataset gives no speed."""
        return None

    def lens(self, sample: Any, height: int, width: int) -> Camera | None:
        """The N cameras at (height, width), the size of what `read_images` returns; None for pinholes."""
        return None

    def rig_from_camera(self, sample: Any) -> np.ndarray | None:
        """(N, 4, 4) camera-to-rig pose (extrinsics) of each camera, metres; None if unknown."""
        return None

    def maps(self, sample: Any) -> dict[str, Tensor]:
        """Per-pixel data of the target: name → (N, C, height, width) at network size."""
        return {}

    def points(self, sample: Any) -> dict[str, Tensor]:
        """Sparse data at pixel coordinates of the target: name → (N, K, 2 + C), see `structures.Batch`."""
        return {}

    def depth(self, index: int) -> np.ndarray | None:
        """(N, h, w) metres, the ground truth at its own size, 0 where unknown; None if there is none."""
        return None

    def dynamic_mask(self, index: int) -> np.ndarray | None:
        """(N, h, w) bool of the ground truth's size, True on objects that can move; None if unknown."""
        return None

    def name(self, index: int) -> str:
        """Name of the sample, for errors and per-image tables."""
        return str(self.samples[index])

    # What every dataset shares.

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Batch:
        sample = self.samples[index]
        images: dict[Frame, Tensor] = {}
        larger: dict[Frame, Tensor] = {}
        poses: dict[Frame, Tensor] = {}
        speed: dict[Frame, Tensor] = {}
        time_step: dict[Frame, Tensor] = {}
        for frame in self.frame_ids:
            found = self.network_images(sample, frame)
            if frame == 0:
                sizes = found.sizes
            images[frame] = found.images
            if found.larger is not None:
                larger[frame] = found.larger
            pose = None if frame == 0 else self.pose(sample, frame)
            if pose is not None:
                poses[frame] = torch.from_numpy(np.asarray(pose, np.float32))
            motion = None if frame in (0, "s") else self.motion(sample, frame)
            if motion is not None:
                speed[frame], time_step[frame] = (self._of_cameras(value) for value in motion)
        intrinsics = np.stack([self.network_intrinsics(sample, n, *size) for n, size in enumerate(sizes)])
        rig = self.rig_from_camera(sample)
        camera = self.lens(sample, *sizes[0])
        if camera is not None:
            size = self.height, self.width
            window = self.window(*sizes[0])
            camera = window.camera(camera, size) if window else camera.resized(tuple(sizes[0]), size)
        return Batch(
            images=images,
            intrinsics=torch.from_numpy(intrinsics.astype(np.float32)),
            index=torch.tensor([int(index)]),
            camera=camera,
            detailed=self._detailed(larger, intrinsics, index, camera) if larger else None,
            T_source_from_target=poses,
            speed=speed,
            time_step=time_step,
            cameras=self.cameras,
            rig_from_camera=None if rig is None else torch.from_numpy(np.asarray(rig, np.float32)),
            maps=self._with_ego_mask({**self.uncropped(self.maps(sample)), **self.depth_maps(index)}, camera),
            points=self.uncropped(self.points(sample)),
        )

    def network_images(self, sample: Any, frame: Frame) -> NetworkImages:
        """One frame at network size: packed, or read and resized."""
        if self.packed is not None:
            found = self.packed.read(self.image_keys(sample, frame), self.detail)
            if found is not None:
                return found
        recorded = self.read_images(sample, frame)
        windows = [self.window(*image.shape[-2:]) for image in recorded]
        cut = [window.cut(image) if window else image for window, image in zip(windows, recorded)]
        images = torch.stack([self._resize(image) for image in cut])
        larger = None
        if self.detail > 1:
            larger = torch.stack([self._resize(image, self.detail) for image in cut])
        return NetworkImages(images, larger, [tuple(image.shape[-2:]) for image in recorded])

    def recorded_size(self, sample: Any) -> tuple[int, int]:
        """Height and width of the target's first image before the resize, from its header if it is a file."""
        found = self.packed and self.packed.read(self.image_keys(sample, 0))
        return found.sizes[0] if found else image_size(self.paths(sample, 0)[0])

    def pixels(self) -> dict[str, Any]:
        """The settings that the pixels of `network_images` depend on."""
        own = {name: getattr(self, name) for name in self.pixel_settings}
        if self.crop_borders:
            own["crop_borders"] = list(self.crop_borders)
        dataset = type(self).__module__.rpartition(".")[2]
        size = {"height": self.height, "width": self.width, "resize": self.resize}
        return {"dataset": dataset, **size, **own, "version": VERSION}

    def _pack_command(self, folder: str | Path) -> str:
        settings = self.pixels()
        words = ["--dataset", settings["dataset"], "--data_path", self.data_path, "--out", folder]
        words += [word for key in ("height", "width", "resize") for word in (f"--{key}", settings[key])]
        own = [
            f"{key}={str(settings[key]).lower()}"
            for key in (*self.pixel_settings, "crop_borders")
            if key in settings
        ]
        words += ["--frame_ids", *self.frame_ids, *(["--set", *own] if own else [])]
        return shlex.join(["python", PACK_TOOL, *map(str, words)])

    def network_intrinsics(self, sample: Any, camera: int, height: int, width: int) -> np.ndarray:
        """(3, 3) pixels at network size, of an image that is (height, width) on disk."""
        K, size = self.cut_intrinsics(sample, camera, height, width)
        return resize_intrinsics(K, size, (self.height, self.width))

    def _of_cameras(self, value: Any) -> Tensor:
        """(N,) float32 of one number or one for each camera."""
        return torch.from_numpy(np.broadcast_to(np.asarray(value, np.float32), (self.cameras,)).copy())

    def _resize(self, image: Tensor, detail: int = 1) -> Tensor:
        """(3, h, w) uint8 to (3, H, W) uint8, or to `detail` times that."""
        return resize_image(image, detail * self.height, detail * self.width, self.resize)

    def depth_maps(self, index: int) -> dict[str, Tensor]:
        """`depth` (N, 1, height, width) metres under `supervision`, 0 where unknown."""
        if not self.supervision:
            return {}
        return {"depth": self.network_depth(self.cut_depth(self.depth(index), index))}

    def network_depth(self, depth: np.ndarray | None) -> Tensor:
        """Measured depth (N, h, w) at network size, (N, 1, height, width); zeros if there is none."""
        if depth is None:
            return torch.zeros(self.cameras, 1, self.height, self.width)
        size = (self.height, self.width)
        resized = resize_sparse_depth(np.asarray(depth, np.float32), size, self.depth_resize)
        return torch.from_numpy(resized)[:, None]

    def _with_ego_mask(self, maps: dict[str, Tensor], camera: Camera | None) -> dict[str, Tensor]:
        """The maps; for a camera with a lens, `ego_mask` also covers pixels without a ray."""
        if camera is None:
            return maps
        dark = ~camera.sees(self.height, self.width)
        return {**maps, "ego_mask": maps["ego_mask"] | dark if "ego_mask" in maps else dark}

    def _detailed(
        self, images: dict[Frame, Tensor], intrinsics: np.ndarray, index: int, camera: Camera | None
    ) -> Batch:
        """The sample with images of `detail` times the size; `intrinsics` (N, 3, 3) are at network size."""
        sizes = (self.height, self.width), (self.detail * self.height, self.detail * self.width)
        larger = np.stack([resize_intrinsics(K, *sizes) for K in intrinsics]).astype(np.float32)
        return Batch(
            images,
            torch.from_numpy(larger),
            torch.tensor([int(index)]),
            cameras=self.cameras,
            camera=None if camera is None else camera.resized(*sizes),
        )

    def _with_all_images(self, skip_missing: bool) -> list[Any]:
        """The samples whose every image exists or is packed. Each folder is listed once, which is faster than
        a look per file.
        """
        if not len(self.samples):
            raise InputError(f"{type(self).__name__} has no samples under {self.data_path}")
        listed: dict[str, set[str]] = {}

        def exists(path: Path) -> bool:
            folder, name = os.path.split(path)
            if folder not in listed:
                listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            return name in listed[folder]

        kept: list[Any] = []
        first: tuple[Any, Path] | None = None
        for sample in self.samples:
            path = next((p for p in self._unpacked_paths(sample) if not exists(p)), None)
            if path is None:
                kept.append(sample)
            elif first is None:
                first = sample, path
        if first is not None and not (skip_missing and kept):
            where = getattr(first[0], "source", first[0])
            absent = len(self.samples) - len(kept)
            raise InputError(
                f"{where}: no image at {first[1]}; {absent} of {len(self.samples)} samples lack an image"
                + (" (--skip_missing trains on the others)" if kept else "")
            )
        if self.packed is not None and is_first() and (note := self.packed.note()):
            print(note)
        return kept

    def _unpacked_paths(self, sample: Any) -> Iterator[Path]:
        """The image files of a sample, except those whose images are packed.

        Raises:
            InputError: a file has changed since its image was packed.
        """
        for frame in self.frame_ids:
            paths = self.paths(sample, frame)
            if self.packed is None:
                yield from paths
                continue
            for key, path in zip(self.image_keys(sample, frame), paths, strict=True):
                if not self.packed.covers(key, path, self.data_path):
                    yield path


def below(path: str | Path, root: Path) -> str:
    """`path` relative to `root`."""
    text, start = os.fspath(path), f"{root}{os.sep}"
    return text[len(start) :] if text.startswith(start) else os.path.relpath(text, root)


def check_folder(data_path: Path) -> None:
    """Refuse a root folder that does not exist.

    Raises:
        InputError: there is no such folder, or it cannot be listed.
    """
    if not data_path.is_dir():
        raise InputError(f"there is no folder {data_path}; give the dataset's root with --data_path")
    try:
        os.scandir(data_path).close()
    except PermissionError:
        raise InputError(f"the folder {data_path} cannot be read: permission denied") from None


def check_offsets(frame_ids: Sequence[Frame], what: str) -> None:
    """Refuse frame "s" for a dataset of video without stereo.

    Raises:
        InputError: a frame is not an offset; the sentence begins with `what`.
    """
    if not all(isinstance(frame, int) for frame in frame_ids):
        given = " ".join(map(str, frame_ids))
        raise InputError(f"{what} has no stereo partner: --frame_ids are offsets such as 0 -1 1, got {given}")


def check_stride(stride: int) -> None:
    """Refuse a stride that is not a positive number of frames.

    Raises:
        InputError: it is below 1.
    """
    if stride < 1:
        raise InputError(f"--dataset.stride is a whole number of frames from 1 on, got {stride}")
