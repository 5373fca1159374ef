"""A trained model as a graph of its own: what goes in, what comes out, and the facts that its user must know.

    image (B·N, 3, H, W) in [0, 1]  [, intrinsics (B·N, 3, 3) | input_depth (B·N, 1, H, W)]
        ->  depth or inverse depth (B·N, 1, H, W)

N is the number of cameras that the model predicts together. Normalisation, decoding, the focal length of
SurroundDepth and the metric scale are part of the graph, so that a user only resizes images.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from files import writing
from methods.metric_scale import trained_on
from networks import planar
from predictor import Predictor
from structures import Batch
from utils import InputError

QUANTITIES = ("depth", "inverse_depth")
DYNAMIC = ("batch", "size")
LARGEST = 128  # times 32 pixels: the largest side of a graph of dynamic size
MOST = 256  # the largest batch of a graph of dynamic batch, frame sets
FACTS = "parallax.json"  # the facts inside a .pt2 file
PLACE = (
    "pixels at the size of the network's input, (0, 0) the centre of the first pixel; for an image resized "
    "by s: fx' = fx s, cx' = (cx + 0.5) s - 0.5, and the same for fy, cy"
)
TOLERANCE = 1e-4  # largest relative difference of an exported graph from torch


@dataclass(frozen=True)
class Request:
    """A request for an export.

    Attributes:
        quantity: `depth` or `inverse_depth`.
        dynamic: free dimensions of the graph, from `batch` and `size`.
        batch: images of a batch, or frame sets of a rig, if the batch is fixed.
        input_depth: the graph has an input depth, which it completes.
        licence: terms of the weights in words; None if not stated.
    """

    quantity: str = "depth"
    dynamic: tuple[str, ...] = ()
    batch: int = 1
    input_depth: bool = False
    licence: str | None = None


class DepthGraph(nn.Module):
    """`Method.predict` of a model as a function of tensors.

    Args:
        predictor: the model.
        request: the requested export.

    Attributes:
        inputs: names of the inputs, in order.

    Raises:
        InputError: a model that predicts no depth, or completes none.
    """

    def __init__(self, predictor: Predictor, request: Request) -> None:
        super().__init__()
        self.method, self.quantity = predictor.method, request.quantity
        self.cameras, self.scale = predictor.cameras, predictor.metric_scale or 1.0
        if "depth" not in self.method.tasks:
            raise InputError("this model predicts no depth; a stage of training cannot be exported")
        if request.input_depth and not getattr(self.method, "takes_input_depth", False):
            raise InputError("this model reads no input depth, as packnet_san does; leave out --input_depth")
        second = ["intrinsics"] if self.method.reads_intrinsics else []
        self.inputs = ("image", *(["input_depth"] if request.input_depth else second))
        self.eval()

    def forward(self, image: Tensor, second: Tensor | None = None) -> Tensor:
        """Depth or inverse depth.

        Args:
            image: (B·N, 3, H, W) RGB in [0, 1].
            second: intrinsics (B·N, 3, 3) in pixels at H x W, or input depth (B·N, 1, H, W); see `inputs`.

        Returns:
            (B·N, 1, H, W), metres or 1 / metres if the model is metric, else up to scale.
        """
        if self.inputs[-1] == "input_depth":
            maps = {"input_depth": second}
            batch = Batch({0: image}, None, torch.arange(image.shape[0]), cameras=self.cameras, maps=maps)
            depth = self.method.predict(batch).depths[0]
        else:
            depth = self.method.predict_depth(image, second)
        depth = depth if self.scale == 1 else depth * self.scale
        return depth if self.quantity == "depth" else 1 / depth

    def example(self, batch: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs of a size.

        Args:
            batch: images, or frame sets of a rig.
            height, width: pixels.
        """
        images, draw = batch * self.cameras, torch.Generator().manual_seed(seed)
        image = torch.rand(images, 3, height, width, generator=draw)
        if self.inputs[-1] == "intrinsics":
            K = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
            return image, K.repeat(images, 1, 1)
        if self.inputs[-1] == "input_depth":
            known = torch.rand(images, 1, height, width, generator=draw) < 0.1
            return image, known * (1 + 50 * torch.rand(images, 1, height, width, generator=draw))
        return (image,)


def trace(
    graph: DepthGraph, example: tuple[Tensor, ...], dynamic: Sequence[str]
) -> torch.export.ExportedProgram:
    """The graph as `torch.export` records it.

    Args:
        example: inputs; their sizes are those of the graph where it is not dynamic.
        dynamic: free dimensions, from `batch` and `size`.

    Raises:
        InputError: the network cannot be recorded, or has a fixed size.
    """
    shapes = dynamic_shapes(graph, dynamic)
    try:
        with torch.no_grad(), planar(graph), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(graph, example, dynamic_shapes=shapes, strict=False)
    except InputError:
        raise
    except Exception as error:  # torch's own classes change between versions
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines or [type(error).__name__])[0].rstrip(".!:")
        what = f"with --dynamic {' '.join(dynamic)}" if dynamic else "by torch.export"
        fix = "leave --dynamic out" if dynamic else "--encoder resnet18 --decoder depth_decoder can"
        raise InputError(f"this network cannot be exported {what} ({reason}); {fix}") from error


