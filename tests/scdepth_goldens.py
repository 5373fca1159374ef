"""Results of SC-Depth's published code (`tests/golden/scdepth_*.npz`), and the inputs that led to it.

`index_B.json` gives each array's magnitude and its spread (float32 to float64), as `index_A.json` does.
"""

from __future__ import annotations

import functools
import json

import numpy as np
import torch
from torch import Tensor

from structures import Batch, Prediction
from tests.goldens import FOLDER, image, state_dict, tensor, uniform

__all__ = ["ScDepthGolden", "predicted_pair", "state_dict", "uniform"]


@functools.cache
def _index() -> dict:
    return json.loads((FOLDER / "index_B.json").read_text())


class ScDepthGolden:
    """One case's recorded arrays; `close` compares a result with one of them."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.arrays = dict(np.load(FOLDER / f"{case}.npz"))
        self.facts = _index()[case]["arrays"]
        self.prefix = _index()[case]["inputs"].get("target", "'B/").split("'")[1].split("/")[0] + "/" + case

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self.arrays[name]))

    def close(
        self,
        name: str,
        result: Tensor | float,
        relative: float = 2e-6,
        outliers: float = 0.0,
        stride: int = 1,
    ) -> None:
        """Assert |result - golden| <= 10 spread + relative * scale, except for a fraction of outliers."""
        result = torch.as_tensor(result).detach().double()
        result = result[..., ::stride, ::stride] if stride > 1 else result
        golden, facts = self[name].double(), self.facts[name]
        assert result.shape == golden.shape, f"{name}: shape {result.shape}, golden {golden.shape}"
        tolerance = 10 * facts["spread"] + relative * facts["scale"]
        error = (result - golden).abs()
        beyond = (~(error <= tolerance)).double().mean()
        assert beyond <= outliers, (
            f"{name}: largest difference {error.max():.3g}, tolerance {tolerance:.3g}, "
            f"{100 * beyond:.2f} % beyond it (allowed {100 * outliers:.2f} %)"
        )

    def image(self, name: str, size: tuple[int, int] = (64, 96)) -> Tensor:
        """(2, 3, H, W) in [0, 1]."""
        return tensor(image(f"{self.prefix}/{name}", 2, *size))

    def map(self, name: str, size: tuple[int, int], low: float, span: float) -> Tensor:
        """(2, 1, H, W) in [low, low + span]."""
        return low + span * tensor(image(f"{self.prefix}/{name}", 2, *size, 1))

    def batch(self, size: tuple[int, int] = (64, 96)) -> Batch:
        """A target and two sources that differ from it by a fifth."""
        images = {0: self.image("target", size)}
        for number, frame in enumerate((-1, 1)):
            images[frame] = 0.8 * images[0] + 0.2 * self.image(f"reference_{number}", size)
        return Batch(images, self["K"], torch.arange(2))

    def depths(self, size: tuple[int, int]) -> dict[int, Tensor]:
        """frame → (2, 1, H, W), each a leaf of the graph."""
        depths = {0: self.map("target_depth", size, 1.5, 7.5)}
        for number, frame in enumerate((-1, 1)):
            depths[frame] = 0.85 * depths[0] + 0.15 * self.map(f"reference_depth_{number}", size, 1.5, 7.5)
        return {frame: depth.requires_grad_() for frame, depth in depths.items()}

    def pseudo_depth(self, size: tuple[int, int]) -> Tensor:
        """(2, 1, H, W): smooth, with a step at the border of a rectangle."""
        pseudo = self.map("pseudo", size, 3, 0.3)
        rows, columns = (slice(10, 20), slice(18, 37)) if size == (40, 56) else (slice(16, 32), slice(32, 64))
        pseudo[..., rows, columns] += 1.5
        return pseudo


def predicted_pair(depths: dict[int, Tensor], poses: dict[tuple[int, int], Tensor]) -> Prediction:
    """A Prediction with depth and poses of target and sources; `poses` by (to, from), (B, 4, 4)."""
    sources = {
        frame: Prediction({}, {0: depths[frame]}, {0: poses[0, frame]}) for frame in depths if frame != 0
    }
    return Prediction({}, {0: depths[0]}, {frame: poses[frame, 0] for frame in sources}, sources=sources)
