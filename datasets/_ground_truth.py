"""Exported ground truth: the true depth of a split in one file, instead of 200 GB of LiDAR scans.

`tools/export_gt_depth.py` writes `<data_path>/gt_depths/<split>_<part>_<ground_truth>.npz`, and a dataset
looks there before it goes to the raw measurements. Such a file is a plain zip of .npy arrays, without
pickles: `names` (the samples, as the dataset calls them) and `000000`, `000001`, ..., one (N, h, w) map
each in the order of `names`, metres, 0 where unknown. A sample is looked up by its name, so a file that
was made for another list can never be taken for this one. Work that was cut into shards lies in files
ending in `.1of4.npz` and so on, which are read together.

A dataset that takes part has `exported`, an `ExportedDepth`, which its `depth` asks first, and
`measured_depth(index)`, which goes to the raw measurements.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from utils import InputError, atomic_path

FOLDER = "gt_depths"


def exported_path(folder: str | Path, split: str | Path | None, part: str, ground_truth: str) -> Path:
    """Where the exported truth of one part of a split lies, below `folder`."""
    return Path(folder) / f"{Path(split or 'all').name}_{part}_{ground_truth}.npz"


class ExportedDepth:
    """The maps of one exported file and its shards, each read when it is asked for.

    Args:
        path: `exported_path(...)`; nothing need be there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        found = [*self.path.parent.glob(f"{self.path.stem}.*of*.npz"), *self.path.parent.glob(self.path.name)]
        self.paths = sorted(found, key=lambda path: path.stat().st_mtime_ns)  # what was written last wins
        self._places: dict[str, tuple[Path, str]] | None = None
        self._open: dict[Path, np.lib.npyio.NpzFile] = {}
        self._process = -1

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}}

    def get(self, name: str) -> np.ndarray | None:
        """The (N, h, w) float32 map of the sample called `name`; None where it was not exported."""
        if not self.paths:
            return None
        if self._process != os.getpid():  # forked workers must not share one file position
            self._process, self._open = os.getpid(), {}
        if self._places is None:
            self._places = {
                name: (path, f"{number:06d}") for path in self.paths for number, name in self._names(path)
            }
        if name not in self._places:
            return None
        path, key = self._places[name]
        return self._array(path, key)

    def _names(self, path: Path) -> Iterable[tuple[int, str]]:
        return enumerate(self._array(path, "names").tolist())

    def _array(self, path: Path, key: str) -> np.ndarray:
        try:
            if path not in self._open:
                self._open[path] = np.load(path)
            return self._open[path][key]
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{path} cannot be read as exported ground truth ({error}); "
                "remove it or write it again with tools/export_gt_depth.py"
            ) from None


def shard_path(path: Path, shard: int, shards: int) -> Path:
    """Where part `shard` of `shards`, counted from 1, of the exported file `path` lies."""
    return path if shards == 1 else path.with_name(f"{path.stem}.{shard}of{shards}.npz")


def write_exported(path: str | Path, maps: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write (name, (N, h, w) metres) pairs as they come; the file appears only when it is complete.

    Returns:
        How many were written.

    Raises:
        InputError: there were none; nothing is written.
    """
    names: list[str] = []
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, depth in maps:
            _write_array(archive, f"{len(names):06d}", np.asarray(depth, np.float32))
            names.append(name)
        if not names:
            raise InputError(f"there is no ground truth to write to {path}")
        _write_array(archive, "names", np.array(names))
    return len(names)


def _write_array(archive: zipfile.ZipFile, key: str, array: np.ndarray) -> None:
    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)
