"""The fused cloud and the RGB-D recording of a drawn sequence: a camera that moves along a wall."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import methods
from prediction.fusion import Posed, agreement
from prediction.voxels import VoxelMeans
from structures import Batch, Prediction
from test_video import main
from tests.plys import read_ply
from tests.tiny_models import HEIGHT, WIDTH, save_run
from trajectories import read_path
from utils import InputError

WALL, STEP, COUNT = 10.0, 0.5, 9
K = "80 80 47.5 31.5"


class AlongAWall(torch.nn.Module):
    """Grey is a wall 10 m ahead, brighter frames stand nearer; each frame is half a metre further right."""

    tasks = ("depth",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict(self, batch: Batch) -> Prediction:
        grey = batch.images[0].mean((1, 2, 3), keepdim=True)
        depth = torch.where(grey > 0.6, 0.7 * WALL, WALL)
        return Prediction({}, {0: depth.expand(-1, 1, HEIGHT, WIDTH)})

    def predict_pose(self, earlier: torch.Tensor, later: torch.Tensor) -> torch.Tensor:
        T = torch.eye(4).repeat(len(earlier), 1, 1)
        T[:, 0, 3] = -STEP
        return T


@pytest.fixture
def wall(monkeypatch):
    options = {"method": "monodepth2", "height": HEIGHT, "width": WIDTH}
    monkeypatch.setattr(methods, "load_method", lambda *_: (AlongAWall(), options))


def frames(folder: Path, bright: tuple[int, ...] = (), count: int = COUNT) -> Path:
    folder.mkdir()
    for n in range(count):
        value = 200 if n in bright else 100
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), value, np.uint8)).save(folder / f"{n}.png")
    return folder


def predict(folder: Path, *words: object) -> None:
    main(["--image_path", str(folder), "--run", "x", "--device", "cpu", "--intrinsics", K, *map(str, words)])


def test_a_wall_seen_on_the_way_past_becomes_one_wall(wall, tmp_path, capsys):
    predict(frames(tmp_path / "walk"), "--ply", tmp_path / "wall.ply", "--ply_voxel", 0.2, "--batch_size", 4)
    header, points, colours = read_ply(tmp_path / "wall.ply")
    assert "comment unit: up to scale" in header
    assert np.allclose(points[:, 2], WALL, atol=1e-4)
    # From the left edge of the first image to the right edge of the last, shortened by the neighbours' views.
    left, right = -WALL * 47.5 / 80, WALL * 47.5 / 80 + STEP * (COUNT - 1)
    assert left <= points[:, 0].min() < left + 3.1 * STEP and right - 3.1 * STEP < points[:, 0].max() <= right
    assert (colours == 100).all()
    cells = np.floor(points / 0.2).astype(int)
    assert len(np.unique(cells[:, :2], axis=0)) == len(points)  # one point for each voxel
    assert f"{len(points)} points" in capsys.readouterr().out


def test_the_path_next_to_the_cloud_is_the_predicted_one(wall, tmp_path):
    predict(frames(tmp_path / "walk"), "--ply", tmp_path / "wall.ply", "--fps", 4, "--batch_size", 2)
    for name in ("wall_kitti.txt", "wall_tum.txt"):
        path = read_path(tmp_path / name)
        assert np.allclose(path[:, :3, 3], [[STEP * n, 0, 0] for n in range(COUNT)], atol=1e-6)
    assert np.loadtxt(tmp_path / "wall_tum.txt")[:, 0].tolist() == [n / 4 for n in range(COUNT)]


def test_points_that_no_neighbour_confirms_are_left_out(wall, tmp_path):
    walk = frames(tmp_path / "walk", bright=(4,))
    predict(walk, "--ply", tmp_path / "wall.ply")
    assert np.allclose(read_ply(tmp_path / "wall.ply")[1][:, 2], WALL, atol=1e-4)
    predict(walk, "--ply", tmp_path / "wall.ply", "--ply_tolerance", 0.5)
    assert np.isclose(read_ply(tmp_path / "wall.ply")[1][:, 2], 0.7 * WALL, atol=1e-4).any()


def test_a_sequence_without_agreement_writes_no_cloud(wall, tmp_path):
    with pytest.raises(InputError, match=r"no point of 2 frames was confirmed: .*--ply_agree 1"):
        predict(frames(tmp_path / "walk", count=2), "--ply", tmp_path / "wall.ply")
    assert not (tmp_path / "wall.ply").exists()


def test_agreement_counts_the_frames_that_see_the_point():
    depth, image = np.full((HEIGHT, WIDTH), WALL), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    matrix = np.array([[80, 0, 47.5], [0, 80, 31.5], [0, 0, 1]])
    right, far = np.eye(4), np.eye(4)
    right[0, 3], far[0, 3] = 1.0, 100.0  # the second camera looks at another part of the wall
    others = [Posed(depth, image, right), Posed(1.04 * depth, image, right), Posed(1.1 * depth, image, right),
              Posed(depth, image, far)]  # fmt: skip
    counts = agreement(Posed(depth, image, np.eye(4)), others, matrix, 0.05)
    assert (counts[:, 9:] == 2).all() and (counts[:, :7] == 0).all()  # 8 pixels are out of the second's view


def test_voxels_hold_the_mean_of_all_their_points():
    means = VoxelMeans(1.0)
    means.add(np.array([[0.2, 0.5, 0.5], [5.5, -0.5, 0.5]]), np.array([[10, 0, 0], [7, 7, 7]]))
    means.add(np.array([[0.6, 0.5, 0.5]]), np.array([[30, 0, 0]]))
    points, colours = means.means()
    order = points[:, 0].argsort()
    assert np.allclose(points[order], [[0.4, 0.5, 0.5], [5.5, -0.5, 0.5]])
    assert colours[order].tolist() == [[20, 0, 0], [7, 7, 7]]
    with pytest.raises(InputError, match="give a larger --ply_voxel"):
        means.add(np.array([[1e7, 0, 0]]), np.zeros((1, 3)))


def test_an_rgbd_recording_is_read_back_in_tums_form(wall, tmp_path, capsys):
    walk = frames(tmp_path / "walk", bright=(1,), count=3)
    predict(walk, "--rgbd", tmp_path / "out", "--depth_factor", 5000, "--fps", 10)
    lines = (tmp_path / "out/associations.txt").read_text().splitlines()
    assert lines[1] == "0.100000 rgb/000001.png 0.100000 depth/000001.png" and len(lines) == 3
    for n, line in enumerate(lines):
        _, colour, _, depth = line.split()
        values = cv2.imread(str(tmp_path / "out" / depth), cv2.IMREAD_UNCHANGED)
        assert values.dtype == np.uint16 and values.shape == (HEIGHT, WIDTH)
        assert (values == round(5000 * (0.7 if n == 1 else 1) * WALL)).all()
        assert (cv2.imread(str(tmp_path / "out" / colour)) == (200 if n == 1 else 100)).all()
    settings = yaml.safe_load((tmp_path / "out/settings.yaml").read_text())
    assert settings["depth_factor"] == 5000 and settings["intrinsics"] == K
    assert "depth = value / 5000" in capsys.readouterr().out


def test_depth_beyond_16_bits_is_unknown_in_the_recording(wall, tmp_path, capsys):
    predict(frames(tmp_path / "walk", count=2), "--rgbd", tmp_path / "out", "--depth_factor", 7000)
    assert not cv2.imread(str(tmp_path / "out/depth/000000.png"), cv2.IMREAD_UNCHANGED).any()
    assert "100.0% of the pixels do not fit and are 0" in capsys.readouterr().out


def test_a_damaged_frame_keeps_the_times_of_the_others(wall, tmp_path):
    walk = frames(tmp_path / "walk", count=4)
    (walk / "1.png").write_bytes(b"nothing")
    with pytest.raises(SystemExit):
        predict(walk, "--rgbd", tmp_path / "out")
    times = [line.split()[0] for line in (tmp_path / "out/associations.txt").read_text().splitlines()]
    assert times == ["0.000000", "0.200000", "0.300000"]


@pytest.mark.parametrize(
    "words, sentence",
    [
        (
            ["--ply_agree", 2],
            "--ply_agree has no effect without --ply or --glb; add it, or leave --ply_agree out",
        ),
        (["--depth_factor", 2], "--depth_factor has no effect without --rgbd or --bridge"),
        (["--ply", "a.obj"], r"cannot write '\.obj'; known endings are ply"),
        ([], "--intrinsics has no effect without --ply or --glb or --rgbd or --bridge"),
    ],
)
def test_flags_of_outputs_that_are_not_written_are_refused(wall, tmp_path, words, sentence):
    with pytest.raises(InputError, match=sentence):
        predict(frames(tmp_path / "walk", count=2), *words)


def test_a_model_without_pose_network_makes_no_cloud(tmp_path):
    run = save_run(tmp_path / "run", frame_ids=[0, "s"], use_stereo=True)
    words = ["--image_path", str(frames(tmp_path / "walk")), "--run", str(run), "--device", "cpu"]
    with pytest.raises(InputError, match="this model has no pose network for a pair of frames"):
        main([*words, "--ply", str(tmp_path / "a.ply")])
    assert not list(tmp_path.glob("*.ply")) and not list(tmp_path.glob("*.gif"))
