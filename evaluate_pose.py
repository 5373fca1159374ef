"""Evaluate visual odometry: chain a model's motions over a sequence and compare the path with the true one.

    python evaluate_pose.py --run runs/monodepth2_odom --data_path kitti_odom --eval_split odom_9
    python evaluate_pose.py --run runs/mine --images folder_of_frames --poses ground truth.txt
    python evaluate_pose.py --ext_poses trajectory.txt --data_path kitti_odom --sequence 10

KITTI's layout is <root>/sequences/09/image_2/000000.png and <root>/poses/09.txt. What was trained on video
alone has no scale, so its path is aligned with seven degrees of freedom (`7dof`) before drift is measured;
what was trained on stereo pairs with six. Left behind: the path in KITTI's and TUM's format, the motions, a
image and metrics.json. Without a true path there are no metrics.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets.image_files import IMAGES, read_image
from datasets.resizing import resize_image
from datasets.scenes import FRAMES_FILE, frame_names
from devices import pick_device
from methods import load_method
from predictor import stereo_scale, trained_with_stereo
from trajectories import (
    ALIGNMENTS,
    align,
    chain,
    from_start,
    motion_errors,
    motions_of,
    position_error,
    read_path,
    segment_errors,
    snippet_errors,
    write_kitti,
    write_tum,
)
from utils import (
    WORKERS,
    InputError,
    atomic_path,
    can_write,
    data_root,
    run_main,
)

PREFERRED = (".jpg", ".jpeg", ".png")  # in this order where a frame is there twice

PredictPose = Callable[
    [Tensor, Tensor], Tensor
]  # earlier, later (B, 3, H, W) -> T_later_from_earlier (B, 4, 4)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = build_parser().parse_args(argv)
    for option, least in (("batch_size", 1), ("num_workers", 0)):
        if getattr(args, option) < least:
            raise InputError(f"--{option} must be {least} or more, got {getattr(args, option)}")
    if args.scale is not None and args.scale <= 0:
        raise InputError(f"--scale must be above 0, got {args.scale:g}")
    if args.eval_mono and args.eval_stereo:
        raise InputError("--eval_mono and --eval_stereo exclude each other; give the one it was trained as")
    model = args.run or args.load_weights_folder or args.pretrained_path
    name, images, poses = find_sequence(args)
    ground_truth = read_path(poses) if poses.is_file() else None
    output = Path(args.output or default_output(Path(model or args.ext_poses), name))
    if not can_write(output):
        raise InputError(f"{output} cannot be written; give another folder with --output")
    stereo, scale = args.eval_stereo, args.scale or 1.0

    if args.ext_poses:
        path = read_motions_or_path(args.ext_poses)
    else:
        device = pick_device("cpu" if args.no_cuda else args.device)
        method, options = load_method(model, device, args.checkpoint)
        stereo = args.eval_stereo or (not args.eval_mono and trained_with_stereo(options))
        scale = args.scale or (stereo_scale(options) if stereo else 1.0)
        files = list_images(images)
        if ground_truth is not None and len(files) != len(ground_truth):
            raise InputError(f"{images} has {len(files)} images, but {poses} has {len(ground_truth)} poses")
        path = chain(
            predict_motions(
                method.predict_pose,
                files,
                options["height"],
                options["width"],
                options.get("resize") or "bicubic",
                batch_size=args.batch_size,
                workers=args.num_workers,
                device=device,
                progress=True,
            )
        )
    path[:, :3, 3] *= scale

    write_kitti(output / "trajectory_kitti.txt", path)
    write_tum(output / "trajectory_tum.txt", path, read_times(images.parent / "times.txt", len(path)))
    with atomic_path(output / "motions.npy") as file, open(file, "wb") as stream:
        np.save(stream, motions_of(path).astype(np.float32))
    if ground_truth is None:
        print(f"no true path at {poses}: nothing to compare with\nsaved: {output}")
        return
    alignment = args.alignment or ("6dof" if stereo else "7dof")
    scores = evaluate_path(path, ground_truth, alignment)
    print(table(name, alignment, scores))
    with atomic_path(output / "metrics.json") as file:
        known = {key: value if math.isfinite(value) else None for key, value in scores.items()}
        about = {"sequence": name, "alignment": alignment, "frames": len(path)}
        file.write_text(json.dumps({**about, **known}, indent=2) + "\n")
    draw(
        output / "trajectory.png",
        align(path, ground_truth, alignment)[0],
        ground_truth,
        f"{name}, {alignment}",
    )
    print(f"\nsaved: {output}/metrics.json, trajectory.png, trajectory_kitti.txt, trajectory_tum.txt")


def evaluate_path(path: np.ndarray, ground_truth: np.ndarray, alignment: str = "7dof") -> dict[str, float]:
    """Every error of a path.

    Args:
        path, ground truth: (N, 4, 4) world_from_camera of the same frames.
        alignment: before drift and positions are compared, see `trajectories.align`.

    Returns:
        t_err (%), r_err (degrees / 100 m), segments, ate (m), rpe_translation (m), rpe_rotation (degrees),
        scale, length (m), and the five-frame score as mean and std, rmse and as published. nan where the
        path is too short.

    Raises:
        InputError: they have different numbers of frames, or fewer than two.
    """
    if len(path) != len(ground_truth):
        raise InputError(f"the path has {len(path)} frames, the true one {len(ground_truth)}")
    if len(path) < 2:
        raise InputError("a path has at least two frames")
    aligned, scale = align(path, ground_truth, alignment)
    motions, true_motions = motions_of(path), motions_of(ground_truth)
    scores = {
        **segment_errors(aligned, ground_truth),
        "ate": position_error(aligned, ground_truth),
        **motion_errors(aligned, ground_truth),
        "scale": scale,
        "length": float(np.linalg.norm(np.diff(ground_truth[:, :3, 3], axis=0), axis=1).sum()),
    }
    for formula in ("rmse", "published"):
        errors = snippet_errors(motions, true_motions, 5, formula) if len(path) >= 5 else np.array([math.nan])
        scores[f"five_frames_{formula}"] = float(errors.mean())
        scores[f"five_frames_{formula}_std"] = float(errors.std())
    return scores


def table(name: str, alignment: str, scores: dict[str, float]) -> str:
    """The scores as text."""
    aligned = {
        "7dof": "rotation, translation and scale, least squares",
        "6dof": "rotation and translation, least squares; metric",
        "scale": "one scale, same start",
        "none": "same start; metric",
    }
    drift = f"{scores['t_err']:.2f} %, {scores['r_err']:.2f} degrees / 100 m, {scores['segments']} segments"
    if not scores["segments"]:
        drift = f"the path is {scores['length']:.1f} m long; drift is measured over 100 m and more"
    lines = {
        "sequence": f"{name}, {scores['length']:.1f} m",
        "alignment": f"{alignment}: {aligned[alignment]}; scale {scores['scale']:.4g}",
        "drift": drift,
        "ATE": f"{scores['ate']:.3f} m root mean square",
        "RPE": f"{scores['rpe_translation']:.4f} m, {scores['rpe_rotation']:.4f} degrees a frame",
        "5 frames": f"{scores['five_frames_rmse']:.4f} +- {scores['five_frames_rmse_std']:.4f} m, "
        "one scale a snippet, root mean square",
        "": f"{scores['five_frames_published']:.4f} +- {scores['five_frames_published_std']:.4f}, "
        "published formula (root of the sum / frames)",
    }
    return "\n".join(f"  {key:<11}{value}" for key, value in lines.items())


# ---------------------------------------------------------------------------------------------- predicting


class Images(Dataset):
    """Frames of a sequence as uint8 at the network's size; an unreadable one as its error."""

    def __init__(self, files: Sequence[Path], height: int, width: int, resize: str) -> None:
        self.files, self.height, self.width, self.resize = files, height, width, resize

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | InputError:
        try:
            return resize_image(read_image(self.files[index]), self.height, self.width, self.resize)
        except InputError as error:
            return error


