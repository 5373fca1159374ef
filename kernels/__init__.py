"""Compiled forms of the photometric error: C++ on CPUs, Triton on GPUs.

`photometric_error.py` holds the form in torch, which all of them equal within rounding.
"""

from __future__ import annotations

import importlib.util

import torch

from kernels import photometric_cpu


class _Choice:
    """Whether compiled kernels may be used, for the whole process (`--kernels`)."""

    allowed = True


def allow(allowed: bool) -> None:
    """Use compiled kernels where they can be built, or torch operations only."""
    _Choice.allowed = allowed


def compiled_for_cpu() -> bool:
    """Whether the photometric error is computed by the C++ kernel on CPUs."""
    return _Choice.allowed and photometric_cpu.library() is not None


def compiled_for_gpu(device: torch.device) -> bool:
    """Whether view synthesis and photometric error are computed by the Triton kernels on a device."""
    return device.type == "cuda" and _Choice.allowed and importlib.util.find_spec("triton") is not None


def describe(device: torch.device) -> str:
    """The form of the photometric error on a device, in words."""
    if device.type == "cpu" and compiled_for_cpu():
        return "compiled C++"
    if compiled_for_gpu(device):
        return "Triton"
    reason = " (no C++ compiler works here)" if _Choice.allowed and device.type == "cpu" else ""
    return f"torch operations{reason}"
