"""From a folder to numbers: a drawn KITTI drive, a method that reads depth from brightness."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import methods
from datasets.exporting import write_exported
from datasets.splits import eigen_to_benchmark_ids
from evaluate_depth import main, parse
from evaluation import benchmarks
from evaluation.benchmarks import evaluate_model
from evaluation.choice import DatasetChoice, Model, choose_split, open_images
from evaluation.saved import SavedGroundTruth, read_inverse_depths, save_inverse_depths, write_server_images
from metrics import Protocol
from structures import Batch, Prediction
from tests.methods.test_metric_scale import Speed
from tools.layouts._base import Plan
from tools.make_synthetic import make
from utils import InputError

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
COUNT = 3


class FromBrightness(torch.nn.Module):
    """Depth is what the image says, in units of `unit` metres; `terms` are its loss terms."""

    def __init__(self, unit: float = 1.0, **terms: torch.nn.Module) -> None:
        super().__init__()
        self.unit = unit
        self.min_depth, self.max_depth = 0.1, 100.0
        self.loss_terms = torch.nn.ModuleDict(terms)

    def predict(self, batch: Batch) -> Prediction:
        bright = batch.images[0][:, :1].clamp(1 / self.max_depth, 1 / self.min_depth)
        return Prediction({}, {0: (1 / bright) / self.unit})


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A drive of three images with brightness 1 / depth, exported ground truth, its list in `lists`."""
    depth = np.linspace(5, 20, 120)[None].repeat(80, 0)
    grey = np.rint(255 / depth).astype(np.uint8)
    images = tmp_path / "kitti" / DRIVE / "image_02" / "data"
    images.mkdir(parents=True)
    for n in range(COUNT):
        Image.fromarray(np.stack([grey] * 3, -1)).save(images / f"{n:010d}.png")
    (tmp_path / "lists").mkdir()
    lines = [f"{DRIVE} {n} l" for n in range(COUNT)]
    (tmp_path / "lists" / "test_files.txt").write_text("\n".join(lines) + "\n")
    ground_truth = ((line, depth[None].astype(np.float32)) for line in lines)
    write_exported(tmp_path / "kitti" / "gt_depths" / "lists_test_velodyne.npz", ground_truth)
    return tmp_path


@pytest.fixture
def run(drive: Path, monkeypatch: pytest.MonkeyPatch):
    """Call the script on the drive, with a model of these options, and read what it saved."""

    def call(*words: str, unit: float = 1.0, model: bool = True, terms=None, **options) -> dict:
        known = {"height": 32, "width": 64, "intrinsics": "fixed", "split": str(drive / "lists"), **options}
        method = FromBrightness(unit, **(terms or {}))
        monkeypatch.setattr(methods, "load_method", lambda path, device, which: (method, known))
        output = drive / "out"
        source = ["--run", str(drive)] if model else []
        main([*source, "--data_path", str(drive / "kitti"), "--output", str(output), *words,
              "--device", "cpu", "--num_workers", "0"])  # fmt: skip
        results = output / "results.json"
        return json.loads(results.read_text()) if results.is_file() else {}

    return call


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> Path:
    """Two drives of a six-camera rig in DDAD's layout, 3 frame sets each, 64 x 96; the second is val."""
    root = tmp_path_factory.mktemp("rig") / "ddad"
    make(Plan("ddad", root, sequences=2, frames=3, height=64, width=96, seed=0, ext="png"))
    return root


@pytest.fixture
def together(drive: Path, monkeypatch: pytest.MonkeyPatch):
    """Call the script on several datasets; the folder of what it saved."""

    def call(*words: str, model: torch.nn.Module | None = None, **options) -> Path:
        known = {"height": 32, "width": 64, "intrinsics": "fixed", "split": str(drive / "lists"), **options}
        method = model or FromBrightness()
        monkeypatch.setattr(methods, "load_method", lambda path, device, which: (method, known))
        main(["--run", str(drive), "--output", str(drive / "out"), *words,
              "--device", "cpu", "--num_workers", "0"])  # fmt: skip
        return drive / "out"

    return call


