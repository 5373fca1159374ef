"""A trained model as it is used: images of any size in, depth of the same size out.

    images (h, w)  ->  network size (H, W)  ->  1 / depth (H, W)  ->  enlarged to (h, w)  ->  depth

The inverse is what is enlarged, since it is what the networks predict and is linear on every plane.
`test_simple.py`, `test_video.py` and `hubconf.py` are this class with files around it.

Depth is in metres where the model learned from stereo pairs, whose baseline it knows, or from a rig of
cameras by terms that know its size; learned from video alone, it is known up to one factor.
"""

from __future__ import annotations

import argparse
import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageOps
from torch import Tensor, nn

from datasets.image_files import IMAGES, as_rgb, natural_key, read_image
from datasets.own_output import is_own_output
from datasets.resizing import check_size, resize_image, resize_intrinsics
from devices import pick_device
from methods import load_method
from utils import PROJECT, InputError, nearest_name

KITTI_BASELINE = 0.54  # metres between the colour cameras
PUBLISHED_BASELINE = 0.1  # what Monodepth2 calls it in training: depths are metres / 5.4
MODELS = "models"  # folder of published checkpoints, for --model_name

Images = Tensor | np.ndarray | Image.Image | str | os.PathLike | Sequence


class Predictor(nn.Module):
    """Depth of images of any size.

        depth = predictor(image)  # a path, PIL image, array or tensor, or a list: (B, 1, h, w)

    A model of a rig sees all cameras of a frame set together: its images come as whole frame sets, in ring
    order (`datasets/surround.py`), with their intrinsics where its depth follows the lens.

    Args:
        method: a trained Method.
        options: of its training.

    Attributes:
        height, width: the network's size, pixels.
        metres: in one unit of the network's depth, and multiplied in; None where depth is known up to one
            factor only.
        unit: the same in words.
        cameras: how many it looks at together.
        options: of the training.

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
        if trained_with_stereo(options):
            self.metres = stereo_scale(options)
        else:
            self.metres = 1.0 if getattr(method, "metric", False) else None
        self.unit = "metres" if self.metres else "up to one factor (learned from video alone)"
        self.eval()

    @property
    def is_metric(self) -> bool:
        """True if the training fixed the scale, so that depth is meant as metres."""
        return self.metres is not None

    @torch.no_grad()
    def forward(self, images: Images, intrinsics: Tensor | None = None) -> Tensor:
        """Depth at the size of the images.

        Args:
            images: a tensor (B, 3, h, w) or (3, h, w), an array (B, h, w, 3) or (h, w, 3), uint8 or float in
                [0, 1]; a PIL image or a path; or a list of these, all of one size.
            intrinsics: (B, 3, 3) pixels of the images, or (3, 3) of all, for the methods that need them.

        Returns:
            (B, 1, h, w), see `unit`, on the device of the model.

        Raises:
            InputError: what is no image, images of differing sizes, half a frame set of a rig, or
                intrinsics that are missing or too few.
        """
        listed = as_images(images)
        sizes = {tuple(image.shape[-2:]) for image in listed}
        if len(sizes) != 1:
            raise InputError(f"images of one call must have one size (height, width), got {sorted(sizes)}")
        return 1 / enlarge(self.inverse_depth(listed, intrinsics), *sizes.pop())

    @torch.no_grad()
    def inverse_depth(self, images: Sequence[Tensor], intrinsics: Tensor | None = None) -> Tensor:
        """1 / depth at the network's size.

        Args:
            images: (3, h, w) uint8 each, of any sizes.
            intrinsics: (B, 3, 3) pixels of the images, or (3, 3) of all.

        Returns:
            (B, 1, H, W), 1 / `unit`.
        """
        if len(images) % self.cameras:
            raise InputError(
                f"this model looks at {self.cameras} cameras of one frame set together, in ring order: give "
                f"{self.cameras} images or a multiple, got {len(images)}"
            )
        device = next(self.method.parameters()).device
        resized = [resize_image(image, self.height, self.width, self.resize) for image in images]
        if intrinsics is not None:
            K = torch.as_tensor(intrinsics).cpu()
            K = K.expand(len(images), 3, 3) if K.shape == (3, 3) else K
            if K.shape != (len(images), 3, 3):
                raise InputError(f"intrinsics are (3, 3) or ({len(images)}, 3, 3) here, got {tuple(K.shape)}")
            size = (self.height, self.width)
            followed = [resize_intrinsics(k, p.shape[-2:], size) for k, p in zip(K.numpy(), images)]
            intrinsics = torch.from_numpy(np.stack(followed)).float().to(device)
        inputs = torch.stack(resized).to(device).float().div_(255)
        return 1 / (self.method.predict_depth(inputs, intrinsics) * (self.metres or 1.0))


def load_predictor(path: str | Path, device: str = "auto", which: str = "best", **options: Any) -> Predictor:
    """A predictor from a run folder, a checkpoint file or a published checkpoint.

    Args:
        path: where it lies.
        device: `auto` (the GPU where there is one), `cpu`, `cuda`, `cuda:1`, ...
        which: of a run folder, `best` or `last`.
        options: height or width that win over the checkpoint's.

    Raises:
        InputError: nothing known lies there, or no such device is here.
    """
    method, trained = load_method(path, pick_device(device), which)
    return Predictor(method, {**trained, **options})


def enlarge(inverse_depth: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, H, W) to (B, 1, height, width), bilinear."""
    return F.interpolate(inverse_depth, (height, width), mode="bilinear", align_corners=False)


