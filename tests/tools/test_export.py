"""Exported depth networks: equal to torch, clean for TensorRT, with their facts, usable without our code."""

import dataclasses
import errno
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.exported import processor_time
from datasets.image_files import read_image
from datasets.synthetic import Camera, World
from methods import build_method
from networks import NETWORKS, hrnet
from networks._packing import Sizes
from predictor import Predictor, load_predictor
from tests.tiny_models import save_run
from tools import export
from tools.layouts._base import looking_ahead
from tools.small_model import SHIPPED
from utils import PROJECT, InputError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SIZE = {"height": 64, "width": 64, "weights_init": "scratch"}
MONO = {**SIZE, "method": "monodepth2", "num_layers": 18, "pose_model_type": "posecnn"}
BDEDEPTH = {**SIZE, "method": "bdedepth", "pose_model_type": "posecnn"}
PACKNET = {**MONO, "method": "packnet"}
SURROUND = {"name": "surround_depth", "cameras": 2, "blocks": 1, "heads": 2}
TOKENS = {"blocks": [0, 1, 2, 3], "readout": "project"}  # an export takes time for each block
DPT = {"name": "dpt", "encoder": "test_vit", "width": 16, "lora_rank": 2, "tokens": TOKENS}
CASES = {  # networks of networks/ → options of a model that has them
    "resnet depth_decoder": MONO,
    "depth_decoder_bilinear": {**SIZE, "method": "sc_depth", "num_layers": 18},
    "depth_decoder_slim": {**MONO, "decoder": "depth_decoder_slim"},
    "hrnet grid_decoder": BDEDEPTH,
    "resnet_context": {**BDEDEPTH, "encoder": "resnet18"},
    "timm context": {**BDEDEPTH, "encoder": "timm/test_efficientnet"},
    "refine_decoder": {**MONO, "decoder": "refine_decoder", "scales": [1, 2, 3, 4]},
    "split_decoder": {**SIZE, "method": "sgdepth", "num_layers": 18, "pose_model_type": "posecnn"},
    "cross_view": {**MONO, "method": SURROUND},
    "ray_surface": {**PACKNET, "depth_network": "ray_surface"},
    "packnet": {**PACKNET, "depth_network": "packnet", "min_depth": 0.5, "max_depth": math.inf},
    "packnet_slim": {**PACKNET, "depth_network": {"name": "packnet_slim", "version": "1B"}},
    "packnet_san": {**PACKNET, "depth_network": "packnet_san"},
    "sparse_encoder": {**PACKNET, "depth_network": "packnet_san"},
    "dpt vit dpt_decoder": {**MONO, "depth_network": DPT, "scales": [0]},
}
NO_DEPTH = {
    *("image_decoder", "pose_cnn", "pose_decoder", "packnet_pose", "packnet_pose_resnet", "rectifier"),
}
NARROW = Sizes((64, 64, 64, 64, 64, 64), depth=4)  # a PackNet's graph without its 77 million weights


@pytest.fixture
def narrow(monkeypatch):
    """Networks with every kind of part and few of each, since an export takes time for each node."""
    for name in ("packnet", "packnet_slim"):
        monkeypatch.setattr(NETWORKS.get(name), "sizes", NARROW)
    monkeypatch.setattr("networks.packnet_san.SLIM", NARROW)
    monkeypatch.setattr("networks._packing.RESIDUALS", (1, 1, 1, 1))
    stage = hrnet._stage
    monkeypatch.setattr(hrnet, "_stage", lambda channels, modules: stage(channels, modules=1))


def model_of(case, **request):
    """A predictor with random weights, the request and the graph."""
    from tools._export_graph import DepthGraph, Request

    if "dpt" in case:
        pytest.importorskip("peft")
    torch.manual_seed(0)
    predictor = Predictor(build_method(CASES[case]), CASES[case])
    wanted = Request(input_depth=case == "sparse_encoder", **request)
    return predictor, wanted, DepthGraph(predictor, wanted)


def exported(case, dynamic):
    """The ONNX model of a case, and its largest relative difference from torch."""
    from tools._export_graph import check_sizes
    from tools._export_onnx import compare, to_onnx

    _, request, graph = model_of(case, dynamic=dynamic)
    model = to_onnx(graph, graph.example(2 if dynamic else 1, 64, 64), dynamic, "depth")
    return model, compare(model, graph, check_sizes(graph, request, 64, 64))


