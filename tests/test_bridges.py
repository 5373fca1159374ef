"""Every bridge is read back by its own reader: a wall 10 m ahead, past which the camera moves."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

import clouds
import files
import prediction
from datasets import DATASETS
from prediction.bridges import BRIDGES, BridgedImage, open_bridges
from prediction.bridges._base import fitting_factor
from prediction.bridges.gaussians import Gaussians
from prediction.bridges.kitti import Kitti
from prediction.bridges.nerfstudio import Nerfstudio
from prediction.bridges.supervised import Supervised
from prediction.bridges.tum import Tum
from test_simple import main as predict_images
from tests.plys import read_ply
from tests.test_fused_cloud import STEP, WALL, K, frames, predict, wall  # noqa: F401  (a fixture)
from tests.test_test_simple import draw
from tests.test_test_simple_rig import METRIC, words
from tests.tiny_models import HEIGHT, WIDTH, save_run
from trajectories import read_path
from utils import InputError

MATRIX = np.array([[80, 0, 47.5], [0, 80, 31.5], [0, 0, 1.0]])
COUNT = 3


def posed(number: int = 0, depth: np.ndarray | float = WALL, **facts: object) -> BridgedImage:
    """Frame `number` of a walk to the right along the wall."""
    pose = np.eye(4)
    pose[0, 3] = STEP * number
    image = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    facts = {"world_from_camera": pose, "seconds": number / 10, **facts}
    return BridgedImage(f"{number:06d}", image, np.full((HEIGHT, WIDTH), depth, np.float32), MATRIX, **facts)


def written(kind: type, folder: Path, *images: BridgedImage, **settings: object) -> str:
    bridge = kind(folder, "metres", True, **settings)
    for image in images or [posed(n) for n in range(COUNT)]:
        bridge.add(image)
    return bridge.finish()


def read_16_bits(path: Path) -> np.ndarray:
    values = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16
    return values


def test_the_flag_knows_every_bridge():
    assert list(prediction.BRIDGES) == BRIDGES.names()
    for name in BRIDGES.names():
        bridge = BRIDGES.get(name)
        needed = "poses" if bridge.needs_poses else "times" if bridge.needs_time else None
        assert prediction.NEEDS.get(name) == needed, name


def test_a_tum_recording_is_read_by_its_lists(tmp_path):
    """The rules of TUM's associate.py and evaluate_rpe.py: two lists, a path, depth / 5000."""
    said = written(Tum, tmp_path)
    lists = {kind: (tmp_path / f"{kind}.txt").read_text().split() for kind in ("rgb", "depth")}
    assert lists["rgb"][::2] == lists["depth"][::2] == ["0.000000", "0.100000", "0.200000"]
    for colour, depth in zip(lists["rgb"][1::2], lists["depth"][1::2]):
        assert (read_16_bits(tmp_path / depth) / 5000 == WALL).all()
        assert cv2.imread(str(tmp_path / colour)).shape == (HEIGHT, WIDTH, 3)
    assert np.allclose(read_path(tmp_path / "groundtruth.txt")[:, 0, 3], [0, STEP, 2 * STEP])
    assert "depth = value / 5000, metres" in said


def test_kittis_benchmark_form_is_read_by_its_devkit_rule(tmp_path):
    written(Kitti, tmp_path, posed(4, 12.5), posed(5, 300.0))
    near = read_16_bits(tmp_path / "groundtruth_depth/000004.png")
    assert near.max() > 255 and (near / 256 == 12.5).all()
    assert not read_16_bits(tmp_path / "groundtruth_depth/000005.png").any()  # beyond 256 m is unknown
    intrinsics = np.loadtxt(tmp_path / "intrinsics/000004.txt").reshape(3, 3)
    assert np.allclose(intrinsics, MATRIX)


