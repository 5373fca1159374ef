"""Exported ground truth: the true depth of a split in one file, instead of 200 GB of LiDAR scans.

`tools/export_gt_depth.py` writes `<data_path>/gt_depths/<split>_<part>_<ground_truth>.npz`, and a dataset
looks there before it goes to the raw measurements. Such a file is a plain zip of .npy arrays, without
pickles: `names` (the samples, as the dataset calls them) and one (N, h, w) map each in the order of `names`,
metres, 0 where unknown. A map that is mostly known is one array; of a map that is mostly unknown, as a
LiDAR's, only what is known is stored, a hundredth of six cameras' 56 MB:

    000000                  (N, h, w) float32                                  or
    000000.shape            N, h, w
    000000.gaps             (K,) uint32; their running sum gives the indices in the flattened map
    000000.metres           (K,) float32, what is there

A sample is looked up by its name, so a file that was made for another list can never be taken for this one.
Work that was cut into shards lies in files ending in `.1of4.npz` and so on, which are read together.

A dataset that takes part is `Exportable`: it says how a sample is measured.

While an export runs, what it has lies in chunks in `<...>.partial/`, each a file of the same kind; `Export`
goes on from there, and in the end puts the chunks together without unpacking them.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import re
import shutil
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from utils import InputError, atomic_path, nearest_name

FOLDER = "gt_depths"
SPARSE = 0.25  # a map of which less is known is stored as indices and metres
SAVE_EVERY = 5.0  # seconds of work that an interruption may cost
UNIX = 3 << 8 | 45  # who wrote a zip file, by version 4.5 of its format
DAMAGE = (OSError, EOFError, KeyError, IndexError, ValueError, zlib.error, zipfile.BadZipFile)


def exported_path(folder: str | Path, split: str | Path | None, part: str, ground_truth: str) -> Path:
    """Where the exported ground truth of one part of a split lies, below `folder`."""
    return Path(folder) / f"{Path(split or 'all').name}_{part}_{ground_truth}.npz"


def shard_path(path: Path, shard: int, shards: int) -> Path:
    """Where part `shard` of `shards`, counted from 1, of the exported file `path` lies."""
    return path if shards == 1 else path.with_name(f"{path.stem}.{shard}of{shards}.npz")


# ----------------------------------------------------------------------------------------------- in a dataset


class Exportable:
    """The ground truth of a dataset that can be exported, mixed into it.

    A subclass sets `ground_truth`, calls `find_exported` at the end of its constructor, and defines
    `read_raw_depth`. The mix-in stands before the base class: `class Kitti(Exportable, KittiImages)`.

    Args:
        data_path: root folder of the dataset.
        gt_path: folder of exported ground truth; `<data_path>/gt_depths` if not given.
    """

    ground_truth: str | None
    exported: ExportedDepth

    def __init__(self, data_path: str | Path, gt_path: str | Path | None = None, **settings: Any) -> None:
        self.gt_folder = Path(gt_path) if gt_path else Path(data_path) / FOLDER
        super().__init__(data_path, **settings)

    def find_exported(
        self,
        split: str | Path | None,
        part: str,
        variant: Sequence[str] = (),
        at_first: bool = True,
    ) -> None:
        """Look for exported ground truth.

        Args:
            split, part: of the samples.
            variant: further words in the file's name, for settings that change its maps.
            at_first: see `ExportedDepth`.
        """
        what = "_".join([self.ground_truth or "none", *variant])
        self.exported = ExportedDepth(exported_path(self.gt_folder, split, part, what), at_first)

    def depth(self, index: int) -> np.ndarray | None:
        """(N, h, w) metres at the cameras' own size, 0 where unknown; from an exported file if it has it.

        Raises:
            InputError: the sample belongs to a shard that was not exported, and cannot be measured either.
        """
        if self.ground_truth is None:
            return None
        depth = self.exported.get(self.name(index))
        depth = self.depth_from_raw(index) if depth is None else depth
        if depth is None and (missing := self.exported.lacking_shard(index)):
            raise InputError(
                f"{self.name(index)} has no ground truth: {missing} is not there, but other shards are; "
                "export it as well"
            )
        return depth

    def depth_from_raw(self, index: int) -> np.ndarray | None:
        """The same from the raw measurements; None where there are none."""
        known = self.read_raw_depth(index)
        return known.dense() if isinstance(known, SparseDepth) else known

    def read_raw_depth(self, index: int) -> SparseDepth | np.ndarray | None:
        """The same, of a LiDAR as the known pixels alone. Export goes through here and needs no maps."""
        raise NotImplementedError


def check_ground_truth(ground_truth: str | None, known: Iterable[str]) -> str | None:
    """The name of a ground truth; None, also written `none`, for no ground truth.

    Raises:
        InputError: it is not among `known`.
    """
    known = list(known)
    if ground_truth is None or ground_truth == "none":
        return None
    if ground_truth not in known:
        names = [*known, "none"]
        raise InputError(f"there is no ground truth '{ground_truth}'{nearest_name(ground_truth, names)}")
    return ground_truth


def read_scan(path: str | Path, columns: int) -> np.ndarray:
    """A LiDAR scan as (P, columns) float32.

    Raises:
        InputError: the size is no multiple of a point's bytes.
    """
    data = np.fromfile(path, np.uint8)
    if data.size == 0 or data.size % (4 * columns):
        raise InputError(
            f"{path} is no whole LiDAR scan: its {data.size} bytes are no multiple of {4 * columns}; "
            "is it truncated?"
        )
    return data.view("<f4").reshape(-1, columns)


def read_values(path: str | Path, what: str) -> np.ndarray:
    """The (h, w) values of a 16-bit image of `what`: depth or disparity.

    Raises:
        InputError: missing, not readable, or not 16 bit.
    """
    try:
        with Image.open(path) as image:
            values = np.array(image)
    except FileNotFoundError:
        raise InputError(f"there is no file {path} of {what}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read as a {what} image ({error}); is it truncated?") from None
    if values.ndim != 2 or values.dtype.itemsize < 2:
        raise InputError(
            f"{path} is no {what} image: expected one 16-bit channel, got {values.dtype} {values.shape}"
        )
    return values


# ------------------------------------------------------------------------------------------------- reading


class ExportedDepth:
    """The maps of one exported file and its shards, each read when it is asked for.

    Args:
        path: `exported_path(...)`; nothing need be there.
        at_first: evaluation writes the file when it is missing. Off where the measurements are single files
            that are read as quickly, and which their owner may still change.
    """

    def __init__(self, path: str | Path, at_first: bool = True) -> None:
        self.path, self.at_first = Path(path), at_first
        self.refresh()

    def refresh(self) -> None:
        """Look again which files are there."""
        stem = glob.escape(self.path.stem)
        found = [*self.path.parent.glob(f"{stem}.*of*.npz"), *self.path.parent.glob(f"{stem}.npz")]
        self.paths = sorted(found, key=lambda path: path.stat().st_mtime_ns)  # what was written last wins
        self._positions: dict[str, tuple[Path, str]] | None = None
        self._open: dict[Path, zipfile.ZipFile] = {}
        self._process = -1

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}}

    def get(self, name: str) -> np.ndarray | None:
        """The (N, h, w) float32 map of the sample called `name`; None where it was not exported."""
        if not self.paths:
            return None
        if self._process != os.getpid():  # forked workers must not share one file position
            self._process, self._open = os.getpid(), {}
        if self._positions is None:
            self._positions = {
                name: (path, f"{number:06d}")
                for path in self.paths
                for number, name in enumerate(self._read(path, _read_names))
            }
        if name not in self._positions:
            return None
        path, key = self._positions[name]
        return self._read(path, _read_map, key)

    def lacking_shard(self, index: int) -> Path | None:
        """The shard that sample `index` belongs to, where others are there and this one is not."""
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
        except DAMAGE as error:
            raise InputError(
                f"{path} cannot be read as exported ground truth ({error}); "
                "remove it or write it again with tools/export_gt_depth.py"
            ) from None


def _read_array(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _read_names(archive: zipfile.ZipFile, key: str = "names") -> list[str]:
    return _read_array(archive, key).tolist()


def _read_map(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """(N, h, w) float32, from either form."""
    if f"{key}.npy" in archive.NameToInfo:
        return _read_array(archive, key)
    shape = tuple(_read_array(archive, f"{key}.shape").tolist())
    indices = np.cumsum(_read_array(archive, f"{key}.gaps"), dtype=np.int64)
    return SparseDepth(shape, indices, _read_array(archive, f"{key}.metres")).dense()


# ------------------------------------------------------------------------------------------------- writing


class SparseDepth(NamedTuple):
    """A (N, h, w) map of which little is known.

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
        """From (K,) values in any order; where several share an index the last counts, and 0 is unknown."""
        # By halves of 16 bits, which numpy sorts in linear time; a map has fewer than 2^32 pixels.
        order = np.lexsort(((indices & 0xFFFF).astype(np.uint16), (indices >> 16).astype(np.uint16)))
        ordered = indices[order]
        last = np.flatnonzero(np.diff(ordered, append=-1))
        indices, metres = ordered[last], metres[order[last]].astype(np.float32)
        return SparseDepth(shape, indices[metres != 0], metres[metres != 0])

    @staticmethod
    def of_pixels(
        height: int, width: int, cameras: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]
    ) -> SparseDepth:
        """From rows, columns and metres, (K,) each, of every camera; the last of a pixel counts."""
        indices = [(n * height + rows) * width + columns for n, (rows, columns, _) in enumerate(cameras)]
        metres = [metres for _, _, metres in cameras]
        return SparseDepth.of((len(cameras), height, width), np.concatenate(indices), np.concatenate(metres))

    def dense(self) -> np.ndarray:
        """(N, h, w) float32, 0 where unknown."""
        depth = np.zeros(self.shape, np.float32)
        depth.reshape(-1)[self.indices] = self.metres
        return depth


