"""NYUv2: goldens of the published loader, both forms of test files, lists, scene folders, bad files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from datasets.nyuv2 import DISTORTION, MAT, NyuV2, border, find_scenes, official_test
from datasets.synthetic import Camera
from evaluation import Loading, evaluate
from metrics import GroundTruth, measure
from tests.goldens import Golden, image, tensor, uniform
from tests.predictors import predictor_of
from tools.layouts._base import RATE, Plan, looking_ahead
from tools.make_synthetic import make
from utils import InputError

PUBLISHED = Path(__file__).resolve().parents[3] / "shared/splits/nyuv2/test_files.txt"
NINE = "b.png a.png a.png a.png a.png c.png c.png c.png c.png"  # offsets 0 -4 -3 -2 -1 1 2 3 4


@pytest.fixture(scope="module")
def golden():
    return Golden("bdedepth_datasets")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory) -> Path:
    """Three rooms of 9 images, 96 x 128; the last image is labelled."""
    root = tmp_path_factory.mktemp("nyuv2") / "data"
    make(Plan("nyuv2", root, sequences=3, frames=9, height=96, width=128, seed=0, ext="png"))
    return root


def drawn_image() -> np.ndarray:
    """(480, 640, 3) uint8, the golden's; drawn here because its other inputs take seconds."""
    return np.round(255 * image("A:bde:ds:ny", 1, 480, 640)[0].transpose(1, 2, 0)).astype(np.uint8)


def write_converted(path: Path, rgb: np.ndarray, depth: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["rgb"], file["depth"] = rgb, depth


def write_list(root: Path, part: str, text: str) -> Path:
    folder = root / "lists"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{part}_files.txt").write_text(text)
    return folder


def stills(root: Path, split: Path, **settings) -> NyuV2:
    return NyuV2(root, split, "test", (0,), **{"height": 64, "width": 96, **settings})


def images_in(root: Path, names: list[str], size: tuple[int, int] = (24, 32)) -> None:
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 10 * shade, np.uint8)).save(root / name)


# ------------------------------------------------------------------------------------ the published numbers


def test_training_image_is_undistorted_and_cropped_as_published(golden, tmp_path):
    Image.fromarray(drawn_image()).save(tmp_path / "b.png")
    split = write_list(tmp_path, "train", NINE + "\n")
    dataset = NyuV2(tmp_path, split, frame_ids=(0,))
    image = dataset.read_images(dataset.samples[0], 0)[0]
    assert image.shape == (3, 448, 608)
    golden.close("nyu_train_full", image.permute(1, 2, 0)[::4, ::4])
    golden.close("nyu_train_full_flip", image.flip(2).permute(1, 2, 0)[::4, ::4])
    K = np.eye(4)
    K[:3, :3] = np.diag([1 / 608, 1 / 448, 1]) @ dataset.intrinsics(dataset.samples[0], 0, 448, 608)
    golden.close("nyu_train_K", K)


def test_a_test_image_and_its_depth_are_cropped_as_published(golden, tmp_path):
    depth = uniform("A:bde:ds:nyd", (480, 640), 0.5, 9.5)
    write_converted(tmp_path / "nyu_test/00001.h5", drawn_image().transpose(2, 0, 1), depth)
    dataset = stills(tmp_path, write_list(tmp_path, "test", "nyu_test/00001.h5\n"), resize="lanczos")
    golden.close("nyu_test_color", dataset[0].images[0][0])
    golden.close("nyu_test_depth", dataset.depth(0)[0])
    K = np.eye(4)
    K[:3, :3] = np.diag([1 / 561, 1 / 427, 1]) @ dataset.intrinsics(dataset.samples[0], 0, 427, 561)
    golden.close("nyu_test_K", K)


@pytest.mark.parametrize(("case", "farthest"), [("nyu", 10.0), ("nyu_max100", 100.0)])
def test_the_protocol_gives_the_published_metrics(case, farthest):
    golden = Golden("bdedepth_eval")
    drawn = golden.inputs()
    depth = 1 / (1 / farthest + (10 - 1 / farthest) * tensor(drawn["disp_nyu"]))
    measured = measure(depth, GroundTruth.of(drawn["nyu_gt"], NyuV2.protocol), NyuV2.protocol)
    golden.close(case, measured.errors, relative=1e-5)
    assert measured.pixels.tolist() == golden[f"{case}.count"].tolist()


def test_the_official_test_set_are_the_654_published_images():
    official = official_test()
    assert len(official) == 654
    assert (official[0].number, official[-1].number) == (1, 1449)  # the .mat holds 1449, counted from 1
    if not PUBLISHED.exists():
        pytest.skip("the published list is not at hand")
    assert [sample.path for sample in official] == PUBLISHED.read_text().split()


