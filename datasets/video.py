"""The frames of a video file or an animated image as images, extracted once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from datasets._pillow import ANIMATED, IMAGES
from notices import notice
from progress import Bar
from utils import InputError

VIDEOS = {
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts",
    ".m2ts", ".ogv",
}  # fmt: skip
BAGS = {".bag", ".mcap", ".db3"}  # recordings of ROS
MOVING = {*VIDEOS, *BAGS, ".gif", ".apng"}  # endings of videos and of formats that no frame has
EXTRACTED = ".frames"  # a video's frames lie next to it, in <video>.frames
NOTE = ".video"  # says in there which video they come from
TIMES = "times.txt"  # seconds of each frame
RULES = 2  # version of the rules that choose the frames and number them
JPEG_QUALITY = 95


def extract_video(video: Path) -> Path:
    """The folder `<video>.frames` with 000000.jpg, 000001.jpg, ...; written again if the video has changed.

    Repeated frames are left out, and a cut is a gap in the numbers (datasets/_video_frames.py).

    The folder appears only when it is complete. An intrinsics file that was put there is kept.

    Raises:
        InputError: the video cannot be read, nothing moves in it, or its folder cannot be written to.
    """
    folder = video.with_name(video.name + EXTRACTED)
    state = (video / "metadata.yaml" if video.is_dir() else video).stat()
    note = f"{state.st_size} bytes, modified {state.st_mtime_ns}, rules {RULES}"
    if _note_in(folder) == note:
        _say(video, (folder / NOTE).read_text().splitlines()[1:])
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
        if is_bag(video):
            from datasets._bags import write_bag

            found = write_bag(video, temporary)
        elif is_animation(video):
            found = []
            _write_animation(video, temporary)
        else:
            found = _write_frames(video, temporary)
        (temporary / NOTE).write_text("\n".join([note, *found]))
        temporary.chmod(0o755)
        _replace(folder, temporary, note)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _say(video, found)
    return folder


def is_video(path: Path) -> bool:
    """Whether a file is a video or a recording of ROS: by its ending, for other endings by its content.

    An image is a video if it has several frames, and any other file if OpenCV reads a frame of it.
    """
    if path.suffix.lower() in VIDEOS or is_bag(path):
        return True
    if is_animation(path):
        from datasets.animated import frames_in  # imports torch

        return frames_in(path) > 1
    if path.suffix.lower() in IMAGES or not path.is_file():
        return False
    capture = open_capture(path)
    found = capture.isOpened() and capture.grab()
    capture.release()
    return found


def is_animation(path: Path) -> bool:
    """Whether a file has the ending of an image format that may hold several frames."""
    return path.suffix.lower() in ANIMATED


def is_bag(path: Path) -> bool:
    """Whether a path is a recording of ROS: a .bag, .mcap or .db3 file, or a folder written by ROS 2."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() and any(file.suffix in BAGS for file in path.iterdir())
    return path.suffix.lower() in BAGS


def open_capture(video: Path) -> Any:
    """OpenCV's reader of a video, with frames turned upright as the header says."""
    import cv2

    capture = cv2.VideoCapture(str(video.absolute()))  # FFmpeg takes 12:30.mp4 for a URL of protocol "12"
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # some builds of OpenCV leave it off
    return capture


def _note_in(folder: Path) -> str | None:
    """The state of the video that a folder's frames are from; None if it was not written by this module."""
    return (folder / NOTE).read_text().partition("\n")[0] if (folder / NOTE).is_file() else None


def _say(video: Path, found: list[str]) -> None:
    """Tell what was found in a video."""
    for sentence in found:
        notice(f"{video.name}: {sentence}")


def _write_frames(video: Path, folder: Path) -> list[str]:
    """Write the frames and times.txt; returns what was found, in words."""
    import cv2

    from datasets._video_frames import FrameFilter

    capture = open_capture(video)
    expected = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    chosen = FrameFilter()
    with Bar(total=expected or None, desc=f"frames of {video.name}", unit="frame") as bar:
        while capture.isOpened():
            read, frame = capture.read()
            if not read:
                break
            number = chosen.number(frame, capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            bar.update()
            if number is None:
                continue
            path = str(folder / f"{number:06d}.jpg")
            if not cv2.imwrite(path, frame, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
                raise InputError(f"the frames of {video} cannot be written to {folder}; is the disk full?")
    capture.release()
    if chosen.count == 0:
        raise InputError(unreadable(video))
    if chosen.count < 0.9 * expected:  # the count in the header is an estimate for some formats
        Bar.write(f"{video} announces {expected} frames, but only {chosen.count} could be read")
    if len(chosen.numbers) < 3 <= chosen.count:
        raise InputError(
            f"nothing moves in {video}: {chosen.count - len(chosen.numbers)} of its {chosen.count} frames "
            "repeat the one before; depth is learned from the motion of the camera, record while walking"
        )
    (folder / TIMES).write_text("".join(f"{time:.6f}\n" for time in chosen.times))
    return chosen.report()


def unreadable(video: Path) -> str:
    """The sentence for a video that OpenCV cannot read."""
    return (
        f"{video} cannot be read as a video; is it truncated, or its codec unknown to OpenCV? "
        f"ffmpeg -i {video.name} -c:v libx264 {video.stem}_h264.mp4 converts it"
    )


def _write_animation(path: Path, folder: Path) -> None:
    from PIL import Image

    from datasets.animated import animation_frames  # imports torch

    if not is_video(path):
        raise InputError(
            f"{path} holds one image and is not a video; save it as .png or .jpg to use it as a frame"
        )
    for number, frame in enumerate(animation_frames(path)):
        image = Image.fromarray(frame.permute(1, 2, 0).numpy())
        image.save(folder / f"{number:06d}.jpg", quality=JPEG_QUALITY)


def _replace(folder: Path, temporary: Path, note: str) -> None:
    """Replace the frames of an earlier video by `temporary`."""
    if folder.is_dir() and _note_in(folder) != note:
        for kept in (path for path in folder.glob("*.txt") if path.name != TIMES):  # cam.txt, frames.txt
            shutil.copy(kept, temporary / kept.name)
        shutil.rmtree(folder)
    try:
        temporary.rename(folder)
    except OSError:
        if _note_in(folder) != note:  # otherwise another process was faster, with the same frames
            raise
