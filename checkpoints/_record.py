"""The record that every layout is read into, what a layout is, and small things that their readers share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from utils import InputError


@dataclass
class Checkpoint:
    """What every layout is read into, and what a run saves.

    Attributes:
        weights: keyed as `Method.state_dict()`.
        options: what rebuilds the model: method, num_layers, height, width, scales, frame_ids ("s" among them
            where use_stereo is set), use_stereo, ... From our files all of the run's; from a published one
            what its keys, shapes and opt.json tell.
        layout: the entry of LAYOUTS it was read by.
        training: optimiser, scheduler, scaler, RNG, sampler position, epoch, step, metrics, best: plain
            values and tensors that only the trainer understands. A published folder offers
            `optimizer_by_name`: parameter name to Adam's state of it, see `load_optimizer`.
        ignored: what the file holds and this record does not, by name.
        lacking: where the file does not tell what predicting needs, a sentence that says what and the way
            out. Training may start from such weights, since a run has options of its own.
    """

    weights: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    layout: str = "parallax"
    training: dict[str, Any] | None = None
    ignored: list[str] = field(default_factory=list)
    missing: str | None = None


@dataclass(frozen=True)
class Layout:
    """One way of keeping a checkpoint.

    Attributes:
        name: becomes `Checkpoint.layout`.
        looks_like: for the sentence that lists what is known.
        recognise: content to whether it is of this layout; looks at names before it looks at values.
        read: content and path to Checkpoint.
    """

    name: str
    looks_like: str
    recognise: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], Path], Checkpoint]


def by_network(weights: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    networks: dict[str, dict[str, Tensor]] = {}
    for key, value in weights.items():
        networks.setdefault(key.split(".")[0], {})[key] = value
    return networks


def split_state_dict(content: Any, file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A published state dict's tensors, and the other things that stand between them."""
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{file} holds no weights by name but a {type(content).__name__}")
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in content.items() if key not in tensors}


def first(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
