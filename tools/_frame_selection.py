"""Rules that select the frames of a video to train on; the work of tools/select_frames.py."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from cameras import find_calibration, fitting_camera, pinhole_of
from datasets.image_files import image_size
from datasets.scenes import FRAMES_FILE, INDEX_ABOUT, INDEX_FILE, all_frames, common_size, find_scenes
from intrinsics import FILES as INTRINSICS_FILES
from intrinsics import nearest_file, parse_intrinsics, upwards
from progress import Bar
from utils import InputError, atomic_path, read_text, read_yaml, to_yaml
from workers import run_tasks

THRESHOLDS = {"flow": 0.01, "difference": 0.5}
LEVELS = 10  # grey levels of 255 that are a difference
CORNERS = {"maxCorners": 1000, "qualityLevel": 0.01, "minDistance": 8, "blockSize": 19}
TRACKING = {
    "winSize": (19, 19),
    "maxLevel": 2,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03),
}
RETURNED = 1.0  # pixels; a corner tracked there and back that ends farther away is lost
FEWEST = 20  # corners; fewer tell nothing about the motion
ROUNDS = 10  # of reweighting, when the rotation is fitted


@dataclass(frozen=True)
class Rule:
    """When a frame is kept.

    Args:
        rule: `flow` or `difference`.
        threshold: share of the image diagonal, or share of pixels; None is the rule's default.
        keep_rotation: count the flow of the camera's rotation as well.

    Raises:
        InputError: an unknown rule, a threshold outside (0, 1].
    """

    rule: str = "flow"
    threshold: float | None = None
    keep_rotation: bool = False

    def __post_init__(self) -> None:
        if self.rule not in THRESHOLDS:
            raise InputError(f"--rule is {' or '.join(THRESHOLDS)}, got '{self.rule}'")
        if self.threshold is None:
            object.__setattr__(self, "threshold", THRESHOLDS[self.rule])
        if not 0 < self.threshold <= 1:
            raise InputError(f"--threshold is a share in (0, 1], got {self.threshold}")

    @property
    def needs_intrinsics(self) -> bool:
        return self.rule == "flow" and not self.keep_rotation


@dataclass(frozen=True)
class Scene:
    """One video: its folder, the names of its frames in time, and (3, 3) intrinsics in pixels, if needed."""

    name: str
    folder: Path
    frames: tuple[str, ...]
    intrinsics: np.ndarray | None


# ----------------------------------------------------------------------------- the rules


def selected(images: Iterable[np.ndarray], rule: Rule, intrinsics: np.ndarray | None = None) -> list[int]:
    """Indices of the kept frames. The first frame is always kept.

    Args:
        images: (H, W) uint8 grey, in order of time.
        rule: condition for keeping a frame.
        intrinsics: (3, 3) pixels. The flow rule needs them to remove rotation from the flow, unless the
            rule counts rotation as motion.
    """
    kept, last = [], None
    for number, image in enumerate(images):
        if last is None or last.moved(image):
            kept.append(number)
            last = Reference(image, rule, intrinsics)
    return kept


class Reference:
    """The last kept frame, which later ones are compared with."""

    def __init__(self, image: np.ndarray, rule: Rule, intrinsics: np.ndarray | None) -> None:
        self.image, self.rule, self.intrinsics = image, rule, intrinsics
        corners = cv2.goodFeaturesToTrack(image, **CORNERS) if rule.rule == "flow" else None
        self.corners = np.zeros((0, 1, 2), np.float32) if corners is None else corners

    def moved(self, image: np.ndarray) -> bool:
        """Whether the camera has moved far enough at `image`."""
        if self.rule.rule == "difference":
            return different_share(self.image, image) >= self.rule.threshold
        before, after = track(self.image, image, self.corners)
        if len(before) < FEWEST:
            # Nothing to track in a blank image; otherwise the camera is somewhere else.
            return len(self.corners) >= FEWEST
        flow = after - before
        if not self.rule.keep_rotation:
            flow = after - turned(before, fit_rotation(before, after, self.intrinsics), self.intrinsics)
        return np.median(np.linalg.norm(flow, axis=1)) >= self.rule.threshold * np.hypot(*image.shape)


def different_share(first: np.ndarray, second: np.ndarray) -> float:
    """Share of pixels that differ by more than 10 grey levels; (H, W) uint8 each, without wrapping."""
    return float((cv2.absdiff(first, second) > LEVELS).mean())


def track(first: np.ndarray, second: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the corners (K, 1, 2) that are found in both images: two of (M, 2) pixels."""
    if not len(corners):
        return np.zeros((0, 2)), np.zeros((0, 2))
    there, found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None, **TRACKING)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(second, first, there, None, **TRACKING)
    good = (found & returned).ravel() == 1
    good &= np.linalg.norm(back - corners, axis=2).ravel() < RETURNED
    return corners[good, 0].astype(np.float64), there[good, 0].astype(np.float64)


