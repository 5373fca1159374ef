"""Measured depth is projected once: a small file keeps a sample's known pixels for the next epochs.

    <gt_path>/cache/<kind>/<2 digits>/<hash of the sample's name>.depth
        MAGIC, hash of the raw data (16), checksum, N, h, w, K (uint32), K indices (uint32), K metres
        (float32)

A file is used only if it was made from the raw data and calibration that are there (`provenance.content`)
and its checksum is right; otherwise it is written again. So it may be removed at any time. Files are written
without waiting for the disk, since a damaged one costs only the time to make it again. Exported ground truth
(datasets/exported_depth.py) takes precedence, and is the same in one file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np

from datasets.exported_depth import SparseDepth
from notices import notice
from utils import refusal

FOLDER = "cache"
DENSEST = 0.5  # share of known pixels of a depth image above which it is as quick to read itself
MAGIC = b"depth 1\n"
_HEAD = struct.Struct("<8s16s5I")


class DepthCache:
    """Maps of the samples of one dataset, by kind and name.

    Args:
        folder: folder of the files; made when the first one is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.writes = True

    def get(self, kind: str, name: str, content: str) -> SparseDepth | None:
        """The map of a sample; None if there is none, or if it was made from other data or is damaged.

        Args:
            kind: kind of depth, such as `velodyne`.
            name: name of the sample.
            content: hash of the raw data that are there now, 16 digits.
        """
        try:
            data = self.path(kind, name).read_bytes()
        except OSError:
            return None
        if len(data) < _HEAD.size:
            return None
        magic, made_from, checksum, *shape, count = _HEAD.unpack_from(data)
        if magic != MAGIC or made_from.decode("ascii", "replace") != content:
            return None
        if len(data) != _HEAD.size + 8 * count or zlib.crc32(data[_HEAD.size :]) != checksum:
            return None
        indices = np.frombuffer(data, "<u4", count, _HEAD.size).astype(np.int64)
        metres = np.frombuffer(data, "<f4", count, _HEAD.size + 4 * count)
        return SparseDepth((shape[0], shape[1], shape[2]), indices, metres)

    def put(self, kind: str, name: str, content: str, depth: SparseDepth | np.ndarray) -> None:
        """Keep a map; not one of a depth image whose pixels are mostly known.

        A folder that cannot be written, or a full disk, ends the writing for this process with one notice.
        """
        if not isinstance(depth, SparseDepth):
            known = np.flatnonzero(depth)
            if len(known) > DENSEST * depth.size:
                return
            depth = SparseDepth(depth.shape, known, np.asarray(depth, np.float32).reshape(-1)[known])
        if not self.writes:
            return
        body = depth.indices.astype("<u4").tobytes() + depth.metres.astype("<f4").tobytes()
        sizes = (*depth.shape, len(depth.indices))
        head = _HEAD.pack(MAGIC, content.encode(), zlib.crc32(body), *sizes)
        try:
            self._announce()
            _replace(self.path(kind, name), head + body)
        except OSError as error:
            self.writes = False
            notice(
                f"projected depth is not kept: {refusal(error)}; every epoch projects it again "
                "(--dataset.gt_path names another folder, --dataset.depth_cache false keeps none)"
            )

    def _announce(self) -> None:
        """Make the folder, and say so; of several processes, one does."""
        if self.folder.is_dir():
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            self.folder.mkdir()
            notice(
                f"projected depth is kept in {self.folder}, which may be removed at any time "
                "(--dataset.depth_cache false keeps none)"
            )

    def path(self, kind: str, name: str) -> Path:
        """File of a sample."""
        digits = hashlib.sha256(name.encode()).hexdigest()[:16]
        return self.folder / kind / digits[:2] / f"{digits[2:]}.depth"


def _replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, as seen by other processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
