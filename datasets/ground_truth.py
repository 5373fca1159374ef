"""The ground truth of a dataset: read from raw data, such as LiDAR scans, or from an exported file.

A dataset that takes part is `Exportable`. It defines how a sample's depth is read from the raw data; the
exported file (datasets/exported_depth.py) is looked up first.

Measured depth can also be an input of the network (depth completion): the map `input_depth`. Random
points or beams of it can be left out; the random numbers are a function of epoch and sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from datasets._depth_cache import FOLDER as CACHE
from datasets._depth_cache import DepthCache
from datasets._pillow import Unreadable, opened
from datasets._sparse_depth import BEAMS, RULES, keep_beams, keep_points, resize_points
from datasets.exported_depth import FOLDER, ExportedDepth, SparseDepth, exported_path
from datasets.loading import epoch_of
from files import damage
from utils import InputError, nearest_name

__all__ = ["DEPTH", "FOLDER", "Exportable", "SparseDepth", "check_ground_truth", "read_scan", "read_values"]


# What a dataset with ground truth provides: batch entry → the setting that adds it.
DEPTH = {
    "maps.depth": "--dataset.supervision true adds the ground truth",
    "maps.input_depth": "--dataset.input_depth true adds measured depth as an input",
}


class Exportable:
    """Mix-in of datasets whose ground truth can be exported.

    A subclass sets `ground_truth`, calls `find_exported` at the end of its constructor, and defines
    `read_raw_depth`. The mix-in stands before the base class: `class Kitti(Exportable, KittiImages)`.

    Args:
        data_path: root folder of the dataset.
        gt_path: folder of exported ground truth; `<data_path>/gt_depths` if not given.
        input_depth: give measured depth to the network, as the map `input_depth`: true for the ground truth,
            or the name of another kind that the dataset has, such as `velodyne` of kitti; false for none.
        keep_points: number of points of the input depth that are kept, drawn again each epoch; 0 keeps all.
            Two numbers are a range: each sample draws its own number, on a logarithmic scale.
        keep_beams: number of LiDAR beams of the input depth that are kept, of 64; 0 keeps all. Two numbers
            are a range as well.
        depth_resize: rule that brings depth to the network size: `points` keeps every point in its pixel,
            `packnet` and `nearest` are PackNet-SfM's (datasets/_sparse_depth.py).
        depth_cache: keep the known pixels of measured depth in `<gt_path>/cache`, so that a scan is projected
            once and not in every epoch (datasets/_depth_cache.py).

    Raises:
        InputError: an unknown kind of depth or rule; a number of points or beams below 0.
    """

    provides: ClassVar[Mapping[str, str]] = DEPTH
    input_kinds: ClassVar[Sequence[str]] = ()  # names for `input_depth`, in addition to the ground truth's
    ground_truth: str | None
    exported: ExportedDepth

    def __init__(
        self,
        data_path: str | Path,
        gt_path: str | Path | None = None,
        input_depth: bool | str = False,
        keep_points: int | Sequence[int] = 0,
        keep_beams: int | Sequence[int] = 0,
        depth_resize: str = "points",
        depth_cache: bool = True,
        **settings: Any,
    ) -> None:
        self.gt_folder = Path(gt_path) if gt_path else Path(data_path) / FOLDER
        self.input_depth = input_depth
        self.keep_points = _kept("keep_points", keep_points)
        self.keep_beams = _kept("keep_beams", keep_beams, most=BEAMS)
        self.depth_resize = depth_resize
        self.depth_cache = DepthCache(self.gt_folder / CACHE) if depth_cache else None
        if depth_resize not in RULES:
            raise InputError(f"there is no depth_resize '{depth_resize}'{nearest_name(depth_resize, RULES)}")
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
            split, part: split and part of the samples.
            variant: further words in the file's name, for settings that change its maps.
            at_first: see `ExportedDepth`.
        """
        if isinstance(self.input_depth, str):
            known = [name for name in dict.fromkeys((self.ground_truth, *self.input_kinds)) if name]
            check_ground_truth(self.input_depth, known)
        self._variant = tuple(variant)
        what = "_".join([self.ground_truth or "none", *variant])
        self.exported = ExportedDepth(exported_path(self.gt_folder, split, part, what), at_first)

    def depth(self, index: int) -> np.ndarray | None:
        """The ground truth of a sample, from the exported file if it is there, else from the raw data.

        Returns:
            (N, h, w) metres at the cameras' own size, 0 where unknown; None without ground truth.

        Raises:
            InputError: the sample belongs to a shard that was not exported, and has no raw data either.
        """
        depth = self.measured(index)
        return depth.dense() if isinstance(depth, SparseDepth) else depth

    def measured(self, index: int) -> SparseDepth | np.ndarray | None:
        """Same as `depth`, as its known pixels if it was measured so."""
        if self.ground_truth is None:
            return None
        depth = self.exported.measured(self.name(index)) if self.is_current(index) else None
        if depth is not None and depth.shape[0] != self.cameras:
            raise InputError(
                f"{self.exported.path} has depth of {depth.shape[0]} cameras for {self.name(index)}, not of "
                f"{self.cameras}; remove it or write it again with tools/export_gt_depth.py"
            )
        depth = self.cached_depth(self.ground_truth, index) if depth is None else depth
        if depth is None and (missing := self.exported.lacking_shard(index)):
            raise InputError(
                f"{self.name(index)} has no ground truth: {missing} is not there, but other shards are; "
                "export it as well"
            )
        return depth

    def depth_maps(self, index: int) -> dict[str, Tensor]:
        """The base class's maps, and `input_depth` (N, 1, height, width) metres, 0 where unknown, if read."""
        known = self.measured(index) if self.supervision else None
        maps = {"depth": self.network_depth(self.cut_depth(known, index))} if self.supervision else {}
        if self.input_depth in (False, "none"):
            return maps
        same = self.supervision and self.input_depth in (True, self.ground_truth)
        thinned = self.keep_points or self.keep_beams
        if same and not thinned:
            return {**maps, "input_depth": maps["depth"].clone()}
        depth = known if same else self.read_input_depth(index)
        if thinned and depth is not None:
            whole = depth.dense() if isinstance(depth, SparseDepth) else np.asarray(depth, np.float32)
            depth = self._thinned(whole, index)
        else:
            depth = self.cut_depth(depth, index)
        return {**maps, "input_depth": self.network_depth(depth)}

    def network_depth(self, depth: SparseDepth | np.ndarray | None) -> Tensor:
        """The base class's maps at network size; known pixels are moved without the map around them."""
        if not isinstance(depth, SparseDepth):
            return super().network_depth(depth)
        resized = resize_points(depth, (self.height, self.width), self.depth_resize)
        return torch.from_numpy(resized)[:, None]

    @property
    def input_words(self) -> str:
        """The input depth in words, for the protocol card; "" if none is read."""
        if self.input_depth in (False, "none"):
            return ""
        kind = self.ground_truth if self.input_depth is True else self.input_depth
        kept = {"beams": self.keep_beams, "points": self.keep_points}
        fewer = [f"{_in_words(number)} {what}" for what, number in kept.items() if number]
        return ", ".join([str(kind), *fewer])

    def cached_depth(self, kind: str, index: int) -> SparseDepth | np.ndarray | None:
        """Depth of a kind, read from the raw data at the first time and then from the cache.

        Only of samples that training or completion reads; an evaluation reads each sample once."""
        other = {} if kind == self.ground_truth else {"kind": kind}
        reads = self.supervision or self.input_depth not in (False, "none")
        content = self.origin(index, **other) if self.depth_cache and reads else ""
        if not content:
            return self.read_raw_depth(index, **other)
        place = "_".join([kind, *self._variant]), self.name(index), content
        depth = self.depth_cache.get(*place)
        if depth is None:
            depth = self.read_raw_depth(index, **other)
            if depth is not None:
                self.depth_cache.put(*place, depth)
        return depth

    def read_input_depth(self, index: int) -> SparseDepth | np.ndarray | None:
        """(N, h, w) metres of the kind that `input_depth` names; None if there is none."""
        return self.measured(index)

    def _thinned(self, depth: np.ndarray, index: int) -> np.ndarray:
        """Some beams of the whole map, its part that the image shows, some points of that."""
        rng = np.random.default_rng([epoch_of(index), int(index)])
        if self.keep_beams:
            sample, size = self.samples[index], depth.shape[-2:]
            beams = _drawn(self.keep_beams, rng)
            maps = [
                keep_beams(values, self.intrinsics(sample, camera, *size), beams, rng)
                for camera, values in enumerate(depth)
            ]
            depth = np.stack(maps)
        depth = self.cut_depth(depth, index)
        return keep_points(depth, _drawn(self.keep_points, rng), rng) if self.keep_points else depth

    def is_current(self, index: int) -> bool:
        """Whether the exported map of a sample, if there is one, is made from the raw data that are there.

        True as well if this cannot be told: the raw data are gone, or the file does not say.
        """
        then = self.exported.origin(self.name(index))
        return not then or (self.origin(index) or then) == then

    def origin(self, index: int, **kind: str) -> str:
        """Hash of everything the depth of a sample is made from; empty if raw data are missing."""
        try:
            return self.raw_content(index, **kind)
        except InputError:  # an incomplete calibration: the exported file is all there is
            return ""

    def raw_content(self, index: int) -> str:
        """`provenance.content` of the raw data of a sample; empty if the dataset does not tell.

        A dataset with several `input_kinds` takes one as `kind`, here and in `read_raw_depth`."""
        return ""

    def depth_from_raw(self, index: int) -> np.ndarray | None:
        """(N, h, w) metres from the raw data, such as a LiDAR scan; None if there is none."""
        depth = self.read_raw_depth(index)
        return depth.dense() if isinstance(depth, SparseDepth) else depth

    def read_raw_depth(self, index: int) -> SparseDepth | np.ndarray | None:
        """Depth from raw data: a map, or for a LiDAR only its known pixels, which the export needs."""
        raise NotImplementedError