def test_the_supervised_folder_trains(tmp_path):
    """Our own folder reader gives its depth to the losses, as for any other user's data."""
    said = written(Supervised, tmp_path, *(posed(n, WALL + n) for n in range(12)))
    folder = DATASETS.get("folder")
    data = folder(
        tmp_path, frame_ids=[0], height=HEIGHT, width=WIDTH, supervision=True, part="all", val_fraction=0
    )
    assert len(data) == 12
    sample = data[5]
    assert (sample.maps["depth"] == WALL + 5).all()
    assert np.allclose(sample.intrinsics[0], MATRIX, atol=1e-5)
    assert f"--dataset.supervision true --data_path {tmp_path}" in said


def test_a_nerfstudio_scene_holds_depth_poses_and_points(tmp_path):
    """By nerfstudio's conventions: camera x right, y up, z back; pixel centres at 0.5; depth x 0.001."""
    written(Nerfstudio, tmp_path)
    scene = json.loads((tmp_path / "transforms.json").read_text())
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    assert [frame["file_path"] for frame in scene["frames"]][-1] == "images/000002.png"
    for number, frame in enumerate(scene["frames"]):
        z = read_16_bits(tmp_path / frame["depth_file_path"]) * 1e-3
        ahead = [(x - scene["cx"]) / scene["fl_x"], -(y - scene["cy"]) / scene["fl_y"], -np.ones_like(x)]
        points = np.stack([*[axis * z for axis in ahead], np.ones_like(x)], -1) @ np.transpose(
            frame["transform_matrix"]
        )
        assert np.allclose(points[..., 1], WALL, atol=1e-3)  # the world: x right, y ahead, z up
        assert np.isclose(points[0, 0, 0], -WALL * 47.5 / 80 + STEP * number, atol=1e-3)
        assert points[0, 0, 2] > 0 > points[-1, 0, 2]
    _, points, _ = read_ply(tmp_path / scene["ply_file_path"])
    assert np.allclose(points[:, 1], WALL, atol=1e-3) and points[:, 2].max() > 3.5


def test_gaussian_splatting_reads_inverse_depth_and_the_scene(tmp_path):
    """By the program's formulas: value / 2^16 x scale + offset; COLMAP's own reader opens the model."""
    pycolmap = pytest.importorskip("pycolmap")
    written(Gaussians, tmp_path, posed(0, 8.0), posed(1, 16.0), posed(2, 1.0))
    parameters = json.loads((tmp_path / "sparse/0/depth_params.json").read_text())
    model = pycolmap.Reconstruction(tmp_path / "sparse/0")
    for image in model.images.values():
        name = image.name[: -len(".png")]
        value = cv2.imread(str(tmp_path / f"depths/{name}.png"), -1).astype(np.float32) / 2**16
        inverse = value * parameters[name]["scale"] + parameters[name]["offset"]
        expected = {"000000": 1 / 8, "000001": 1 / 16, "000002": 4 / 8}[name]  # the last is nearer than fits
        assert np.allclose(inverse, expected, rtol=1e-3)
        T = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        assert np.allclose(np.linalg.inv(T)[0, 3], STEP * int(name))
        assert np.allclose(model.cameras[image.camera_id].params, [80, 80, 48, 32])
    assert len(model.images) == 3 and len(model.points3D) > 100


def test_inverse_depth_without_poses_is_for_a_solved_scene(tmp_path):
    said = written(Gaussians, tmp_path, posed(world_from_camera=None))
    assert "it has no poses" in said and "make_depth_scale.py" in said
    assert not (tmp_path / "sparse/0/images.txt").exists()


def test_a_cloud_in_gltf_is_upright_and_the_same_as_in_ply(wall, tmp_path):  # noqa: F811
    walk = frames(tmp_path / "walk", bright=(4,))
    predict(walk, "--ply", tmp_path / "a.ply", "--glb", tmp_path / "a.glb", "--ply_voxel", 0.2)
    _, points, colours = read_ply(tmp_path / "a.ply")
    (cloud,) = trimesh.load_scene(tmp_path / "a.glb").geometry.values()
    assert np.allclose(cloud.vertices, points * [1, -1, -1], atol=1e-5)  # y up, ahead is -z
    linear = linear_colours((tmp_path / "a.glb").read_bytes())
    assert np.abs(cloud.colors[:, :3] / 255 - linear).max() < 0.003  # as another program reads them
    assert np.array_equal(from_linear(linear), colours)


