"""One model, one answer to "is this metric?": training, prediction, the hub and every evaluation agree."""

from __future__ import annotations

import json

import pytest

import evaluate_depth
import hubconf
import test_simple
from checkpoints import load_checkpoint, save_checkpoint
from tests import runs
from tests.plys import read_ply

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_ddad):
    """One step on a rig whose overlap teaches metres: `--losses.spatial.weight 0.1`."""
    folder = tmp_path_factory.mktemp("metric")
    settings = {"dataset": "ddad", "losses.spatial.weight": 0.1, "losses.photometric.noise": 0}
    runs.train(runs.arguments(tiny_ddad, folder, **settings, batch_size=1, num_epochs=1, max_steps=1))
    return folder / "run"


def with_ratio(run, folder, ratio: float):
    """The same run, whose validation found median(ground truth) / median(prediction) of `ratio`."""
    checkpoint = load_checkpoint(run)
    checkpoint.training["metrics"]["ground_truth_per_prediction"] = ratio
    save_checkpoint(folder / "checkpoints/last.pt", checkpoint)
    return folder


def test_training_prediction_and_evaluation_agree(run, tiny_kitti, tmp_path, capsys):
    run = with_ratio(run, tmp_path / "good", 1.2)
    metrics = load_checkpoint(run).training["metrics"]
    assert {"metric_abs_rel", "metric_a1"} <= set(metrics)

    model = hubconf.parallax(run, device="cpu")
    assert model.is_metric and model.metric_scale == 1 and model.unit == "metres"

    image = sorted(tiny_kitti.glob("*/*_sync/image_02/data/*.png"))[0]
    words = ["--image_path", str(image), "--output", str(tmp_path / "out"), "--ply", "--no_cuda"]
    test_simple.main(["--run", str(run), *words])
    assert "depth is in metres" in capsys.readouterr().out
    assert "comment unit: metres" in read_ply(next((tmp_path / "out").glob("*.ply")))[0]

    words = ["--kitti_path", str(tiny_kitti), "--output", str(tmp_path / "kitti"), "--num_workers", "0"]
    evaluate_depth.main(["--run", str(run), *words, "--no_cuda"])
    (file,) = (tmp_path / "kitti").rglob("results.json")
    results = json.loads(file.read_text())
    assert results["protocol"]["alignment"] == "none" and results["protocol"]["scale"] == 1
    assert results["card"]["trained on"] == "video, camera rig, 96 x 64"
    assert "depth" not in results["card"]


def test_a_scale_that_was_not_learned_is_said_everywhere(run, tiny_kitti, tmp_path, capsys):
    run = with_ratio(run, tmp_path / "off", 730.0)
    words = "meant as metric; off by a factor of 730 in validation"
    assert hubconf.parallax(run, device="cpu").unit == words
    image = sorted(tiny_kitti.glob("*/*_sync/image_02/data/*.png"))[0]
    test_simple.main(["--run", str(run), "--image_path", str(image), "--output", str(tmp_path), "--no_cuda"])
    assert f"depth is {words}" in capsys.readouterr().out
    flags = ["--data_path", str(tiny_kitti), "--dataset", "kitti", "--eval_split", str(tiny_kitti / "splits")]
    flags += ["--output", str(tmp_path), "--num_workers", "0", "--no_cuda"]
    evaluate_depth.main(["--run", str(run), *flags])
    assert json.loads((tmp_path / "results.json").read_text())["card"]["depth"] == words