def read(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def test_a_tilde_that_the_shell_leaves_is_the_home_folder(together, drive, monkeypatch):
    monkeypatch.setenv("HOME", str(drive))
    together("--kitti_path=~/kitti", "--output=~/home")
    assert (drive / "home/kitti_lists_test/results.json").is_file()


def test_several_datasets_in_one_call_and_a_rig(together, drive, rig, capsys):
    out = together("--kitti_path", str(drive / "kitti"), "--ddad_path", str(rig), "--post_process")
    assert read(out / "kitti_lists_test")["mean"]["abs_rel"] < 0.05
    folder = out / "ddad_surrounddepth_val"
    ambiguous, aware = read(folder / "scale-ambiguous"), read(folder / "scale-aware")
    assert ambiguous["images"] == aware["images"] == 18
    assert list(aware["cameras"])[:2] == ["front", "front_left"] and len(aware["cameras"]) == 6
    assert aware["mean"]["abs_rel"] == pytest.approx(
        np.mean([camera["abs_rel"] for camera in aware["cameras"].values()])
    )
    assert ambiguous["ratio"] == aware["ratio"]
    assert ambiguous["mean"]["abs_rel"] != aware["mean"]["abs_rel"]
    printed = capsys.readouterr().out
    assert "mean over cameras" in printed
    summary = [line.split("  ")[1] for line in printed.splitlines()[-3:]]
    assert summary == [
        "kitti lists/test",
        "ddad surrounddepth/val scale-ambiguous",
        "ddad surrounddepth/val scale-aware",
    ]


def test_a_card_names_the_cameras_if_some_are_left_out(together, rig):
    for cameras in (["front"], ["front", "back"]):
        trained = {"dataset": {"name": "ddad", "split": "surrounddepth", "camera_names": cameras}}
        evaluated = together("--ddad_path", str(rig), **trained) / "ddad_surrounddepth_val/scale-aware"
        assert read(evaluated)["card"]["cameras"] == f"{', '.join(cameras)} only"
    whole = together("--ddad_path", str(rig)) / "ddad_surrounddepth_val/scale-aware"
    assert "cameras" not in read(whole)["card"]


def test_a_flag_names_one_way_to_evaluate_a_rig(together, rig):
    out = together("--ddad_path", str(rig), "--disable_median_scaling")
    assert read(out / "ddad_surrounddepth_val")["protocol"]["alignment"] == "none"


def test_saved_predictions_of_a_rig_get_the_same_numbers(together, rig):
    words = ["--dataset", "ddad", "--data_path", str(rig)]
    direct = read(together(*words) / "scale-aware")
    saved = together(*words, "--save_pred_disps") / "scale-aware"
    assert read(saved)["mean"] == pytest.approx(direct["mean"], rel=1e-5)


def test_a_kitti_benchmark_without_data_is_left_out(together, drive, monkeypatch, capsys):
    monkeypatch.setattr(benchmarks, "KITTI_BENCHMARKS", (str(drive / "lists"), "eigen_benchmark"))
    out = together("--kitti_path", str(drive / "kitti"), split="eigen_zhou")
    assert read(out / "kitti_lists_test")["images"] == COUNT
    assert (
        "kitti eigen_benchmark is left out: splits/kitti/eigen/test.txt, line 3: no image at"
        in capsys.readouterr().out
    )


def test_a_model_of_six_cameras_does_not_take_one(together, drive, rig):
    model = FromBrightness()
    model.cameras = 6
    with pytest.raises(InputError, match="predicts 6 cameras together and kitti has one camera"):
        together("--kitti_path", str(drive / "kitti"), "--ddad_path", str(rig), model=model)
    assert not (drive / "out").exists()
    together("--ddad_path", str(rig), model=model)


def test_the_first_evaluation_exports_ground_truth(together, tiny_kitti, tmp_path, capsys, monkeypatch):
    def evaluate(folder: str) -> dict:
        lists = str(tiny_kitti / "splits")
        place = ["--dataset", "kitti", "--data_path", str(tiny_kitti), "--eval_split", lists]
        return read(together(*place, "--gt_path", str(tmp_path / folder)))["mean"]

    first = evaluate("gt")
    file = tmp_path / "gt" / "splits_test_velodyne.npz"
    assert file.is_file() and f"measured once and kept in {file}" in capsys.readouterr().out
    written = file.stat().st_mtime_ns
    assert evaluate("gt") == first
    assert file.stat().st_mtime_ns == written and "measured" not in capsys.readouterr().out
    monkeypatch.setenv("RANK", "1")
    assert evaluate("other") == first
    monkeypatch.delenv("RANK")
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    assert evaluate("other") == first
    assert "measured on the fly, since" in capsys.readouterr().out
    assert not (tmp_path / "other").exists()


def test_bdedepths_kitti_protocol_is_two_settings(run):
    results = run("--protocol", "align_corners=true", "median=lower")
    assert results["protocol"]["align_corners"] is True
    assert results["protocol"]["median"] == "lower"


def test_a_model_trained_on_video_is_aligned_image_by_image(run, capsys):
    results = run(unit=3.0)
    assert results["mean"]["abs_rel"] < 0.05
    assert results["ratio"]["median"] == pytest.approx(3, rel=0.05)
    assert results["images"] == COUNT
    printed = capsys.readouterr().out
    assert "kitti lists/test" in printed
    assert "median(ground truth) / median(prediction)" in printed


def test_a_model_trained_on_stereo_is_metric(run):
    results = run(unit=5.4, use_stereo=True)
    assert results["protocol"]["alignment"] == "none"
    assert results["protocol"]["scale"] == pytest.approx(5.4)
    assert results["mean"]["abs_rel"] < 0.05


def test_a_true_baseline_needs_no_factor(run):
    results = run(dataset={"name": "kitti", "baseline": 0.54}, use_stereo=True)
    assert results["protocol"]["scale"] == pytest.approx(1)
    assert results["mean"]["abs_rel"] < 0.05


def test_flags_decide_where_they_are_given(run):
    assert run("--eval_mono", use_stereo=True)["protocol"]["alignment"] == "median"
    assert run("--eval_stereo")["protocol"]["scale"] == pytest.approx(5.4)
    results = run("--disable_median_scaling", "--pred_depth_scale_factor", "3", "--crop", "none",
                  "--eval_max_depth", "15", unit=3.0)  # fmt: skip
    assert (results["protocol"]["scale"], results["protocol"]["crop"]) == (3, "none")
    assert results["protocol"]["max_depth"] == 15
    assert results["mean"]["abs_rel"] < 0.05


def test_the_decode_range_is_not_the_cap(run):
    """A model that decodes up to 8 m cannot see the far half, although the protocol goes to 80 m."""
    results = run("--max_depth", "8", "--disable_median_scaling")
    assert results["protocol"]["max_depth"] == 80
    assert results["mean"]["abs_rel"] > 0.1


def test_saved_predictions_get_the_same_numbers(run, drive):
    direct = run("--post_process")
    saved = run("--post_process", "--save_pred_disps")
    file = drive / "out" / "disps_lists_split.npy"
    assert np.load(file).shape == (COUNT, 32, 64)
    again = run(
        "--ext_disp_to_eval", str(file), "--eval_mono", "--eval_split", str(drive / "lists"), model=False
    )
    for results in (saved, again):
        assert results["mean"] == pytest.approx(direct["mean"], rel=1e-5)
    assert again["card"]["flip"] == "as saved"


def test_predictions_can_be_saved_only(run, drive):
    assert run("--save_pred_disps", "--no_eval") == {}
    assert (drive / "out" / "disps_lists_split.npy").is_file()


def test_a_published_ground_truth_file_needs_no_images(run, drive):
    maps = np.empty(COUNT, object)
    for n in range(COUNT):
        maps[n] = np.linspace(5, 20, 120 + n, dtype=np.float32)[None].repeat(80, 0)
    np.savez_compressed(drive / "gt_depths.npz", data=maps)
    np.save(drive / "disps.npy", (1 / np.linspace(5, 20, 60, dtype=np.float32))[None, None].repeat(COUNT, 0))
    words = ["--gt_path", str(drive / "gt_depths.npz"), "--eval_split", str(drive / "lists")]
    results = run("--ext_disp_to_eval", str(drive / "disps.npy"), "--eval_mono", *words, model=False)
    assert results["mean"]["abs_rel"] < 0.01
    assert run(*words)["mean"]["abs_rel"] < 0.05


def test_a_method_in_memory_is_evaluated_the_same_way(run, drive):
    options = {"height": 32, "width": 64, "intrinsics": "fixed", "split": str(drive / "lists")}
    where = DatasetChoice(data_path=drive / "kitti")
    result = evaluate_model(Model(FromBrightness(), options), where, output=drive / "memory")
    assert result.mean == pytest.approx(run()["mean"])
    assert read(drive / "memory")["mean"] == pytest.approx(result.mean)


def test_the_652_benchmark_images_are_picked_from_697(tmp_path):
    np.save(tmp_path / "eigen.npy", np.arange(697, dtype=np.float32)[:, None, None])
    picked = read_inverse_depths(tmp_path / "eigen.npy", eigen_to_benchmark=True)
    assert picked[:, 0, 0].tolist() == eigen_to_benchmark_ids().tolist()
    assert len(picked) == 652


def test_saved_predictions_reserve_their_space_first(tmp_path, monkeypatch):
    """On a full disk the first batch ends the evaluation with a sentence, and leaves nothing behind."""
    batches = [torch.full((2, 4, 8), value) for value in (0.25, 0.5)]
    saved = save_inverse_depths(tmp_path / "disps.npy", batches, 4)
    assert saved.shape == (4, 4, 8) and saved[:, 0, 0].tolist() == [0.25, 0.25, 0.5, 0.5]
    seen = []

    def full(descriptor, start, size):
        seen.append(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(InputError, match=r"more\.npy cannot be written: the disk is full"):
        save_inverse_depths(tmp_path / "more.npy", batches, 4)
    assert seen == [128 + 4 * 4 * 4 * 8] and [path.name for path in tmp_path.iterdir()] == ["disps.npy"]


def test_the_server_gets_metres_times_256(tmp_path):
    disparities = np.stack([np.full((8, 16), 0.5), np.full((8, 16), 1e-3)]).astype(np.float32)
    write_server_images(tmp_path, disparities, scale=5.4)
    near, far = (np.array(Image.open(tmp_path / f"{n:010d}.png")) for n in range(2))
    assert near.shape == (352, 1216)
    assert near.dtype.itemsize >= 2
    assert (near == round(5.4 / 0.5 * 256)).all()
    assert (far == 80 * 256).all()
    write_server_images(tmp_path, disparities, 5.4035, rounding="down")
    assert (np.array(Image.open(tmp_path / "0000000000.png")) == int(10.807 * 256)).all()  # 2766.592
    write_server_images(tmp_path, disparities, 5.4035)
    assert (np.array(Image.open(tmp_path / "0000000000.png")) == 2767).all()


def test_the_server_refuses_depth_up_to_scale(run, drive, capsys):
    np.save(drive / "disps.npy", np.ones((2, 8, 16), np.float32))
    words = ["--ext_disp_to_eval", str(drive / "disps.npy"), "--eval_split", "benchmark"]
    with pytest.raises(InputError, match="give --pred_depth_scale_factor"):
        run(*words, "--eval_mono", model=False)
    run(*words, "--eval_stereo", "--server_rounding", "down", model=False)
    assert len(list((drive / "out" / "benchmark_predictions").iterdir())) == 2
    assert "rounded down to 1 / 256 m, as published" in capsys.readouterr().out
    with pytest.raises(InputError, match="add --eval_split benchmark"):
        run(*words[:2], "--eval_stereo", "--server_rounding", "down", model=False)


def test_kitti_is_evaluated_on_eigen_unless_told(drive):
    assert choose_split("kitti", {"split": "eigen_zhou"}) == ("eigen", "test")
    assert choose_split("kitti", {"split": str(drive / "lists")}) == (str(drive / "lists"), "test")
    assert choose_split("kitti", {}, "eigen_zhou/val") == ("eigen_zhou", "val")
    assert choose_split("kitti", {}, "eigen_full") == ("eigen_full", "val")


def test_an_unwritable_folder_is_named_before_prediction(run, together, drive, monkeypatch):
    monkeypatch.setattr(benchmarks, "can_write", lambda folder: False)
    monkeypatch.setattr(benchmarks, "evaluate_shares", None)
    with pytest.raises(InputError, match=r"out cannot be written; give another folder with --output"):
        run()
    with pytest.raises(InputError, match=r"cannot be written; give another folder with --output"):
        together("--kitti_path", str(drive / "kitti"))


def test_refusals_name_what_is_wrong(run, drive):
    np.save(drive / "two.npy", np.ones((2, 8, 16), np.float32))
    (drive / "text.npy").write_text("no array")
    lists = ["--eval_split", str(drive / "lists")]
    for words, sentence in [
        (["--run", "r", "--eval_mono", "--eval_stereo"], "exclude each other"),
        (["--run", "r", "--no_eval"], "without --save_pred_disps would do nothing"),
        (["--run", "r", "--eval_eigen_to_benchmark"], "add --ext_disp_to_eval"),
        (["--run", "r", "--batch_size", "0"], "--batch_size must be 1 or more, got 0"),
        (["--run", "r", "--eval_split", "eigne"], "did you mean 'eigen'"),
        (["--run", "r", "--pred_depth_scale_factor", "-1"], "above 0, got -1"),
        (["--run", "r", "--make3d_path", "m"], "give --dataset and --data_path instead of --make3d_path"),
        (["--ext_disp_to_eval", str(drive / "two.npy"), *lists], "do not say how their model was trained"),
        (["--ext_disp_to_eval", str(drive / "two.npy"), "--eval_mono", *lists], "2 saved disparities do not"),
        (["--ext_disp_to_eval", str(drive / "text.npy"), "--eval_mono", *lists], "is not a .npy array"),
        (["--ext_disp_to_eval", str(drive / "no.npy"), "--eval_mono", *lists], "there is no file"),
        (["--run", "r", "--gt_path", str(drive / "gt_dephts.npz")], r"no file .*gt_dephts\.npz, which"),
    ]:
        with pytest.raises(InputError, match=sentence):
            run(*words, model=False)
    (drive / "kitti" / "gt_depths" / "lists_test_velodyne.npz").unlink()
    with pytest.raises(
        InputError, match=r"none of the 3 samples of KITTI Eigen has ground truth \(one LiDAR"
    ):
        run()


def test_ground_truth_of_another_split_is_refused(run, drive):
    maps = np.empty(1, object)
    maps[0] = np.ones((4, 4), np.float32)
    np.savez_compressed(drive / "gt_depths.npz", data=maps)
    with pytest.raises(InputError, match=r"holds 1 depth maps, but .* has 3 samples"):
        run("--gt_path", str(drive / "gt_depths.npz"))
    with pytest.raises(InputError, match="published ground truth of KITTI, and this is folder"):
        SavedGroundTruth(drive / "gt_depths.npz", "folder", None, "test")


def test_a_card_is_a_protocol_in_words():
    card = Protocol("KITTI Eigen", "velodyne", crop="garg", alignment="none", scale=5.4).card()
    assert card["crop"] == "garg"
    assert card["scale"] == "predictions x 5.4"
    assert card["counts"] == "0.001 m < ground truth < 80 m"


def test_ground_truth_is_the_evaluated_splits_own(drive):
    trained = {"name": "kitti", "ground_truth": "velodyne_camera", "intrinsics": "fixed"}
    options = {"height": 64, "width": 96, "dataset": trained}
    part = (str(drive / "lists"), "test")
    for named, opened in (None, "velodyne"), ("improved", "improved"):
        where = DatasetChoice("kitti", drive / "kitti", ground_truth=named)
        assert open_images(where, Model(None, options), *part).images.ground_truth == opened


# ---------------------------------------------------------------------------------------- one rule for metres


def test_a_loss_term_that_teaches_metres_is_not_aligned(run):
    """One model had three answers: metric in training and prediction, median-aligned on KITTI."""
    results = run(terms={"speed": Speed()}, unit=1.0)
    assert results["protocol"]["alignment"] == "none" and results["protocol"]["scale"] == 1
    assert results["card"]["trained on"] == "video, speed, 64 x 32"
    assert results["mean"]["abs_rel"] < 0.05
    assert run("--eval_mono", terms={"speed": Speed()})["protocol"]["alignment"] == "median"


def test_a_scale_that_validation_found_wrong_is_on_the_card(run, monkeypatch):
    monkeypatch.setattr(FromBrightness, "validation_metrics", {"ground_truth_per_prediction": 730.0}, False)
    card = run(terms={"speed": Speed()})["card"]
    assert card["depth"] == "meant as metric; off by a factor of 730 in validation"
    assert "depth" not in run()["card"]


# ------------------------------------------------------------------------------------------ dataset settings


@pytest.fixture
def own_images(tmp_path: Path) -> Path:
    """Six images, 96 x 64, with ground truth of 10 m as 16-bit images, 1000 a metre."""
    for n in range(6):
        (tmp_path / "own" / "depth").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 64), (25, 25, 25)).save(tmp_path / "own" / f"{n}.png")
        Image.fromarray(np.full((64, 96), 10_000, np.uint16)).save(tmp_path / "own" / "depth" / f"{n}.png")
    (tmp_path / "own" / "cam.txt").write_text("60 60 47.5 31.5\n")
    return tmp_path / "own"