def test_every_registered_network_is_exported_or_no_depth():
    assert {name for case in CASES for name in case.split()} | NO_DEPTH == set(NETWORKS.names())


@pytest.mark.parametrize("case", CASES)
def test_an_exported_network_equals_torch(case, narrow):
    from tools._export_onnx import problems

    model, worst = exported(case, ("batch", "size"))
    assert worst < 1e-4
    assert problems(model) == []
    sides = [side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 3, "height", "width"]


@pytest.mark.parametrize("case", ["resnet depth_decoder", "cross_view", "packnet_slim"])
def test_a_network_of_fixed_size_equals_torch(case, narrow):
    from tools._export_onnx import problems

    model, worst = exported(case, ())
    assert worst < 1e-4 and problems(model) == []
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == [2 if case == "cross_view" else 1, 3, 64, 64]


def test_the_exporter_of_older_torch_gives_the_same(monkeypatch):
    monkeypatch.setattr("tools._export_onnx.TRACED_BELOW", (999, 0))
    for dynamic in ((), ("batch", "size")):
        assert exported("resnet depth_decoder", dynamic)[1] < 1e-4


def test_what_tensorrt_refuses_is_named():
    from onnx import TensorProto, helper

    from tools._export_onnx import problems

    nodes = [
        helper.make_node("Unsqueeze", ["image", "axis"], ["five"]),
        helper.make_node("NonZero", ["image"], ["sites"]),
        helper.make_node("Pad", ["image", "border"], ["padded"]),
        helper.make_node("Patches", ["image"], ["patches"], domain="ours"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])
    border = helper.make_tensor_value_info("border", TensorProto.INT64, [8])
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    out = helper.make_tensor_value_info("padded", TensorProto.FLOAT, None)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ours", 1)]
    graph = helper.make_graph(nodes, "bad", [image, border], [out], [axis])
    said = "; ".join(problems(helper.make_model(graph, opset_imports=imports)))
    for phrase in ("5 axes (five)", "operator NonZero", "border is computed", "Patches of ours"):
        assert phrase in said


# ------------------------------------------------------------------------------------------------- the files


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A run whose depth is 20 m everywhere up to noise, its .onnx and .pt2 file, and the run's predictor."""
    folder = tmp_path_factory.mktemp("export")
    run = save_run(folder / "run", use_stereo=True)
    for name, words in (("a.onnx", ["--dynamic", "batch", "size"]), ("a.pt2", ["--output", "inverse_depth"])):
        export.main(["--run", str(run), "--to", str(folder / name), *words])
    return folder


def test_a_file_tells_what_its_user_must_know(files):
    from tools._export_onnx import open_session

    session = open_session((files / "a.onnx").read_bytes())
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["quantity"], facts["unit"], facts["metric"]) == ("depth", "metres", "true")
    assert float(facts["metric_scale"]) == pytest.approx(5.4)  # a stereo baseline of 0.1 for 0.54 m
    limits = [float(facts[name]) for name in ("min_depth", "max_depth")]
    assert limits == pytest.approx([0.54, 540])
    assert (facts["height"], facts["width"], facts["dynamic"]) == ("64", "96", "batch size")
    assert "not stated; training data unknown" in facts["licence"]
    assert json.loads(facts["training_lists"]) == []
    assert "(cx + 0.5) s - 0.5" in facts["intrinsics"]


def test_a_file_gives_the_predictors_depth(files, tiny_folder):
    from datasets.image_files import read_image
    from tools._export_onnx import open_session

    predictor = load_predictor(files / "run", "cpu")
    image = read_image(tiny_folder / "000.png")
    expected = 1 / predictor.inverse_depth([image])
    pixels = predictor.batch([image]).images[0].numpy()
    (depth,) = open_session((files / "a.onnx").read_bytes()).run(None, {"image": pixels})
    assert np.abs(depth / expected.numpy() - 1).max() < 1e-4