class Member(NamedTuple):
    """One array of an archive, ready to be written.

    Attributes:
        ending: what follows the map's number in its name.
        data: the .npy file, deflated or as it is.
        size: of the .npy file, bytes.
        crc: its checksum.
    """

    ending: str
    data: bytes
    size: int
    crc: int

    @property
    def method(self) -> int:
        """How a zip calls it."""
        return zipfile.ZIP_STORED if len(self.data) == self.size else zipfile.ZIP_DEFLATED


def encode(depth: np.ndarray | SparseDepth) -> list[Member]:
    """A (N, h, w) map in metres as the arrays it is stored as; the slow half of writing, done by workers."""
    if not isinstance(depth, SparseDepth):
        depth = np.asarray(depth, np.float32)
        known = depth != 0
        if np.count_nonzero(known) >= SPARSE * depth.size:
            return [_member("", depth)]
        indices = np.flatnonzero(known)
        depth = SparseDepth(depth.shape, indices, depth.reshape(-1)[indices])
    return [
        _member(".shape", np.array(depth.shape, np.uint32)),
        _member(".gaps", np.diff(depth.indices, prepend=0).astype(np.uint32)),
        _member(".metres", depth.metres, deflated=False),  # noise, of which deflating gains 10 %
    ]


def _member(ending: str, array: np.ndarray, deflated: bool = True) -> Member:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    plain = file.getvalue()
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)  # stronger is slower and gains 2 %
    data = deflate.compress(plain) + deflate.flush() if deflated else plain
    return Member(ending, data if len(data) < len(plain) else plain, len(plain), zlib.crc32(plain))