def evaluated(together, own_images: Path, *words: str, trained_path: Path, **settings) -> dict:
    """The results of a model trained on a folder with these settings."""
    dataset = {"name": "folder", **settings}
    words = ["--dataset", "folder", "--data_path", str(own_images), "--disable_median_scaling", *words]
    return read(together(*words, dataset=dataset, split=None, data_path=str(trained_path), intrinsics=None))


def test_settings_of_the_training_hold_in_its_own_folder(together, own_images):
    results = evaluated(together, own_images, trained_path=own_images, depth_scale=1000.0)
    assert results["mean"]["abs_rel"] == pytest.approx(abs(255 / 25 - 10) / 10, abs=1e-4)


def test_settings_of_another_folder_are_not_taken_over(together, own_images, tmp_path, capsys):
    """The ground truth is 10000 / 256 = 39 m where nothing says that it is in millimetres."""
    settings = {"depth_scale": 1000.0, "intrinsics": "9000 60 47.5 31.5", "files": "left.png"}
    other = evaluated(together, own_images, trained_path=tmp_path / "other", **settings)
    assert other["mean"]["abs_rel"] == pytest.approx(1 - (255 / 25) / (10_000 / 256), abs=1e-4)
    line = next(line for line in capsys.readouterr().out.splitlines() if "not used for" in line)
    assert "--dataset.depth_scale 1000.0" in line and "--dataset.files left.png" in line
    words = ["--dataset.depth_scale", "1000"]
    told = evaluated(together, own_images, *words, trained_path=tmp_path / "other", **settings)
    assert told["mean"]["abs_rel"] == pytest.approx(0.02, abs=1e-4)
    assert "depth_scale" not in capsys.readouterr().out.partition("protocol")[0]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dataset.height", "128"], "--dataset.height would shadow --height; give --height"),
        (["--dataset.split", "val"], "--dataset.split would shadow --eval_split; give --eval_split"),
        (["--dataset.frame_ids", "0"], "--dataset.frame_ids has no effect on an evaluation; leave it out"),
        (["--dataset.baselin", "0.5"], "dataset kitti has no setting 'baselin'; did you mean 'baseline'"),
    ],
)
def test_settings_that_shadow_a_flag_are_refused(run, words, sentence):
    with pytest.raises(InputError, match=sentence):
        run(*words)


