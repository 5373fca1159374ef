"""Names that wrappers leave in a state dict are removed before a layout reads it.

module.encoder.conv1.weight         DataParallel, DistributedDataParallel, AveragedModel
encoder._orig_mod.conv1.weight      torch.compile; FSDP and others add theirs
model.encoder.conv1.weight          a module that keeps the network in `self.model`, `self.net`, ...
encoder.total_ops                   counters of the profiler thop
{"state_dict": {...}, "epoch": 3}   a state dict among other entries
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

_WRAPPERS = frozenset(
    {
        "module",
        "_module",
        "_orig_mod",
        "_forward_module",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
    }
)
_COUNTERS = frozenset({"total_ops", "total_params", "n_averaged"})
NESTED = (
    "state_dict",
    "model",
    "model_state_dict",
    "net",
    "network",
    "weights",
    "checkpoint",
    "module",
)  # keys of nested state dicts
_HOLDERS = ("model.", "models.", "net.", "network.")  # attributes in which another module keeps the network


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
    cleaned = _clean(content, "", counters) if has_tensors(content) else dict(content)
    for name, value in cleaned.items():
        if isinstance(value, Mapping) and has_tensors(value):
            cleaned[name] = _clean(value, f"{name}.", counters)
        elif isinstance(value, Mapping) and name != "optimizer":
            cleaned[name], inner = without_wrappers(value)
            counters += [f"{name}.{counter}" for counter in inner]
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
    for name in NESTED:
        nested = content.get(name)
        if isinstance(nested, Mapping) and not has_tensors(nested):
            nested = nested_state(nested)
        if isinstance(nested, Mapping) and (has_tensors(nested) or holds_networks(nested)):
            others = {key: value for key, value in content.items() if key not in (name, *NESTED)}
            yield {**others, **nested}
            yield {**others, "state_dict": nested}
            if has_tensors(nested):
                yield {**others, **without_holder(nested)}
                yield {**others, "state_dict": without_holder(nested)}
    if has_tensors(content):
        yield {"state_dict": content}
        yield without_holder(content)
        yield {"state_dict": without_holder(content)}


def of_network(content: Any, name: str) -> Any:
    """The state dict of a file `<name>.pth` without the attribute that held the network.

    It may be `model.` and the like, or the name itself: `encoder.encoder.conv1.weight` in encoder.pth.
    """
    if not isinstance(content, Mapping):
        return content
    state = without_holder(content)
    own = f"{name}." * (2 if name == "encoder" else 1)  # a ResNet's own entries begin with "encoder."
    if not all(key.startswith(own) for key, value in state.items() if isinstance(value, Tensor)):
        return state
    return {key.removeprefix(f"{name}."): value for key, value in state.items()}


def nested_state(content: Any) -> Any:
    """A network's state dict and the plain values next to it, out of the dict that it is nested in."""
    if isinstance(content, Mapping) and not has_tensors(content):
        for name in NESTED:
            if isinstance(content.get(name), Mapping) and has_tensors(content[name]):
                plain = {key: v for key, v in content.items() if isinstance(v, (bool, int, float, str))}
                return {**plain, **content[name]}
    return content


def without_holder(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without the attributes that all its tensors begin with; unchanged if there are none.

    The numbers of a ModuleList stay: `net.0.weight` is an entry of Monodepth2's pose decoder.
    """
    state = {str(key): value for key, value in state.items()}
    tensors = [key for key, value in state.items() if isinstance(value, Tensor)]
    for holder in _HOLDERS:
        inner = [key.removeprefix(holder) for key in tensors if key.startswith(holder)]
        if inner and len(inner) == len(tensors) and not any(key[0].isdigit() for key in inner):
            return without_holder({key.removeprefix(holder): v for key, v in state.items()})
    return state


def has_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def holds_networks(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Mapping) and has_tensors(value) for value in content.values())
