"""ONNX files: written by torch's exporter, compared with torch by onnxruntime, inspected for TensorRT.

torch from 2.6 on exports what `torch.export` recorded and needs onnxscript; older ones export a TorchScript
trace. Both give opset 18.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from files import writing
from networks import planar
from shards import own_cores
from tools._export_graph import DYNAMIC, DepthGraph, difference, trace
from utils import InputError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPSET = 18
TRACED_BELOW = (2, 6)  # versions of torch whose exporter reads a TorchScript trace
LIMIT = 2**31 - 2**20  # bytes of one protobuf message, with room for the graph
MOST_AXES = 4
# Operators that TensorRT does not take, or takes slowly: writes by index, loops, patches, a group norm whose
# meaning changed between opsets.
AVOIDED = (
    *("ScatterND", "ScatterElements", "Scatter", "GatherND", "NonZero", "Col2Im", "Loop", "If", "Scan"),
    *("GroupNormalization", "SequenceConstruct", "SequenceAt", "Unique", "Compress"),
)


def need(package: str) -> ModuleType:
    """A package of the extra `onnx`.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise InputError(
            f"export to ONNX needs {package}; type pip install onnx onnxscript onnxruntime"
        ) from None


def to_onnx(
    graph: DepthGraph, example: tuple[Tensor, ...], dynamic: Sequence[str], quantity: str
) -> ModelProto:
    """The graph as an ONNX model, checked by onnx.

    Args:
        example: inputs; their sizes are those of the model where it is not dynamic.
        dynamic: free dimensions, from `batch` and `size`.
        quantity: name of the output.

    Raises:
        InputError: a missing package, a network that cannot be exported, or one above 2 GiB.
    """
    onnx = need("onnx")
    if (held := sum(p.numel() * p.element_size() for p in graph.state_dict().values())) > LIMIT:
        raise InputError(
            f"the network has {held / 2**30:.1f} GiB and an ONNX file holds 2 GiB; export to a .pt2 file"
        )
    traced = _torch_version() < TRACED_BELOW
    model = (_traced if traced else _exported)(graph, example, dynamic, quantity)
    _name_axes(model, dynamic)
    onnx.checker.check_model(model)
    return model


def _exported(
    graph: DepthGraph, example: tuple[Tensor, ...], dynamic: Sequence[str], quantity: str
) -> ModelProto:
    need("onnxscript")
    program = trace(graph, example, dynamic)
    settings = {"input_names": list(graph.inputs), "output_names": [quantity], "opset_version": OPSET}
    with _quietly():
        try:
            return torch.onnx.export(program, **settings, dynamo=True, verbose=False).model_proto
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).strip().partition("\n")[0]
            raise InputError(
                f"this network cannot be exported to ONNX ({reason}); export to a .pt2 file instead"
            ) from error


def _traced(
    graph: DepthGraph, example: tuple[Tensor, ...], dynamic: Sequence[str], quantity: str
) -> ModelProto:
    """The exporter of torch before 2.6."""
    free = [*([0] if "batch" in dynamic else []), *([2, 3] if "size" in dynamic else [])]
    axes = {name: {a: f"{name}_{a}" for a in free if name != "intrinsics" or not a} for name in graph.inputs}
    axes[quantity] = {axis: f"{quantity}_{axis}" for axis in free}
    chosen = {"dynamo": False} if _torch_version() >= (2, 5) else {}
    held = io.BytesIO()
    with _quietly(), torch.no_grad(), planar(graph):
        torch.onnx.export(
            graph, example, held, input_names=list(graph.inputs), output_names=[quantity],
            opset_version=OPSET, dynamic_axes=axes if dynamic else None, **chosen,
        )  # fmt: skip
    return need("onnx").load_from_string(held.getvalue())


