"""The report: two tiny runs with evaluations, one page that asks for nothing, refusals."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_depth
import evaluate_pose
from evaluation.segmentation_result import LabelledImage, SegmentationResult
from segmentation_metrics import SegmentationProtocol
from tests import tiny_models
from tests.runs import HANG
from tools import report
from tools._report.paths import from_above, round_length
from tools._report.reading import read_run
from utils import InputError

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two runs that were evaluated on six images of a slanted wall."""
    root = tmp_path_factory.mktemp("report")
    random, walk = np.random.default_rng(0), root / "walk"
    (walk / "depth").mkdir(parents=True)
    for n in range(6):
        Image.fromarray(random.integers(0, 255, (64, 96, 3), np.uint8)).save(walk / f"{n}.png")
        wall = np.linspace(4, 8 + n, 96, dtype=np.float32)
        np.save(walk / f"depth/{n}.npy", np.tile(wall, (64, 1)))
    (walk / "cam.txt").write_text("60 60 47.5 31.5\n")
    folders = []
    for number, disparity in enumerate((0.2, None)):
        folder = tiny_models.save_run(
            root / f"wall_{number}", disparity, dataset="folder", data_path=str(walk), split=None
        )
        options = f"method: {{name: monodepth2}}\nheight: 64\nwidth: 96\ndata_path: {walk}\n"
        (folder / "options.yaml").write_text(options)
        lines = [{"step": step, "epoch": 0, "loss": 1 / step, "time": 0.0} for step in (1, 2, 4)]
        log = "\n".join(map(json.dumps, [*lines, {"step": 4, "val/abs_rel": 0.25 + number}]))
        (folder / "log.jsonl").write_text(log + '\n{"step": 5, "lo')  # a killed process
        flags = ["--data_path", str(walk), "--device", "cpu", "--num_workers", "0"]
        evaluate_depth.main(["--run", str(folder), *flags])
        save_segmentation(folder / "evaluation/segmentation_streets_val", missed=10 * number)
        save_trajectory(folder / "evaluation/odom_09", scale=2.0 + number)
        folders.append(folder)
    return folders


def save_segmentation(folder: Path, missed: int) -> None:
    """Two classes of 100 and 300 pixels; `missed` pixels of the first are taken for the second."""
    counts = torch.tensor([[100 - missed, missed], [0, 300]])
    protocol = SegmentationProtocol("streets", ("road", "<car>"))
    facts = {"model": "/home/somebody/run", "dataset": "streets, val, 1 images"}
    SegmentationResult(protocol, [LabelledImage(0, "a", counts)], facts).save(folder)


def save_trajectory(folder: Path, scale: float) -> None:
    """A quarter of a circle of 30 m, predicted without error in a unit that is `scale` times shorter."""
    folder.mkdir(parents=True)
    known = np.tile(np.eye(4), (60, 1, 1))
    angle = np.linspace(0, np.pi / 2, 60)
    known[:, 0, 3], known[:, 2, 3] = 30 * (1 - np.cos(angle)), 30 * np.sin(angle)
    path = known.copy()
    path[:, :3, 3] /= scale
    evaluate_pose.write_path(folder, path, folder / "times.txt")
    evaluate_pose.write_scores(folder, "09", "7dof", path, known)


@pytest.fixture(scope="module")
def page(runs) -> str:
    report.main([*map(str, runs), "--device", "cpu"])
    return (runs[0] / "report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_for_nothing(page):
    tags, still_open = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))
            if tag not in ("meta", "img"):
                still_open.append(tag)

        def handle_endtag(self, tag):
            assert still_open.pop() == tag

    Reader().feed(page)
    assert not still_open and not re.search(r"https?://|//cdn|@import|url\(", page)
    assert not [tag for tag, attributes in tags if tag == "link" or (tag == "script" and attributes)]
    sources = [attributes["src"] for tag, attributes in tags if tag == "img"]
    kinds = [source.partition(";base64,")[0] for source in sources]
    assert kinds.count("data:image/jpeg") == 18 and kinds.count("data:image/png") == 2 == len(kinds) - 18
    assert len([tag for tag, _ in tags if tag == "canvas"]) == 2 and len(page) < 3_000_000


