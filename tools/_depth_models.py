"""Depth networks of several kinds behind one call: images in, depth or inverse depth of their size out.

    ours            a run folder or checkpoint            depth
    ONNX            onnxruntime                           the metadata of tools/export.py, else --predicts
    transformers    AutoModelForDepthEstimation           by the model's type, else --predicts
    torch.hub       any entry that returns a network      --predicts

Each also has a name and a version, a hash of its weights, for the record of its predictions.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.resizing import resize_image
from provenance import content
from shards import own_cores
from utils import InputError

DEPTH, INVERSE = "depth", "inverse_depth"
# Type of a transformers model → quantity of its output. Depth Anything's configuration tells it.
TRANSFORMERS = {"dpt": INVERSE, "glpn": DEPTH, "zoedepth": DEPTH, "depth_pro": DEPTH}
NORMALISE = {  # mean and deviation of an input channel
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
ENTRIES = ("predicted_depth", "depth")  # of a network that returns a mapping


@dataclass(frozen=True)
class DepthModel:
    """A depth network.

    Attributes:
        predict: images of one size, (B, 3, h, w) uint8, to (B, h, w) float32.
        quantity: `depth` or `inverse_depth`, up to scale.
        name: the model as it was named.
        version: hash of its weights.
        settings: further settings that its predictions depend on.
    """

    predict: Callable[[Tensor], Tensor]
    quantity: str
    name: str
    version: str
    settings: Mapping[str, Any]


def open_depth_model(given: argparse.Namespace, device: torch.device) -> DepthModel:
    """The network that `--model` names; see `tools/pseudo_depth.py`.

    Raises:
        InputError: no such model, a missing package or file, a quantity or size that has to be given.
    """
    kind, _, rest = given.model.partition(":")
    if kind == "hf" and rest:
        return _transformers(rest, given, device)
    if kind == "hub" and rest:
        return _hub(rest, given, device)
    if kind == "timm":
        raise InputError("timm has encoders and no depth networks; use hf:NAME, hub:REPO:ENTRY or FILE.onnx")
    if given.model.lower().endswith(".onnx"):
        return _onnx(Path(given.model).expanduser(), given)
    return _ours(Path(given.model).expanduser(), given, device)


def weights_hash(module: nn.Module) -> str:
    """Hash of a network's weights and buffers."""
    found = hashlib.sha256()
    for name, value in module.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


# ----------------------------------------------------------------------------- ours


def _ours(path: Path, given: argparse.Namespace, device: torch.device) -> DepthModel:
    from predictor import load_predictor

    size = {name: getattr(given, name) for name in ("height", "width") if getattr(given, name)}
    predictor = load_predictor(path, str(device), **size)
    if predictor.cameras > 1:
        raise InputError(
            f"{path} predicts {predictor.cameras} cameras of a rig together; pseudo-depth needs a model of "
            "one camera"
        )
    if given.predicts == INVERSE:
        raise InputError(f"{path} is a model of ours and predicts depth; leave out --predicts inverse_depth")
    used = {"height": predictor.height, "width": predictor.width}
    return DepthModel(
        lambda images: predictor(images)[:, 0].float().cpu(), DEPTH, str(path), weights_hash(predictor), used
    )


# ----------------------------------------------------------------------------- Hugging Face transformers


def _transformers(name: str, given: argparse.Namespace, device: torch.device) -> DepthModel:
    try:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation
    except ModuleNotFoundError:
        raise InputError(f"--model hf:{name} needs transformers; type pip install transformers") from None
    name = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    try:
        processor = AutoImageProcessor.from_pretrained(name)
        model = AutoModelForDepthEstimation.from_pretrained(name).to(device).eval()
    except (OSError, ValueError) as error:
        reason = re.split(r"\.\s", str(error).strip())[0]
        raise InputError(
            f"--model hf:{name} cannot be loaded ({reason}); without network, put its config.json, "
            "preprocessor_config.json and model.safetensors into a folder and give --model hf:FOLDER"
        ) from None
    kind = model.config.model_type
    known = TRANSFORMERS.get(kind)
    if estimated := getattr(model.config, "depth_estimation_type", None):
        known = DEPTH if estimated == "metric" else INVERSE
    quantity = given.predicts or known
    if quantity is None:
        raise InputError(
            f"--model hf:{name} is of type {kind}, which does not tell what it predicts; add --predicts "
            f"{DEPTH} or --predicts {INVERSE}"
        )

    @torch.no_grad()
    def predict(images: Tensor) -> Tensor:
        inputs = processor(images=list(images.permute(0, 2, 3, 1).numpy()), return_tensors="pt")
        outputs = model(**{key: value.to(device) for key, value in inputs.items()})
        sizes = [tuple(images.shape[-2:])] * len(images)
        finish = getattr(processor, "post_process_depth_estimation", None)
        if finish is None:
            return _resized(outputs.predicted_depth, *images.shape[-2:])
        # ZoeDepth's images are padded, and it removes the border by the sizes that it was given.
        given_sizes = {"source_sizes": sizes} if "source_sizes" in signature(finish).parameters else {}
        found = finish(outputs, target_sizes=sizes, **given_sizes)
        return torch.stack([one["predicted_depth"] for one in found]).float().cpu()

    return DepthModel(predict, quantity, f"hf:{name}", weights_hash(model), {})


# ----------------------------------------------------------------------------- torch.hub


