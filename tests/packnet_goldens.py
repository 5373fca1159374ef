"""Results of PackNet-SfM's published code (`tests/golden/packnet_*.npz`), and the inputs that led to it.

`index_B.json` gives each array's magnitude and its spread (float32 to float64), as `index_A.json` does.
"""

from __future__ import annotations

import functools
import json
import re

import numpy as np
import torch
from torch import Tensor, nn

from checkpoints.packnet import packnet_key
from tests.goldens import FOLDER, image, state_dict, tensor, uniform


@functools.cache
def _index() -> dict:
    return json.loads((FOLDER / "index_B.json").read_text())


class PacknetGolden:
    """One case's recorded arrays; `close` compares a result with one of them."""

    def __init__(self, case: str) -> None:
        self.case = f"packnet_{case}"
        self.arrays = dict(np.load(FOLDER / f"{self.case}.npz"))
        self.facts = _index()[self.case]["arrays"]

    def inputs(self) -> dict[str, Tensor]:
        """The case's inputs by name, rebuilt from the expressions recorded with it; sparse maps included."""
        values: dict[str, np.ndarray] = {}
        for name, expression in _index()[self.case]["inputs"].items():
            if sparse := re.fullmatch(r"(\w+) where (\w+) > ([\d.]+), else 0", expression):
                values[name] = np.where(values[sparse[2]] > float(sparse[3]), values[sparse[1]], 0)
            elif "resized" not in expression and "input " not in expression:
                values[name] = eval(expression, {"image": image, "uniform": uniform}, values)
        return {name: tensor(value) for name, value in values.items()}

    def close(self, name: str, result: Tensor, relative: float = 2e-6) -> None:
        """Assert |result - golden| <= 10 spread + relative * scale, on the recorded subsample."""
        facts, golden = self.facts[name], torch.from_numpy(np.array(self.arrays[name])).double()
        if sampled := re.search(r"subsample \[([^\]]*)\]", facts["meaning"]):
            steps = [int(step.strip().lstrip(":") or 1) for step in sampled[1].split(",")]
            result = result[tuple(slice(None, None, step) for step in steps)]
        assert result.shape == golden.shape, f"{name}: shape {result.shape}, golden {golden.shape}"
        tolerance = 10 * facts["spread"] + relative * facts["scale"]
        error = (result.detach().double() - golden).abs().max()
        assert error <= tolerance, f"{name}: largest difference {error:.3g}, tolerance {tolerance:.3g}"


def load_published(network: nn.Module, case: str) -> nn.Module:
    """`network` in evaluation mode with the weights of `packnet_<case>.keys.json`, loaded strictly."""
    weights = state_dict(f"packnet_{case}")
    packed = any("pre_calc." in key for key in weights)
    weights = {
        (packnet_key(key) if packed else key): value for key, value in weights.items() if ".fc." not in key
    }
    network.load_state_dict(weights, assign=True)  # the network may be on the meta device
    return network.eval()