class Archive:
    """A zip file written from members that are packed already, which `zipfile` cannot do.

    With it several processes share the deflating, and chunks are put together by copying. Sizes and offsets
    are as in PKWARE's APPNOTE 6.3; the 64-bit records are always there, so a file may grow beyond 4 GB.
    Equal maps make equal bytes: no date is recorded.
    """

    DATE = (0, (1 << 5) | 1)  # time and date of 1980-01-01, the earliest a zip knows

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.names: list[str] = []
        self._directory: list[bytes] = []

    def add(self, name: str, members: Iterable[Member]) -> None:
        """Write the map of the sample called `name`."""
        for member in members:
            self._write(f"{len(self.names):06d}{member.ending}", member)
        self.names.append(name)

    def close(self, **arrays: np.ndarray) -> None:
        """Write `names` and further arrays, and the table of contents."""
        for key, array in {"names": np.array(self.names, np.str_), **arrays}.items():
            self._write(key, _member("", array))
        start, directory = self.file.tell(), b"".join(self._directory)
        count, size = len(self._directory), len(directory)
        self.file.write(directory)
        self.file.write(
            struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, UNIX, 45, 0, 0, count, count, size, start)
            + struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
            + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        )

    def _write(self, key: str, member: Member) -> None:
        name, offset = f"{key}.npy".encode(), self.file.tell()
        sizes = struct.pack("<III", member.crc, len(member.data), member.size)
        common = struct.pack("<HHHHH", 45, 0, member.method, *self.DATE) + sizes
        self.file.write(b"PK\3\4" + common + struct.pack("<HH", len(name), 0) + name + member.data)
        field = struct.pack("<HHQ", 1, 8, offset)
        rest = struct.pack("<HHHHHII", len(name), len(field), 0, 0, 0, 0o644 << 16, 0xFFFFFFFF)
        self._directory.append(b"PK\1\2" + struct.pack("<H", UNIX) + common + rest + name + field)


def write_exported(path: str | Path, maps: Iterable[tuple[str, np.ndarray]]) -> int:
    """Write (name, (N, h, w) metres) pairs as they come; the file appears only when it is complete.

    Returns:
        How many were written.

    Raises:
        InputError: there were none; nothing is written.
    """
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        archive = Archive(file)
        for name, depth in maps:
            archive.add(name, encode(depth))
        if not archive.names:
            raise InputError(f"there is no ground truth to write to {path}")
        archive.close()
    return len(archive.names)


