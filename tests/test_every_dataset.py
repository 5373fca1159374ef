"""Every dataset from its own layout on disk: two steps of training, export, evaluation, prediction."""

import json
import math

import numpy as np
import pytest

import evaluate_depth
import run
import test_simple
from datasets import DATASETS, build_dataset
from tests import runs
from tests.test_components import PACKAGE_OF
from tools import export_gt_depth
from tools.layouts import LAYOUTS
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SINGLE = {"kitti2015", "make3d"}  # single images with ground truth: they evaluate what was trained elsewhere
WITHOUT_DEPTH = {"kitti_odom"}


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    """A model of two steps, to evaluate on the datasets that nothing can be trained on."""
    logs = tmp_path_factory.mktemp("trained")
    run.main(runs.arguments(tiny_folder, logs, max_steps=2))
    return logs / "run"


@pytest.mark.parametrize("name", [name for name in DATASETS.names() if name in LAYOUTS.names()])
def test_it_is_trained_on_exported_evaluated_and_predicted_from(name, trained, worlds, tmp_path, capsys):
    if name in PACKAGE_OF:
        pytest.importorskip(PACKAGE_OF[name])
    root = worlds.copy(tmp_path / "data", name, frames=6)
    splits = {"split": root / "splits"} if (root / "splits").is_dir() else {}
    model = trained
    if name not in SINGLE:
        settings = {"dataset": name, "batch_size": 1, "max_steps": 2, **splits}
        run.main(runs.arguments(root, tmp_path, **settings))
        model = tmp_path / "run"
        assert runs.last(tmp_path).training["step"] == 2

    part = evaluated_part(name, root, splits)
    options = {"dataset": name, "data_path": root, "height": 64, "width": 96, **splits}
    images = build_dataset(options, part=part, frame_ids=(0,))
    if name not in WITHOUT_DEPTH:
        words = ["--dataset", name, "--data_path", root, "--part", part, "--workers", 1]
        words += ["--split", splits["split"]] if splits else []
        export_gt_depth.main(list(map(str, words)))
        assert images.exported.path.is_file()
        images.exported.refresh()
        index = next(n for n in range(len(images)) if images.depth_from_raw(n) is not None)
        np.testing.assert_array_equal(images.exported.get(images.name(index)), images.depth_from_raw(index))

    if name not in WITHOUT_DEPTH:
        words = ["--run", model, "--dataset", name, "--data_path", root, "--num_workers", 0]
        words += ["--device", "cpu"]
        words += ["--eval_split", splits["split"]] if splits else []
        evaluate_depth.main([*map(str, words), "--output", str(tmp_path / "evaluation")])
        results = sorted((tmp_path / "evaluation").rglob("results.json"))
        assert results
        for path in results:
            assert math.isfinite(json.loads(path.read_text())["mean"]["abs_rel"])

    image = images.read_images(images.samples[0], 0)[0]
    saved = tmp_path / "image.png"
    runs.save_image(saved, image)
    test_simple.main(["--run", str(model), "--image_path", str(saved), "--output", str(tmp_path / "seen")])
    assert any((tmp_path / "seen").iterdir())


def test_all_of_them_are_evaluated_in_one_call(trained, worlds, tmp_path, capsys):
    pytest.importorskip("nuscenes")
    words = []
    for name in evaluate_depth.TOGETHER:
        words += [f"--{name}_path", str(worlds.get(name, frames=6))]
    words += ["--post_process", "--num_workers", "0", "--device", "cpu", "--batch_size", "4"]
    evaluate_depth.main(["--run", str(trained), *words, "--output", str(tmp_path / "evaluation")])
    printed = capsys.readouterr().out
    summary = printed.split("\n\n")[-1]
    for name in evaluate_depth.TOGETHER:
        assert list((tmp_path / "evaluation").glob(f"{name}*/**/results.json")), name
        assert f"  {name} " in summary
    assert "scale-ambiguous" in summary and "scale-aware" in summary


def evaluated_part(name, root, splits):
    """The part of the dataset that is evaluated: test where there is one, or else val."""
    for part in ("test", "val", "train"):
        try:
            options = {"dataset": name, "data_path": root, "height": 64, "width": 96, **splits}
            build_dataset(options, part=part, frame_ids=(0,))
        except InputError:
            continue
        return part
    raise AssertionError(f"no part of {name} opens")
