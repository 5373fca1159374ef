"""Robustness: a model on corrupted images, as mCE and mRR next to the clean table.

    DEE  = (abs_rel + 1 - a1) / 2                                    depth estimation error
    CE   = sum over severities of DEE / the same of a reference      mCE: mean over kinds, below 1 is better
    RR   = sum over severities of (1 - DEE) / 5 (1 - DEE clean)      mRR: mean over kinds, 1 is unharmed

(Kong et al. 2023, RoboDepth, section 3.) Their reference is a Monodepth2 network on their image files. Here
it is one constant depth, which no corruption changes, unless the results of another model are given. Images
are corrupted at the network's size (evaluation/corruption_kinds.py); the noise of an image depends on the
seed, the kind, the severity and its index only.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.sequence import SequenceDataset
from evaluation.corruption_kinds import KINDS
from evaluation.depth import evaluate_all
from evaluation.loop import Loading, Predict
from evaluation.result import Result
from files import writing
from images import image_grid, labelled, save_image
from metrics import Protocol
from progress import Bar
from structures import Batch, Prediction
from utils import InputError, nearest_name

SEVERITIES = range(1, 6)
SEED = 0


def check_kinds(kinds: Sequence[str]) -> list[str]:
    """The kinds to draw; all of `KINDS` if none is named.

    Raises:
        InputError: there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"there is no corruption '{kind}'{nearest_name(kind, KINDS)}")
    return list(dict.fromkeys(kinds)) or list(KINDS)


def corrupt(image: Tensor, kind: str, severity: int, index: int, seed: int = SEED) -> Tensor:
    """One corrupted image, the same for the same arguments.

    Args:
        image: (3, H, W) in [0, 1].
        kind: one of `KINDS`.
        severity: 1 to 5.
        index: number of the image in its dataset.
        seed: seed of the noise.

    Returns:
        (3, H, W) in [0, 1], in 8 bits like a recorded image.
    """
    random = np.random.default_rng([seed, zlib.crc32(kind.encode()), severity, index])
    pixels = np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy(), np.float32)
    changed = np.clip(KINDS[kind](pixels, severity - 1, random), 0, 1)
    rounded = np.rint(255 * changed).astype(np.float32) / 255
    return torch.from_numpy(rounded).permute(2, 0, 1).to(image)


def corrupted(predict: Predict, kind: str, severity: int, seed: int = SEED) -> Predict:
    """A predictor that sees corrupted images; the networks are those of `predict`."""

    def predict_corrupted(batch: Batch) -> Prediction:
        numbers = [index * batch.cameras + n for index in batch.index.tolist() for n in range(batch.cameras)]
        images = [corrupt(image, kind, severity, n, seed) for image, n in zip(batch.images[0], numbers)]
        return predict(dataclasses.replace(batch, images={**batch.images, 0: torch.stack(images)}))

    return predict_corrupted


