"""Reading of untrusted files: their content is read as plain values, and none of their code runs."""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import pickle
import re
import types
import warnings
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import safetensors
import torch

from checkpoints._averages import with_averages
from checkpoints._kinds import is_safetensors, is_whole_module, other_kind
from checkpoints._wrappers import nested_state, of_network, without_wrappers
from utils import InputError


def read_file(path: Path, mmap: bool = False) -> Any:
    """The content of a .safetensors or torch file as plain values, read without running any of its code.

    Args:
        path: the file.
        mmap: read a tensor's values only when they are used; for a look at the rest.

    Raises:
        InputError: a truncated file, another kind of file, or one that builds objects not in `_STAND_INS`.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    said: list[warnings.WarningMessage] = []
    tensors = is_safetensors(path)
    if not tensors and (kind := other_kind(path)):
        what, _, fix = kind.partition("; ")
        raise InputError(f"{path} is {what}, not a checkpoint; {fix}")
    try:
        if tensors:
            return _read_safetensors(path)
        with _stand_ins_allowed(), warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")  # what torch warns of, such as another protocol, may be readable
            with path.open("rb") as file:  # torch would take its format from the name
                source = path if mmap else file
                return _plain(torch.load(source, map_location="cpu", weights_only=True, mmap=mmap or None))
    except Exception as error:  # a broken file makes torch.load raise almost any exception
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused and is_whole_module(path):
            raise InputError(
                f"{path} holds a whole module, which needs the code of '{refused[1]}' to load; nothing of it "
                "ran. Save its weights where its code is: torch.save(model.state_dict(), 'weights.pth')"
            ) from None
        if refused:
            raise InputError(
                f"{path} wants to use '{refused[1]}' while it loads, which weights do not need; it was "
                "refused and nothing of it ran. If the file is your own, save only its state_dict"
            ) from None
        protocol = re.search(r"pickle protocol (\d+)", " ".join(str(warning.message) for warning in said))
        if protocol and "Unsupported operand" in str(error):
            raise InputError(
                f"{path} was saved with pickle protocol {protocol[1]}, which torch reads only by running its "
                "code; save it again by torch.save(content, path) without pickle_protocol"
            ) from None
        size = path.stat().st_size
        raise InputError(
            f"{path} is truncated or not a checkpoint ({size:,} bytes); copy or download it again"
        ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safetensors.safe_open(path, "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata() or {}
    if "parallax" not in metadata:
        return weights
    content = {
        "parallax": int(metadata["parallax"]),
        "weights": dict(sorted(weights.items())),
        "options": json.loads(metadata["options"]),
    }
    if "training_data" in metadata:
        content["training"] = {"training_data": json.loads(metadata["training_data"])}
    return content | ({"checksum": metadata["checksum"]} if "checksum" in metadata else {})


class Folder(Mapping):
    """A folder of .pth files as a dict: file name without suffix to content, read on first access."""

    def __init__(self, path: Path) -> None:
        self.files = {file.stem: file for file in sorted(path.glob("*.pth"))}
        self.contents: dict[str, Any] = {}
        self.counters: list[str] = []  # entries of a profiler, which are left out

    def __getitem__(self, name: str) -> Any:
        if name not in self.contents:
            content, counters = without_wrappers(read_file(self.files[name]))
            content = nested_state(with_averages(content, self.files[name]))
            self.contents[name] = of_network(content, name)
            self.counters += [f"{name}.{counter}" for counter in counters]
        return self.contents[name]

    def __contains__(self, name: object) -> bool:
        return name in self.files

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


class _Dtype:
    """Stands in for numpy.dtype: numbers, booleans and the `object` of an array of arrays."""

    def __init__(self, name: str, *_: Any) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|O8?", name):
            raise pickle.UnpicklingError(f"numpy type {name!r} is not one of plain numbers")
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple) -> None:
        self.order = "=" if state[1] == "|" else state[1]

    def read(self, data: bytes) -> np.ndarray:
        if self.name.startswith("O") or not isinstance(data, bytes) or self.order not in ("<", ">", "="):
            raise pickle.UnpicklingError("a numpy array that is not made of bytes")
        values = np.frombuffer(data, self.order + self.name)
        return values.astype(values.dtype.newbyteorder("="), copy=False)


class _Array:
    """Stands in for numpy.ndarray; `value` is the array, or the list of the items of an object array."""

    value: Any = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if dtype.name.startswith("O"):
            self.value = [item.value if isinstance(item, _Array) else item for item in data]
        else:
            self.value = dtype.read(data).reshape(shape, order="F" if fortran else "C")


def _numpy_array(*_: Any) -> _Array:
    return _Array()


def _numpy_scalar(dtype: _Dtype, data: bytes) -> float | int | bool:
    return dtype.read(data)[0].item()


def _latin1(text: str, _: str = "latin1") -> bytes:
    """Stands in for _codecs.encode, with which pickle before protocol 3 writes bytes."""
    return text.encode("latin1")


_NUMPY = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},  # numpy 1 and 2
    **{f"numpy.{core}.multiarray._reconstruct": _numpy_array for core in ("core", "_core")},
}

_TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])

_STAND_INS = {
    **_NUMPY,
    "argparse.Namespace": Namespace,
    "builtins.set": set,  # later torch versions allow these two
    "_codecs.encode": _latin1,
    "yacs.config.CfgNode": collections.OrderedDict,
}


@contextlib.contextmanager
def _stand_ins_allowed() -> Iterator[None]:
    """Let `torch.load` build the stand-ins instead of the classes that a file names."""
    if _TORCH >= (2, 6):
        with torch.serialization.safe_globals([(value, name) for name, value in _STAND_INS.items()]):
            yield
        return
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([_renamed(value, name) for name, value in _STAND_INS.items()])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


@functools.cache
def _renamed(value: Any, name: str) -> Any:
    """A stand-in under the replaced name; before torch 2.6 allowed classes are found by their name."""
    module, _, short = name.rpartition(".")
    if f"{value.__module__}.{value.__name__}" == name:
        return value
    if isinstance(value, type) and value.__module__ == __name__:
        renamed = value  # the class itself, because `_plain` tests for this type
    elif isinstance(value, type):
        renamed = type(short, (value,), {})
    else:
        renamed = types.FunctionType(value.__code__, value.__globals__, short, value.__defaults__)
    renamed.__module__, renamed.__name__ = module, short
    return renamed


def _plain(value: Any) -> Any:
    """Stand-ins replaced by plain values: dicts, lists, tensors."""
    if isinstance(value, Namespace):
        return _plain(vars(value))
    if isinstance(value, _Array):
        value = value.value
        return torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else _plain(value)
    if isinstance(value, Mapping) and not isinstance(value, collections.Counter):
        return {key: _plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return value


def load_ground_truth_npz(path: str | Path) -> list[np.ndarray]:
    """The depth maps of a published `gt_depths.npz`: key `data`, images of different sizes.

    numpy reads arrays of arrays only by unpickling, which can run any code of the file; this reader builds
    only arrays.

    Returns:
        (H, W) float32 metres each, 0 where unknown.

    Raises:
        InputError: no such file, no such key, a truncated file, or content other than arrays.
    """
    path = Path(path).expanduser()
    try:
        with zipfile.ZipFile(path) as archive, archive.open("data.npy") as file:
            maps = _read_npy(file)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except KeyError:
        raise InputError(f"{path} has no array 'data'; is it a ground truth file (gt_depths.npz)?") from None
    except Exception as error:  # a broken pickle raises almost any exception
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path} wants to use '{refused[1]}' while it loads, which depth maps do not need; "
                "it was refused and nothing of it ran"
            ) from None
        raise InputError(f"{path} is truncated or not a ground truth file ({error})") from None
    for index, depth in enumerate(maps):
        if (
            not isinstance(depth, np.ndarray)
            or depth.ndim != 2
            or not depth.size
            or depth.dtype.kind not in "fiu"
        ):
            raise InputError(f"{path}: entry {index} is not a depth map but {_describe(depth)}")
        # One by one, so that the bytes already read are freed; the copies are writeable.
        maps[index] = depth.astype(np.float32)
    return maps


def _read_npy(file: BinaryIO) -> list[Any]:
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(file)
    if not dtype.hasobject:
        data = np.frombuffer(file.read(), dtype)
        return list(data.reshape(shape, order="F" if fortran else "C"))
    values = _ArrayUnpickler(file).load().value
    # Images of equal size are one object array of numbers.
    return values if len(shape) == 1 else list(np.asarray(values, np.float32).reshape(shape))


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays of numbers and arrays of such arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {**_NUMPY, "_codecs.encode": _latin1}
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return known[f"{module}.{name}"]


def _is_map(value: Any) -> bool:
    """Whether a value is an array of numbers with two axes, none of them empty."""
    return isinstance(value, np.ndarray) and value.ndim == 2 and value.size > 0 and value.dtype.kind in "fiu"


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} of {value.dtype}"
    return f"a {type(value).__name__}"