# ------------------------------------------------------------------------------------- writer to evaluator


def test_training_image_agrees_with_its_intrinsics(rooms):
    dataset = NyuV2(rooms, rooms / "splits", height=96, width=128)
    layout_plan = Plan("nyuv2", rooms, 3, 9, 96, 128, 0, "png")
    batch = dataset[0]
    sequence, frame = 0, 4
    assert dataset.name(0) == "train/room_0001/00004.png"
    room = layout_plan.room(sequence)
    camera = Camera(batch.intrinsics[0].numpy().astype(float), 128, 96)
    for offset in (0, -1, 1):
        time = (frame + offset) / RATE
        straight = room.render(camera, room.ego_pose(time) @ looking_ahead(0, 0, 0), time).image
        error = np.abs(batch.images[offset][0].permute(1, 2, 0).numpy().astype(float) - straight).mean()
        assert error < 4  # of 255
    as_videoed = NyuV2(rooms, rooms / "splits", height=96, width=128, undistort=False)[0]
    time = frame / RATE
    straight = room.render(camera, room.ego_pose(time) @ looking_ahead(0, 0, 0), time).image
    assert (
        np.abs(as_videoed.images[0][0].permute(1, 2, 0).numpy() - straight.astype(float)).mean() > 2 * error
    )


def test_test_image_and_depth_agree_with_the_intrinsics(rooms):
    dataset = stills(rooms, rooms / "splits", height=64, width=96)
    room = Plan("nyuv2", rooms, 3, 9, 96, 128, 0, "png").room(2)
    assert len(dataset) == 2 and dataset.name(1) == "nyu_test/00002"
    for index, time in ((0, 1 / RATE), (1, 5 / RATE)):
        pose = room.ego_pose(time) @ looking_ahead(0, 0, 0)
        camera = Camera(dataset.intrinsics(dataset.samples[0], 0, 427, 561), 561, 427)
        np.testing.assert_allclose(dataset.depth(index)[0], room.render(camera, pose, time).depth, atol=1e-5)
        small = Camera(dataset[index].intrinsics[0].numpy().astype(float), 96, 64)
        image = dataset[index].images[0][0].permute(1, 2, 0).numpy().astype(float)
        assert np.abs(image - room.render(small, pose, time).image).mean() < 8


@pytest.mark.parametrize("kind", ["converted", "official"])
def test_ground_truth_is_perfect_in_both_forms_of_the_test_set(rooms, kind, tmp_path):
    root = rooms
    if kind == "official":
        (tmp_path / MAT).symlink_to(rooms / MAT)
        root = tmp_path
    dataset = stills(root, rooms / "splits")
    up_to_scale = predictor_of(
        0.37 * torch.from_numpy(dataset.depth(index))[None] for index in range(len(dataset))
    )
    result = evaluate(up_to_scale, dataset, loading=Loading(batch_size=1))[""]
    assert len(result.rows) == 2 and all(row.pixels == 427 * 561 for row in result.rows)
    assert result.mean["abs_rel"] < 1e-7 and result.mean["rmse"] < 1e-6 and result.mean["a1"] == 1
    assert result.card()["counts"] == "0 m < ground truth < 10 m"


def test_the_official_mat_and_the_converted_files_hold_the_same(rooms, tmp_path):
    (tmp_path / MAT).symlink_to(rooms / MAT)
    converted, official = (stills(root, rooms / "splits") for root in (rooms, tmp_path))
    for index in range(2):
        assert torch.equal(converted[index].images[0], official[index].images[0])
        np.testing.assert_array_equal(converted.depth(index), official.depth(index))
    assert official.samples[0].name == "nyu_test/00001"
    assert (rooms / MAT).read_bytes()[:10] == b"MATLAB 7.3"


def test_equal_plans_write_equal_bytes(tmp_path):
    for folder in ("one", "two"):
        make(Plan("nyuv2", tmp_path / folder, sequences=2, frames=3, height=32, width=48, seed=0, ext="png"))
    for path in (MAT, "nyu_test/00001.h5", "train/room_0001/00002.png", "splits/train_files.txt"):
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


# ----------------------------------------------------------------------------------- lists and scene folders


