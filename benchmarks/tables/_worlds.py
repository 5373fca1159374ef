"""The worlds of the tables: flags of tools/make_synthetic.py, and files that are added; real recordings.

semantics and masks     read by datasets/label_folder.py and `label_files`
pseudo-depth            true depth as a network trained on other data would give it
a worse speed.csv       speed with noise, measured late
ego masks               where datasets/ddad.py reads them
wrong intrinsics        `cam.txt` with a focal length that is too long
another lens, weather   images cropped to a narrower view, with fog, other light and colours, and noise
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils import atomic_path

SMALL = {"height": 64, "width": 128}
LABELS = """classes: cityscapes
ids:
  {0: road, 1: sidewalk, 2: building, 3: wall, 4: fence, 5: pole, 8: vegetation, 9: terrain, 10: sky, 13: car}
images: training/{scene}/{frame}.png
labels: ground_truth/semantics/{scene}/{frame}.png
"""
FARTHEST = 100.0  # metres, pseudo-depth of the sky
NOISE_WIDTH = 12.0  # pixels, standard deviation of the filter of pseudo-depth's noise
CROP = 2 / 3  # share of the image's height and width that the other lens sees
VISIBILITY, FOG = 40.0, np.array([150.0, 160.0, 175.0])  # metres at which 1 / e of the colour is left; BGR
LIGHT, COLOURS = np.array([0.95, 0.75, 0.6]), (1, 2, 0)  # of B, G, R; channels that take their place
SENSOR_NOISE = 2.0  # standard deviation, of 255
TOO_LONG = 1.1  # wrong focal length over the true one
SPEED_NOISE, SPEED_DELAY = 0.05, 0.1  # relative standard deviation; seconds


@dataclass(frozen=True)
class World:
    """A synthetic world, or a real recording.

    Attributes:
        flags: flags of tools/make_synthetic.py; `recording` instead names a folder of real recordings, which
            the repository does not contain (`--recordings` of benchmarks/results.py).
        prepare: adds files to the rendered folder; they belong to the world as much as its images.
    """

    flags: Mapping[str, str | int]
    prepare: Callable[[Path], None] | None = None


def add_labels(folder: Path) -> None:
    """`labels.yaml`, with which datasets/label_folder.py reads images and their semantics."""
    (folder / "labels.yaml").write_text(LABELS)


def add_labels_and_pseudo_depth(folder: Path) -> None:
    """Both additions for streets with traffic."""
    add_labels(folder)
    for number, scene in enumerate(sorted((folder / "training").glob("scene_*"))):
        rng = np.random.default_rng([number, 2023])
        for path in sorted((scene / "depth").glob("*.png")):
            depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 256.0
            save = np.rint(pseudo_depth(depth, rng)).astype(np.uint16)
            cv2.imwrite(str(_made(scene / "pseudo_depth") / path.name), save)


def pseudo_depth(depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Depth as another network would see it: a monotone function of it, blurred, with noise.

        a d^g,  g in [0.7, 1.3] drawn for each image,  inverse depth blurred by 1 pixel,  5 % noise of low
        frequency: the errors of a network are smooth inside a surface

    Args:
        depth: (h, w) metres, 0 in the sky.
        rng: source of the random numbers.

    Returns:
        (h, w) in [1, 65535], of an unknown scale.
    """
    power = rng.uniform(0.7, 1.3)
    bent = np.where(depth > 0, depth, FARTHEST) ** power
    blurred = 1 / cv2.GaussianBlur(1 / bent, (0, 0), 1.0)
    noise = cv2.GaussianBlur(rng.standard_normal(depth.shape), (0, 0), NOISE_WIDTH)
    noisy = blurred * (1 + 0.05 * noise / noise.std())
    return np.clip(30000 * noisy / FARTHEST**power, 1, 65535)


def move_ego_masks(folder: Path) -> None:
    """Copy the rig's ego masks to the places where datasets/ddad.py reads them: one per camera and scene."""
    scenes = sorted(path.name for path in folder.glob("[0-9]*") if path.is_dir())
    for mask in sorted((folder / "ground_truth/masks").glob("*.png")):
        for scene in scenes:
            target = folder / "masks" / mask.stem / f"{scene}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(mask, target)


def make_speed_worse(folder: Path) -> None:
    """Rewrite each speed.csv: 5 % noise, and every value is the speed of 100 ms earlier."""
    for number, path in enumerate(sorted((folder / "training").glob("scene_*/speed.csv"))):
        rng = np.random.default_rng([number, 2020])
        head, *rows = path.read_text().splitlines()
        times, speeds = np.array([row.split(",") for row in rows], float).T
        late = np.interp(times - SPEED_DELAY, times, speeds)  # the first keeps its own
        noisy = late * (1 + SPEED_NOISE * rng.standard_normal(len(late)))
        lines = [f"{time:.6f},{speed:.6f}\n" for time, speed in zip(times, noisy)]
        with atomic_path(path) as temporary:
            temporary.write_text(head + "\n" + "".join(lines))


