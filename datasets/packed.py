"""Packed frames: images at network size in memory-mapped shards, which training reads instead of files.

    <folder>/<hash>.safetensors
        images       (R, 3, H, W) uint8 RGB, as the dataset reads and resizes them
        images_x2    the same at twice the size; for methods with detailed images (--detail 2)
        metadata     `parallax`: JSON of the origin (provenance.py) and, for each of the R images, its key,
                     its file, and its height and width before the resize

tools/pack_dataset.py writes them. A key names one image of a dataset (`SequenceDataset.image_keys`), so that
an image is stored once however many samples show it. The shards replace images only: lists, calibrations,
poses and ground truth still come from the dataset's own files, and samples are equal in every bit. Source
images may be removed; those that are there must be unchanged.

A tensor of a shard is a private mapping of its file. It is read on access, and its pages are shared by all
processes that read it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from files import writing
from provenance import difference, unchanged
from utils import InputError

VERSION = 1  # of the pixels: reading, cropping, resizing
ENDING = ".safetensors"
PACK_TOOL = "tools/pack_dataset.py"


class NetworkImages(NamedTuple):
    """One frame of a sample.

    Attributes:
        images: (N, 3, H, W) uint8 at network size. Packed images share memory with the shard.
        larger: (N, 3, detail H, detail W) uint8; None without detail.
        sizes: height and width of each camera's image before the resize.
    """

    images: Tensor
    larger: Tensor | None
    sizes: list[tuple[int, int]]


class Shard(NamedTuple):
    """The header of a shard.

    Attributes:
        path: the file.
        keys: its images, in order.
        settings: settings that its pixels depend on.
        sources: key → path of its file below the dataset's root, and fingerprint of that file.
        sizes: height and width of each image before the resize.
        details: factors of the larger images in it.
        flags: split and parts of the command that wrote it.
    """

    path: Path
    keys: list[str]
    settings: dict[str, Any]
    sources: dict[str, tuple[str, str]]
    sizes: list[tuple[int, int]]
    details: tuple[int, ...]
    flags: str

    def stale(self, root: Path) -> str | None:
        """The first source that has changed, below `root`, in words; None if none has."""
        for name, then in dict.fromkeys(self.sources.values()):
            if not unchanged(root / name, then):
                return f"{name} has changed"
        return None


def tensor_name(detail: int) -> str:
    """Name of the tensor that holds images of `detail` times the network size."""
    return "images" if detail == 1 else f"images_x{detail}"


def read_shard(path: Path) -> Shard:
    """The header of a shard.

    Raises:
        InputError: not a shard, or damaged.
    """
    try:
        with safe_open(path, "np") as file:
            record = json.loads(file.metadata()["parallax"])
            names = list(file.keys())
            files = [(name, record["sources"][name]) for name in record["files"]]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a shard of packed images ({error}); remove it and run {PACK_TOOL} again"
        ) from None
    details = tuple(int(name.removeprefix("images_x")) for name in names if name.startswith("images_x"))
    sources, sizes = dict(zip(record["keys"], files)), [tuple(size) for size in record["sizes"]]
    return Shard(path, record["keys"], record["settings"], sources, sizes, details, record["flags"])


def write_shard(
    folder: Path, found: Sequence[NetworkImages], keys: Sequence[str], files: Sequence[str], made: Mapping
) -> None:
    """Write the images of one or several frames as a shard.

    Args:
        folder: folder of the shards.
        found: the frames.
        keys, files: key of each image, and its file below the dataset's root.
        made: `settings` and `sources` of `provenance.origin`, and `flags` of the command.

    Raises:
        InputError: the shard cannot be written.
    """
    sizes = [size for frame in found for size in frame.sizes]
    tensors = {"images": torch.cat([frame.images for frame in found])}
    if found[0].larger is not None:
        detail = found[0].larger.shape[-1] // found[0].images.shape[-1]
        tensors[tensor_name(detail)] = torch.cat([frame.larger for frame in found])
    record = json.dumps({**made, "keys": list(keys), "files": list(files), "sizes": sizes})
    name = hashlib.sha256(f"{sorted(tensors)} {record}".encode()).hexdigest()[:16]
    with writing(folder / f"{name}{ENDING}", (SafetensorError,)) as path:
        save_file(tensors, path, {"parallax": record})


def list_shards(folder: Path) -> list[Path]:
    """The shards of a folder; of two that hold the same image, the later one counts."""
    return sorted(folder.glob(f"[!.]*{ENDING}"), key=lambda path: (path.stat().st_mtime_ns, path.name))


class PackedImages:
    """The images in a folder of shards, found by their keys.

    Args:
        folder: the folder of `--packed`.
        settings: settings of the dataset that its pixels depend on.
        remake: command that packs the dataset, for errors.

    Raises:
        InputError: no shards, or shards that were made with other settings.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], remake: str) -> None:
        self.folder, self.remake = Path(folder).expanduser(), remake
        shards = [read_shard(path) for path in list_shards(self.folder)]
        if not shards:
            raise InputError(f"--packed {folder} holds no packed images; make them: {remake}")
        self.remake += shards[-1].flags
        self._rows: dict[str, tuple[int, int]] = {}
        self._sources: dict[str, tuple[str, str]] = {}
        for number, shard in enumerate(shards):
            origin = {"settings": shard.settings, "sources": {}}
            if reason := difference(origin, self.folder, **settings):
                raise InputError(
                    f"--packed {folder} was made otherwise: {reason}; make it again: "
                    f"{self.remake} --overwrite"
                )
            self._rows.update((key, (number, row)) for row, key in enumerate(shard.keys))
            self._sources |= shard.sources
        self._paths = [shard.path for shard in shards]
        self._sizes = [shard.sizes for shard in shards]
        self._open: dict[tuple[int, int], Tensor] = {}
        self._checked: set[str] = set()
        self._lacking: set[str] = set()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": {}, "_sources": {}, "_checked": set(), "_lacking": set()}

    def __len__(self) -> int:
        return len(self._rows)

    def covers(self, key: str, path: Path, root: Path) -> bool:
        """Whether an image is packed, from the file that the dataset would read now if that is there.

        Args:
            key: key of the image.
            path: the file that the dataset would read.
            root: the dataset's root.

        Raises:
            InputError: the file has changed, or another one has taken its place.
        """
        if key in self._checked:
            return True
        if key not in self._rows:
            self._lacking.add(key)
            return False
        name, then = self._sources[key]
        same_file = os.fspath(path) == os.path.join(root, name)
        if not unchanged(path, then) if same_file else path.exists():
            raise InputError(
                f"--packed {self.folder} was made from other images: {path} has changed; make it again: "
                f"{self.remake}"
            )
        self._checked.add(key)
        return True

    def note(self) -> str | None:
        """One sentence if `covers` was asked for images that are not packed."""
        if not self._lacking:
            return None
        return (
            f"--packed {self.folder} holds {len(self._checked)} of {len(self._checked) + len(self._lacking)} "
            f"images; the others are read from their files ({self.remake} packs them)"
        )

    def read(self, keys: Sequence[str], detail: int = 1) -> NetworkImages | None:
        """The images of one frame; None if one of them is not packed.

        Raises:
            InputError: they are packed without images of `detail` times the size.
        """
        try:
            rows = [self._rows[key] for key in keys]
        except KeyError:
            return None
        sizes = [self._sizes[shard][row] for shard, row in rows]
        larger = self._stack(rows, detail) if detail > 1 else None
        return NetworkImages(self._stack(rows, 1), larger, sizes)

    def _stack(self, rows: Sequence[tuple[int, int]], detail: int) -> Tensor:
        """(N, 3, h, w); without a copy if the N images follow each other in their shard."""
        shard, first = rows[0]
        if all(row == (shard, first + n) for n, row in enumerate(rows)):
            return self._tensor(shard, detail)[first : first + len(rows)]
        return torch.stack([self._tensor(shard, detail)[row] for shard, row in rows])

    def _tensor(self, shard: int, detail: int) -> Tensor:
        found = self._open.get((shard, detail))
        if found is None:
            found = self._open[shard, detail] = self._map(self._paths[shard], detail)
        return found

    def _map(self, path: Path, detail: int) -> Tensor:
        try:
            with safe_open(path, "pt") as file:
                if tensor_name(detail) in list(file.keys()):
                    return file.get_tensor(tensor_name(detail))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be read ({error}); run {PACK_TOOL} again") from None
        raise InputError(
            f"--packed {self.folder} holds no images of {detail} times the size, which this method reads; "
            f"make them: {self.remake} --detail {detail}"
        )
