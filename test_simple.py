"""Depth of pictures: an image, a folder or a pattern.

    python test_simple.py --image_path street.jpg --run runs/monodepth2_kitti
    python test_simple.py --image_path "drive/*/*.jpg" --load_weights_folder mono_640x192 --output depth --ply

For every picture, of whatever size, at that same size (h, w):

    <stem>_disp.png    in colours: near is bright, dark is the farthest, bright from the 95th percentile on
    <stem>_depth.npy   --save_npy: (h, w) float32, depth along the optical axis
    <stem>_disp.npy    --save_npy: (h, w) float32, 1 / depth, which is called scaled disparity
    <stem>.ply         --ply: coloured points, x right, y down, z forward

They lie beside the picture, or in --output. Depth is in metres where the model learned from stereo pairs,
else up to one factor; the last line says which. The published arrays are (1, 1, H, W) at the network's size,
and in units of 5.4 m for models that learned from stereo pairs: ours fit the picture and are metres.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor
from tqdm import tqdm

from datasets.folder import INTRINSICS_FILES, parse_intrinsics
from pictures import PICTURE_FORMATS, check_format, colourise, point_cloud, save_picture, write_ply, writing
from predictor import (
    add_model_arguments,
    check_model_arguments,
    enlarge,
    find_pictures,
    open_predictor,
    read_upright,
)
from utils import InputError, run_main

ASSUMED_ANGLE = 60.0  # degrees from left to right, of a camera whose intrinsics nobody gave


class Read(NamedTuple):
    """A picture on its way: (3, h, w) uint8, its (3, 3) intrinsics in pixels where points are wanted."""

    output: Path
    picture: Tensor
    intrinsics: np.ndarray | None
    assumed: bool  # the intrinsics are those of an ordinary camera


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Pictures that cannot be read are listed at the end, with exit status 1."""
    args = build_parser().parse_args(argv)
    check_arguments(args)
    outputs = name_outputs(find_pictures(args.image_path), args.output)
    predictor = open_predictor(args)
    if args.pred_metric_depth and predictor.metres is None:
        raise InputError(
            "--pred_metric_depth needs a model that knows metres, one trained on stereo pairs; "
            "this one learned from video alone, so its depth is known up to one factor"
        )
    failed: list[InputError] = []
    assumed = 0
    remaining = iter(outputs)
    with tqdm(total=len(outputs), unit="picture", disable=len(outputs) == 1) as bar:
        while paths := list(itertools.islice(remaining, args.batch_size)):
            batch = []
            for path in paths:
                try:
                    batch.append(read(path, outputs[path], args))
                except InputError as error:
                    failed.append(error)
            if batch:
                inverse_depths = predictor.inverse_depth([item.picture for item in batch])
                for item, inverse_depth in zip(batch, inverse_depths):
                    write_outputs(item, inverse_depth, predictor.unit, args)
                    assumed += item.assumed
            bar.update(len(paths))
    if assumed:
        print(
            f"no --intrinsics, and no {INTRINSICS_FILES[0]} beside {assumed} of the pictures: their points "
            f"assume a camera that sees {ASSUMED_ANGLE:g} degrees from left to right"
        )
    if len(failed) < len(outputs):
        print(f"{summary(outputs, len(failed), args)}; depth is {in_words(predictor.unit)}")
    if failed:
        print(
            f"{len(failed)} of {len(outputs)} pictures were left out:", *failed, sep="\n  ", file=sys.stderr
        )
        raise SystemExit(1)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before anything is read."""
    check_model_arguments(args)
    check_format(args.ext, list(PICTURE_FORMATS))
    if args.intrinsics:
        parse_intrinsics(args.intrinsics, "--intrinsics")
        if not args.ply:
            raise InputError("--intrinsics are for the points of --ply; add it, or leave them out")


def name_outputs(pictures: Sequence[Path], output: str | Path | None = None) -> dict[Path, Path]:
    """Picture → its outputs' path without ending: beside it, or in the same tree below `output`.

    Pictures that differ in their ending alone keep it: left.png and left.jpg become left.png_disp.png and
    left.jpg_disp.png.
    """
    common = os.path.commonpath([path.absolute().parent for path in pictures])
    stems = collections.Counter(path.with_suffix("") for path in pictures)
    outputs = {}
    for path in pictures:
        name = path.stem if stems[path.with_suffix("")] == 1 else path.name
        folder = path.parent if output is None else Path(output) / path.absolute().parent.relative_to(common)
        outputs[path] = folder / name
    return outputs


def read(path: Path, output: Path, args: argparse.Namespace) -> Read:
    """A picture and, where points are wanted, its intrinsics."""
    picture = read_upright(path)
    height, width = picture.shape[-2:]
    intrinsics = known_intrinsics(path, height, width, args.intrinsics) if args.ply else None
    assumed = args.ply and intrinsics is None
    return Read(output, picture, ordinary_intrinsics(height, width) if assumed else intrinsics, assumed)


def known_intrinsics(picture: Path, height: int, width: int, given: str | None = None) -> np.ndarray | None:
    """(3, 3) pixels, as given or from cam.txt beside the picture; None where neither is there.

    Raises:
        InputError: numbers that cannot be the intrinsics of a picture of this size.
    """
    files = [picture.with_name(name) for name in INTRINSICS_FILES]
    file = next((path for path in files if path.is_file()), None)
    if given is None and file is None:
        return None
    source = "--intrinsics" if given is not None else str(file)
    K = parse_intrinsics(given if given is not None else file.read_text(), source)
    if K[0, 0] < 4 or not (0 < K[0, 2] < width and 0 < K[1, 2] < height):
        fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        raise InputError(
            f"{source}: {fx:g} {fy:g} {cx:g} {cy:g} are not the intrinsics of {picture} in pixels, which is "
            f"{width}x{height}"
        )
    return K


def ordinary_intrinsics(height: int, width: int) -> np.ndarray:
    """(3, 3) pixels of a camera that sees ASSUMED_ANGLE from left to right, its axis in the middle."""
    focal = width / 2 / math.tan(math.radians(ASSUMED_ANGLE / 2))
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def write_outputs(item: Read, inverse_depth: Tensor, unit: str, args: argparse.Namespace) -> None:
    """Everything that was asked for of one picture, from (1, H, W) at the network's size."""
    inverse = enlarge(inverse_depth[None], *item.picture.shape[-2:])[0, 0].cpu().numpy()
    depth = 1 / inverse
    save_picture(with_ending(item.output, f"_disp.{args.ext.removeprefix('.')}"), colourise(inverse))
    if args.save_npy or args.pred_metric_depth:
        for name, values in (("depth", depth), ("disp", inverse)):
            with writing(with_ending(item.output, f"_{name}.npy")) as path, open(path, "wb") as file:
                np.save(file, values)
    if args.ply:
        colours = item.picture.permute(1, 2, 0).numpy()
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
    folder = args.output or os.path.commonpath([path.parent for path in outputs.values()]) or "."
    return f"{len(outputs) - failed} pictures: <name>{', <name>'.join(endings)} in {folder}"


