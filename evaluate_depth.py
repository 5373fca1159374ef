"""Evaluate depth by a benchmark's protocol: a run, a published checkpoint, or predictions saved before.

    python evaluate_depth.py --run runs/monodepth2_kitti --data_path kitti_data
    python evaluate_depth.py --load_weights_folder mono_640x192 --data_path kitti_data --post_process
    python evaluate_depth.py --ext_disp_to_eval mono_640x192_eigen.npy --eval_mono --gt_path gt_depths.npz
    python evaluate_depth.py --run runs/monodepth2_kitti --kitti_path K --make3d_path M --nyuv2_path N
    python evaluate_depth.py --run runs/monodepth2_kitti --data_path kitti_data --corruptions
    python evaluate_depth.py --compare runs/first runs/second

Size, decode range and dataset come from the checkpoint. The caps of the evaluation are the protocol's; they
are not the decode range. A model that learned a metric scale (stereo pairs, a rig's extrinsics, speed,
measured depth) is not aligned; every other model is aligned by each image's median. A rig is evaluated both
ways from the same predictions: scale-ambiguous, each image aligned by its median, and scale-aware, without
alignment. The numbers are printed under the protocol card and saved as results.json and per_image.csv.

Ground truth that comes from LiDAR scans is exported by the first evaluation.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flags
from shards import is_first
from utils import InputError, read_yaml, run_main

if TYPE_CHECKING:
    import torch

    from evaluation.choice import ProtocolChoice

TOGETHER = ("kitti", "make3d", "nyuv2", "cityscapes", "ddad", "nuscenes", "kitti2015")  # in one call
# Settings of a protocol that have no flag of their own.
PROTOCOL_SETTINGS = ("cap_ground_truth", "resize", "align_corners", "median", "log10", "dynamic_twice")
RENAMED = {"cap_truth": "cap_ground_truth"}
SAVED_OPTIONS = {"intrinsics": "fixed"}  # of saved predictions: their images are counted, not read


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    if args.compare:
        compare(args)
        return
    from processes import end_processes, start_processes  # imports torch

    device = start_processes(flags.device_name(args))
    try:
        # Under torchrun every process evaluates its share, and the first one prints.
        with contextlib.redirect_stdout(sys.stdout if is_first() else io.StringIO()):
            run_evaluation(args, device)
    finally:
        end_processes()


def compare(args: argparse.Namespace) -> None:
    """Print the comparison of two saved evaluations; with the data, draw the images that changed most."""
    from evaluation.comparison import compare_images, read_images

    a, b = map(read_images, args.compare)
    found = compare_images(a, b)
    print(f"A: {a.source}\nB: {b.source}\n{found.table()}")
    if not args.data_path:
        return
    from devices import pick_device
    from evaluation.choice import DatasetChoice, Model
    from evaluation.comparison_grid import draw_changes
    from methods import load_method

    device = pick_device(flags.device_name(args))
    models = [Model(*load_method(path, device, args.checkpoint), path) for path in args.compare]
    where = DatasetChoice(args.dataset, args.data_path, args.eval_split, settings=args.dataset_settings)
    path = Path(args.output or ".") / "comparison.png"
    count = draw_changes(path, models, where, protocol_choice(args), found)
    print(f"\n{count} images with error maps: {path}")


def run_evaluation(args: argparse.Namespace, device: torch.device) -> None:
    """Evaluate what the flags name, on `device`."""
    from evaluation import Loading
    from evaluation.benchmarks import Files, evaluate_one, evaluate_together
    from evaluation.choice import DatasetChoice, Model
    from evaluation.details import DetailChoice

    source = flags.model_path(args)
    if source is None:
        model = Model(None, {**SAVED_OPTIONS, **flags.network_size(args)}, args.ext_disp_to_eval)
    else:
        model = Model(*flags.open_model(args, device), source)
    loading = Loading(args.batch_size, device, args.num_workers, progress=True, flip=args.post_process)
    how = protocol_choice(args)
    if roots := {name: path for name in TOGETHER if (path := getattr(args, f"{name}_path"))}:
        evaluate_together(model, roots, how, loading, args.output, args.skip_missing, args.latex)
        return
    of_file = bool(args.gt_path) and Path(args.gt_path).is_file()
    where = DatasetChoice(
        args.dataset,
        args.data_path,
        args.eval_split,
        gt_path=None if of_file else args.gt_path,
        ground_truth=args.ground_truth,
        skip_missing=args.skip_missing,
        settings=args.dataset_settings,
    )
    files = Files(
        args.ext_disp_to_eval,
        args.eval_eigen_to_benchmark,
        ground_truth=args.gt_path if of_file else None,
        save=args.save_pred_disps,
        evaluate=not args.no_eval,
        corruptions=args.corruptions,
        corruptions_reference=args.corruptions_reference,
        details=DetailChoice(tuple(args.details), args.moving_masks, args.moving_labels),
        server_rounding=args.server_rounding,
        latex=args.latex,
    )
    evaluate_one(model, where, how, files, loading, args.output)


def protocol_choice(args: argparse.Namespace) -> ProtocolChoice:
    """Alignment, scale and protocol settings that the flags name."""
    from evaluation.choice import ProtocolChoice

    changes = {
        "crop": args.crop,
        "min_depth": args.eval_min_depth,
        "max_depth": args.eval_max_depth,
        **dict(args.protocol),
    }
    stereo = True if args.eval_stereo else False if args.eval_mono else None
    return ProtocolChoice(
        stereo, not args.disable_median_scaling, args.pred_depth_scale_factor, changes, args.allow_overlap
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags, after a check that they do not contradict each other.

    Raises:
        InputError: an unknown flag or value, flags that exclude each other or would do nothing.
    """
    args = flags.parse(build_parser(), arguments)
    if args.compare:
        if any(getattr(args, name) for name in args.model_flags):
            raise InputError("--compare reads saved evaluations and takes no model; leave out the other")
        return args
    source = flags.model_path(args)
    if args.eval_mono and args.eval_stereo:
        raise InputError("--eval_mono and --eval_stereo exclude each other; give the one it was trained as")
    if args.save_pred_disps and source is None:
        raise InputError("--save_pred_disps saves a model's predictions, and --ext_disp_to_eval has none")
    if args.no_eval and not args.save_pred_disps:
        raise InputError("--no_eval without --save_pred_disps would do nothing")
    if args.corruptions is not None and (source is None or args.no_eval or args.save_pred_disps):
        raise InputError(
            "--corruptions predicts changed images with a model; leave out --ext_disp_to_eval, --no_eval and "
            "--save_pred_disps"
        )
    if args.corruptions_reference and args.corruptions is None:
        raise InputError("--corruptions_reference has no effect without --corruptions")
    if args.eval_eigen_to_benchmark and source is not None:
        raise InputError("--eval_eigen_to_benchmark picks among saved disparities; add --ext_disp_to_eval")
    if args.gt_path and Path(args.gt_path).is_file() and {"regions", "clouds"} & set(args.details):
        raise InputError("--details regions and clouds need the images' data; leave out --gt_path FILE")
    if args.gt_path and args.gt_path.endswith(".npz") and not Path(args.gt_path).is_file():
        raise InputError(f"there is no file {args.gt_path}, which --gt_path names")
    together = [f"--{name}_path" for name in TOGETHER if getattr(args, f"{name}_path")]
    names = ("data_path", "dataset", "eval_split", "gt_path", "ground_truth", "ext_disp_to_eval", "no_eval",
             "save_pred_disps", "corruptions_reference", "details", "moving_masks", "moving_labels",
             "server_rounding")  # fmt: skip
    of_one = [f"--{name}" for name in names if getattr(args, name)]
    of_one += [f"--dataset.{key}" for key in args.dataset_settings]
    of_one += ["--corruptions"] if args.corruptions is not None else []
    if together and of_one:
        raise InputError(
            f"{of_one[0]} is about one dataset: give --dataset and --data_path instead of "
            f"{' '.join(together)}"
        )
    return args