@contextlib.contextmanager
def _quietly() -> Any:
    """A block without the exporter's reports of its own steps."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _torch_version() -> tuple[int, int]:
    major, minor = re.match(r"(\d+)\.(\d+)", torch.__version__).groups()
    return int(major), int(minor)


def _name_axes(model: ModelProto, dynamic: Sequence[str]) -> None:
    """Name the free axes of inputs and outputs; drop the inner shapes, which repeat torch's symbols."""
    names = {0: "batch", 2: "height", 3: "width"}
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        for axis, side in enumerate(axes):
            wanted = DYNAMIC[0] if axis == 0 else DYNAMIC[1]
            if wanted in dynamic and axis in names and not side.HasField("dim_value"):
                side.dim_param = names[axis]
    del model.graph.value_info[:]


def save_model(model: ModelProto, path: Path, facts: Mapping[str, str]) -> None:
    """Write an .onnx file with its facts as metadata, whole or not at all.

    Raises:
        InputError: the file cannot be written, and why.
    """
    del model.metadata_props[:]
    need("onnx").helper.set_model_props(model, dict(facts))
    model.producer_name = "parallax"
    with writing(path) as temporary:
        temporary.write_bytes(model.SerializeToString())


# ---------------------------------------------------------------------------------------------- comparison


def run_model(model: ModelProto | bytes, inputs: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    """The maps of a model on inputs, by onnxruntime on the CPU."""
    session = open_session(model)
    names = [entry.name for entry in session.get_inputs()]
    return [
        torch.from_numpy(session.run(None, {n: x.numpy() for n, x in zip(names, one)})[0]) for one in inputs
    ]


def open_session(model: ModelProto | bytes, threads: int | None = None) -> Any:
    """A session of onnxruntime on the CPU.

    Raises:
        InputError: onnxruntime is missing.
    """
    onnxruntime = need("onnxruntime")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or own_cores()
    settings.log_severity_level = 3
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])


def compare(model: ModelProto, graph: DepthGraph, inputs: Sequence[tuple[Tensor, ...]]) -> float:
    """Largest relative difference of a model from torch on inputs."""
    with torch.no_grad():
        expected = [graph(*one) for one in inputs]
    return max(difference(found, known) for found, known in zip(run_model(model, inputs), expected))


# ---------------------------------------------------------------------------------------------- inspection


def problems(model: ModelProto) -> list[str]:
    """Parts of a model that TensorRT may refuse: one phrase each, [] if there are none."""
    found = [_node_problem(node) for node in model.graph.node]
    constants = _constants(model)
    found += [
        f"a Pad whose border is computed ({node.name})"
        for node in model.graph.node
        if node.op_type == "Pad" and node.input[1] not in constants
    ]
    found += [f"a tensor of {axes} axes ({name})" for name, axes in _axes(model).items() if axes > MOST_AXES]
    found += [f"float64 numbers ({name})" for name in _doubles(model)]
    return list(dict.fromkeys(filter(None, found)))


def _node_problem(node: NodeProto) -> str | None:
    if node.domain not in ("", "ai.onnx"):
        return f"the operator {node.op_type} of {node.domain}"
    return f"the operator {node.op_type}" if node.op_type in AVOIDED else None


def _constants(model: ModelProto) -> set[str]:
    stored = {value.name for value in model.graph.initializer}
    return stored | {node.output[0] for node in model.graph.node if node.op_type == "Constant"}


def _inferred(model: ModelProto) -> list[Any]:
    return list(need("onnx").shape_inference.infer_shapes(model).graph.value_info)


def _axes(model: ModelProto) -> dict[str, int]:
    stored = {value.name: len(value.dims) for value in model.graph.initializer}
    return stored | {value.name: len(value.type.tensor_type.shape.dim) for value in _inferred(model)}


def _doubles(model: ModelProto) -> list[str]:
    kind = need("onnx").TensorProto.DOUBLE
    stored = [value.name for value in model.graph.initializer if value.data_type == kind]
    return stored + [v.name for v in _inferred(model) if v.type.tensor_type.elem_type == kind]