def test_columns_of_a_published_line_are_offsets_of_frames(tmp_path):
    names = [f"p{number}.png" for number in range(9)]
    images_in(tmp_path, names)
    split = write_list(tmp_path, "train", " ".join(names) + "\n")
    dataset = NyuV2(tmp_path, split, frame_ids=(0, -4, -1, 1, 4))
    found = [dataset.paths(dataset.samples[0], frame)[0].name for frame in dataset.frame_ids]
    assert found == ["p0.png", "p1.png", "p4.png", "p5.png", "p8.png"]
    assert NyuV2(tmp_path, split, frame_ids=(0, 1), stride=3).paths(dataset.samples[0], 1)[0].name == "p7.png"
    with pytest.raises(InputError, match=r"after a target; there is none at 5: --dataset.stride 1"):
        NyuV2(tmp_path, split, frame_ids=(0, 5))


def test_scene_folders_are_in_order_and_the_last_tenth_validates(tmp_path):
    images_in(tmp_path, [f"kitchen_0001/{n}.jpg" for n in (1, 2, 10, 9)])
    images_in(tmp_path, [f"dens/den_0001/r-129.{n}-7.ppm" for n in range(4)])
    images_in(tmp_path, [f"dens/den_0001/d-129.{n}-9.png" for n in range(4)])  # the Kinect's depth
    images_in(tmp_path, ["study_0002/a.png", "study_0002/b.png", "study_0002/c.png", "cover.png"])
    assert list(find_scenes(tmp_path)) == ["dens/den_0001", "kitchen_0001", "study_0002"]
    train, val = (NyuV2(tmp_path, part=part, height=32, width=32) for part in ("train", "val"))
    names = [train.name(index) for index in range(len(train))]
    assert names == ["dens/den_0001/r-129.1-7.ppm", "dens/den_0001/r-129.2-7.ppm",
                     "kitchen_0001/2.jpg", "kitchen_0001/9.jpg"]  # fmt: skip
    assert [val.name(0), len(val), val.depth(0)] == ["study_0002/b.png", 1, None]
    far = NyuV2(tmp_path, frame_ids=(0, 1), height=32, width=32, stride=3)
    assert [sample.frame for sample in far.samples] == [0, 0]


def test_scenes_may_be_links_and_link_cycles_end(tmp_path):
    root, disk = tmp_path / "nyu", tmp_path / "disk"
    images_in(disk, [f"{scene}/{n}.png" for scene in ("den_0001", "dens/den_0002") for n in range(3)])
    root.mkdir()
    (root / "den_0001").symlink_to(disk / "den_0001")
    (root / "dens").symlink_to(disk / "dens")
    (root / "again").symlink_to(root)
    assert list(find_scenes(root)) == ["den_0001", "dens/den_0002"]


def test_a_single_scene_is_cut_in_time(tmp_path):
    images_in(tmp_path, [f"office/{n:02d}.png" for n in range(12)])
    train, val = (NyuV2(tmp_path, part=part, height=32, width=32) for part in ("train", "val"))
    seen = {path for sample in train.samples for frame in (-1, 0, 1) for path in train.paths(sample, frame)}
    held = {path for sample in val.samples for frame in (-1, 0, 1) for path in val.paths(sample, frame)}
    assert len(seen) == 9 and len(held) == 3 and not seen & held


def test_scenes_of_test_images_are_not_trained_on(tmp_path):
    """The .mat names the scene of each image; numbers 1 and 2 are official test images, 3 is not."""
    with h5py.File(tmp_path / MAT, "w") as file:
        scenes = file.create_dataset("scenes", (1, 3), h5py.ref_dtype)
        for place, name in enumerate(("bath_0003a", "den_0001", "study_0002")):
            scenes[0, place] = file.create_dataset(f"n{place}", data=np.array([*map(ord, name)])[:, None]).ref
    for scene in ("bath_0003b", "dens/den_0001", "study_0001", "study_0002"):
        images_in(tmp_path, [f"{scene}/{n}.png" for n in range(3)])
    parts = [NyuV2(tmp_path, part=part, height=32, width=32) for part in ("train", "val")]
    assert [part.name(0).rpartition("/")[0] for part in parts] == ["study_0001", "study_0002"]


def test_smaller_copy_has_scaled_border_and_intrinsics(tmp_path):
    assert border(480, 640) == (16, 16) and border(240, 320) == (8, 8)
    images_in(tmp_path, [f"office/{n}.png" for n in range(12)], size=(240, 320))
    dataset = NyuV2(tmp_path, frame_ids=(0,))
    height, width = dataset.read_images(dataset.samples[0], 0)[0].shape[1:]
    assert (height, width) == (224, 304)
    K = dataset.intrinsics(dataset.samples[0], 0, height, width)
    np.testing.assert_allclose(np.diag(K)[:2], np.array([518.857901, 519.469611]) / 2)
    np.testing.assert_allclose(K[0, 2], (325.582449 + 0.5) / 2 - 0.5 - 8)
    assert DISTORTION.shape == (5,)


