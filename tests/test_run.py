"""run.py as people call it: train, look, stop, go on, evaluate."""

import os
import shutil
import signal

import pytest

import run
from tests import runs
from tests.checkpoints.test_bdedepth import published
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_sigterm_ends_the_step_saves_and_exits_well(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, num_epochs=1000, num_workers=1)
    process = runs.start("run.py", *words, start_new_session=True)
    log = tmp_path / "run/log.jsonl"
    runs.wait_for(lambda: log.exists() and len(log.read_text().splitlines()) > 2, process)
    os.killpg(process.pid, signal.SIGTERM)  # the loader's process gets it too
    output = runs.finish(process)
    step = runs.last(tmp_path).training["step"]
    assert f"stopped after step {step}, everything saved; --resume auto continues from there" in output
    assert "Traceback" not in output

    # From only the options of the run folder, in a fresh process.
    again = ["--log_dir", tmp_path, "--model_name", "run", "--resume", "auto", "--max_steps", step + 1]
    output = runs.finish(runs.start("run.py", *again))
    assert f"continues after step {step} of {step + 1} steps" in output
    assert f"trained {step + 1} steps" in output
    assert runs.last(tmp_path).options["height"] == 64


def test_list_names_every_component():
    output = runs.finish(runs.start("run.py", "--list"))
    for name in (
        "monodepth2",
        "depth_decoder",
        "photometric",
        "kitti_odom",
        "kitti/eigen_zhou",
        "configs/demo",
    ):
        assert f"  {name}" in output


def test_an_error_is_one_sentence_and_exit_status_2():
    output = runs.finish(runs.start("run.py", "--heigth", "64"), expected=2)
    assert output == "error: there is no option '--heigth'; did you mean '--height'?\n"


def test_a_dry_run_tells_what_would_be_done_and_leaves_nothing(tiny_kitti, tmp_path, capsys):
    run.main([*runs.arguments(tiny_kitti, tmp_path), "--dry_run"])
    output = capsys.readouterr().out
    assert "16 training samples, 4 steps an epoch on cpu" in output
    assert "3 validation samples, evaluated by ground truth" in output
    assert "the first sample's loss: photometric 0." in output
    assert "8 steps in all; nothing was trained" in output
    assert "encoder: timm/test_efficientnet" in output
    assert not (tmp_path / "run").exists()


def test_a_dry_run_tells_what_the_data_lacks(tiny_kitti, tmp_path):
    words = [*runs.arguments(tiny_kitti, tmp_path), "--dry_run"]
    with pytest.raises(InputError, match="reads 6 cameras of a frame set together and the data has 1;"):
        run.main([*words, "--method", "surround_depth", "--pose_model_type", "separate_resnet"])
    with pytest.raises(InputError, match=r"losses\.spatial needs cameras.*of a camera rig has several"):
        run.main([*words, "--losses.spatial.weight", "0.1"])
    with pytest.raises(InputError, match=r"losses\.sfm_matches needs points\.matches"):
        run.main([*words, "--losses.sfm_matches.weight", "0.1"])


def test_an_existing_run_is_not_touched_unasked(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, max_steps=1)
    run.main(words)
    with pytest.raises(
        InputError, match="holds a run already; --resume auto continues it, --model_name starts"
    ):
        run.main(words)
    run.main([*words, "--dry_run"])
    assert runs.last(tmp_path).training["step"] == 1


def test_eval_only_evaluates_the_run_by_its_own_options(tiny_kitti, tmp_path, capsys, monkeypatch):
    run.main(runs.arguments(tiny_kitti, tmp_path, max_steps=1))
    capsys.readouterr()
    run.main(["--log_dir", str(tmp_path), "--model_name", "run", "--eval_only", "--num_workers", "0"])
    by_name = capsys.readouterr().out
    assert "trained on     video, 96 x 64" in by_name and "abs_rel" in by_name
    assert list((tmp_path / "run/evaluation").glob("*/results.json"))

    monkeypatch.setenv("HOME", str(tmp_path))
    for source in ("--load_weights_folder=~/run", f"--pretrained_path={tmp_path}/run/checkpoints/last.pt"):
        run.main(["--eval_only", source, "--num_workers", "0"])
        table = capsys.readouterr().out.partition("abs_rel")[2].splitlines()[1]
        assert table == by_name.partition("abs_rel")[2].splitlines()[1]


