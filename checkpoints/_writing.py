"""Writing of files: atomic, and only of values that can be read back safely."""

from __future__ import annotations

import collections
import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from utils import InputError, atomic_path


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """`atomic_path`, with an `InputError` if the disk is full or the folder is not writeable."""
    path = Path(path)
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        cause: BaseException | None = error
        # torch raises a RuntimeError about positions for a failed write; the reason is in its context.
        while isinstance(cause, RuntimeError):
            cause = cause.__cause__ or cause.__context__
        if not isinstance(cause, (OSError, safetensors.SafetensorError)):
            raise
        reason = getattr(cause, "strerror", None) or str(cause)
        full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "; free some space and resume" if full or "No space" in reason else ""
        kept = f", the earlier {path.name} is untouched" if path.exists() else ""
        raise InputError(f"could not write {path}: {reason}{kept}{advice}") from error


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
