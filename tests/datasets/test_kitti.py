"""KITTI raw on a drawn tree of a few frames: images, calibration, stereo, depth, and broken files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.ground_truth import SparseDepth
from datasets.image_files import image_size
from datasets.kitti import Kitti, read_depth_png, read_velodyne, velodyne_pixels
from structures import Batch
from tests.goldens import Golden
from utils import InputError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "kitti_object"
DATE, DRIVE = "2011_09_26", "2011_09_26/2011_09_26_drive_0001_sync"
HEIGHT, WIDTH = 40, 112  # of the golden calibration
GOLDEN = Golden("monodepth2_kitti_depthmap")


def words(array: np.ndarray) -> str:
    return " ".join(f"{value:.17g}" for value in np.ravel(array))


def write_image(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), grey, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four frames of both cameras, frame 2 as png and the others as jpg; a scan for frame 1; lists."""
    for side, camera in enumerate((2, 3)):
        for frame in range(4):
            suffix = "png" if frame == 2 else "jpg"
            image = tmp_path / DRIVE / f"image_0{camera}/data" / f"{frame:010d}.{suffix}"
            write_image(image, 40 * frame + 20 * side)
    cameras = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    for key in ("S_rect_02", "R_rect_00", "P_rect_02", "P_rect_03"):
        cameras.append(f"{key}: {words(GOLDEN[key])}")
    cameras.append(f"S_rect_03: {words(GOLDEN['S_rect_02'])}")
    (tmp_path / DATE / "calib_cam_to_cam.txt").write_text("\n".join(cameras) + "\n")
    velodyne = ["calib_time: 15-Mar-2012 11:37:16", f"R: {words(GOLDEN['R'])}", f"T: {words(GOLDEN['T'])}"]
    (tmp_path / DATE / "calib_velo_to_cam.txt").write_text("\n".join(velodyne) + "\n")
    write_scan(tmp_path, GOLDEN["points"])
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train_files.txt").write_text(f"{DRIVE} 1 l\n{DRIVE} 2 r\n")
    (tmp_path / "lists/test_files.txt").write_text(f"{DRIVE} 0000000001 l\n{DRIVE} 1 r\n")
    return tmp_path


def write_scan(root: Path, points: np.ndarray) -> Path:
    path = root / DRIVE / "velodyne_points/data/0000000001.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    points.astype(np.float32).tofile(path)
    return path


def open_kitti(root: Path, **settings) -> Kitti:
    return Kitti(root, **{"split": str(root / "lists"), "height": 32, "width": 96, **settings})


def test_sample_has_the_frames_of_its_camera_in_png_or_jpg(root):
    dataset = open_kitti(root)
    batch = Batch.cat([dataset[0], dataset[1]])
    assert batch.images[0].shape == (2, 3, 32, 96) and batch.images[0].dtype == torch.uint8
    greys = {frame: images[:, 0, 5, 5].tolist() for frame, images in batch.images.items()}
    assert greys == {0: [40, 100], -1: [0, 60], 1: [80, 140]}
    assert dataset.name(1) == f"{DRIVE} 2 r"


def test_jpg_is_preferred_to_png_of_the_same_frame(root):
    write_image(root / DRIVE / "image_02/data/0000000002.jpg", 200)
    assert open_kitti(root)[0].images[1][0, 0, 5, 5] == 200


def test_png_files_are_found_without_a_setting(root):
    for path in root.glob("**/*.jpg"):
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    assert open_kitti(root)[0].images[-1].shape == (1, 3, 32, 96)


def test_stereo_partner_is_the_other_camera_at_the_baseline(root):
    dataset = open_kitti(root, frame_ids=(0, "s"))
    left, right = dataset[0], dataset[1]
    assert (left.images["s"][0, 0, 5, 5], right.images["s"][0, 0, 5, 5]) == (60, 80)
    # The right camera stands 0.1 to the right, so a point seen from there lies 0.1 further left.
    expected = torch.eye(4)
    expected[0, 3] = -0.1
    assert torch.equal(left.T_source_from_target["s"][0], expected)
    assert right.T_source_from_target["s"][0, 0, 3] == pytest.approx(0.1)


