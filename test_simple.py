"""Depth of images: one image, a folder or a pattern.

    python test_simple.py --image_path street.jpg --run runs/monodepth2_kitti
    python test_simple.py --image_path "drive/*/*.jpg" --load_weights_folder mono_640x192 --output depth --ply

For every image, at its own size (h, w):

    <stem>_disp.png    inverse depth in colours: near is bright; the range ends at the 95th percentile
    <stem>_depth.npy   --save_npy: (h, w) float32, depth along the optical axis
    <stem>_disp.npy    --save_npy: (h, w) float32, inverse depth, 1 / depth
    <stem>.ply         --ply: coloured points, x right, y down, z forward; --glb: the same as binary glTF
    <stem>_depth.npz   --save npz: `depth` (h, w) float32, and if known `intrinsics` (3, 3) of this size
    <stem>_depth.png   --save png: 16 bits, depth x 256 (--depth_factor)
    <stem>_rgb.png     --save rgb: the image; --save viz: <stem>_viz.png, PackNet's colours of inverse depth
    <stem>_labels.png  --save labels: train ids, of a model with segmentation (SGDepth); also
                       <stem>_label_colours.png, and <stem>_overlay.png, these colours over the image

One frame set of a rig, whose cameras some models predict together, comes from its dataset:

    python test_simple.py --run runs/surround_depth_ddad --dataset ddad --data_path D --sample 12 --ply

    <dataset>_<sample>_surround.png   all cameras arranged as on the vehicle, each image above its depth
    <dataset>_<sample>.ply            --ply: points of all cameras, x forward, y left, z up, metres
    <dataset>_<sample>_<camera>...    each camera's files, as above

`--bridge FORMAT FOLDER` also writes all images into a folder that other programs read: KITTI's form, a
dataset for supervised training, inverse depth for Gaussian splatting, and of a rig a nerfstudio scene
(prediction/bridges/).

The files are written next to the image or into --output; those of a frame set into --output or the working
directory. Depth is in metres if the training fixed the scale, otherwise up to scale; the last line says
which. The arrays of Monodepth2's script are (1, 1, H, W) at the network's size, in units of 5.4 m for models
trained on stereo pairs; these have the size of the image and are in metres.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import flags
from prediction import add_bridge_flags, check_bridges, wanted_clouds
from utils import InputError, data_root, run_main

if TYPE_CHECKING:
    from prediction.outputs import Wanted
    from predictor import Predictor


def main(argv: Sequence[str] | None = None) -> None:
    """The command line. Images that cannot be read are listed at the end, with exit status 1."""
    args = flags.parse(build_parser(), argv)
    check_arguments(args)
    if args.dataset:
        predict_rig(args)
    else:
        predict_files(args)


def predict_files(args: argparse.Namespace) -> None:
    """Predict the images of --image_path."""
    from prediction.images import Report, about_intrinsics, in_words, name_outputs, predict_images, summary
    from predictor import find_images
    from progress import Bar

    outputs = name_outputs(find_images(args.image_path), args.output)
    predictor = flags.open_predictor(args)
    if predictor.cameras > 1:
        raise InputError(
            f"this model predicts {predictor.cameras} cameras of one frame set together: instead of "
            "--image_path give a sample of a dataset, --dataset ddad --data_path FOLDER --sample 0"
        )
    require_metric(args, predictor.is_metric)
    wanted = wanted_files(args, predictor)
    report = Report()
    with Bar(total=len(outputs), unit="image", disable=len(outputs) == 1) as bar:
        for count in predict_images(predictor, outputs, wanted, report, args.batch_size):
            bar.update(count)
    for sentence in about_intrinsics(report.sources, wanted):
        print(sentence)
    if report.dark:
        print(f"{len(report.dark)} of the images are nearly black: {report.dark[0]}", file=sys.stderr)
    failed = report.failed
    if len(failed) < len(outputs):
        print(f"{summary(outputs, len(failed), wanted, args.output)}; depth is {in_words(predictor)}")
        for bridge in wanted.bridges:
            print(bridge.finish())
    if failed:
        print(f"{len(failed)} of {len(outputs)} images were left out:", *failed, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


def predict_rig(args: argparse.Namespace) -> None:
    """Predict the frame set that --dataset and --sample name."""
    from prediction.rig import open_rig, predict_frame_set

    predictor = flags.open_predictor(args)
    require_metric(args, predictor.is_metric)
    data_path = args.data_path or data_root() / args.dataset
    settings = {"data_path": data_path, "split": args.split, "part": args.part, **args.dataset_settings}
    dataset = open_rig(args.dataset, predictor, bool(wanted_clouds(args)), **settings)
    folder, wanted = Path(args.output or "."), wanted_files(args, predictor)
    print(predict_frame_set(predictor, dataset, args.dataset, args.sample, folder, wanted))


def wanted_files(args: argparse.Namespace, predictor: Predictor) -> Wanted:
    """The flags of the group "output" as `prediction.outputs.Wanted`."""
    from prediction.bridges import open_bridges
    from prediction.labels import table_of_model
    from prediction.outputs import DEPTH_FACTOR, Wanted

    kinds = tuple(args.save)
    table = table_of_model(predictor, "--save labels") if "labels" in kinds else None
    arrays = args.save_npy or args.pred_metric_depth
    factor = args.depth_factor or DEPTH_FACTOR
    bridges = tuple(open_bridges(args.bridge, predictor, args.depth_factor))
    return Wanted(args.ext, arrays, wanted_clouds(args), args.intrinsics, kinds, factor, table, bridges)


def require_metric(args: argparse.Namespace, is_metric: bool) -> None:
    """Refuse --pred_metric_depth for a model without metric scale."""
    if args.pred_metric_depth and not is_metric:
        raise InputError(
            "--pred_metric_depth needs a model with metric scale, trained on stereo pairs, a rig, speed or "
            "depth; the depth of this model is known up to scale; --save_npy writes it, and "
            "tools/scale.py fits its scale to measurements"
        )


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse contradictory flags before anything is read."""
    from images import IMAGE_FORMATS, check_format
    from intrinsics import parse_intrinsics
    from prediction.outputs import Wanted

    flags.model_path(args)
    if bool(args.image_path) == bool(args.dataset):
        raise InputError("give either images, --image_path, or a sample: --dataset ddad --sample 12")
    if args.dataset_settings and not args.dataset:
        raise InputError(
            f"--dataset.{next(iter(args.dataset_settings))} is about a sample of --dataset; leave it out"
        )
    if args.dataset and args.intrinsics:
        raise InputError("the cameras of a dataset have their own intrinsics; leave --intrinsics out")
    check_format(args.ext, list(IMAGE_FORMATS))
    Wanted(kinds=tuple(args.save))
    check_bridges(args.bridge, ("times",) if args.dataset else ("times", "poses"))
    if args.intrinsics:
        parse_intrinsics(args.intrinsics, "--intrinsics")
        if not (wanted_clouds(args) or args.bridge or "npz" in args.save):
            raise InputError(
                "--intrinsics are for the points of --ply and --glb, for --bridge and for --save npz; add "
                "one, or leave them out"
            )
    if args.depth_factor and not (args.bridge or "png" in args.save):
        raise InputError("--depth_factor is for --save png and --bridge; add one, or leave the factor out")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the flags, which have Monodepth2's names."""
    parser = flags.new_parser("test_simple.py", "Predict the depth of images.")

    group = parser.add_argument_group("images")
    group.add_argument(
        "--image_path",
        nargs="+",
        metavar="PATH",
        help="image, folder of images, or pattern in quotes; all image formats are found",
    )

    group = parser.add_argument_group("or one frame set of a rig")
    group.add_argument("--dataset", metavar="NAME", help="dataset of a rig of cameras: ddad or nuscenes")
    group.add_argument(
        "--data_path",
        **flags.FOLDER,
        help="root of the dataset; else $PARALLAX_DATA/<dataset> or data/<dataset>",
    )
    group.add_argument(
        "--split", type=os.path.expanduser, help="split of the dataset; else that of the training"
    )
    group.add_argument("--part", default="val", help="part of the split: train, val or test (default: val)")
    group.add_argument(
        "--sample", default="0", metavar="N", help="index of the sample, or the end of its name (default: 0)"
    )
    flags.add_settings(group)

    _add_output_flags(parser)
    flags.add_model_flags(parser)
    group = parser.add_argument_group("machine")
    flags.add_loading_flags(group, batch_size=4, workers=False)
    flags.add_device_flags(group)
    return parser


