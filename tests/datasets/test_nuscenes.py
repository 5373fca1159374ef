"""nuScenes, two drawn scenes and a real key frame: neighbours, rig, LiDAR depth, lists, broken tables."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import _nuscenes_tables as ours
from datasets.ground_truth import SparseDepth
from datasets.nuscenes import CHANNELS, NuScenes, lidar_pixels
from datasets.splits import load_split
from datasets.surround import RING
from evaluation import Loading, evaluate
from tests import runs
from tests.predictors import predictor_of
from tools.export_gt_depth import main as export
from tools.layouts._base import Plan
from tools.layouts.nuscenes import NuScenesTables
from tools.make_synthetic import make
from utils import InputError

devkit = pytest.importorskip("nuscenes.nuscenes", reason="needs nuscenes-devkit")

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "splits" / "nuscenes"
REAL_TOKEN = "ca9a282c9e77460f8360f564131a8af5"
# Pixels, and their sum, minimum and maximum in metres, of the real key frame's six maps.
REAL_MAPS = {
    "front": (3059, 48847.071, 4.52604, 98.11652),
    "front_left": (3699, 47552.272, 4.02901, 31.25320),
    "front_right": (3079, 57558.512, 4.45013, 88.83021),
    "back": (4825, 94203.544, 3.16635, 95.13983),
    "back_left": (4096, 43410.942, 4.23178, 65.25695),
    "back_right": (3376, 72468.099, 4.70068, 99.97798),
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    """One scene of train and one of val, each with key frames 1, 3 and 5 of six frames."""
    plan = Plan("nuscenes", tmp_path_factory.mktemp("nuscenes") / "data", 2, 6, 64, 96, seed=0, ext="png")
    make(plan)
    return plan


@pytest.fixture(scope="module")
def drawn(plan) -> Path:
    return plan.out


@pytest.fixture
def copy(drawn, tmp_path) -> Path:
    """A copy of the tree, to be broken."""
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


def open_nuscenes(root: Path, **settings) -> NuScenes:
    return NuScenes(root, **{"height": 64, "width": 96, **settings})


def table(root: Path, name: str) -> list[dict]:
    return json.loads((root / f"v1.0-trainval/{name}.json").read_text())


def rewrite(root: Path, name: str, records: list[dict]) -> None:
    (root / f"v1.0-trainval/{name}.json").write_text(json.dumps(records))


def lists(folder: Path, *lines: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    (folder / "val.txt").write_text("".join(f"{line}\n" for line in lines))
    return {"split": str(folder), "part": "val"}


# Samples.


def test_key_frame_has_adjacent_images_of_the_same_cameras(drawn):
    dataset = open_nuscenes(drawn, frame_ids=(0, -1, 1))
    sample = dataset[0]
    assert sample.images[1].shape == (6, 3, 64, 96) and sample.cameras == 6
    paths = {frame: dataset.paths(dataset.samples[0], frame) for frame in (-1, 0, 1)}
    for camera, channel in enumerate(CHANNELS.values()):
        names = [paths[frame][camera].relative_to(drawn).as_posix() for frame in (-1, 0, 1)]
        folders = [f"{kind}/{channel}/" for kind in ("sweeps", "samples", "sweeps")]
        assert all(name.startswith(folder) for name, folder in zip(names, folders))
        times = [int(name.split("__")[-1].split(".")[0]) for name in names]
        assert np.diff(times).tolist() == [100_000, 100_000]
        shown = np.array(Image.open(paths[-1][camera])).transpose(2, 0, 1)
        assert np.array_equal(sample.images[-1][camera], shown)


def test_train_needs_neighbours_and_val_has_every_key_frame(drawn):
    # Frame 5 is the last image of its scene.
    assert len(open_nuscenes(drawn)) == 2
    val = open_nuscenes(drawn, part="val", frame_ids=(0,))
    assert [val.name(n).split()[0] for n in range(len(val))] == ["scene-0003"] * 3
    assert len(open_nuscenes(drawn, frame_ids=(0, -2, 2))) == 1


def test_the_rig_and_the_intrinsics_are_those_that_were_drawn(plan, drawn):
    rig = NuScenesTables(plan).rig
    sample = open_nuscenes(drawn, camera_names=("back", "front_left"))[0]
    for row, number in enumerate((1, 3)):
        place = torch.from_numpy(rig.rig_from_camera(number)).float()
        torch.testing.assert_close(sample.rig_from_camera[row], place, atol=1e-6, rtol=0)
        K = torch.from_numpy(rig.camera(number).intrinsics).float()
        torch.testing.assert_close(sample.intrinsics[row], K, atol=1e-4, rtol=0)


def test_known_poses_use_the_timestamps_of_each_camera(plan, drawn):
    layout = NuScenesTables(plan)
    T_source_from_target = open_nuscenes(drawn, poses=True)[0].T_source_from_target
    assert set(T_source_from_target) == {-1, 1} and not open_nuscenes(drawn)[0].T_source_from_target
    for number, channel in enumerate(CHANNELS.values()):
        place = layout.rig.rig_from_camera(number)
        target, source = (layout.world_from_rig(0, layout.shot(channel, n).time) @ place for n in (1, 2))
        expected = np.linalg.inv(source) @ target
        np.testing.assert_allclose(T_source_from_target[1][number], expected, atol=1e-4)


def test_masks_and_matches_are_stored_by_channel(drawn, tmp_path):
    dataset = open_nuscenes(drawn, masks=drawn / "ground_truth/masks")
    visible = ~dataset[0].maps["ego_mask"]
    assert visible[0].all() and not visible[2, 0, -1, 48] and visible[2, 0, 0].all()
    for path in dataset.paths(dataset.samples[0], 0):
        match = tmp_path / path.relative_to(drawn).with_suffix(".npy")
        match.parent.mkdir(parents=True, exist_ok=True)
        np.save(match, np.array([[47.5, 31.5, 8.0, 2.0, 0.1, 0.2]]))
    scene = lists(tmp_path / "lists", dataset.samples[0].token)
    sample = open_nuscenes(drawn, matches=tmp_path, max_matches=2, **scene)[0]
    assert sample.points["matches"].shape == (6, 2, 6) and sample.points["matches"][5, 0, 2] == 8


# Depth.


def test_point_is_rounded_half_to_even_and_the_last_wins():
    K = np.array([[10.0, 0, 4], [0, 10.0, 3], [0, 0, 1]])
    at = [(4, 3, 5), (4, 3, 9), (1.5, 2.5, 4), (2.5, -0.4, 4), (-0.6, 3, 4), (8.4, 6.4, 4), (8.6, 3, 4)]
    points = np.array([[(u - 4) / 10 * z, (v - 3) / 10 * z, z] for u, v, z in at] + [[0, 0, -5]])
    depth = SparseDepth.of_pixels(7, 9, [lidar_pixels(points.T, np.eye(4), K, 7, 9)]).dense()[0]
    found = {(v, u): depth[v, u] for v, u in zip(*np.nonzero(depth))}
    assert found == {(3, 4): 9, (2, 2): 4, (0, 2): 4, (6, 8): 4}


def test_scan_agrees_with_depth_at_the_time_of_each_camera(drawn):
    dataset = open_nuscenes(drawn, part="val", frame_ids=(0,))
    errors = errors_on_flat_surfaces(dataset, drawn)
    assert len(errors) > 5000 and np.median(errors) < 0.001 and np.mean(errors < 0.01) > 0.99
    # Without the vehicle's motion between scan and images, points would miss their surfaces.
    poses = np.repeat(dataset._index.ego[dataset._scans[:1]], len(dataset._index.ego), 0)
    dataset._index = dataclasses.replace(dataset._index, ego=poses)
    assert np.mean(errors_on_flat_surfaces(dataset, drawn) < 0.01) < 0.8


def errors_on_flat_surfaces(dataset, root) -> np.ndarray:
    """Relative error of scans, over pixels that span a small range of depths."""
    errors = []
    for index, sample in enumerate(dataset.samples):
        for path, depth in zip(dataset.paths(sample, 0), dataset.depth_from_raw(index)):
            ground_truth = (
                np.array(Image.open((root / "ground_truth" / path.relative_to(root)).with_suffix(".png")))
                / 256
            )
            span = np.maximum(*(np.abs(np.gradient(ground_truth, axis=axis)) for axis in (0, 1)))
            flat = (depth > 0) & (ground_truth > 0) & (span < 0.02 * ground_truth)
            errors.append(np.abs(depth - ground_truth)[flat] / ground_truth[flat])
    return np.concatenate(errors)


def test_depth_equals_the_devkits_for_the_same_scan(drawn):
    dataset = open_nuscenes(drawn, part="val", frame_ids=(0,))
    kit = devkit.NuScenes("v1.0-trainval", str(drawn), verbose=False)
    data = kit.get("sample", dataset.samples[1].token)["data"]
    for channel, depth in zip(CHANNELS.values(), dataset.depth_from_raw(1)):
        seen = kit.explorer.map_pointcloud_to_image(data["LIDAR_TOP"], data[channel], min_dist=0.0)
        u, v = np.rint(seen[0][:2]).astype(int)
        expected = np.zeros_like(depth)
        expected[v, u] = seen[1]
        inner = slice(2, -2), slice(2, -2)  # the devkit leaves out the border
        apart = np.abs(depth - expected)[inner] > 1e-3
        # float32 there, float64 here: a point on the edge of two pixels may fall to either side.
        assert apart.sum() < 0.005 * (depth[inner] > 0).sum() and (depth[inner] > 0).sum() > 2000


def test_six_maps_of_a_real_key_frame_are_the_published_ones(shared_data, tmp_path):
    sample = lists(tmp_path / "lists", REAL_TOKEN)
    shutil.copytree(shared_data / "nuscenes_sample", tmp_path / "data")  # the index is written next to them
    dataset = NuScenes(tmp_path / "data", frame_ids=(0,), **sample)
    assert dataset.version == "v1.0-mini" and dataset.name(0) == f"scene-0061 {REAL_TOKEN}"
    assert NuScenes(tmp_path / "data", split="mini", frame_ids=(0,)).name(0) == dataset.name(0)
    maps = dataset.depth_from_raw(0)
    assert maps.shape == (6, 900, 1600) and maps.dtype == np.float32
    for name, depth in zip(RING, maps):
        known = depth[depth > 0].astype(np.float64)
        count, *sums = REAL_MAPS[name]
        assert len(known) == count
        np.testing.assert_allclose([known.sum(), known.min(), known.max()], sums, atol=2e-3, rtol=0)


def test_ground_truth_is_perfect_through_export_and_evaluation(copy):
    export(["--data_path", str(copy), "--dataset", "nuscenes", "--part", "val", "--workers", "1"])
    dataset = open_nuscenes(copy, part="val", frame_ids=(0,))
    measured = [dataset.depth_from_raw(index) for index in range(len(dataset))]
    shutil.rmtree(copy / "samples/LIDAR_TOP")
    dataset = open_nuscenes(copy, part="val", frame_ids=(0,))
    assert dataset.depth_from_raw(0) is None
    assert all(np.array_equal(dataset.depth(n), depth) for n, depth in enumerate(measured))
    perfect = predictor_of(torch.from_numpy(dataset.depth(n))[:, None] for n in range(len(dataset)))
    result = evaluate(perfect, dataset, loading=Loading(batch_size=1))[""]
    assert len(result.rows) == 18
    assert result.mean["abs_rel"] == pytest.approx(0, abs=1e-6) and result.mean["a1"] == 1
    assert result.protocol.card()["counts"] == "0.1 m < ground truth < 80 m"


def test_some_cameras_have_an_exported_file_of_their_own(drawn):
    assert open_nuscenes(drawn).exported.path.name == "official_train_lidar.npz"
    some = open_nuscenes(drawn, camera_names=("back", "front"))
    assert some.exported.path.name == "official_train_lidar_front_back.npz"
    assert open_nuscenes(drawn, ground_truth=None).depth(0) is None


def test_training_and_prediction_run(drawn, tmp_path):
    trainer = runs.train(
        runs.arguments(drawn, tmp_path, dataset="nuscenes", batch_size=1, num_epochs=1, max_steps=2)
    )
    assert (
        trainer.progress.step == 2
        and trainer.validation.has_ground_truth
        and len(trainer.validation.dataset) == 3
    )
    sample = trainer.validation.dataset[0].to("cpu")
    depth = trainer.method.eval().predict_depth(sample.images[0], sample.intrinsics)
    assert depth.shape == (6, 1, 64, 96)


def test_cameras_and_ground_truths_that_do_not_exist_are_named(drawn):
    with pytest.raises(InputError, match="there is no camera 'left'"):
        open_nuscenes(drawn, camera_names=("front", "left"))
    with pytest.raises(InputError, match="there is no ground truth 'lidra'; did you mean 'lidar'"):
        open_nuscenes(drawn, ground_truth="lidra")
    with pytest.raises(InputError, match="no stereo partner"):
        open_nuscenes(drawn, frame_ids=(0, "s"))


# Lists.


def test_our_scene_lists_are_the_official_ones():
    from nuscenes.utils.splits import create_splits_scenes

    official = create_splits_scenes()
    for split, prefix in (("official", ""), ("mini", "mini_")):
        for part in ("train", "val"):
            scenes = [line.folder for line in load_split("nuscenes", split, part)]
            assert scenes == official[prefix + part]


def test_published_lists_of_tokens_are_read_as_they_are(drawn, tmp_path):
    tokens = [record["token"] for record in table(drawn, "sample")][::-2]
    dataset = open_nuscenes(drawn, frame_ids=(0,), **lists(tmp_path / "lists", *tokens))
    assert [sample.token for sample in dataset.samples] == tokens
    if PUBLISHED.is_dir():
        for part, count in (("train", 20096), ("val", 6019)):
            assert len({line.folder for line in load_split("nuscenes", str(PUBLISHED), part)}) == count


def test_token_missing_in_the_tables_is_named_with_its_line(drawn, tmp_path):
    split = lists(tmp_path / "lists", table(drawn, "sample")[0]["token"], "0" * 32)
    with pytest.raises(InputError, match=r"val\.txt, line 2: v1\.0-trainval has no sample or scene '0000"):
        open_nuscenes(drawn, frame_ids=(0,), **split)


def test_a_listed_sample_without_neighbours_is_named_or_left_out(drawn, tmp_path):
    tokens = [record["token"] for record in table(drawn, "sample")][1:3]
    split = lists(tmp_path / "lists", *tokens)
    with pytest.raises(InputError, match=r"line 2: CAM_FRONT has no frame \+1 next to sample .* scene-0001"):
        open_nuscenes(drawn, **split)
    assert [sample.token for sample in open_nuscenes(drawn, skip_missing=True, **split).samples] == tokens[:1]
    with pytest.raises(InputError, match="none of the 1 samples has the frames"):
        open_nuscenes(drawn, skip_missing=True, **lists(tmp_path / "lists", tokens[1]))


def test_a_split_that_the_tables_do_not_hold_is_refused(copy):
    with pytest.raises(InputError, match="did you mean 'official'"):
        open_nuscenes(copy, split="oficial")
    with pytest.raises(InputError, match=r"has none of the scenes of splits/nuscenes/mini/train\.txt"):
        open_nuscenes(copy, split="mini")
    (copy / "v1.0-trainval").rename(copy / "v1.0-mini")
    with pytest.raises(InputError, match=r"has none of the scenes of splits/nuscenes/mini/train\.txt"):
        open_nuscenes(copy)
    with pytest.raises(InputError, match=r"no tables 'v1.0-miny'; did you mean 'v1.0-mini'"):
        open_nuscenes(copy, version="v1.0-miny")
    (copy / "v1.0-test").mkdir()
    with pytest.raises(InputError, match=r"v1\.0-mini and v1\.0-test; choose one with --dataset.version"):
        open_nuscenes(copy)


# The tables.


def test_the_devkit_loads_what_the_layout_writes(plan, drawn):
    kit = devkit.NuScenes("v1.0-trainval", str(drawn), verbose=False)
    assert [scene["name"] for scene in kit.scene] == ["scene-0001", "scene-0003"]
    for scene in kit.scene:
        sample, count = kit.get("sample", scene["first_sample_token"]), 1
        while sample["next"]:
            assert set(sample["data"]) == {*CHANNELS.values(), "LIDAR_TOP"}
            sample, count = kit.get("sample", sample["next"]), count + 1
        assert (sample["token"], count) == (scene["last_sample_token"], scene["nbr_samples"])
        record, times = kit.get("sample_data", sample["data"]["CAM_BACK"]), []
        while record["prev"]:
            times.append(record["timestamp"])
            record = kit.get("sample_data", record["prev"])
        assert len(times) == plan.frames - 1 and (np.diff(times) < 0).all()
    for record in kit.sample_data:
        assert (drawn / record["filename"]).is_file()


def test_index_is_reused_until_the_tables_change(copy, monkeypatch):
    first = open_nuscenes(copy)
    assert (copy / "v1.0-trainval" / ours.INDEX_FILE).is_file()
    ours._load_index.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(ours, "build_index", None)
        again = open_nuscenes(copy)
    assert np.array_equal(again.depth_from_raw(0), first.depth_from_raw(0))
    scenes = table(copy, "scene")
    rewrite(copy, "scene", [{**scene, "name": scene["name"].replace("1", "2")} for scene in scenes])
    assert open_nuscenes(copy).name(0).startswith("scene-0002 ")
    (copy / "v1.0-trainval" / ours.INDEX_FILE).write_bytes(b"half an index")
    ours._load_index.cache_clear()
    assert open_nuscenes(copy).name(0).startswith("scene-0002 ")


def test_read_only_folder_is_read_without_an_index(copy, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    ours._load_index.cache_clear()
    (copy / "v1.0-trainval" / ours.INDEX_FILE).unlink()
    monkeypatch.setattr(ours, "atomic_path", refuse)
    assert len(open_nuscenes(copy)) == 2
    assert not (copy / "v1.0-trainval" / ours.INDEX_FILE).exists()


def test_a_dataset_keeps_only_what_its_samples_need(drawn):
    dataset = open_nuscenes(drawn, camera_names=("front",), part="val", frame_ids=(0,))
    assert len(dataset._index.time) == 3 * 2  # an image and a scan each
    assert not any(isinstance(value, devkit.NuScenes) for value in vars(dataset).values())


def test_a_missing_devkit_is_named_with_what_to_install(copy, monkeypatch):
    (copy / "v1.0-trainval/scene.json").write_text((copy / "v1.0-trainval/scene.json").read_text() + "\n")
    monkeypatch.setitem(sys.modules, "nuscenes.nuscenes", None)
    with pytest.raises(InputError, match=r'pip install "nuscenes-devkit>=1.2" "numpy<2"'):
        open_nuscenes(copy)


# Broken data.


def test_a_sample_that_lacks_a_camera_is_named_or_left_out(copy):
    records = table(copy, "sample_data")
    gone = next(r for r in records if "samples/CAM_BACK_LEFT" in r["filename"])
    for record in records:
        for link in ("prev", "next"):
            record[link] = "" if record[link] == gone["token"] else record[link]
    rewrite(copy, "sample_data", [record for record in records if record is not gone])
    words = f"scene-0001 {gone['sample_token']}: the sample has no key frame of CAM_BACK_LEFT"
    with pytest.raises(InputError, match=words):
        open_nuscenes(copy)
    assert len(open_nuscenes(copy, skip_missing=True)) == 1
    assert len(open_nuscenes(copy, camera_names=("front", "back"))) == 2


def test_truncated_scan_is_refused_missing_scan_gives_no_depth(copy):
    dataset = open_nuscenes(copy)
    scan = sorted((copy / "samples/LIDAR_TOP").iterdir())[0]
    scan.write_bytes(scan.read_bytes()[:-3])
    with pytest.raises(
        InputError, match=r"pcd\.bin is not a whole LiDAR scan: its \d+ bytes are not a multiple of 20"
    ):
        dataset.depth(0)
    scan.unlink()
    assert dataset.depth(0) is None


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "calibrated_sensor",
            {"rotation": [1, 1, 0, 0]},
            "calibrated_sensor.json, CAM_FRONT .* got 1.41421",
        ),
        ("calibrated_sensor", {"camera_intrinsic": []}, r"CAM_FRONT .* expected a 3 x 3 matrix .* got \[\]"),
        ("ego_pose", {"rotation": [0, 0, 0, 0]}, r"ego_pose.json, sweeps/CAM_FRONT/.*length 1, got 0"),
        ("ego_pose", {"rotation": [1, 0, 0]}, r"ego_pose.json, sweeps/CAM_FRONT/.* a pose is 4 \+ 3 finite"),
        ("ego_pose", {"translation": ["a", 0, 0]}, r"ego_pose.json, sweeps/CAM_FRONT/.* a pose is 4 \+ 3"),
        ("sample_data", {"height": 0}, r"sample_data.json, sweeps/CAM_FRONT/.* are pixels, got 0 and 96"),
        ("ego_pose", {"token": "lost"}, "do not fit together: '[0-9a-f]{32}' is missing"),
        ("scene", {"token": "lost"}, "do not fit together"),
    ],
)
def test_invalid_tables_are_refused(copy, name, change, words):
    records = table(copy, name)
    rewrite(copy, name, [{**records[0], **change}, *records[1:]])
    with pytest.raises(InputError, match=words):
        open_nuscenes(copy)


def test_a_truncated_table_is_named(copy):
    (copy / "v1.0-trainval/ego_pose.json").write_text('[{"token": "1", "rot')
    with pytest.raises(InputError, match=r"ego_pose\.json is not a JSON file .* truncated\? extract the"):
        open_nuscenes(copy)


def test_missing_tables_sweeps_and_images_are_named(copy, tmp_path):
    shutil.move(copy / "sweeps", tmp_path / "sweeps")
    with pytest.raises(InputError, match=r"frames -1 1 are images between .* extract the sweeps"):
        open_nuscenes(copy)
    assert len(open_nuscenes(copy, frame_ids=(0,))) == 3
    (copy / "sweeps").mkdir()
    with pytest.raises(InputError, match=r"scene-0001 [0-9a-f]{32}: no image at .*sweeps/CAM_FRONT/"):
        open_nuscenes(copy)
    (copy / "v1.0-trainval/map.json").write_text("[]")
    with pytest.raises(InputError, match="nuscenes-devkit cannot read the tables"):
        open_nuscenes(copy)
    (copy / "v1.0-trainval/map.json").unlink()
    with pytest.raises(
        InputError, match=r"there is no table .*map\.json; extract the archive called Metadata"
    ):
        open_nuscenes(copy)
    with pytest.raises(InputError, match="there are no nuScenes tables under"):
        open_nuscenes(tmp_path / "sweeps")
    with pytest.raises(InputError, match="there is no folder"):
        open_nuscenes(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../../outside/evil0", "/tmp/evil0", "a/b"])
def test_a_scene_name_cannot_lead_out_of_the_folder(copy, name):
    scenes = table(copy, "scene")
    rewrite(copy, "scene", [{**scenes[0], "name": name}, *scenes[1:]])
    with pytest.raises(InputError, match=r"scene\.json: '.*' would lead out of the dataset's folder"):
        open_nuscenes(copy)


def test_the_official_split_of_mini_tables_is_minis(copy):
    mini = load_split("nuscenes", "mini", "val")[0].folder
    scenes = table(copy, "scene")
    rewrite(copy, "scene", [{**scenes[0], "name": mini}, *scenes[1:]])
    (copy / "v1.0-trainval").rename(copy / "v1.0-mini")
    dataset = open_nuscenes(copy, part="val", frame_ids=(0,))
    assert {sample.scene for sample in dataset.samples} == {mini}
    assert dataset.exported.path.name == "mini_val_lidar.npz"
