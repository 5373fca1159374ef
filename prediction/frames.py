"""Frames in order: of a video file, an animated image, a folder, or files that match patterns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.animated import animation_frames, frame_duration, frames_in
from datasets.image_files import frame_runs, one_per_name
from datasets.scenes import FRAMES_FILE, frame_names, gaps_in_words
from datasets.video import VIDEOS, extract_video, is_animation, is_bag, is_video, open_capture, unreadable
from notices import notice
from prediction.reading import read_or_reason
from predictor import find_images
from utils import InputError

FOLDER_FPS = 10.0  # frames per second of a folder, KITTI's rate
GIVE_UP = 250  # damaged frames in a row, after which a video is taken to have ended


@dataclass
class Frames:
    """Frames in order.

    Attributes:
        images: (3, h, w) uint8 each, or a sentence that says why one or several frames are missing.
        count: number of frames; None if the file does not say.
        fps: frames per second.
        output: default path of the video made from them.
        source: the video, or the first image; cam.txt lies next to it.
    """

    images: Iterator[Tensor | InputError]
    count: int | None
    fps: float
    output: Path
    source: Path


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
    if is_bag(first):
        extracted = open_frames([str(extract_video(first))], every)
        return dataclasses.replace(extracted, output=first.with_name(f"{first.stem}_depth.mp4"))
    if is_video(first):
        if len(paths) > 1:
            raise InputError(f"give one video, got {len(paths)}")
        return open_animation(first, every) if is_animation(first) else open_video(first, every)
    if first.is_dir() and len(paths) == 1:
        videos = sorted(path.name for path in first.iterdir() if path.suffix.lower() in VIDEOS)
        if videos:
            raise InputError(f"{first} is a folder of videos; name one, such as {first / videos[0]}")
    found = find_frames(paths, ext)[::every]
    folder = found[0].parent
    parent = folder.resolve().parent if folder.name in ("", "..") else folder.parent
    output = parent / ((folder.resolve().name or "frames") + "_depth.gif")
    return Frames(map(read_or_reason, found), len(found), FOLDER_FPS / every, output, found[0])


def find_frames(paths: Sequence[str], ext: str | None = None) -> list[Path]:
    """The frames of a folder as training reads them: one per name, or those of its `frames.txt`.

    A missing number and a change of the prefix are named; the video goes on.

    Args:
        paths: files, folders and patterns of images.
        ext: take only images with this ending.

    Raises:
        InputError: there is no image, or none with this ending.
    """
    folder = Path(paths[0]).expanduser()
    if len(paths) == 1 and ext is None and (folder / FRAMES_FILE).is_file():
        return [folder / name for name in frame_names(folder)]
    found = find_images(paths, ext)
    read = [parent / name for parent, names in _by_folder(found).items() for name in one_per_name(names)]
    if left := len(found) - len(read):
        notice(f"{left} images are left out, since the same frame is there in another format")
    for parent, names in _by_folder(read).items():
        if gaps := gaps_in_words(names, frame_runs(names)):
            notice(f"{parent}: {gaps}; the video goes on")
    return read


def _by_folder(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Folder → names of its files, in order."""
    folders: dict[Path, list[str]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path.name)
    return folders


def open_animation(path: Path, every: int = 1) -> Frames:
    """Every n-th frame of an animated GIF, WebP or PNG, at its mean speed."""
    count, duration = frames_in(path), frame_duration(path)
    fps = 1 / duration if duration > 0 else FOLDER_FPS

    def decode() -> Iterator[Tensor | InputError]:
        try:
            yield from animation_frames(path, every)
        except InputError as error:
            yield error

    output = path.with_name(f"{path.stem}_depth.gif")
    return Frames(decode(), -(-count // every), fps / every, output, path)


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
        raise InputError(unreadable(path))
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
    return Frames(
        decode(), -(-count // every) or None, (fps if fps > 0 else FOLDER_FPS) / every, output, path
    )