def lengthen_focal(folder: Path) -> None:
    """Write `cam.txt` next to the frames of each video of a phone, with a focal length 10 % too long."""
    for path in sorted((folder / "frames").glob("walk_*")):
        fx, fy, cx, cy = read_focal(folder, path.name)
        (path / "cam.txt").write_text(f"{fx * TOO_LONG} {fy * TOO_LONG} {cx} {cy}\n")


def read_focal(folder: Path, walk: str) -> list[float]:
    """fx fy cx cy, the true ones, of a video of `--layout phone`, pixels."""
    return [float(word) for word in (folder / "ground_truth" / f"{walk}.txt").read_text().split()]


def move_away(folder: Path) -> None:
    """Another lens, weather and colours: crop every image to its middle and change the colour images.

    I' = light I[colours] t + fog (1 - t) + noise,   t = exp(-depth / visibility)
    """
    files = [path for part in ("training", "ground_truth") for path in sorted((folder / part).rglob("*.png"))]
    for number, path in enumerate(files):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image.ndim == 3:
            # Depth comes after its image in the order of names, so it still has the size of the image.
            depth = cv2.imread(str(path.parent / "depth" / path.name), cv2.IMREAD_UNCHANGED) / 256.0
            image = other_weather(image, depth, np.random.default_rng([number, 2021]))
        top, left = (round(side * (1 - CROP) / 2) for side in image.shape[:2])
        height, width = image.shape[0] - 2 * top, image.shape[1] - 2 * left
        cv2.imwrite(str(path), image[top : top + height, left : left + width])
    for path in sorted((folder / "training").glob("*/cam.txt")):
        intrinsics = np.loadtxt(path)
        intrinsics[:2, 2] -= left, top
        np.savetxt(path, intrinsics, fmt="%.12e")


def other_weather(image: np.ndarray, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An image in fog, with other light and colours, and noise; see `move_away`.

    Args:
        image: (h, w, 3) uint8 BGR.
        depth: (h, w) metres, 0 in the sky.
        rng: source of the noise.
    """
    left = np.exp(-np.where(depth > 0, depth, np.inf) / VISIBILITY)[..., None]
    seen = image[..., COLOURS] * LIGHT * left + FOG * (1 - left)
    return np.clip(np.rint(seen + SENSOR_NOISE * rng.standard_normal(seen.shape)), 0, 255).astype(np.uint8)


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


WORLDS = {
    "traffic": World(
        {"layout": "folder", "sequences": 40, "frames": 16, **SMALL, "seed": 0, "traffic": "dense"},
        add_labels_and_pseudo_depth,
    ),
    "labelled": World({"layout": "folder", "sequences": 40, "frames": 16, **SMALL, "seed": 1}, add_labels),
    "drives": World({"layout": "folder", "sequences": 4, "frames": 101, **SMALL, "seed": 2}),
    "speeds": World(
        {"layout": "folder", "sequences": 40, "frames": 16, **SMALL, "seed": 3}, make_speed_worse
    ),
    "rooms": World({"layout": "nyuv2", "sequences": 32, "frames": 24, "height": 64, "width": 96, "seed": 4}),
    "streets": World(
        {"layout": "kitti", "sequences": 40, "frames": 12, "height": 64, "width": 96, "seed": 5}
    ),
    "lidar": World(  # network size times 3: KITTI's shift of LiDAR points by a pixel counts a third
        {"layout": "kitti", "sequences": 240, "frames": 3, "height": 192, "width": 288, "seed": 5}
    ),
    "demo": World({"layout": "kitti", "sequences": 20, "frames": 16, "seed": 0}),  # tools/demo.py
    "rig": World(
        {"layout": "ddad", "sequences": 12, "frames": 16, "height": 64, "width": 96, "seed": 8},
        move_ego_masks,
    ),
    "snippet": World({"recording": "kitti_odom_gray"}),
    "fisheye": World(
        {"layout": "folder", "sequences": 40, "frames": 16, "height": 96, "width": 96, "seed": 6,
         "camera": "fisheye"}
    ),
    "walks": World(
        {"layout": "phone", "sequences": 3, "frames": 200, "height": 360, "width": 640, "seed": 9,
         "ext": "jpg"},
        lengthen_focal,
    ),
    "away": World(
        {"layout": "folder", "sequences": 40, "frames": 16, "height": 96, "width": 192, "seed": 7}, move_away
    ),
}  # fmt: skip


def describe(names: Sequence[str]) -> str:
    """Worlds in words: `traffic: 40 sequences of 16 frames, 128x64, dense traffic`."""
    words = []
    for name in names:
        flags = WORLDS[name].flags
        if "recording" in flags:
            words.append(f"recording `{flags['recording']}`")
            continue
        size = f"{flags.get('width', 416)}x{flags.get('height', 128)}"
        size = f"{flags['sequences']} sequences of {flags['frames']} frames, {size}"
        more = [f"{flags[key]} {key}" for key in ("traffic", "camera") if key in flags]
        words.append(", ".join([f"world `{name}` ({flags['layout']}): {size}", *more]))
    return "; ".join(words)
