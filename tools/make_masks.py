"""Where each camera of a rig sees its own vehicle: what never changes while the car moves.

    python tools/make_masks.py --dataset ddad --data_path data/ddad
    python tools/make_masks.py --dataset ddad --data_path data/ddad --pool

One mask for each camera and recording, where the dataset looks for it (`mask_path`), or in the folder of
`--set masks=FOLDER`, which `--dataset.masks FOLDER` then reads: white is the vehicle.
DDAD's published masks are no longer online; training on DDAD needs them.

Of the frames in which the image moves, a pixel's change is the 90th percentile of its distance to its
median. Road, houses and trees change; bodywork does not, nor does a blank sky. So a still region counts when
it reaches the lower border and ends abruptly, in pixels that do change; one that reaches the sides or the top
only must also be dark and have an outline that stays, as a camera's housing has. What such regions cut off
from the rest of the image, such as paint that mirrors the sky inside a dull trim, belongs to them.

Paint that mirrors the scenery up to its edge changes as the scenery does; only its outline stays. In one
recording kerbs and skylines stay as well, but not through many: with `--pool`, recordings whose cameras have
the same calibration are looked at together, and from eight of them on what a lasting outline cuts off is the
vehicle's too. The masks are proposals: look at the `.overlay.jpg` beside each.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from datasets import DATASETS
from datasets.image_files import read_image
from datasets.surround import SurroundDataset
from tools._options import add_dataset, add_workers, new_parser, open_dataset
from utils import InputError, atomic_path, run_main
from workers import run_tasks, writing

STILL = 2.0, 0.04  # grey levels, and share of the brightness: what noise and exposure change
ABRUPT = 1.5  # times what is still: the least change just outside of the vehicle
MOVED = 3.0  # grey levels that the upper quarter of the pixels must change from one frame used to the next
LASTING = 4.0  # grey levels a pixel: an edge that stays
OUTLINE = 8, 6.0, 0.25  # recordings, grey levels a pixel, share of the width it must run
LEAST = 0.002  # of the image: smaller regions are dirt


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    made, refused = 0, []
    for part in given.part:
        dataset = open_rig(given, part)
        tasks = find_tasks(dataset, given)
        results = tqdm(run_tasks(make, tasks, given.workers), "masks", len(tasks), unit="camera")
        with writing(dataset.mask_folders[0]):
            for count, refusal in results:
                made += count
                refused += [refusal] if refusal else []
    print(f"wrote {made} masks" + ("; look at them before training on them" if made else ""))
    if refused:
        raise InputError(f"{len(refused)} masks could not be made. {refused[0]}")


@dataclass(frozen=True)
class Task:
    """One camera of one or several recordings: its images in order, and the masks to write."""

    camera: str
    recordings: tuple[tuple[Path, ...], ...]
    masks: tuple[Path, ...]
    width: int
    frames: int
    min_frames: int


def open_rig(given: argparse.Namespace, part: str) -> SurroundDataset:
    """The rig's dataset, one image a camera.

    Raises:
        InputError: it has one camera, or refuses a setting.
    """
    if not issubclass(DATASETS.get(given.dataset), SurroundDataset):
        raise InputError(f"{given.dataset} is no rig of cameras; masks are for ddad and nuscenes")
    masks = dict(given.set).get("masks", True)
    given = argparse.Namespace(**{**vars(given), "set": [pair for pair in given.set if pair[0] != "masks"]})
    dataset = open_dataset(given, part=part)  # not with `masks`, which asks for those that are to be made
    if isinstance(masks, str):
        dataset.mask_folders = [Path(masks)]
    return dataset


def find_tasks(dataset: SurroundDataset, given: argparse.Namespace) -> list[Task]:
    """This process's share of the masks that are not there yet."""
    images: dict[tuple[int, Path], list[Path]] = defaultdict(list)
    groups: dict[tuple[int, bytes | Path], list[Path]] = defaultdict(list)
    for line in dataset.samples:
        for camera, image in enumerate(dataset.paths(line, 0)):
            mask = dataset.mask_path(line, camera)
            if (camera, mask) not in images:
                groups[camera, _calibration(dataset, line, camera) if given.pool else mask].append(mask)
            images[camera, mask].append(image)
    tasks = []
    which, shards = given.shard
    for (camera, _), masks in list(groups.items())[which - 1 :: shards]:
        wanted = tuple(mask for mask in masks if given.overwrite or not mask.is_file())
        if wanted:
            # Of a pool, a dozen recordings evenly spread say enough.
            chosen = masks[:: max(1, len(masks) // 12)]
            recordings = tuple(tuple(images[camera, mask]) for mask in chosen)
            name = dataset.camera_names[camera]
            tasks.append(Task(name, recordings, wanted, given.width, given.frames, given.min_frames))
    return tasks


def _calibration(dataset: SurroundDataset, line: object, camera: int) -> bytes:
    """What is equal where a camera sits at the same place, to a millimetre and a tenth of a pixel."""
    place = dataset.rig_from_camera(line)[camera][:3]
    K = dataset.intrinsics(line, camera, *dataset.image_size(line, camera))
    return np.concatenate([place.ravel().round(3), K.ravel().round(1)]).tobytes()


def make(task: Task) -> tuple[int, str]:
    """Find a camera's own vehicle and write the masks; a worker's task.

    Returns:
        How many were written, and otherwise why not: one car that waits at a light stops no others.

    Raises:
        InputError: an image that cannot be read.
    """
    share = max(3, task.frames // len(task.recordings))
    frames, size = [], None
    for recording in task.recordings:
        moving, size = read_moving(recording, task.width, share)
        frames += moving
    if len(frames) < task.min_frames:
        where = f"{task.camera}, {task.recordings[0][0].parent}"
        return 0, (
            f"{where}: {len(frames)} frames differ from those before, fewer than --min_frames "
            f"{task.min_frames}; --pool takes all recordings of one calibration"
        )
    own = own_vehicle(np.stack(frames), outlines=len(task.recordings) >= OUTLINE[0])
    # Bilinear and cut at a half: the outline of the small image without its stairs.
    full = cv2.resize(own.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5
    for path in task.masks:
        _save(path, full.astype(np.uint8) * 255)
        _save(path.with_name(f"{path.stem}.overlay.jpg"), overlay(frames[-1], own))
    return len(task.masks), ""


def read_moving(paths: Sequence[Path], width: int, most: int) -> tuple[list[np.ndarray], tuple[int, int]]:
    """Frames between which the image moves, evenly spread, at most `most`.

    Returns:
        (h, w, 3) uint8 RGB each, w at most `width`; and the width and height on disk.
    """
    frames: list[np.ndarray] = []
    for place in np.unique(np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)):
        image = read_image(paths[place]).permute(1, 2, 0).numpy()
        size = image.shape[1], image.shape[0]
        if size[0] > width:
            small = width, round(size[1] * width / size[0])
            image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        if not frames or np.percentile(cv2.absdiff(image, frames[-1]), 75) > MOVED:
            frames.append(np.ascontiguousarray(image))
    return frames, size


# ----------------------------------------------------------------------------- what does not change


def own_vehicle(frames: np.ndarray, outlines: bool = False) -> np.ndarray:
    """What never changes in front of a moving camera.

    Args:
        frames: (T, H, W, 3) uint8 RGB, while the vehicle moves.
        outlines: the frames are of so many places that an edge that stays is the vehicle's.

    Returns:
        (H, W) bool.
    """
    median = np.median(frames, axis=0).astype(np.int16)
    distance = np.zeros(frames.shape[:3], np.int16)
    for channel in range(3):  # one at a time, which takes a third of the memory
        np.maximum(distance, np.abs(frames[..., channel] - median[..., channel]), out=distance)
    brightness = median.max(-1)
    change = np.percentile(distance, 90, axis=0) / (STILL[0] + STILL[1] * brightness)
    edges = edges_that_stay(frames)
    body = _framed(_of_the_vehicle(change, edges, brightness), cv2.MORPH_CLOSE, 1)
    own = _framed(_cut_off(body), cv2.MORPH_OPEN, 1)
    if outlines:  # opened further, since an edge that cuts nothing off is a line of a few pixels
        walls = _framed(own | _long(edges > OUTLINE[1]), cv2.MORPH_CLOSE, 2)
        enclosed = _framed(_cut_off(walls), cv2.MORPH_OPEN, 4)
        own |= _framed(enclosed, cv2.MORPH_ERODE, 1)  # an edge is found on both sides of the outline
    return _large(own)


def edges_that_stay(frames: np.ndarray) -> np.ndarray:
    """(H, W) grey levels a pixel: the gradient that four frames of five have, if its direction stays."""
    second, power, sizes = 0, 1e-3, []
    for frame in frames:
        grey = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 0.8)
        gradient = cv2.Scharr(grey, cv2.CV_32F, 1, 0) / 16 + 1j * cv2.Scharr(grey, cv2.CV_32F, 0, 1) / 16
        # Squared, so that an edge stays one whether the road beyond it is brighter or darker.
        second, power = second + gradient**2, power + np.abs(gradient) ** 2
        sizes.append(np.abs(gradient))
    return np.percentile(np.stack(sizes), 20, axis=0) * np.abs(second) / power


def _of_the_vehicle(change: np.ndarray, edges: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """The still regions (change up to 1) that reach the border and end abruptly: no road, no sky."""
    still = (change <= 1).astype(np.uint8)
    height, width = still.shape
    count, labels, stats, _ = cv2.connectedComponentsWithStats(still, connectivity=4)
    lasting = cv2.dilate(edges, np.ones((3, 3))) > LASTING
    own = np.zeros(still.shape, bool)
    for label in range(1, count):
        left, top, across, down, area = stats[label]
        below = top + down == height
        beside = top == 0 or left == 0 or left + across == width
        if not (below or beside) or area < LEAST * still.size:
            continue
        region = labels == label
        around = cv2.dilate(region.astype(np.uint8), _disc(2)).astype(bool) & ~region
        if not around.any() or np.median(change[around]) < ABRUPT:
            continue
        dark = np.median(brightness[region]) < 0.5 * np.median(brightness)
        if (below and top > 0) or (dark and lasting[around].mean() > 0.6):
            own |= region
    return own


def _long(edges: np.ndarray) -> np.ndarray:
    """Those that run from the border of the image on for a good part of its width."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(edges.astype(np.uint8), connectivity=8)
    height, width = edges.shape
    long = []
    for label in range(1, count):
        left, top, across, down, _ = stats[label]
        at_the_border = left == 0 or top == 0 or left + across == width or top + down == height
        if at_the_border and max(across, down) > OUTLINE[2] * width:
            long.append(label)
    return np.isin(labels, long)


def _cut_off(walls: np.ndarray) -> np.ndarray:
    """(H, W) bool, all but the largest region between the walls, which is the world."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~walls).astype(np.uint8), connectivity=4)
    if count == 1:
        return walls
    return labels != 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])


def _large(own: np.ndarray) -> np.ndarray:
    """Without regions too small to be a part of the vehicle."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(own.astype(np.uint8), connectivity=4)
    large = [label for label in range(1, count) if stats[label, cv2.CC_STAT_AREA] >= LEAST * own.size]
    return np.isin(labels, large)


def _framed(region: np.ndarray, operation: int, radius: int) -> np.ndarray:
    """Opened, closed or eroded as if it went on beyond the border, which it does."""
    margin = 2 * radius
    wide = cv2.copyMakeBorder(region.astype(np.uint8), *[margin] * 4, cv2.BORDER_REPLICATE)
    wide = cv2.morphologyEx(wide, operation, _disc(radius))
    return wide[margin:-margin, margin:-margin].astype(bool)


def _disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def overlay(image: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR, the vehicle in red."""
    shown = image[..., ::-1].copy()
    shown[own] = (0.5 * shown[own] + (0, 0, 127)).astype(np.uint8)
    return shown


def _save(path: Path, image: np.ndarray) -> None:
    encoded = cv2.imencode(path.suffix, image)[1]
    with atomic_path(path) as temporary:
        encoded.tofile(temporary)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add_dataset(parser, "ddad", "a rig of cameras: ddad or nuscenes", ["train", "val"])
    add = parser.add_argument
    add("--pool", action="store_true", help="look at recordings of one calibration together")
    add("--width", type=int, default=484, help="pixels to which images are made smaller (default: 484)")
    add("--frames", type=int, default=120, help="looked at for one mask, at most (default: 120)")
    add("--min_frames", type=int, default=10, help="with motion, else it is refused (default: 10)")
    add("--overwrite", action="store_true", help="make masks again that are there already")
    add_workers(parser)
    given = parser.parse_args(arguments)
    for name in ("width", "frames", "min_frames", "workers"):
        if getattr(given, name) < 1:
            raise InputError(f"--{name} cannot be {getattr(given, name)}")
    return given


if __name__ == "__main__":
    run_main(main)
