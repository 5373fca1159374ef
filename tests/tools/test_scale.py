"""tools/scale.py: a model of constant depth gets the factor of its measurements and predicts metres."""

import numpy as np
import pytest
import torch
from PIL import Image

from methods.metric_scale import fit_in_words
from predictor import load_predictor
from tests.tiny_models import save_run
from tools import _scale_geometry, scale
from tools._scale_estimates import fit_factor
from utils import InputError

FRAMES = 8


@pytest.fixture
def walk(tmp_path):
    """Frames at ten per second of a camera that moves at 2 m/s, before a wall 12 m away."""
    folder = tmp_path / "walk"
    (folder / "depth").mkdir(parents=True)
    for number in range(FRAMES):
        Image.new("RGB", (96, 64), (20 * number,) * 3).save(folder / f"{number}.png")
        np.save(folder / "depth" / f"{number}.npy", np.full((64, 96), 12.0, np.float32))
    (folder / "cam.txt").write_text("80 80 47.5 31.5")
    speeds(folder, 2.0)
    return folder


def speeds(folder, value):
    (folder / "speed.csv").write_text("".join(f"{n / 10},{value}\n" for n in range(FRAMES)))


def run(model, *words):
    scale.main(["--run", str(model), "--device", "cpu", *map(str, words)])
    return load_predictor(model / "metric.pt", "cpu")


def constant(folder) -> tuple:
    """A run that answers one depth everywhere, and that depth."""
    model = save_run(folder / "run", disparity=0.3)
    depth = load_predictor(model, "cpu")(np.zeros((64, 96, 3), np.uint8))
    assert depth.std() < 1e-4 * depth.mean()
    return model, float(depth.mean())


def test_ground_truth_gives_the_factor(walk, tmp_path, capsys):
    model, depth = constant(tmp_path)
    predictor = run(model, "--from", "ground_truth", "--data_path", walk)
    assert predictor.metric_scale == pytest.approx(12 / depth, rel=1e-4)
    assert predictor(Image.open(walk / "0.png")).mean().item() == pytest.approx(12, rel=1e-4)
    assert predictor.is_metric and predictor.unit.startswith("metres (scale from ground truth, 95 % within")
    assert not load_predictor(model, "cpu").is_metric  # the run stays as it is
    assert f"depth in metres = {12 / depth:.4g} x" in capsys.readouterr().out


def test_a_second_fit_starts_from_the_network(walk, tmp_path):
    model, depth = constant(tmp_path)
    run(model, "--from", "ground_truth", "--data_path", walk)
    again = ["--pretrained_path", model / "metric.pt", "--distance", f"{walk}/0.png 5 5 6", "--device", "cpu"]
    scale.main([str(word) for word in again])
    assert load_predictor(model / "metric_metric.pt", "cpu").metric_scale == pytest.approx(
        6 / depth, rel=1e-4
    )


def test_distances_give_the_median_factor(walk, tmp_path):
    model, depth = constant(tmp_path)
    known = [f"{walk}/0.png 10 10 8", f"{walk}/1.png 0 63 9", f"{walk}/2.png 95 0 30"]
    assert run(model, "--distance", *known).metric_scale == pytest.approx(9 / depth, rel=1e-4)
    only = run(model, "--distance", known[0])
    assert only.unit == "metres (scale from one distance, uncertainty unknown)"


def test_speed_gives_the_factor(walk, tmp_path, monkeypatch):
    model, _ = constant(tmp_path)
    motion = torch.eye(4).repeat(1, 1, 1)
    motion[:, 2, 3] = -0.05  # 0.2 m between two frames
    monkeypatch.setattr(
        "methods.monodepth2.Monodepth2.predict_pose", lambda self, earlier, later: motion.clone()
    )
    words = "--from", "speed", "--data_path", walk, "--dataset.speed", 10
    assert run(model, *words).metric_scale == pytest.approx(4, rel=1e-4)


