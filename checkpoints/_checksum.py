"""Checksum of a checkpoint's content: SHA-256 over every value, the same before writing and after reading.

torch does not verify the CRCs inside its files, so a flipped bit on a disk or a network would train on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def checksum(content: Any) -> str:
    """Hexadecimal SHA-256 of nested plain values and tensors. Mappings keep their order; sets are sorted."""
    found = hashlib.sha256()
    _add(content, found)
    return found.hexdigest()


def _add(value: Any, found: Any) -> None:
    if isinstance(value, Tensor):
        found.update(f"tensor {value.dtype} {list(value.shape)};".encode())
        # An expanded or channels_last tensor is hashed in the order of its indices.
        data = value.detach().cpu().contiguous().reshape(-1)
        if data.numel():
            found.update(data.view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        found.update(f"mapping {len(value)};".encode())
        for key, item in value.items():
            _add(key, found)
            _add(item, found)
    elif isinstance(value, (list, tuple, set)):
        items = sorted(value, key=repr) if isinstance(value, set) else value
        found.update(f"{type(value).__name__} {len(items)};".encode())
        for item in items:
            _add(item, found)
    else:
        found.update(f"{type(value).__name__} {value!r};".encode())