def test_settings_of_training_only_are_refused(together, rig):
    with pytest.raises(InputError, match=r"--dataset\.matches has no effect on an evaluation"):
        together("--dataset", "ddad", "--data_path", str(rig), "--dataset.matches", "true")


def test_settings_are_about_one_dataset(drive):
    with pytest.raises(InputError, match=r"--dataset\.baseline is about one dataset"):
        parse(["--run", "r", "--kitti_path", str(drive), "--dataset.baseline", "0.54"])


# ---------------------------------------------------------------------------------------------- saved files


def test_saved_disparities_may_lie_in_an_npz(run, drive):
    run("--save_pred_disps")
    array = np.load(drive / "out" / "disps_lists_split.npy")
    np.savez_compressed(drive / "one.npz", disps=array)
    np.savez(drive / "two.npz", disps=array, other=array)
    words = ["--eval_mono", "--eval_split", str(drive / "lists")]
    results = run("--ext_disp_to_eval", str(drive / "one.npz"), *words, model=False)
    assert results["mean"] == pytest.approx(run()["mean"], rel=1e-5)
    with pytest.raises(InputError, match=r"two\.npz holds 2 arrays \(disps, other\); save the"):
        run("--ext_disp_to_eval", str(drive / "two.npz"), *words, model=False)


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_saved_disparities_without_depth_are_refused(run, drive, value):
    np.save(drive / "disps.npy", np.full((COUNT, 8, 16), value, np.float32))
    for split in (str(drive / "lists"), "benchmark"):
        words = ["--eval_stereo", "--eval_split", split]
        with pytest.raises(InputError, match=r"disps\.npy: 128 of 128 values of map 0 are (neg|not fin)"):
            run("--ext_disp_to_eval", str(drive / "disps.npy"), *words, model=False)


