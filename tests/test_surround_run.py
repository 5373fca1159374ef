"""A rig of six cameras through a whole run: trained, validated, evaluated, by one process and by two."""

import json
import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import run
from tests import runs
from tools import sift_matches
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
# Without batch norm, whose statistics are a process's own.
SETTINGS = {
    "method": "surround_depth",
    "encoder": "timm/test_convnext",
    "pose_encoder": "timm/test_convnext",
    "pose_model_type": "separate_resnet",
    "method.blocks": 1,
    "method.joint_pose": "true",
    "method.focal_scale": 60,
    "losses.photometric.noise": 0,
    "losses.spatial.weight": 0.1,
    "num_epochs": 1,
    "optimizer": "sgd",
    "max_depth": 80,
}


def words(data, log_dir, **settings):
    return runs.arguments(
        data, log_dir, **{"dataset": "ddad", "dataset.masks": "true", **SETTINGS, **settings}
    )


def start_two(*arguments):
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", 2, "--master_port", runs.free_port())
    return runs.start(*launch, "run.py", *arguments)


def test_two_processes_train_and_evaluate_a_rig_as_one_does(tiny_ddad, tmp_path):
    two = start_two(*words(tiny_ddad, tmp_path / "two", batch_size=1))
    trainer = runs.train(words(tiny_ddad, tmp_path / "one", batch_size=2))
    runs.finish(two)
    one, two = runs.last(tmp_path / "one"), runs.last(tmp_path / "two")
    assert (one.training["world"], two.training["world"]) == (1, 2)
    runs.same_gradients(one, two)

    board = EventAccumulator(str(tmp_path / "one/run/tensorboard")).Reload().Tags()
    assert board["images"] == ["surround", "val/image | inverse_depth | ground_truth"]
    assert {"cloud_VERTEX", "cloud_COLOR"} <= set(board["tensors"])

    (validated,) = [record for record in runs.records(tmp_path / "one") if "loss" not in record]
    (sharded,) = [record for record in runs.records(tmp_path / "two") if "loss" not in record]
    assert {"val/abs_rel", "val/metric_abs_rel", "val/ground_truth_per_prediction"} <= set(validated)
    assert trainer.best.value == pytest.approx(validated["val/metric_abs_rel"])  # spatial tells metres
    for name in validated:
        if name.startswith("val/"):
            assert sharded[name] == pytest.approx(validated[name], rel=1e-4), name

    # The same run, evaluated by two processes and by one.
    evaluation = [*words(tiny_ddad, tmp_path / "one", batch_size=1), "--eval_only"]
    output = runs.finish(start_two(*evaluation))
    assert output.count("saved:") == 1 and "scale-aware" in output
    saved = {path.parent.name: path for path in (tmp_path / "one").rglob("results.json")}
    shared = {way: json.loads(path.read_text()) for way, path in saved.items()}
    for path in saved.values():
        path.unlink()
    run.main(evaluation)
    assert set(saved) == {"scale-ambiguous", "scale-aware"}
    for way, path in saved.items():
        alone = json.loads(path.read_text())
        assert close(shared[way], alone), way


def test_one_camera_that_learns_from_matches_is_chosen_by_metres(tiny_ddad, tmp_path):
    matches = tmp_path / "matches"
    sift_matches.main(
        ["--data_path", str(tiny_ddad), "--out", str(matches), "--report", "0", "--workers", "1"]
    )
    chosen = {"dataset.camera_names": "[front]", "method.cameras": 1, "dataset.matches": matches}
    terms = {"losses.spatial.weight": 0, "losses.sfm_matches.weight": 0.1}
    trainer = runs.train(words(tiny_ddad, tmp_path, batch_size=1, max_steps=1, **chosen, **terms))
    (validated,) = [record for record in runs.records(tmp_path) if "loss" not in record]
    assert trainer.best.value == pytest.approx(validated["val/metric_abs_rel"])


def test_without_lidar_validation_is_by_the_loss_of_matches(tiny_ddad, tmp_path):
    data = shutil.copytree(tiny_ddad, tmp_path / "data", ignore=shutil.ignore_patterns("point_cloud", "gt_*"))
    make = ["--data_path", str(data), "--report", "0", "--workers", "1"]
    sift_matches.main(make)
    learn = words(data, tmp_path, batch_size=1, max_steps=1, **{"dataset.matches": "true"})
    learn += ["--losses.sfm_matches.weight", "0.1"]
    with pytest.raises(InputError, match=r"000001/CAMERA_01.* of both parts with --part train val"):
        runs.build(learn)
    sift_matches.main([*make, "--part", "train", "val"])
    assert runs.train(learn).best.value > 0
    (validated,) = [record for record in runs.records(tmp_path) if "loss" not in record]
    assert "val/sfm_matches" in validated and "val/abs_rel" not in validated


def close(one, other) -> bool:
    """Equal, numbers within rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return bool(np.isclose(one, other, rtol=1e-6))
    return one == other
