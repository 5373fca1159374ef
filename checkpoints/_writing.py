"""Writing of files: atomic, and only of values that can be read back safely."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

import files


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """`files.writing` for tensors: a failed write of torch or safetensors is one sentence as well."""
    with files.writing(path, (safetensors.SafetensorError,)) as temporary:
        yield temporary


def write(path: str | Path, content: Any) -> None:
    with writing(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def storable(value: Any, where: str) -> Any:
    """`value` if `read_file` can read it back; numpy numbers become Python's.

    Raises:
        TypeError: another type; its position in the content is named.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor) or type(value) in (type(None), bool, int, float, str, bytes):
        return value
    if type(value) in (dict, collections.OrderedDict, collections.Counter):
        return type(value)({key: storable(item, f"{where}.{key}") for key, item in value.items()})
    if type(value) in (list, tuple, set):
        return type(value)(storable(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise TypeError(
        f"{where} is a {type(value).__name__}; a checkpoint holds tensors, numbers, strings and containers"
    )
