"""Evaluate visual odometry: chain a model's motions over a sequence and compare the path with ground truth.

    python evaluate_pose.py --run runs/monodepth2_odom --data_path kitti_odom --eval_split odom_9
    python evaluate_pose.py --run runs/mine --images folder_of_frames --poses ground_truth.txt
    python evaluate_pose.py --ext_poses trajectory.txt --data_path kitti_odom --sequence 10

KITTI's layout is <root>/sequences/09/image_2/000000.png and <root>/poses/09.txt. A model that learned from
video only has no scale, so its path is aligned with seven degrees of freedom (`7dof`) before drift is
measured; a metric model's with six. The output folder gets the path in KITTI's and TUM's format, the
motions, and with ground truth metrics.json, an image of both paths and the ground truth in KITTI's format,
which tools/report.py draws.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import flags
from trajectories import (
    ALIGNMENTS,
    GROUND_TRUTH_FILE,
    PATH_FILE,
    SCORES_FILE,
    align,
    chain,
    motions_of,
    read_path,
    write_kitti,
    write_tum,
)
from utils import InputError, atomic_path, can_write, data_root, run_main


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    args = flags.parse(build_parser(), arguments)
    if args.eval_mono and args.eval_stereo:
        raise InputError("--eval_mono and --eval_stereo exclude each other; give the one it was trained as")
    model = flags.model_path(args)
    name, images, poses = find_sequence(args)
    ground_truth = read_path(poses) if poses.is_file() else None
    output = Path(args.output or default_output(model or Path(args.ext_poses), name))
    if not can_write(output):
        raise InputError(f"{output} cannot be written; give another folder with --output")
    path, metric = saved_path(args) if model is None else predicted_path(args, images, poses, ground_truth)
    write_path(output, path, images.parent / "times.txt")
    if ground_truth is None:
        print(f"no ground truth path at {poses}: nothing to compare with\nsaved: {output}")
        return
    alignment = args.alignment or ("6dof" if metric else "7dof")
    write_scores(output, name, alignment, path, ground_truth)
    files = (SCORES_FILE, "trajectory.png", PATH_FILE, "trajectory_tum.txt", GROUND_TRUTH_FILE)
    print(f"\nsaved: {output}/{', '.join(files)}")


def saved_path(args: argparse.Namespace) -> tuple[np.ndarray, bool]:
    """The path of `--ext_poses` (N, 4, 4), and whether it counts as metric."""
    from evaluation.odometry import read_motions_or_path  # imports torch, as below

    path = read_motions_or_path(args.ext_poses)
    path[:, :3, 3] *= args.scale or 1.0
    return path, args.eval_stereo


def predicted_path(
    args: argparse.Namespace, images: Path, poses: Path, ground_truth: np.ndarray | None
) -> tuple[np.ndarray, bool]:
    """The model's path (N, 4, 4) over a folder of images, times its scale, and whether it is metric.

    Raises:
        InputError: there are not as many images as poses in `ground_truth`, which is of the file `poses`.
    """
    from devices import pick_device
    from evaluation import Loading
    from evaluation.odometry import list_images, predict_motions
    from methods.metric_scale import metric_scale, scale_error, stereo_scale, unit_of

    device = pick_device(flags.device_name(args))
    method, options = flags.open_model(args, device)
    known = None
    if not args.eval_mono:
        known = stereo_scale(options) if args.eval_stereo else metric_scale(method, options)
        if scale_error(method, options):
            print(f"scale: {unit_of(method, options)}")
    files = list_images(images)
    if ground_truth is not None and len(files) != len(ground_truth):
        raise InputError(f"{images} has {len(files)} images, but {poses} has {len(ground_truth)} poses")
    motions = predict_motions(
        method.predict_pose,
        files,
        options["height"],
        options["width"],
        options.get("resize") or "bicubic",
        Loading(args.batch_size, device, args.num_workers, progress=True),
    )
    path = chain(motions)
    path[:, :3, 3] *= args.scale or known or 1.0
    return path, known is not None


def write_path(output: Path, path: np.ndarray, times: Path) -> None:
    """The path in both formats, with the seconds of the file `times` if it fits, and its motions."""
    from evaluation.odometry import read_times

    write_kitti(output / PATH_FILE, path)
    write_tum(output / "trajectory_tum.txt", path, read_times(times, len(path)))
    with atomic_path(output / "motions.npy") as file, open(file, "wb") as stream:
        np.save(stream, motions_of(path).astype(np.float32))


def write_scores(output: Path, name: str, alignment: str, path: np.ndarray, ground_truth: np.ndarray) -> None:
    """Print the errors of a path; write them as metrics.json, the ground truth, both as trajectory.png."""
    from evaluation.odometry import draw_paths, evaluate_path, score_table
    from evaluation.result import without_nan

    scores = evaluate_path(path, ground_truth, alignment)
    print(score_table(name, alignment, scores))
    about = {"sequence": name, "alignment": alignment, "frames": len(path)}
    write_kitti(output / GROUND_TRUTH_FILE, ground_truth)
    with atomic_path(output / SCORES_FILE) as file:
        file.write_text(json.dumps({**about, **without_nan(scores)}, indent=2) + "\n")
    aligned = align(path, ground_truth, alignment)[0]
    draw_paths(output / "trajectory.png", aligned, ground_truth, f"{name}, {alignment}")


def find_sequence(args: argparse.Namespace) -> tuple[str, Path, Path]:
    """Name, folder of images and file of ground truth poses that the flags name.

    Raises:
        InputError: they name no sequence, or two.
    """
    split = args.eval_split
    if split and not (split.startswith("odom_") and split[5:].isdecimal()):
        raise InputError(f"--eval_split is odom_9, odom_10 or the like, got '{split}'")
    if sum(map(bool, (split, args.sequence, args.images or args.poses))) != 1:
        raise InputError("give one of --eval_split odom_9, --sequence 09, or --images FOLDER [--poses FILE]")
    if args.images or args.poses:
        folder = Path(args.images or Path(args.poses).parent)
        poses = Path(args.poses) if args.poses else folder / "poses.txt"
        if args.poses and not poses.is_file():
            raise InputError(f"there is no file of poses {poses}")
        return Path(os.path.abspath(folder)).name, folder, poses
    number = split[5:] if split else args.sequence
    number = f"{int(number):02d}" if number.isdecimal() else number
    root = Path(args.data_path or data_root() / "kitti_odom")
    camera = {"l": 2, "r": 3}[args.side]
    return number, root / "sequences" / number / f"image_{camera}", root / "poses" / f"{number}.txt"


def default_output(source: Path, name: str) -> Path:
    """Folder next to the evaluated poses or model: <folder>/evaluation/odom_<sequence>."""
    from checkpoints.hub import results_folder

    return results_folder(source) / "evaluation" / f"odom_{name}"


def build_parser() -> argparse.ArgumentParser:
    """The parser; flags keep the names that users of Monodepth2 know."""
    parser = flags.new_parser("evaluate_pose.py", "Evaluate visual odometry on a sequence.")
    flags.add_model_flags(
        parser, {"--ext_poses": "saved path (KITTI or TUM format) or motions (.npy)"}, decode_range=False
    )
    group = parser.add_argument_group("the sequence")
    group.add_argument("--data_path", **flags.FOLDER, help="root of KITTI odometry; else data/kitti_odom")
    group.add_argument("--eval_split", metavar="odom_N", help="sequence N, as published: odom_9 or odom_10")
    group.add_argument("--sequence", metavar="NN", help="any sequence in <data_path>/sequences")
    group.add_argument("--side", default="l", choices=("l", "r"), help="left or right camera of KITTI's pair")
    group.add_argument("--images", **flags.FOLDER, help="folder of consecutive frames, not of KITTI")
    group.add_argument("--poses", **flags.FILE, help="ground truth path of --images, KITTI or TUM format")

    group = parser.add_argument_group("alignment")
    group.add_argument(
        "--eval_mono", **flags.SWITCH, help="align rotation, translation and scale; else as it was trained"
    )
    group.add_argument(
        "--eval_stereo", **flags.SWITCH, help="metric: translations x 5.4 / (baseline / 0.1), 6dof"
    )
    group.add_argument(
        "--scale",
        type=flags.positive,
        metavar="X",
        help="factor for translations; else the model's metric scale, or 1",
    )
    group.add_argument(
        "--alignment", choices=ALIGNMENTS, help="alignment of the path; else 7dof, for a metric model 6dof"
    )

    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", **flags.FOLDER, help="results folder; else evaluation/odom_<sequence> next to the model"
    )
    group = parser.add_argument_group("machine")
    flags.add_loading_flags(group)
    flags.add_device_flags(group)
    return parser


if __name__ == "__main__":
    run_main(main)
