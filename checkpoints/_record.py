"""The checkpoint record, the layout record, and helpers of the readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from utils import InputError


@dataclass
class Checkpoint:
    """Content of a checkpoint of any layout; a run saves the same record.

    Attributes:
        weights: tensors, keyed as `Method.state_dict()`.
        options: options that rebuild the model: method, num_layers, height, width, scales, frame_ids (with
            "s" if use_stereo is set), use_stereo, ... Our files hold all options of the run; for a published
            file they follow from its keys, shapes and opt.json.
        layout: name of the entry of LAYOUTS that read the file.
        training: optimiser, scheduler, scaler, RNG, sampler position, epoch, step, metrics, best: plain
            values and tensors that only the trainer reads. A published folder has `optimizer_by_name`:
            parameter name to its Adam state, see `load_optimizer`.
        ignored: names of the entries of the file that this record leaves out.
        missing: error message if options needed for inference are unknown, else None. Training may start
            from such weights, because a run has its own options.
    """

    weights: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)
    layout: str = "parallax"
    training: dict[str, Any] | None = None
    ignored: list[str] = field(default_factory=list)
    missing: str | None = None


@dataclass(frozen=True)
class Layout:
    """A file format of checkpoints.

    Attributes:
        name: becomes `Checkpoint.layout`.
        looks_like: description for the error that lists the known layouts.
        recognise: content → True if it has this layout; tests names before values.
        read: content, path → Checkpoint.
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
    """The tensors of a published state dict, and its other entries."""
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{file} holds a {type(content).__name__} instead of weights by name")
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    return tensors, {key: value for key, value in content.items() if key not in tensors}


def first(names: Iterable[str], count: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
