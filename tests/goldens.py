"""Reference numbers: what the published implementations returned, and the inputs that led to them.

`tests/golden/<case>.npz` stores outputs; weights and inputs are rebuilt here from names, since numpy keeps
`RandomState`'s streams frozen. `index_A.json` and `index_B.json` give each array's magnitude and its spread,
the largest difference between the reference in float32 and in float64, from which the tolerance follows.
"""

from __future__ import annotations

import functools
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

FOLDER = Path(__file__).parent / "golden"
H, W = 64, 96  # the goldens' network input
h, w = 24, 40  # and the small maps of the function cases


def stream(name: str) -> np.random.RandomState:
    """The random stream that belongs to a name."""
    return np.random.RandomState(zlib.crc32(name.encode()))


def weight(key: str, shape: list[int], dtype: str) -> np.ndarray:
    """The value of checkpoint entry `key`: a function of only its name and shape, He-scaled."""
    if not dtype.startswith("float"):
        return np.zeros(shape, dtype)
    draw, leaf = stream(key), key.rsplit(".", 1)[-1]
    if leaf == "running_var":
        value = draw.uniform(0.5, 1.5, shape)
    elif len(shape) <= 1:
        value = 0.1 * draw.standard_normal(shape) + (leaf == "weight")
    else:
        value = draw.standard_normal(shape) * np.sqrt(2.0 / int(np.prod(shape[1:])))
    return np.asarray(value, dtype)


def state_dict(name: str) -> dict[str, torch.Tensor]:
    """The checkpoint of `<name>.keys.json` in the published key layout."""
    entries = json.loads((FOLDER / f"{name}.keys.json").read_text())
    return {key: torch.from_numpy(np.array(weight(key, shape, dtype))) for key, shape, dtype in entries}


def image(name: str, batch: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth images in [0, 1], (batch, channels, height, width): eight plane waves per channel."""
    draw = stream(name)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    out = np.zeros((batch, channels, height, width))
    for plane in out.reshape(-1, height, width):
        for _ in range(8):
            fy, fx = draw.uniform(-0.4, 0.4, 2)
            phase, gain = draw.uniform(0, 2 * np.pi), draw.uniform(0.2, 1.0)
            plane += gain * np.sin(fy * y + fx * x + phase)
    return ((out - out.min()) / (out.max() - out.min())).astype(np.float32)


def uniform(name: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Float32 noise in [low, high)."""
    return stream(name).uniform(low, high, shape).astype(np.float32)


def tensor(array: np.ndarray) -> torch.Tensor:
    """A float32 torch copy."""
    return torch.from_numpy(np.array(array, np.float32))


@functools.cache
def _index() -> dict:
    parts = [json.loads((FOLDER / f"index_{part}.json").read_text()) for part in "AB"]
    return {**parts[0]["cases"], **parts[1]}


class Golden:
    """One case's recorded arrays; `close` holds a result against one of them."""

    def __init__(self, case: str) -> None:
        self.arrays = dict(np.load(FOLDER / f"{case}.npz"))
        self._case = _index()[case]
        self.facts = self._case["arrays"]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def inputs(self) -> dict[str, np.ndarray]:
        """The case's inputs, rebuilt from the expressions recorded with it, in their order."""
        scope = {"np": np, "image": image, "uniform": uniform, "H": H, "W": W, "h": h, "w": w}
        values: dict[str, np.ndarray] = {}
        for name, expression in self._case["inputs"].items():
            values[name] = eval(expression, scope, values)  # our own committed file, nobody else's
        return values

    def close(
        self,
        name: str,
        result: torch.Tensor | np.ndarray | float,
        *,
        relative: float = 2e-6,
        percentile: bool = False,
        outliers: float = 0.0,
    ) -> None:
        """Assert |result - golden| <= 10 spread + relative * scale, except for a fraction of outliers.

        `percentile` takes the 99th percentile of the spread instead of the largest value: for gradients,
        which jump where a minimum switches frame.
        """
        error, tolerance = self._compare(name, result, relative, percentile)
        beyond = (error > tolerance).mean()
        assert beyond <= outliers, (
            f"{name}: largest difference {error.max():.3g}, tolerance {tolerance:.3g}, "
            f"{100 * beyond:.2f} % beyond it (allowed {100 * outliers:.2f} %)"
        )

    def share_beyond(self, name: str, result: torch.Tensor | np.ndarray | float, **settings) -> float:
        """Share of the values beyond the tolerance of `close`."""
        error, tolerance = self._compare(name, result, **settings)
        return float((error > tolerance).mean())

    def _compare(
        self, name: str, result: Any, relative: float = 2e-6, percentile: bool = False
    ) -> tuple[np.ndarray, float]:
        """Absolute differences from the golden values, and the tolerance."""
        result = np.asarray(result.detach().cpu() if isinstance(result, torch.Tensor) else result)
        golden, facts = self.arrays[name], self.facts[name]
        shape = tuple(self.arrays[f"{name}.shape"]) if f"{name}.shape" in self.arrays else golden.shape
        assert result.shape == shape, f"{name}: shape {result.shape}, golden {shape}"
        if f"{name}.k" in self.arrays:
            result = result.ravel()[:: int(self.arrays[f"{name}.k"])]
        spread = facts.get("p99", facts["spread"]) if percentile else facts["spread"]
        tolerance = 10 * (spread or 0) + relative * facts["scale"]
        error = np.abs(result.astype(np.float64) - golden.astype(np.float64))
        return error, tolerance
