"""Depth of a video: a video file or a folder of frames becomes a GIF or an MP4.

    python test_video.py --image_path drive.mp4 --run runs/monodepth2_kitti
    python test_video.py --image_path frames/ --load_weights_folder mono_640x192 --output depth.gif --fps 10

Image and depth stand side by side, one above the other where they are wide. A colour keeps its meaning:
the range that the colours span follows each frame's by a few per cent only, so that a car that drives by
does not repaint the street. Frames are read, predicted and written as they come; an hour needs no more
memory than a minute.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import flags
from datasets.resizing import resize_image
from datasets.video import VIDEOS, open_capture
from images import FILM_FORMATS, check_format, colourise, video
from predictor import enlarge, find_images, read_upright
from utils import InputError, run_main

COLOURS = "magma"
FOLDER_FPS = 10.0  # of frames in a folder, KITTI's rate
WIDE = 2.0  # width / height from which image and depth go one above the other
GIVE_UP = 250  # damaged frames of a video in a row, after which nothing more is expected


@dataclass
class Frames:
    """What is shown, in order.

    Attributes:
        images: (3, h, w) uint8 each, or the sentence why one or several are missing.
        count: how many; None where the file does not say.
        fps: of these frames.
        output: where the video goes if nobody says otherwise.
    """

    images: Iterator[Tensor | InputError]
    count: int | None
    fps: float
    output: Path


class SteadyRange:
    """The range that colours span, of 1 / depth: each frame's 1st to 95th percentile, smoothed over time.

    Args:
        inertia: share of the earlier range that stays; 0.95 is about a second at 20 frames a second.
    """

    def __init__(self, inertia: float = 0.95) -> None:
        self.inertia = inertia
        self.range: np.ndarray | None = None

    def update(self, values: Tensor) -> tuple[float, float]:
        """Take in (h, w) of a frame; the range to paint it with."""
        new = np.percentile(values.cpu().numpy(), [1, 95])
        if self.range is not None:
            new = self.inertia * self.range + (1 - self.inertia) * new
        self.range = new
        return float(new[0]), float(new[1])


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Frames that cannot be read are listed at the end, with exit status 1."""
    args = flags.parse(build_parser(), argv)
    check_arguments(args)
    frames = open_frames(args.image_path, args.every, args.ext)
    predictor = flags.open_predictor(args)
    if predictor.cameras > 1:
        raise InputError(
            f"this model looks at {predictor.cameras} cameras of one frame set together, and a video has "
            "one; test_simple.py --dataset shows a frame set of a rig"
        )
    output, fps = Path(args.output or frames.output), args.fps or frames.fps
    if output.resolve() in [Path(place).expanduser().resolve() for place in args.image_path]:
        raise InputError(f"{output} is what the frames are read from; give another --output")
    failed: list[InputError] = []
    colours, layout, written = SteadyRange(), None, 0
    with video(output, fps, steady=COLOURS) as write, tqdm(total=frames.count, unit="frame") as bar:
        while batch := list(itertools.islice(frames.images, args.batch_size)):
            failed += [item for item in batch if isinstance(item, InputError)]
            images = [item for item in batch if isinstance(item, Tensor)]
            if images:
                layout = layout or arrange(images[0], args.output_width, predictor.width, args.depth_only)
                for image, inverse_depth in zip(images, predictor.inverse_depth(images)):
                    write(layout.draw(image, inverse_depth, colours))
                    written += 1
            bar.update(len(batch))
    print(f"wrote {output}, {written} frames at {fps:g} a second")
    if failed:
        print("some frames were left out:", *failed, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before anything is read."""
    flags.model_path(args)
    if args.output:
        check_format(Path(args.output).suffix or args.output, FILM_FORMATS)
    for name, least in (("every", 1), ("output_width", 16)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise InputError(f"--{name} must be {least} or more, got {value}")
    if args.fps is not None and args.fps <= 0:
        raise InputError(f"--fps must be above 0, got {args.fps:g}")


# ---------------------------------------------------------------------------------------------- images


@dataclass(frozen=True)
class Layout:
    """How one frame of the video is put together.

    Attributes:
        height, width: of the image and of its depth, each; even, as video wants it.
        axis: 0 one above the other, 1 side by side; None depth alone.
    """

    height: int
    width: int
    axis: int | None

    def draw(self, image: Tensor, inverse_depth: Tensor, colours: SteadyRange) -> np.ndarray:
        """A frame of the video, uint8 RGB, from (3, h, w) uint8 and (1, H, W)."""
        values = enlarge(inverse_depth[None], self.height, self.width)[0, 0]
        depth = colourise(values, *colours.update(values), COLOURS)
        if self.axis is None:
            return depth
        shown = resize_image(image, self.height, self.width).permute(1, 2, 0).numpy()
        return np.concatenate([shown, depth], self.axis)


def arrange(image: Tensor, output_width: int | None, network_width: int, depth_only: bool) -> Layout:
    """The layout for images like this one; as wide as the network sees them where nobody says."""
    height, width = image.shape[-2:]
    axis = None if depth_only else 0 if width >= WIDE * height else 1
    shown = output_width // (2 if axis == 1 else 1) if output_width else network_width
    return Layout(_even(shown * height / width), _even(shown), axis)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


# ------------------------------------------------------------------------------------------------ frames


def open_frames(places: Sequence[str], every: int = 1, ext: str | None = None) -> Frames:
    """The frames of a video file, a folder, or what patterns match; every n-th of them, or of those that
    end in `ext`.

    Raises:
        InputError: nothing is there, or it cannot be read.
    """
    first = Path(places[0]).expanduser()
    if first.suffix.lower() in VIDEOS:
        if len(places) > 1:
            raise InputError(f"one video at a time, got {len(places)}")
        return open_video(first, every)
    if first.is_dir() and len(places) == 1:
        videos = sorted(path.name for path in first.iterdir() if path.suffix.lower() in VIDEOS)
        if videos:
            raise InputError(f"{first} is a folder of videos; name one, such as {first / videos[0]}")
    paths = find_images(places)
    if ext is not None:
        ending = f".{ext.lower().removeprefix('.')}"
        paths = [path for path in paths if path.suffix.lower() == ending]
        if not paths:
            raise InputError(
                f"there is no {ending} at {' '.join(places)}; leave --ext out to take every image"
            )
    paths = paths[::every]
    folder = paths[0].parent
    parent = folder.resolve().parent if folder.name in ("", "..") else folder.parent
    output = parent / ((folder.resolve().name or "frames") + "_depth.gif")
    return Frames(map(_read_or_reason, paths), len(paths), FOLDER_FPS / every, output)


def _read_or_reason(path: Path) -> Tensor | InputError:
    try:
        return read_upright(path)
    except InputError as error:
        return error


def open_video(path: Path, every: int = 1) -> Frames:
    """Every n-th frame of a video file, decoded as they are asked for.

    Raises:
        InputError: missing, or not readable as a video.
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
        end = 0  # after the last frame that could be read
        while grabbed or number < min(count, end + GIVE_UP):  # a damaged frame looks like the end
            frame = capture.retrieve()[1] if grabbed and number % every == 0 else None
            if frame is not None:
                yield torch.from_numpy(np.ascontiguousarray(frame[..., ::-1])).permute(2, 0, 1)
            number += 1
            if grabbed:
                good, end = good + 1, number
            grabbed = capture.grab()
        capture.release()
        # The count in the header is an estimate for some formats, so a few may be missing at the end.
        if good < end or end < 0.9 * count:
            yield InputError(f"{path} announces {max(count, end)} frames, of which {good} could be read")

    output = path.with_name(f"{path.stem}_depth.mp4")
    return Frames(decode(), -(-count // every) or None, (fps if fps > 0 else FOLDER_FPS) / every, output)


def build_parser() -> argparse.ArgumentParser:
    """Flags keep the names users of BDEdepth know."""
    parser = flags.new_parser("test_video.py", "Predict the depth of a video.")

    group = parser.add_argument_group("frames")
    group.add_argument(
        "--image_path",
        nargs="+",
        required=True,
        metavar="PLACE",
        help="video file, folder of frames, or pattern in quotes; frames go by name, frame9 before frame10",
    )
    group.add_argument("--ext", help="take frames of this format alone, png or jpg; else of every one")
    group.add_argument("--every", type=int, default=1, metavar="N", help="take each N-th frame")

    group = parser.add_argument_group("video")
    group.add_argument(
        "--output",
        type=os.path.expanduser,
        metavar="FILE",
        help=".gif or .mp4; else beside the frames or the video, ..._depth",
    )
    group.add_argument("--fps", type=float, help="frames a second; else the video's, or 10 for a folder")
    group.add_argument("--depth_only", action="store_true", help="without the image beside it")
    group.add_argument(
        "--output_width", type=int, metavar="PIXELS", help="of the video; else images at network width"
    )
    flags.add_model_flags(parser)
    group = parser.add_argument_group("machine")
    flags.add_loading_flags(group, batch_size=4, workers=False)
    flags.add_device_flags(group)
    return parser


if __name__ == "__main__":
    run_main(main)