def test_eval_only_evaluates_another_split_and_size(tiny_kitti, tmp_path, capsys):
    words = runs.arguments(tiny_kitti, tmp_path, max_steps=1)
    run.main(words)
    lists = shutil.copytree(tiny_kitti / "splits", tmp_path / "lists")
    (lists / "test_files.txt").write_text((lists / "val_files.txt").read_text())  # three images
    capsys.readouterr()
    run.main([*words, "--eval_only", "--split", str(lists), "--height", "96", "--width", "128"])
    out = capsys.readouterr().out
    assert "video, 128 x 96" in out and "images         3\n" in out
    run.main([*words, "--eval_only", "--dataset.ground_truth", "velodyne_camera"])
    assert "along the camera's optical axis" in capsys.readouterr().out


def test_eval_only_skips_samples_that_lack_an_image_when_asked(tiny_kitti, tmp_path, capsys):
    data = shutil.copytree(tiny_kitti, tmp_path / "data")
    shutil.copy(data / "splits/val_files.txt", data / "splits/test_files.txt")  # three images
    run.main(runs.arguments(data, tmp_path, max_steps=1))
    line = (data / "splits/test_files.txt").read_text().split()
    (image,) = (data / line[0]).glob(f"image_0{2 + (line[2] == 'r')}/data/{int(line[1]):010d}.*")
    image.unlink()
    words = [*runs.arguments(data, tmp_path), "--eval_only"]
    with pytest.raises(InputError, match="lack an image"):
        run.main(words)
    run.main([*words, "--skip_missing"])
    assert "images         2\n" in capsys.readouterr().out


def test_eval_only_without_a_run_says_which_is_missing(tmp_path):
    with pytest.raises(
        InputError, match=r"there is no run .*nothing to evaluate; name one with --model_name"
    ):
        run.main(["--log_dir", str(tmp_path), "--model_name", "nothing", "--eval_only"])


def test_a_resumed_run_takes_settings_of_its_own_dataset(tiny_folder, tmp_path):
    run.main(runs.arguments(tiny_folder, tmp_path, max_steps=1))
    again = ["--log_dir", str(tmp_path), "--model_name", "run", "--resume", "auto", "--max_steps", "2"]
    run.main([*again, "--dataset.val_fraction", "0.2"])
    assert runs.last(tmp_path).options["dataset"] == {"name": "folder", "val_fraction": 0.2}


def test_a_published_checkpoint_is_not_resumed(tmp_path):
    path = published(tmp_path / "ckpt.pth", optimizer={"state": {}, "param_groups": []}, epoch=3)
    with pytest.raises(InputError, match="holds a checkpoint of bdedepth and cannot be resumed; --load_"):
        run.main(["--method", "bdedepth", "--resume", str(path)])


def test_a_run_continues_from_a_checkpoint_with_its_options(tiny_kitti, tmp_path):
    run.main(runs.arguments(tiny_kitti, tmp_path, max_steps=1))
    run.main(["--resume", str(tmp_path / "run/checkpoints/last.pt"), "--max_steps", "2"])
    assert runs.last(tmp_path).training["step"] == 2


def test_a_run_folder_that_was_renamed_goes_on_in_its_new_place(tiny_kitti, tmp_path):
    run.main(runs.arguments(tiny_kitti, tmp_path / "old", max_steps=1))
    (tmp_path / "old").rename(tmp_path / "new")
    again = ["--log_dir", str(tmp_path / "new"), "--model_name", "run", "--resume", "auto"]
    run.main([*again, "--max_steps", "2"])
    assert runs.last(tmp_path / "new").training["step"] == 2
    assert not (tmp_path / "old").exists()
