"""Outputs of FeatDepth's published code (`tests/golden/featdepth_*.npz`), and the inputs that led to them."""

from __future__ import annotations

import torch
from torch import Tensor

from checkpoints.featdepth import rename_featdepth_key
from methods._networks import Motion
from structures import Batch, Prediction
from tests import goldens

FRAMES = {-1: "m1", 1: "1", "s": "s"}
TAGS = {-1: "prev", 1: "next"}


class Case:
    """A golden and its inputs by name, from the stream that `index_B.json` gives."""

    def __init__(self, name: str, size: tuple[int, int]) -> None:
        self.golden = goldens.Golden(name)
        self.name, self.size = name, size
        first = next(iter(self.golden._case["inputs"].values()))
        self.stream = first.split("image('")[1].split("'")[0].rpartition("/")[0]

    def image(self, name: str, height: int, width: int, channels: int = 3, batch: int = 2) -> Tensor:
        return goldens.tensor(goldens.image(f"{self.stream}/{name}", batch, height, width, channels))

    def batch(self, *frames: int | str) -> Batch:
        """Target and sources, each source three tenths of another image; a stereo pose if there is one."""
        target = self.image("color_0", *self.size)
        images = {0: target}
        for frame in frames:
            images[frame] = 0.7 * target + 0.3 * self.image(f"color_{FRAMES[frame]}", *self.size)
        stereo = torch.eye(4).repeat(2, 1, 1)
        stereo[:, 0, 3] = torch.tensor([0.015, -0.015])
        known = {"s": stereo} if "s" in frames else {}
        return Batch(images, torch.from_numpy(self.golden["K"]), torch.arange(2), known)

    def weights(self, scaled: dict[str, float] | None = None) -> dict[str, Tensor]:
        """The recorded weights under our names; entries that contain a key of `scaled` times its value."""
        weights = {}
        for key, value in goldens.state_dict(self.name).items():
            factors = [factor for part, factor in (scaled or {}).items() if part in key]
            if name := rename_featdepth_key(key):
                weights[name] = value * factors[0] if factors else value
        return weights

    def prediction(self) -> Prediction:
        """Disparities and motions as a network returns them, with a gradient."""
        height, width = self.size
        disparities, motions = {}, {}
        for n in range(4):
            image = self.image(f"disp_{n}", height // 2 ** (n + 1), width // 2 ** (n + 1), channels=1)
            disparities[n + 1] = (0.02 + 0.23 * image).requires_grad_()
        for frame in TAGS:
            parts = [
                goldens.tensor(
                    goldens.uniform(f"{self.stream}/{part}_{FRAMES[frame]}", (2, 1, 3), -limit, limit)
                )
                for part, limit in (("axisangle", 0.05), ("translation", 0.06))
            ]
            vectors = [part.requires_grad_() for part in parts]
            motions[frame] = (vectors, Motion(vectors[0][:, 0], vectors[1][:, 0], frame < 0))
        self.vectors = {frame: vectors for frame, (vectors, _) in motions.items()}
        return Prediction(disparities, extra={"motions": {f: motion for f, (_, motion) in motions.items()}})


def mean_std(values: Tensor) -> Tensor:
    """(2,) mean and population deviation."""
    return torch.stack([values.mean(), values.std(correction=0)])
