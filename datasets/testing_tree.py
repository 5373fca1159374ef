"""Test images of six benchmarks in the layout of SC-Depth: colour, depth, and masks of dynamic objects.

    <root>/testing/color/*.png, *.jpg          images
    <root>/testing/depth/*                     ground truth: .npy or sparse .npz in metres, or 16-bit .png
    <root>/testing/seg_mask/*.png              optional: coloured masks of the ground truth's size
    <root>/testing/seg_mask/dynamic_colors.txt "R G B" of a dynamic class, one on a line

    benchmark   value of one metre in a .png   crop    cap
    kitti       256                            Garg    80 m
    ddad        256                            none    200 m
    nyu         5000                           Eigen   10 m
    bonn, tum   1000                           none    10 m
    scannet     1000                           none    10 m

Folder names may be in upper case. Files belong to images by name or, if no name fits, by sorted order. With
masks, errors of dynamic and of static pixels are measured as well; the scale is that of the whole image.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets import DATASETS
from datasets._depth_files import ENDINGS, match_files, read_depth
from datasets.ground_truth import Exportable
from datasets.image_files import list_images, read_image
from datasets.scenes import subfolder
from datasets.sequence import SequenceDataset, check_folder
from intrinsics import guess_intrinsics
from metrics import Protocol
from structures import Frame
from utils import InputError, nearest_name, read_lines

COLOURS = "dynamic_colors.txt"


@dataclass(frozen=True)
class Benchmark:
    """Facts of one benchmark.

    Attributes:
        title: its name.
        max_depth: cap of ground truth and prediction, metres.
        depth_scale: value of one metre in a .png of its ground truth.
        crop: crop of its protocol.
    """

    title: str
    max_depth: float = 10.0
    depth_scale: float = 1000.0
    crop: str = "none"

    @property
    def protocol(self) -> Protocol:
        """The protocol of SC-Depth's evaluation of saved predictions."""
        return Protocol(
            f"{self.title} (SC-Depth's test images)",
            "files in testing/depth",
            min_depth=0.1,
            max_depth=self.max_depth,
            crop=self.crop,
            resize="depth",
        )


BENCHMARKS = {
    "kitti": Benchmark("KITTI", 80.0, 256.0, "garg"),
    "ddad": Benchmark("DDAD", 200.0, 256.0),
    "nyu": Benchmark("NYUv2", 10.0, 5000.0, "nyu"),
    "bonn": Benchmark("Bonn RGB-D Dynamic"),
    "tum": Benchmark("TUM RGB-D"),
    "scannet": Benchmark("ScanNet"),
}


