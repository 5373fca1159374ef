"""Pseudo-depth by a network of ours, ONNX, transformers and torch.hub: written once, with its convention."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.folder import Folder
from predictor import load_predictor
from tests.tiny_models import save_run
from tools.pseudo_depth import main
from utils import InputError

HUB = """
import torch
dependencies = ["torch"]

class Mean(torch.nn.Module):
    def forward(self, images):
        return {"predicted_depth": 1 + images.mean(1)}

def mean():
    return Mean()
"""


@pytest.fixture
def scenes(tiny_folder, tmp_path):
    """Two scenes, of 4 and 2 images of 64 x 96."""
    for name, count in (("a", 4), ("b", 2)):
        (tmp_path / "scenes" / name).mkdir(parents=True)
        for number in range(count):
            shutil.copy(tiny_folder / f"{number:03d}.png", tmp_path / "scenes" / name)
    shutil.copy(tiny_folder / "cam.txt", tmp_path / "scenes")
    return tmp_path / "scenes"


def run(scenes, model, *words):
    main(["--data_path", str(scenes), "--model", str(model), "--workers", "2", *map(str, words)])


def written(scenes, name="a/leres_depth/001.png"):
    with Image.open(scenes / name) as image:
        return np.array(image)


def grey(scenes, name="a/001.png"):
    """Mean of the channels in [0, 1]."""
    with Image.open(scenes / name) as image:
        return np.array(image).mean(2) / 255


def convention(scenes):
    return json.loads((scenes / "a/leres_depth/pseudo_depth.json").read_text())["settings"]


@pytest.fixture(params=[("batch", "height", "width"), (4, 64, 96)], ids=["free", "fixed"])
def tiny_onnx(tmp_path, request):
    """A network whose answer is 1 + the mean of the channels, of any batch and size or of fixed ones."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    constants = {"w": np.full((1, 3, 1, 1), 1 / 3, np.float32), "b": np.ones(1, np.float32)}
    batch, *sides = request.param
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w", "b"], ["depth"])],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, *sides])],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, [batch, 1, *sides])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "tiny.onnx"))
    return tmp_path / "tiny.onnx"


def save_transformers(kind, folder):
    """A depth model of Hugging Face transformers with random weights, as a folder of files."""
    transformers = pytest.importorskip("transformers")
    stages = {"out_features": [f"stage{number}" for number in range(1, 5)], "reshape_hidden_states": False}
    small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "patch_size": 14}
    vit = {**small, "image_size": 32, "patch_size": 16, "intermediate_size": 16}
    head = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
    processor = transformers.DPTImageProcessor(size={"height": 56, "width": 56}, ensure_multiple_of=14)
    torch.manual_seed(0)
    if kind == "depth_anything":
        backbone = transformers.Dinov2Config(**small, image_size=56, **stages)
        config = transformers.DepthAnythingConfig(
            backbone_config=backbone, reassemble_hidden_size=16, patch_size=14, head_hidden_size=8, **head
        )
        model = transformers.DepthAnythingForDepthEstimation(config)
    elif kind == "dpt":
        config = transformers.DPTConfig(**vit, backbone_out_indices=[0, 1, 2, 3], **head)
        model = transformers.DPTForDepthEstimation(config)
        processor = transformers.DPTImageProcessor(size={"height": 32, "width": 32})
    elif kind == "glpn":
        sizes = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4}
        model = transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**sizes, decoder_hidden_size=8))
        processor = transformers.GLPNImageProcessor()
    else:
        config = transformers.ZoeDepthConfig(
            backbone_config=transformers.BeitConfig(**vit, **stages), bottleneck_features=8,
            num_relative_features=8, num_attractors=[2, 2, 2, 1], bin_embedding_dim=8,
            patch_transformer_hidden_size=8, patch_transformer_intermediate_size=8,
            patch_transformer_num_attention_heads=2, **head,
        )  # fmt: skip
        model = transformers.ZoeDepthForDepthEstimation(config)
        processor = transformers.ZoeDepthImageProcessor(size={"height": 32, "width": 32})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_model_of_ours_writes_depth_of_every_image(scenes, tmp_path, capsys):
    model = save_run(tmp_path / "run")
    run(scenes, model)
    assert "wrote the pseudo-depth of 6 of 6 images (depth, " in (said := capsys.readouterr().out)
    assert "samples a second; 0 were there" in said
    values = written(scenes)
    depth = load_predictor(model)(scenes / "a/001.png")[0, 0].numpy()
    assert values.dtype == np.uint16 and values.shape == (64, 96) and values.max() == 65535
    assert np.abs(values - depth / depth.max() * 65535).max() < 1
    assert convention(scenes)["quantity"] == "depth" and len(convention(scenes)["model_version"]) == 16
    dataset = Folder(scenes, part="all", height=64, width=96, pseudo_depth=True)
    assert dataset[0].maps["pseudo_depth"].max() == 65535


