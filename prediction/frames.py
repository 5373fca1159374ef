"""Frames in order: of a video file, an animated image, a folder, or files that match patterns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor

from datasets.image_files import as_rgb
from datasets.video import VIDEOS, open_capture
from prediction.reading import read_or_reason
from predictor import find_images
from utils import InputError

FOLDER_FPS = 10.0  # frames per second of a folder, KITTI's rate
ANIMATED = {".gif", ".webp", ".png", ".apng"}  # formats that may hold several frames
GIVE_UP = 250  # damaged frames in a row, after which a video is taken to have ended


@dataclass
class Frames:
    """Frames in order.

    Attributes:
        images: (3, h, w) uint8 each, or a sentence that says why one or several frames are missing.
        count: number of frames; None if the file does not say.
        fps: frames per second.
        output: default path of the video made from them.
    """

    images: Iterator[Tensor | InputError]
    count: int | None
    fps: float
    output: Path


def open_frames(paths: Sequence[str], every: int = 1, ext: str | None = None) -> Frames:
    """Every n-th frame of a video file, an animated image, a folder, or files that match patterns.

    Args:
        paths: one video, or files, folders and patterns of images.
        every: n.
        ext: take only images with this ending.

    Raises:
        InputError: there is nothing, or it cannot be read.
    """
    first = Path(paths[0]).expanduser()
    if first.suffix.lower() in VIDEOS or frames_in(first) > 1:
        if len(paths) > 1:
            raise InputError(f"give one video, got {len(paths)}")
        return open_video(first, every) if first.suffix.lower() in VIDEOS else open_animation(first, every)
    if first.is_dir() and len(paths) == 1:
        videos = sorted(path.name for path in first.iterdir() if path.suffix.lower() in VIDEOS)
        if videos:
            raise InputError(f"{first} is a folder of videos; name one, such as {first / videos[0]}")
    found = find_images(paths)
    if ext is not None:
        ending = f".{ext.lower().removeprefix('.')}"
        found = [path for path in found if path.suffix.lower() == ending]
        if not found:
            raise InputError(f"there is no {ending} at {' '.join(paths)}; leave --ext out to take all images")
    found = found[::every]
    folder = found[0].parent
    parent = folder.resolve().parent if folder.name in ("", "..") else folder.parent
    output = parent / ((folder.resolve().name or "frames") + "_depth.gif")
    return Frames(map(read_or_reason, found), len(found), FOLDER_FPS / every, output)


def frames_in(path: Path) -> int:
    """Number of frames of an image file; 0 if it is not an image of a format that can hold several."""
    if path.suffix.lower() not in ANIMATED or not path.is_file():
        return 0
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0


def open_animation(path: Path, every: int = 1) -> Frames:
    """Every n-th frame of an animated GIF, WebP or PNG, at its mean speed."""
    with Image.open(path) as image:
        count = image.n_frames
        durations = []  # milliseconds
        for frame in ImageSequence.Iterator(image):
            frame.load()  # WebP tells a frame's duration only after decoding it
            durations.append(frame.info.get("duration", 0))
    mean = sum(durations) / len(durations) / 1000  # seconds
    fps = 1 / mean if mean > 0 else FOLDER_FPS

    def decode() -> Iterator[Tensor | InputError]:
        number = 0
        with Image.open(path) as image:
            try:
                for number, frame in enumerate(ImageSequence.Iterator(image)):
                    if number % every == 0:
                        yield as_rgb(frame.convert("RGB"))
            except (OSError, ValueError, SyntaxError) as error:
                yield InputError(f"{path} has {count} frames and is damaged after {number}: {error}")

    output = path.with_name(f"{path.stem}_depth.gif")
    return Frames(decode(), -(-count // every), fps / every, output)


def open_video(path: Path, every: int = 1) -> Frames:
    """Every n-th frame of a video file, decoded on demand.

    Raises:
        InputError: the file is missing, or cannot be read as a video.
    """
    import cv2

    if not path.is_file():
        raise InputError(f"there is no video {path}")
    capture = open_capture(path)
    if not capture.isOpened() or not capture.grab():
        raise InputError(
            f"{path} cannot be read as a video; is it truncated, or its codec unknown to OpenCV?"
        )
    count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    fps = capture.get(cv2.CAP_PROP_FPS)

    def decode() -> Iterator[Tensor | InputError]:
        number, good, grabbed = 0, 0, True
        end = 0  # number after the last frame that could be read
        while grabbed or number < min(count, end + GIVE_UP):  # OpenCV reports a damaged frame as the end
            frame = capture.retrieve()[1] if grabbed and number % every == 0 else None
            if frame is not None:
                yield torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1)
            number += 1
            if grabbed:
                good, end = good + 1, number
            grabbed = capture.grab()
        capture.release()
        # The count in the header is an estimate in some formats, so a few frames may be missing at the end.
        if good < end or end < 0.9 * count:
            yield InputError(f"{path} announces {max(count, end)} frames; {good} could be read")

    output = path.with_name(f"{path.stem}_depth.mp4")
    return Frames(decode(), -(-count // every) or None, (fps if fps > 0 else FOLDER_FPS) / every, output)
