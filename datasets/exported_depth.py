"""Exported ground truth: the depth of a split in one file, instead of 200 GB of LiDAR scans.

`tools/export_gt_depth.py` writes `<data_path>/gt_depths/<split>_<part>_<ground_truth>.npz`. The file is a zip
of .npy arrays without pickles: `names` (of the samples) and one (N, h, w) map for each, in the order of
`names`, in metres, 0 where unknown. A map with many known pixels is one array. A sparse map, such as a
LiDAR's, stores only its known pixels, a hundredth of six cameras' 56 MB:

    000000                  (N, h, w) float32                                  or
    000000.shape            N, h, w
    000000.gaps             (K,) uint32; their running sum gives the indices in the flattened map
    000000.metres           (K,) float32, depth at these indices

A sample is found by its name, so a file of another list is never mistaken for this one. An export in shards
leaves files that end in `.1of4.npz` and so on, which are read together. datasets/exporting.py writes them.
"""

from __future__ import annotations

import glob
import math
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from files import DAMAGED_ARRAY
from utils import InputError

FOLDER = "gt_depths"


def exported_path(folder: str | Path, split: str | Path | None, part: str, ground_truth: str) -> Path:
    """File of the exported ground truth of one part of a split, below `folder`."""
    return Path(folder) / f"{Path(split or 'all').name}_{part}_{ground_truth}.npz"


def shard_path(path: Path, shard: int, shards: int) -> Path:
    """File of shard number `shard` of `shards`, counted from 1, of the exported file `path`."""
    return path if shards == 1 else path.with_name(f"{path.stem}.{shard}of{shards}.npz")


class ExportedDepth:
    """The maps of one exported file and its shards, each read on request.

    Args:
        path: `exported_path(...)`; the file may be missing.
        at_first: let the first evaluation write the file. Off if the raw data are single files that are read
            as quickly and that their owner may still change.
    """

    def __init__(self, path: str | Path, at_first: bool = True) -> None:
        self.path, self.at_first = Path(path), at_first
        self.refresh()

    def refresh(self) -> None:
        """List the existing files again."""
        stem = glob.escape(self.path.stem)
        found = [*self.path.parent.glob(f"{stem}.*of*.npz"), *self.path.parent.glob(f"{stem}.npz")]
        # The last written takes precedence.
        self.paths = sorted(found, key=lambda path: path.stat().st_mtime_ns)
        self._positions: dict[str, tuple[Path, str]] | None = None
        self._origins: dict[str, str] = {}
        self._open: dict[Path, zipfile.ZipFile] = {}
        self._process = -1

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}}

    def get(self, name: str) -> np.ndarray | None:
        """The (N, h, w) float32 map of the sample called `name`; None if it was not exported."""
        depth = self.measured(name)
        return depth.dense() if isinstance(depth, SparseDepth) else depth

    def measured(self, name: str) -> SparseDepth | np.ndarray | None:
        """Same as `get`; a sparse map as its known pixels."""
        if name not in self._list():
            return None
        path, key = self._list()[name]
        return self._read(path, _read_map, key)

    def origin(self, name: str) -> str:
        """Hash of the raw data that the map of a sample was made from; empty if the file has none."""
        return self._origins.get(name, "") if name in self._list() else ""

    def _list(self) -> dict[str, tuple[Path, str]]:
        """Name of each exported sample → its file and the key of its map."""
        if self._process != os.getpid():  # forked workers must not share one file position
            self._process, self._open = os.getpid(), {}
        if self._positions is None:
            self._positions = {}
            for path in self.paths:
                names = self._read(path, read_names)
                self._positions |= {name: (path, f"{number:06d}") for number, name in enumerate(names)}
                origins = self._read(path, _read_origins) or [""] * len(names)
                self._origins |= dict(zip(names, origins))
        return self._positions

    def lacking_shard(self, index: int) -> Path | None:
        """The shard of sample `index`, if other shards exist and this one does not."""
        if self.path in self.paths:
            return None
        counts = {int(match[1]) for path in self.paths if (match := re.search(r"of(\d+)\.npz$", path.name))}
        shards = [shard_path(self.path, index % count + 1, count) for count in sorted(counts)]
        return shards[0] if shards and not set(shards) & set(self.paths) else None

    def _read(self, path: Path, reader: Callable[..., Any], *key: str) -> Any:
        try:
            if path not in self._open:
                self._open[path] = zipfile.ZipFile(path)
            return reader(self._open[path], *key)
        except DAMAGED_ARRAY as error:
            raise InputError(
                f"{path} cannot be read as exported ground truth ({error}); "
                "remove it or write it again with tools/export_gt_depth.py"
            ) from None


