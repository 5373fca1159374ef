"""Ego masks of a dataset's recordings: which to make, from which images; the work of tools/make_masks.py."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from datasets import DATASETS
from datasets._derived import MASK_ORIGIN, mask_origin
from datasets.image_files import read_image
from datasets.surround import SurroundDataset
from files import writing
from provenance import difference, origin
from tools._ego_mask import OUTLINE, find_ego_mask
from tools._options import open_dataset
from utils import InputError

VERSION = 1  # of the algorithm
MOVED = 3.0  # grey levels: least change of the upper quarter of the pixels between two frames that are used


@dataclass(frozen=True)
class Task:
    """One camera of one or several recordings: its images in order, and the masks to write.

    Attributes:
        camera: its name.
        recordings: image paths of each recording, in time.
        masks: the files to write.
        root: folder that the origin's paths are relative to.
        settings: settings of the origin; `width`, `frames` and `min_frames` are flags of the tool.
    """

    camera: str
    recordings: tuple[tuple[Path, ...], ...]
    masks: tuple[Path, ...]
    root: Path
    settings: dict[str, Any]


def settings_of(given: argparse.Namespace) -> dict[str, Any]:
    """Settings that a mask depends on, in addition to its images."""
    flags = {name: getattr(given, name) for name in ("pool", "width", "frames", "min_frames")}
    return {"tool": "make_masks", "version": VERSION, **flags}


def open_rig(given: argparse.Namespace, part: str) -> SurroundDataset:
    """The dataset of a rig, one image per camera.

    Raises:
        InputError: the dataset has one camera, or refuses a setting.
    """
    if not issubclass(DATASETS.get(given.dataset), SurroundDataset):
        raise InputError(f"{given.dataset} is not a rig of cameras; use --dataset ddad or --dataset nuscenes")
    masks = given.dataset_settings.get("masks", True)
    # Opened without `masks`, which would require the masks that are to be made.
    others = {key: value for key, value in given.dataset_settings.items() if key != "masks"}
    given = argparse.Namespace(**{**vars(given), "dataset_settings": others})
    dataset = open_dataset(given, part=part)
    if isinstance(masks, str):
        dataset.mask_folders = [Path(masks)]
    return dataset


def find_tasks(dataset: SurroundDataset, given: argparse.Namespace) -> tuple[list[Task], list[Path]]:
    """This process's share of the masks to make, and the masks of its share that exist and are kept."""
    images: dict[tuple[int, Path], list[Path]] = defaultdict(list)
    groups: dict[tuple[int, bytes | Path], list[Path]] = defaultdict(list)
    for line in dataset.samples:
        for camera, image in enumerate(dataset.paths(line, 0)):
            mask = dataset.mask_path(line, camera)
            if (camera, mask) not in images:
                groups[camera, _calibration(dataset, line, camera) if given.pool else mask].append(mask)
            images[camera, mask].append(image)
    tasks, kept = [], []
    which, shards = given.shard
    for (camera, _), masks in list(groups.items())[which - 1 :: shards]:
        wanted = tuple(mask for mask in masks if given.overwrite or not mask.is_file())
        kept += [mask for mask in masks if mask not in wanted]
        if wanted:
            chosen = masks[:: max(1, len(masks) // 12)]  # a dozen recordings of a pool are enough
            recordings = tuple(tuple(images[camera, mask]) for mask in chosen)
            name = dataset.camera_names[camera]
            tasks.append(Task(name, recordings, wanted, dataset.data_path, settings_of(given)))
    return tasks, kept


def _calibration(dataset: SurroundDataset, line: object, camera: int) -> bytes:
    """Extrinsics and intrinsics as a key, rounded to a millimetre and a tenth of a pixel."""
    extrinsics = dataset.rig_from_camera(line)[camera][:3]
    K = dataset.intrinsics(line, camera, *dataset.image_size(line, camera))
    return np.concatenate([extrinsics.ravel().round(3), K.ravel().round(1)]).tobytes()


def make(task: Task) -> tuple[int, str]:
    """Find one camera's ego mask and write it; a worker's task.

    Returns:
        The number of masks written, and why none was, as when the vehicle stands still in the recording.

    Raises:
        InputError: an image cannot be read.
    """
    width, most, least = (task.settings[name] for name in ("width", "frames", "min_frames"))
    share = max(3, most // len(task.recordings))
    frames, sources, size = [], [], None
    for recording in task.recordings:
        chosen = evenly(recording, share)
        sources += chosen
        moving, size = read_moving(chosen, width)
        frames += moving
    if len(frames) < least:
        where = f"{task.camera}, {task.recordings[0][0].parent}"
        return 0, (
            f"{where}: {len(frames)} frames differ from those before, fewer than --min_frames "
            f"{least}; --pool takes all recordings of one calibration"
        )
    own = find_ego_mask(np.stack(frames), outlines=len(task.recordings) >= OUTLINE[0])
    # Enlarged bilinearly and cut at 0.5: the outline of the small image without steps.
    full = cv2.resize(own.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
    made = origin(sources, task.root, **task.settings)
    for path in task.masks:
        save_mask(path, full, made)
        with writing(path.with_name(f"{path.stem}.overlay.jpg")) as temporary:
            cv2.imencode(".jpg", overlay(frames[-1], own))[1].tofile(temporary)
    return len(task.masks), ""


def evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """At most `most` of the paths, evenly spread, both ends included."""
    return [
        paths[n] for n in np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int))
    ]


def read_moving(paths: Sequence[Path], width: int) -> tuple[list[np.ndarray], tuple[int, int]]:
    """The images that differ from the one before.

    Returns:
        (h, w, 3) uint8 RGB each, w at most `width`; and (width, height) on disk.
    """
    frames: list[np.ndarray] = []
    for path in paths:
        image = read_image(path).permute(1, 2, 0).numpy()
        size = image.shape[1], image.shape[0]
        if size[0] > width:
            small = width, round(size[1] * width / size[0])
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        if not frames or np.percentile(cv2.absdiff(image, frames[-1]), 75) > MOVED:
            frames.append(np.ascontiguousarray(image))
    return frames, size


def overlay(image: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR: the image with the vehicle in red."""
    shown = image[..., ::-1].copy()
    shown[own] = (0.5 * shown[own] + (0, 0, 127)).astype(np.uint8)
    return shown


def save_mask(path: Path, own: np.ndarray, made: dict[str, Any]) -> None:
    """Write (H, W) bool as a PNG, white where the vehicle is, with its origin as a text chunk."""
    text = PngImagePlugin.PngInfo()
    text.add_text(MASK_ORIGIN, json.dumps(made))
    with writing(path) as temporary:
        Image.fromarray(own.astype(np.uint8) * 255).save(temporary, "PNG", pnginfo=text)


def outdated(path: Path, dataset: SurroundDataset, settings: dict[str, Any]) -> str | None:
    """The reason why a mask does not fit the present images or settings; None if it fits.

    A mask without an origin, published or edited by hand, always fits.
    """
    made = mask_origin(path)
    return difference(made, dataset.data_path, **settings) if made else None