def test_a_missing_scan_is_counted_with_skip_missing(together, rig, tmp_path):
    root = tmp_path / "ddad"
    shutil.copytree(rig, root)
    scan = sorted((root / "000001" / "point_cloud").rglob("*.npz"))[0]
    scan.unlink()
    words = ["--dataset", "ddad", "--data_path", str(root), "--gt_path", str(tmp_path / "gt")]
    with pytest.raises(InputError, match=r"no LiDAR points .* \(--skip_missing evaluates without\)"):
        together(*words)
    results = read(together(*words, "--skip_missing") / "scale-aware")
    assert (results["images"], results["without_ground_truth"]) == (12, 6)
    assert results["card"]["images"] == "12 (6 more have no valid ground truth)"


def test_the_old_name_of_a_protocol_setting_is_accepted(run, capsys):
    results = run("--protocol", "cap_truth=false")
    assert results["protocol"]["cap_ground_truth"] is False
    assert capsys.readouterr().err.startswith("--protocol cap_truth is called cap_ground_truth now\n")
    with pytest.raises(InputError, match="--protocol must be KEY=VALUE with KEY one of cap_ground_truth"):
        run("--protocol", "caps=1")


def test_corruptions_are_printed_and_saved_with_the_table(run, drive, capsys):
    run("--corruptions", "fog", "contrast")
    out = capsys.readouterr().out
    assert "mCE" in out and "mRR" in out and out.index("abs_rel") < out.index("corrupted images")
    assert set(json.loads((drive / "out/corruptions.json").read_text())["CE"]) == {"fog", "contrast"}
    assert (drive / "out/corruptions.png").is_file()


def test_corruptions_of_saved_predictions_are_refused():
    with pytest.raises(InputError, match="--corruptions predicts changed images with a model"):
        parse(["--ext_disp_to_eval", "d.npy", "--eval_mono", "--corruptions"])