def _kept(setting: str, value: int | Sequence[int], most: float = math.inf) -> int | tuple[int, int]:
    """A number to keep, or a range of numbers.

    Raises:
        InputError: below 0 or above `most`, or not a range of numbers from 1 on.
    """
    if isinstance(value, int):
        if not 0 <= value <= most:
            limit = f"from 0 (all) to {most}" if most < math.inf else "0 (all) or more"
            raise InputError(f"--dataset.{setting} is {limit}, got {value}")
        return value
    values = tuple(value)
    if len(values) != 2 or not 1 <= values[0] <= values[1] <= most:
        raise InputError(
            f"--dataset.{setting} is a number, or the least and the most of a range, got {list(values)}; try "
            f"--dataset.{setting} '[1, 64]'"
        )
    return values


def _drawn(kept: int | tuple[int, int], rng: np.random.Generator) -> int:
    """The number of this sample; of a range, every doubling is equally likely."""
    if isinstance(kept, int):
        return kept
    least, most = kept
    return min(most, int(least * ((most + 1) / least) ** rng.random()))


def _in_words(kept: int | tuple[int, int]) -> str:
    return str(kept) if isinstance(kept, int) else f"{kept[0]} to {kept[1]}"


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
        InputError: the size is not a multiple of a point's bytes.
    """
    data = np.fromfile(path, np.uint8)
    if data.size == 0 or data.size % (4 * columns):
        raise InputError(
            f"{path} is not a whole LiDAR scan: its {data.size} bytes are not a multiple of {4 * columns}; "
            "is it truncated?"
        )
    return data.view("<f4").reshape(-1, columns)


def read_values(path: str | Path, what: str) -> np.ndarray:
    """The (h, w) values of a 16-bit image; `what` is "depth" or "disparity".

    Raises:
        InputError: missing, not readable, or not 16 bit.
    """
    try:
        with opened(path) as image:
            values = np.array(image)
    except FileNotFoundError:
        raise InputError(f"there is no file {path} of {what}") from None
    except InputError as error:
        raise InputError(f"{path} is {error}") from None
    except (OSError, Unreadable) as error:
        raise InputError(f"{path} cannot be read as a {what} image ({error}); {damage(path)}") from None
    if values.ndim != 2 or values.dtype.itemsize < 2:
        raise InputError(
            f"{path} is not a {what} image: expected one 16-bit channel, got {values.dtype} {values.shape}"
        )
    return values