def _hub(words: str, given: argparse.Namespace, device: torch.device) -> DepthModel:
    repository, _, entry = words.rpartition(":")
    if not repository:
        raise InputError(f"--model hub:{words} names no entry; type hub:REPOSITORY:ENTRY")
    local = Path(repository).expanduser().is_dir()
    place = str(Path(repository).expanduser()) if local else repository
    height, width = _input_size(given, f"hub:{words}")
    quantity = _given_quantity(given, f"hub:{words}")
    try:
        source = "local" if local else "github"
        model = torch.hub.load(place, entry, source=source, trust_repo=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"--model hub:{words} cannot be loaded ({reason}); without network, clone the repository, put "
            "its weights where its hubconf.py looks for them, and give --model hub:FOLDER:ENTRY"
        ) from None
    if not isinstance(model, nn.Module):
        raise InputError(f"--model hub:{words} returns {type(model).__name__}, which is not a network")
    model = model.to(device).eval()

    @torch.no_grad()
    def predict(images: Tensor) -> Tensor:
        inputs = _network_input(images, height, width, given.normalise).to(device)
        return _resized(_map_of(model(inputs), f"hub:{words}"), *images.shape[-2:])

    used = {"height": height, "width": width, "normalise": given.normalise}
    return DepthModel(predict, quantity, f"hub:{words}", weights_hash(model), used)


# ----------------------------------------------------------------------------- ONNX


def _onnx(path: Path, given: argparse.Namespace) -> DepthModel:
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise InputError(f"--model {path} needs onnxruntime; type pip install onnxruntime") from None
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the network's .onnx with --model")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = own_cores()
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")[given.no_cuda or given.device == "cpu" :]
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # onnxruntime's own classes have no public base
        reason = str(error).strip().partition("\n")[0]
        raise InputError(f"{path} cannot be read as ONNX ({reason}); is it complete?") from None
    (entry, *others) = session.get_inputs()
    if others or len(entry.shape) != 4 or entry.shape[1] != 3 or entry.type != "tensor(float)":
        raise InputError(
            f"{path} must take one float image (B, 3, height, width), got {entry.type} {entry.shape}"
        )
    given = _with_facts(given, session.get_modelmeta().custom_metadata_map, str(path))
    quantity = _given_quantity(given, str(path))
    batch, _, *fixed = (side if isinstance(side, int) else None for side in entry.shape)
    height, width = _input_size(given, str(path), *fixed)

    def predict(images: Tensor) -> Tensor:
        inputs = _network_input(images, height, width, given.normalise)
        parts = inputs.split(batch) if batch else [inputs]
        maps = []
        for part in parts:
            filled = part if batch is None else part[[*range(len(part)), *[0] * (batch - len(part))]]
            (found, *_) = session.run(None, {entry.name: filled.numpy()})
            maps.append(_map_of(torch.from_numpy(np.asarray(found)), str(path))[: len(part)])
        return _resized(torch.cat(maps), *images.shape[-2:])

    used = {"height": height, "width": width, "normalise": given.normalise}
    return DepthModel(predict, quantity, str(path), content([path]), used)


def _with_facts(given: argparse.Namespace, facts: Mapping[str, str], name: str) -> argparse.Namespace:
    """The flags with what a file of tools/export.py says of itself; those of another file unchanged."""
    if not facts.get("format", "").startswith("parallax depth"):
        return given
    if given.predicts not in (None, facts["quantity"]):
        raise InputError(f"{name} predicts {facts['quantity']}; leave out --predicts {given.predicts}")
    size = {side: getattr(given, side) or int(facts[side]) for side in ("height", "width")}
    told = {"predicts": facts["quantity"], "normalise": facts["normalise"], **size}
    return argparse.Namespace(**{**vars(given), **told})


# ----------------------------------------------------------------------------- what they share


def _given_quantity(given: argparse.Namespace, name: str) -> str:
    if given.predicts is None:
        raise InputError(
            f"{name} does not tell what it predicts; add --predicts {DEPTH} or --predicts {INVERSE}"
        )
    return given.predicts


def _input_size(
    given: argparse.Namespace, name: str, height: int | None = None, width: int | None = None
) -> tuple[int, int]:
    """The size that the network fixes, else `--height` and `--width`."""
    for side, fixed in (("height", height), ("width", width)):
        wanted = getattr(given, side)
        if fixed and wanted and wanted != fixed:
            raise InputError(f"{name} takes images of {side} {fixed}, got --{side} {wanted}; leave it out")
        if not fixed and not wanted:
            raise InputError(f"{name} does not fix its input size; add --height and --width in pixels")
    return height or given.height, width or given.width


def _network_input(images: Tensor, height: int, width: int, normalise: str) -> Tensor:
    """(B, 3, h, w) uint8 to (B, 3, height, width) float32, normalised."""
    resized = torch.stack([resize_image(image, height, width, "bicubic") for image in images]) / 255
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in NORMALISE[normalise])
    return (resized - mean) / deviation


def _map_of(output: Any, name: str) -> Tensor:
    """(B, h, w) of a network's output: a tensor (B, h, w) or (B, 1, h, w), or a mapping that holds one.

    Raises:
        InputError: it is something else.
    """
    if isinstance(output, Mapping):
        output = next((output[key] for key in ENTRIES if key in output), output)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == 1:
        output = output[:, 0]
    if not isinstance(output, Tensor) or output.ndim != 3:
        raise InputError(f"{name} must return a map (B, height, width) or (B, 1, height, width), got {shape}")
    return output


def _resized(maps: Tensor | Sequence[Tensor], height: int, width: int) -> Tensor:
    """(B, h, w) to (B, height, width) float32 on the CPU, bilinear."""
    found = F.interpolate(maps[:, None].float(), (height, width), mode="bilinear", align_corners=False)
    return found[:, 0].cpu()