@DATASETS.register
class TestingTree(Exportable, SequenceDataset):
    """Test images with ground truth; there is no video to train from.

    Args:
        data_path: the folder that holds `testing`.
        benchmark: `kitti`, `ddad`, `nyu`, `bonn`, `tum` or `scannet`: protocol and unit of the ground truth.
        part: test.
        frame_ids: only 0, since the images are single.
        depth_scale: value of one metre in a .png ground truth; the benchmark's own if not given.

    Raises:
        InputError: an unknown benchmark, a missing folder, ground truth or masks that match no image, mask
            colours that no mask has.
    """

    __test__ = False  # not a test, although its name begins like one's
    ground_truth = "depth"
    describes_folder: ClassVar[tuple[str, ...]] = (
        *SequenceDataset.describes_folder,
        "benchmark",
        "depth_scale",
    )

    def __init__(
        self,
        data_path: str | Path,
        benchmark: str = "bonn",
        part: str = "test",
        frame_ids: Sequence[Frame] = (0,),
        depth_scale: float | None = None,
        **settings: Any,
    ) -> None:
        if part != "test" or tuple(frame_ids) != (0,):
            raise InputError(
                "testing_tree holds single images to evaluate on; part is 'test' and frame_ids are 0, got "
                f"'{part}' and {' '.join(map(str, frame_ids))}; --dataset folder trains on training/"
            )
        if benchmark not in BENCHMARKS:
            raise InputError(f"--dataset.benchmark has no '{benchmark}'{nearest_name(benchmark, BENCHMARKS)}")
        facts = BENCHMARKS[benchmark]
        self.protocol = facts.protocol
        self.depth_scale = facts.depth_scale if depth_scale is None else depth_scale
        if self.depth_scale <= 0:
            raise InputError(f"--dataset.depth_scale must be positive, got {depth_scale}")
        check_folder(Path(data_path))
        testing = _folder(Path(data_path), "testing")
        self.color = _folder(testing, "color")
        self.samples = list_images(self.color)
        if not self.samples:
            raise InputError(f"there is no image in {self.color}")
        self.depths = match_files(_folder(testing, "depth"), self.samples, ENDINGS)
        self.masks, self.colours = self._find_masks(subfolder(testing, "seg_mask"))
        super().__init__(data_path, frame_ids=frame_ids, **settings)
        self.find_exported(None, part, [benchmark, f"{self.depth_scale:g}"], at_first=False)

    def paths(self, sample: str, frame: Frame) -> list[Path]:
        return [self.color / sample]

    def intrinsics(self, sample: str, camera: int, height: int, width: int) -> np.ndarray:
        """Intrinsics of an ordinary camera; the layout has none for test images."""
        return guess_intrinsics(height, width)

    def read_raw_depth(self, index: int) -> np.ndarray | None:
        """(1, h, w) metres from the file of an image; None without one."""
        path = self.depths.get(self.samples[index])
        return None if path is None else read_depth(path, self.depth_scale)[None]

    def dynamic_mask(self, index: int) -> np.ndarray | None:
        """(1, h, w) bool: the colours of `dynamic_colors.txt` in the mask of an image; None without one."""
        path = self.masks.get(self.samples[index])
        return None if path is None else _dynamic(path, self.colours)[None]

    def name(self, index: int) -> str:
        return self.samples[index]

    def _find_masks(self, folder: Path | None) -> tuple[dict[str, Path], np.ndarray]:
        """Image → its mask, and (K, 3) uint8 dynamic colours; nothing without the folder."""
        if folder is None:
            return {}, np.zeros((0, 3), np.uint8)
        masks, path = match_files(folder, self.samples, (".png",)), folder / COLOURS
        colours = read_colours(path)
        if masks and not any(_dynamic(mask, colours).any() for mask in masks.values()):
            listed = ", ".join(" ".join(map(str, colour)) for colour in colours[:4])
            raise InputError(f"no mask in {folder} has a colour of {path} ({listed}); are they R G B?")
        return masks, colours


def _folder(parent: Path, name: str) -> Path:
    found = subfolder(parent, name)
    if found is None:
        raise InputError(
            f"there is no folder {parent / name}; --data_path is the folder that holds testing/color"
        )
    return found


def read_colours(path: Path) -> np.ndarray:
    """(K, 3) uint8 colours from a file with three numbers on each line.

    Raises:
        InputError: no file, no line, or a line that is not a colour.
    """
    colours = []
    for number, line in enumerate(read_lines(path), 1):
        words = line.replace(",", " ").split()
        if len(words) != 3 or not all(word.isdecimal() and int(word) < 256 for word in words):
            raise InputError(f"{path}, line {number}: expected 'R G B', three numbers to 255, got '{line}'")
        colours.append([int(word) for word in words])
    if not colours:
        raise InputError(f"{path} lists no colour; write 'R G B' of each dynamic class")
    return np.array(colours, np.uint8)


def _dynamic(path: Path, colours: np.ndarray) -> np.ndarray:
    """(h, w) bool, True where a mask has one of the colours (K, 3)."""
    image = read_image(path).permute(1, 2, 0).numpy()
    return functools.reduce(np.logical_or, ((image == colour).all(2) for colour in colours))