def dynamic_shapes(graph: DepthGraph, dynamic: Sequence[str]) -> tuple[dict[int, Any], ...] | None:
    """Free axes of every input, as `torch.export` takes them; None if all are fixed."""
    if not dynamic:
        return None
    axes: dict[int, Any] = {}
    if "batch" in dynamic:
        sets = torch.export.Dim("batch", min=1, max=MOST)
        axes[0] = graph.cameras * sets if graph.cameras > 1 else sets
    first = dict(axes)
    if "size" in dynamic:
        for axis, name in ((2, "height"), (3, "width")):
            axes[axis] = 32 * torch.export.Dim(f"{name}_32", min=2, max=LARGEST)
    return tuple(first if name == "intrinsics" else axes for name in graph.inputs)


def save_program(program: torch.export.ExportedProgram, path: Path, facts: Mapping[str, str]) -> None:
    """Write a .pt2 file with its facts, whole or not at all.

    Raises:
        InputError: the file cannot be written, and why.
    """
    held = io.BytesIO()
    torch.export.save(program, held, extra_files={FACTS: json.dumps(facts)})
    with writing(path) as temporary:
        temporary.write_bytes(held.getbuffer())


def check_sizes(graph: DepthGraph, request: Request, height: int, width: int) -> list[tuple[Tensor, ...]]:
    """Inputs on which an exported graph is compared with torch: the example, and others that it must take."""
    other = (height + 32, width + 32) if "size" in request.dynamic else (height, width)
    batch = request.batch + 1 if "batch" in request.dynamic else request.batch
    found = [graph.example(request.batch, height, width, seed=1)]
    return [*found, graph.example(batch, *other, seed=2)] if request.dynamic else found


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest relative difference of two maps.

    Raises:
        InputError: another shape.
    """
    if found.shape != expected.shape:
        raise InputError(f"the exported graph gives {tuple(found.shape)} and torch {tuple(expected.shape)}")
    return ((found - expected).abs() / expected.abs()).max().item()


def require_equal(worst: float, path: Path) -> None:
    """Refuse a graph that differs from torch.

    Raises:
        InputError: it does, and by how much.
    """
    if not worst <= TOLERANCE:
        raise InputError(
            f"{path.name} is not written: its relative difference from torch would be {worst:.1e}, above "
            f"{TOLERANCE:g}; --to {path.stem}.pt2 may be closer"
        )


# ------------------------------------------------------------------------------------------------- the facts


def describe(predictor: Predictor, graph: DepthGraph, request: Request) -> dict[str, str]:
    """Facts for a user of the file, name → text; numbers are as Python writes them."""
    method, options = predictor.method, predictor.options
    metric = predictor.is_metric
    rays = getattr(method, "predicts_rays", False)
    output, unit = "distance along the ray" if rays else "depth along the optical axis", predictor.unit
    if request.quantity == "inverse_depth":
        output, unit = f"1 / {output}", f"1 / {unit}" if metric else unit
    return {
        "format": "parallax depth 1",
        "quantity": request.quantity,
        "output": f"{output}, (B, 1, height, width)",
        "unit": unit,
        "metric": str(metric).lower(),
        "metric_scale": repr(float(graph.scale)),
        "scale_rule": "metric_scale is already part of the output",
        **_decode_range(method, graph.scale),
        "input": "RGB, float32 in [0, 1], (B, 3, height, width); the whole image, resized with antialiasing",
        "resize": predictor.resize,
        "normalise": "none",
        "height": str(predictor.height),
        "width": str(predictor.width),
        "dynamic": " ".join(request.dynamic),
        "cameras": str(graph.cameras),
        "camera_rule": _camera_rule(graph.cameras),
        "intrinsics": _intrinsics_rule(method) if graph.inputs[-1] == "intrinsics" else f"not read; {PLACE}",
        "licence": request.licence or _licence(options),
        "training_lists": json.dumps(_training_lists(method)),
    }


def _decode_range(method: nn.Module, scale: float) -> dict[str, str]:
    """Nearest and farthest depth that the network can predict, in the unit of the output."""
    names = ("min_depth", "max_depth")
    if not all(hasattr(method, name) for name in names):
        return {}
    return {name: repr(float(getattr(method, name)) * scale) for name in names}


def _camera_rule(cameras: int) -> str:
    if cameras == 1:
        return "each image by itself"
    return f"B is a multiple of {cameras}: all cameras of a frame set in ring order, camera fastest"


def _intrinsics_rule(method: nn.Module) -> str:
    rule = f"second input (B, 3, 3), {PLACE}"
    if (focal_scale := getattr(method, "focal_scale", None)) is None:
        return rule
    return f"{rule}; depth is multiplied by fx / {focal_scale:g}, and min_depth and max_depth hold at that fx"


def _licence(options: Mapping[str, Any]) -> str:
    """The terms of the weights, as far as the options tell them; they do not tell a licence."""
    name, _ = trained_on(options)
    known = f"trained on {name}" if options.get("dataset") else "training data unknown"
    if options.get("weights_init") == "pretrained" and not options.get("depth_network"):
        known += " from ImageNet weights"
    return f"not stated; {known}, whose terms apply"


def _training_lists(method: nn.Module) -> list[dict[str, Any]]:
    """Dataset, number of frames and hash of each training list that the checkpoint holds."""
    records = getattr(method, "training_data", None) or ()
    return [{key: record.get(key) for key in ("dataset", "frames", "hash")} for record in records]