class Export:
    """An export on its way, which an interruption does not undo.

        export = Export(path, names, source)
        for position in export.left:
            export.add(position, ...)
        export.finish()

    Every few seconds a chunk of consecutive samples is written in `<path>.partial/`. A chunk says which
    samples it looked at and where they came from; one that is damaged, of another list or of other
    measurements is not used.

    Args:
        path: the file to be.
        names: of the samples to look at, in order.
        source: says where the maps come from; chunks of another are not used.

    Attributes:
        left: positions in `names` that no chunk holds.
    """

    def __init__(self, path: Path, names: Sequence[str], source: str) -> None:
        self.path, self.folder = path, path.with_suffix(".partial")
        self.names, self.source = list(names), hashlib.sha256(source.encode()).hexdigest()
        self._chunks: dict[int, int] = {}  # where it starts: how many samples it looked at
        for chunk in sorted(self.folder.glob("*.npz")):
            if count := self._count(chunk):
                self._chunks[int(chunk.stem)] = count
        done = {n for start, count in self._chunks.items() for n in range(start, start + count)}
        self.left = [n for n in range(len(self.names)) if n not in done]
        self._pending: list[list[Member] | None] = []
        self._start, self._saved = 0, time.monotonic()

    def add(self, position: int, members: list[Member] | None) -> None:
        """Take the sample at `position`: its encoded map, or None where it has no ground truth."""
        if self._pending and position != self._start + len(self._pending):
            self.save()
        if not self._pending:
            self._start = position
        self._pending.append(members)
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write what was taken since the last chunk as the next."""
        self._saved = time.monotonic()
        if not self._pending:
            return
        names = self.names[self._start : self._start + len(self._pending)]
        with atomic_path(self._chunk(self._start)) as temporary, open(temporary, "wb") as file:
            archive = Archive(file)
            for name, members in zip(names, self._pending):
                if members is not None:
                    archive.add(name, members)
            archive.close(asked=np.array(names, np.str_), source=np.array([self.source]))
        self._chunks[self._start] = len(names)
        self._pending = []

    def finish(self, may_be_empty: bool = False) -> int:
        """Put the chunks together as the finished file and remove them.

        Args:
            may_be_empty: a file without a map is written, too, as of a shard whose samples have none.

        Returns:
            How many maps it holds.

        Raises:
            InputError: there is no map, or a chunk is gone.
        """
        self.save()
        if not may_be_empty and not any(self._holds_maps(start) for start in self._chunks):
            shutil.rmtree(self.folder, ignore_errors=True)
            raise InputError(
                f"there is no ground truth to write to {self.path}: none of the {len(self.names)} samples "
                "has any; is what it is made of unpacked?"
            )
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            archive = Archive(file)
            for start in sorted(self._chunks):
                for name, members in self._maps(start):
                    archive.add(name, members)
            archive.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return len(archive.names)

    def _chunk(self, start: int) -> Path:
        return self.folder / f"{start:06d}.npz"

    def _count(self, chunk: Path) -> int:
        """How many samples a chunk has looked at; 0 for one that is damaged or not of this export."""
        try:
            with zipfile.ZipFile(chunk) as archive:
                asked, source = _read_names(archive, "asked"), _read_names(archive, "source")
                start, stop = int(chunk.stem), int(chunk.stem) + len(asked)
                fits = source == [self.source] and asked == self.names[start:stop]
                taken = any(other <= start < other + count for other, count in self._chunks.items())
                return len(asked) if fits and not taken and archive.testzip() is None else 0
        except DAMAGE:
            return 0

    def _holds_maps(self, start: int) -> bool:
        with self._opened(start) as archive:
            return bool(_read_names(archive))

    def _maps(self, start: int) -> Iterator[tuple[str, list[Member]]]:
        """The maps of a chunk, still deflated."""
        with self._opened(start) as archive, open(self._chunk(start), "rb") as file:
            for number, name in enumerate(_read_names(archive)):
                key = f"{number:06d}"
                endings = [""] if f"{key}.npy" in archive.NameToInfo else [".shape", ".gaps", ".metres"]
                yield name, [_raw_member(archive, file, key, ending) for ending in endings]

    def _opened(self, start: int) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._chunk(start))
        except DAMAGE as error:
            raise InputError(
                f"{self._chunk(start)} is gone or broken ({error}); does a second export of the same run? "
                "start it again, it goes on from what is there"
            ) from None


def _raw_member(archive: zipfile.ZipFile, file: BinaryIO, key: str, ending: str) -> Member:
    """A member of an open archive as it lies in its file, not unpacked."""
    info = archive.getinfo(f"{key}{ending}.npy")
    file.seek(info.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    file.seek(name_length + extra_length, os.SEEK_CUR)
    return Member(ending, file.read(info.compress_size), info.file_size, info.CRC)
