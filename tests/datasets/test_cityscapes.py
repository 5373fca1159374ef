"""Cityscapes on a drawn tree: four layouts, cameras, ground truth, labels, lists, broken files."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets._cityscapes import UPPER, split_triple
from datasets._cityscapes_labels import LABEL_IDS, to_train_ids
from datasets.cityscapes import Cityscapes, depth_from_disparity
from datasets.splits import load_split, parts, published_lines, read_split_file
from evaluation import Loading, evaluate
from layers import disparity_to_depth
from metrics import METRICS, GroundTruth, measure
from tests import runs
from tests.goldens import Golden
from tests.predictors import predictor_of
from tools import export_gt_depth
from tools.layouts._base import Plan
from tools.layouts.cityscapes import BASELINE, INTRINSICS, CityscapesTree
from tools.make_synthetic import make
from tools.prepare_cityscapes import main as prepare
from utils import InputError

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "splits" / "cityscapes"
HEIGHT, WIDTH = 128, 192
UPPER_HEIGHT = 96  # three quarters
PLAN = {"sequences": 3, "frames": 7, "height": HEIGHT, "width": WIDTH, "seed": 0, "ext": "png"}


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    """Two recordings of aachen and one of berlin, 7 frames each, 128 x 192."""
    root = tmp_path_factory.mktemp("cityscapes") / "city"
    make(Plan("cityscapes", root, **PLAN))
    return root


@pytest.fixture
def copy(city, tmp_path) -> Path:
    """The same, to be broken."""
    return Path(shutil.copytree(city, tmp_path / "city"))


@pytest.fixture(scope="module")
def small(city, tmp_path_factory) -> dict[str, Path]:
    """The training part in all three prepared layouts, at its own size."""
    root = tmp_path_factory.mktemp("prepared")
    size = ["--width", str(WIDTH), "--height", str(HEIGHT), "--workers", "1"]
    prepare(["--data_path", str(city), "--out", str(root / "sequences"), "--ext", "png", *size])
    prepare(["--data_path", str(city), "--out", str(root / "vertical"), "--layout", "triples", *size])
    side_by_side(root / "vertical", root / "horizontal")
    return {name: root / name for name in ("sequences", "vertical", "horizontal")}


def side_by_side(vertical: Path, horizontal: Path) -> None:
    """BDEdepth's triples as ManyDepth's; lossless, so that images can be compared."""
    for path in vertical.glob("*/*.png"):
        target = horizontal / path.relative_to(vertical)
        target.parent.mkdir(parents=True, exist_ok=True)
        image = np.array(Image.open(path))
        Image.fromarray(np.hstack(np.split(image, 3))).save(target)
        shutil.copy(path.with_name(f"{path.stem}_cam.txt"), target.parent)


def open_city(root: Path, lists: Path | None = None, **settings) -> Cityscapes:
    settings = {"split": str((lists or root) / "splits"), "height": UPPER_HEIGHT, "width": WIDTH, **settings}
    return Cityscapes(root, **settings)


def raw(root: Path, number: int, recording: str = "aachen_000000") -> torch.Tensor:
    part, city = ("train", "aachen") if recording.startswith("aachen") else ("test", "berlin")
    path = root / "leftImg8bit_sequence" / part / city / f"{recording}_{number:06d}_leftImg8bit.png"
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)


# ------------------------------------------------------------------------------------------------- images


def test_neighbours_are_two_frames_apart_and_bonnet_is_cropped(city):
    dataset = open_city(city)
    assert dataset.name(0) == "aachen_000000_000002" and len(dataset) == 5
    batch = dataset[0]
    for frame, number in ((0, 2), (-1, 0), (1, 4)):
        assert torch.equal(batch.images[frame][0], raw(city, number)[:, :UPPER_HEIGHT])
    assert torch.equal(open_city(city, stride=1)[0].images[1][0], raw(city, 3)[:, :UPPER_HEIGHT])


def test_whole_images_are_read_without_a_crop(city):
    dataset = open_city(city, top_rows=1, height=HEIGHT)
    assert torch.equal(dataset[0].images[0][0], raw(city, 2))
    assert dataset.protocol.crop == "none" and dataset.depth(0).shape == (1, HEIGHT, WIDTH)
    assert torch.allclose(dataset[0].intrinsics, open_city(city)[0].intrinsics)


def test_intrinsics_are_resized_around_pixel_centres(city):
    K = open_city(city)[0].intrinsics[0]
    assert K[0, 0] == pytest.approx(INTRINSICS[0, 0] * WIDTH / 2048)
    assert K[1, 2] == pytest.approx((INTRINSICS[1, 2] + 0.5) * HEIGHT / 1024 - 0.5)


def test_camera_file_nearest_to_the_frame_is_used(copy):
    path = next((copy / "camera/train/aachen").glob("aachen_000000_*"))
    values = json.loads(path.read_text())
    values["intrinsic"]["fx"] = 2000.0
    path.with_name("aachen_000000_000004_camera.json").write_text(json.dumps(values))
    focals = [open_city(copy)[index].intrinsics[0, 0, 0].item() for index in range(3)]  # frames 2, 3, 4
    assert focals == pytest.approx([focal * WIDTH / 2048 for focal in (2262.52, 2262.52, 2000)])


@pytest.mark.parametrize("layout", ["sequences", "vertical", "horizontal"])
def test_every_layout_gives_the_same_images_and_cameras(city, small, layout):
    ours, other = open_city(city), open_city(small[layout], city)
    for index in range(len(ours)):
        for frame in (0, -1, 1):
            assert torch.equal(ours[index].images[frame], other[index].images[frame])
        assert torch.allclose(ours[index].intrinsics, other[index].intrinsics, atol=1e-4)


def test_the_loader_meets_the_golden_image_and_camera(tmp_path):
    golden = Golden("bdedepth_datasets")
    image = golden.inputs()["city_pic"]
    for kind, suffix in (("leftImg8bit", "leftImg8bit.png"), ("camera", "camera.json")):
        path = tmp_path / kind / "test/berlin" / f"berlin_000000_000019_{suffix}"
        path.parent.mkdir(parents=True)
        if kind == "leftImg8bit":
            Image.fromarray(image).save(path)
        else:
            inner = {"fx": 2262.52, "fy": 2265.30, "u0": 1096.98, "v0": 513.137}
            path.write_text(json.dumps({"intrinsic": inner, "extrinsic": {"baseline": 0.2}}))
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/test_files.txt").write_text("berlin berlin_000000_000019\n")
    dataset = open_city(tmp_path, part="test", frame_ids=(0,), height=64, width=96, resize="lanczos")
    batch = dataset[0]
    assert np.array_equal(batch.images[0][0].numpy(), golden["city_test_color"])
    # The published principal point is scaled as if (0, 0) were a pixel's corner.
    K = batch.intrinsics[0].clone()
    K[0, 2] += (1 - 96 / 2048) / 2
    K[1, 2] += (1 - 64 / 768) / 2
    assert torch.allclose(K, torch.from_numpy(golden["city_test_K"])[:3, :3], rtol=1e-5)
    assert np.allclose(np.linalg.inv(K), golden["city_test_inv_K"][:3, :3], atol=1e-6)


# ----------------------------------------------------------------------------------------------- ground truth


def test_depth_is_baseline_times_focal_over_disparity():
    values = np.array([[0, 1, 257, 513]], np.uint16)  # unknown, infinitely far, 1 and 2 pixels
    assert depth_from_disparity(values, 500.0).tolist() == [[0, 0, 500, 250]]


def test_the_drawn_disparity_gives_the_drawn_depth_back(city):
    dataset = open_city(city, part="test", frame_ids=(0,))
    tree = CityscapesTree(Plan("cityscapes", city, **PLAN))
    true = tree.view(2, dataset.samples[0].frame).depth[:UPPER_HEIGHT]
    depth = dataset.depth(0)[0]
    assert np.array_equal(depth > 0, true > 0)
    assert np.allclose(depth[true > 0], true[true > 0], rtol=1e-2)


def test_published_ground_truth_is_indexed_by_the_published_list(copy):
    published = [line.key for line in load_split("cityscapes", "manydepth", "test")]
    number = published.index(("berlin_000002", 19, ""))
    frame = copy / "leftImg8bit_sequence/test/berlin/berlin_000002_000003_leftImg8bit.png"
    shutil.copy(frame, frame.with_name("berlin_000002_000019_leftImg8bit.png"))
    names = [f"berlin berlin_000002_{frame:06d}\n" for frame in (3, 19)]
    (copy / "splits/test_files.txt").write_text("".join(names))
    assert open_city(copy, part="test", frame_ids=(0,)).ground_truth == "disparity"
    (copy / "gt_depths").mkdir()
    np.save(copy / f"gt_depths/{number:03d}_depth.npy", np.full((1024, 2048), 6.0))
    dataset = open_city(copy, part="test", frame_ids=(0,))
    assert dataset.ground_truth == "published" and "ManyDepth" in dataset.protocol.card()["ground truth"]
    assert dataset.depth(0) is None  # a frame that the published list does not have
    assert dataset.depth(1).shape == (1, 768, 2048) and (dataset.depth(1) == 6).all()
    np.save(copy / f"gt_depths/{number:03d}_depth.npy", np.full((1024, 2048), "far"))
    with pytest.raises(InputError, match=r"must be one \(h, w\) depth map, got <U3 \(1024, 2048\)"):
        dataset.depth(1)


def test_ground_truth_and_labels_have_the_rows_of_their_image(tmp_path):
    make(Plan("cityscapes", tmp_path, **{**PLAN, "sequences": 2, "frames": 5, "height": 65}))
    for rows, height in ((0.75, 48), (0.7, 45), (1, 65)):
        dataset = open_city(tmp_path, part="test", frame_ids=(0,), top_rows=rows)
        (line,) = dataset.samples
        assert dataset.read_images(line, 0)[0].shape == (3, height, WIDTH)
        assert dataset.depth(0).shape == (1, height, WIDTH)
        assert dataset.train_ids(line).shape == (height, WIDTH)


def test_exported_depth_of_cropped_images_is_refused_for_whole(copy):
    words = ["--data_path", str(copy), "--dataset", "cityscapes", "--split", str(copy / "splits")]
    for settings in ([], ["--set", "top_rows=1"]):
        export_gt_depth.main([*words, "--part", "test", "--workers", "1", *settings])
    for kind in ("disparity", "disparity_sequence"):
        shutil.rmtree(copy / kind)
    for rows, height in ((0.75, UPPER_HEIGHT), (1, HEIGHT)):
        dataset = open_city(copy, part="test", frame_ids=(0,), top_rows=rows)
        assert dataset.depth(0).shape == (1, height, WIDTH)


def test_the_protocol_meets_the_golden_errors(city):
    golden = Golden("bdedepth_eval")
    inputs = golden.inputs()
    protocol = open_city(city).protocol
    depth = disparity_to_depth(torch.from_numpy(inputs["disp_city"]), 0.1, 100.0)
    ground_truth = GroundTruth.cat(
        [GroundTruth.of(inputs[f"city_gt{n}"][None, :768], protocol) for n in (0, 1)]
    )
    measured = measure(depth, ground_truth, protocol)
    golden.close("cityscapes", measured.errors)
    assert measured.pixels.tolist() == golden["cityscapes.count"].tolist()


def test_ground_truth_is_perfect_through_export_and_evaluation(copy):
    words = ["--data_path", str(copy), "--dataset", "cityscapes", "--split", str(copy / "splits")]
    export_gt_depth.main([*words, "--part", "test", "--workers", "1"])
    for kind in ("disparity", "disparity_sequence"):
        shutil.rmtree(copy / kind)
    dataset = open_city(copy, part="test", frame_ids=(0,))
    tree = CityscapesTree(Plan("cityscapes", copy, **PLAN))
    true = [tree.view(2, line.frame).depth[:UPPER_HEIGHT] for line in dataset.samples]
    perfect = predictor_of(torch.from_numpy(np.where(depth > 0, depth, 1e3))[None, None] for depth in true)
    result = evaluate(perfect, dataset, loading=Loading(batch_size=1))[""]
    assert result.mean["abs_rel"] < 5e-4 and result.mean["a1"] == 1  # disparity comes in 1 / 256 pixels
    assert result.ratio_median == pytest.approx(1, abs=1e-3) and len(result.rows) == len(dataset)
    assert set(result.mean) == set(METRICS)


# --------------------------------------------------------------------------------------------------- labels


def test_only_the_nineteen_classes_keep_an_id():
    ids = to_train_ids(np.arange(34, dtype=np.uint8), "7.png")
    assert ids[list(LABEL_IDS)].tolist() == list(range(19)) and (ids != 255).sum() == 19
    assert (ids[7], ids[11], ids[26], ids[33], ids[0]) == (0, 2, 13, 18, 255)


def test_labels_travel_as_train_ids_by_the_nearest_pixel(city):
    dataset = open_city(city, split="fine", frame_ids=(0,), labels=True, height=32, width=64)
    assert [dataset.name(n) for n in range(len(dataset))] == ["aachen_000000_000003", "aachen_000001_000003"]
    labels = dataset[0].maps["labels"]
    assert labels.shape == (1, 1, 32, 64) and labels.dtype == torch.uint8
    tree = CityscapesTree(Plan("cityscapes", city, **PLAN))
    semantics = tree.view(0, 3).semantics[:UPPER_HEIGHT]
    assert np.array_equal(labels[0, 0].numpy(), semantics[1::3, 1::3])
    assert np.array_equal(dataset.train_ids(dataset.samples[0]), semantics)


def test_label_files_with_train_ids_are_preferred(copy):
    path = next((copy / "gtFine/train/aachen").glob("aachen_000000_*_labelIds.png"))
    ids = np.full((HEIGHT, WIDTH), 18, np.uint8)
    ids[0, 0] = 255
    Image.fromarray(ids).save(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
    dataset = open_city(copy, split="fine", frame_ids=(0,), labels=True)
    assert dataset[0].maps["labels"].unique().tolist() == [18, 255]
    assert dataset[1].maps["labels"].unique().numel() > 2


# ---------------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize("part, count", [("train", 69731), ("val", 7386), ("test", 1525)])
def test_lists_have_the_published_counts_without_duplicates(part, count):
    samples = [line.key for line in load_split("cityscapes", "manydepth", part)]
    assert len(samples) == len(set(samples)) == count
    assert parts("cityscapes", "manydepth") == ["test", "train", "val"]


def test_sequences_come_as_runs_and_go_as_published_lines(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("aachen_0-1,7 - 2-3\nhanover_000000 - 29297\n")
    names = ["000000_000002", "000000_000003", "000001_000002", "000001_000003", "000007_000002"]
    lines = published_lines(read_split_file(path))
    assert lines[:5] == [f"aachen aachen_{name}" for name in names]
    assert lines[6:] == ["hanover hanover_000000_029297"]
    path.write_text("".join(f"{line}\n" for line in lines))
    assert published_lines(read_split_file(path)) == lines


def test_no_frame_is_trained_and_validated_on():
    training, validation = (
        {line.key for line in load_split("cityscapes", "manydepth", part)} for part in ("train", "val")
    )
    assert not training & validation


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_list_holds_what_the_published_one_does(part):
    if not PUBLISHED.is_dir():
        pytest.skip("the published lists are not at hand")
    ours = load_split("cityscapes", "manydepth", part)
    theirs = read_split_file(PUBLISHED / f"{part}_files.txt")
    assert Counter(line.key for line in ours) == Counter(line.key for line in theirs)
    if part == "test":  # its order numbers the published ground truth
        written = (PUBLISHED / "test_files.txt").read_text().split("\n")
        assert published_lines(ours) == [line.strip() for line in written if line.strip()]


# ------------------------------------------------------------------------------------------------- training


def test_run_with_cityscapes_and_labels_takes_two_steps(city, tmp_path):
    section = {"name": "cityscapes", "data_path": city, "split": "fine", "labels": True}
    settings = {f"companion.{key}": value for key, value in section.items()}
    settings["companion.labels"] = "true"
    words = runs.arguments(city, tmp_path, dataset="cityscapes", split=city / "splits", batch_size=2)
    for name, value in {**settings, "max_steps": 2}.items():
        words += [f"--{name}", str(value)]
    trainer = runs.train(words)
    batch = next(iter(trainer.loader))
    assert trainer.progress.step == 2 and batch.companion.maps["labels"].shape == (2, 1, 64, 96)


# ------------------------------------------------------------------------------------------------ bad input


def lose_camera(root):
    next((root / "camera/train/aachen").glob("aachen_000001_*")).unlink()


def half_a_camera(root):
    path = next((root / "camera/train/aachen").glob("aachen_000000_*"))
    path.write_text('{"intrinsic": {"fx": 2262.52}, "extrinsic": {}}')


def normalised_camera(root):
    path = next((root / "camera/train/aachen").glob("aachen_000000_*"))
    inner = {"fx": 1.1, "fy": 2.2, "u0": 0.53, "v0": 0.5}
    path.write_text(json.dumps({"intrinsic": inner, "extrinsic": {"baseline": BASELINE}}))


def lose_image(root):
    (root / "leftImg8bit_sequence/train/aachen/aachen_000001_000005_leftImg8bit.png").unlink()


def nothing_at_all(root):
    for name in ("leftImg8bit_sequence", "leftImg8bit"):
        shutil.rmtree(root / name)


@pytest.mark.parametrize(
    "damage, words",
    [
        (lose_camera, r"there is no camera file .*aachen_000001_\*_camera.json; unpack camera_trainvaltest"),
        (half_a_camera, "cannot be read as a Cityscapes camera .*'fy'"),
        (normalised_camera, "fx 1.1, cx 0.53.* does not belong to images of 2048 x 1024"),
        (lose_image, "no image at .*aachen_000001_000005_leftImg8bit.png; 1 of 5 samples lack"),
        (nothing_at_all, "is not a Cityscapes folder: expected leftImg8bit_sequence"),
    ],
)
def test_a_broken_official_tree_is_located_when_it_is_opened(copy, damage, words):
    damage(copy)
    with pytest.raises(InputError, match=words):
        open_city(copy)


def test_images_of_two_sizes_are_located(copy):
    path = copy / "leftImg8bit_sequence/train/aachen/aachen_000001_000003_leftImg8bit.png"
    Image.open(path).resize((WIDTH // 2, HEIGHT // 2)).save(path)
    dataset = open_city(copy)
    with pytest.raises(InputError, match=r"000003_leftImg8bit\.png is 96 x 64, other images here are 192"):
        for index in range(len(dataset)):
            dataset[index]


def resize(root: Path, size: tuple[int, int]) -> None:
    for path in root.glob("**/*.png"):
        Image.open(path).resize(size).save(path)


@pytest.mark.parametrize(
    "layout, damage, words",
    [
        ("sequences", lambda root: resize(root, (WIDTH // 2, 48)), "cam.txt .* does not belong to .*96 x 48"),
        (
            "sequences",
            lambda root: (root / "aachen/000001/cam.txt").unlink(),
            "run .* again",
        ),
        ("sequences", lambda root: (root / "aachen/000000/cam.txt").write_text("1 2\n"), "5 finite numbers"),
        (
            "vertical",
            lambda root: resize(root, (96, 144)),
            "_cam.txt .* does not belong to .*96 x 48",
        ),
        ("vertical", lambda root: resize(root, (WIDTH, 287)), "rows do not divide into three frames"),
        ("horizontal", lambda root: resize(root, (575, 96)), "columns do not divide into three frames"),
        (
            "vertical",
            lambda root: resize(root, (WIDTH, 96)),
            "192 x 96, which is not three frames",
        ),
        (
            "vertical",
            lambda root: (root / "aachen/aachen_000001_000003_cam.txt").unlink(),
            "no camera file .*aachen_000001_000003_cam.txt, which belongs to the triple",
        ),
    ],
)
def test_a_broken_preparation_is_located_when_it_is_opened(city, small, tmp_path, layout, damage, words):
    root = Path(shutil.copytree(small[layout], tmp_path / "broken"))
    damage(root)
    with pytest.raises(InputError, match=words):
        open_city(root, city)


@pytest.mark.parametrize(
    "layout, settings, words",
    [
        ("vertical", {"frame_ids": (0, -2)}, "holds triples: frames -1, 0 and 1, got -2"),
        ("vertical", {"stride": 3}, "two apart, so stride must be 2, got 3"),
        ("sequences", {"labels": True}, "labels are read from the official tree"),
        (
            "sequences",
            {"split": "fine"},
            "'fine' is read off the official tree's gtFine, which .* is not",
        ),
        (None, {"split": "fine", "part": "vla"}, "no part 'vla'; did you mean 'val'"),
        (
            None,
            {"split": "fine", "ground_truth": "published"},
            "test list .* lists none of these frames",
        ),
        (None, {"ground_truth": "disparities"}, "did you mean 'disparity'"),
        (None, {"labels": True}, "there are no labels .*; --split fine lists frames"),
        (None, {"frame_ids": (0, "s")}, "no stereo partner"),
        (None, {"top_rows": 0}, r"share of the rows from 0\.55 to 1, got 0"),
        (None, {"stride": 0}, "from 1 on, got 0"),
    ],
)
def test_settings_that_a_layout_lacks_are_refused(city, small, layout, settings, words):
    with pytest.raises(InputError, match=words):
        open_city(small[layout] if layout else city, city, **settings)


def test_broken_ground_truth_and_labels_are_located(copy):
    dataset = open_city(copy, part="test", frame_ids=(0,))
    path = dataset.tree.file("disparity_sequence", "berlin_000002", dataset.samples[0].frame, "disparity.png")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path)
    with pytest.raises(InputError, match="not a disparity image: expected one 16-bit channel, got uint8"):
        dataset.depth(0)
    Path(path).write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read as a disparity image"):
        dataset.depth(0)
    labelled = open_city(copy, split="fine", frame_ids=(0,), labels=True)
    path = labelled.tree.file(
        "gtFine", labelled.samples[0].folder, labelled.samples[0].frame, "gtFine_labelIds.png"
    )
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    with pytest.raises(InputError, match="holds no ids: expected one 8-bit channel"):
        labelled[0]


def test_triple_is_recognised_by_its_shape():
    frames = [torch.full((3, 24, 64), value, dtype=torch.uint8) for value in range(3)]
    for axis in (1, 2):
        parts = split_triple(torch.cat(frames, axis), Path("triple.png"))
        assert [part.unique().item() for part in parts] == [0, 1, 2]
    assert UPPER == 0.75
