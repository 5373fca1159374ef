"""DDAD: the maps of the DGP library, the published samples by rule, a drawn drive through the whole chain."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets._dgp import read_points
from datasets.ddad import Ddad, published_samples
from datasets.kitti import read_depth_png
from evaluation import Loading, evaluate
from layers import warp
from structures import Batch
from tests import runs
from tests.predictors import predictor_of
from tools import export_gt_depth
from tools.layouts._rig import SurroundRig
from utils import InputError

CAMERAS = ("CAMERA_01", "CAMERA_05", "CAMERA_07", "CAMERA_09", "CAMERA_08", "CAMERA_06")  # in ring order

# Depth maps of the DGP library for its test scene: pixels, sum, nearest, farthest per sample and camera.
LIBRARY = {
    (0, "CAMERA_01"): (5157, 178347.631922, 5.129229, 176.005951),
    (0, "CAMERA_05"): (11850, 240472.821743, 2.515978, 115.852745),
    (0, "CAMERA_06"): (11503, 268665.692293, 2.431847, 126.472908),
    (0, "CAMERA_07"): (10668, 239178.167943, 2.559947, 106.190643),
    (0, "CAMERA_08"): (10069, 302118.935615, 2.491849, 126.751640),
    (0, "CAMERA_09"): (9363, 277603.414157, 2.594679, 229.933670),
    (1, "CAMERA_01"): (5557, 191019.675673, 5.061450, 175.440338),
    (1, "CAMERA_05"): (12606, 250708.379880, 2.526394, 99.893829),
    (1, "CAMERA_06"): (12141, 280169.799916, 2.468490, 123.802391),
    (1, "CAMERA_07"): (11094, 251284.460084, 2.538777, 138.879944),
    (1, "CAMERA_08"): (10350, 314413.261269, 2.487473, 120.348732),
    (1, "CAMERA_09"): (9742, 292793.356252, 2.646762, 219.813583),
    (2, "CAMERA_01"): (5268, 178159.527544, 5.028000, 173.915482),
    (2, "CAMERA_05"): (12190, 244702.167477, 2.498910, 121.205605),
    (2, "CAMERA_06"): (11898, 272091.875639, 2.435388, 125.042290),
    (2, "CAMERA_07"): (10828, 244526.932718, 2.546124, 148.600800),
    (2, "CAMERA_08"): (10407, 305881.823043, 2.497117, 96.229919),
    (2, "CAMERA_09"): (9672, 295349.545144, 2.595735, 231.056305),
}


@pytest.fixture
def drive(worlds):
    """Two drives of four samples, 64 x 96; the second is held out."""
    return worlds.get("ddad", frames=4)


@pytest.fixture
def mine(drive, tmp_path):
    """The same to break."""
    return shutil.copytree(drive, tmp_path / "mine")


def open_drive(root, **settings):
    return Ddad(root, **{"height": 64, "width": 96, **settings})


def scene_json(root, scene="000000"):
    return next((root / scene).glob("scene_*.json"))


def change(path, edit):
    message = json.loads(path.read_text())
    edit(message)
    path.write_text(json.dumps(message))


# The real recording.


@pytest.fixture(scope="module")
def real(shared_data):
    return Ddad(shared_data / "ddad_like", part="val", frame_ids=(0,))


def test_the_real_scenes_maps_are_those_of_the_dgp_library(real):
    for index in range(3):
        maps = real.depth_from_raw(index)
        assert maps.shape == (6, 1216, 1936) and maps.dtype == np.float32
        for camera, depth in zip(CAMERAS, maps):
            count, total, nearest, farthest = LIBRARY[index, camera]
            known = depth[depth > 0].astype(np.float64)
            assert known.size == count, (index, camera)
            assert known.sum() == pytest.approx(total, abs=1e-4), (index, camera)
            assert (known.min(), known.max()) == pytest.approx((nearest, farthest), abs=2e-6), (index, camera)


def test_the_real_samples_are_those_of_the_published_list(real, shared_data):
    listed = (shared_data.parent / "splits/ddad/val.txt").read_text().split()[2850:2853]
    assert [real.name(index) for index in range(3)] == [f"scene_02 {stamp}" for stamp in listed]


def test_a_published_list_is_a_split(shared_data, tmp_path):
    lines = (shared_data.parent / "splits/ddad/val.txt").read_text().splitlines(keepends=True)
    (tmp_path / "val.txt").write_text("".join(lines[2850:2853]))
    (tmp_path / "train.txt").write_text(f"{lines[2851].strip()} \n")  # the published files end lines so
    dataset = Ddad(shared_data / "ddad_like", split=tmp_path, part="val", frame_ids=(0,))
    assert len(dataset) == 3
    (sample,) = Ddad(shared_data / "ddad_like", split=tmp_path)
    assert sample.images[1].shape == (6, 3, 384, 640)
    K = sample.intrinsics[0]
    assert K[0, 0].item() == pytest.approx(2181.530 * 640 / 1936, abs=1e-3)
    assert sample.rig_from_camera[3, :3, 3].tolist() == pytest.approx((0.147, 0.133, 1.530), abs=1e-3)
    (tmp_path / "train.txt").write_text(lines[0])
    with pytest.raises(InputError, match=rf"train.txt, line 1: no scene has a sample at {lines[0].strip()}"):
        Ddad(shared_data / "ddad_like", split=tmp_path)


# The published rule.


def test_duplicate_timestamps_and_scene_ends_are_left_out():
    stamps = [np.array([1, 2, 3, 4]), np.array([3, 4, 5, 6]), np.array([10, 11, 12])]
    # 3 begins the second scene and 4 ends the first.
    assert published_samples(stamps, "train") == [(0, 1), (1, 2), (2, 1)]
    assert published_samples([np.arange(6), np.arange(3, 8)], "train") == [(0, 1), (0, 2), (0, 4), (1, 3)]
    assert len(published_samples(stamps, "val")) == 11


def test_the_rule_gives_the_published_counts():
    """103 train scenes of 100 samples and 47 of 50; two pairs share 26 and 5 samples. 50 val scenes."""
    starts = 1000 * np.arange(150)
    lengths = [100] * 103 + [50] * 47
    starts[1], starts[11] = starts[0] + 100 - 26, starts[10] + 100 - 5
    stamps = [start + np.arange(length) for start, length in zip(starts, lengths)]
    assert sum(map(len, stamps)) == 12650
    places = published_samples(stamps, "train")
    assert len(places) == 12319
    assert len({int(stamps[scene][sample]) for scene, sample in places}) == 12319
    assert len(published_samples([np.arange(100)] * 29 + [np.arange(50)] * 21, "val")) == 3950


# A drawn drive.


def test_sample_is_six_cameras_in_ring_order_with_extrinsics(drive):
    dataset = open_drive(drive)
    assert len(dataset) == 2  # both ends of the scene have one neighbour only
    assert dataset.name(0).split()[0] == "000000"
    sample = dataset[0]
    assert sample.images[0].shape == (6, 3, 64, 96) and sample.cameras == 6
    rig = SurroundRig(64, 96)
    for camera in range(6):
        K, place = rig.camera(camera).intrinsics, rig.rig_from_camera(camera)
        np.testing.assert_allclose(sample.intrinsics[camera], K, rtol=1e-6)
        np.testing.assert_allclose(sample.rig_from_camera[camera], place, atol=1e-6)
    two = open_drive(drive, camera_names=("back", "front_left"))
    assert torch.equal(two[0].images[0], sample.images[0][[1, 3]])
    assert two.name(0) == dataset.name(0)


def test_neighbours_are_the_samples_before_and_after(drive):
    now, later = open_drive(drive)
    assert torch.equal(now.images[1], later.images[0]) and torch.equal(later.images[-1], now.images[0])
    assert len(open_drive(drive, part="val", frame_ids=(0,))) == 4
    assert len(open_drive(drive, part="val")) == 2


def test_recorded_poses_and_depth_synthesise_each_image(drive):
    dataset = open_drive(drive, poses=True, part="val")
    batch = dataset[0].to("cpu")
    scene, stamp = dataset.name(0).split()
    ground_truth = [
        read_depth_png(drive / f"ground_truth/{scene}/{camera}/{stamp}.png") for camera in CAMERAS
    ]
    depth = torch.from_numpy(np.stack(ground_truth))[:, None]
    known = (depth > 0).expand(-1, 3, -1, -1)
    for frame in (-1, 1):
        moved = warp(
            batch.images[frame], depth.clamp(min=0.1), batch.intrinsics, batch.T_source_from_target[frame]
        )
        error = (moved - batch.images[0]).abs()[known].median()
        still = (batch.images[frame] - batch.images[0]).abs()[known].median()
        assert error < 0.5 * still


def test_lidar_points_agree_with_depth_at_their_timestamps(drive):
    dataset = open_drive(drive)
    sample, scene = dataset.samples[0], dataset.scenes[0]
    lidar = scene.world_from_sensor(sample.number, 6)
    points = read_points(scene.file(sample.number, 6))
    world = lidar @ np.c_[points, np.ones(len(points))].T
    _, stamp = dataset.name(0).split()
    for number, camera in enumerate(CAMERAS):
        x, y, z = np.linalg.inv(scene.world_from_sensor(sample.number, number))[:3] @ world
        K = scene.calibration(sample.number).K(camera)
        u, v = K[0, 0] * x / z + K[0, 2], K[1, 1] * y / z + K[1, 2]
        seen = (z > 0) & (u >= 0) & (v >= 0) & (u < 95) & (v < 63)
        u, v, z = u[seen], v[seen], z[seen]
        column, row = u.astype(int), v.astype(int)
        # On a plane 1 / depth is linear in the image.
        with np.errstate(divide="ignore"):
            inverse = 1 / read_depth_png(drive / f"ground_truth/000000/{camera}/{stamp}.png")
        upper = inverse[row, column] * (1 - u + column) + inverse[row, column + 1] * (u - column)
        lower = inverse[row + 1, column] * (1 - u + column) + inverse[row + 1, column + 1] * (u - column)
        error = np.abs((upper * (1 - v + row) + lower * (v - row)) * z - 1)
        error = error[np.isfinite(error)]
        assert len(error) > 1500 and np.median(error) < 0.005, camera


def run_export(root, part):
    export_gt_depth.main(["--dataset", "ddad", "--data_path", str(root), "--part", part, "--workers", "1"])


def test_ground_truth_is_perfect_through_export_and_evaluation(mine):
    """Exported, then evaluated with the LiDAR gone; a mirror of the file that lacks it measures instead."""
    measured = [open_drive(mine, part="val", frame_ids=(0,)).depth_from_raw(index) for index in range(4)]
    run_export(mine, "val")
    shutil.rmtree(mine / "000001/point_cloud")
    dataset = open_drive(mine, part="val", frame_ids=(0,))
    assert dataset.depth_from_raw(0) is None
    assert all(np.array_equal(dataset.depth(index), measured[index]) for index in range(4))
    batches = (np.concatenate(measured[:3]), measured[3])
    in_another_unit = predictor_of(3 * torch.from_numpy(d).clamp(min=0.01)[:, None] for d in batches)
    result = evaluate(in_another_unit, dataset, loading=Loading(batch_size=3))[""]
    assert len(result.rows) == 24 and {row.camera for row in result.rows} == set(range(6))
    assert result.mean["abs_rel"] < 1e-6 and result.mean["a1"] == 1
    assert result.ratio_median == pytest.approx(1 / 3)


def test_some_cameras_have_an_exported_file_of_their_own(drive):
    assert open_drive(drive).exported.path.name == "surrounddepth_train_lidar.npz"
    some = open_drive(drive, camera_names=("back", "front"))
    assert some.exported.path.name == "surrounddepth_train_lidar_front_back.npz"
    assert some.depth_from_raw(0).shape == (2, 64, 96)
    assert open_drive(drive, ground_truth=None).depth(0) is None


def test_training_with_masks_and_prediction_run(mine, tmp_path):
    for number, camera in enumerate(CAMERAS):
        for scene in ("000000", "000001"):
            path = mine / f"masks/{camera}/{scene}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(SurroundRig(64, 96).own_vehicle(number)).save(path)
    for masks in ("true", str(mine / "masks")):
        words = runs.arguments(
            mine, tmp_path / Path(masks).name, dataset="ddad", batch_size=1, num_epochs=1, max_steps=2
        )
        words += ["--dataset.masks", masks]
        trainer = runs.train(words)
        assert (
            trainer.progress.step == 2
            and trainer.validation.has_ground_truth
            and len(trainer.validation.dataset) == 4
        )
        assert "ego_mask" in trainer.train_set[0].maps
    sample = trainer.validation.dataset[0].to("cpu")
    depth = trainer.method.eval().predict_depth(sample.images[0], sample.intrinsics)
    assert depth.shape == (6, 1, 64, 96)


def test_masks_are_found_at_our_and_the_published_path(mine, tmp_path):
    own = Image.open(mine / "ground_truth/masks/CAMERA_07.png")
    for camera in CAMERAS:
        path = mine / f"masks/{camera}/000000.png"
        path.parent.mkdir(parents=True)
        own.save(path)
    visible = ~open_drive(mine, masks=True)[0].maps["ego_mask"]
    rig = SurroundRig(64, 96)
    assert np.array_equal(visible[2, 0].numpy(), ~rig.own_vehicle(2))
    for camera in CAMERAS:
        path = tmp_path / f"published/{camera}/000000/mask.png"
        path.parent.mkdir(parents=True)
        shutil.move(mine / f"masks/{camera}/000000.png", path)
    again = ~open_drive(mine, masks=tmp_path / "published")[0].maps["ego_mask"]
    assert torch.equal(visible, again)
    with pytest.raises(InputError, match=r"no mask .*masks.CAMERA_01.000000\.png; tools/make_masks.py"):
        open_drive(mine, masks=True)


def test_matches_are_stored_by_scene_camera_and_timestamp(drive, tmp_path):
    stamps = [open_drive(drive).name(index).split()[1] for index in range(2)]
    for stamp in stamps:
        for camera in CAMERAS:
            path = tmp_path / f"000000/{camera}/{stamp}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.array([[9.5, 9.5, 7.0, 3.0, 0.1, 0.2]]))
    points = open_drive(drive, matches=tmp_path, max_matches=4, height=32)[0].points["matches"]
    assert points.shape == (6, 4, 6) and points[5, 0, :3].tolist() == [9.5, 4.5, 7.0]


# Broken data.


def test_samples_that_lack_a_camera_are_left_out_and_named(mine, capsys):
    path = scene_json(mine, "000001")
    change(path, lambda scene: scene["samples"][1]["datum_keys"].pop(2))
    dataset = open_drive(mine, part="val", frame_ids=(0,))
    said = capsys.readouterr().err
    assert "1 of 4 samples lack a camera; the first is" in said and ", sample 1: CAMERA_07" in said
    assert len(dataset) == 3
    assert len(open_drive(mine, part="val", frame_ids=(0,), camera_names=("front", "back"))) == 4
    stamp = dataset.scenes[0].stamps[1, 0]
    lists = mine / "lists"
    lists.mkdir()
    (lists / "val.txt").write_text(f"{stamp}\n")
    words = r"val.txt, line 1: 000001 \d+ lacks a camera"
    with pytest.raises(InputError, match=words):
        open_drive(mine, split=lists, part="val", frame_ids=(0,))

    def without(scene):
        for sample in scene["samples"]:
            sample["datum_keys"] = sample["datum_keys"][1:]

    change(path, without)
    with pytest.raises(InputError, match=r"4 of 4 samples lack a camera; .*CAMERA_01; choose others"):
        open_drive(mine, part="val", frame_ids=(0,))


def test_a_half_extracted_archive_is_named(mine):
    lidar = sorted((mine / "000000/point_cloud/LIDAR").iterdir())[1]
    lidar.write_bytes(lidar.read_bytes()[:500])
    with pytest.raises(InputError, match=r"point_cloud.*npz cannot be read as LiDAR points"):
        open_drive(mine).depth(0)
    lidar.unlink()
    with pytest.raises(InputError, match=r"no LiDAR points .*npz; is the archive extracted whole"):
        open_drive(mine).depth(0)
    assert open_drive(mine, skip_missing=True).depth(0) is None
    shutil.rmtree(mine / "000000/rgb/CAMERA_09")
    with pytest.raises(InputError, match=r"no image at .*CAMERA_09.*; 2 of 2 samples lack an image"):
        open_drive(mine)
    next((mine / "000001/calibration").iterdir()).unlink()
    with pytest.raises(InputError, match=r"000001.*there is no calibration"):
        open_drive(mine, part="val")
    scene_json(mine).unlink()
    with pytest.raises(InputError, match=r"lists .*scene_\w+\.json, which is not there; 1 of 1 .* whole\?$"):
        open_drive(mine)


def test_missing_scenes_are_left_out_when_asked(mine):
    index = json.loads((mine / "ddad.json").read_text())["scene_splits"]
    both = {"filenames": index["0"]["filenames"] + index["1"]["filenames"]}
    (mine / "ddad.json").write_text(json.dumps({"scene_splits": {"0": both}}))
    assert len(open_drive(mine)) == 4
    scene_json(mine, "000001").unlink()
    with pytest.raises(InputError, match="1 of 2 scenes are missing"):
        open_drive(mine)
    assert len(open_drive(mine, skip_missing=True)) == 2
    with pytest.raises(InputError, match=r"no scenes for 'val' \(available: train\)"):
        open_drive(mine, part="val")


def test_calibration_without_a_rotation_is_refused_at_opening(mine):
    path = next((mine / "000000/calibration").iterdir())
    change(path, lambda message: message["extrinsics"][3]["rotation"].update(qw=3.0))
    with pytest.raises(InputError, match="CAMERA_07: the quaternion of a rotation must have length 1"):
        open_drive(mine)


def test_the_dataset_file_is_found_or_asked_for(mine):
    (mine / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds ddad\.json, other\.json; choose one .* --dataset\.index"):
        open_drive(mine)
    assert len(open_drive(mine, index="ddad.json")) == 2
    with pytest.raises(InputError, match=r"no dataset file .*ddad2\.json"):
        open_drive(mine, index="ddad2.json")
    with pytest.raises(InputError, match=r"rgb holds no ddad\.json; --data_path is the folder"):
        open_drive(mine / "000000/rgb")
    with pytest.raises(InputError, match=r"there is no folder .*nowhere"):
        open_drive(mine / "nowhere")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ground_truth": "lidr"}, "there is no ground truth 'lidr'; did you mean 'lidar'"),
        ({"split": "eigen"}, "ddad has no split 'eigen'"),
        ({"part": "trian"}, "no scenes for 'trian'; did you mean 'train'"),
        ({"camera_names": ("front", "side")}, "there is no camera 'side'"),
        ({"frame_ids": (0, "s")}, "no stereo partner"),
    ],
)
def test_unknown_settings_are_refused(drive, settings, words):
    with pytest.raises(InputError, match=words):
        open_drive(drive, **settings)


def test_a_batch_of_two_frame_sets_keeps_cameras_fastest(drive):
    batch = Batch.cat(list(open_drive(drive)))
    assert batch.per_camera(batch.images[0]).shape == (2, 6, 3, 64, 96)


def test_speed_times_time_is_each_cameras_recorded_distance(drive):
    dataset = open_drive(drive, poses=True, speed=True, part="val")
    sample = dataset[0]
    for frame in (-1, 1):
        distance = sample.T_source_from_target[frame][:, :3, 3].norm(dim=1)
        assert torch.allclose(sample.speed[frame] * sample.time_step[frame].abs(), distance, rtol=1e-4)
        assert (sample.time_step[frame] * frame > 0).all() and distance.min() > 0
    assert open_drive(drive, part="val")[0].speed == {}
