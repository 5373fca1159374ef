"""Paths whose errors are known: straight, scaled, turned, drawn from an image's brightness."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import methods
import trajectories
from datasets import shared_memory
from evaluate_pose import main
from evaluation import Loading
from evaluation.odometry import evaluate_path, list_images, predict_motions, score_table
from layers import pose_matrix
from tests.goldens import Golden, tensor
from tests.methods.test_metric_scale import Speed
from trajectories import (
    align,
    angle,
    chain,
    motion_errors,
    motions_of,
    position_error,
    quaternions,
    read_path,
    rotations,
    segment_errors,
    snippet_errors,
    snippet_path,
    umeyama,
    write_kitti,
    write_tum,
)
from utils import InputError


def straight(metres: float, step: float = 0.25) -> np.ndarray:
    """Forward along z."""
    path = np.tile(np.eye(4), (int(metres / step) + 1, 1, 1))
    path[:, 2, 3] = np.arange(len(path)) * step
    return path


def about_y(degrees: float | np.ndarray) -> np.ndarray:
    """(..., 3, 3) heading."""
    a = np.radians(degrees)
    zero, one = np.zeros_like(a), np.ones_like(a)
    rows = [np.cos(a), zero, np.sin(a), zero, one, zero, -np.sin(a), zero, np.cos(a)]
    return np.stack(rows, -1).reshape(*np.shape(a), 3, 3)


def circle(radius: float = 30.0, count: int = 200) -> np.ndarray:
    """Once round, nose first."""
    path = np.tile(np.eye(4), (count, 1, 1))
    a = np.linspace(0, 2 * np.pi, count)
    path[:, :3, :3] = about_y(np.degrees(a))
    path[:, 0, 3], path[:, 2, 3] = radius * (1 - np.cos(a)), radius * np.sin(a)
    return path


def test_the_five_frame_score_is_the_published_one():
    golden = Golden("monodepth2_eval_pose")
    values = golden.inputs()

    def motions(axis_angle: str, translation: str) -> np.ndarray:
        return (
            pose_matrix(tensor(values[axis_angle])[:, 0], tensor(values[translation])[:, 0]).double().numpy()
        )

    predicted, true = motions("aa", "tr"), motions("gaa", "gtr")
    golden.close("pred_xyz", snippet_path(predicted[:4], published=True))
    golden.close("gt_xyz", snippet_path(true[:4], published=True))
    golden.close("ate", snippet_errors(predicted, true, formula="published"))


def test_motions_chain_to_the_path_they_come_from():
    np.testing.assert_allclose(chain(motions_of(circle())), circle(), atol=1e-9)


def test_a_step_forward_moves_the_world_backward():
    """Objects ahead come nearer: T_later_from_earlier has a negative z."""
    assert motions_of(straight(1))[0, 2, 3] == pytest.approx(-0.25)


def test_one_percent_too_long_is_a_drift_of_one_percent():
    ground_truth = straight(400)
    path = ground_truth.copy()
    path[:, 2, 3] *= 1.01
    errors = segment_errors(path, ground_truth)
    assert errors["t_err"] == pytest.approx(1, rel=0.003)  # a segment ends up to a step late
    assert errors["r_err"] == pytest.approx(0, abs=1e-9)
    assert errors["segments"] == sum(len(range(0, 1600 - 4 * length, 10)) for length in (100, 200, 300))


def test_a_constant_turn_is_a_drift_of_degrees():
    ground_truth = straight(300)
    path = ground_truth.copy()
    path[:, :3, :3] = about_y(0.02 * ground_truth[:, 2, 3])  # 2 degrees in 100 m
    assert segment_errors(path, ground_truth)["r_err"] == pytest.approx(2, rel=0.003)


def test_a_short_path_has_no_drift():
    errors = segment_errors(straight(50), straight(50))
    assert np.isnan(errors["t_err"])
    assert errors["segments"] == 0


def test_rpe_is_given_as_root_mean_square_and_as_mean():
    """Every fourth step is 0.4 m too long and turns by 2 degrees: rms half of that, mean a quarter."""
    motions = motions_of(straight(10))
    motions[::4, 2, 3] -= 0.4
    motions[1::4, :3, :3] = about_y(2.0)
    errors = motion_errors(chain(motions), straight(10))
    assert errors["rpe_translation"] == pytest.approx(0.2, abs=1e-3)  # the turn moves the next step a little
    assert errors["rpe_translation_mean"] == pytest.approx(0.1, abs=5e-3)
    assert errors["rpe_rotation_rms"] == pytest.approx(1)
    assert errors["rpe_rotation"] == pytest.approx(0.5)


@pytest.mark.parametrize(("alignment", "error"), [("7dof", 0), ("scale", 0), ("6dof", 15), ("none", 21.2)])
def test_alignment_takes_away_what_it_names(alignment, error):
    """A circle of 15 m and one of 30 m: concentric 15 m apart, from one start R / sqrt(2) on average."""
    ground_truth = circle()
    ground_truth[:, :3, 3] += [5, 2, -7]
    path = circle()
    path[:, :3, 3] *= 0.5
    aligned, scale = align(path, ground_truth, alignment)
    assert scale == pytest.approx(2 if alignment in ("7dof", "scale") else 1)
    assert position_error(aligned, ground_truth) == pytest.approx(error, abs=0.1)


def test_umeyama_finds_a_similarity_and_never_a_mirror():
    draw = np.random.RandomState(0)
    points, R, t = draw.standard_normal((20, 3)), about_y(40.0), np.array([1.0, 2, 3])
    scale, rotation, translation = umeyama(points, 2.5 * points @ R.T + t)
    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(rotation, R, atol=1e-12)
    np.testing.assert_allclose(translation, t, atol=1e-12)
    mirrored = points * [-1, 1, 1]
    assert np.linalg.det(umeyama(points, mirrored)[1]) == pytest.approx(1)


def test_snippets_forgive_one_scale_each():
    ground_truth = motions_of(circle())
    half = ground_truth.copy()
    half[:, :3, 3] /= 2
    for formula, count in (("rmse", len(ground_truth) - 3), ("published", len(ground_truth))):
        errors = snippet_errors(half, ground_truth, formula=formula)
        assert len(errors) == count
        np.testing.assert_allclose(errors, 0, atol=1e-9)


def test_the_published_snippet_score_divides_outside_the_root():
    ground_truth = motions_of(straight(2.5))
    swaying = ground_truth.copy()
    swaying[:, 0, 3] = 0.01 * (-1.0) ** np.arange(len(ground_truth))
    right, published = (
        snippet_errors(swaying, ground_truth),
        snippet_errors(swaying, ground_truth, formula="published"),
    )
    assert published[0] == pytest.approx(right[0] / np.sqrt(5))


def test_a_path_is_written_and_read_in_both_formats(tmp_path):
    path = circle()
    write_kitti(tmp_path / "kitti.txt", path)
    write_tum(tmp_path / "tum.txt", path, np.arange(200) / 10)
    for file in ("kitti.txt", "tum.txt"):
        np.testing.assert_allclose(read_path(tmp_path / file), path, atol=1e-7)
    assert np.loadtxt(tmp_path / "tum.txt")[5, 0] == 0.5


def test_quaternions_hold_for_half_turns():
    R = np.stack([np.eye(3), about_y(180.0), np.diag([1.0, -1, -1]), np.diag([-1.0, -1, 1]), about_y(1e-4)])
    np.testing.assert_allclose(rotations(quaternions(R)), R, atol=1e-9)
    np.testing.assert_allclose(angle(R), np.radians([0, 180, 180, 180, 1e-4]), atol=1e-12)


# ---------------------------------------------------------------------------------------------- the script


class FromBrightness(torch.nn.Module):
    """A pose network that reads how far the camera has come from how bright the image is."""

    def predict_pose(self, earlier: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        T = torch.eye(4).repeat(len(earlier), 1, 1)
        T[:, 2, 3] = (earlier - later).mean((1, 2, 3)) * 255 / 5.4
        return T


@pytest.fixture
def odometry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sequence 09 of KITTI odometry: 240 frames, a metre each, the image as bright as the distance."""
    images = tmp_path / "sequences" / "09" / "image_2"
    images.mkdir(parents=True)
    (tmp_path / "poses").mkdir()
    for n in range(240):
        Image.new("RGB", (64, 32), (n, n, n)).save(images / f"{n:06d}.png")
    write_kitti(tmp_path / "poses" / "09.txt", straight(239, 1.0))
    (tmp_path / "sequences" / "09" / "times.txt").write_text("\n".join(str(n / 10) for n in range(240)))
    options = {"height": 32, "width": 64}
    monkeypatch.setattr(methods, "load_method", lambda *_: (FromBrightness(), options))
    return tmp_path