@torch.no_grad()
def predict_motions(
    predict_pose: PredictPose,
    files: Sequence[Path],
    height: int,
    width: int,
    resize: str = "bicubic",
    batch_size: int = 16,
    workers: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> np.ndarray:
    """(N - 1, 4, 4) T_later_from_earlier between N consecutive images; each is decoded once.

    Raises:
        InputError: fewer than two images, or one that cannot be read.
    """
    if len(files) < 2:
        raise InputError(f"a path needs at least two images, got {len(files)}")
    dataset = Images(files, height, width, resize)
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=list)
    motions, last = [], None
    for batch in tqdm(loader, "motions", disable=not progress, unit="batch", leave=False):
        for image in batch:
            if isinstance(image, InputError):
                raise image
        images = torch.stack(batch).to(device).float() / 255
        images = images if last is None else torch.cat([last, images])
        last = images[-1:]
        if len(images) > 1:
            motions.append(predict_pose(images[:-1], images[1:]).double().cpu())
    return torch.cat(motions).numpy()


def list_images(folder: str | Path) -> list[Path]:
    """A folder's images in time, as training on them takes them (`datasets/folder.py`), each frame once.

    Raises:
        InputError: no such folder, no image in it, no clear order, or a gap in their numbers.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}; give the sequences' root with --data_path, or --images"
        )
    found: dict[str, Path] = {}
    for path in (folder / name for name in frame_names(folder)):
        other = found.get(path.stem)
        if other is None or _rank(path) < _rank(other):
            found[path.stem] = path
    if not found:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(IMAGES))})")
    if all(stem.isdecimal() for stem in found) and not (folder / FRAMES_FILE).is_file():
        for earlier, later in itertools.pairwise(found):
            if int(later) != int(earlier) + 1:
                raise InputError(
                    f"{folder} has a gap: after image {earlier} comes {later}; where that is right, list "
                    f"the frames in {folder / FRAMES_FILE}"
                )
    return list(found.values())


def _rank(path: Path) -> int:
    """The lowest is taken where a frame is there twice."""
    suffix = path.suffix.lower()
    return PREFERRED.index(suffix) if suffix in PREFERRED else len(PREFERRED)


def find_sequence(args: argparse.Namespace) -> tuple[str, Path, Path]:
    """Name, folder of images and file of true poses that the command line means.

    Raises:
        InputError: it names no sequence, or two.
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