@dataclass(frozen=True)
class Robustness:
    """Results on corrupted images.

    Attributes:
        clean: DEE on clean images.
        reference: kind -> sum of the DEE of the reference over the severities.
        errors: kind -> DEE for each severity.
        means: kind -> mean abs_rel and a1 over the severities.
        reference_name: name of the reference in words.
    """

    clean: float
    reference: Mapping[str, float]
    errors: Mapping[str, list[float]]
    means: Mapping[str, tuple[float, float]]
    reference_name: str

    @property
    def ce(self) -> dict[str, float]:
        """Corruption error by kind."""
        return {kind: sum(errors) / self.reference[kind] for kind, errors in self.errors.items()}

    @property
    def rr(self) -> dict[str, float]:
        """Resilience rate by kind."""
        return {
            kind: sum(1 - error for error in errors) / (len(errors) * (1 - self.clean))
            for kind, errors in self.errors.items()
        }

    @property
    def mce(self) -> float:
        """Mean corruption error."""
        return float(np.mean(list(self.ce.values())))

    @property
    def mrr(self) -> float:
        """Mean resilience rate."""
        return float(np.mean(list(self.rr.values())))

    def table(self) -> str:
        """One line for each kind, then mCE and mRR, as text."""
        head = f"  {'':<20}" + " ".join(f"{name:>8}" for name in ("abs_rel", "a1", "DEE", "CE", "RR"))
        ce, rr, lines = self.ce, self.rr, [head, f"  {'clean':<20}{'':>8} {'':>8} {self.clean:8.3f}"]
        for kind, errors in self.errors.items():
            numbers = (*self.means[kind], float(np.mean(errors)), ce[kind], rr[kind])
            lines.append(f"  {kind:<20}" + " ".join(f"{number:8.3f}" for number in numbers))
        lines.append(f"  mCE {self.mce:.3f} (reference: {self.reference_name})   mRR {self.mrr:.3f}")
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Write `corruptions.json`."""
        content = {"clean": self.clean, "mCE": self.mce, "mRR": self.mrr, "CE": self.ce, "RR": self.rr,
                   "DEE": dict(self.errors), "reference": self.reference_name, "seed": SEED}  # fmt: skip
        with writing(folder / "corruptions.json") as path:
            path.write_text(json.dumps(content, indent=2) + "\n")


def depth_error(mean: Mapping[str, float]) -> float:
    """DEE of the means of a result."""
    return (mean["abs_rel"] + 1 - mean["a1"]) / 2


def evaluate_corruptions(
    predict: Predict,
    dataset: SequenceDataset,
    protocol: Protocol,
    loading: Loading,
    clean: Result,
    kinds: Sequence[str] = (),
    reference: str | Path | None = None,
) -> Robustness:
    """Evaluate a model on corrupted images of a dataset.

    Args:
        predict: same as for `evaluation.evaluate`.
        dataset, protocol, loading: those of the clean evaluation.
        clean: its result.
        kinds: some of `KINDS`; none for all.
        reference: `corruptions.json` of another model; None for one constant depth.

    Raises:
        InputError: an unknown kind, or a reference without one of the kinds.
    """
    kinds = check_kinds(kinds)
    base = _reference(reference, kinds, clean)
    errors: dict[str, list[float]] = {}
    means = {}
    quiet = dataclasses.replace(loading, progress=False)
    for kind in Bar(kinds, "corruptions", disable=not loading.progress, unit="kind", leave=False):
        results = [
            evaluate_all(corrupted(predict, kind, severity), dataset, {"": protocol}, quiet)[""].mean
            for severity in SEVERITIES
        ]
        errors[kind] = [depth_error(mean) for mean in results]
        means[kind] = tuple(float(np.mean([mean[name] for mean in results])) for name in ("abs_rel", "a1"))
    name = "one constant depth" if reference is None else str(reference)
    return Robustness(depth_error(clean.mean), base, errors, means, name)


def _reference(path: str | Path | None, kinds: Sequence[str], clean: Result) -> dict[str, float]:
    """Kind -> sum of the reference's DEE over the severities."""
    if path is None:
        return dict.fromkeys(kinds, len(SEVERITIES) * depth_error(clean.constant))
    try:
        errors = json.loads(Path(path).read_text())["DEE"]
    except (OSError, KeyError, TypeError, ValueError):
        raise InputError(f"{path} is not a corruptions.json that --corruptions has written") from None
    if missing := [kind for kind in kinds if kind not in errors]:
        raise InputError(f"{path} lacks the corruption {missing[0]}; evaluate the reference with it first")
    return {kind: sum(errors[kind]) for kind in kinds}


def draw_grid(path: Path, image: Tensor, kinds: Sequence[str] = ()) -> None:
    """An image grid: a named row for each kind; the clean image first, then a column for each severity.

    Args:
        path: path of the file.
        image: (3, H, W) in [0, 1].
        kinds: some of `KINDS`; none for all.
    """
    rows = []
    for kind in check_kinds(kinds):
        cells = [image, *(corrupt(image, kind, severity, 0) for severity in SEVERITIES)]
        clean, *others = (np.rint(255 * cell.permute(1, 2, 0).numpy()).astype(np.uint8) for cell in cells)
        rows.append([labelled(clean, kind.replace("_", " ")), *others])
    save_image(path, image_grid(rows))