def test_both_runs_stand_there_with_their_numbers(page, runs):
    for folder in runs:
        assert folder.name in page
        results = json.loads(next(folder.glob("evaluation/*/results.json")).read_text())
        (own,) = read_run(folder, "x").evaluations.values()
        low, high = own.intervals()["abs_rel"]
        mean = results["mean"]["abs_rel"]
        assert low <= mean <= high and f"{mean:.3f}<small>{low:.3f} to {high:.3f}</small>" in page
        assert f"{results['scale_drift']['mean']['std_log']:.3g}" in page
    assert "wall_1 minus wall_0, 3 images of" in page and "<td>0.25</td><td>1.25</td>" in page
    assert "Garg" not in page and "one constant depth" in page and "Not shown" not in page


def test_worst_image_has_the_largest_error(page, runs):
    (own,) = read_run(runs[0], "x").evaluations.values()
    errors = sorted(values[0] for values in own.images.errors.values())
    best = re.search(r"Best images of .*?alt='abs_rel ([\d.]+)", page)[1]
    assert float(best) == pytest.approx(errors[0], abs=6e-4)


def test_segmentation_has_classes_and_no_path_of_this_machine(page):
    assert "<td>0.975</td>" in page and "<td>0.950</td>" in page  # pixel accuracy and mean IoU of wall_1
    assert "<td>road</td><td>1.000</td><td>0.900</td><td>25.0%</td>" in page
    assert "<td>&lt;car&gt;</td><td>1.000</td><td>0.968</td><td>75.0%</td>" in page
    assert "streets, val, 1 images" in page and "/home/somebody" not in page


def test_trajectories_lie_on_the_ground_truth(page):
    """Both runs are right up to scale, so that after alignment three lines are one."""
    drawing = page[page.index("Trajectory: odom_09") :]
    lines = re.findall(r"<polyline points='([^']+)'", drawing)[:3]
    assert lines[0] == lines[1] == lines[2] and drawing.count("stroke-dasharray='6 5'") == 1
    first, last = (np.array(lines[0].split()[n].split(","), float) for n in (0, -1))
    right, up = (last - first) * (1, -1)
    assert right == pytest.approx(up, abs=0.3) and right > 200  # 30 m to the right, 30 m ahead
    assert "<td>2.0000</td>" in drawing and "<td>3.0000</td>" in drawing and "<td>47.1</td>" in drawing


def test_a_path_from_above_has_a_bar_of_round_length():
    points = np.array([[0.0, 0, 0], [0, 0, 100]])
    drawing = from_above({0: (points, points)})
    metres = float(re.search(r">([\d.]+) m</text>", drawing)[1])
    start, end = re.search(r"<path d='M(\d+) [\d.]+v8m0 -4H([\d.]+)", drawing).groups()
    ahead = re.search(r"<polyline points='[\d.]+,([\d.]+) [\d.]+,([\d.]+)'", drawing).groups()
    per_metre = (float(ahead[0]) - float(ahead[1])) / 100
    assert (float(end) - float(start)) / metres == pytest.approx(per_metre, rel=0.01)
    assert [round_length(value) for value in (0.07, 1.0, 19.0, 20.1)] == [0.05, 1.0, 10.0, 20.0]


def test_the_scale_along_a_sequence_is_drawn(page, runs):
    drawing = page[page.index("Consistency over time") :]
    line = re.search(r"<polyline points='([^']+)'", drawing)[1]
    ratios = [ratio for _, _, ratio in next(iter(read_run(runs[0], "x").evaluations.values())).ratios]
    heights = np.array([point.split(",")[1] for point in line.split()], float)
    assert len(heights) == len(ratios) == 3
    falls = np.diff(heights) / np.diff(heights).sum()
    assert falls == pytest.approx(np.diff(ratios) / np.diff(ratios).sum(), abs=0.02)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_draws_the_cloud(page, runs, tmp_path):
    import subprocess

    shot = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--window-size=1100,9000", f"--screenshot={shot}"]
    subprocess.run([CHROMIUM, *flags, str(runs[0] / "report.html")], check=True, timeout=HANG)
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3)
    assert (pixels == (20, 24, 29)).all(1).mean() > 0.02  # the cloud's background


