"""Writing exported ground truth: the format of datasets/exported_depth.py, in chunks that survive a stop.

While an export runs, its maps are in chunks in `<...>.partial/`, each a file of the same format. `Export`
continues from there and finally joins the chunks without decompressing them. No dataset needs this file.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from datasets.exported_depth import SparseDepth, read_names
from files import DAMAGED_ARRAY
from utils import InputError, atomic_path

SPARSE = 0.25  # share of known pixels below which a map is stored as indices and metres
SAVE_EVERY = 5.0  # seconds of work that an interruption may cost
UNIX = 3 << 8 | 45  # "version made by" of a zip file: Unix, version 4.5 of the format


class Member(NamedTuple):
    """One array of an archive, ready to be written.

    Attributes:
        ending: suffix of its name after the number of the map.
        data: the .npy file, deflated or stored.
        size: bytes of the .npy file.
        crc: checksum of the .npy file.
    """

    ending: str
    data: bytes
    size: int
    crc: int

    @property
    def method(self) -> int:
        """Compression method, as zip files number it."""
        return zipfile.ZIP_STORED if len(self.data) == self.size else zipfile.ZIP_DEFLATED


def encode(depth: np.ndarray | SparseDepth) -> list[Member]:
    """The arrays that store a (N, h, w) map in metres. This is the slow part of writing; workers do it."""
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
        _member(".metres", depth.metres, deflated=False),  # noise: deflating saves only 10 %
    ]


def _member(ending: str, array: np.ndarray, deflated: bool = True) -> Member:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    plain = file.getvalue()
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)  # a higher level is slower and saves 2 %
    data = deflate.compress(plain) + deflate.flush() if deflated else plain
    return Member(ending, data if len(data) < len(plain) else plain, len(plain), zlib.crc32(plain))


class Archive:
    """A zip file written from members that are already compressed, which `zipfile` cannot do.

    So several processes share the compression, and chunks are joined by copying. Records are as in PKWARE's
    APPNOTE 6.3; the 64-bit ones are always written, so a file may exceed 4 GB. Equal maps give equal bytes,
    since no date is recorded.
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
    """Write (name, (N, h, w) metres) pairs in order; the file appears only when it is complete.

    Returns:
        Number of maps.

    Raises:
        InputError: there are none; nothing is written.
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
    """An export in progress that survives an interruption.

        export = Export(path, names, source)
        for position in export.left:
            export.add(position, ...)
        export.finish()

    Every few seconds a chunk of consecutive samples is written into `<path>.partial/`. It records its samples
    and the source of their maps. A chunk that is damaged, of another list or of another source is not used.

    Args:
        path: the file to write in the end.
        names: names of the samples, in order.
        source: description of the source of the maps.
        origin_of: position in `names` → hash of its raw data; a chunk of other raw data is not used.

    Attributes:
        left: positions in `names` that no chunk holds.
    """

    def __init__(
        self, path: Path, names: Sequence[str], source: str, origin_of: Callable[[int], str] = lambda _: ""
    ) -> None:
        self.path, self.folder = path, path.with_suffix(".partial")
        self.names, self.source = list(names), hashlib.sha256(source.encode()).hexdigest()
        self._origin_of = origin_of
        self._chunks: dict[int, int] = {}  # first position: number of samples
        for chunk in sorted(self.folder.glob("*.npz")):
            if count := self._count(chunk):
                self._chunks[int(chunk.stem)] = count
        done = {n for start, count in self._chunks.items() for n in range(start, start + count)}
        self.left = [n for n in range(len(self.names)) if n not in done]
        self._pending: list[tuple[list[Member] | None, str]] = []
        self._start, self._saved = 0, time.monotonic()

    def add(self, position: int, members: list[Member] | None, origin: str = "") -> None:
        """Take the sample at `position`: its encoded map, or None without ground truth, and its origin."""
        if self._pending and position != self._start + len(self._pending):
            self.save()
        if not self._pending:
            self._start = position
        self._pending.append((members, origin))
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write the samples since the last chunk as the next one."""
        self._saved = time.monotonic()
        if not self._pending:
            return
        names = self.names[self._start : self._start + len(self._pending)]
        with atomic_path(self._chunk(self._start)) as temporary, open(temporary, "wb") as file:
            archive = Archive(file)
            for name, (members, _) in zip(names, self._pending):
                if members is not None:
                    archive.add(name, members)
            origins = np.array([origin for _, origin in self._pending], np.str_)
            archive.close(asked=np.array(names, np.str_), source=np.array([self.source]), origins=origins)
        self._chunks[self._start] = len(names)
        self._pending = []

    def finish(self, may_be_empty: bool = False) -> int:
        """Join the chunks into the finished file and remove them.

        Args:
            may_be_empty: write a file without maps too, for a shard whose samples have no ground truth.

        Returns:
            Number of maps.

        Raises:
            InputError: there is no map, or a chunk is gone.
        """
        self.save()
        if not may_be_empty and not any(self._holds_maps(start) for start in self._chunks):
            shutil.rmtree(self.folder, ignore_errors=True)
            raise InputError(
                f"there is no ground truth to write to {self.path}: none of the {len(self.names)} samples "
                "has any; are the raw data unpacked?"
            )
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            archive, origins = Archive(file), {}
            for start in sorted(self._chunks):
                with self._opened(start) as chunk:
                    origins |= dict(zip(read_names(chunk, "asked"), read_names(chunk, "origins")))
                for name, members in self._maps(start):
                    archive.add(name, members)
            archive.close(origins=np.array([origins[name] for name in archive.names], np.str_))
        shutil.rmtree(self.folder, ignore_errors=True)
        return len(archive.names)

    def _chunk(self, start: int) -> Path:
        return self.folder / f"{start:06d}.npz"

    def _count(self, chunk: Path) -> int:
        """Number of samples of a chunk; 0 if it is damaged or not of this export."""
        try:
            with zipfile.ZipFile(chunk) as archive:
                asked, source = read_names(archive, "asked"), read_names(archive, "source")
                start, stop = int(chunk.stem), int(chunk.stem) + len(asked)
                fits = source == [self.source] and asked == self.names[start:stop]
                taken = any(other <= start < other + count for other, count in self._chunks.items())
                origins = read_names(archive, "origins")
                fits = fits and origins == [self._origin_of(n) for n in range(start, stop)]
                return len(asked) if fits and not taken and archive.testzip() is None else 0
        except DAMAGED_ARRAY:
            return 0

    def _holds_maps(self, start: int) -> bool:
        with self._opened(start) as archive:
            return bool(read_names(archive))

    def _maps(self, start: int) -> Iterator[tuple[str, list[Member]]]:
        """The maps of a chunk, still compressed."""
        with self._opened(start) as archive, open(self._chunk(start), "rb") as file:
            for number, name in enumerate(read_names(archive)):
                key = f"{number:06d}"
                endings = [""] if f"{key}.npy" in archive.NameToInfo else [".shape", ".gaps", ".metres"]
                yield name, [_raw_member(archive, file, key, ending) for ending in endings]

    def _opened(self, start: int) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._chunk(start))
        except DAMAGED_ARRAY as error:
            raise InputError(
                f"{self._chunk(start)} is missing or damaged ({error}); if a second export writes the same "
                "file, stop it; start this one again, it continues from the chunks that are there"
            ) from None


def _raw_member(archive: zipfile.ZipFile, file: BinaryIO, key: str, ending: str) -> Member:
    """A member of an open archive in its compressed form."""
    info = archive.getinfo(f"{key}{ending}.npy")
    file.seek(info.header_offset + 26)
    name_length, extra_length = struct.unpack("<HH", file.read(4))
    file.seek(name_length + extra_length, os.SEEK_CUR)
    return Member(ending, file.read(info.compress_size), info.file_size, info.CRC)