# ---------------------------------------------------------------------------------------------- images


def as_images(images: Images) -> list[Tensor]:
    """Whatever `Predictor` takes, as a list of (3, h, w) uint8 on the CPU.

    Raises:
        InputError: what is no image, and what it was.
    """
    if isinstance(images, (list, tuple)):
        return [image for item in images for image in as_images(item)]
    if isinstance(images, (str, os.PathLike)):
        return [read_upright(images)]
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
        if not (low >= 0 and high <= 1):  # also where something is not a number
            raise InputError(f"images are uint8, or float in [0, 1]; got {low:g} to {high:g}")
        images = images.mul(255).round().byte()
    if images.dtype != torch.uint8:
        raise InputError(f"images are uint8, or float in [0, 1]; got {images.dtype}")
    return list(images if images.ndim == 4 else images[None])


def read_upright(path: str | Path) -> Tensor:
    """An image as (3, h, w) uint8 RGB, turned as its EXIF entry says: telephones store them lying.

    Raises:
        InputError: missing, truncated or no image.
    """
    image = read_image(path)
    with Image.open(path) as opened:
        if opened.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image
        return as_rgb(ImageOps.exif_transpose(opened))


def find_images(places: str | Sequence[str]) -> list[Path]:
    """The images that files, folders and patterns name, each once, a folder's in natural order.

    What earlier predictions left beside the images is not among them; a file named alone is.

    Raises:
        InputError: a place is not there, or there is no image in it.
    """
    places = [places] if isinstance(places, (str, Path)) else list(places)
    found: dict[Path, None] = {}
    for place in places:
        files = _images_at(Path(place).expanduser())
        if len(places) > 1 or files != [Path(place).expanduser()]:
            files = [path for path in files if not is_own_output(path)]
        if not files:
            kinds = ", ".join(sorted(IMAGES))
            raise InputError(f"there is no image at {place} ({kinds}; a folder, a file or a pattern)")
        found.update(dict.fromkeys(files))
    return list(found)


