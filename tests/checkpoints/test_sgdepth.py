"""SGDepth's published folder: recognition, options from its keys, and no code that runs."""

import json
import os

import pytest
import torch

from checkpoints import load_checkpoint
from checkpoints.sgdepth import rename_sgdepth_key
from methods import load_method
from networks.split_decoder import SplitDecoder
from structures import Batch
from tests import goldens
from utils import InputError

CASE = "sgdepth_full_r18"
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def entries():
    return json.loads((goldens.FOLDER / f"{CASE}.keys.json").read_text())


def hollow(split=1):
    """The right keys and shapes for a split; each tensor is one zero repeated, a few bytes."""
    weights = {
        key: torch.zeros((), dtype=getattr(torch, kind)).expand(shape) for key, shape, kind in entries()
    }
    shared = range(max(2 * split - 1, 0))
    moved = {key: value for key, value in weights.items() if ".blocks.step_" not in key}
    for branch in ("common", "depth", "seg"):
        for k in range(10):
            if (k in shared) == (branch == "common"):
                source = "common" if k == 0 else "depth"
                for leaf in ("weight", "bias"):
                    moved[f"{branch}.decoder.blocks.step_{k}.conv.{leaf}"] = weights[
                        f"{source}.decoder.blocks.step_{k}.conv.{leaf}"
                    ]
    return moved


def save_folder(folder, weights, **files):
    folder.mkdir(parents=True)
    torch.save(weights, folder / "model.pth")
    for name, content in files.items():
        torch.save(content, folder / f"{name}.pth")
    return folder


@pytest.mark.parametrize("split", range(5))
def test_keys_and_shapes_determine_the_options(tmp_path, split):
    checkpoint = load_checkpoint(save_folder(tmp_path / "epoch_20", hollow(split)))
    assert checkpoint.layout == "sgdepth" and checkpoint.training is None
    options = checkpoint.options
    assert options["method"] == {"name": "sgdepth", "split_position": split, "classes": 20}
    assert (options["num_layers"], options["pose_encoder"]) == (18, "resnet18")
    assert (options["height"], options["width"], options["scales"]) == (192, 640, [0, 1, 2, 3])
    depth = {k.removeprefix("depth."): v for k, v in checkpoint.weights.items() if k.startswith("depth.")}
    expected = SplitDecoder((64, 64, 128, 256, 512), split_position=split).state_dict()
    assert {k: v.shape for k, v in depth.items()} == {k: v.shape for k, v in expected.items()}


def test_model_file_without_folder_is_enough(tmp_path):
    file = save_folder(tmp_path / "epoch_20", hollow()) / "model.pth"
    assert load_checkpoint(file).layout == "sgdepth"


def test_opt_json_two_folders_above_adds_size_and_range(tmp_path):
    folder = save_folder(tmp_path / "checkpoints" / "epoch_20", hollow())
    record = {"depth_resize_height": 320, "model_depth_max": 80.0, "depth_avg_reprojection": True}
    (tmp_path / "opt.json").write_text(json.dumps({**record, "experiment_class": "x"}))
    options = load_checkpoint(folder).options
    assert (options["height"], options["width"]) == (320, 640)
    assert (options["min_depth"], options["max_depth"], options["avg_reprojection"]) == (0.1, 80.0, True)


def test_published_optimiser_state_matches_the_parameters(tmp_path):
    weights = hollow()
    parameters = [key for key in weights if not key.endswith(BUFFERS)]
    state = {
        n: {"step": 3, "exp_avg": torch.full((1,), n).expand(weights[key].shape)}
        for n, key in enumerate(parameters)
    }
    adam = {"state": state, "param_groups": [{"lr": 1e-4, "params": list(range(len(parameters)))}]}
    folder = save_folder(
        tmp_path / "epoch_20",
        weights,
        optim=adam,
        scheduler={"last_epoch": 20},
        train={"step": 9, "epoch": 20},
    )
    checkpoint = load_checkpoint(folder)
    found = checkpoint.training["optimizer_by_name"]
    assert len(found) == len(parameters)
    number = parameters.index("seg.multires.convs.0.bias")
    assert found["depth.segmentation_head.conv.bias"]["exp_avg"][0] == number
    assert sorted(checkpoint.ignored) == ["scheduler.pth", "train.pth"]


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("name", ["model", "optim"])
def test_file_that_runs_code_is_refused(tmp_path, name):
    folder = save_folder(tmp_path / "epoch_20", hollow(), optim={})
    torch.save({"common.encoder.encoder.conv1.weight": RunsCode(tmp_path / "ran")}, folder / f"{name}.pth")
    with pytest.raises(InputError, match="refused and nothing of it ran"):
        load_checkpoint(folder)
    assert not (tmp_path / "ran").exists()


def test_entries_of_another_model_are_named(tmp_path):
    folder = save_folder(tmp_path / "epoch_20", {**hollow(), "depth.attention.weight": torch.zeros(1)})
    with pytest.raises(InputError, match="model does not have: depth"):
        load_checkpoint(folder)


def test_every_published_key_is_renamed():
    names = [rename_sgdepth_key(key) for key, *_ in entries()]
    assert None not in names and len(set(names)) == len(entries()) == 296


def test_a_published_folder_predicts_as_published(tmp_path):
    golden = goldens.Golden(CASE)
    method, options = load_method(save_folder(tmp_path / "epoch_20", goldens.state_dict(CASE)))
    frames = [goldens.tensor(goldens.image(f"B/{CASE}/frame_{n}", 1, 64, 96)) for n in ("0", "1")]
    batch = Batch({0: frames[0]}, torch.eye(3)[None], torch.zeros(1, dtype=torch.int64))
    with torch.no_grad():
        prediction = method.predict(batch)
        golden.close("disp_0", prediction.disparities[0])
        golden.close("segmentation_logits", prediction.logits[:, :, ::2, ::2])
        golden.close("cam_T_cam_next", method.predict_pose(*frames)[:, None, None])
    inverse = 0.01 + 9.99 * torch.from_numpy(golden["disp_0"])
    assert torch.allclose(prediction.depths[0], 1 / inverse, rtol=1e-3)
    assert options["resize"] == "bilinear"
