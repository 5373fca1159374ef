"""Visual odometry: a model's motions, chained to a camera path and compared with the ground truth path.

    consecutive images -> predict_pose -> T_later_from_earlier -> trajectories.chain -> path -> errors

A model that learned from video only has no scale, so its path is aligned with seven degrees of freedom
(`7dof`) before drift is measured; a metric model's with six (`trajectories.align`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.image_files import IMAGES, frame_runs, read_image
from datasets.loading import outlive_sigterm
from datasets.resizing import resize_image
from datasets.scenes import FRAMES_FILE, frame_names, gaps_in_words, listed_frames, other_formats
from datasets.shared_memory import fit_loader, local_world
from evaluation.loop import Loading
from files import DAMAGED_ARRAY
from notices import notice
from progress import Bar
from trajectories import (
    align,
    chain,
    from_start,
    motion_errors,
    motions_of,
    position_error,
    read_path,
    segment_errors,
    snippet_errors,
)
from utils import InputError, atomic_path

ALIGNED = {  # what an alignment removes, in words
    "7dof": "rotation, translation and scale, least squares",
    "6dof": "rotation and translation, least squares; metric",
    "scale": "one scale, same start",
    "none": "same start; metric",
}

# (earlier, later), each (B, 3, H, W) in [0, 1] -> T_later_from_earlier (B, 4, 4)
PredictPose = Callable[[Tensor, Tensor], Tensor]


# -------------------------------------------------------------------------------------------------- errors


def evaluate_path(path: np.ndarray, ground_truth: np.ndarray, alignment: str = "7dof") -> dict[str, float]:
    """Every error of a path.

    Args:
        path, ground_truth: (N, 4, 4) world_from_camera of the same frames.
        alignment: how the path is aligned before drift and positions are compared, see `trajectories.align`.

    Returns:
        t_err (%), r_err (degrees / 100 m), segments, ate (m), the entries of `trajectories.motion_errors`,
        scale, length (m), and the five-frame score as mean and standard deviation over the snippets, by both
        formulas of `snippet_errors`. nan if the path is too short.

    Raises:
        InputError: they have different numbers of frames, or fewer than two.
    """
    if len(path) != len(ground_truth):
        raise InputError(f"the path has {len(path)} frames, the ground truth {len(ground_truth)}")
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


def score_table(name: str, alignment: str, scores: Mapping[str, float]) -> str:
    """The scores of `evaluate_path` as text."""
    drift = f"{scores['t_err']:.2f} %, {scores['r_err']:.2f} degrees / 100 m, {scores['segments']} segments"
    if not scores["segments"]:
        drift = f"the path is {scores['length']:.1f} m long; drift is measured over 100 m and more"
    lines = {
        "sequence": f"{name}, {scores['length']:.1f} m",
        "alignment": f"{alignment}: {ALIGNED[alignment]}; scale {scores['scale']:.4g}",
        "drift": drift,
        "ATE": f"{scores['ate']:.3f} m root mean square",
        "RPE": f"{scores['rpe_translation']:.4f} m, {scores['rpe_rotation_rms']:.4f} degrees a frame, "
        "root mean square",
        "RPE mean": f"{scores['rpe_translation_mean']:.4f} m, {scores['rpe_rotation']:.4f} degrees a frame",
        "5 frames": f"{scores['five_frames_rmse']:.4f} +- {scores['five_frames_rmse_std']:.4f} m, "
        "one scale for each snippet, root mean square",
        "": f"{scores['five_frames_published']:.4f} +- {scores['five_frames_published_std']:.4f}, "
        "published formula (root of the sum / frames)",
    }
    return "\n".join(f"  {key:<11}{value}" for key, value in lines.items())


def draw_paths(file: str | Path, path: np.ndarray, ground_truth: np.ndarray, title: str) -> None:
    """Both paths from above, x right and z forward of the first camera, as a PNG."""
    from matplotlib.figure import Figure  # only this function needs it

    first = np.linalg.inv(ground_truth[0])
    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.add_subplot()
    for label, poses, style in (("ground truth", ground_truth, "k--"), ("predicted", path, "C0-")):
        positions = (first @ poses)[:, :3, 3]
        axes.plot(positions[:, 0], positions[:, 2], style, label=label, linewidth=1.5)
    axes.plot(0, 0, "ko", markersize=5)
    axes.set(xlabel="x / m", ylabel="z / m", title=title, aspect="equal", adjustable="datalim")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(file) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


# ---------------------------------------------------------------------------------------------- prediction


class FrameImages(Dataset):
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
    loading: Loading | None = None,
) -> np.ndarray:
    """Motions between consecutive images; each image is decoded once.

    Args:
        files: N images in time.
        height, width: the network's size, pixels.
        resize: `bicubic` or `lanczos`.
        loading: batch size, device, workers, progress bar.

    Returns:
        (N - 1, 4, 4) T_later_from_earlier, float64.

    Raises:
        InputError: fewer than two images, or one that cannot be read.
    """
    if len(files) < 2:
        raise InputError(f"a path needs at least two images, got {len(files)}")
    loading = loading or Loading()
    frames = FrameImages(files, height, width, resize)
    first = frames[0] if loading.workers else None
    prefetch = fit_loader(first, loading.batch_size, loading.workers, prefetch=2, copies=local_world())
    loader = DataLoader(
        frames,
        loading.batch_size,
        num_workers=loading.workers,
        prefetch_factor=prefetch if loading.workers else None,
        collate_fn=list,
        worker_init_fn=outlive_sigterm,
    )
    motions, last = [], None
    for batch in Bar(loader, "motions", disable=not loading.progress, unit="batch", leave=False):
        for image in batch:
            if isinstance(image, InputError):
                raise image
        images = torch.stack(batch).to(loading.device).float() / 255
        images = images if last is None else torch.cat([last, images])
        last = images[-1:]
        if len(images) > 1:
            motions.append(predict_pose(images[:-1], images[1:]).double().cpu())
    return torch.cat(motions).numpy()


# -------------------------------------------------------------------------------------------------- files


def list_images(folder: str | Path) -> list[Path]:
    """A folder's images in time, in the order of training (`datasets/folder.py`), each frame once.

    Raises:
        InputError: no such folder, no image in it, no clear order, or a gap in their numbers.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"there is no folder {folder}; give the sequences' root with --data_path, or --images"
        )
    names = frame_names(folder)
    if not names:
        raise InputError(f"{folder} holds no images ({', '.join(sorted(IMAGES))})")
    if listed_frames(folder) is None:
        if gaps := gaps_in_words(names, frame_runs(names)):
            raise InputError(
                f"{folder}: {gaps}, and a path has none; if that is intended, list the frames in "
                f"{folder / FRAMES_FILE}"
            )
        if left := other_formats(folder):
            notice(f"{left} images in {folder} are left out, since the same frame is there in another format")
    return [folder / name for name in names]


def read_motions_or_path(file: str | Path) -> np.ndarray:
    """A saved path: text as `trajectories.read_path` reads it, or .npy of motions (published: poses.npy).

    Returns:
        (N, 4, 4) world_from_camera, the first camera as the world.

    Raises:
        InputError: no such file, or another shape.
    """
    if Path(file).suffix != ".npy":
        return from_start(read_path(file))
    try:
        motions = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"there is no file {file}") from None
    except DAMAGED_ARRAY as error:
        raise InputError(f"{file} is not a .npy array of motions ({error})") from None
    if motions.ndim != 3 or motions.shape[1:] != (4, 4):
        raise InputError(f"{file} must hold motions (N, 4, 4), got {motions.shape}")
    return chain(motions)


def read_times(file: Path, count: int) -> np.ndarray | None:
    """Seconds of each frame from KITTI's times.txt; None if there is no such file of `count` times."""
    try:
        times = np.array([float(word) for word in file.read_text().split()])
    except (FileNotFoundError, ValueError):
        return None
    return times if len(times) == count else None