def call(root: Path, *words: str) -> dict:
    main([*words, "--output", str(root / "out"), "--device", "cpu", "--num_workers", "0"])
    file = root / "out" / "metrics.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def test_images_become_a_path_with_its_scores(odometry, capsys):
    metrics = call(odometry, "--run", "r", "--data_path", str(odometry), "--eval_split", "odom_9")
    assert metrics["t_err"] == pytest.approx(0, abs=1e-3)
    assert metrics["scale"] == pytest.approx(5.4, rel=1e-4)
    assert metrics["ate"] == pytest.approx(0, abs=1e-2)
    assert metrics["five_frames_published"] == pytest.approx(0, abs=1e-4)
    printed = capsys.readouterr().out
    assert "239.0 m" in printed and "root mean square" in printed and "RPE mean" in printed
    assert np.array(Image.open(odometry / "out" / "trajectory.png")).shape[:2] == (720, 720)
    assert np.loadtxt(odometry / "out" / "trajectory_tum.txt")[-1, 0] == pytest.approx(23.9)
    assert np.load(odometry / "out" / "motions.npy").shape == (239, 4, 4)


def test_a_model_trained_on_stereo_needs_no_scale(odometry):
    metrics = call(odometry, "--run", "r", "--data_path", str(odometry), "--sequence", "9", "--eval_stereo")
    assert metrics["alignment"] == "6dof"
    assert metrics["scale"] == 1
    assert metrics["t_err"] == pytest.approx(0, abs=1e-3)


