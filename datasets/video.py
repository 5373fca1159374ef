"""A video file's frames as images, extracted once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils import InputError

VIDEOS = {
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts",
    ".m2ts", ".ogv",
}  # fmt: skip
EXTRACTED = ".frames"  # a video's frames lie next to it, in <video>.frames
NOTE = ".video"  # says in there which video they come from
JPEG_QUALITY = 95


def extract_video(video: Path) -> Path:
    """The folder `<video>.frames` with 000000.jpg, 000001.jpg, ...; written again if the video has changed.

    The folder appears only when it is complete. An intrinsics file that was put there is kept.

    Raises:
        InputError: the video cannot be read, or its folder not be written to.
    """
    folder = video.with_name(video.name + EXTRACTED)
    note = f"{video.stat().st_size} bytes, modified {video.stat().st_mtime_ns}"
    if _note_in(folder) == note:
        return folder
    if folder.exists() and _note_in(folder) is None:
        raise InputError(f"{folder} was not written by Parallax; move it away to have {video.name} extracted")
    try:
        temporary = Path(tempfile.mkdtemp(dir=video.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(
            f"the frames of {video} are extracted next to it, but {video.parent} cannot be written to "
            f"({error.strerror}); link the video into a folder of your own"
        ) from None
    try:
        _write_frames(video, temporary)
        (temporary / NOTE).write_text(note)
        temporary.chmod(0o755)
        _replace(folder, temporary, note)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def open_capture(video: Path) -> Any:
    """OpenCV's reader of a video, with frames turned upright as the header says."""
    import cv2

    capture = cv2.VideoCapture(str(video.absolute()))  # FFmpeg takes 12:30.mp4 for a URL of protocol "12"
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # some builds of OpenCV leave it off
    return capture


def _note_in(folder: Path) -> str | None:
    return (folder / NOTE).read_text() if (folder / NOTE).is_file() else None


def _write_frames(video: Path, folder: Path) -> None:
    import cv2

    capture = open_capture(video)
    expected = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    count = 0
    with tqdm(total=expected or None, desc=f"frames of {video.name}", unit="frame") as bar:
        while capture.isOpened():
            read, frame = capture.read()
            if not read:
                break
            path = str(folder / f"{count:06d}.jpg")
            if not cv2.imwrite(path, frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                raise InputError(f"the frames of {video} cannot be written to {folder}; is the disk full?")
            count += 1
            bar.update()
    capture.release()
    if count == 0:
        raise InputError(
            f"{video} cannot be read as a video; is it truncated, or its codec unknown to OpenCV?"
        )
    if count < 0.9 * expected:  # the count in the header is an estimate for some formats
        tqdm.write(f"{video} announces {expected} frames, but only {count} could be read")


def _replace(folder: Path, temporary: Path, note: str) -> None:
    """Replace the frames of an earlier video by `temporary`."""
    if folder.is_dir() and _note_in(folder) != note:
        for kept in folder.glob("*.txt"):  # cam.txt, frames.txt
            shutil.copy(kept, temporary / kept.name)
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if _note_in(folder) != note:  # otherwise another process was faster, with the same frames
            raise
