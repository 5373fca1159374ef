"""FeatDepth in runs: the auto-encoder first, depth from its features, one process and two, evaluation."""

import math

import pytest

import evaluate_depth
import run
from tests import runs
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"num_layers": 18, "batch_size": 2, "max_steps": 2, "num_epochs": 1}


def first_stage(data, log_dir, **settings):
    words = runs.arguments(
        data,
        log_dir,
        **{
            **SMALL,
            "method": "featdepth_autoencoder",
            "model_name": "autoencoder",
            "frame_ids": 0,
            "num_val": 2,
            **settings,
        },
    )
    for flag in ("--encoder", "--scales", "--pose_model_type"):
        place = words.index(flag)
        del words[place : place + 2]
    return words


def second_stage(data, log_dir, **settings):
    return runs.arguments(
        data,
        log_dir,
        **{
            **SMALL,
            "method": "featdepth",
            "encoder": "resnet18",
            "pose_model_type": "separate_resnet",
            "method.extractor_layers": 18,
            "method.pose_size": "null",
            "scales": 1,
            "num_val": 2,
            **settings,
        },
    )


@pytest.fixture(scope="module")
def autoencoder(tiny_kitti, tmp_path_factory):
    """The folder of a first stage of two steps."""
    folder = tmp_path_factory.mktemp("first_stage")
    runs.train(first_stage(tiny_kitti, folder))
    return folder / "autoencoder"


def from_the(autoencoder):
    return {"load_weights_folder": autoencoder, "models_to_load": "extractor"}


def test_the_first_stage_is_validated_by_its_loss(autoencoder):
    lines = (autoencoder / "log.jsonl").read_text().splitlines()
    assert any("val/loss" in line for line in lines) and not any("abs_rel" in line for line in lines)


def test_second_stage_trains_on_its_features_and_is_evaluated(tiny_kitti, tmp_path, autoencoder, capsys):
    trainer = runs.train(second_stage(tiny_kitti, tmp_path, **from_the(autoencoder)))
    assert "loaded extractor (120 tensors); left aside image_decoder" in capsys.readouterr().out
    before = runs.load_checkpoint(autoencoder, which="last").weights
    after = runs.last(tmp_path).weights
    frozen = [key for key in after if key.startswith("extractor.")]
    assert len(frozen) == 120 and all(after[key].equal(before[key]) for key in frozen)
    assert not any(p is q for p in trainer.parameters for q in trainer.method.extractor.parameters())
    losses = [r for r in runs.records(tmp_path) if "loss" in r]
    assert all(math.isfinite(record["loss"]) for record in losses)
    evaluate_depth.main(
        ["--run", str(tmp_path / "run"), "--checkpoint", "last", "--data_path", str(tiny_kitti),
         "--device", "cpu", "--num_workers", "0"]
    )  # fmt: skip
    assert "abs_rel" in capsys.readouterr().out


def test_a_stopped_second_stage_resumes_to_the_same_weights(tiny_kitti, tmp_path, autoencoder):
    settings = {**from_the(autoencoder), "max_steps": 3, "num_epochs": 2}
    runs.train(second_stage(tiny_kitti, tmp_path / "straight", **settings))
    runs.train(second_stage(tiny_kitti, tmp_path / "stopped", **{**settings, "max_steps": 1}))
    runs.train([*second_stage(tiny_kitti, tmp_path / "stopped", **settings), "--resume", "auto"])
    one, two = runs.last(tmp_path / "straight").weights, runs.last(tmp_path / "stopped").weights
    assert all(one[key].equal(two[key]) for key in one)


@pytest.mark.parametrize("joint", ["false", "true"])
def test_two_processes_wait_for_no_frozen_parameter(tiny_kitti, tmp_path, autoencoder, joint):
    loaded = from_the(autoencoder) if joint == "false" else {}
    process = runs.start(
        *("-m", "torch.distributed.run", "--nproc_per_node", 2, "--master_port", runs.free_port(), "run.py"),
        *second_stage(tiny_kitti, tmp_path, **{"method.joint": joint, "batch_size": 1, **loaded}),
    )
    output = runs.finish(process)
    assert "on cpu, 2 processes" in output and "trained 2 steps" in output


def test_a_dry_run_refuses_an_extractor_that_was_not_loaded(tiny_kitti, tmp_path):
    words = second_stage(tiny_kitti, tmp_path)
    with pytest.raises(InputError, match="never trained; take them from an auto-encoder"):
        run.main([*words, "--dry_run"])


def test_an_auto_encoder_is_not_evaluated(tiny_kitti, autoencoder):
    with pytest.raises(InputError, match="predicts neither depth nor poses"):
        evaluate_depth.main(
            ["--run", str(autoencoder), "--checkpoint", "last", "--data_path", str(tiny_kitti),
             "--device", "cpu", "--num_workers", "0"]
        )  # fmt: skip
