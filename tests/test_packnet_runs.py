"""Every config of PackNet-SfM trains two steps, is evaluated and predicts; published configs parse.

The configs are as they stand, on drawn data of 64 x 96 pixels. The PackNets are built with 16 channels
instead of up to 512: 128 million parameters would take minutes.
"""

import json
import shlex
import shutil

import numpy as np
import pytest
import torch
import yaml

import checkpoints
import evaluate_depth
import test_simple
from methods import build_method
from methods.packnet import PackNet
from networks import packnet, packnet_san
from networks._packing import Sizes
from options import parse
from predictor import load_predictor
from tests.runs import records, train
from tests.test_packnet_configs import PUBLISHED, changed
from utils import PROJECT

CONFIGS = sorted(path.stem for path in (PROJECT / "configs").glob("packnet_*.yaml"))
TINY = Sizes((16,) * 6, depth=4)
TERMS = {  # config: its loss terms, if they are not only photometric and smoothness
    "packnet_kitti_semisup": {"photometric", "smoothness", "supervised_depth"},
    "packnet_kitti_velsup": {"photometric", "smoothness", "velocity"},
    "packnet_kitti_velsup_1280x384": {"photometric", "smoothness", "velocity"},
    "packnet_san_ddad": {"supervised_depth", "supervised_completion", "feature_gap"},
    "packnet_san_kitti": {"supervised_depth", "supervised_completion", "feature_gap"},
}


@pytest.fixture
def tiny_packnets(monkeypatch):
    for cls in (packnet.PackNet, packnet.PackNetSlim):
        monkeypatch.setattr(cls, "sizes", TINY)
    monkeypatch.setattr(packnet_san, "SLIM", TINY)


@pytest.fixture(scope="module")
def trees(tiny_kitti, tiny_ddad, tiny_folder, tmp_path_factory):
    """Copies, since evaluation exports ground truth into them."""
    root = tmp_path_factory.mktemp("trees")
    found = {"kitti": tiny_kitti, "ddad": tiny_ddad, "folder": tiny_folder}
    return {name: shutil.copytree(path, root / name) for name, path in found.items()}


def words(config: str, trees: dict, log_dir) -> list[str]:
    """The command line of a config on the drawn data of its dataset."""
    name = parse(["--config", config]).dataset["name"]
    settings = {
        "data_path": trees[name],
        "log_dir": log_dir,
        "model_name": "run",
        "weights_init": "scratch",
        "height": 64,
        "width": 96,
        "batch_size": 1 if name == "ddad" else 2,
        "max_steps": 2,
        "num_val": 2,
        "num_workers": 0,
        "device": "cpu",
    }
    if name == "kitti":
        settings["split"] = trees[name] / "splits"
        if "san_kitti" in config:  # the published window is larger than drawn images
            settings["dataset.crop_borders"] = "[-56, 0, 0.5, 80]"
    return [
        "--config",
        config,
        *(word for key, value in settings.items() for word in (f"--{key}", str(value))),
    ]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_trains_is_evaluated_and_predicts(name, trees, tmp_path, tiny_packnets, capsys):
    line = words(str(PROJECT / f"configs/{name}.yaml"), trees, tmp_path)
    trainer = train(line)
    assert trainer.progress.step == 2
    step = next(record for record in records(tmp_path) if "learning_rate" in record)
    assert TERMS.get(name, {"photometric", "smoothness"}) <= set(step)
    assert "photometric" in step or "photometric" not in TERMS[name]
    run = ["--run", str(tmp_path / "run"), "--device", "cpu"]
    if trainer.options.dataset["name"] != "folder":  # the drawn folder has no ground truth
        data = ["--data_path", trainer.options.data_path, "--num_workers", "0"]
        data += ["--eval_split", trainer.options.split] if trainer.options.split else []
        evaluate_depth.main([*run, *data, "--output", str(tmp_path / "out")])
        results = json.loads(next((tmp_path / "out").rglob("results.json")).read_text())
        assert "abs_rel" in json.dumps(results)
    image = sorted(trees["folder"].glob("*.png"))[0]
    test_simple.main([*run, "--image_path", str(image), "--save_npy", "--output", str(tmp_path / "depth")])
    depth = np.load(next((tmp_path / "depth").rglob("*_depth.npy")))
    assert depth.shape[-2:] == (64, 96) and (depth > 0).all()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_is_a_run_of_ours(name, trees, tmp_path):
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(PUBLISHED[name]))
    options = parse(["--config", str(path), "--device", "cpu"])
    assert options.method == {"name": "packnet", "published": True}
    assert options.max_depth == (
        100 if "pose_encoder" in vars(options) and options.pose_encoder else float("inf")
    )


