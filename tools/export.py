"""Export a trained depth network to ONNX or torch.export, with the facts that its user must know.

    python tools/export.py --run runs/walk --to walk.onnx
    python tools/export.py --run runs/walk --to walk.onnx --dynamic batch size
    python tools/export.py --run runs/walk --to walk.pt2 --batch_size 4
    python tools/export.py --run runs/walk --to walk_int8.onnx --int8 --calibration walk/
    python tools/export.py --run runs/rig --to rig_int8.onnx --int8 --dataset ddad --data_path DDAD

The model is a run folder, a checkpoint or published weights. The file takes RGB images in [0, 1] at the
network's size and gives depth, in metres if the training fixed the scale. Normalisation, decoding and metric
scale are inside. A rig takes whole frame sets, and intrinsics as a second input if its depth follows the
focal length.

Every file is compared with torch before it is written. Its metadata hold unit, decode range, input size,
rules for intrinsics and cameras, licence, and hashes of the training lists: docs/export.md.

--int8 quantises weights and activations. Their ranges come from --calibration images, or from the training
part of the dataset at --data_path.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flags
from tools._options import place
from utils import InputError, run_main

if TYPE_CHECKING:
    from torch import Tensor

    from predictor import Predictor
    from tools._export_graph import DepthGraph, Request

SUFFIXES = (".onnx", ".pt2")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = flags.parse(build_parser(), arguments)
    check_arguments(given)
    from predictor import Predictor
    from tools._export_graph import DepthGraph, Request, check_sizes, describe

    if given.to.suffix == ".onnx":
        from tools._export_onnx import need

        for package in ("onnx", "onnxruntime"):
            need(package)
    predictor = Predictor(*flags.open_model(given, "cpu"))
    request = Request(given.output, tuple(given.dynamic), given.batch_size, given.input_depth, given.licence)
    graph = DepthGraph(predictor, request)
    facts = describe(predictor, graph, request)
    inputs = check_sizes(graph, request, predictor.height, predictor.width)
    write = write_onnx if given.to.suffix == ".onnx" else write_program
    worst = write(given, predictor, graph, request, facts, inputs)
    free = f", free {' and '.join(request.dynamic)}" if request.dynamic else ""
    print(
        f"wrote {given.to} ({given.to.stat().st_size / 2**20:.1f} MiB): {request.quantity} of "
        f"{predictor.height} x {predictor.width} images{free}; {facts['unit']}; {worst}"
    )


def write_onnx(
    given: argparse.Namespace,
    predictor: Predictor,
    graph: DepthGraph,
    request: Request,
    facts: dict[str, str],
    inputs: list[tuple[Tensor, ...]],
) -> str:
    """Write the .onnx file. Returns its difference from torch in words."""
    from tools._export_graph import require_equal
    from tools._export_onnx import compare, problems, save_model, to_onnx

    samples = calibration(given, predictor, graph) if given.int8 else []
    example = example_of(graph, request, predictor)
    model = to_onnx(graph, example, request.dynamic, request.quantity)
    worst = compare(model, graph, inputs)
    require_equal(worst, given.to)
    said = f"relative difference from torch at most {worst:.1e}"
    if given.int8:
        from tools._export_int8 import median_difference, quantise

        float32, model = model, quantise(model, samples, given.to)
        facts["precision"] = "int8, decoded in float32"
        median = median_difference(float32, model, samples)
        said = f"median relative difference of int8 from float32 {median:.1%}"
    if found := problems(model):
        print(f"TensorRT may refuse this graph: {'; '.join(found[:5])}")
    save_model(model, given.to, facts)
    return said


def write_program(
    given: argparse.Namespace,
    predictor: Predictor,
    graph: DepthGraph,
    request: Request,
    facts: dict[str, str],
    inputs: list[tuple[Tensor, ...]],
) -> str:
    """Write the .pt2 file. Returns its difference from torch in words."""
    import torch

    from tools._export_graph import difference, require_equal, save_program, trace

    example = example_of(graph, request, predictor)
    program = trace(graph, example, request.dynamic)
    with torch.no_grad():
        worst = max(difference(program.module()(*one), graph(*one)) for one in inputs)
    require_equal(worst, given.to)
    save_program(program, given.to, facts)
    return f"relative difference from torch at most {worst:.1e}"


def example_of(graph: DepthGraph, request: Request, predictor: Predictor) -> tuple[Tensor, ...]:
    """Inputs that a graph is recorded with; a free batch is recorded with two images."""
    return graph.example(max(request.batch, 2 if "batch" in request.dynamic else 1), *size(predictor))


def calibration(
    given: argparse.Namespace, predictor: Predictor, graph: DepthGraph
) -> list[tuple[Tensor, ...]]:
    """Inputs that give the ranges of the activations."""
    from tools._export_int8 import calibration_images, calibration_samples

    if given.calibration and len(graph.inputs) > 1:
        raise InputError(
            f"this model also reads {graph.inputs[1]}, which images do not hold; give its dataset with "
            "--data_path instead of --calibration"
        )
    if given.calibration and graph.cameras > 1:
        raise InputError("a rig is calibrated by its dataset; give --data_path instead of --calibration")
    if given.calibration:
        return calibration_images(predictor, given.calibration, given.batch_size)
    dataset = {"name": given.dataset, "data_path": given.data_path, **given.dataset_settings}
    return calibration_samples(predictor, graph, dataset, given.batch_size)


def size(predictor: Predictor) -> tuple[int, int]:
    """Height and width of the network's input, pixels."""
    return predictor.height, predictor.width


