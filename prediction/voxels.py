"""The mean of the points in each voxel, of points that come in parts."""

from __future__ import annotations

import numpy as np

from utils import InputError

VOXEL = 1 / 200  # edge of a voxel, times the median depth of the first frame
_BITS = 21  # of a voxel's number along one axis; three fit into 63 bits
_PENDING = 2_000_000  # voxels collected before equal ones are joined


class VoxelMeans:
    """Mean position and colour of the points in each voxel, of points that come in parts.

    Args:
        edge: length of a voxel's edge, in the unit of the points.
    """

    def __init__(self, edge: float) -> None:
        self.edge = edge
        self._parts: list[tuple[np.ndarray, np.ndarray]] = []  # keys (P,); sums (P, 7) of x y z r g b and 1
        self._pending = 0

    def add(self, points: np.ndarray, colours: np.ndarray) -> None:
        """Add (P, 3) points and their (P, 3) colours.

        Raises:
            InputError: points so far away that their voxels cannot be numbered.
        """
        cells = np.floor(points / self.edge).astype(np.int64) + 2 ** (_BITS - 1)
        if len(cells) and not (cells.min() >= 0 and cells.max() < 2**_BITS):
            raise InputError(
                f"the sequence spans more than {2**_BITS} voxels of {self.edge:.3g}; give a larger "
                "--ply_voxel"
            )
        keys = (cells[:, 0] << 2 * _BITS) | (cells[:, 1] << _BITS) | cells[:, 2]
        sums = np.concatenate([points, colours, np.ones((len(points), 1))], 1).astype(np.float64)
        self._parts.append(_joined(keys, sums))
        self._pending += len(self._parts[-1][0])
        if self._pending > _PENDING:
            self._join()

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """(V, 3) float32 points and (V, 3) uint8 colours, one for each voxel."""
        self._join()
        sums = self._parts[0][1]
        means = sums[:, :6] / sums[:, 6:]
        return means[:, :3].astype(np.float32), means[:, 3:].round().astype(np.uint8)

    def _join(self) -> None:
        keys, sums = (np.concatenate(parts) for parts in zip(*self._parts))
        self._parts, self._pending = [_joined(keys, sums)], 0


def _joined(keys: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each key once, with the total of its sums."""
    order = np.argsort(keys, kind="stable")
    unique, first = np.unique(keys[order], return_index=True)
    return unique, np.add.reduceat(sums[order], first) if len(first) else sums
