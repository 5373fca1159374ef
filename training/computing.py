"""How a method's networks are computed: device, memory layout, number format, checkpointing, compilation.

`--precision auto` uses bfloat16 where the processor has instructions for it. Whether bfloat16 in the
channels-last layout is faster than float32 depends on the backbone, so a few steps of both are timed. The
result is kept in torch.hub's folder for the next run of the same networks on the same processor.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from files import writing
from structures import Batch
from utils import InputError

_FLAGS = ("avx512_bf16", "amx_bf16")  # of x86 processors with products of bfloat16
_CLOSE = 1.3  # ratio of two times, below which the forms are timed once more: the machine may be shared
_MOST_SAMPLES = 2  # batch of the probe


@dataclass(frozen=True)
class Form:
    """Number format and memory layout of the networks."""

    bfloat16: bool
    channels_last: bool

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{'bfloat16' if self.bfloat16 else 'float32'}, {layout}"


def prepare(method: nn.Module, options: argparse.Namespace, device: torch.device) -> nn.Module:
    """The method on its device, with the options that need no measurement.

    Raises:
        InputError: an option that the device or the networks do not support.
    """
    if options.sync_batchnorm:
        if device.type != "cuda":
            raise InputError("--sync_batchnorm needs GPUs; leave it out on the CPU")
        method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
    if options.gradient_checkpointing:
        parts = [part for part in method.modules() if hasattr(part, "gradient_checkpointing")]
        if not parts:
            raise InputError(
                "--gradient_checkpointing needs a network that supports it, and this method has none; choose "
                "--encoder hrnet18 or --depth_network packnet, or leave it out"
            )
        for part in parts:
            part.gradient_checkpointing = True
    return method.to(device)


def choose_form(
    model: nn.Module, options: argparse.Namespace, batch: Batch, device: torch.device
) -> tuple[Form, str]:
    """The form of the networks that the options name or, with `--precision auto`, the faster one.

    Args:
        model: the method, or its wrapper with augmented views.
        options: options of the run.
        batch: one augmented sample on the device, for the probe.
        device: where the networks run.

    Returns:
        The form, and a sentence about how it was chosen.
    """
    named = Form(options.precision == "bfloat16", options.channels_last)
    if options.precision != "auto":
        return named, f"networks: {named}"
    if not has_bfloat16(device):
        return named, f"networks: {named}; {device} has no instructions for bfloat16"
    forms = [named, Form(True, True)]
    path = Path(torch.hub.get_dir()) / "parallax" / f"form_{_fingerprint(model, batch, forms)}.json"
    if path.exists():
        times = json.loads(path.read_text())["seconds"]
        source = f"timed earlier, {path}"
    else:
        batch = Batch.cat([batch] * min(_MOST_SAMPLES, options.batch_size))
        times = [_seconds(model, batch, form) for form in forms]
        if max(times) < _CLOSE * min(times):
            times = [min(before, _seconds(model, batch, form)) for before, form in zip(times, forms)]
        source = "timed now"
        _keep(path, forms, times)
    best = forms[times.index(min(times))]
    shown = ", ".join(f"{form} {seconds:.3g} s" for form, seconds in zip(forms, times))
    return best, f"networks: {best}; a step of {shown} ({source}); --precision float32 is the reference"


def apply_form(method: nn.Module, form: Form) -> None:
    """Set number format and memory layout of a method's networks."""
    layout = torch.channels_last if form.channels_last else torch.contiguous_format
    for parameter in method.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    method.precision = torch.bfloat16 if form.bfloat16 else torch.float32


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return any(flag in _processor() for flag in _FLAGS)


def _processor() -> str:
    """Model and instruction sets of the processor; empty where the system does not tell."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "model name"))}))


def _seconds(model: nn.Module, batch: Batch, form: Form) -> float:
    """Seconds of a forward and backward pass of a copy of the model, after one to warm up."""
    devices = [batch.intrinsics.device] if batch.intrinsics.is_cuda else []
    with torch.random.fork_rng(devices):
        model = copy.deepcopy(model).train()
        apply_form(getattr(model, "method", model), form)
        for _ in range(2):
            started = time.perf_counter()
            sum(model.losses(batch, model(batch)).values()).backward()
            if devices:
                torch.cuda.synchronize()
    return time.perf_counter() - started


def _fingerprint(model: nn.Module, batch: Batch, forms: list[Form]) -> str:
    """A short hash of what the times depend on: networks, image size, forms, torch and the processor."""
    shapes = [(name, tuple(value.shape)) for name, value in model.state_dict().items()]
    cuda = batch.intrinsics.is_cuda
    machine = torch.cuda.get_device_name() if cuda else (_processor(), torch.get_num_threads())
    facts = (type(model).__name__, shapes, tuple(batch.images[0].shape), forms, torch.__version__, machine)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _keep(path: Path, forms: list[Form], times: list[float]) -> None:
    """Keep the times for the next run; a folder that cannot be written only costs the next probe."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as temporary:
            temporary.write_text(json.dumps({"forms": [asdict(form) for form in forms], "seconds": times}))
    except (OSError, InputError):
        pass
