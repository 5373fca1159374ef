"""Names that wrappers leave in a state dict are removed before a layout reads it.

module.encoder.conv1.weight         DataParallel, DistributedDataParallel, AveragedModel
encoder._orig_mod.conv1.weight      torch.compile; FSDP and others add theirs
model.encoder.conv1.weight          a LightningModule that keeps the network in `self.model`
encoder.total_ops                   counters of the profiler thop
{"state_dict": {...}, "epoch": 3}   a state dict among other entries
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_COUNTERS = frozenset({"total_ops", "total_params", "n_averaged"})
_NESTED = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "network",
    "weights",
)  # keys of nested state dicts
_LIGHTNING = "model."


def without_wrappers(content: Any) -> tuple[Any, list[str]]:
    """The content of a file without what wrappers added to its state dicts.

    Args:
        content: a state dict, or a dict that holds some.

    Returns:
        The content, and the names of the removed counters.
    """
    if not isinstance(content, Mapping):
        return content, []
    counters: list[str] = []
    cleaned = _clean(content, "", counters) if _has_tensors(content) else dict(content)
    for name, value in cleaned.items():
        if isinstance(value, Mapping) and _has_tensors(value):
            cleaned[name] = _clean(value, f"{name}.", counters)
    return cleaned, counters


def _clean(state: Mapping[Any, Any], place: str, counters: list[str]) -> dict[Any, Any]:
    """One state dict under the names of the bare network."""
    cleaned: dict[Any, Any] = {}
    found: list[str] = []
    for key, value in state.items():
        parts = str(key).split(".")
        if parts[-1] in _COUNTERS and isinstance(value, Tensor):
            found.append(f"{place}{key}")
            continue
        name = ".".join(part for part in parts if part not in _WRAPPERS)
        cleaned[name if isinstance(key, str) and name else key] = value
    if len(cleaned) + len(found) < len(
        state
    ):  # two entries of one name: it is the network that says "module"
        return dict(state)
    counters += found
    return cleaned


def alternatives(content: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The content, then the same state dict in other nestings, for the first layout that recognises one.

    Args:
        content: content of a file, without wrappers.
    """
    yield content
    for name in _NESTED:
        nested = content.get(name)
        if isinstance(nested, Mapping) and (_has_tensors(nested) or _holds_networks(nested)):
            others = {key: value for key, value in content.items() if key not in (name, *_NESTED)}
            yield {**others, **nested}
            yield {**others, "state_dict": nested}
            yield {**others, **_without_lightning(nested)}
            yield {**others, "state_dict": _without_lightning(nested)}
    if _has_tensors(content):
        yield {"state_dict": content}
        yield _without_lightning(content)
        yield {"state_dict": _without_lightning(content)}


def nested_state(content: Any) -> Any:
    """A network's state dict and the plain values next to it, out of the dict that it is nested in."""
    if isinstance(content, Mapping) and not _has_tensors(content):
        for name in _NESTED:
            if isinstance(content.get(name), Mapping) and _has_tensors(content[name]):
                plain = {key: v for key, v in content.items() if isinstance(v, (bool, int, float, str))}
                return {**plain, **content[name]}
    return content


def _without_lightning(state: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).removeprefix(_LIGHTNING): value for key, value in state.items()}


def _has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _holds_networks(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Mapping) and _has_tensors(value) for value in content.values())
