"""Cityscapes: street scenes of fifty cities, 30 frames of video a recording (Cordts et al. 2016).

It is read from the official download, from sequences that tools/prepare_cityscapes.py made smaller, and from
the triples of both published preparations; see datasets/_cityscapes.py. Each recording has its own camera.

Ground truth is stereo: with the disparity d of a rectified pair, in pixels of the full image,

    depth = baseline * fx / d,   d = (p - 1) / 256 for the value p of a disparity image, 0 for unknown,

or ManyDepth's files, which were made from it. As in every published table, the lower quarter with the car's
bonnet is cut off images and ground truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import DATASETS
from datasets._cityscapes import (
    PARTS,
    UPPER,
    OfficialTree,
    TripleTree,
    check_rows,
    frame_name,
    open_tree,
    upper_rows,
)
from datasets._cityscapes_labels import checked_train_ids, to_train_ids
from datasets._labels import LabelTable, cityscapes_table, read_label_image
from datasets.ground_truth import DEPTH, FOLDER, Exportable, check_ground_truth, read_values
from datasets.image_files import image_size
from datasets.sequence import SequenceDataset, check_folder, check_offsets, check_stride
from datasets.splits import SplitLine, load_split
from files import DAMAGED_ARRAY
from metrics import Protocol
from provenance import content
from structures import Frame
from utils import InputError, nearest_name

# Values of `ground_truth`, and their words on the protocol card.
GROUND_TRUTHS = {
    "published": "ManyDepth's files, from Cityscapes' disparity",
    "disparity": "Cityscapes' disparity (semi-global matching), baseline x focal / disparity",
}
DISPARITIES = ("disparity_sequence", "disparity")


@DATASETS.register
class Cityscapes(Exportable, SequenceDataset):
    """Cityscapes as video, or its annotated frames with their labels.

    Args:
        data_path: the official tree, or a folder of prepared sequences of either kind.
        split: `manydepth` (video), `fine` (every frame that has labels, read off `gtFine`), or a folder with
            lists of your own in the published form (`train_files.txt`, ... of lines
            `aachen aachen_000000_000002`) or SGDepth's (`train.json`, `validation.json`).
        part: train, val or test.
        frame_ids: 0 and the sources: offsets in steps of `stride`.
        stride: raw frames from a target to its next source; the published 2 is 0.12 s.
        top_rows: share of the rows that is kept of the official images, from the top; 1 keeps the bonnet.
        ground_truth: `published`, `disparity`, None for no depth, or `auto`: published if its files
            exist, otherwise disparity.
        gt_path: folder of ground truth, the published `000_depth.npy`, ... or exported files;
            `<data_path>/gt_depths` if not given.
        labels: read the map `labels`, train ids, 255 for ignored pixels. The official tree only.
    """

    samples: list[SplitLine]
    default_width: ClassVar[int] = 512
    for_losses: ClassVar[tuple[str, ...]] = (*SequenceDataset.for_losses, "labels")
    pixel_settings: ClassVar[tuple[str, ...]] = ("top_rows",)
    provides: ClassVar[Mapping[str, str]] = {
        **DEPTH,
        "maps.labels": "--split fine --dataset.labels true reads them",
    }

    def __init__(
        self,
        data_path: str | Path,
        split: str = "manydepth",
        part: str = "train",
        frame_ids: Sequence[Frame] = (0, -1, 1),
        stride: int = 2,
        top_rows: float = UPPER,
        ground_truth: str | None = "auto",
        gt_path: str | Path | None = None,
        labels: bool = False,
        **settings: Any,
    ) -> None:
        check_rows(top_rows)
        check_stride(stride)
        check_offsets(frame_ids, "Cityscapes, read as video,")
        root = Path(data_path)
        check_folder(root)
        self.stride, self.top_rows, self.labels = stride, top_rows, labels
        self.tree = open_tree(root, top_rows)
        fine = str(split) == "fine"
        self.samples = self._annotated(part) if fine else load_split("cityscapes", str(split), part)
        self.gt_folder = Path(gt_path) if gt_path else root / FOLDER
        published = load_split("cityscapes", "manydepth", "test")
        self._numbers = {sample.key: number for number, sample in enumerate(published)}
        self.ground_truth = self._choose_ground_truth(ground_truth)
        self._check_frames(frame_ids)
        super().__init__(root, gt_path=gt_path, frame_ids=frame_ids, **settings)
        cut = [] if top_rows == UPPER else [f"{top_rows:g}"]  # exported maps are cut
        self.find_exported(split, part, cut, at_first=self.ground_truth == "disparity")
        self.tree.check(self.samples)
        self.network_intrinsics(self.samples[0], 0, *self.network_images(self.samples[0], 0).sizes[0])
        if labels:
            self._check_labels()

    @property
    def protocol(self) -> Protocol:
        """The published rules: rows from 256, columns 192 to 1855 of the kept 2048 x 768 pixels."""
        words = GROUND_TRUTHS.get(self.ground_truth, "none")
        whole = self.top_rows != UPPER
        return Protocol(
            f"Cityscapes, upper {100 * self.top_rows:g} % of the rows" if whole else "Cityscapes",
            words,
            max_depth=80.0,
            cap_ground_truth=True,
            crop="none" if whole else "cityscapes",
            align_corners=True,
            median="lower",
        )

    def name(self, index: int) -> str:
        sample = self.samples[index]
        return frame_name(sample.folder, sample.frame)

    def paths(self, sample: SplitLine, frame: Frame) -> list[Path]:
        return [self.tree.image_path(sample.folder, self._number(sample, frame), frame)]

    def image_keys(self, sample: SplitLine, frame: Frame) -> list[str]:
        keys = super().image_keys(sample, frame)
        return [f"{key} {frame}" for key in keys] if isinstance(self.tree, TripleTree) else keys

    def read_images(self, sample: SplitLine, frame: Frame) -> list[Tensor]:
        return [self.tree.image(sample.folder, self._number(sample, frame), frame)]

    def intrinsics(self, sample: SplitLine, camera: int, height: int, width: int) -> np.ndarray:
        return self.tree.intrinsics(sample.folder, sample.frame, height, width)

    def maps(self, sample: SplitLine) -> dict[str, Tensor]:
        """`labels` (1, 1, height, width) uint8 train ids, by the nearest pixel."""
        if not self.labels:
            return {}
        ids = torch.from_numpy(self.train_ids(sample))[None, None]
        return {"labels": F.interpolate(ids, (self.height, self.width), mode="nearest-exact")}

    @property
    def label_table(self) -> LabelTable:
        """Names, colours and movability of the 19 classes."""
        return cityscapes_table()

    def train_ids(self, sample: SplitLine) -> np.ndarray:
        """(h, w) uint8, the labels of a frame at their own size, cut as its image is."""
        path = self._label_path(sample)
        labels = read_label_image(path)
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise InputError(
                f"{path} holds no ids: expected one 8-bit channel, got {labels.dtype} {labels.shape}; "
                "are these the colours of gtFine_color.png?"
            )
        image = self.paths(sample, 0)[0]
        if labels.shape != (size := image_size(image)):
            raise InputError(
                f"{path} is {labels.shape[1]}x{labels.shape[0]} and its image {image} is "
                f"{size[1]}x{size[0]}; both must have one size"
            )
        labels = labels[: upper_rows(len(labels), self.top_rows)]
        convert = to_train_ids if path.name.endswith("_labelIds.png") else checked_train_ids
        return convert(labels, path)

    def read_raw_depth(self, index: int) -> np.ndarray | None:
        """Depth from the published files or from disparity, for the kept rows."""
        sample = self.samples[index]
        if self.ground_truth == "published":
            depth = self._published_depth(sample)
        elif self.ground_truth == "disparity":
            depth = self._depth_from_disparity(sample)
        else:
            return None
        return None if depth is None else depth[None, : upper_rows(len(depth), self.top_rows)]

    def _published_file(self, sample: SplitLine) -> Path | None:
        """ManyDepth's file of a frame, if it is there: numbered by the published test list."""
        if sample.key not in self._numbers:
            return None
        path = self.gt_folder / f"{self._numbers[sample.key]:03d}_depth.npy"
        return path if path.is_file() else None

    def _published_depth(self, sample: SplitLine) -> np.ndarray | None:
        path = self._published_file(sample)
        if path is None:
            return None
        try:
            depth = np.load(path, allow_pickle=False)
        except DAMAGED_ARRAY as error:
            raise InputError(f"{path} cannot be read as a depth map ({error}); fetch it again") from None
        if depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating):
            raise InputError(f"{path} must be one (h, w) depth map, got {depth.dtype} {depth.shape}")
        return depth.astype(np.float32)

    def raw_content(self, index: int) -> str:
        sample = self.samples[index]
        if self.ground_truth == "published":
            path = self._published_file(sample)
            return content([path]) if path else ""
        path = self._disparity_file(sample) if self.ground_truth == "disparity" else None
        return content([path], self._baseline_times_focal(sample)) if path else ""

    def _disparity_file(self, sample: SplitLine) -> Path | None:
        if not isinstance(self.tree, OfficialTree):
            return None
        files = (self.tree.file(kind, sample.folder, sample.frame, "disparity.png") for kind in DISPARITIES)
        return next((path for path in map(Path, files) if path.is_file()), None)

    def _baseline_times_focal(self, sample: SplitLine) -> float:
        camera = self.tree.camera(sample.folder, sample.frame)
        return camera.baseline * camera.intrinsics[0, 0]

    def _depth_from_disparity(self, sample: SplitLine) -> np.ndarray | None:
        path = self._disparity_file(sample)
        if path is None:
            return None
        return depth_from_disparity(read_values(path, "disparity"), self._baseline_times_focal(sample))

    def _number(self, sample: SplitLine, frame: Frame) -> int:
        """Number of the raw frame; every frame of a prepared triple has that of the target."""
        return sample.frame if isinstance(self.tree, TripleTree) else sample.frame + int(frame) * self.stride

    def _annotated(self, part: str) -> list[SplitLine]:
        root = self.tree.root
        if part not in PARTS:
            raise InputError(f"split 'fine' has no part '{part}'{nearest_name(part, PARTS)}")
        if not isinstance(self.tree, OfficialTree):
            raise InputError(
                f"split 'fine' is read off the official tree's gtFine, which {self.tree.root} is not"
            )
        samples = self.tree.annotated(part)
        if not samples:
            raise InputError(
                f"there are no labels {root}/gtFine/{part}/*/*_gtFine_labelIds.png; unpack "
                f"gtFine_trainvaltest.zip into {root}"
            )
        return samples

    def _choose_ground_truth(self, ground_truth: str | None) -> str | None:
        if ground_truth == "auto":
            return "published" if any(map(self._published_file, self.samples)) else "disparity"
        ground_truth = check_ground_truth(ground_truth, GROUND_TRUTHS)
        if ground_truth == "published" and not any(sample.key in self._numbers for sample in self.samples):
            raise InputError(
                "the published ground truth is that of the test list of split manydepth, which lists none of "
                "these frames; --ground_truth disparity works for any frame"
            )
        return ground_truth

    def _check_frames(self, frame_ids: Sequence[Frame]) -> None:
        if self.tree.frames is None:
            return
        for frame in frame_ids:
            if frame not in self.tree.frames:
                raise InputError(
                    f"{self.tree.root} holds triples: frames -1, 0 and 1, got {frame}; "
                    "tools/prepare_cityscapes.py prepares whole sequences"
                )
        if self.stride != 2 and len(frame_ids) > 1:
            raise InputError(
                f"{self.tree.root} holds triples of frames two apart, so stride must be 2, got {self.stride}"
            )

    def _label_path(self, sample: SplitLine) -> Path:
        if not isinstance(self.tree, OfficialTree):
            raise InputError(
                f"labels are read from the official tree's gtFine, which {self.tree.root} is not"
            )
        endings = ("gtFine_labelTrainIds.png", "gtFine_labelIds.png")
        paths = [Path(self.tree.file("gtFine", sample.folder, sample.frame, ending)) for ending in endings]
        return paths[0] if paths[0].is_file() else paths[1]

    def _check_labels(self) -> None:
        for sample in self.samples:
            path = self._label_path(sample)
            if not path.is_file():
                raise InputError(
                    f"{sample.source}: there are no labels {path}; --split fine lists frames with labels"
                )


def depth_from_disparity(values: np.ndarray, baseline_times_focal: float) -> np.ndarray:
    """Cityscapes' 16-bit disparity as depth.

    Args:
        values: (h, w) uint16: 0 unknown, otherwise 256 * disparity + 1, in pixels of the full image.
        baseline_times_focal: metres x pixels of the full image.

    Returns:
        (h, w) float32 metres, 0 where unknown or infinitely far.
    """
    disparity = (values.astype(np.float64) - 1) / 256
    known = disparity > 0
    return np.where(known, baseline_times_focal / np.where(known, disparity, 1), 0).astype(np.float32)