def check_arguments(given: argparse.Namespace) -> None:
    """Refuse contradictory flags before anything is read."""
    flags.model_path(given)
    if given.to.suffix not in SUFFIXES:
        raise InputError(f"--to must end in .onnx or .pt2, got {given.to}; try --to {given.to.stem}.onnx")
    if given.int8 and given.to.suffix != ".onnx":
        raise InputError(f"--int8 needs a file in ONNX, got --to {given.to}; try --to {given.to.stem}.onnx")
    if given.int8 and bool(given.calibration) == bool(given.data_path):
        raise InputError(
            "--int8 takes the ranges of activations from images: add --calibration IMAGES, or --data_path "
            "FOLDER for the training part of a dataset"
        )
    if given.calibration and not given.int8:
        raise InputError("--calibration is for --int8; add --int8, or leave it out")
    if "batch" in given.dynamic and given.batch_size != 1:
        raise InputError(f"--dynamic batch leaves the batch free; leave out --batch_size {given.batch_size}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = flags.new_parser("tools/export.py", __doc__, formatter_class=as_written)
    flags.add_model_flags(parser)
    group = parser.add_argument_group("the file")
    add = group.add_argument
    add("--to", type=place, required=True, metavar="FILE", help="file to write, .onnx or .pt2")
    add(
        "--output",
        choices=("depth", "inverse_depth"),
        default="depth",
        help="quantity of the output (default: depth)",
    )
    add(
        "--dynamic",
        nargs="+",
        choices=("batch", "size"),
        default=[],
        help="leave the batch or the size (multiples of 32 from 64 to 4096) free",
    )
    add(
        "--batch_size",
        type=flags.at_least(1),
        default=1,
        metavar="N",
        help="images of a fixed batch, or frame sets of a rig (default: 1)",
    )
    add("--input_depth", **flags.SWITCH, help="add an input depth that the network completes (packnet_san)")
    add("--licence", metavar="TEXT", help="terms of the weights, for the metadata")
    group = parser.add_argument_group("8-bit integers")
    group.add_argument("--int8", **flags.SWITCH, help="quantise weights and activations")
    group.add_argument("--calibration", nargs="+", metavar="IMAGES", help="images, folders or patterns")
    flags.add_dataset_flags(group)
    return parser


if __name__ == "__main__":
    run_main(main)
