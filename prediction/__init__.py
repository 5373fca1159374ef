"""Prediction on files: images, frame sets of a rig, and videos in; depth arrays, images, clouds, videos out.

`test_simple.py` and `test_video.py` are the command lines of this folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import flags
from utils import InputError, nearest_name

PANELS = ("image", "depth", "labels", "overlay")  # of a video's frame, `test_video.py --show`
LABELLED = ("labels", "overlay")  # panels that need segmentation
BRIDGES = ("gaussians", "kitti", "nerfstudio", "supervised", "tum")  # folders, `--bridge`
NEEDS = {"nerfstudio": "poses", "tum": "times"}  # formats that cannot hold an image without
KINDS = ("npz", "png", "rgb", "viz", "labels")  # of further files, `test_simple.py --save`


def add_bridge_flags(group: flags.Flags, factors: str) -> None:
    """`--bridge` and `--depth_factor`; see `check_bridges`.

    Args:
        factors: the default factors in words.
    """
    group.add_argument(
        "--bridge",
        nargs=2,
        action="append",
        default=[],
        metavar=("FORMAT", "FOLDER"),
        help=f"write a folder that other programs read: {', '.join(BRIDGES)} (docs/bridges.md); may be "
        "given several times",
    )
    group.add_argument(
        "--depth_factor",
        type=flags.positive,
        metavar="X",
        help=f"value of 16-bit depth for one unit (default: {factors})",
    )


def check_bridges(bridges: Sequence[Sequence[str]], lacking: Sequence[str] = ()) -> None:
    """Refuse formats that do not exist, and two bridges into one folder.

    Args:
        bridges: format and folder of each.
        lacking: values of `NEEDS` that the input does not have.

    Raises:
        InputError: names the format or the folder.
    """
    folders = [folder for _, folder in bridges]
    for name, folder in bridges:
        if name not in BRIDGES:
            raise InputError(f"--bridge has no format '{name}'{nearest_name(name, BRIDGES)}")
        if (needed := NEEDS.get(name)) in lacking:
            raise InputError(
                f"--bridge {name} holds the {needed} of images, and these have none; give the frames of a "
                f"video to test_video.py: python test_video.py --image_path FRAMES --bridge {name} {folder}"
            )
        if folders.count(folder) > 1:
            raise InputError(f"--bridge writes two formats into {folder}; give each a folder of its own")


def wanted_clouds(args: argparse.Namespace) -> tuple[str, ...]:
    """Endings of the clouds that `--ply` and `--glb` ask for."""
    return tuple(f".{name}" for name in ("ply", "glb") if getattr(args, name))
