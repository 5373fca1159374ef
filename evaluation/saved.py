"""Saved predictions, published ground truth files, and the images that KITTI's server takes.

Predictions are saved as inverse depth, 1 / depth up to scale, in the order of a split: (N, h, w) floats in a
.npy file, as Monodepth2's `--save_pred_disps` writes them. A 0 is an infinite depth, which the protocol
clamps; a negative number or a nan is not a depth, and such a file is refused. A folder with one file of depth
for each image, as SC-Depth and PackNet write it, is read as well.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from checkpoints import load_ground_truth_npz
from datasets._depth_files import read_depth
from datasets.image_files import natural_key, visible_files
from datasets.sequence import SequenceDataset
from datasets.splits import eigen_to_benchmark_ids, load_split
from files import DAMAGED_ARRAY, writing
from metrics import Protocol
from structures import Batch, Prediction
from utils import InputError, atomic_path

DEPTH_ENDINGS = (".npy", ".npz", ".png")  # of saved depth, in this order
BENCHMARK_SIZE = (352, 1216)  # height, width of every image of KITTI's depth benchmark
BENCHMARK_MAX_DEPTH = 80.0  # metres


class SavedInverseDepths:
    """Saved predictions as a predictor for `evaluation.evaluate`.

    Args:
        inverse_depths: (samples x cameras, h, w) floats in the order of the dataset; may be a memory map.
        dataset: the images they belong to.
        source: the name of their file, for errors.

    Raises:
        InputError: their number does not fit the dataset; while predicting, a negative number or a nan.
    """

    reads_images = False

    def __init__(
        self, inverse_depths: np.ndarray, dataset: SequenceDataset, source: str | Path = "saved disparities"
    ) -> None:
        expected = len(dataset) * dataset.cameras
        if len(inverse_depths) != expected:
            raise InputError(
                f"{source}: {len(inverse_depths)} saved disparities do not belong to the {expected} images "
                f"of {dataset.protocol.name}; they must be in its order, one each"
            )
        self.inverse_depths, self.cameras, self.source = inverse_depths, dataset.cameras, source

    def __call__(self, batch: Batch) -> Prediction:
        """(B·N, 1, h, w) depth, float64, of the samples in `batch.index`; infinite where 0 was saved."""
        indices = batch.index.tolist()
        maps = [index * self.cameras + camera for index in indices for camera in range(self.cameras)]
        values = np.asarray(self.inverse_depths[maps], np.float64)
        for number, inverse_depth in zip(maps, values):
            check_inverse_depth(inverse_depth, number, self.source)
        return Prediction({}, {0: 1 / torch.from_numpy(values)[:, None].to(batch.intrinsics.device)})


def check_inverse_depth(inverse_depth: np.ndarray, number: int, source: str | Path) -> None:
    """Refuse a saved prediction that is not a depth.

    Args:
        inverse_depth: (h, w), at least 0.
        number: number of the map in its file, from 0.
        source: the file.

    Raises:
        InputError: says how many values are negative, nan or infinite.
    """
    for what, wrong in (("not finite", ~np.isfinite(inverse_depth)), ("negative", inverse_depth < 0)):
        if count := int(np.count_nonzero(wrong)):
            raise InputError(
                f"{source}: {count} of {inverse_depth.size} values of map {number} are {what}; saved "
                "disparities are 1 / depth, 0 for an infinite depth"
            )


def read_inverse_depths(path: str | Path, eigen_to_benchmark: bool = False) -> np.ndarray:
    """Saved (N, h, w) inverse depths, as published for `--ext_disp_to_eval`.

    Args:
        path: a .npy file, read as a memory map, a .npz file that holds one array, or a folder of depth maps
            (`read_depth_folder`).
        eigen_to_benchmark: take the 652 of the 697 Eigen images that have improved ground truth.

    Raises:
        InputError: no such file, not one array, no maps of floats, or fewer than the 697 Eigen predictions.
    """
    try:
        if Path(path).is_dir():
            saved = 1 / read_depth_folder(Path(path))
        else:
            saved = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(saved, np.lib.npyio.NpzFile):
            with saved:
                if len(saved.files) != 1:
                    raise InputError(
                        f"{path} holds {len(saved.files)} arrays ({', '.join(saved.files[:8])}); save the "
                        "disparities only, np.save('disps.npy', disparities)"
                    )
                saved = saved[saved.files[0]]
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except InputError:
        raise
    except DAMAGED_ARRAY as error:
        raise InputError(f"{path} is not a .npy array of disparities ({error})") from None
    if saved.ndim != 3 or not saved.size or not np.issubdtype(saved.dtype, np.floating):
        raise InputError(
            f"{path}: saved disparities are floats of shape (count, height, width), none of them 0, "
            f"got {saved.dtype} of {tuple(saved.shape)}"
        )
    if eigen_to_benchmark:
        ids = eigen_to_benchmark_ids()
        if len(saved) <= ids[-1]:
            raise InputError(
                f"--eval_eigen_to_benchmark picks {len(ids)} of the 697 Eigen predictions, "
                f"but {path} holds {len(saved)}"
            )
        return saved[ids]
    return saved


def read_depth_folder(folder: Path) -> np.ndarray:
    """(N, h, w) float64 depth from one file for each image, in natural order of their names.

    SC-Depth's inference.py writes .npy, PackNet's .npz with `depth`, or .png of 16 bits and value / 256. The
    first kind of `DEPTH_ENDINGS` in the folder is read; of the files of test_simple.py, `<name>_depth`.

    Raises:
        InputError: no such file, maps of different sizes, a value that is not a positive number.
    """
    files = sorted(visible_files(folder), key=natural_key)
    of_kind = ([name for name in files if name.endswith(ending)] for ending in DEPTH_ENDINGS)
    names = next(filter(None, of_kind), [])
    names = [name for name in names if Path(name).stem.endswith("_depth")] or names
    if not names:
        raise InputError(
            f"{folder} holds no {', '.join(DEPTH_ENDINGS)}; give a folder with the depth of one image in each"
        )
    maps = [np.squeeze(read_depth(folder / name, 256)).astype(np.float64) for name in names]
    for name, values in zip(names, maps):
        if values.ndim != 2 or values.shape != maps[0].shape:
            raise InputError(
                f"{folder / name} has the shape {values.shape}; depth maps of one folder have one size, "
                f"and {names[0]} has {maps[0].shape}"
            )
        if not (np.isfinite(values) & (values > 0)).all():
            raise InputError(
                f"{folder / name} holds values that are not above 0 or not finite; it must be depth"
            )
    return np.stack(maps)


def save_inverse_depths(path: str | Path, inverse_depths: Iterable[Tensor], count: int) -> np.ndarray:
    """Write batches of (B, H, W) as one (count, H, W) float32 file; returns a memory map of it.

    The space is reserved at the first batch. A memory map would end the process if the disk became full.

    Raises:
        InputError: the file cannot be written, and why.
    """
    with writing(path) as temporary, open(temporary, "wb") as file:
        for batch in inverse_depths:
            if not file.tell():
                shape = (count, *batch.shape[1:])
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "<f4", "fortran_order": False, "shape": shape}
                )
                file.flush()
                _reserve(file, file.tell() + 4 * math.prod(shape))
            file.write(batch.cpu().numpy().astype("<f4").tobytes())
    return np.load(path, mmap_mode="r")


def _reserve(file: BinaryIO, size: int) -> None:
    """Let a file have `size` bytes on the disk; where the system cannot reserve, a write fails later."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise


class SavedGroundTruth:
    """The ground truth of a published `gt_depths.npz`, in the order of its split: no images are needed.

    It takes the place of a dataset in an evaluation of saved predictions.

    Args:
        path: the file.
        name: the dataset, `kitti`.
        split, part: whose samples it holds.

    Raises:
        InputError: the dataset is not KITTI, the file cannot be read, or its number of maps differs from the
            number of samples of the split.
    """

    cameras, camera_names = 1, ()

    def __init__(self, path: str | Path, name: str, split: str, part: str) -> None:
        if name != "kitti":
            raise InputError(
                f"{path} is read as the published ground truth of KITTI, and this is {name}: leave --gt_path "
                "out, or give the folder of exported ground truth"
            )
        self.maps = load_ground_truth_npz(path)
        self.samples = load_split(name, split, part)
        if len(self.maps) != len(self.samples):
            raise InputError(
                f"{path} holds {len(self.maps)} depth maps, "
                f"but {split}/{part} has {len(self.samples)} samples"
            )
        improved = split == "eigen_benchmark"
        self.protocol = Protocol(
            "KITTI improved" if improved else "KITTI Eigen",
            f"{Path(path).name}, exported before",
            cap_ground_truth=not improved,
            crop="none" if improved else "garg",
        )

    def __len__(self) -> int:
        return len(self.maps)

    def depth(self, index: int) -> np.ndarray:
        """(1, h, w) metres, 0 where unknown."""
        return self.maps[index][None]

    def dynamic_mask(self, index: int) -> None:
        """None: the file has no masks."""

    def name(self, index: int) -> str:
        """Folder, frame and side."""
        sample = self.samples[index]
        return f"{sample.folder} {sample.frame} {sample.side or ''}".rstrip()


_ROUNDINGS = {"nearest": torch.round, "down": torch.floor}
SERVER_ROUNDINGS = {  # rounding → its words in the table
    "nearest": "rounded to the nearest 1 / 256 m",
    "down": "rounded down to 1 / 256 m, as published",
}


def write_server_images(
    folder: str | Path,
    inverse_depths: np.ndarray,
    scale: float,
    source: str | Path = "saved disparities",
    rounding: str = "nearest",
) -> None:
    """The images that KITTI's depth benchmark takes: <folder>/0000000000.png, ..., metres x 256, 16 bit.

    Inverse depth is resized to 1216 x 352; depth is `scale` / inverse depth, up to 80 m. `rounding` to whole
    1 / 256 m is to the `nearest` or `down`, as in the published code, which puts all depth 2 mm nearer on
    average. A 0 would mean that there is no prediction.

    Raises:
        InputError: a negative number or a nan in `source`.
    """
    folder = Path(folder)
    for index, inverse_depth in enumerate(inverse_depths):
        check_inverse_depth(inverse_depth, index, source)
        resized = F.interpolate(
            torch.from_numpy(np.array(inverse_depth, np.float32))[None, None],
            BENCHMARK_SIZE,
            mode="bilinear",
            align_corners=False,
        )
        depth = (scale / resized[0, 0]).clamp(1 / 256, BENCHMARK_MAX_DEPTH)
        with atomic_path(folder / f"{index:010d}.png") as path:
            steps = _ROUNDINGS[rounding](depth * 256)
            Image.fromarray(steps.numpy().astype(np.uint16)).save(path, format="PNG")