def test_a_pt2_file_needs_only_torch(files, tiny_folder):
    code = (
        "import json, sys, torch\nheld = {'parallax.json': ''}\n"
        "program = torch.export.load(sys.argv[1], extra_files=held)\n"
        "facts = json.loads(held['parallax.json'])\n"
        "image = torch.full((1, 3, int(facts['height']), int(facts['width'])), 0.5)\n"
        "print(facts['quantity'], facts['unit'], program.module()(image).mean().item())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(files / "a.pt2")], cwd=files, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    predictor = load_predictor(files / "run", "cpu")
    with torch.no_grad():
        depth = predictor.method.predict_depth(torch.full((1, 3, 64, 96), 0.5)) * predictor.metric_scale
    quantity, *unit, mean = done.stdout.split()
    assert (quantity, " ".join(unit)) == ("inverse_depth", "1 / metres")
    assert float(mean) == pytest.approx((1 / depth).mean().item(), rel=1e-4)


def test_the_program_of_the_page_runs_without_our_code(files, tiny_folder):
    page = (PROJECT / "docs/export.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(program.splitlines()) <= 30
    (files / "show.py").write_text(program)
    words = [sys.executable, "-I", "show.py", "a.onnx", str(tiny_folder / "000.png"), "shown.png"]
    done = subprocess.run(words, cwd=files, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "(metres)" in done.stdout
    depth = load_predictor(files / "run", "cpu")(tiny_folder / "000.png")
    median = float(re.search(r"median ([\d.]+)", done.stdout)[1])
    assert median == pytest.approx(depth.median().item(), rel=0.02)
    with Image.open(files / "shown.png") as shown:
        assert shown.size == (96, 64)


def test_pseudo_depth_reads_an_exported_file(files, tiny_folder, tmp_path):
    from tools import pseudo_depth

    (tmp_path / "scene").mkdir()
    for name in ("000.png", "001.png"):
        (tmp_path / "scene" / name).write_bytes((tiny_folder / name).read_bytes())
    (tmp_path / "cam.txt").write_bytes((tiny_folder / "cam.txt").read_bytes())
    words = ["--data_path", str(tmp_path), "--model", str(files / "a.onnx"), "--workers", "1"]
    with pytest.raises(InputError, match=r"a\.onnx predicts depth; leave out --predicts inverse_depth"):
        pseudo_depth.main([*words, "--predicts", "inverse_depth"])
    pseudo_depth.main([*words, "--factor", "100"])
    with Image.open(tmp_path / "scene/leres_depth/001.png") as image:
        written = np.array(image)
    depth = load_predictor(files / "run", "cpu")(tiny_folder / "001.png")[0, 0].numpy()
    assert np.abs(written - np.minimum(100 * depth, 65535)).max() <= 1 + 1e-3 * 100 * depth.max()


def test_int8_keeps_depth_and_decodes_in_float32(files, tiny_folder, tmp_path, capsys):
    import onnx

    words = ["--run", str(files / "run"), "--to", str(tmp_path / "a.onnx"), "--int8"]
    export.main([*words, "--calibration", str(tiny_folder)])
    assert float(re.search(r"of int8 from float32 ([\d.]+)%", capsys.readouterr().out)[1]) < 5
    model = onnx.load(str(tmp_path / "a.onnx"))
    assert (tmp_path / "a.onnx").stat().st_size < 0.35 * (files / "a.onnx").stat().st_size
    consumers = {name: node.op_type for node in model.graph.node for name in node.input}
    assert sum(node.op_type == "QuantizeLinear" for node in model.graph.node) > 20
    assert "Sigmoid" in consumers.values()
    last = model.graph.node[-1]
    assert last.op_type not in ("DequantizeLinear", "QuantizeLinear")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["precision"].startswith("int8") and facts["unit"] == "metres"


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """Rendered streets that no model was trained on: a folder of images, and their ground truth in metres."""
    folder, depths = tmp_path_factory.mktemp("streets"), []
    for seed in range(900_000, 900_012):
        world = World(seed)
        pose = world.ego_pose(0.5) @ looking_ahead(0, 0, 1.65)
        view = world.render(Camera.like_kitti(128, 192), pose, 0.5)
        Image.fromarray(view.image).save(folder / f"{seed}.png")
        depths.append(view.depth)
    return folder, depths


def test_int8_of_the_shipped_model_is_as_good_and_faster(streets, tmp_path):
    """abs_rel within 2 % of PyTorch's, and not more processor time for an image."""
    from tools._export_onnx import open_session

    folder, depths = streets
    file = tmp_path / "small.onnx"
    words = ["--run", str(SHIPPED.parent), "--to", str(file), "--int8", "--calibration", str(folder)]
    export.main(words)
    session, predictor = open_session(file.read_bytes(), threads=1), load_predictor(SHIPPED.parent, "cpu")
    pixels = [predictor.batch([read_image(path)]).images[0] for path in sorted(folder.glob("*.png"))]
    models = {
        "torch": torch.no_grad()(predictor.method.predict_depth),
        "int8": lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0]),
    }
    errors = {
        name: np.mean([abs_rel(model(image)[0, 0].numpy(), depth) for image, depth in zip(pixels, depths)])
        for name, model in models.items()
    }
    assert errors["int8"] == pytest.approx(errors["torch"], rel=0.02)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = {name: processor_time(lambda m=model: m(pixels[0]), 9) for name, model in models.items()}
    finally:
        torch.set_num_threads(threads)
    assert times["int8"] <= times["torch"]


def abs_rel(predicted, depth):
    """abs_rel of a prediction that is aligned by its median; ground truth is 0 in the sky."""
    known = depth > 0
    aligned = predicted[known] * np.median(depth[known]) / np.median(predicted[known])
    return np.mean(np.abs(aligned - depth[known]) / depth[known])


def test_training_lists_and_licence_are_in_the_facts():
    from tools._export_graph import describe

    predictor, request, graph = model_of("cross_view")
    record = {"dataset": "ddad", "frames": 7, "hash": "abc", "lines": b"..."}
    predictor.method.training_data = [record]
    facts = describe(predictor, graph, dataclasses.replace(request, licence="CC0"))
    assert facts["licence"] == "CC0"
    assert json.loads(facts["training_lists"]) == [{"dataset": "ddad", "frames": 7, "hash": "abc"}]
    assert facts["cameras"] == "2" and "multiple of 2" in facts["camera_rule"]
    assert "depth is multiplied by fx / 500" in facts["intrinsics"]


# ------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "a.tflite"], r"--to must end in \.onnx or \.pt2, got a\.tflite; try --to a\.onnx"),
        (["--to", "a.pt2", "--int8"], r"--int8 needs a file in ONNX, got --to a\.pt2"),
        (["--to", "a.onnx", "--int8"], r"add --calibration IMAGES, or --data_path"),
        (["--to", "a.onnx", "--calibration", "x"], r"--calibration is for --int8; add --int8"),
        (["--to", "a.onnx", "--dynamic", "batch", "--batch_size", "2"], r"leave out --batch_size 2"),
        (["--to", "a.onnx", "--input_depth"], r"this model reads no input depth, as packnet_san does"),
        (["--to", "a.onnx", "--height", "100"], r"--height must be a multiple of 32, got 100"),
    ],
)
def test_a_wrong_request_is_refused(files, words, sentence):
    with pytest.raises(InputError, match=sentence):
        export.main(["--run", str(files / "run"), *words])


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(files, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"export to ONNX needs {package}; type pip install onnx onnxscript"):
        export.main(["--run", str(files / "run"), "--to", str(tmp_path / "a.onnx")])