def fit_rotation(before: np.ndarray, after: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """(3, 3) rotation of least absolute error between the rays of two sets of (M, 2) pixels.

    Each round solves Wahba's problem by singular values, with weights 1 / error of the round before.
    """
    a, b = (_rays(points, intrinsics) for points in (before, after))
    weights, rotation = np.ones(len(a)), np.eye(3)
    for _ in range(ROUNDS):
        u, _, vt = np.linalg.svd((weights[:, None] * b).T @ a)
        rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        error = np.linalg.norm(b - a @ rotation.T, axis=1)
        weights = 1 / np.maximum(error, 1e-4)
    return rotation


def turned(points: np.ndarray, rotation: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Pixel coordinates (M, 2) after a rotation of the camera, for pixel coordinates (M, 2) before it."""
    image = _rays(points, intrinsics) @ rotation.T @ intrinsics.T
    return image[:, :2] / image[:, 2:]


def _rays(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    rays = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(intrinsics).T
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


# ----------------------------------------------------------------------------- scenes and files


def open_scenes(data_path: Path, rule: Rule, intrinsics: str | None) -> list[Scene]:
    """Every scene of `--data_path`, as `--dataset folder` finds them.

    Raises:
        InputError: nothing is there; the rule needs intrinsics and there are none.
    """
    root, folders = find_scenes(data_path)
    scenes = []
    for name, folder in folders.items():
        K = None
        if rule.needs_intrinsics:
            K = parse_intrinsics(intrinsics, "--intrinsics") if intrinsics else _find_intrinsics(folder, root)
        scenes.append(Scene(name, folder, tuple(all_frames(folder)), K))
    return scenes


def _find_intrinsics(folder: Path, root: Path) -> np.ndarray:
    folders = upwards(folder, root)
    if path := nearest_file(folders, INTRINSICS_FILES):
        return parse_intrinsics(read_text(path), str(path))
    if path := find_calibration(folders):
        height, width = common_size(folder, all_frames(folder))
        return pinhole_of(fitting_camera(path, height, width, folder), path, height, width)
    raise InputError(
        f"there are no intrinsics for {folder}, and rotation cannot be removed without them; write "
        f"'fx fy cx cy' into {folders[-1] / 'cam.txt'}, give --intrinsics, or count it with --keep_rotation"
    )


def is_done(scene: Scene, rule: Rule, overwrite: bool) -> bool:
    """Whether a scene has its list by this rule.

    Raises:
        InputError: it has one by another rule, or one that this tool did not write.
    """
    index, about = scene.folder / INDEX_FILE, scene.folder / INDEX_ABOUT
    if overwrite or not index.is_file():
        return False
    if not about.is_file():
        raise InputError(f"{index} was not written by this tool; --overwrite replaces it")
    recorded, wanted = read_yaml(read_text(about)), _record(scene, rule)
    if recorded != wanted:
        changed = [f"{key} {recorded.get(key)}" for key in wanted if recorded.get(key) != wanted[key]]
        raise InputError(f"{index} was selected with {', '.join(changed)}; --overwrite selects again")
    return True


def _record(scene: Scene, rule: Rule) -> dict:
    return {**asdict(rule), "frames": len(scene.frames)}


def select_scene(
    scene: Scene, rule: Rule, frames_txt: bool = False, on_frame: Callable[[], object] | None = None
) -> int:
    """Select and write the frames of one scene; a worker's task.

    Args:
        scene, rule: see there.
        frames_txt: write the names as well.
        on_frame: called after each frame.

    Returns:
        Number of frames kept.
    """

    def images() -> Iterable[np.ndarray]:
        for name in scene.frames:
            yield read_grey(scene.folder / name)
            if on_frame:
                on_frame()

    kept = selected(images(), rule, scene.intrinsics)
    names = [scene.frames[number] for number in kept]
    texts = {
        INDEX_ABOUT: to_yaml(_record(scene, rule)),
        INDEX_FILE: "".join(f"{number}\n" for number in kept),
    }
    if frames_txt:
        texts = {FRAMES_FILE: "".join(f"{name}\n" for name in names), **texts}
    for name, text in texts.items():  # the index last: a scene that has it is complete
        with atomic_path(scene.folder / name) as path:
            path.write_text(text)
    return len(kept)


def read_grey(path: Path) -> np.ndarray:
    """(H, W) uint8.

    Raises:
        InputError: the file is not an image, or is too large for one.
    """
    image_size(path)  # from the header, before OpenCV reserves memory
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE) if path.stat().st_size else None
    if image is None:
        raise InputError(f"{path} cannot be read as an image; is it truncated?")
    return image


def select_all(
    scenes: list[Scene], rule: Rule, frames_txt: bool = False, overwrite: bool = False, workers: int = 1
) -> tuple[int, int]:
    """Select the frames of every scene that is not done, one worker for each scene.

    Returns:
        Frames kept and frames read.
    """
    left = [scene for scene in scenes if not is_done(scene, rule, overwrite)]
    total, kept = sum(len(scene.frames) for scene in left), 0
    with Bar(total=total, unit="frame", desc="selecting") as bar:
        if workers > 1 and len(left) > 1:
            function = functools.partial(select_scene, rule=rule, frames_txt=frames_txt)
            for scene, count in zip(left, run_tasks(function, left, workers)):
                kept += count
                bar.update(len(scene.frames))
        else:
            for scene in left:
                kept += select_scene(scene, rule, frames_txt, bar.update)
    return kept, total