def test_completion_model_without_input_depth_trains_prediction(trees, tmp_path, tiny_packnets):
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump(PUBLISHED["train_packnet_san_ddad"]))
    trainer = train(words(str(path), trees, tmp_path))
    frozen = [name for name, value in trainer.method.named_parameters() if not value.requires_grad]
    assert trainer.progress.step == 2 and any("mconvs" in name for name in frozen)


@pytest.mark.parametrize("model", ["VelSupModel", "SemiSupModel"])
def test_models_that_could_not_be_built_train_here(model, trees, tmp_path, tiny_packnets):
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump(changed("train_kitti", "model.name", model)))
    assert train(words(str(path), trees, tmp_path)).progress.step == 2


COMBINED = {
    "views": (
        "packnet_san_kitti",
        "--frame_ids 0 -1 1 --losses.photometric.weight 1 "
        "--views.local_crop true --views.patch_reshuffle true",
    ),
    "rig": ("packnet_ddad_selfsup", "--method surround_depth --method.blocks 0 --method.cameras 2"),
    "sc_depth": ("packnet_kitti_selfsup", "--method sc_depth --scales 0 --pose_model_type separate_resnet"),
}


@pytest.mark.parametrize("name", COMBINED)
def test_a_packnet_trains_under_other_methods(name, trees, tmp_path, tiny_packnets):
    config, flags = COMBINED[name]
    line = words(str(PROJECT / f"configs/{config}.yaml"), trees, tmp_path)
    if name == "rig":
        line += ["--dataset.camera_names", "[front, front_left]"]
    trainer = train([*line, *shlex.split(flags)])
    assert trainer.progress.step == 2
    assert type(trainer.method.depth).__name__.startswith("PackNet")


def test_completion_is_evaluated_with_and_without_its_input(trees, tmp_path, tiny_packnets, capsys):
    line = words(str(PROJECT / "configs/packnet_san_kitti.yaml"), trees, tmp_path)
    train([*line, "--dataset.keep_points", "100"])
    run = ["--run", str(tmp_path / "run"), "--device", "cpu", "--num_workers", "0"]
    run += ["--data_path", str(trees["kitti"]), "--eval_split", str(trees["kitti"] / "splits")]
    found = []
    for setting in ([], ["--dataset.input_depth", "false"]):
        out = tmp_path / f"out{len(found)}"
        evaluate_depth.main([*run, *setting, "--output", str(out)])
        found.append(json.loads(next(out.rglob("results.json")).read_text()))
    assert json.dumps(found[0]) != json.dumps(found[1])
    assert capsys.readouterr().out.count("velodyne, 100 points") == 1


@pytest.mark.parametrize("completion", [True, False])
def test_a_published_file_predicts(trees, tmp_path, tiny_packnets, completion, monkeypatch):
    """A file in the published layout, with only a depth network (PackNet-SAN) or also a pose network."""
    monkeypatch.setattr(checkpoints.packnet, "_WIDTHS", {16: "packnet_slim"})
    monkeypatch.setattr(checkpoints.packnet, "_VERSIONS", {32: "1A"})
    name = "packnet_san" if completion else "packnet_slim"
    options = {"method": "packnet", "depth_network": {"name": name}, "height": 64, "width": 96}
    options |= {"weights_init": "scratch", "min_depth": 0.5, "max_depth": float("inf")}
    pose = {} if completion else {"pose_model_type": "packnet_pose"}
    method = build_method({**options, **pose}).eval()
    weights = {key: value for key, value in method.state_dict().items() if key[:5] == "depth" or pose}
    path = tmp_path / "published.ckpt"
    checkpoints.packnet.write_packnet(path, checkpoints.Checkpoint(weights, {**options, **pose}))
    predictor = load_predictor(path, "cpu")
    images = torch.randint(0, 255, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        expected = method.predict_depth(images.float() / 255)
    assert torch.allclose(predictor(images), expected, rtol=1e-4)
    assert isinstance(predictor.method, PackNet)