def test_a_network_of_fixed_size_refuses_a_dynamic_one(monkeypatch):
    from tools._export_graph import trace

    _, _, graph = model_of("resnet depth_decoder")
    monkeypatch.setattr(graph, "forward", lambda image: image.view(2, 3, 64, 64).mean(1, keepdim=True))
    with pytest.raises(InputError, match=r"cannot be exported with --dynamic size \(.*\); leave --dynamic"):
        trace(graph, graph.example(2, 64, 64), ("size",))


def test_a_graph_that_differs_is_not_written(files, tmp_path, monkeypatch):
    monkeypatch.setattr("tools._export_graph.TOLERANCE", -1.0)
    with pytest.raises(InputError, match=r"a\.pt2 is not written: its relative difference from torch"):
        export.main(["--run", str(files / "run"), "--to", str(tmp_path / "a.pt2")])
    assert not (tmp_path / "a.pt2").exists()


def test_a_full_disk_keeps_the_earlier_file(files, tmp_path, monkeypatch):
    import onnx

    from tools._export_onnx import save_model

    path = tmp_path / "a.onnx"
    path.write_text("earlier")

    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    model = onnx.load(str(files / "a.onnx"))
    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match=r"the disk is full.*the earlier a\.onnx is untouched"):
        save_model(model, path, {})
    assert path.read_text() == "earlier" and [item.name for item in tmp_path.iterdir()] == ["a.onnx"]
