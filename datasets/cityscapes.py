"""Cityscapes: street scenes of fifty cities, 30 frames of video a recording (Cordts et al. 2016).

It is read from the official download, from sequences made small by tools/prepare_cityscapes.py, and from the
triples of both published preparations; see datasets/_cityscapes.py. The camera of each recording is its own.

Ground truth is stereo: with the disparity d of a rectified pair, in pixels of the full image,

    depth = baseline * fx / d,   d = (p - 1) / 256 for the value p of a disparity image, 0 for unknown,

or the files of ManyDepth, which were made from it. As in every published table the lower quarter, where the
car's bonnet is, is cut off images and ground truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import DATASETS
from datasets._cityscapes import (
    IGNORED,
    LABEL_IDS,
    PARTS,
    UPPER,
    OfficialTree,
    TripleTree,
    check_rows,
    frame_name,
    open_tree,
    to_train_ids,
    upper_rows,
)
from datasets._ground_truth import FOLDER, Exportable, check_ground_truth, read_values
from datasets._labels import LabelTable, cityscapes_table, read_label_image
from datasets._sequence import SequenceDataset, check_folder, check_offsets
from datasets._splits import SplitLine, load_split
from metrics import Protocol
from structures import Frame
from utils import InputError, nearest_name

# What `ground_truth` may be, and how a protocol card words it.
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
            `aachen aachen_000000_000002`).
        part: train, val or test.
        frame_ids: 0 and the sources: offsets in steps of `stride`.
        height: network input height, pixels, a multiple of 32.
        width: network input width, pixels, a multiple of 32.
        resize: `bicubic`, `lanczos` or `bilinear`.
        skip_missing: leave out samples that lack an image.
        stride: raw frames from a target to its next source; the published 2 is 0.12 s.
        top_rows: share of the rows that is kept of the official images, from the top; 1 keeps the bonnet.
        ground_truth: `published`, `disparity`, None for no depth, or `auto`: published where its files are
            there, otherwise disparity.
        gt_path: folder of ground truth, the published `000_depth.npy`, ... or exported files;
            `<data_path>/gt_depths` where not given.
        labels: read the map `labels`, train ids, 255 where none counts. The official tree only.
    """

    lines: list[SplitLine]

    def __init__(
        self,
        data_path: str | Path,
        split: str = "manydepth",
        part: str = "train",
        frame_ids: Sequence[Frame] = (0, -1, 1),
        height: int = 192,
        width: int = 512,
        resize: str = "bicubic",
        skip_missing: bool = False,
        stride: int = 2,
        top_rows: float = UPPER,
        ground_truth: str | None = "auto",
        gt_path: str | Path | None = None,
        labels: bool = False,
    ) -> None:
        check_rows(top_rows)
        if stride < 1:
            raise InputError(f"stride is a whole number of frames from 1 on, got {stride}")
        check_offsets(frame_ids, "Cityscapes, read as video,")
        root = Path(data_path)
        check_folder(root)
        self.stride, self.top_rows, self.labels = stride, top_rows, labels
        self.tree = open_tree(root, top_rows)
        fine = str(split) == "fine"
        self.lines = self._annotated(part) if fine else load_split("cityscapes", str(split), part)
        self.gt_folder = Path(gt_path) if gt_path else root / FOLDER
        published = load_split("cityscapes", "manydepth", "test")
        self._numbers = {line.sample: number for number, line in enumerate(published)}
        self.ground_truth = self._choose_ground_truth(ground_truth)
        self._check_frames(frame_ids)
        super().__init__(root, frame_ids, height, width, resize, skip_missing)
        cut = [] if top_rows == UPPER else [f"{top_rows:g}"]  # exported maps are cut
        self.find_exported(gt_path, split, part, cut, at_first=self.ground_truth == "disparity")
        self.tree.check(self.lines)
        self.network_intrinsics(self.lines[0], 0, *self.read_images(self.lines[0], 0)[0].shape[1:])
        if labels:
            self._check_labels()

    @property
    def protocol(self) -> Protocol:
        """The published rules: of the 2048 x 768 that are kept, rows from 256 on, columns 192 to 1855."""
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
        line = self.lines[index]
        return frame_name(line.folder, line.frame)

    def paths(self, line: SplitLine, frame: Frame) -> list[Path]:
        return [self.tree.image_path(line.folder, self._number(line, frame), frame)]

    def read_images(self, line: SplitLine, frame: Frame) -> list[Tensor]:
        return [self.tree.image(line.folder, self._number(line, frame), frame)]

    def intrinsics(self, line: SplitLine, camera: int, height: int, width: int) -> np.ndarray:
        return self.tree.intrinsics(line.folder, line.frame, height, width)

    def maps(self, line: SplitLine) -> dict[str, Tensor]:
        """`labels` (1, 1, height, width) uint8 train ids, by the nearest pixel."""
        if not self.labels:
            return {}
        ids = torch.from_numpy(self.train_ids(line))[None, None]
        return {"labels": F.interpolate(ids, (self.height, self.width), mode="nearest-exact")}

    @property
    def label_table(self) -> LabelTable:
        """Names, colours and movability of the 19 classes."""
        return cityscapes_table()

    def train_ids(self, line: SplitLine) -> np.ndarray:
        """(h, w) uint8, the labels of a frame at their own size, cut as its image is."""
        path = self._label_path(line)
        labels = read_label_image(path)
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise InputError(
                f"{path} holds no ids: expected one 8-bit channel, got {labels.dtype} {labels.shape}"
            )
        labels = labels[: upper_rows(len(labels), self.top_rows)]
        if path.name.endswith("_labelIds.png"):
            return to_train_ids(labels)
        return np.where(labels < len(LABEL_IDS), labels, IGNORED).astype(np.uint8)

    def known_depth(self, index: int) -> np.ndarray | None:
        """From the published files or the disparity, of the rows that are kept."""
        line = self.lines[index]
        if self.ground_truth == "published":
            depth = self._published_depth(line)
        elif self.ground_truth == "disparity":
            depth = self._depth_from_disparity(line)
        else:
            return None
        return None if depth is None else depth[None, : upper_rows(len(depth), self.top_rows)]

    def _published_file(self, line: SplitLine) -> Path | None:
        """ManyDepth's file of a frame, if it is there: numbered by the published test list."""
        if line.sample not in self._numbers:
            return None
        path = self.gt_folder / f"{self._numbers[line.sample]:03d}_depth.npy"
        return path if path.is_file() else None

    def _published_depth(self, line: SplitLine) -> np.ndarray | None:
        path = self._published_file(line)
        if path is None:
            return None
        try:
            depth = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} cannot be read as a depth map ({error}); fetch it again") from None
        if depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating):
            raise InputError(f"{path} must be one (h, w) depth map, got {depth.dtype} {depth.shape}")
        return depth.astype(np.float32)

    def _depth_from_disparity(self, line: SplitLine) -> np.ndarray | None:
        if not isinstance(self.tree, OfficialTree):
            return None
        files = (self.tree.file(kind, line.folder, line.frame, "disparity.png") for kind in DISPARITIES)
        path = next((path for path in map(Path, files) if path.is_file()), None)
        if path is None:
            return None
        values = read_values(path, "disparity")
        camera = self.tree.camera(line.folder, line.frame)
        return depth_from_disparity(values, camera.baseline * camera.intrinsics[0, 0])

    def _number(self, line: SplitLine, frame: Frame) -> int:
        """The raw frame's number; a triple is named by its target."""
        return line.frame if isinstance(self.tree, TripleTree) else line.frame + int(frame) * self.stride

    def _annotated(self, part: str) -> list[SplitLine]:
        root = self.tree.root
        if part not in PARTS:
            raise InputError(f"split 'fine' has no part '{part}'{nearest_name(part, PARTS)}")
        if not isinstance(self.tree, OfficialTree):
            raise InputError(
                f"split 'fine' is read off the official tree's gtFine, which {self.tree.root} is not"
            )
        lines = self.tree.annotated(part)
        if not lines:
            raise InputError(
                f"there are no labels {root}/gtFine/{part}/*/*_gtFine_labelIds.png; unpack "
                f"gtFine_trainvaltest.zip into {root}"
            )
        return lines

    def _choose_ground_truth(self, ground_truth: str | None) -> str | None:
        if ground_truth == "auto":
            return "published" if any(map(self._published_file, self.lines)) else "disparity"
        check_ground_truth(ground_truth, GROUND_TRUTHS)
        if ground_truth == "published" and not any(line.sample in self._numbers for line in self.lines):
            raise InputError(
                "the published ground truth is that of the test list of split manydepth, which lists none of "
                "these frames; ground_truth=disparity goes with any frame"
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

    def _label_path(self, line: SplitLine) -> Path:
        if not isinstance(self.tree, OfficialTree):
            raise InputError(
                f"labels are read from the official tree's gtFine, which {self.tree.root} is not"
            )
        endings = ("gtFine_labelTrainIds.png", "gtFine_labelIds.png")
        paths = [Path(self.tree.file("gtFine", line.folder, line.frame, ending)) for ending in endings]
        return paths[0] if paths[0].is_file() else paths[1]

    def _check_labels(self) -> None:
        for line in self.lines:
            path = self._label_path(line)
            if not path.is_file():
                raise InputError(
                    f"{line.source}: there are no labels {path}; split=fine lists the frames that have some"
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