def _read_array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def read_names(archive: zipfile.ZipFile, key: str = "names") -> list[str]:
    return _read_array(archive, key).tolist()


def _read_origins(archive: zipfile.ZipFile) -> list[str]:
    """Origins in the order of the names; empty for a file of an earlier version."""
    return read_names(archive, "origins") if "origins.npy" in archive.NameToInfo else []


def _read_map(archive: zipfile.ZipFile, key: str) -> SparseDepth | np.ndarray:
    """(N, h, w) float32, in the form that the file has; a ValueError if it is not a map."""
    depth: SparseDepth | np.ndarray
    if f"{key}.npy" in archive.NameToInfo:
        depth = _read_array(archive, key)
    else:
        shape = tuple(_read_array(archive, f"{key}.shape").tolist())
        indices = np.cumsum(_read_array(archive, f"{key}.gaps"), dtype=np.int64)
        depth = SparseDepth(shape, indices, _read_array(archive, f"{key}.metres"))
        if len(indices) != len(depth.metres) or (len(indices) and indices[-1] >= math.prod(shape)):
            raise ValueError(f"map {key} has pixels outside of its shape {shape}")
    if len(depth.shape) != 3 or 0 in depth.shape:
        raise ValueError(f"map {key} has the shape {tuple(depth.shape)}, not (cameras, height, width)")
    return depth


class SparseDepth(NamedTuple):
    """A (N, h, w) depth map with few known pixels.

    Attributes:
        shape: N, h, w.
        indices: (K,) int64, indices into the flattened map, ascending.
        metres: (K,) float32, not 0.
    """

    shape: tuple[int, int, int]
    indices: np.ndarray
    metres: np.ndarray

    @staticmethod
    def of(shape: tuple[int, int, int], indices: np.ndarray, metres: np.ndarray) -> SparseDepth:
        """A map of (K,) values in any order; the last of several at one index is kept, 0 is unknown."""
        # By halves of 16 bits, which numpy sorts in linear time; a map has fewer than 2^32 pixels.
        order = np.lexsort(((indices & 0xFFFF).astype(np.uint16), (indices >> 16).astype(np.uint16)))
        ordered = indices[order]
        last = np.flatnonzero(np.diff(ordered, append=-1))
        indices, metres = ordered[last], metres[order[last]].astype(np.float32)
        return SparseDepth(shape, indices[metres != 0], metres[metres != 0])

    @staticmethod
    def nearest_of(shape: tuple[int, int, int], indices: np.ndarray, metres: np.ndarray) -> SparseDepth:
        """A map of (K,) values in any order; the nearest of several at one index is kept, 0 is unknown."""
        nearest = np.full(math.prod(shape), np.inf, np.float32)
        np.minimum.at(nearest, indices, metres.astype(np.float32))
        known = np.flatnonzero(nearest < np.inf)
        metres = nearest[known]
        return SparseDepth(shape, known[metres != 0], metres[metres != 0])

    @staticmethod
    def of_pixels(
        height: int,
        width: int,
        cameras: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
        nearest: bool = False,
    ) -> SparseDepth:
        """Depth from (K,) rows, columns and metres of each camera.

        Of several points in a pixel the last is kept, or the nearest."""
        indices = [(n * height + rows) * width + columns for n, (rows, columns, _) in enumerate(cameras)]
        metres = [metres for _, _, metres in cameras]
        build = SparseDepth.nearest_of if nearest else SparseDepth.of
        return build((len(cameras), height, width), np.concatenate(indices), np.concatenate(metres))

    def dense(self) -> np.ndarray:
        """(N, h, w) float32, 0 where unknown."""
        depth = np.zeros(self.shape, np.float32)
        depth.reshape(-1)[self.indices] = self.metres
        return depth
