"""A pretrained network on unlabelled video: its own pseudo-depth, LoRA, photometric loss, prediction."""

import shutil

import pytest
import torch
from PIL import Image

import test_simple
from predictor import load_predictor
from tests import runs
from tools import pseudo_depth

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORK = {
    "depth_network": "dpt",
    "depth_network.encoder": "test_vit",
    "depth_network.width": 8,
    "depth_network.tokens": "{blocks: [0, 1, 2, 3]}",
}


def words(data, log_dir, **settings):
    options = {
        **NETWORK,
        "pose_model_type": "separate_resnet",
        "pose_encoder": "resnet10t",
        "batch_size": 2,
        "max_steps": 2,
        "num_epochs": 1,
        **settings,
    }
    return runs.arguments(data, log_dir, **options)


def test_a_network_is_adapted_with_its_own_pseudo_depth(tiny_folder, tmp_path):
    pytest.importorskip("peft")
    scene = tmp_path / "video/scene"
    shutil.copytree(tiny_folder, scene)
    first = runs.train(words(tmp_path / "video", tmp_path / "first", max_steps=1)).method.state_dict()
    before = tmp_path / "first/run"
    flags = ["--data_path", str(tmp_path / "video"), "--model", str(before), "--workers", "1", "--no_cuda"]
    pseudo_depth.main(flags)
    with Image.open(scene / "leres_depth/001.png") as image:
        assert image.size == (96, 64)
    start = {"load_weights_folder": before, "models_to_load": "depth", "losses.mask_ranking.from_epoch": 0}
    v3 = {"method": "sc_depth", "method.version": "v3", "dataset.pseudo_depth": "true"}
    v3["depth_network.lora_rank"] = 2
    trained = runs.train(words(tmp_path / "video", tmp_path / "second", **start, **v3)).method
    after = trained.state_dict()
    factors = [key for key in after if ".lora_B." in key]
    assert factors and all(after[key].abs().max() > 0 for key in factors)
    frozen = [key for key in first if key.startswith("depth.encoder.encoder.") and ".attn." not in key]
    assert frozen and all(torch.equal(after[key], first[key]) for key in frozen)
    # The file holds all that prediction needs, whatever became of the network it started from.
    shutil.rmtree(tmp_path / "first")
    saved = load_predictor(tmp_path / "second/run", "cpu")
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = trained.eval().predict_depth(image)
        assert torch.allclose(saved.method.predict_depth(image), expected, rtol=1e-4)
    run = ["--run", str(tmp_path / "second/run"), "--image_path", str(scene / "001.png"), "--no_cuda"]
    test_simple.main([*run, "--output", str(tmp_path / "out"), "--save_npy"])
    assert list((tmp_path / "out").glob("001*.npy"))