def build_parser() -> argparse.ArgumentParser:
    """The parser; flags keep the names that users of Monodepth2 know."""
    parser = flags.new_parser(
        "evaluate_depth.py",
        "Evaluate depth by a benchmark's protocol.",
        epilog="BDEdepth's published KITTI numbers follow another protocol: --protocol align_corners=true "
        "median=lower gives theirs to the sixth digit.",
    )
    saved = "saved disparities, (N, h, w) in a .npy or .npz; or a folder of depth, a .npy, .npz or .png each"
    flags.add_model_flags(parser, {"--ext_disp_to_eval": saved})
    group = parser.add_argument_group("several datasets in one call, each by its own protocol")
    for name in TOGETHER:
        benchmarks = ", evaluated by eigen and eigen_benchmark" if name == "kitti" else ""
        group.add_argument(f"--{name}_path", **flags.FOLDER, help=f"root of {name}{benchmarks}")

    group = parser.add_argument_group("one dataset")
    flags.add_dataset_flags(group)
    group.add_argument(
        "--eval_split",
        type=os.path.expanduser,
        metavar="SPLIT[/PART]",
        help="split to evaluate: eigen, eigen_benchmark, any other, a folder of lists; benchmark writes the "
        "images for KITTI's server",
    )
    group.add_argument(
        "--gt_path",
        type=os.path.expanduser,
        help="ground truth: a published gt_depths.npz, or the folder of our exported ground truth",
    )
    group.add_argument(
        "--ground_truth", help="ground truth other than the split's own: velodyne_camera, improved, ..."
    )
    group.add_argument(
        "--server_rounding",
        choices=("nearest", "down"),
        help="rounding of the depth that KITTI's server gets, to 1 / 256 m; the published code rounds down",
    )
    _add_protocol_flags(parser)
    _add_more_evaluations(parser)

    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", **flags.FOLDER, help="folder of the results; else evaluation/<split> next to the model"
    )
    group.add_argument(
        "--save_pred_disps", **flags.SWITCH, help="write the predictions to disps_<split>_split.npy"
    )
    group.add_argument("--no_eval", **flags.SWITCH, help="predict and save only")
    group.add_argument(
        "--latex",
        **flags.SWITCH,
        help="also print the means as a line of a LaTeX table, with abs_diff and log10",
    )

    group = parser.add_argument_group("machine")
    flags.add_loading_flags(group)
    flags.add_device_flags(group)
    return parser


