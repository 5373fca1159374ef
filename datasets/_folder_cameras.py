"""The camera of a scene of own images: from the settings, a file in the scene or above it, or a guess.

    --dataset.intrinsics, camera.yaml, cam.txt or intrinsics.txt, a file of another program, a guess

The first that is there is used. Each file is looked for in the scene first, then upwards to the root.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cameras import Camera, Pinhole, RaySurface, find_calibration, fitting_camera, read_camera
from datasets._guessed_camera import Guess
from intrinsics import (
    CAMERA_FILE,
    FILES,
    GUESS,
    LEARN,
    Focal,
    as_text,
    check_intrinsics,
    nearest_file,
    parse_intrinsics,
    suggestion,
    upwards,
)
from notices import notice
from utils import InputError, read_text

FILE, SETTING = "file", "--dataset.intrinsics"
GIVEN = FILE, SETTING  # sources of intrinsics that a person has given


class Found(NamedTuple):
    """The camera of a scene.

    Attributes:
        K: (3, 3) pixels at the size of the images.
        camera: the lens with B = 1; None for a pinhole.
        source: where the numbers are from: one of `GIVEN`, or `Guess.source`.
        motion: the focal length from the motion, if the training learns the intrinsics from this start;
            None if it keeps them.
    """

    K: np.ndarray
    camera: Camera | None
    source: str
    motion: Focal | None = None


def find_camera(
    folder: Path,
    root: Path,
    size: tuple[int, int],
    given: np.ndarray | str | None,
    guess: Callable[..., Guess],
) -> Found:
    """Intrinsics of a scene, and its lens.

    Args:
        folder, root: the scene's folder, and the root of all scenes.
        size: (height, width) of the images.
        given: (3, 3) of the setting `intrinsics`, `GUESS`, `LEARN`, or None.
        guess: `guess_camera` of the scene; takes `motion`.

    Raises:
        InputError: no intrinsics, those of other images, or a lens that is to be learned.
    """
    if isinstance(given, np.ndarray):
        return Found(check_intrinsics(given, SETTING, *size), None, SETTING)
    found = _of_files(folder, root, size)
    if given == LEARN:
        return _to_learn(folder, size, found, guess)
    return found or _guess(folder, root, size, given, guess)


def _of_files(folder: Path, root: Path, size: tuple[int, int]) -> Found | None:
    """The camera of the first file that is there; None without a file."""
    folders = upwards(folder, root)
    if path := nearest_file(folders, (CAMERA_FILE,)):
        return Found(*_of_camera(read_camera(path), path, size), FILE)
    if path := nearest_file(folders, FILES):
        K = check_intrinsics(parse_intrinsics(read_text(path), str(path)), str(path), *size)
        return Found(K, None, FILE)
    if path := find_calibration(folders):
        return Found(*_of_camera(fitting_camera(path, *size, folder), path, size), FILE)
    return None


def _to_learn(folder: Path, size: tuple[int, int], found: Found | None, guess: Callable[..., Guess]) -> Found:
    """The start of a camera that is learned, or the camera as it is if the motion does not determine it."""
    guessed = guess(motion=True)
    start = found or Found(guessed.K, None, guessed.source)
    if start.camera is not None:
        raise InputError(
            f"--dataset.intrinsics {LEARN} learns a pinhole, and {folder} has a lens with distortion; leave "
            "the setting out"
        )
    if guessed.motion is None:
        notice(
            f"the motion in {folder} does not determine the focal length, as when a camera moves without "
            f"turning, so that it is not learned and stays '{as_text(start.K)}' ({start.source})"
        )
        return start
    share, error = guessed.motion
    notice(
        f"the intrinsics of {folder} are learned and begin at '{as_text(start.K)}' ({start.source}); the "
        f"motion between the frames gives fx {share * size[1]:g} ({error:.1%} standard error)"
    )
    return start._replace(motion=guessed.motion)


def _of_camera(camera: Camera, path: Path, size: tuple[int, int]) -> tuple[np.ndarray, Camera | None]:
    """Intrinsics and lens of a file's camera, after a check that it fits the images."""
    _check_template(camera, path, size)
    if isinstance(camera, Pinhole):
        return check_intrinsics(camera.intrinsics[0].double().numpy(), str(path), *size), None
    if not camera.sees(*size).any():  # a wide lens has focal lengths that would be a mistake in a pinhole
        raise InputError(f"{path}: no pixel of the {size[1]}x{size[0]} images has a ray; check its numbers")
    return camera.nearest_pinhole(*size)[0].numpy(), camera


def _check_template(camera: Camera, path: Path, size: tuple[int, int]) -> None:
    """Refuse a template of rays that has another size than the images."""
    if isinstance(camera, RaySurface) and camera.size != size:
        (height, width), (rows, columns) = size, camera.size
        raise InputError(
            f"{path}: the template has {columns}x{rows} rays and the images are {width}x{height}; type "
            "python "
            f"tools/ray_template.py --camera {path} --native {rows} {columns} --height {height} --width "
            f"{width} "
            "--out rays.npy, and name that file as `rays`"
        )


def _guess(
    folder: Path, root: Path, size: tuple[int, int], given: str | None, guess: Callable[..., Guess]
) -> Found:
    """Guessed intrinsics, if `given` asks for them."""
    height, width = size
    if given == GUESS:
        guessed = guess()
        notice(
            f"the intrinsics of {folder} are guessed, '{as_text(guessed.K)}': {guessed.sentence}; "
            f"write yours into {root / FILES[0]}",
        )
        return Found(
            check_intrinsics(guessed.K, f"--dataset.intrinsics {GUESS}", *size), None, guessed.source
        )
    raise InputError(
        f"there are no intrinsics for {folder}: write 'fx fy cx cy' in pixels into {root / FILES[0]}, "
        f'or give --dataset.intrinsics "fx fy cx cy" or --dataset.intrinsics {GUESS}; for {width}x{height} '
        f'images of an ordinary camera (60 degrees along the longer side) try "{suggestion(height, width)}"'
    )