# ------------------------------------------------------------------------------------------------ bad input


def test_a_mat_of_another_version_or_content_is_named(tmp_path):
    split = write_list(tmp_path, "test", "nyu_test/00003.h5\n")
    savemat(tmp_path / MAT, {"images": np.zeros((2, 3))})
    with pytest.raises(InputError, match=r"labeled.mat is a MATLAB file of version 5; .* version 7.3"):
        stills(tmp_path, split)
    with h5py.File(tmp_path / MAT, "w") as file:
        file["labels"] = np.zeros(3)
    with pytest.raises(InputError, match="has no variable 'images', only labels"):
        stills(tmp_path, split)
    with h5py.File(tmp_path / MAT, "w") as file:
        file["images"], file["depths"] = np.zeros((2, 3, 4, 5), np.uint8), np.zeros((2, 4, 5))
    with pytest.raises(InputError, match=r"expected images \(n, 3, 640, 480\) .* got \(2, 3, 4, 5\)"):
        stills(tmp_path, split)
    with h5py.File(tmp_path / MAT, "w") as file:
        file.create_dataset("images", (2, 3, 640, 480), np.float32)
        file.create_dataset("depths", (2, 640, 480), np.float32)
    with pytest.raises(InputError, match=r"expected images .* of uint8 .* got .* of float32"):
        stills(tmp_path, split)
    with h5py.File(tmp_path / MAT, "w") as file:
        file.create_dataset("images", (2, 3, 640, 480), np.uint8)
        file.create_dataset("depths", (2, 640, 480), np.float32)
    with pytest.raises(InputError, match="holds 2 images; there is no number 3"):
        stills(tmp_path, split)
    (tmp_path / MAT).write_bytes((tmp_path / MAT).read_bytes()[:300])
    with pytest.raises(InputError, match=r"cannot be read as HDF5 .* truncated\?"):
        stills(tmp_path, split)


def test_a_converted_file_of_another_content_is_named(tmp_path):
    path = tmp_path / "nyu_test/00001.h5"
    write_converted(path, np.zeros((3, 240, 320), np.uint8), np.zeros((240, 320)))
    split = write_list(tmp_path, "test", "nyu_test/00001.h5\n")
    with pytest.raises(InputError, match=r"expected rgb \(3, 480, 640\) .* got \(3, 240, 320\)"):
        stills(tmp_path, split)
    write_converted(path, np.zeros((3, 480, 640), np.float32), np.zeros((480, 640)))
    with pytest.raises(InputError, match=r"expected rgb \(3, 480, 640\) of uint8 .* of float32"):
        stills(tmp_path, split)
    with h5py.File(path, "w") as file:
        file.create_group("rgb")
    with pytest.raises(InputError, match="has no variable 'rgb'"):
        stills(tmp_path, split)


def test_missing_test_set_and_invalid_line_are_named(tmp_path):
    split = write_list(tmp_path, "test", "nyu_test/00001.h5\n")
    with pytest.raises(InputError, match=r"no image at .*nyu_test/00001.h5"):
        stills(tmp_path, split)
    with pytest.raises(InputError, match=r"a numbered image such as nyu_test/00001.h5, got 'x.h5'"):
        stills(tmp_path, write_list(tmp_path / "two", "test", "x.h5\n"))
    with pytest.raises(InputError, match=r"train_files.txt, line 2: expected nine paths .* got 3"):
        NyuV2(tmp_path, write_list(tmp_path, "train", NINE + "\na b c\n"))
    with pytest.raises(InputError, match="test images are single; --frame_ids must be 0"):
        NyuV2(tmp_path, split, "test")


def test_unsupported_settings_are_refused(tmp_path):
    with pytest.raises(InputError, match="no stereo partner"):
        NyuV2(tmp_path, frame_ids=(0, "s"))
    with pytest.raises(InputError, match="stride is a whole number of frames from 1 on, got 0"):
        NyuV2(tmp_path, stride=0)
    with pytest.raises(InputError, match="there are no folders of images under"):
        NyuV2(tmp_path)
    images_in(tmp_path, [f"office/{n}.png" for n in range(8)])
    with pytest.raises(InputError, match=r"has its neighbours at \[0, 9\]; the longest scene holds 8"):
        NyuV2(tmp_path, frame_ids=(0, 1), stride=9)
    with pytest.raises(InputError, match="no split 'offical'; did you mean 'official'"):
        NyuV2(tmp_path, "offical", "test")