def test_stereo_shift_is_focal_times_baseline_over_depth(root):
    batch = open_kitti(root, frame_ids=(0, "s"), baseline=0.54)[0]
    K, T = batch.intrinsics[0], batch.T_source_from_target["s"][0]
    point = torch.tensor([1.0, 0.5, 10.0])
    left, right = K @ point, K @ (T[:3, :3] @ point + T[:3, 3])
    assert left[0] / left[2] - right[0] / right[2] == pytest.approx(K[0, 0].item() * 0.54 / 10, rel=1e-4)


def test_calibrated_intrinsics_are_resized_around_pixel_centres(root):
    K = open_kitti(root)[0].intrinsics[0]
    fx, cx = GOLDEN["P_rect_02"][0, 0], GOLDEN["P_rect_02"][0, 2]
    assert K[0, 0] == pytest.approx(fx * 96 / WIDTH)
    assert K[0, 2] == pytest.approx((cx + 0.5) * 96 / WIDTH - 0.5)


def test_intrinsics_follow_images_that_were_made_smaller_on_disk(root):
    before = open_kitti(root)[0].intrinsics
    for path in [*root.glob("**/*.jpg"), *root.glob("**/*.png")]:
        Image.open(path).resize((WIDTH // 2, HEIGHT // 2)).save(path)
    assert torch.allclose(open_kitti(root)[0].intrinsics, before)


def test_fixed_intrinsics_are_published_and_need_no_calibration(root):
    (root / DATE / "calib_cam_to_cam.txt").unlink()
    K = open_kitti(root, intrinsics="fixed")[0].intrinsics[0]
    published = [[0.58 * 96, 0, 48], [0, 1.92 * 32, 16], [0, 0, 1]]
    assert torch.allclose(K, torch.tensor(published))


@pytest.mark.parametrize("index, camera", [(0, 2), (1, 3)])
@pytest.mark.parametrize(
    "ground_truth, name", [("velodyne", "vel"), ("velodyne_published", "vel"), ("velodyne_camera", "img")]
)
def test_depth_maps_meet_the_goldens(root, index, camera, ground_truth, name):
    dataset = open_kitti(root, part="test", ground_truth=ground_truth, frame_ids=(0,))
    GOLDEN.close(f"depth_cam{camera}_{name}depth", dataset.depth(index)[0])


def project_velodyne(*arguments, **settings) -> np.ndarray:
    """(h, w) metres; arguments are those of `velodyne_pixels`."""
    nearest = not settings.get("published_duplicates")
    return SparseDepth.of_pixels(*arguments[2:4], [velodyne_pixels(*arguments, **settings)], nearest).dense()[
        0
    ]


def test_only_published_depth_map_confuses_end_and_start_of_rows():
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = GOLDEN["R"], GOLDEN["T"]
    P = GOLDEN["P_rect_02"].astype(float) @ np.block([[GOLDEN["R_rect_00"], np.zeros((3, 1))], [T[3]]]) @ T
    published = project_velodyne(GOLDEN["points_wrap"], P, HEIGHT, WIDTH, published_duplicates=True)
    right = project_velodyne(GOLDEN["points_wrap"], P, HEIGHT, WIDTH)
    GOLDEN.close("wrap_depth", published)
    assert published[HEIGHT // 2, -1] == pytest.approx(7) and right[HEIGHT // 2, -1] == pytest.approx(12)


def test_nearest_point_in_front_of_the_camera_is_kept():
    # The camera faces along the LiDAR's x: u = 10 - 10 y / (x - 1), one metre ahead of the LiDAR.
    P = np.array([[10.0, -10, 0, -10], [5, 0, -10, -5], [1, 0, 0, -1]])
    points = np.array([[9.0, 0, 0, 0], [5, 0, 0, 0], [0.5, 0, 0, 0], [-5, 0, 0, 0]], np.float32)
    depth = project_velodyne(points, P, 10, 20)
    assert depth[4, 9] == 4 and np.count_nonzero(depth) == 1
    assert project_velodyne(points, P, 10, 20, forward="velodyne")[4, 9] == 5


def write_ground_truth(path: Path, metres: float) -> Path:
    path.parent.mkdir(parents=True)
    values = np.zeros((HEIGHT, WIDTH), np.uint16)
    values[3, 4] = round(metres * 256)
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("folder", [DRIVE, "val/2011_09_26_drive_0001_sync"])
def test_improved_ground_truth_is_read_from_both_layouts(root, folder):
    path = root / folder / "proj_depth/groundtruth/image_02/0000000001.png"
    write_ground_truth(path, 12.5)
    depth = open_kitti(root, part="test", ground_truth="improved").depth(0)
    assert depth.shape == (1, HEIGHT, WIDTH) and depth[0, 3, 4] == 12.5 and np.count_nonzero(depth) == 1


def test_a_frame_without_a_scan_has_no_depth(root):
    assert open_kitti(root).depth(1) is None
    assert open_kitti(root, ground_truth=None).depth(0) is None


def test_protocol_follows_the_kind_of_ground_truth(root):
    eigen, improved = open_kitti(root).protocol, open_kitti(root, ground_truth="improved").protocol
    assert (eigen.crop, eigen.max_depth, eigen.cap_ground_truth) == ("garg", 80, True)
    assert (improved.crop, improved.max_depth, improved.cap_ground_truth) == ("none", 80, False)


def test_benchmark_images_are_found_with_their_intrinsics(root):
    folder = root / "depth_selection/test_depth_prediction_anonymous"
    write_image(folder / "image/0000000003.png", 70)
    (folder / "intrinsics").mkdir()
    (folder / "intrinsics/0000000003.txt").write_text("60 0 55.5 0 61 19.5 0 0 1")
    (root / "lists/test_files.txt").write_text("image 3\n")
    dataset = open_kitti(root, part="test", frame_ids=(0,))
    assert dataset[0].images[0][0, 0, 5, 5] == 70 and dataset.depth(0) is None
    assert dataset.intrinsics(dataset.samples[0], 0, HEIGHT, WIDTH)[1, 1] == 61
    with pytest.raises(InputError, match="single; frame_ids must be 0"):
        open_kitti(root, part="test", frame_ids=(0, -1, 1))


def lose_image(root):
    (root / DRIVE / "image_03/data/0000000003.jpg").unlink()


def lose_calibration(root):
    (root / DATE / "calib_cam_to_cam.txt").unlink()


def lose_calibration_key(root):
    path = root / DATE / "calib_cam_to_cam.txt"
    path.write_text(path.read_text().replace("P_rect_03", "P_rekt_03"))


def cut_calibration(root):
    path = root / DATE / "calib_cam_to_cam.txt"
    path.write_text(path.read_text().replace(f"P_rect_02: {words(GOLDEN['P_rect_02'])}", "P_rect_02: 1 2 3"))


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (
            lose_image,
            r"train_files.txt, line 2: no image at .*image_03/data/0000000003.jpg; 1 of 2 samples",
        ),
        (lose_calibration, r"no calibration file .*calib_cam_to_cam.txt; --dataset.intrinsics fixed"),
        (lose_calibration_key, r"calib_cam_to_cam.txt has no entry 'P_rect_03'; did you mean"),
        (cut_calibration, r"calib_cam_to_cam.txt, entry 'P_rect_02': expected 12 numbers, got 3"),
    ],
)
def test_missing_files_are_named_at_opening(root, damage, sentence):
    damage(root)
    with pytest.raises(InputError, match=sentence):
        open_kitti(root)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"split": "eigen_zou"}, "did you mean 'eigen_zhou'"),
        ({"part": "test_09"}, "no part 'test_09'"),
        ({"intrinsics": "fix"}, "'calibration' or 'fixed', got 'fix'"),
        ({"ground_truth": "velodine"}, "did you mean 'velodyne'"),
        ({"baseline": 0}, "baseline must be positive, got 0"),
    ],
)
def test_unknown_setting_is_refused_with_the_valid_ones(root, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        open_kitti(root, **settings)


def test_samples_with_missing_images_can_be_left_out(root):
    lose_image(root)
    assert len(open_kitti(root, skip_missing=True)) == 1


def test_a_truncated_scan_or_ground_truth_names_its_file(root):
    scan = write_scan(root, GOLDEN["points"])
    scan.write_bytes(scan.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"0000000001.bin is not a whole LiDAR scan: its 11195 bytes"):
        open_kitti(root).depth(0)
    ground_truth = write_ground_truth(root / DRIVE / "proj_depth/groundtruth/image_02/0000000001.png", 5)
    ground_truth.write_bytes(ground_truth.read_bytes()[:60])
    with pytest.raises(InputError, match=r"0000000001.png cannot be read as a depth image"):
        open_kitti(root, ground_truth="improved").depth(0)
    write_image(ground_truth, 9)
    with pytest.raises(InputError, match=r"expected one 16-bit channel, got uint8"):
        read_depth_png(ground_truth)


def test_a_truncated_image_is_named_when_it_is_read(root):
    path = root / DRIVE / "image_02/data/0000000001.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"0000000001.jpg cannot be read as an image"):
        open_kitti(root)[0]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the KITTI object frames in ../shared/data")
@pytest.mark.parametrize("frame", ["000000", "000001"])
def test_a_real_scan_lands_on_its_image(frame):
    lines = (REAL / f"calib/{frame}.txt").read_text().splitlines()
    calibration = {line.split(":")[0]: np.array(line.split()[1:], float) for line in lines if line}
    camera_from_velodyne, rectified_from_camera = np.eye(4), np.eye(4)
    camera_from_velodyne[:3] = calibration["Tr_velo_to_cam"].reshape(3, 4)
    rectified_from_camera[:3, :3] = calibration["R0_rect"].reshape(3, 3)
    P = calibration["P2"].reshape(3, 4) @ rectified_from_camera @ camera_from_velodyne
    height, width = image_size(REAL / f"image_2/{frame}.png")
    depth = project_velodyne(read_velodyne(REAL / f"velodyne/{frame}.bin"), P, height, width)
    # The scanner's highest beam is 2 degrees above the horizon, and the road is nearest at the bottom.
    assert np.count_nonzero(depth) > 10_000 and np.count_nonzero(depth[: height // 5]) < 100
    near, far = depth[-60:][depth[-60:] > 0], depth[170:200][depth[170:200] > 0]
    assert 3 < np.median(near) < np.median(far) < 80


def test_a_list_without_the_camera_is_refused(root):
    (root / "lists/train_files.txt").write_text(f"{DRIVE} 1\n")
    with pytest.raises(InputError, match=r"train_files.txt, line 1: the camera is missing; expected"):
        open_kitti(root)


# Speed.


@pytest.mark.parametrize("rule", ["velocity", "positions"])
def test_speed_times_time_is_the_distance_that_was_driven(tiny_kitti, rule):
    dataset = Kitti(
        tiny_kitti, tiny_kitti / "splits", "train", frame_ids=(0, -1, 1, "s"), height=64, width=96, speed=rule
    )
    sample = dataset[0]
    assert set(sample.speed) == set(sample.time_step) == {-1, 1}
    assert sample.time_step[-1].tolist() == pytest.approx([-0.1], abs=1e-4)
    line = dataset.samples[0]
    rows = np.loadtxt(tiny_kitti / line.folder / "poses.txt").reshape(-1, 3, 4)
    for frame in (-1, 1):
        distance = np.linalg.norm(rows[line.frame + frame, :, 3] - rows[line.frame, :, 3])
        assert (sample.speed[frame] * sample.time_step[frame].abs()).item() == pytest.approx(
            distance, rel=0.03
        )


def test_without_the_setting_there_is_no_speed(tiny_kitti):
    assert Kitti(tiny_kitti, tiny_kitti / "splits", "train", height=64, width=96)[0].speed == {}


def test_a_drive_without_oxts_is_refused_at_the_start(root):
    with pytest.raises(InputError, match=r"there is no file .*oxts/timestamps\.txt"):
        Kitti(root, root / "lists", "train", frame_ids=(0, 1), height=32, width=96, speed="velocity")