def test_all_shades_of_a_cloud_in_gltf_are_linear(tmp_path):
    shades = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    clouds.write_glb(tmp_path / "a.glb", np.zeros((256, 3)), shades)
    linear = linear_colours((tmp_path / "a.glb").read_bytes())
    assert np.array_equal(from_linear(linear), shades)
    assert linear[188, 0] == pytest.approx(0.5, abs=0.005)  # half of the light is the grey 188 of an image


def from_linear(linear):
    """sRGB, 0 to 255, of linear values in [0, 1]."""
    return np.round(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))


def linear_colours(content):
    """(P, 3) in [0, 1]: the second part of the buffer of a binary glTF file."""
    size = struct.unpack("<I", content[12:16])[0]
    view = json.loads(content[20 : 20 + size])["bufferViews"][1]
    start = 28 + size + view["byteOffset"]
    return np.frombuffer(content[start : start + view["byteLength"]], "<f4").reshape(-1, 3)


def test_a_cloud_without_points_is_not_written_as_gltf(tmp_path):
    with pytest.raises(InputError, match=r"a\.glb is not written: no point is left"):
        clouds.write_glb(tmp_path / "a.glb", np.zeros((0, 3)), np.zeros((0, 3), np.uint8))


def test_single_images_become_clouds_without_sky_and_bridges(tmp_path, capsys):
    run = save_run(tmp_path / "run", disparity=0.25)
    draw(tmp_path / "in/a.png"), draw(tmp_path / "in/b.png")
    bridges = [word for name in ("kitti", "supervised") for word in ("--bridge", name, str(tmp_path / name))]
    line = [
        "--image_path",
        str(tmp_path / "in"),
        "--run",
        str(run),
        "--output",
        str(tmp_path),
        "--device",
        "cpu",
    ]
    predict_images([*line, "--glb", "--intrinsics", "80 80 30 20", *bridges])
    (cloud,) = trimesh.load_scene(tmp_path / "a.glb").geometry.values()
    assert len(cloud.vertices) == 50 * 70
    assert sorted(path.name for path in (tmp_path / "kitti/image").iterdir()) == ["a.png", "b.png"]
    assert (tmp_path / "supervised/cam.txt").read_text().split() == ["80", "80", "30", "20"]
    assert "2 images, depth = value / " in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--bridge tum holds the times of images.*test_video.py"):
        predict_images([*line, "--bridge", "tum", str(tmp_path / "tum")])


def test_frames_of_a_video_become_bridges(wall, tmp_path, capsys):  # noqa: F811
    names = ("gaussians", "kitti", "nerfstudio", "supervised", "tum")
    bridges = [word for name in names for word in ("--bridge", name, str(tmp_path / name))]
    predict(frames(tmp_path / "walk", count=COUNT), *bridges)
    scene = json.loads((tmp_path / "nerfstudio/transforms.json").read_text())
    across = [frame["transform_matrix"][0][3] for frame in scene["frames"]]
    assert across == pytest.approx([0, STEP, 2 * STEP])
    for name in names:
        assert f"for {name}, {COUNT} images" in capsys.readouterr().out or (tmp_path / name).is_dir()


