"""FeatDepth's mmcv files: recognised, complete, and read without running their pickles."""

import pytest
import torch

from checkpoints import load_checkpoint, load_weights
from methods import build_method, load_method
from tests import goldens
from utils import InputError


def mmcv_file(folder, case, state=None):
    """A file as mmcv 0.4.4 writes it."""
    path = folder / "epoch_40.pth"
    meta = {"mmcv_version": "0.4.4", "time": "Mon Jul 6 2020", "epoch": 40, "iter": 796200}
    optimizer = {"state": {}, "param_groups": [{"lr": 2.5e-5, "params": [0]}]}
    torch.save({"meta": meta, "state_dict": state or goldens.state_dict(case), "optimizer": optimizer}, path)
    return path


KINDS = {
    "featdepth_mono_fm_loss": ({"name": "featdepth", "joint": False, "extractor_layers": 18}, (320, 1024)),
    "featdepth_mono_fm_joint_loss": (
        {"name": "featdepth", "joint": True, "extractor_layers": 18},
        (192, 640),
    ),
    "featdepth_autoencoder_step": ({"name": "featdepth_autoencoder"}, (256, 800)),
}


@pytest.mark.parametrize("case", KINDS)
def test_each_kind_is_recognised_and_trains_on(tmp_path, case):
    path = mmcv_file(tmp_path, case)
    checkpoint = load_checkpoint(path)
    method, size = KINDS[case]
    assert checkpoint.layout == "featdepth" and checkpoint.options["method"] == method
    assert (checkpoint.options["height"], checkpoint.options["width"]) == size
    assert checkpoint.options["num_layers"] == 18
    assert {"meta", "optimizer"} <= set(checkpoint.ignored)
    assert not any(".fc." in key for key in checkpoint.weights)
    model = build_method({**checkpoint.options, "weights_init": "scratch"})
    assert "left aside" not in load_weights(model, checkpoint.weights)
    assert load_method(path)[0].training is False


def test_layers_of_the_published_model_are_found(tmp_path):
    options = load_checkpoint(mmcv_file(tmp_path, "featdepth_mono_fm_r50")).options
    assert (options["num_layers"], options["pose_encoder"]) == (50, "resnet18")
    assert options["method"]["extractor_layers"] == 50 and options["scales"] == [1, 2, 3, 4]


def test_published_depth_file_predicts_by_itself(tmp_path):
    state = goldens.state_dict("featdepth_mono_fm_loss")
    state = {key: value for key, value in state.items() if key.startswith("Depth")}
    method, _ = load_method(mmcv_file(tmp_path, "", state))
    assert not hasattr(method, "extractor") and not hasattr(method, "pose")
    assert method.predict_depth(torch.rand(1, 3, 64, 96)).shape == (1, 1, 64, 96)


def test_the_second_stage_takes_over_a_published_extractor(tmp_path):
    path = mmcv_file(tmp_path, "featdepth_autoencoder_step")
    checkpoint = load_checkpoint(path)
    settings = {"name": "featdepth", "extractor_layers": 18}
    method = build_method({"method": settings, "num_layers": 18, "weights_init": "scratch"})
    report = load_weights(method, checkpoint.weights, models=["extractor"])
    assert report == "loaded extractor (120 tensors); left aside image_decoder (not asked for)"


def test_an_entry_of_another_model_is_refused(tmp_path):
    state = {**goldens.state_dict("featdepth_autoencoder_step"), "Flow.conv.weight": torch.zeros(1)}
    with pytest.raises(InputError, match=r"entries that FeatDepth's models do not have: Flow\.conv"):
        load_checkpoint(mmcv_file(tmp_path, "", state))


class Malicious:
    def __reduce__(self):
        return eval, ("1/0",)


def test_a_file_that_wants_to_run_code_is_refused(tmp_path):
    path = tmp_path / "epoch_40.pth"
    torch.save({"state_dict": {}, "meta": Malicious()}, path)
    with pytest.raises(InputError, match="nothing of it ran"):
        load_checkpoint(path)