def read_motions_or_path(file: str | Path) -> np.ndarray:
    """A saved path: text as `trajectories.read_path`, or .npy of motions (N, 4, 4), published as poses.npy.

    Raises:
        InputError: no such file, or another shape.
    """
    if Path(file).suffix != ".npy":
        return from_start(read_path(file))
    try:
        motions = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"there is no file {file}") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{file} is no .npy array of motions ({error})") from None
    if motions.ndim != 3 or motions.shape[1:] != (4, 4):
        raise InputError(f"{file} must hold motions (N, 4, 4), got {motions.shape}")
    return chain(motions)


def read_times(file: Path, count: int) -> np.ndarray | None:
    """Seconds of each frame where KITTI's times.txt has them."""
    try:
        times = np.array([float(word) for word in file.read_text().split()])
    except (FileNotFoundError, ValueError):
        return None
    return times if len(times) == count else None


def draw(file: str | Path, path: np.ndarray, ground_truth: np.ndarray, title: str) -> None:
    """Both paths from above, x right and z forward of the first camera, as a PNG."""
    from matplotlib.figure import Figure

    back = np.linalg.inv(ground_truth[0])
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    for label, poses, style in (("true", ground_truth, "k--"), ("predicted", path, "C0-")):
        places = (back @ poses)[:, :3, 3]
        axes.plot(places[:, 0], places[:, 2], style, label=label, linewidth=1.5)
    axes.plot(0, 0, "ko", markersize=5)
    axes.set(xlabel="x / m", ylabel="z / m", title=title, aspect="equal", adjustable="datalim")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def default_output(source: Path, name: str) -> Path:
    """Beside what was evaluated: <folder>/evaluation/odom_<sequence>."""
    folder = source if source.is_dir() else source.parent / source.stem
    return folder / "evaluation" / f"odom_{name}"


def build_parser() -> argparse.ArgumentParser:
    """Flags keep the names users of Monodepth2 know."""
    parser = argparse.ArgumentParser(
        "evaluate_pose.py", description="Evaluate visual odometry on a sequence.", allow_abbrev=False
    )
    switch: dict[str, Any] = {"action": "store_true"}
    folder, file = ({"type": os.path.expanduser, "metavar": kind} for kind in ("FOLDER", "FILE"))

    group = parser.add_argument_group("what is evaluated").add_mutually_exclusive_group(required=True)
    group.add_argument("--run", **folder, help="a run folder of ours")
    group.add_argument("--load_weights_folder", **folder, help="a published checkpoint folder, or a run")
    group.add_argument("--pretrained_path", **file, help="a checkpoint of a single file")
    group.add_argument("--ext_poses", **file, help="a saved path (KITTI, TUM) or motions (.npy)")

    group = parser.add_argument_group("on what")
    group.add_argument("--data_path", **folder, help="root of KITTI odometry; else data/kitti_odom")
    group.add_argument("--eval_split", metavar="odom_N", help="odom_9 or odom_10, as published")
    group.add_argument("--sequence", metavar="NN", help="any sequence below <root>/sequences")
    group.add_argument("--side", default="l", choices=("l", "r"), help="camera of the pair")
    group.add_argument("--images", **folder, help="consecutive frames, instead of a KITTI sequence")
    group.add_argument("--poses", **file, help="their true path, KITTI or TUM format")

    group = parser.add_argument_group("how")
    group.add_argument("--eval_mono", **switch, help="align with scale; else as it was trained")
    group.add_argument("--eval_stereo", **switch, help="metric: translations x 5.4 / (baseline / 0.1)")
    group.add_argument(
        "--scale",
        type=float,
        metavar="X",
        help="what translations are multiplied by; saved ones count as they are",
    )
    group.add_argument("--alignment", choices=ALIGNMENTS, help="else 7dof, for stereo 6dof")

    group = parser.add_argument_group("machine")
    group.add_argument("--output", **folder, help="else evaluation/odom_<sequence> beside what is evaluated")
    group.add_argument("--checkpoint", default="best", choices=("best", "last"), help="of a run")
    group.add_argument("--batch_size", type=int, default=16)
    group.add_argument("--num_workers", type=int, default=WORKERS)
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    group.add_argument("--no_cuda", **switch, help="the published way to write --device cpu")
    return parser


if __name__ == "__main__":
    run_main(main)