def test_an_onnx_network_needs_its_quantity_and_size(scenes, tiny_onnx, request):
    words = ("--height", 64, "--width", 96, "--normalise", "none")
    with pytest.raises(
        InputError, match=r"does not tell what it predicts; add --predicts depth or --predicts"
    ):
        run(scenes, tiny_onnx, *words)
    if "free" in request.node.callspec.id:
        with pytest.raises(
            InputError, match=r"does not fix its input size; add --height and --width in pixel"
        ):
            run(scenes, tiny_onnx, "--predicts", "depth")
    else:
        with pytest.raises(InputError, match=r"takes images of height 64, got --height 32; leave it out"):
            run(scenes, tiny_onnx, "--predicts", "depth", "--height", 32)
        words = ("--normalise", "none")
    run(scenes, tiny_onnx, "--predicts", "inverse_depth", "--factor", 1000, *words)
    assert np.abs(written(scenes) - 1000 * (1 + grey(scenes))).max() <= 0.51
    assert convention(scenes)["quantity"] == "inverse_depth" and convention(scenes)["factor"] == 1000
    pseudo = Folder(scenes, part="all", height=64, width=96, pseudo_depth=True)[0].maps["pseudo_depth"]
    values = written(scenes).astype(np.float32)
    assert np.allclose(pseudo[0, 0].numpy(), values.max() / values)


@pytest.mark.parametrize(
    ("kind", "quantity"),
    [
        ("depth_anything", "inverse_depth"),
        ("dpt", "inverse_depth"),
        ("glpn", "depth"),
        ("zoedepth", "depth"),
    ],
)
def test_a_transformers_model_tells_its_quantity(scenes, tmp_path, capsys, kind, quantity):
    run(scenes, f"hf:{save_transformers(kind, tmp_path / 'hf')}")
    assert f"6 of 6 images ({quantity}, hf:" in capsys.readouterr().out
    assert written(scenes).shape == (64, 96) and written(scenes).max() == 65535
    assert convention(scenes)["quantity"] == quantity


def test_a_torch_hub_entry_of_a_local_folder(scenes, tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub/hubconf.py").write_text(HUB)
    words = ("--predicts", "depth", "--height", 64, "--width", 96, "--normalise", "none", "--factor", 2000)
    run(scenes, f"hub:{tmp_path / 'hub'}:mean", *words)
    assert np.abs(written(scenes) - 2000 * (1 + grey(scenes))).max() <= 0.51


def test_a_run_that_was_stopped_goes_on(scenes, tmp_path, capsys):
    model = save_run(tmp_path / "run")
    run(scenes, model, "--shard", "1/2")
    assert len(list(scenes.glob("*/leres_depth/*.png"))) == 3
    before = (scenes / "a/leres_depth/000.png").stat().st_mtime_ns
    run(scenes, model)
    assert (
        "wrote the pseudo-depth of 3 of 6 images" in (said := capsys.readouterr().out) and "; 3 were" in said
    )
    assert (scenes / "a/leres_depth/000.png").stat().st_mtime_ns == before


def test_files_of_another_origin_are_not_replaced_unasked(scenes, tmp_path, capsys):
    run(scenes, save_run(tmp_path / "run"))
    other = save_run(tmp_path / "other", disparity=0.3)
    with pytest.raises(
        InputError, match=r"000.png was made otherwise: model_version was .*; --overwrite replac"
    ):
        run(scenes, other)
    run(scenes, other, "--overwrite")
    assert "6 predictions are constant, such as that of " in capsys.readouterr().out
    Image.fromarray(np.full((64, 96), 7, np.uint16)).save(scenes / "b/leres_depth/000.png")
    with pytest.raises(InputError, match=r"b/leres_depth/000.png was not written by this tool; --overwrite"):
        run(scenes, other)


def test_other_datasets_need_a_folder_for_the_files(tiny_kitti, tmp_path):
    model = save_run(tmp_path / "run")
    words = ("--dataset", "kitti", "--split", tiny_kitti / "splits", "--part", "val")
    with pytest.raises(InputError, match=r"--dataset kitti needs --out FOLDER"):
        run(tiny_kitti, model, *words)
    run(tiny_kitti, model, *words, "--out", tmp_path / "out")
    files = [path.relative_to(tmp_path / "out").with_suffix("") for path in (tmp_path / "out").rglob("*.png")]
    assert len(files) == 3 and all((tiny_kitti / f"{file}.png").is_file() for file in files)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("hf:nobody/nothing", r"nobody/nothing cannot be loaded .* into a folder and give --model hf:FOLDER"),
        ("hub:MiDaS", "hub:MiDaS names no entry; type hub:REPOSITORY:ENTRY"),
        ("timm:vit", "timm has encoders and no depth networks"),
        ("nowhere.onnx", "there is no file nowhere.onnx"),
    ],
)
def test_a_model_that_is_not_there(scenes, model, sentence, monkeypatch):
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    pytest.importorskip("transformers")
    pytest.importorskip("onnxruntime")
    with pytest.raises(InputError, match=sentence):
        run(scenes, model, "--predicts", "depth")


def test_two_processes_of_torchrun_share_the_images(scenes, tmp_path, monkeypatch, capsys):
    model = save_run(tmp_path / "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        run(scenes, model)
    assert capsys.readouterr().out.count("wrote the pseudo-depth of 3 of 3 images") == 2
    assert len(list(scenes.glob("*/leres_depth/*.png"))) == 6 and not list(scenes.rglob("*.part"))