def _images_at(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    files = place.iterdir() if place.is_dir() else map(Path, glob.glob(str(place), recursive=True))
    images = [p for p in files if p.suffix.lower() in IMAGES and p.is_file() and p.name[0] != "."]
    return sorted(images, key=lambda path: natural_key(str(path)))


# ------------------------------------------------------------------------------------------ command line


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that say which model predicts and where; those of evaluate_depth.py."""
    group = parser.add_argument_group("the model, one of")
    group.add_argument("--run", metavar="FOLDER", help="a run folder of ours")
    group.add_argument(
        "--load_weights_folder", metavar="FOLDER", help="a published checkpoint folder, or a run"
    )
    group.add_argument("--pretrained_path", metavar="FILE", help="a checkpoint of a single file")
    group.add_argument("--model_name", metavar="NAME", help=f"a published checkpoint folder in {MODELS}/")

    group = parser.add_argument_group("how it predicts")
    group.add_argument("--checkpoint", default="best", choices=("best", "last"), help="of a run")
    group.add_argument("--height", type=int, metavar="PIXELS", help="network input; else the checkpoint's")
    group.add_argument("--width", type=int, metavar="PIXELS", help="network input; else the checkpoint's")
    for name in ("--backbone", "--num_layers"):
        group.add_argument(name, help="accepted and not needed: the checkpoint tells")
    group.add_argument("--min_depth", type=float, metavar="M", help="depth at disparity 1, where not saved")
    group.add_argument("--max_depth", type=float, metavar="M", help="depth at disparity 0, where not saved")

    group = parser.add_argument_group("machine")
    group.add_argument("--batch_size", type=int, default=4, help="images predicted at a time")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    group.add_argument("--no_cuda", action="store_true", help="the published way to write --device cpu")


def check_model_arguments(args: argparse.Namespace) -> Path:
    """The one model that the flags name.

    Raises:
        InputError: none, several, an unknown name, or a batch of nothing.
    """
    flags = ("run", "load_weights_folder", "pretrained_path", "model_name")
    given = [f"--{flag}" for flag in flags if getattr(args, flag)]
    if not given:
        raise InputError(f"no model was given: add one of {', '.join(f'--{flag}' for flag in flags)}")
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} name two models; give one")
    if args.batch_size < 1:
        raise InputError(f"--batch_size must be 1 or more, got {args.batch_size}")
    if args.model_name:
        return _named_model(args.model_name)
    return Path(args.run or args.load_weights_folder or args.pretrained_path)


def open_predictor(args: argparse.Namespace) -> Predictor:
    """The model that the flags of `add_model_arguments` name, ready to predict."""
    path = check_model_arguments(args)
    size = {name: getattr(args, name) for name in ("height", "width") if getattr(args, name)}
    predictor = load_predictor(path, "cpu" if args.no_cuda else args.device, args.checkpoint, **size)
    if args.min_depth or args.max_depth:
        set_decode_range(predictor.method, args.min_depth, args.max_depth)
    return predictor


def _named_model(name: str) -> Path:
    """models/<name> where the command is run, or in the project."""
    roots = [Path(MODELS), PROJECT / MODELS]
    for root in roots:
        if (root / name).exists():
            return root / name
    names: Iterable[str] = (item.name for root in roots if root.is_dir() for item in root.iterdir())
    raise InputError(
        f"there is no {MODELS}/{name}{nearest_name(name, set(names))}; unpack the published checkpoint "
        "there, or name its folder with --load_weights_folder"
    )


# ------------------------------------------------------------------------------------- the scale of a model


def trained_on(options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings of the dataset a model was trained on; KITTI where nothing says so."""
    section = options.get("dataset") or "kitti"
    if isinstance(section, str):
        return section, {}
    return section.get("name", "kitti"), {key: value for key, value in section.items() if key != "name"}


def set_decode_range(method: nn.Module | None, min_depth: float | None, max_depth: float | None) -> None:
    """Replace the depths at disparity 1 and 0, which some published checkpoints do not record."""
    if not (hasattr(method, "min_depth") and hasattr(method, "max_depth")):
        raise InputError("--min_depth and --max_depth are a model's decode range; this one has none")
    method.min_depth, method.max_depth = min_depth or method.min_depth, max_depth or method.max_depth


def stereo_scale(options: Mapping[str, Any]) -> float:
    """Metres in one unit of a stereo-trained model's depth: 5.4 where KITTI's 0.54 m were called 0.1."""
    name, settings = trained_on(options)
    if name.startswith("kitti"):
        return KITTI_BASELINE / settings.get("baseline", PUBLISHED_BASELINE)
    return 1.0


def trained_with_stereo(options: Mapping[str, Any]) -> bool:
    """Whether stereo pairs were among what it learned from, so that its depth has one known scale."""
    return bool(options.get("use_stereo")) or "s" in options.get("frame_ids", ())