def _add_more_evaluations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument_group("two evaluations compared").add_argument(
        "--compare",
        nargs=2,
        type=os.path.expanduser,
        metavar=("A", "B"),
        help="runs, folders of results or per_image.csv: paired differences with intervals by scene; "
        "with --data_path two runs also draw the images that changed most",
    )
    group = parser.add_argument_group("further errors of each image, in results.json and per_image.csv")
    group.add_argument(
        "--details",
        nargs="+",
        default=[],
        metavar="KIND",
        help="regions (moving and static pixels), edges (of dense ground truth), clouds (F-score, Chamfer)",
    )
    group.add_argument(
        "--moving_masks",
        **flags.FOLDER,
        help="masks, instances or label files that mirror the images' folder; else the dataset's labels",
    )
    group.add_argument(
        "--moving_labels", help="label table of --moving_masks, a labels.yaml or a name such as cityscapes"
    )
    group = parser.add_argument_group("robustness")
    group.add_argument(
        "--corruptions",
        nargs="*",
        metavar="KIND",
        help="evaluate corrupted images as well (mCE and mRR): the kinds named, or all 18",
    )
    group.add_argument(
        "--corruptions_reference",
        **flags.FILE,
        help="corruptions.json of the model that mCE is relative to; else one constant depth",
    )


def _add_protocol_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("protocol")
    group.add_argument(
        "--eval_mono",
        **flags.SWITCH,
        help="align each image by its median (default: alignment that fits the model's training)",
    )
    group.add_argument(
        "--eval_stereo", **flags.SWITCH, help="metric: depth x 5.4 / (baseline / 0.1), no alignment"
    )
    group.add_argument("--disable_median_scaling", **flags.SWITCH, help="do not align predictions")
    group.add_argument(
        "--pred_depth_scale_factor",
        type=flags.positive,
        metavar="X",
        help="factor for predicted depth; else the model's metric scale, or 1",
    )
    group.add_argument(
        "--post_process", **flags.SWITCH, help="flip averaging: predict the mirror image too and combine both"
    )
    group.add_argument("--crop", help="garg, eigen, cityscapes, nyu or none; else the protocol's own")
    for name, which in (("min", "smallest"), ("max", "largest")):
        group.add_argument(
            f"--eval_{name}_depth",
            type=float,
            metavar="M",
            help=f"{which} depth of ground truth and prediction, metres; else the protocol's own",
        )
    group.add_argument(
        "--protocol",
        action="extend",
        nargs="+",
        type=protocol_setting,
        default=[],
        metavar="KEY=VALUE",
        help=f"other settings of the protocol: {', '.join(PROTOCOL_SETTINGS)}",
    )
    group.add_argument(
        "--eval_eigen_to_benchmark",
        **flags.SWITCH,
        help="evaluate only the 652 of 697 saved Eigen disparities that have improved ground truth",
    )
    group.add_argument(
        "--allow_overlap",
        **flags.SWITCH,
        help="print the benchmark's name although training data overlap the evaluated frames",
    )


def protocol_setting(text: str) -> tuple[str, Any]:
    """Key and value of a setting: ("median", "lower") for `median=lower`. An old name prints the new one."""
    key, equals, value = text.partition("=")
    if new := RENAMED.get(key):
        print(f"--protocol {key} is called {new} now", file=sys.stderr)
        key = new
    if not equals or key not in PROTOCOL_SETTINGS:
        raise argparse.ArgumentTypeError(
            f"must be KEY=VALUE with KEY one of {', '.join(PROTOCOL_SETTINGS)}, got '{text}'"
        )
    return key, read_yaml(value)


if __name__ == "__main__":
    run_main(main)