def in_words(unit: str) -> str:
    """`unit` after "depth is"."""
    return f"in {unit}" if unit == "metres" else f"known {unit}"


def build_parser() -> argparse.ArgumentParser:
    """Flags keep the names users of Monodepth2 know."""
    parser = argparse.ArgumentParser(
        "test_simple.py", description="Predict the depth of pictures.", allow_abbrev=False
    )
    switch = {"action": "store_true"}

    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--image_path",
        nargs="+",
        required=True,
        metavar="PLACE",
        help="picture, folder of pictures, or pattern in quotes; pictures are found whatever their format",
    )

    group = parser.add_argument_group("what is written")
    group.add_argument("--output", metavar="FOLDER", help="else beside each picture")
    group.add_argument("--ext", default="png", help="of the coloured pictures: png, jpg, ...")
    group.add_argument("--save_npy", **switch, help="depth and 1 / depth as float32 arrays")
    group.add_argument("--ply", **switch, help="a coloured point cloud")
    group.add_argument(
        "--intrinsics",
        metavar='"FX FY CX CY"',
        help="pixels of the picture, for --ply; else cam.txt beside it",
    )
    group.add_argument(
        "--pred_metric_depth", **switch, help="as --save_npy, and insist on metres: refuse a model without"
    )
    add_model_arguments(parser)
    return parser


if __name__ == "__main__":
    run_main(main)
