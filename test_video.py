"""Depth of a video: a video file, an animated image or a folder of frames becomes a GIF, MP4 or WebM.

    python test_video.py --image_path drive.mp4 --run runs/monodepth2_kitti
    python test_video.py --image_path frames/ --load_weights_folder mono_640x192 --output depth.gif --fps 10

Image and depth stand side by side, or above one another if they are wide. The range that the colours span
changes slowly, so that colours stay comparable from frame to frame. Frames are read, predicted and written
one after another: an hour of video needs no more memory than a minute.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import flags
from utils import InputError, run_main


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Frames that cannot be read are listed at the end, with exit status 1."""
    args = flags.parse(build_parser(), argv)
    check_arguments(args)
    from tqdm import tqdm

    from prediction.frames import open_frames
    from prediction.layout import COLOURS, SteadyRange, arrange
    from videos import video

    frames = open_frames(args.image_path, args.every, args.ext)
    predictor = flags.open_predictor(args)
    if predictor.cameras > 1:
        raise InputError(
            f"this model predicts {predictor.cameras} cameras of one frame set together, and a video has "
            "one; test_simple.py --dataset predicts a frame set of a rig"
        )
    output, fps = Path(args.output or frames.output), args.fps or frames.fps
    if output.resolve() in [Path(path).expanduser().resolve() for path in args.image_path]:
        raise InputError(f"{output} is the input; give another file with --output")
    failed: list[InputError] = []
    colours, layout, written = SteadyRange(), None, 0
    with video(output, fps, COLOURS) as write, tqdm(total=frames.count, unit="frame") as bar:
        while batch := list(itertools.islice(frames.images, args.batch_size)):
            failed += [item for item in batch if isinstance(item, InputError)]
            images = [item for item in batch if not isinstance(item, InputError)]
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
    """Refuse contradictory flags before anything is read."""
    from images import check_format
    from videos import VIDEO_FORMATS

    flags.model_path(args)
    if args.output:
        check_format(Path(args.output).suffix or args.output, VIDEO_FORMATS)


def build_parser() -> argparse.ArgumentParser:
    """Flags have the names that users of BDEdepth know."""
    parser = flags.new_parser("test_video.py", "Predict the depth of a video.")

    group = parser.add_argument_group("frames")
    group.add_argument(
        "--image_path",
        nargs="+",
        required=True,
        metavar="PATH",
        help="video, animated GIF, WebP or PNG, folder of frames, or pattern in quotes; the frames of a "
        "folder are in natural order, frame9 before frame10",
    )
    group.add_argument("--ext", help="image format to take from a folder, such as png; else all formats")
    group.add_argument(
        "--every", type=flags.at_least(1), default=1, metavar="N", help="take every N-th frame (default: 1)"
    )

    group = parser.add_argument_group("video")
    group.add_argument(
        "--output",
        type=os.path.expanduser,
        metavar="FILE",
        help="video to write, .gif, .mp4 or .webm; else <input>_depth next to the input",
    )
    group.add_argument(
        "--fps", type=flags.positive, help="frames per second; else those of the video, or 10 for a folder"
    )
    group.add_argument("--depth_only", action="store_true", help="show only depth, without the image")
    group.add_argument(
        "--output_width",
        type=flags.at_least(16),
        metavar="PIXELS",
        help="width of the video; else image and depth have the width of the network's input",
    )
    flags.add_model_flags(parser)
    group = parser.add_argument_group("machine")
    flags.add_loading_flags(group, batch_size=4, workers=False)
    flags.add_device_flags(group)
    return parser


if __name__ == "__main__":
    run_main(main)
