"""The photometric error as compiled C++ code: the same values as torch operations, several times faster.

kernels/photometric.cpp is compiled on first use, with `c++`, `g++` or `clang++`, or with the compiler in the
environment variable CXX. The library is kept in torch.hub's folder, one for each processor and compiler.
Without a compiler, `photometric_error.py` uses torch operations.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from files import writing
from layers import SSIM_C1, SSIM_C2
from utils import PROJECT, InputError

SOURCE = PROJECT / "kernels" / "photometric.cpp"
_FLAGS = ["-std=c++17", "-shared", "-fPIC", "-pthread"]
_FLAGS += ["-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
RADII = (1, 3)  # of SSIM's window, in pixels
_TIMEOUT = 120  # seconds of compilation


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernel; None if no compiler can build it here."""
    compiler = shutil.which(os.environ.get("CXX", "")) or next(
        filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None
    )
    if compiler is None:
        return None
    path = Path(torch.hub.get_dir()) / "parallax" / f"photometric_{_fingerprint(compiler)}.so"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with writing(path) as temporary:
                command = [compiler, *_FLAGS, str(SOURCE), "-o", str(temporary)]
                subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT)
        return ctypes.CDLL(str(path))
    except (OSError, InputError, subprocess.SubprocessError):
        return None


def forward(
    images: Tensor,
    target: Tensor,
    weights: tuple[float, float],
    mean: Tensor | None,
    variance: Tensor | None,
    radius: int = 1,
) -> Tensor:
    """The error of contiguous float32 images.

    Args:
        images: (S, B, C, H, W).
        target: (B, C, H, W).
        weights: the weight of SSIM and e of the robust difference.
        mean, variance: (B, C, H, W) of the target's windows; None with an SSIM weight of 0.
        radius: radius of SSIM's window in pixels, one of RADII.

    Returns:
        (S, B, 1, H, W).
    """
    error = images.new_empty(*images.shape[:2], 1, *images.shape[3:])
    _call("photometric_forward", [images, target, mean, variance], images, weights, radius, error)
    return error


def backward(
    images: Tensor,
    target: Tensor,
    weights: tuple[float, float],
    mean: Tensor | None,
    variance: Tensor | None,
    gradient: Tensor,
    radius: int = 1,
) -> Tensor:
    """The gradient with respect to the images from that of the error, (S, B, 1, H, W)."""
    result = torch.empty_like(images)
    inputs = [images, target, mean, variance, gradient]
    _call("photometric_backward", inputs, images, weights, radius, result)
    return result


def statistics(target: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the windows of contiguous float32 images, (B, C, H, W) to the same shape."""
    result = target.new_empty(2, *target.shape)
    _call("photometric_statistics", [target], target[None], (1.0, 0.0), radius, result)
    return result[0], result[1]


def _call(
    name: str,
    inputs: list[Tensor | None],
    images: Tensor,
    weights: tuple[float, float],
    radius: int,
    out: Tensor,
) -> None:
    sizes = (ctypes.c_int * 6)(*images.shape, radius)
    numbers = (ctypes.c_double * 4)(*weights, SSIM_C1, SSIM_C2)
    pointers = [ctypes.c_void_p(None if value is None else value.data_ptr()) for value in inputs]
    function = getattr(library(), name)
    function(*pointers, sizes, numbers, ctypes.c_void_p(out.data_ptr()), torch.get_num_threads())


def _fingerprint(compiler: str) -> str:
    """A short hash of what the library depends on: source, flags, compiler and processor."""
    version = subprocess.run([compiler, "--version"], capture_output=True, timeout=_TIMEOUT).stdout
    processor = platform.processor() + platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.exists():  # a home folder may be shared by machines with different processors
        lines = facts.read_text().splitlines()
        processor += "".join(sorted({line for line in lines if line.startswith(("flags", "model name"))}))
    parts = [SOURCE.read_bytes(), " ".join(_FLAGS).encode(), version, processor.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
