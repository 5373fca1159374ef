"""Make3D: goldens of the published loader and metrics, the whole chain on a written tree, bad files."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from datasets.make3d import GRID, SIZE, Make3D, read_grid
from datasets.splits import load_split
from datasets.synthetic import Camera
from evaluation import Loading, evaluate
from metrics import GroundTruth, measure
from tests.goldens import Golden, image, tensor, uniform
from tests.predictors import predictor_of
from tools.layouts._base import RATE, Plan, looking_ahead
from tools.make_synthetic import make
from utils import InputError

PUBLISHED = Path(__file__).resolve().parents[3] / "shared/splits/make3d/test_files.txt"
PLAN = {"sequences": 1, "frames": 3, "height": 284, "width": 213, "seed": 3, "ext": "png"}


@pytest.fixture(scope="module")
def streets(tmp_path_factory) -> Path:
    """Three upright images of a street with their laser grids."""
    root = tmp_path_factory.mktemp("make3d") / "data"
    make(Plan("make3d", root, **PLAN))
    return root


def open_one(root: Path, name: str = "one", **settings) -> Make3D:
    (root / "lists").mkdir(exist_ok=True)
    (root / "lists/test_files.txt").write_text(f"{name}\n")
    return Make3D(root, str(root / "lists"), **{"height": 64, "width": 96, **settings})


def write_image(root: Path, pixels: np.ndarray, name: str = "one") -> Path:
    path = root / f"Test134/img-{name}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG", compress_level=1)  # lossless, under any name
    return path


def write_grid(root: Path, grid: np.ndarray, name: str = "one") -> Path:
    path = root / f"Gridlaserdata/depth_sph_corr-{name}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"Position3DGrid": grid})
    return path


def test_an_image_and_its_depth_are_cropped_as_published(tmp_path):
    golden = Golden("bdedepth_datasets")
    # Drawn here because the golden's other inputs take seconds.
    pixels = np.round(255 * image("A:bde:ds:m3", 1, 2272, 1704)[0].transpose(1, 2, 0)).astype(np.uint8)
    write_image(tmp_path, pixels)
    write_grid(tmp_path, uniform("A:bde:ds:m3g", GRID, 0.0, 80.0).astype(np.float64))
    dataset = open_one(tmp_path, resize="lanczos")
    golden.close("make3d_color", dataset[0].images[0][0])
    golden.close("make3d_depth", dataset.depth(0)[0])
    assert dataset.name(0) == "one" and dataset.read_images(dataset.samples[0], 0)[0].shape == (3, 852, 1704)


@pytest.mark.parametrize("case", ["make3d", "make3d_stereo"])
def test_the_protocol_gives_the_published_metrics(case):
    golden = Golden("bdedepth_eval")
    drawn = golden.inputs()
    depth = 1 / (1 / 100 + (10 - 1 / 100) * tensor(drawn["disp_make3d"]))
    protocol = Make3D.protocol
    if case == "make3d_stereo":
        protocol = type(protocol)(**{**vars(protocol), "alignment": "none", "scale": 5.4})
    measured = measure(depth, GroundTruth.of(drawn["make3d_gt"], protocol), protocol)
    golden.close(case, measured.errors[:, :4], relative=1e-5)
    assert measured.pixels.tolist() == golden[f"{case}.count"].tolist()
    assert protocol.reported == ("abs_rel", "sq_rel", "rmse", "rmse_log") and protocol.log10


def test_the_official_list_are_the_134_published_names():
    names = [line.folder for line in load_split("make3d", "official", "test")]
    assert len(names) == len(set(names)) == 134
    if not PUBLISHED.exists():
        pytest.skip("the published list is not at hand")
    assert names == PUBLISHED.read_text().split()


def test_ground_truth_is_perfect_through_evaluation(streets):
    dataset = Make3D(streets, str(streets / "splits"), height=64, width=96)
    up_to_scale = predictor_of(
        3.1 * torch.from_numpy(dataset.depth(index))[None] for index in range(len(dataset))
    )
    result = evaluate(up_to_scale, dataset, loading=Loading(batch_size=1))[""]
    assert len(result.rows) == 3
    assert result.mean["abs_rel"] < 1e-7 and result.mean["rmse"] < 1e-5 and result.mean["a1"] == 1
    assert result.card()["counts"] == "0 m < ground truth < 70 m"


def test_crop_of_the_image_agrees_with_intrinsics_and_laser_rows(streets):
    """The image equals a rendering with its intrinsics; the laser's rows cover the cropped band."""
    dataset = Make3D(streets, str(streets / "splits"), height=96, width=192)
    world, time = Plan("make3d", streets, **PLAN).world(0), 1 / RATE
    pose = world.ego_pose(time) @ looking_ahead(0, 0, 1.65)
    batch = dataset[1]
    view = world.render(Camera(batch.intrinsics[0].numpy().astype(float), 192, 96), pose, time)
    image = batch.images[0][0].permute(1, 2, 0).numpy().astype(float)
    assert np.abs(image - view.image).mean() < 8
    ground_truth = torch.from_numpy(dataset.depth(1))[None]
    seen = torch.nn.functional.interpolate(
        torch.from_numpy(np.where(view.depth > 0, np.minimum(view.depth, 81), 81))[None, None], (21, 305)
    )
    assert ((seen - ground_truth).abs() / ground_truth).median() < 0.04