def test_a_loss_term_that_teaches_metres_needs_no_scale(odometry, monkeypatch, capsys):
    method = FromBrightness()
    method.loss_terms = torch.nn.ModuleDict({"speed": Speed()})
    monkeypatch.setattr(methods, "load_method", lambda *_: (method, {"height": 32, "width": 64}))
    words = ["--run", "r", "--data_path", str(odometry), "--sequence", "9"]
    assert call(odometry, *words)["alignment"] == "6dof"
    assert "off by" not in capsys.readouterr().out
    method.validation_metrics = {"ground_truth_per_prediction": 730.0}
    assert call(odometry, *words)["alignment"] == "6dof"
    assert "meant as metric; off by a factor of 730 in validation" in capsys.readouterr().out
    assert call(odometry, *words, "--eval_mono")["alignment"] == "7dof"


def test_a_saved_path_is_evaluated_again(odometry):
    words = ["--data_path", str(odometry), "--sequence", "09"]
    first = call(odometry, "--run", "r", *words)
    for file in ("trajectory_kitti.txt", "trajectory_tum.txt", "motions.npy"):
        again = call(odometry, "--ext_poses", str(odometry / "out" / file), *words)
        assert again["t_err"] == pytest.approx(first["t_err"], abs=1e-3)


def test_own_frames_give_a_path_without_scores(odometry):
    images = odometry / "sequences" / "09" / "image_2"
    assert call(odometry, "--run", "r", "--images", str(images)) == {}
    assert len(read_path(odometry / "out" / "trajectory_kitti.txt")) == 240


def test_frames_follow_one_another_as_in_training(tmp_path):
    """frame9 before frame10, without what was predicted from them; or as frames.txt says."""
    for n in (9, 10, 11):
        for name in (f"frame{n}.png", f"frame{n}_disp.png", f"frame{n}.bmp", f"._frame{n}.png"):
            Image.new("RGB", (8, 8)).save(tmp_path / name)
    names = ["frame9.png", "frame10.png", "frame11.png"]
    assert [path.name for path in list_images(tmp_path)] == names
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.jpg")
    with pytest.raises(InputError, match="not named alike"):
        list_images(tmp_path)
    (tmp_path / "frames.txt").write_text("frame11.png\nframe9.png\n")
    assert [path.name for path in list_images(tmp_path)] == [names[2], names[0]]


@pytest.mark.parametrize(
    ("names", "gap"),
    [
        (("0.png", "1.png", "3.png"), "1 gap, between 1.png and 3.png"),
        (("a0.png", "a1.png", "b0.png", "b1.png"), None),
        (("clip1_0.png", "clip1_1.png", "clip2_0.png"), "1 gap, between clip1_1.png and clip2_0.png"),
        (("0.png", "5.png", "10.png"), ""),
    ],
)
def test_gaps_and_clips_of_a_path_are_as_in_training(tmp_path, names, gap):
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    if gap == "":
        assert len(list_images(tmp_path)) == len(names)
        return
    with pytest.raises(InputError, match=gap or "not named alike"):
        list_images(tmp_path)


def test_batches_do_not_change_the_path(odometry):
    files = list_images(odometry / "sequences" / "09" / "image_2")[:23]
    paths = [
        predict_motions(
            FromBrightness().predict_pose, files, 32, 64, loading=Loading(batch_size=size, workers=workers)
        )
        for size, workers in ((1, 0), (4, 0), (22, 0), (50, 1))
    ]
    for path in paths[1:]:
        np.testing.assert_array_equal(path, paths[0])


