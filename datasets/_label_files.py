"""Label files next to a video: labels of target and sources, for masks of moving objects.

    label_files: {path: KITTI_LABELS, table: cityscapes}         → maps `labels`, `source_labels`
    label_files: {path: KITTI_INSTANCES, instances: true}        → maps `instances`, `source_instances`

The folder mirrors the dataset's: the labels of <data_path>/a/b/7.jpg are <path>/a/b/7.png, of the image's own
size. Any segmentation network may have written them; datasets/_labels.py reads the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from datasets._labels import load_label_table, read_label_image
from datasets._mirrored_files import check_mirrored, check_whole_images, mirrored_file
from datasets.image_files import image_size
from structures import Batch, Frame
from utils import InputError, check_settings


class WithLabelFiles(Dataset):
    """A dataset of video whose samples carry labels of all their frames.

    Args:
        dataset: the video; it reads whole image files.
        path: folder of the label files.
        table: label table of the files: a labels.yaml or a name of configs/labels/.
        instances: the files hold instance numbers, 0 where there is no object; no table is needed.

    Raises:
        InputError: a dataset that crops its images, a frame without a file, an unknown table.
    """

    def __init__(
        self, dataset: Any, path: str | Path, table: str | Path = "cityscapes", instances: bool = False
    ) -> None:
        check_whole_images(dataset, "label_files")
        self.dataset, self.path = dataset, Path(path).expanduser()
        self.table = None if instances else load_label_table(table)
        self.name = "instances" if instances else "labels"
        check_mirrored(self.path, dataset, dataset.frame_ids, "label file")

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Batch:
        batch, sample = self.dataset[index], self.dataset.samples[index]
        batch.maps[self.name] = self._read(sample, 0)
        sources = [self._read(sample, frame) for frame in batch.sources]
        if sources:
            batch.maps[f"source_{self.name}"] = torch.cat(sources, 1)
        return batch

    def _read(self, sample: Any, frame: Frame) -> Tensor:
        """(N, 1, H, W) of one frame at network size, by the nearest pixel."""
        maps = []
        for image in self.dataset.paths(sample, frame):
            file = mirrored_file(self.path, image, self.dataset)
            values = self.table.read(file) if self.table else read_label_image(file)
            if values.shape != (size := image_size(image)):
                raise InputError(
                    f"{file} has the shape {values.shape} and its image {image} is {size[1]}x{size[0]}; both "
                    "must have one size and one channel"
                )
            maps.append(torch.from_numpy(values.astype(np.uint8 if self.table else np.int32)))
        stacked = torch.stack(maps)[:, None]
        size = self.dataset.height, self.dataset.width
        return F.interpolate(stacked.double(), size, mode="nearest-exact").to(stacked.dtype)


def with_label_files(dataset: Any, options: Mapping[str, Any]) -> Any:
    """`dataset` with the labels that the options' section `label_files` names; unchanged without one.

    Raises:
        InputError: a section without a path or with an unknown setting; errors of `WithLabelFiles`.
    """
    section = options.get("label_files") or {}
    if not section:
        return dataset
    check_settings("label_files", WithLabelFiles, section)
    if "path" not in section:
        raise InputError("label_files needs the folder of the label files: --label_files.path")
    return WithLabelFiles(dataset, **section)