# ------------------------------------------------------------------------------------------------- refusals


def test_a_run_without_evaluation_names_the_command(runs, tmp_path, capsys):
    folder = tmp_path / "early"
    folder.mkdir()
    shutil.copy(runs[0] / "log.jsonl", folder)
    report.main([str(folder), "--device", "cpu"])
    text = (folder / "report.html").read_text()
    for words in (capsys.readouterr().out, text):
        assert f"it has no evaluation of depth; type: python evaluate_depth.py --run {folder}" in words
        assert "no images and no point cloud" in words


def test_a_missing_dataset_is_said(runs, tmp_path, capsys):
    out = tmp_path / "page.html"
    report.main([str(runs[0]), "--device", "cpu", "--out", str(out), "--data_path", str(tmp_path / "gone")])
    assert "no images of" in capsys.readouterr().out and "image/jpeg" not in out.read_text()


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("log.jsonl", "", "is empty: it holds neither a step in log.jsonl nor an evaluation"),
        ("log.jsonl", 'no\n{"step": 2}\n', "log.jsonl, line 1 is damaged"),
        ("evaluation/a/results.json", '{"mean"', "results.json is damaged"),
        ("evaluation/a/results.json", '{"mean": {}}', "results.json is damaged"),
        ("evaluation/a/results.json", '{"confusion": [[1]], "classes": []}', "results.json is damaged"),
    ],
)
def test_a_broken_run_is_one_sentence(tmp_path, name, text, sentence):
    (tmp_path / "evaluation/a").mkdir(parents=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(sentence)):
        report.main([str(tmp_path)])
    with pytest.raises(InputError, match="there is no run folder"):
        report.main([str(tmp_path / "absent")])
    assert not (tmp_path / "report.html").exists()


def test_broken_evaluations_of_a_run_are_one_sentence(runs, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder, ignore=shutil.ignore_patterns("checkpoints", "report.html"))
    odometry = folder / "evaluation/odom_09"
    lines = (odometry / "trajectory_kitti.txt").read_text().splitlines(keepends=True)
    for file, text, sentence in (
        (odometry / "trajectory_kitti.txt", "".join(lines[:-1]), "metrics.json is damaged"),
        (odometry / "trajectory_kitti.txt", "1 2\n", "line 1: a pose has 12 numbers"),
        (odometry / "metrics.json", "{", "metrics.json is damaged"),
        (folder / "evaluation/test/per_image.csv", None, "there is no per_image.csv"),
    ):
        earlier = file.read_text()
        file.unlink() if text is None else file.write_text(text)
        with pytest.raises(InputError, match=sentence):
            report.main([str(folder), "--device", "cpu"])
        file.write_text(earlier)
    assert not (folder / "report.html").exists()


def test_an_evaluation_of_an_earlier_version_is_left_out(runs, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(runs[0], folder, ignore=shutil.ignore_patterns("checkpoints", "report.html"))
    (folder / "evaluation/odom_09/ground_truth_kitti.txt").unlink()
    report.main([str(folder), "--device", "cpu"])
    assert "no path of odom_09: evaluate it again with evaluate_pose.py" in capsys.readouterr().out
    assert "Trajectory: odom_09" not in (folder / "report.html").read_text()


def test_a_full_disk_leaves_the_earlier_page(page, runs, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match=r"disk is full.*the earlier report.html is untouched"):
        report.main([str(runs[0]), "--device", "cpu"])
    assert (runs[0] / "report.html").read_text(encoding="utf-8") == page
