"""A synthetic world written in the layout of a real dataset; the work of tools/make_synthetic.py."""

from __future__ import annotations

import functools
from pathlib import Path

import cv2
import numpy as np

from datasets.synthetic import View
from files import explained
from progress import Bar
from tools.layouts import LAYOUTS
from tools.layouts._base import Plan, save_image
from utils import InputError, nearest_name
from workers import run_tasks

CAMERAS = ("pinhole", "fisheye")
TRAFFIC = ("usual", "dense", "queues")
SCENES = ("streets", "rooms", "mixed")
CITYSCAPES_COLOURS = np.array(  # RGB of the 19 train ids
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
        nearest = 4 if view.depth.max() > 15 else 1  # metres at the brightest colour: outdoors, indoors
        near = np.where(view.depth > 0, nearest / np.maximum(view.depth, nearest), 0)
        depth = cv2.applyColorMap((near**0.7 * 255).astype(np.uint8), cv2.COLORMAP_MAGMA)[..., ::-1]
        rows.append(np.hstack([view.image, depth, CITYSCAPES_COLOURS[view.semantics]]))
    return np.vstack(rows)


def check(plan: Plan, gallery: Path, overwrite: bool) -> None:
    """Check that the plan can be written, before anything is rendered.

    Raises:
        InputError: an unknown layout or ending, a size or count out of range, or a folder that is not empty
            or holds ground truth or matches of other images.
    """
    if plan.layout not in LAYOUTS.names():
        raise InputError(f"there is no layout '{plan.layout}'{nearest_name(plan.layout, LAYOUTS.names())}")
    if plan.camera not in CAMERAS:
        raise InputError(f"there is no camera '{plan.camera}'{nearest_name(plan.camera, CAMERAS)}")
    if plan.traffic not in TRAFFIC:
        raise InputError(f"there is no traffic '{plan.traffic}'{nearest_name(plan.traffic, TRAFFIC)}")
    if plan.scenes not in SCENES:
        raise InputError(f"there are no scenes '{plan.scenes}'{nearest_name(plan.scenes, SCENES)}")
    if plan.scenes != "streets" and (plan.layout, plan.camera) != ("folder", "pinhole"):
        raise InputError(f"--scenes {plan.scenes} needs --layout folder and --camera pinhole")
    if plan.camera != "pinhole" and plan.layout != "folder":
        raise InputError(
            f"the layout {plan.layout} is a pinhole's; --layout folder takes --camera {plan.camera}"
        )
    if plan.ext not in ("png", "jpg"):
        raise InputError(f"--ext is png or jpg, got '{plan.ext}'")
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
            raise InputError(f"{made} was made from the images of an earlier world; remove it first")


def write_frame(plan: Plan, frame: tuple[int, int]) -> None:
    """Write one frame, (sequence, number), in the layout of the plan; a worker's task."""
    LAYOUTS.get(plan.layout)(plan).write_frame(*frame)


def write_set(plan: Plan, workers: int = 1, gallery: Path | None = None, overwrite: bool = False) -> None:
    """Write the whole dataset.

    Raises:
        InputError: see `check`; or the folder cannot be written.
    """
    gallery = gallery or plan.out / "gallery.png"
    check(plan, gallery, overwrite)
    layout = LAYOUTS.get(plan.layout)(plan)
    frames = [(sequence, frame) for sequence in range(plan.sequences) for frame in range(plan.frames)]
    with explained(plan.out):
        done = run_tasks(functools.partial(write_frame, plan), frames, workers)
        for _ in Bar(done, f"rendering {plan.layout}", len(frames), unit="frame"):
            pass
        for sequence in range(plan.sequences):
            layout.write_sequence(sequence)
        layout.write_splits()
        views = [layout.gallery_view(sequence) for sequence in range(plan.sequences)]
        save_image(gallery, image_grid(views))
