"""Depth and labels of a video: a video file, an animated image or a folder of frames becomes a video.

    python test_video.py --image_path drive.mp4 --run runs/monodepth2_kitti
    python test_video.py --image_path frames/ --load_weights_folder mono_640x192 --output depth.gif --fps 10
    python test_video.py --image_path drive.mp4 --run runs/sgdepth --show overlay depth

    python test_video.py --image_path frames/ --run runs/sc_depth --ply street.ply --rgbd recording
    python test_video.py --image_path frames/ --run runs/sc_depth --glb street.glb --bridge nerfstudio scene

The output is a GIF, MP4 or WebM. Image and depth, or the panels of `--show`, stand side by side, or above one
another if they are wide. The range that the colours span
changes slowly, so that colours stay comparable from frame to frame. Frames are read, predicted and written
one after another: an hour of video needs no more memory than a minute. `--ply` and `--glb` also write
one point cloud of the sequence (prediction/fusion.py), `--rgbd` a recording for RGB-D SLAM, and `--bridge`
folders for nerfstudio, Gaussian splatting, KITTI's and TUM's programs or supervised training
(prediction/bridges/).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import flags
from prediction import LABELLED, PANELS, add_bridge_flags, check_bridges, wanted_clouds
from utils import InputError, run_main

if TYPE_CHECKING:
    from datasets._labels import LabelTable
    from prediction.frames import Frames
    from prediction.sequence_outputs import Output
    from predictor import Predictor

SHOWN = ("image", "depth")  # panels by default
NEEDED = {  # flag → flags that it needs, at least one
    "depth_factor": ("rgbd", "bridge"),
    "ply_agree": ("ply", "glb"),
    "ply_tolerance": ("ply", "glb"),
    "ply_voxel": ("ply", "glb"),
    "intrinsics": ("ply", "glb", "rgbd", "bridge"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Frames that cannot be read are listed at the end, with exit status 1."""
    args = flags.parse(build_parser(), argv)
    check_arguments(args)
    from prediction.frames import open_frames
    from prediction.layout import COLOURS, FrameDrawer
    from prediction.smoothing import Smoothing
    from prediction.streaming import predict_frames
    from progress import Bar
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
    panels = ["depth"] if args.depth_only else args.show
    table = label_table(predictor, panels)
    others = further_outputs(args, predictor, frames, fps)
    failed: list[InputError] = []
    palette, written = None if table is None else table.palette, 0
    with video(output, fps, COLOURS, palette) as write, Bar(total=frames.count, unit="frame") as bar:
        draw = FrameDrawer(args.output_width, None if args.own_size else predictor.width, panels, table)
        smooth = Smoothing(args.smooth)
        posed = any(other.needs_poses for other in others)
        for frame in predict_frames(predictor, frames, args.batch_size, posed, failed):
            bar.update()
            if frame is not None:
                write(draw(smooth(frame)))
                written += 1
                for other in others:
                    other.add(frame)
        if failed and not written:
            raise failed[0]
    print(f"wrote {output}, {written} frames at {fps:g} a second")
    for other in others:
        print(other.finish())
    if failed:
        print("some frames were left out:", *failed, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


def further_outputs(
    args: argparse.Namespace, predictor: Predictor, frames: Frames, fps: float
) -> list[Output]:
    """The outputs of the sequence in addition to the video; each takes every frame and then finishes."""
    from prediction.bridges import open_bridges
    from prediction.fusion import AGREE, TOLERANCE, SequenceCloud
    from prediction.sequence_outputs import RGBD_FACTOR, BridgedSequence
    from prediction.streaming import SequenceCamera

    camera = SequenceCamera(frames, args.intrinsics, predictor)
    outputs: list[Output] = []
    if wanted_clouds(args):
        agree, tolerance = args.ply_agree or AGREE, args.ply_tolerance or TOLERANCE
        paths = [Path(path) for path in (args.ply, args.glb) if path]
        cloud = SequenceCloud(paths, camera, fps, predictor.unit, agree, tolerance, args.ply_voxel)
        outputs.append(cloud)
    bridges = open_bridges(args.bridge, predictor, args.depth_factor)
    if args.rgbd:
        bridges += open_bridges([("tum", args.rgbd)], predictor, args.depth_factor or RGBD_FACTOR)
    return outputs + [BridgedSequence(bridge, camera, fps) for bridge in bridges]


def label_table(predictor: Predictor, panels: Sequence[str]) -> LabelTable | None:
    """The classes of the panels that show labels; None if no panel does.

    Raises:
        InputError: the model has no segmentation.
    """
    from prediction.labels import table_of_model

    shown = [panel for panel in panels if panel in LABELLED]
    return table_of_model(predictor, f"--show {shown[0]}") if shown else None


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse contradictory flags before anything is read."""
    from images import check_format
    from intrinsics import parse_intrinsics
    from videos import VIDEO_FORMATS

    flags.model_path(args)
    if args.depth_only and args.show != list(SHOWN):
        raise InputError("--depth_only is --show depth; give one of the two")
    if args.own_size and args.output_width:
        raise InputError("--own_size is the size of the frames; leave --output_width out")
    if not 0 <= args.smooth < 1:
        raise InputError(f"--smooth is in [0, 1), got {args.smooth:g}; try 0.7")
    for name, needed in NEEDED.items():
        if getattr(args, name) and not any(getattr(args, other) for other in needed):
            options = " or ".join(f"--{other}" for other in needed)
            raise InputError(f"--{name} has no effect without {options}; add it, or leave --{name} out")
    for name in ("ply", "glb"):
        if path := getattr(args, name):
            check_format(Path(path).suffix or path, [f".{name}"])
    check_bridges(args.bridge)
    if args.intrinsics:
        parse_intrinsics(args.intrinsics, "--intrinsics")
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
    group.add_argument(
        "--show",
        nargs="+",
        choices=PANELS,
        default=list(SHOWN),
        metavar="PANEL",
        help=f"panels of a frame, in this order: {', '.join(PANELS)} (default: {' '.join(SHOWN)}); labels "
        "and their overlay on the image need a model with segmentation",
    )
    group.add_argument("--depth_only", action="store_true", help="the same as --show depth")
    group.add_argument(
        "--output_width",
        type=flags.at_least(16),
        metavar="PIXELS",
        help="width of the video; else each panel has the width of the network's input",
    )
    group.add_argument("--own_size", action="store_true", help="each panel has the size of the frames")
    group.add_argument(
        "--smooth",
        type=float,
        default=0.0,
        metavar="X",
        help="smooth the shown depth over time where the image stays the same: weight of the earlier depth, "
        "0 to 1 (default: 0)",
    )
    _add_sequence_flags(parser)
    flags.add_model_flags(parser)
    group = parser.add_argument_group("machine")
    flags.add_loading_flags(group, batch_size=4, workers=False)
    flags.add_device_flags(group)
    return parser


def _add_sequence_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the sequence as a point cloud, or for other programs")
    group.add_argument(
        "--ply",
        **flags.FILE,
        help="write one point cloud of all frames, posed by the pose network, and next to it the camera's "
        "path in KITTI's and TUM's format",
    )
    group.add_argument("--glb", **flags.FILE, help="the same cloud as binary glTF, for browsers and Blender")
    group.add_argument(
        "--ply_agree",
        type=flags.at_least(1),
        metavar="N",
        help="frames, of the 3 before and the 3 after, that must agree on a point (default: 3)",
    )
    group.add_argument(
        "--ply_tolerance",
        type=flags.positive,
        metavar="X",
        help="relative difference of depth up to which frames agree (default: 0.05)",
    )
    group.add_argument(
        "--ply_voxel",
        type=flags.positive,
        metavar="SIZE",
        help="edge of the voxels that keep one point each, in the unit of depth (default: 1 / 200 of the "
        "first frame's median depth, at least a pixel there)",
    )
    group.add_argument(
        "--rgbd",
        **flags.FOLDER,
        help="write frames and 16-bit depth with associations.txt, as TUM's RGB-D recordings have them",
    )
    add_bridge_flags(group, "that of the form; 1000 for --rgbd, 5000 for TUM's own recordings")
    group.add_argument(
        "--intrinsics",
        metavar='"FX FY CX CY"',
        help="intrinsics of the frames, pixels; else cam.txt next to them, else the run's, else a guess",
    )


if __name__ == "__main__":
    run_main(main)