@pytest.mark.parametrize(
    "words, sentence",
    [
        ((), "give one measurement: --from speed"),
        (("--from", "speed"), "--from speed reads a dataset; add --data_path"),
        (("--distance", "{walk}/0.png 96 0 5"), r"\(96, 0\) is outside of .*0.png, which is 96x64"),
        (("--distance", "{walk}/0.png 9 5"), '--distance takes "IMAGE X Y METRES"'),
        (("--distance", "{walk}/0.png 9 5 -1"), "the depth is above 0 metres"),
    ],
)
def test_impossible_measurements_are_refused(words, sentence, walk, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(save_run(tmp_path / "run"), *(word.format(walk=walk) for word in words))


def test_speed_of_zero_and_missing_depth_are_refused(walk, tmp_path):
    model = save_run(tmp_path / "run")
    speeds(walk, 0)
    with pytest.raises(InputError, match="every speed is 0; a camera that stands still gives no scale"):
        run(model, "--from", "speed", "--data_path", walk, "--dataset.speed", 10)
    for path in (walk / "depth").iterdir():
        np.save(path, np.zeros((64, 96), np.float32))
    with pytest.raises(InputError, match="has a measured depth"):
        run(model, "--from", "ground_truth", "--data_path", walk)


def test_interval_holds_the_median_of_noisy_estimates():
    estimates = 5 * np.exp(np.random.default_rng(1).normal(0, 0.1, 400))
    factor, low, high = fit_factor(estimates)
    assert low < 5 < high and low < factor < high
    # The median of n values of deviation s has the deviation 1.2533 s / sqrt(n).
    assert high - low == pytest.approx(2 * 1.96 * 1.2533 * 0.5 / 20, rel=0.25)
    assert fit_factor([3.0]) == (3.0, None, None)
    words = fit_in_words({"factor": 2.0, "low": 1.9, "high": 2.2, "source": "speed"})
    assert words == "scale from speed, 95 % within 10 %"


# ------------------------------------------------------------------------------- ground, points, stereo, GPS


def moves_by(monkeypatch, metres):
    motion = torch.eye(4).repeat(1, 1, 1)
    motion[:, 2, 3] = -metres
    monkeypatch.setattr(
        "methods.monodepth2.Monodepth2.predict_pose", lambda self, earlier, later: motion.clone()
    )


def test_the_ground_is_as_far_as_the_camera_is_high():
    K = np.array([[80.0, 0, 47.5], [0, 80, 31.5], [0, 0, 1]])
    rows = np.arange(64)[:, None] - 31.5
    depth = np.broadcast_to(np.where(rows > 4, 1.5 * 80 / np.maximum(rows, 1e-3), 30.0), (64, 96)).copy()
    assert _scale_geometry.ground_distance(depth, K) == pytest.approx(1.5, rel=1e-3)
    depth[32:, :30] = 3.0  # a car
    assert _scale_geometry.ground_distance(depth, K) == pytest.approx(1.5, rel=1e-2)
    assert _scale_geometry.ground_distance(np.full((64, 96), 5.0), K) is None  # a wall


def test_the_height_of_the_camera_gives_the_factor(walk, tmp_path, monkeypatch):
    model, _ = constant(tmp_path)
    monkeypatch.setattr(_scale_geometry, "ground_distance", lambda depth, K: 0.5)
    predictor = run(model, "--from", "height", "--camera_height", 1.5, "--data_path", walk)
    assert predictor.metric_scale == pytest.approx(3, rel=1e-4)
    assert predictor.unit.startswith("metres (scale from camera height, 95 % within")


def test_a_recording_without_ground_is_refused(walk, tmp_path):
    with pytest.raises(InputError, match="shows flat ground below the camera"):
        run(constant(tmp_path)[0], "--from", "height", "--camera_height", 1.5, "--data_path", walk)


@pytest.mark.parametrize("ending", [".npy", ".txt", ".bin"])
def test_measured_points_give_the_factor(walk, tmp_path, ending):
    model, depth = constant(tmp_path)
    (tmp_path / "lidar").mkdir()
    ahead = np.array([[8.0, y, z, 0.5] for y in np.linspace(-1, 1, 5) for z in np.linspace(-1, 1, 5)])
    for n in range(FRAMES):
        path = tmp_path / f"lidar/{n}{ending}"
        if ending == ".npy":
            np.save(path, ahead)
        elif ending == ".bin":
            ahead.astype(np.float32).tofile(path)
        else:
            np.savetxt(path, ahead)
    (tmp_path / "pose.txt").write_text("0 -1 0 0\n0 0 -1 0\n1 0 0 0\n")  # x forward, y left, z up
    words = ["--points", tmp_path / "lidar", "--camera_from_lidar", tmp_path / "pose.txt"]
    predictor = run(model, "--from", "points", "--data_path", walk, *words)
    assert predictor.metric_scale == pytest.approx(8 / depth, rel=1e-4)
    with pytest.raises(InputError, match=r"lie in the image; is --camera_from_lidar right"):
        run(model, "--from", "points", "--data_path", walk, *words[:2])


def test_a_second_camera_gives_the_factor(walk, tmp_path):
    model, depth = constant(tmp_path)
    (tmp_path / "right").mkdir()
    texture = np.random.default_rng(0).integers(0, 255, (16, 30, 3), np.uint8)
    wide = np.asarray(Image.fromarray(texture).resize((120, 64), Image.Resampling.BICUBIC))
    for n in range(FRAMES):
        Image.fromarray(wide[:, 8:104]).save(walk / f"{n}.png")
        Image.fromarray(wide[:, 16:112]).save(tmp_path / f"right/{n}.png")
    words = ["--from", "stereo", "--second", tmp_path / "right", "--baseline", 0.5]
    predictor = run(model, *words, "--data_path", walk)
    assert predictor.metric_scale == pytest.approx(80 * 0.5 / 8 / depth, rel=0.02)


def test_gps_gives_the_factor(walk, tmp_path, monkeypatch):
    model, _ = constant(tmp_path)
    moves_by(monkeypatch, 0.5)
    monkeypatch.setattr(_scale_geometry, "WINDOW", 0.3)
    (walk / "times.txt").write_text("".join(f"{n}\n" for n in range(FRAMES)))
    degrees = np.degrees(10 / 6378137.0)  # 10 m north a second
    lines = [f"{n},{48 + n * degrees:.9f},11.0\n" for n in range(FRAMES)]
    (walk / "gps.csv").write_text("seconds,latitude,longitude\n" + "".join(lines))
    predictor = run(model, "--from", "gps", "--data_path", walk)
    assert predictor.metric_scale == pytest.approx(20, rel=1e-3) and "scale from GPS" in predictor.unit
    (walk / "gps.csv").write_text("".join(f"{n},48.0,11.0\n" for n in range(FRAMES)))
    with pytest.raises(InputError, match="the positions move by less than 5 m"):
        run(model, "--from", "gps", "--data_path", walk)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("--from", "height"), "--from height needs --camera_height"),
        (("--from", "gps", "--baseline", "1"), "--baseline is for --from stereo; add it, or leave"),
        (("--from", "points", "--points", "nowhere"), "there is no folder nowhere"),
        (("--from", "gps"), r"GPS gives no scale .*: no scene has gps\.csv"),
    ],
)
def test_incomplete_measurements_are_refused(words, sentence, walk, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(constant(tmp_path)[0], *words, "--data_path", walk)