def test_a_rig_becomes_posed_images_and_a_folder_for_each_camera(tiny_ddad, tmp_path):
    run = save_run(tmp_path / "run", disparity=0.1, **METRIC)
    bridges = ["--bridge", "nerfstudio", str(tmp_path / "n"), "--bridge", "supervised", str(tmp_path / "s")]
    predict_images(words(run, tiny_ddad, "--output", str(tmp_path), *bridges, "--glb"))
    scene = json.loads((tmp_path / "n/transforms.json").read_text())
    assert len(scene["frames"]) == 6 and "fl_x" not in scene  # the front camera's lens is longer
    front = next(f for f in scene["frames"] if f["file_path"] == "images/front.png")
    ahead = -np.array(front["transform_matrix"])[:3, 2]
    assert ahead[0] > 0.9  # the vehicle's x is forward
    assert (tmp_path / "s/front_left/cam.txt").is_file()
    (cloud,) = trimesh.load_scene(next(tmp_path.glob("*.glb"))).geometry.values()
    assert len(cloud.vertices) > 0


def test_a_full_disk_in_the_middle_leaves_earlier_files_whole(tmp_path, monkeypatch):
    bridge = Kitti(tmp_path, "metres", True)
    bridge.add(posed(0))
    real = files.atomic_path

    def full(path):
        if Path(path).name == "000001.png" and "depth" in str(path):
            raise OSError(28, "No space left on device")
        return real(path)

    monkeypatch.setattr(files, "atomic_path", full)
    with pytest.raises(InputError, match=r"000001.png cannot be written: the disk is full; free some space"):
        bridge.add(posed(1))
    assert (read_16_bits(tmp_path / "groundtruth_depth/000000.png") / 256 == WALL).all()
    assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "groundtruth_depth/000001.png").exists()


@pytest.mark.parametrize("ending", [".ply", ".glb"])
def test_a_full_disk_in_a_cloud_keeps_the_earlier_one(ending, wall, tmp_path, monkeypatch):  # noqa: F811
    """The disk is full in the middle of the file: after its header."""
    walk, file = frames(tmp_path / "walk"), tmp_path / f"a{ending}"
    predict(walk, f"--{ending[1:]}", file)
    earlier = file.read_bytes()

    class FullAfterHeader(io.FileIO):
        def write(self, content):
            if self.tell():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    monkeypatch.setattr(clouds, "open", FullAfterHeader, raising=False)
    with pytest.raises(InputError, match=rf"the disk is full.*the earlier a\{ending} is untouched"):
        predict(walk, f"--{ending[1:]}", file, "--ply_voxel", 2)
    assert file.read_bytes() == earlier and not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("bridges", "sentence"),
    [
        ([("nerfstudo", "a")], "--bridge has no format 'nerfstudo'; did you mean 'nerfstudio'"),
        ([("kitti", "a"), ("tum", "a")], "--bridge writes two formats into a"),
    ],
)
def test_bridges_that_cannot_be_are_refused(bridges, sentence):
    with pytest.raises(InputError, match=sentence):
        prediction.check_bridges(bridges)


def test_images_that_do_not_fit_a_folder_are_refused(tmp_path):
    bridge = Supervised(tmp_path, "metres", True)
    bridge.add(posed(0))
    with pytest.raises(InputError, match="two images are called 000000"):
        bridge.add(posed(0))
    small = BridgedImage("b", np.zeros((8, 9, 3), np.uint8), np.ones((8, 9), np.float32), MATRIX)
    with pytest.raises(InputError, match="holds images of one size, and b is 9x8 after images of 96x64"):
        bridge.add(small)


def test_depth_up_to_scale_gets_a_factor_that_resolves_it():
    assert fitting_factor(np.full((2, 2), 10.0), 256, is_metric=False) == 256
    assert fitting_factor(np.full((2, 2), 0.02), 256, is_metric=False) == 100_000
    assert fitting_factor(np.full((2, 2), 0.02), 256, is_metric=True) == 256


def test_the_unit_and_guessed_intrinsics_are_said(tmp_path):
    class Model:
        unit, is_metric = "up to scale", False

    (bridge,) = open_bridges([("supervised", str(tmp_path))], Model())
    bridge.add(posed(guessed=True))
    said = bridge.finish()
    assert "up to scale" in said and "is assumed to see 60 degrees" in said
    assert "--dataset.intrinsics guess" in said and not (tmp_path / "cam.txt").exists()