def test_equal_plans_write_equal_bytes(streets, tmp_path):
    make(Plan("make3d", tmp_path / "again", **PLAN))
    for path in ("Test134/img-street1-p-1t0.jpg", "Gridlaserdata/depth_sph_corr-street1-p-1t0.mat"):
        assert (tmp_path / "again" / path).read_bytes() == (streets / path).read_bytes(), path
    grid = loadmat(streets / "Gridlaserdata/depth_sph_corr-street1-p-1t0.mat")["Position3DGrid"]
    assert grid.shape == GRID and grid[..., 3].max() <= 81


def test_training_and_neighbours_are_refused(tmp_path):
    for settings in ({"part": "train"}, {"frame_ids": (0, -1, 1)}):
        with pytest.raises(InputError, match="single images to evaluate on, and no video to train from"):
            open_one(tmp_path, **settings)


def test_an_image_of_another_size_is_named(tmp_path):
    write_image(tmp_path, np.zeros((460, 345, 3), np.uint8))
    with pytest.raises(InputError, match=r"img-one.jpg is 345x460; .* 1704x2272"):
        open_one(tmp_path)[0]
    assert SIZE == (2272, 1704)


def test_a_missing_image_is_found_when_the_set_is_opened(tmp_path):
    with pytest.raises(InputError, match=r"test_files.txt, line 1: no image at .*img-one.jpg"):
        open_one(tmp_path)


def test_a_mat_of_another_version_or_content_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no laser depth at .*none\.mat; unpack Make3D's Test 134 depths"):
        read_grid(tmp_path / "none.mat")
    path = write_grid(tmp_path, np.zeros((55, 305)))
    with pytest.raises(InputError, match=r"of shape \(55, 305, 4\), got float64 of shape \(55, 305\)"):
        read_grid(path)
    path = write_grid(tmp_path, np.full(GRID, "far"))
    with pytest.raises(InputError, match=r"expected Position3DGrid of shape \(55, 305, 4\), got <U3"):
        read_grid(path)
    savemat(path, {"depth": np.zeros(3)})
    with pytest.raises(InputError, match="has no variable 'Position3DGrid', only depth"):
        read_grid(path)
    path.write_bytes(write_grid(tmp_path, np.zeros(GRID), "two").read_bytes()[:999])
    with pytest.raises(InputError, match=r"cannot be read as a MATLAB file .* truncated\?"):
        read_grid(path)
    path.write_bytes(b"no matrix")
    with pytest.raises(InputError, match="cannot be read as a MATLAB file"):
        read_grid(path)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["Position3DGrid"] = np.zeros(GRID)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(116) + bytes(8) + b"\x00\x02IM")
    with pytest.raises(InputError, match=r"is a MATLAB file of version 7.3; the official ones"):
        read_grid(path)
