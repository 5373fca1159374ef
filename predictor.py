"""A trained model in use: images of any size in, depth of the same size out.

    images (h, w)  ->  network size (H, W)  ->  1 / depth (H, W)  ->  enlarged to (h, w)  ->  depth

Inverse depth is enlarged, not depth, since the networks predict it and it is linear on every plane.
`test_simple.py`, `test_video.py` and `hubconf.py` read and write files around this class.

Depth is in metres if the training fixed the scale, else up to scale; see `methods/metric_scale.py`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from datasets.image_files import IMAGES, as_rgb, natural_key, one_per_name, read_image
from datasets.own_output import is_own_output
from datasets.resizing import check_size, resize_image, resize_intrinsics
from devices import pick_device
from methods import load_method
from methods.metric_scale import metric_scale, unit_of
from notices import notice
from structures import Batch
from utils import InputError

Images = Tensor | np.ndarray | Image.Image | str | os.PathLike | Sequence


class Predictor(nn.Module):
    """Depth of images of any size.

        depth = predictor(image)  # a path, PIL image, array or tensor, or a list: (B, 1, h, w)

    A model of a rig predicts all cameras of a frame set together: its images come as whole frame sets, in
    ring order (`datasets/surround.py`), with their intrinsics if its depth follows the focal length.

    Args:
        method: a trained Method.
        options: options of its training.

    Attributes:
        height, width: the network's size, pixels.
        metric_scale: metres in one unit of the network's depth, applied to the output; None if depth is known
            up to scale only.
        cameras: number of cameras that are predicted together.
        options: options of the training.

    Raises:
        InputError: the options do not tell the network's size.
    """

    def __init__(self, method: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__()
        if not (options.get("height") and options.get("width")):
            raise InputError("the checkpoint does not tell the network's size; add --height and --width")
        check_size(options["height"], options["width"])
        self.method, self.options = method, dict(options)
        self.height, self.width = options["height"], options["width"]
        self.resize = options.get("resize") or "bicubic"
        self.cameras = getattr(method, "cameras", 1)
        self.metric_scale = metric_scale(method, options)
        self.eval()

    @property
    def is_metric(self) -> bool:
        """True if the training fixed the scale, so that depth is meant as metres."""
        return self.metric_scale is not None

    @property
    def segments(self) -> bool:
        """True if the model also predicts labels."""
        return "segmentation" in self.method.tasks

    @property
    def unit(self) -> str:
        """The unit of the depth in words, for a person: "metres", or what to know before it is used."""
        return unit_of(self.method, self.options)

    @torch.no_grad()
    def forward(self, images: Images, intrinsics: Tensor | None = None) -> Tensor:
        """Depth at the size of the images.

        Args:
            images: a tensor (B, 3, h, w) or (3, h, w), an array (B, h, w, 3) or (h, w, 3), uint8 or float in
                [0, 1]; a PIL image or a path; or a list of these, all of one size.
            intrinsics: (B, 3, 3) pixels of the images, or (3, 3) for all; only some methods need them.

        Returns:
            (B, 1, h, w) on the device of the model, metres if `is_metric`, else up to scale.

        Raises:
            InputError: an input that is not an image, images of different sizes, an incomplete frame set,
                intrinsics that are missing or of another number.
        """
        listed = as_images(images)
        sizes = {tuple(image.shape[-2:]) for image in listed}
        if len(sizes) != 1:
            raise InputError(f"images of one call must have one size (height, width), got {sorted(sizes)}")
        return 1 / enlarge(self.inverse_depth(listed, intrinsics), *sizes.pop())

    def inverse_depth(self, images: Sequence[Tensor], intrinsics: Tensor | None = None) -> Tensor:
        """1 / depth at the network's size.

        Args:
            images: (3, h, w) uint8 each, of any sizes.
            intrinsics: (B, 3, 3) pixels of the images, or (3, 3) for all of them.

        Returns:
            (B, 1, H, W), 1 / metres if `is_metric`, else up to scale.
        """
        return self.predict(images, intrinsics)[0]

    def predict(
        self, images: Sequence[Tensor], intrinsics: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """1 / depth and class scores at the network's size, from one pass.

        Args:
            images, intrinsics: same as for `inverse_depth`.

        Returns:
            1 / depth as of `inverse_depth`, and logits (B, classes, H, W), which are None without
            segmentation.
        """
        return self.predict_batch(self.batch(images, intrinsics))

    @torch.no_grad()
    def predict_batch(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """`predict` of a result of `batch`."""
        prediction = self.method.predict(batch)
        return 1 / (prediction.depths[0] * (self.metric_scale or 1.0)), prediction.logits

    @torch.no_grad()
    def motions(self, network_images: Tensor) -> np.ndarray:
        """Motion between consecutive images.

        Args:
            network_images: (B, 3, H, W) in [0, 1], see `batch`.

        Returns:
            (B - 1, 4, 4) float64 T_later_from_earlier, the translation in the unit of the depth.

        Raises:
            InputError: the model has no pose network for a pair of frames.
        """
        if len(network_images) < 2:
            return np.empty((0, 4, 4))
        found = self.method.predict_pose(network_images[:-1], network_images[1:]).double().cpu().numpy()
        found[:, :3, 3] *= self.metric_scale or 1.0
        return found

    def batch(self, images: Sequence[Tensor], intrinsics: Tensor | None = None) -> Batch:
        """Images and intrinsics at the network's size, as `Method.predict` takes them.

        Args:
            images, intrinsics: same as for `inverse_depth`.

        Raises:
            InputError: an incomplete frame set, or another number of intrinsics than of images.
        """
        if len(images) % self.cameras:
            raise InputError(
                f"this model predicts {self.cameras} cameras of one frame set together, in ring order: give "
                f"{self.cameras} images or a multiple, got {len(images)}"
            )
        size = self.height, self.width
        K = intrinsics
        if K is not None:
            K = torch.as_tensor(K).cpu()
            K = K.expand(len(images), 3, 3) if K.shape == (3, 3) else K
            if K.shape != (len(images), 3, 3):
                raise InputError(f"intrinsics are (3, 3) or ({len(images)}, 3, 3) here, got {tuple(K.shape)}")
            followed = [resize_intrinsics(k, p.shape[-2:], size) for k, p in zip(K.numpy(), images)]
            K = torch.from_numpy(np.stack(followed)).float()
        resized = torch.stack([resize_image(image, *size, self.resize) for image in images])
        samples = torch.arange(len(images) // self.cameras)
        batch = Batch({0: resized}, K, samples, cameras=self.cameras)
        return batch.to(next(self.method.parameters()).device)


def load_predictor(path: str | Path, device: str = "auto", which: str = "best", **options: Any) -> Predictor:
    """A predictor from a run folder, a checkpoint file or a published checkpoint.

    Args:
        path: run folder, file or published folder.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:1`, ...
        which: checkpoint of a run folder, `best` or `last`.
        options: height or width, which win over the checkpoint's.

    Raises:
        InputError: no known checkpoint at `path`, or no such device.
    """
    method, trained = load_method(path, pick_device(device), which)
    return Predictor(method, {**trained, **options})


def set_decode_range(method: nn.Module, min_depth: float | None, max_depth: float | None) -> None:
    """Replace the depths at disparity 1 and 0, which some published checkpoints do not record.

    Raises:
        InputError: the model has no decode range.
    """
    if not (hasattr(method, "min_depth") and hasattr(method, "max_depth")):
        raise InputError("--min_depth and --max_depth are a model's decode range; this one has none")
    method.min_depth, method.max_depth = min_depth or method.min_depth, max_depth or method.max_depth


def enlarge(inverse_depth: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, H, W) to (B, 1, height, width), bilinear."""
    return F.interpolate(inverse_depth, (height, width), mode="bilinear", align_corners=False)


# ---------------------------------------------------------------------------------------------- images


def as_images(images: Images) -> list[Tensor]:
    """Any input of `Predictor` as a list of (3, h, w) uint8 on the CPU.

    Raises:
        InputError: an input that is not an image, with its type, shape or range.
    """
    if isinstance(images, (list, tuple)):
        return [image for item in images for image in as_images(item)]
    if isinstance(images, (str, os.PathLike)):
        return [read_image(images)]
    if isinstance(images, Image.Image):
        images = as_rgb(images)
    if isinstance(images, np.ndarray):
        if images.ndim not in (3, 4) or images.shape[-1] != 3:
            raise InputError(f"an array of images is (h, w, 3) or (B, h, w, 3) RGB, got {images.shape}")
        images = torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, -3)
    if not isinstance(images, Tensor):
        raise InputError(f"expected images, got {type(images).__name__}")
    if images.ndim not in (3, 4) or images.shape[-3] != 3:
        raise InputError(f"a tensor of images is (3, h, w) or (B, 3, h, w), got {tuple(images.shape)}")
    images = images.detach().cpu()
    if images.is_floating_point():
        low, high = images.min().item(), images.max().item()
        if not (low >= 0 and high <= 1):  # true for nan as well
            raise InputError(f"images are uint8, or float in [0, 1]; got {low:g} to {high:g}")
        images = images.mul(255).round().byte()
    if images.dtype != torch.uint8:
        raise InputError(f"images are uint8, or float in [0, 1]; got {images.dtype}")
    return list(images if images.ndim == 4 else images[None])


def find_images(paths: str | Sequence[str], ext: str | None = None) -> list[Path]:
    """The images of files, folders and patterns, each once; those of a folder in natural order.

    Of a folder, a frame in two formats is read once, as in training. Outputs of earlier predictions are left
    out of folders, but not if a path names the file itself.

    Args:
        paths: files, folders and patterns.
        ext: take only images with this ending; None takes every format.

    Raises:
        InputError: a path does not exist, or there is no image in it.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: dict[Path, None] = {}
    for path in paths:
        files = _images_at(Path(path).expanduser())
        if len(paths) > 1 or files != [Path(path).expanduser()]:
            files = [file for file in files if not is_own_output(file)]
        if not files:
            kinds = ", ".join(sorted(IMAGES))
            raise InputError(f"there is no image at {path} ({kinds}; a folder, a file or a pattern)")
        found.update(dict.fromkeys(_of_format(files, ext, path)))
    return list(found)


def _of_format(files: list[Path], ext: str | None, path: str) -> list[Path]:
    """The files with this ending; without one all files, but those of a folder once for each frame."""
    if ext is not None:
        ending = f".{ext.lower().removeprefix('.')}"
        if of_ending := [file for file in files if file.suffix.lower() == ending]:
            return of_ending
        raise InputError(f"there is no {ending} at {path}; leave --ext out to take all images")
    if not Path(path).expanduser().is_dir():
        return files
    once = set(one_per_name(file.name for file in files))
    if len(once) < len(files):
        notice(
            f"{len(files) - len(once)} images in {path} are left out, since the same frame is there in "
            "another format; a pattern such as '*.png' selects one"
        )
    return [file for file in files if file.name in once]


def _images_at(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = path.iterdir() if path.is_dir() else map(Path, glob.glob(str(path), recursive=True))
    images = [p for p in files if p.suffix.lower() in IMAGES and not p.is_dir() and p.name[0] != "."]
    return sorted(images, key=lambda image: natural_key(str(image)))