def test_refusals_name_what_is_wrong(odometry):
    images, poses = odometry / "sequences" / "09" / "image_2", odometry / "poses" / "09.txt"
    data = ["--run", "r", "--data_path", str(odometry)]
    for words, sentence in [
        ([*data, "--sequence", "9", "--eval_mono", "--eval_stereo"], "exclude each other"),
        ([*data], "give one of --eval_split odom_9"),
        ([*data, "--eval_split", "eigen"], "odom_9, odom_10 or the like, got 'eigen'"),
        ([*data, "--sequence", "11"], "there is no folder"),
        (["--run", "r", "--images", str(images), "--poses", "no.txt"], "there is no file of poses"),
        (["--ext_poses", "no.npy", "--images", str(images)], "there is no file"),
    ]:
        with pytest.raises(InputError, match=sentence):
            call(odometry, *words)
    with pytest.raises(InputError, match="3 frames, the ground truth 4"):
        evaluate_path(straight(2, 1), straight(3, 1))
    with pytest.raises(InputError, match="one of rmse, published"):
        snippet_errors(np.eye(4)[None], np.eye(4)[None], formula="sum")
    poses.write_text(poses.read_text() + "1 2 3\n")
    with pytest.raises(InputError, match="line 241: a pose has 12 numbers"):
        call(odometry, *data, "--sequence", "9")
    (images / "000100.png").unlink()
    with pytest.raises(InputError, match="1 gap, between 000099"):
        list_images(images)


def test_a_file_that_is_not_a_path_is_refused(odometry):
    poses = odometry / "poses" / "09.txt"
    good = poses.read_text()
    words = ["--data_path", str(odometry), "--sequence", "9", "--run", "r"]
    lines = good.splitlines()
    for text, sentence in [
        ("\n".join([*lines[:5], " ".join(["nan"] * 12)]).encode(), "line 6: this is not a pose"),
        (b"0 1 2 3 0 0 0 0\n", "line 1: this is not a pose"),
        (good.encode("utf-16"), "is not text in UTF-8"),
    ]:
        poses.write_bytes(text)
        with pytest.raises(InputError, match=sentence):
            call(odometry, *words)
    poses.write_text(good)
    np.save(odometry / "lost.npy", np.full((239, 4, 4), np.nan))
    with pytest.raises(InputError, match="239 of 239 motions are not finite, the first after frame 0"):
        call(odometry, "--ext_poses", str(odometry / "lost.npy"), *words[:4])
    with pytest.raises(InputError, match="there is no file of poses"):
        read_path(odometry)


def test_a_path_saved_on_windows_is_the_same_path(tmp_path):
    write_kitti(tmp_path / "path.txt", circle())
    text = (tmp_path / "path.txt").read_text()
    (tmp_path / "windows.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    np.testing.assert_array_equal(read_path(tmp_path / "windows.txt"), read_path(tmp_path / "path.txt"))


def test_settings_are_refused_before_an_image_is_read(odometry, monkeypatch):
    monkeypatch.setattr(methods, "load_method", None)
    (odometry / "taken").touch()
    words = ["--run", "r", "--data_path", str(odometry), "--sequence", "9"]
    for more, sentence in [
        (["--batch_size", "0"], "--batch_size must be 1 or more"),
        (["--num_workers", "-1"], "--num_workers must be 0 or more"),
        (["--scale", "0"], "--scale must be above 0"),
        (["--output", str(odometry / "taken")], "taken cannot be written"),
    ]:
        with pytest.raises(InputError, match=sentence):
            main([*words, *more])


def test_the_working_and_the_home_folder_are_understood(odometry, monkeypatch):
    images = odometry / "sequences" / "09" / "image_2"
    monkeypatch.chdir(images)
    monkeypatch.setenv("HOME", str(odometry))
    saved = ["--ext_poses=~/poses/09.txt", "--poses=~/poses/09.txt"]
    main([*saved, "--images", ".", "--output=~/out"])
    assert json.loads((odometry / "out" / "metrics.json").read_text())["sequence"] == "image_2"
    assert not (images / "~").exists()


def test_an_unreadable_image_is_one_sentence(odometry):
    (odometry / "sequences" / "09" / "image_2" / "000003.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"000003\.png cannot be read"):
        call(odometry, "--run", "r", "--data_path", str(odometry), "--sequence", "9")


def test_a_small_shared_memory_is_refused(odometry, monkeypatch):
    monkeypatch.setattr(shared_memory, "free_bytes", lambda: 10_000)
    files = list_images(odometry / "sequences" / "09" / "image_2")
    with pytest.raises(InputError, match=r"/dev/shm has 0 MB free .*or give --num_workers [01]$"):
        predict_motions(FromBrightness().predict_pose, files, 32, 64, loading=Loading(workers=2))


def test_every_alignment_is_described():
    for alignment in trajectories.ALIGNMENTS:
        scores = evaluate_path(straight(120), straight(120), alignment)
        assert alignment in score_table("09", alignment, scores)
