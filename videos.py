"""GIF, MP4 and WebM files written image by image: memory holds one image, however long the video.

An MP4 is encoded as H.264 if this build of OpenCV can, otherwise as VP9; browsers play both. MPEG-4 Part 2
(`mp4v`), which every build can write, plays in video players and not in browsers; it is the last resort, and
the writer says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import GifImagePlugin, Image

from files import writing
from images import check_format
from utils import InputError

VIDEO_FORMATS = (".gif", ".mp4", ".webm")
CODECS = {".mp4": ("avc1", "vp09", "mp4v"), ".webm": ("VP90",)}
_FIXED_COLOURS = 96  # of a colour map, among a GIF's 256, that are the same in every frame

Write = Callable[[np.ndarray], None]


@contextlib.contextmanager
def video(
    path: str | Path, fps: float, colours: str | None = None, palette: np.ndarray | None = None
) -> Iterator[Write]:
    """Open a video for writing.

        with video("depth.gif", fps=10) as write:
            write(image)  # (H, W, 3) uint8 RGB, all of one size

    Args:
        path: ends in .gif, .mp4 or .webm.
        fps: images per second. A GIF stores durations in hundredths of a second and plays at most 50 images
            per second; durations are rounded so that the total stays right.
        colours: a matplotlib colour map whose colours are in every palette of a GIF, so that the colours of
            depth do not change with the image next to it.
        palette: (K, 3) uint8 RGB, at most 128 further colours that are in every palette of a GIF, such as
            those of classes.

    Raises:
        InputError: another ending, no image at all, or the file cannot be written.
    """
    path = Path(path)
    check_format(path.suffix, VIDEO_FORMATS)
    ending = path.suffix.lower()
    with writing(path) as temporary:
        fixed = _fixed(colours, palette)
        kind = _gif(temporary, fps, fixed) if ending == ".gif" else _encoded(temporary, fps, ending)
        with kind as write:
            yield write
        if temporary.stat().st_size == 0:
            raise InputError(f"{path}: there was no image to make a video of")


def _fixed(colours: str | None, palette: np.ndarray | None) -> bytes:
    """RGB of the colours that are the same in every frame of a GIF."""
    parts = [] if palette is None else [palette]
    if colours is not None:
        parts.append((colormaps[colours](np.linspace(0, 1, _FIXED_COLOURS))[:, :3] * 255).astype(np.uint8))
    return b"".join(part.tobytes() for part in parts)


@contextlib.contextmanager
def _gif(path: Path, fps: float, fixed: bytes) -> Iterator[Write]:
    """Write a GIF frame by frame, since each frame has its own palette.

    Pillow's own writer collects all frames before it writes the first.
    """
    written = 0
    with open(path, "wb") as file:

        def write(image: np.ndarray) -> None:
            nonlocal written
            frame = Image.fromarray(image)
            begin, end = round(100 * written / fps), round(100 * (written + 1) / fps)
            duration = max(2, end - begin) * 10  # milliseconds; browsers slow shorter durations down
            written += 1
            if file.tell() == 0:
                size = b"".join(side.to_bytes(2, "little") for side in frame.size)
                file.write(b"GIF89a" + size + b"\x00\x00\x00")  # no global palette
                file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # loop forever
            indexed = _to_palette(frame, fixed)
            parts = GifImagePlugin.getdata(indexed, duration=duration, include_color_table=True)
            file.writelines(parts)
            parts.clear()  # Pillow's list is part of a reference cycle that would keep many frames alive

        yield write
        if file.tell():
            file.write(b";")


def _to_palette(image: Image.Image, fixed: bytes) -> Image.Image:
    """The image with 256 colours: the `fixed` ones and the best others for this image."""
    own = image.quantize(256 - len(fixed) // 3, dither=Image.Dither.NONE)
    if not fixed:
        return own
    palette = Image.new("P", (1, 1))
    palette.putpalette(fixed + bytes(own.getpalette()))
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


@contextlib.contextmanager
def _encoded(path: Path, fps: float, ending: str) -> Iterator[Write]:
    """Write MP4 or WebM through OpenCV."""
    import cv2

    named = path.with_suffix(ending)  # OpenCV chooses the container by the ending
    fps = fps if fps < 65 else float(f"{fps:.4g}")  # MPEG-4's clock has at most 65535 ticks per second
    writer, written = None, 0

    def write(image: np.ndarray) -> None:
        nonlocal writer, written
        if writer is None:
            writer = _open_writer(named, fps, (image.shape[1], image.shape[0]))
        writer.write(np.ascontiguousarray(image[..., ::-1]))
        written += 1

    try:
        yield write
        if writer is not None:
            writer.release()
            stored = cv2.VideoCapture(str(named)).get(cv2.CAP_PROP_FRAME_COUNT)
            if stored != written:  # OpenCV reports no error when a disk is full
                raise InputError(f"{path.parent} did not take the whole video; is the disk full?")
            os.replace(named, path)
    finally:
        named.unlink(missing_ok=True)


def _open_writer(path: Path, fps: float, size: tuple[int, int]) -> Any:
    """OpenCV's writer with the first codec of `CODECS` that is available; `size` is (width, height).

    Raises:
        InputError: none of them can be written.
    """
    import cv2

    level = cv2.setLogLevel(0)  # silent: a missing codec is not an error here; returns the level before
    try:
        for codec in CODECS[path.suffix]:
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
            if writer.isOpened():
                break
        else:
            raise InputError(
                f"this build of OpenCV cannot write {path.suffix[1:]} to {path.parent}; --output depth.gif "
                "needs no codec"
            )
    finally:
        cv2.setLogLevel(level)
    if codec == "mp4v":
        print(
            "this build of OpenCV has neither H.264 nor VP9: the MP4 plays in video players and not in "
            "browsers; --output depth.gif plays in both",
            file=sys.stderr,
        )
    return writer
