"""Averaged weights in a file: exponential moving averages (EMA) and stochastic weight averaging (SWA).

{"model": {...}, "model_ema": {...}}             state dicts next to each other, timm and others
{"encoder": {...}, "encoder_ema": {...}}         one for each network
model.encoder.conv1.weight, ema.encoder...       one state dict, in which a module holds both

A file that has both was saved so that the averages are used, so these are read. The names that
`torch.optim.swa_utils.AveragedModel` adds (`module.`, `n_averaged`) are in `_wrappers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from checkpoints._wrappers import NESTED, has_tensors, holds_networks
from notices import notice

_WORDS = {"ema", "swa", "averaged", "average"}


def with_averages(content: Any, path: Path) -> Any:
    """The content of a file with its averaged weights instead of those of the last step.

    Args:
        content: a state dict, or a dict that holds some, without wrappers.
        path: the file, for a printed line that says which entries are read.
    """
    if not isinstance(content, Mapping):
        return content
    content, averages = _flat(content) if has_tensors(content) else _nested(content)
    if averages:
        notice(f"{path} holds averaged weights, in {', '.join(averages)}; these are read")
    return content


def _nested(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """State dicts next to each other: `model_ema` takes the place of `model`, `ema` that of the model."""
    nested = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    averages = {
        name: value
        for name, value in nested.items()
        if _plain(name) != name and (has_tensors(value) or holds_networks(value))
    }
    found = {key: value for key, value in content.items() if key not in averages}
    for name, value in averages.items():
        if not _plain(name):
            found = {key: other for key, other in found.items() if key not in NESTED}
        found[_plain(name) or NESTED[0]] = value
    names = list(averages)
    for name in NESTED:
        if isinstance(found.get(name), Mapping) and has_tensors(found[name]):
            found[name], inner = _flat(found[name])
            names += inner
    return found, names


def _flat(content: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """One state dict: the entries below `ema.`, if they are those below other names or the only ones.

    Single numbers among them are counters, such as `ema.num_updates`.
    """
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    weights = [key for key, value in tensors.items() if value.ndim or key.count(".") > 1]
    for holder in sorted({key.partition(".")[0] for key in weights if "." in key}):
        inner = {key.partition(".")[2] for key in weights if key.startswith(f"{holder}.")}
        others = {key.partition(".")[2] for key in weights if not key.startswith(f"{holder}.")}
        if _plain(holder) != holder and (not others or inner <= others):
            plain = {key: value for key, value in content.items() if not isinstance(value, Tensor)}
            plain = {str(key).removeprefix(f"{holder}."): value for key, value in plain.items()}
            return {**plain, **{key: tensors[f"{holder}.{key}"] for key in sorted(inner)}}, [holder]
    return content, []


def _plain(name: Any) -> str:
    """A name without the word for an average: `model` for `model_ema`, the empty string for `ema`."""
    words = str(name).split("_")
    kept = [word for word in words if word.lower() not in _WORDS]
    return str(name) if len(kept) == len(words) else "_".join(kept)
