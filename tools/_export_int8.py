"""An ONNX model with 8-bit integers: ranges of all activations from calibration images, weights per channel.

The last convolution before the output and everything after it stay in float32: depth is decoded from a
sigmoid, and 256 steps of a value between 0.1 and 100 m would be far too coarse.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datasets import open_dataset
from datasets.image_files import read_image
from files import explained
from predictor import Predictor, find_images
from structures import Batch
from tools._export_graph import DepthGraph
from tools._export_onnx import need, run_model
from utils import InputError

if TYPE_CHECKING:
    from onnx import ModelProto

COUNT = 32  # calibration samples; more change ranges little and take memory
QUANTISED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Concat", "MaxPool", "Resize", "Pad", "Relu")


def calibration_images(predictor: Predictor, paths: Sequence[str], batch: int) -> list[tuple[Tensor, ...]]:
    """Inputs of a graph from image files, at most COUNT images, evenly spaced.

    Args:
        predictor: a model of one camera.
        paths: images, folders or patterns.
        batch: images of one input.

    Raises:
        InputError: no image, or fewer than a batch.
    """
    files = _spread(find_images(paths))
    images = [predictor.batch([read_image(file)]).images[0] for file in files]
    return _batches([(image,) for image in images], batch, "images")


def calibration_samples(
    predictor: Predictor, graph: DepthGraph, given: dict[str, Any], batch: int
) -> list[tuple[Tensor, ...]]:
    """Inputs of a graph from the training part of a dataset, at most COUNT samples, evenly spaced.

    Args:
        given: data_path, and name and further settings of the dataset if they differ from the training's.
        batch: samples of one input.

    Raises:
        InputError: an error of the dataset, an input that it does not have, or fewer samples than a batch.
    """
    sizes = {"height": predictor.height, "width": predictor.width, "resize": predictor.resize}
    dataset = open_dataset({**predictor.options, **sizes}, "predict", **{"part": "train", **given})
    found = []
    for index in _spread(range(len(dataset))):
        sample = Batch.cat([dataset[index]]).to("cpu")
        values = {"image": sample.images[0], "intrinsics": sample.intrinsics, **sample.maps}
        if missing := [name for name in graph.inputs if values.get(name) is None]:
            raise InputError(f"the dataset gives no {missing[0]}, an input of the model; add its setting")
        found.append(tuple(values[name].float() for name in graph.inputs))
    return _batches(found, batch, "samples")


def quantise(model: ModelProto, samples: Sequence[tuple[Tensor, ...]], path: Path) -> ModelProto:
    """The model with 8-bit weights and activations (QDQ form, which TensorRT reads as well).

    Args:
        model: float32.
        samples: calibration inputs.
        path: the file that is written, for an error.

    Raises:
        InputError: a package is missing, or the temporary files cannot be written.
    """
    onnx = need("onnx")
    need("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [entry.name for entry in model.graph.input]

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left: Iterator[tuple[Tensor, ...]] = iter(samples)

        def get_next(self) -> dict[str, Any] | None:
            one = next(self.left, None)
            return None if one is None else {name: value.numpy() for name, value in zip(names, one)}

    with tempfile.TemporaryDirectory(prefix="parallax-export-") as folder, explained(path):
        plain, prepared, out = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "prepared", "int8"))
        onnx.save(model, plain)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quant_pre_process(plain, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                out,
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=True,  # 7 bits; CPUs without VNNI add products of 8 bits in 16, which overflows
                nodes_to_exclude=_decoding(onnx.load(prepared)),
            )
        return onnx.load(out)


def median_difference(float32: ModelProto, int8: ModelProto, samples: Sequence[tuple[Tensor, ...]]) -> float:
    """Median relative difference of two models over all pixels of some inputs."""
    pairs = zip(run_model(int8, samples), run_model(float32, samples))
    return torch.cat([(found / known - 1).abs().flatten() for found, known in pairs]).median().item()


def _decoding(model: ModelProto) -> list[str]:
    """Names of the nodes after the last convolutions, and of these."""
    producer = {name: node for node in model.graph.node for name in node.output}
    todo, found = [value.name for value in model.graph.output], {}
    while todo:
        node = producer.get(todo.pop())
        if node is None or node.name in found:
            continue
        found[node.name] = node
        if node.op_type != "Conv":
            todo += node.input
    return list(found)


def _spread(items: Sequence[Any]) -> list[Any]:
    """At most COUNT items, evenly spaced."""
    steps = torch.linspace(0, len(items) - 1, min(COUNT, len(items))).round().int().tolist()
    return [items[step] for step in steps] if len(items) else []


def _batches(samples: list[tuple[Tensor, ...]], batch: int, what: str) -> list[tuple[Tensor, ...]]:
    """Samples joined to batches; an incomplete last batch is left out."""
    if len(samples) < batch:
        raise InputError(f"calibration needs {batch} {what} for one batch, got {len(samples)}")
    groups = [samples[n : n + batch] for n in range(0, len(samples) - batch + 1, batch)]
    return [tuple(torch.cat(parts) for parts in zip(*group)) for group in groups]
