"""The synthetic world on disk, in the layout of a real dataset, with ground truth and splits beside it.

    python tools/make_synthetic.py --layout kitti --out data/synthetic --sequences 8 --frames 40

One sequence is one world, drawn from `--seed` and its number. Equal commands write equal bytes.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets.synthetic import View
from tools._options import new_parser, place
from tools.layouts import LAYOUTS
from tools.layouts._base import Plan, save_image
from utils import InputError, nearest_name, run_main
from workers import run_tasks, writing

CAMERAS = ("pinhole", "fisheye")
CITYSCAPES_COLOURS = np.array(  # of the 19 train ids
    [
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ],
    np.uint8,
)  # fmt: skip


def image_grid(views: list[View]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: image, inverse depth and semantics of each view, side by side."""
    rows = []
    for view in views:
        nearest = 4 if view.depth.max() > 15 else 1  # metres that are brightest: outdoors or in a room
        near = np.where(view.depth > 0, nearest / np.maximum(view.depth, nearest), 0)
        depth = cv2.applyColorMap((near**0.7 * 255).astype(np.uint8), cv2.COLORMAP_MAGMA)[..., ::-1]
        rows.append(np.hstack([view.image, depth, CITYSCAPES_COLOURS[view.semantics]]))
    return np.vstack(rows)


# The command.


def check(plan: Plan, gallery: Path, overwrite: bool) -> None:
    """Refuse what cannot be written, before the first ray is cast.

    Raises:
        InputError: an unknown layout or ending, a size or count out of range, a folder in use, or one with
            ground truth or matches of other images.
    """
    if plan.layout not in LAYOUTS.names():
        raise InputError(f"there is no layout '{plan.layout}'{nearest_name(plan.layout, LAYOUTS.names())}")
    if plan.ext not in ("png", "jpg"):
        raise InputError(f"--ext is png or jpg, got '{plan.ext}'")
    if plan.camera not in CAMERAS:
        raise InputError(f"there is no camera '{plan.camera}'{nearest_name(plan.camera, CAMERAS)}")
    if plan.camera != "pinhole" and plan.layout != "folder":
        raise InputError(
            f"the layout {plan.layout} is a pinhole's; --layout folder takes --camera {plan.camera}"
        )
    if gallery.suffix not in (".png", ".jpg"):
        raise InputError(f"--gallery is a .png or .jpg file, got {gallery}")
    for name, least in (("sequences", 1), ("frames", 3), ("height", 32), ("width", 32), ("seed", 0)):
        if getattr(plan, name) < least:
            raise InputError(f"--{name} must be at least {least}, got {getattr(plan, name)}")
    if plan.out.exists() and not plan.out.is_dir():
        raise InputError(f"{plan.out} is a file; give a folder with --out")
    if plan.out.is_dir() and any(plan.out.iterdir()) and not overwrite:
        raise InputError(f"{plan.out} is not empty; give another --out, or --overwrite to write into it")
    for made in (plan.out / name for name in ("gt_depths", "matches")):
        if made.is_dir() and any(made.iterdir()):
            raise InputError(f"{made} was made from the images that were there before; remove it first")


def write_frame(plan: Plan, frame: tuple[int, int]) -> None:
    """One frame, by its sequence and number, in the layout of the plan; a worker's task."""
    LAYOUTS.get(plan.layout)(plan).write_frame(*frame)


def make(plan: Plan, workers: int = 1, gallery: Path | None = None, overwrite: bool = False) -> None:
    """Write the whole set.

    Raises:
        InputError: see `check`; or the disk is full or not writable.
    """
    gallery = gallery or plan.out / "gallery.png"
    check(plan, gallery, overwrite)
    layout = LAYOUTS.get(plan.layout)(plan)
    places = [(sequence, frame) for sequence in range(plan.sequences) for frame in range(plan.frames)]
    with writing(plan.out):
        frames = run_tasks(functools.partial(write_frame, plan), places, workers)
        for _ in tqdm(frames, f"rendering {plan.layout}", len(places), unit="frame"):
            pass
        for sequence in range(plan.sequences):
            layout.write_sequence(sequence)
        layout.write_splits()
        views = [layout.gallery_view(sequence) for sequence in range(plan.sequences)]
        save_image(gallery, image_grid(views))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--layout", default="kitti", help=f"one of {', '.join(LAYOUTS.names())} (default: kitti)")
    add("--out", type=place, required=True, help="folder to write; must be new or empty")
    add("--sequences", type=int, default=8, help="worlds to render (default: 8)")
    add("--frames", type=int, default=40, help="frames of each, ten a second (default: 40)")
    add("--height", type=int, default=128, help="of the images, pixels (default: 128)")
    add("--width", type=int, default=416, help="of the images, pixels (default: 416)")
    add("--seed", type=int, default=0, help="which worlds (default: 0)")
    add("--camera", default="pinhole", help="pinhole, or fisheye for --layout folder (default: pinhole)")
    add("--ext", default="png", help="png or jpg (default: png)")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    add("--gallery", type=place, help="image grid of every sequence (default: <out>/gallery.png)")
    add("--overwrite", action="store_true", help="write into a folder that is not empty")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    names = ("layout", "out", "sequences", "frames", "height", "width", "seed", "ext", "camera")
    plan = Plan(**{name: getattr(given, name) for name in names})
    make(plan, given.workers, given.gallery, given.overwrite)
    print(f"wrote {plan.sequences} sequences of {plan.frames} frames to {plan.out}")


if __name__ == "__main__":
    run_main(main)
