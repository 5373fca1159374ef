"""Preparation and evaluation shared by two processes of torchrun: nothing is made twice, nothing left out.

How training is shared is in tests/test_distributed.py and tests/test_surround_run.py.
"""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate_depth
from tests import runs
from tools import export_gt_depth, make_masks, prepare_cityscapes, sift_matches
from tools.layouts._base import Plan
from tools.make_synthetic import make


@pytest.fixture(scope="module")
def rig(worlds, tmp_path_factory) -> Path:
    """Two scenes of six cameras, 64 x 96, without masks: 12 masks to make, 12 frame sets in all."""
    return worlds.copy(tmp_path_factory.mktemp("rig") / "ddad", "ddad", frames=6)


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    """Three recordings for training, 5 frames each, 128 x 256."""
    root = tmp_path_factory.mktemp("video") / "city"
    make(Plan("cityscapes", root, sequences=4, frames=5, height=128, width=256, seed=0, ext="png"))
    return root


def share(tool: str, *words: str | Path) -> str:
    """The printed text of two processes of torchrun."""
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", 2, "--master_port", runs.free_port())
    return runs.finish(runs.start(*launch, tool, *words))


def numbers(pattern: str, output: str) -> list[int]:
    """The counts of each process, sorted."""
    return sorted(int(number) for number in re.findall(pattern, output))


def files(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    """Every file below `folder` by its path; none is half written."""
    assert not list(folder.rglob("*.part"))
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob(pattern) if path.is_file()
    }


def test_cityscapes_is_prepared_by_two_as_by_one(city, tmp_path):
    words = ["--data_path", str(city), "--width", "128", "--height", "64", "--workers", "1", "--out"]
    output = share("tools/prepare_cityscapes.py", *words, tmp_path / "two")
    prepare_cityscapes.main([*words, str(tmp_path / "one")])
    assert numbers(r"(\d+) images were written now", output) == [5, 10]
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_ground_truth_is_exported_by_two_as_by_one(rig, tmp_path):
    words = ["--data_path", str(rig), "--dataset", "ddad", "--part", "train", "--workers", "1", "--out"]
    output = share("tools/export_gt_depth.py", *words, tmp_path / "two")
    export_gt_depth.main([*words, str(tmp_path / "one")])
    (whole,) = (tmp_path / "one").iterdir()
    one = np.load(whole)
    half = len(one["names"]) // 2
    assert numbers(r"wrote the depth of (\d+) samples", output) == [half, len(one["names"]) - half]

    shards = [np.load(path) for path in sorted((tmp_path / "two").iterdir())]
    assert [path.name for path in sorted((tmp_path / "two").iterdir())] == [
        f"{whole.stem}.{which}of2.npz" for which in (1, 2)
    ]
    for which, shard in enumerate(shards):
        assert shard["names"].tolist() == one["names"].tolist()[which::2]
        for number in range(len(shard["names"])):
            for key in ("shape", "gaps", "metres"):
                assert np.array_equal(shard[f"{number:06d}.{key}"], one[f"{2 * number + which:06d}.{key}"])


def test_masks_are_made_by_two_as_by_one(rig):
    words = ["--data_path", str(rig), "--workers", "1", "--min_frames", "4"]
    output = share("tools/make_masks.py", *words)
    assert numbers(r"wrote (\d+) masks", output) == [6, 6]
    two = files(rig / "masks")
    make_masks.main([*words, "--overwrite"])
    assert files(rig / "masks") == two and len(two) == 24


def test_share_of_a_process_does_not_depend_on_the_others(rig, capsys):
    """It looks while the first is at work: of the masks that are left it would take other ones."""
    words = ["--data_path", str(rig), "--workers", "1", "--min_frames", "4"]
    make_masks.main(words)
    for path in (rig / "masks").rglob("*.png"):
        path.unlink()
    for shard in ("1/2", "2/2"):
        make_masks.main([*words, "--shard", shard])
    assert capsys.readouterr().out.count("wrote 6 masks") == 2


def test_two_processes_find_the_matches_of_one(rig, tmp_path):
    words = ["--data_path", str(rig), "--workers", "1", "--out"]
    output = share("tools/sift_matches.py", *words, tmp_path / "two")
    sift_matches.main([*words, str(tmp_path / "one"), "--report", "0"])
    one = files(tmp_path / "one")
    frame_sets = len(one) // 6
    assert numbers(r"wrote the matches of (\d+) samples", output) == [
        frame_sets // 2,
        frame_sets - frame_sets // 2,
    ]
    assert files(tmp_path / "two", "*.npy") == one
    report = json.loads((tmp_path / "two/report_train.json").read_text())
    assert report["samples"] == frame_sets - frame_sets // 2 and output.count("to both epipolar lines") == 1


def test_a_run_is_evaluated_by_two_as_by_one(tiny_kitti, tmp_path):
    runs.train(runs.arguments(tiny_kitti, tmp_path, max_steps=1, num_epochs=1))
    (tmp_path / "lists").mkdir()
    shutil.copy(tiny_kitti / "splits/val_files.txt", tmp_path / "lists/test_files.txt")  # three images
    # Not --run, which torchrun takes for an option of its own.
    words = ["--load_weights_folder", str(tmp_path / "run"), "--data_path", str(tiny_kitti), "--no_cuda"]
    words += ["--eval_split", str(tmp_path / "lists"), "--num_workers", "0", "--output"]
    output = share("evaluate_depth.py", *words, tmp_path / "two")
    evaluate_depth.main([*words, str(tmp_path / "one")])
    assert output.count("saved:") == 1
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    assert two["card"] == one["card"] and two["mean"] == pytest.approx(one["mean"], rel=1e-6)
    rows = [(tmp_path / name / "per_image.csv").read_text().splitlines() for name in ("one", "two")]
    images = [[row.split(",")[0] for row in table] for table in rows]
    assert len(images[0]) == 4 and images[0] == images[1]


SLOWLY = """
import sys, time
from datasets import exporting
from evaluation import export
from tools import export_gt_depth

def slowly(dataset, index, encoded=export._encoded):
    time.sleep(0.1)
    return encoded(dataset, index)

export._encoded, export.WORTH_A_PROCESS, exporting.SAVE_EVERY = slowly, 1, 0
export_gt_depth.main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned, and are not slowed")
def test_an_export_that_was_killed_goes_on_to_the_same_bytes(rig, tmp_path):
    """Killed outright, with two workers: what it had saved is kept, and no worker lives on."""
    words = ["--data_path", str(rig), "--dataset", "ddad", "--part", "train", "--workers", "2", "--out"]
    killed = runs.start("-c", SLOWLY, *words, tmp_path / "killed")
    runs.wait_for(lambda: len(list((tmp_path / "killed").glob("*.partial/[0-9]*.npz"))) >= 2, killed)
    os.kill(killed.pid, signal.SIGKILL)
    runs.finish(killed, expected=-signal.SIGKILL)  # waits until no worker holds its output
    saved = list((tmp_path / "killed").glob("*.partial/[0-9]*.npz"))
    assert len(saved) >= 2 and not list((tmp_path / "killed").glob("*.npz"))

    output = runs.finish(runs.start("-c", SLOWLY, *words, tmp_path / "killed"))
    export_gt_depth.main([*words, str(tmp_path / "whole")])
    assert f"{len(saved)}/" in output  # the progress began where it was
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
