"""Depth of images: an image, a folder or a pattern.

    python test_simple.py --image_path street.jpg --run runs/monodepth2_kitti
    python test_simple.py --image_path "drive/*/*.jpg" --load_weights_folder mono_640x192 --output depth --ply

For every image, of whatever size, at that same size (h, w):

    <stem>_disp.png    in colours: near is bright, dark is the farthest, bright from the 95th percentile on
    <stem>_depth.npy   --save_npy: (h, w) float32, depth along the optical axis
    <stem>_disp.npy    --save_npy: (h, w) float32, 1 / depth, which is called scaled disparity
    <stem>.ply         --ply: coloured points, x right, y down, z forward

A sample of a rig of cameras, whose views a model looks at together, comes from its dataset:

    python test_simple.py --run runs/surround_depth_ddad --dataset ddad --data_path D --sample 12 --ply

    <dataset>_<sample>_surround.png   all views in their places round the vehicle, each above its depth
    <dataset>_<sample>.ply            --ply: the points of all cameras, x forward, y left, z up, metres
    <dataset>_<sample>_<camera>...    each camera's images and arrays, as above

They lie beside the image, or in --output; a sample's, in --output or here. Depth is in metres where the
model learned from stereo pairs or from a rig's overlap, else up to scale; the last line says which.
The published arrays are (1, 1, H, W) at the network's size, and in units of 5.4 m for models that learned
from stereo pairs: ours fit the image and are metres.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import flags
from datasets import DATASETS, build_dataset
from datasets.surround import SurroundDataset
from images import (
    IMAGE_FORMATS,
    check_format,
    colourise,
    point_cloud,
    save_image,
    surround_cloud,
    surround_grid,
    write_ply,
    writing,
)
from intrinsics import FILES as INTRINSICS_FILES
from intrinsics import parse_intrinsics
from methods.metric_scale import trained_on
from predictor import Predictor, enlarge, find_images, read_upright
from utils import InputError, data_root, read_text, run_main

ASSUMED_ANGLE = 60.0  # degrees from left to right, of a camera whose intrinsics nobody gave


class Read(NamedTuple):
    """An image on its way: (3, h, w) uint8, its (3, 3) intrinsics in pixels where points are wanted."""

    output: Path
    image: Tensor
    intrinsics: np.ndarray | None
    assumed: bool  # the intrinsics are those of an ordinary camera


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Images that cannot be read are listed at the end, with exit status 1."""
    args = flags.parse(build_parser(), argv)
    check_arguments(args)
    if args.dataset:
        return predict_sample(args)
    outputs = name_outputs(find_images(args.image_path), args.output)
    predictor = flags.open_predictor(args)
    if predictor.cameras > 1:
        raise InputError(
            f"this model looks at {predictor.cameras} cameras of one frame set together: instead of "
            "--image_path give a sample of a dataset, --dataset ddad --data_path FOLDER --sample 0"
        )
    if args.pred_metric_depth and not predictor.is_metric:
        raise InputError(
            "--pred_metric_depth needs a model that knows metres, one trained on stereo pairs or a rig; "
            "this one learned from video alone, so its depth is known up to scale"
        )
    failed: list[InputError] = []
    assumed = 0
    remaining = iter(outputs)
    with tqdm(total=len(outputs), unit="image", disable=len(outputs) == 1) as bar:
        while paths := list(itertools.islice(remaining, args.batch_size)):
            batch = []
            for path in paths:
                try:
                    batch.append(read(path, outputs[path], args))
                except InputError as error:
                    failed.append(error)
            if batch:
                inverse_depths = predictor.inverse_depth([item.image for item in batch])
                for item, inverse_depth in zip(batch, inverse_depths):
                    write_outputs(item, inverse_depth, predictor.unit, args)
                    assumed += item.assumed
            bar.update(len(paths))
    if assumed:
        print(
            f"no --intrinsics, and no {INTRINSICS_FILES[0]} beside {assumed} of the images: their points "
            f"assume a camera that sees {ASSUMED_ANGLE:g} degrees from left to right"
        )
    if len(failed) < len(outputs):
        print(f"{summary(outputs, len(failed), args)}; depth is {in_words(predictor.unit)}")
    if failed:
        print(f"{len(failed)} of {len(outputs)} images were left out:", *failed, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before anything is read."""
    flags.model_path(args)
    if bool(args.image_path) == bool(args.dataset):
        raise InputError("give either images, --image_path, or a sample: --dataset ddad --sample 12")
    if args.dataset and args.intrinsics:
        raise InputError("a dataset's cameras have their own intrinsics; leave --intrinsics out")
    check_format(args.ext, list(IMAGE_FORMATS))
    if args.intrinsics:
        parse_intrinsics(args.intrinsics, "--intrinsics")
        if not args.ply:
            raise InputError("--intrinsics are for the points of --ply; add it, or leave them out")


def name_outputs(images: Sequence[Path], output: str | Path | None = None) -> dict[Path, Path]:
    """Image → its outputs' path without ending: beside it, or in the same tree below `output`.

    Images that differ in their ending alone keep it: left.png and left.jpg become left.png_disp.png and
    left.jpg_disp.png.
    """
    places = {path: Path(os.path.abspath(path.parent)) for path in images}  # without ".."
    common = os.path.commonpath(places.values())
    stems = collections.Counter(places[path] / path.stem for path in images)
    outputs = {}
    for path in images:
        name = path.stem if stems[places[path] / path.stem] == 1 else path.name
        folder = path.parent if output is None else Path(output) / places[path].relative_to(common)
        outputs[path] = folder / name
    return outputs


def read(path: Path, output: Path, args: argparse.Namespace) -> Read:
    """An image and, where points are wanted, its intrinsics."""
    image = read_upright(path)
    height, width = image.shape[-2:]
    intrinsics = known_intrinsics(path, height, width, args.intrinsics) if args.ply else None
    assumed = args.ply and intrinsics is None
    return Read(output, image, ordinary_intrinsics(height, width) if assumed else intrinsics, assumed)


def known_intrinsics(image: Path, height: int, width: int, given: str | None = None) -> np.ndarray | None:
    """(3, 3) pixels, as given or from cam.txt beside the image; None where neither is there.

    Raises:
        InputError: numbers that cannot be the intrinsics of an image of this size.
    """
    files = [image.with_name(name) for name in INTRINSICS_FILES]
    file = next((path for path in files if path.is_file()), None)
    if given is None and file is None:
        return None
    source = "--intrinsics" if given is not None else str(file)
    K = parse_intrinsics(given if given is not None else read_text(file), source)
    if K[0, 0] < 4 or not (0 < K[0, 2] < width and 0 < K[1, 2] < height):
        fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        raise InputError(
            f"{source}: {fx:g} {fy:g} {cx:g} {cy:g} are not the intrinsics of {image} in pixels, which is "
            f"{width}x{height}"
        )
    return K


def ordinary_intrinsics(height: int, width: int) -> np.ndarray:
    """(3, 3) pixels of a camera that sees ASSUMED_ANGLE from left to right, its axis in the middle."""
    focal = width / 2 / math.tan(math.radians(ASSUMED_ANGLE / 2))
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def write_outputs(
    item: Read, inverse_depth: Tensor, unit: str, args: argparse.Namespace, ply: bool = True
) -> None:
    """Everything that was asked for of one image, from (1, H, W) at the network's size."""
    inverse = enlarge(inverse_depth[None], *item.image.shape[-2:])[0, 0].cpu().numpy()
    depth = 1 / inverse
    save_image(with_ending(item.output, f"_disp.{args.ext.removeprefix('.')}"), colourise(inverse))
    if args.save_npy or args.pred_metric_depth:
        for name, values in (("depth", depth), ("disp", inverse)):
            with writing(with_ending(item.output, f"_{name}.npy")) as path, open(path, "wb") as file:
                np.save(file, values)
    if args.ply and ply:
        colours = item.image.permute(1, 2, 0).numpy()
        points, colours = point_cloud(depth, item.intrinsics, colours)
        write_ply(with_ending(item.output, ".ply"), points, colours, unit)


def with_ending(output: Path, ending: str) -> Path:
    """The name gets an ending; what looks like one in it already stays."""
    return output.with_name(output.name + ending)


def summary(outputs: dict[Path, Path], failed: int, args: argparse.Namespace) -> str:
    """What was written, and where."""
    endings = [f"_disp.{args.ext.removeprefix('.')}"]
    endings += ["_depth.npy", "_disp.npy"] if args.save_npy or args.pred_metric_depth else []
    endings += [".ply"] if args.ply else []
    if len(outputs) == 1:
        return "wrote " + ", ".join(str(with_ending(*outputs.values(), ending)) for ending in endings)
    common = Path(os.path.commonpath([os.path.abspath(path.parent) for path in outputs.values()]))
    folder = args.output or (common.relative_to(Path.cwd()) if common.is_relative_to(Path.cwd()) else common)
    return f"{len(outputs) - failed} images: <name>{', <name>'.join(endings)} in {folder}"


# ---------------------------------------------------------------------------------------- a sample of a rig


def predict_sample(args: argparse.Namespace) -> None:
    """All cameras of one frame set: each by itself, one image grid, one cloud."""
    predictor = flags.open_predictor(args)
    if args.pred_metric_depth and not predictor.is_metric:
        raise InputError("--pred_metric_depth needs metres, and this model's depth lacks a factor")
    dataset = open_rig(args, predictor)
    index = find_sample(dataset, args.sample)
    line = dataset.samples[index]
    images = dataset.read_images(line, 0)
    K = [dataset.intrinsics(line, n, *image.shape[-2:]) for n, image in enumerate(images)]
    inverse = predictor.inverse_depth(images, torch.from_numpy(np.stack(K)).float())
    folder = Path(args.output or ".")
    name = args.dataset + "_" + re.sub(r"[^\w.-]+", "_", dataset.name(index))
    depths, shown = [], [image.permute(1, 2, 0).numpy() for image in images]
    for camera, (image, part) in enumerate(zip(images, inverse)):
        output = folder / f"{name}_{dataset.camera_names[camera]}"
        depths.append(1 / enlarge(part[None], *image.shape[-2:])[0, 0].cpu().numpy())
        write_outputs(Read(output, image, K[camera], False), part, predictor.unit, args, ply=False)
    image_grid = folder / f"{name}_surround.png"
    save_image(image_grid, surround_grid(shown, depths, dataset.camera_names))
    written, words = [image_grid], in_words(predictor.unit)
    if args.ply:
        factor, how = (1.0, "") if predictor.is_metric else factor_of(dataset, index, depths)
        cloud = folder / f"{name}.ply"
        rig = dataset.rig_from_camera(line)
        ego_masks = full_size_ego_masks(dataset, line, images)
        points, colours = surround_cloud([factor * depth for depth in depths], K, shown, rig, ego_masks)
        write_ply(cloud, points, colours, "metres" + how, axes="x forward, y left, z up")
        written.append(cloud)
        words += f"; the points are in metres{how}"
    print(f"wrote {', '.join(map(str, written))} and each camera's in {folder}; depth is {words}")


def open_rig(args: argparse.Namespace, predictor: Predictor) -> SurroundDataset:
    """The dataset of `--dataset`, at the network's size, with the cameras that the model was trained on.

    Raises:
        InputError: it has one camera, or not those that the model looks at together.
    """
    found = DATASETS.get(args.dataset)
    if not issubclass(found, SurroundDataset):
        raise InputError(f"{args.dataset} has one camera; give its images with --image_path")
    sizes = {"height": predictor.height, "width": predictor.width, "resize": predictor.resize}
    part = {"part": args.part} if args.part else {"part": "val"}
    places = {"data_path": args.data_path or data_root() / args.dataset, "split": args.split}
    trained_name, settings = trained_on(predictor.options)
    kept = ["index", "version"] if trained_name == args.dataset else []
    with_masks = args.ply and trained_name == args.dataset and settings.get("masks")
    kept += ["camera_names"] if predictor.cameras > 1 else []  # a model of one camera takes any
    section = {"name": args.dataset, **{key: settings[key] for key in kept if key in settings}}
    if with_masks:  # only the cloud uses them, so they may be missing
        section["masks"] = "auto" if with_masks is True else with_masks
    dataset = build_dataset({**sizes, **places, "dataset": section}, frame_ids=(0,), **part)
    if dataset.cameras % predictor.cameras:
        raise InputError(
            f"this model looks at {predictor.cameras} cameras of one frame set together, and "
            f"{args.dataset} has {dataset.cameras}"
        )
    return dataset


def find_sample(dataset: SurroundDataset, wanted: str) -> int:
    """A sample by its number from 0 on, or by the end of its name.

    Raises:
        InputError: there is none, or several end so.
    """
    if wanted.isdigit() and int(wanted) < len(dataset):
        return int(wanted)
    found = [index for index in range(len(dataset)) if dataset.name(index).endswith(wanted)]
    if len(found) != 1:
        how = f"{len(found)} samples end with" if found else "there is no sample"
        raise InputError(
            f"{how} '{wanted}'; give a number from 0 to {len(dataset) - 1} or a name: {dataset.name(0)}"
        )
    return found[0]


def factor_of(dataset: SurroundDataset, index: int, depths: Sequence[np.ndarray]) -> tuple[float, str]:
    """Metres in one unit of a depth that lacks a factor, one for all cameras, and where it is from.

    Raises:
        InputError: the sample has no ground truth to take it from.
    """
    ground_truth = dataset.depth(index)
    if ground_truth is None or not (ground_truth > 0).any():
        raise InputError(
            "this model's depth lacks a factor and the sample has no ground truth to take it from, so the "
            "cameras' points cannot be put together; leave --ply out"
        )
    places = [known > 0 for known in ground_truth]
    known = np.concatenate([depth[place] for depth, place in zip(ground_truth, places)])
    found = np.concatenate([depth[place] for depth, place in zip(depths, places)])
    return float(np.median(known) / np.median(found)), ", by the median of the sample's ground truth"


def full_size_ego_masks(
    dataset: SurroundDataset, line: object, images: Sequence[Tensor]
) -> list[np.ndarray] | None:
    """(h, w) bool of each camera, True where it sees its own vehicle; None without ego masks."""
    ego_mask = dataset.maps(line).get("ego_mask")
    if ego_mask is None:
        return None
    sizes = [image.shape[-2:] for image in images]
    return [F.interpolate(m[None].float(), size)[0, 0].numpy() > 0 for m, size in zip(ego_mask, sizes)]


def in_words(unit: str) -> str:
    """`unit` after "depth is"."""
    return f"in {unit}" if unit == "metres" else f"known {unit}" if unit.startswith("up to") else unit


def build_parser() -> argparse.ArgumentParser:
    """Flags keep the names users of Monodepth2 know."""
    parser = flags.new_parser("test_simple.py", "Predict the depth of images.")
    switch = {"action": "store_true"}

    group = parser.add_argument_group("images")
    group.add_argument(
        "--image_path",
        nargs="+",
        metavar="PLACE",
        help="image, folder of images, or pattern in quotes; images are found whatever their format",
    )

    group = parser.add_argument_group("or a sample of a rig of cameras")
    group.add_argument("--dataset", metavar="NAME", help="ddad, nuscenes")
    group.add_argument(
        "--data_path",
        type=os.path.expanduser,
        metavar="FOLDER",
        help="else as in training: data/<dataset>, ...",
    )
    group.add_argument("--split", type=os.path.expanduser, help="else the dataset's own")
    group.add_argument("--part", help="train, val or test; else val")
    group.add_argument("--sample", default="0", metavar="N", help="its number, or the end of its name")

    group = parser.add_argument_group("what is written")
    group.add_argument("--output", type=os.path.expanduser, metavar="FOLDER", help="else beside each image")
    group.add_argument("--ext", default="png", help="of the coloured images: png, jpg, ...")
    group.add_argument("--save_npy", **switch, help="depth and 1 / depth as float32 arrays")
    group.add_argument("--ply", **switch, help="a coloured point cloud")
    group.add_argument(
        "--intrinsics",
        metavar='"FX FY CX CY"',
        help="pixels of the image, for --ply; else cam.txt beside it",
    )
    group.add_argument(
        "--pred_metric_depth", **switch, help="as --save_npy, and insist on metres: refuse a model without"
    )
    flags.add_model_flags(parser)
    group = parser.add_argument_group("machine")
    flags.add_loading_flags(group, batch_size=4, workers=False)
    flags.add_device_flags(group)
    return parser


if __name__ == "__main__":
    run_main(main)
