"""Make3D: 134 single images of a campus with laser depth, to evaluate on (Saxena, Sun and Ng 2009).

    <root>/Test134/img-math1-p-282t0.jpg                     2272 rows, 1704 columns
    <root>/Gridlaserdata/depth_sph_corr-math1-p-282t0.mat    `Position3DGrid` (55, 305, 4), the last is depth

Images are in portrait format, and networks expect landscape, so a band of half the image's width in height is
evaluated: rows 710 to 1561 of the image and rows 17 to 37 of the laser's grid. Ground truth up to 70 m is
used (criterion C1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from datasets import DATASETS
from datasets.ground_truth import Exportable, check_ground_truth
from datasets.image_files import read_image
from datasets.sequence import SequenceDataset
from datasets.splits import SplitLine, load_split
from metrics import Protocol
from provenance import content
from structures import Frame
from utils import InputError

SIZE = (2272, 1704)
TOP, BOTTOM = 710, 1562  # first row of the band, and the row after its last
GRID = (55, 305, 4)
GRID_TOP, GRID_BOTTOM = 17, 38  # and of the laser's grid
K = np.array(  # the one camera, as Make3D's own tools have it
    [[2407.3312729885838, 0, 833.72104535435108], [0, 2400.2091651084, 1110.7122391785729], [0, 0, 1]]
)


@DATASETS.register
class Make3D(Exportable, SequenceDataset):
    """Make3D's test images; there is no video to train from.

    Args:
        data_path: the folder that holds `Test134` and `Gridlaserdata`.
        split: `official`, or a folder with lists of your own (`test_files.txt`, an id a line).
        part: test.
        frame_ids: only 0, since the images are single.
        ground_truth: `laser`, or None for no depth.
    """

    protocol: ClassVar[Protocol] = Protocol(
        "Make3D C1",
        "laser grid, rows 17 to 37 of 55",
        min_depth=1e-6,
        max_depth=70.0,
        resize="nearest",
        median="lower",
        log10=True,
        reported=("abs_rel", "sq_rel", "rmse", "rmse_log"),
    )

    def __init__(
        self,
        data_path: str | Path,
        split: str = "official",
        part: str = "test",
        frame_ids: Sequence[Frame] = (0,),
        ground_truth: str | None = "laser",
        **settings: Any,
    ) -> None:
        if part == "train" or tuple(frame_ids) != (0,):
            raise InputError(
                "Make3D holds single images to evaluate on, and no video to train from; its part is 'test' "
                f"and frame_ids are 0, got '{part}' and {' '.join(map(str, frame_ids))}"
            )
        self.ground_truth = check_ground_truth(ground_truth, ["laser"])
        self.samples = load_split("make3d", str(split), part)
        super().__init__(data_path, frame_ids=frame_ids, **settings)
        self.find_exported(split, part, at_first=False)

    def paths(self, sample: SplitLine, frame: Frame) -> list[Path]:
        return [self.data_path / "Test134" / f"img-{sample.folder}.jpg"]

    def read_images(self, sample: SplitLine, frame: Frame) -> list[Tensor]:
        """(3, 852, 1704) uint8, the evaluated band."""
        path = self.paths(sample, frame)[0]
        image = read_image(path)
        if image.shape[1:] != SIZE:
            height, width = image.shape[1:]
            raise InputError(f"{path} is {width}x{height}; Make3D's test images are 1704x2272, upright")
        return [image[:, TOP:BOTTOM]]

    def intrinsics(self, sample: SplitLine, camera: int, height: int, width: int) -> np.ndarray:
        """Intrinsics of the only camera, in pixels of the band."""
        return K - np.array([[0, 0, 0], [0, 0, TOP], [0, 0, 0]])

    def read_raw_depth(self, index: int) -> np.ndarray:
        """(1, 21, 305) metres."""
        grid = read_grid(self._grid_path(index))
        return grid[None, GRID_TOP:GRID_BOTTOM, :, 3].astype(np.float32)

    def raw_content(self, index: int) -> str:
        path = self._grid_path(index)
        return content([path]) if path.is_file() else ""

    def _grid_path(self, index: int) -> Path:
        return self.data_path / "Gridlaserdata" / f"depth_sph_corr-{self.samples[index].folder}.mat"

    def name(self, index: int) -> str:
        return self.samples[index].folder


def read_grid(path: Path) -> np.ndarray:
    """The laser's `Position3DGrid` (55, 305, 4): vertical, horizontal, forward and depth, metres.

    Raises:
        InputError: missing, no MATLAB file of version 5, or with other contents.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise InputError(f"there is no laser depth at {path}; unpack Make3D's Test 134 depths there")
    try:
        variables = loadmat(path, appendmat=False)
    except NotImplementedError:
        raise InputError(
            f"{path} is a MATLAB file of version 7.3; the official ones are of version 5 (save it again with "
            "-v7, or download it again)"
        ) from None
    except (OSError, ValueError, TypeError, IndexError, MatReadError) as error:
        raise InputError(f"{path} cannot be read as a MATLAB file ({error}); is it truncated?") from None
    if "Position3DGrid" not in variables:
        names = ", ".join(sorted(name for name in variables if not name.startswith("__"))) or "none"
        raise InputError(f"{path} has no variable 'Position3DGrid', only {names}")
    grid = variables["Position3DGrid"]
    if grid.shape != GRID or not np.issubdtype(grid.dtype, np.floating):
        raise InputError(
            f"{path}: expected Position3DGrid of shape {GRID}, got {grid.dtype} of shape {grid.shape}"
        )
    return grid