def _add_output_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--output", **flags.FOLDER, help="folder for the outputs; else next to each image")
    group.add_argument("--ext", default="png", help="format of coloured images: png, jpg, ... (default: png)")
    group.add_argument(
        "--save_npy", **flags.SWITCH, help="write depth and 1 / depth as float32 arrays as well"
    )
    group.add_argument(
        "--save",
        nargs="+",
        default=[],
        metavar="KIND",
        help="further files of each image: npz (depth and intrinsics), png (16-bit depth), rgb (the image), "
        "viz (inverse depth in PackNet's colours), labels (train ids, colours, overlay; of a model with "
        "segmentation)",
    )
    group.add_argument("--ply", **flags.SWITCH, help="write a coloured point cloud as well")
    group.add_argument("--glb", **flags.SWITCH, help="write it as binary glTF, for browsers and Blender")
    add_bridge_flags(group, "256, as KITTI and PackNet have it, or that of the form")
    group.add_argument(
        "--intrinsics",
        metavar='"FX FY CX CY"',
        help="intrinsics of the images for points, --bridge and --save npz, pixels; else cam.txt next to the "
        "image, else the run's",
    )
    group.add_argument(
        "--pred_metric_depth",
        **flags.SWITCH,
        help="the same as --save_npy, but refuse a model without metric scale",
    )


if __name__ == "__main__":
    run_main(main)
