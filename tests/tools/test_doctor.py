"""The doctor for data: faults of people's own recordings are found and named, sound data passes."""

import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datasets.sizes import fitting_size
from datasets.surround import RING
from datasets.synthetic import Camera, World, rotation
from matching import focal
from matching.focal import FACTORS, scan_focal
from matching.motion import epipolar_distance, find_motion
from matching.two_views import Features, inverse_depths
from tools import doctor
from tools._doctor import intrinsics
from tools._doctor.opening import first_size
from tools._doctor.reading import Look, Sample
from tools._doctor.rig import check_masks, check_rig
from tools.layouts._base import Plan, looking_ahead, save_depth, save_image
from tools.make_synthetic import make
from utils import InputError

HEIGHT, WIDTH = 120, 200
CAMERA = Camera.like_kitti(HEIGHT, WIDTH)
K = CAMERA.intrinsics


@pytest.fixture(scope="session")
def walk(tmp_path_factory) -> Path:
    """Seven frames of a hand-held camera that turns and steps through a standing street, with depth."""
    folder, world = tmp_path_factory.mktemp("walk"), World(3, 2.0)
    for n in range(7):
        place = world.ego_pose(0) @ looking_ahead(0.1 * n, 0.45 * np.sin(1.3 * n), 1.65 + 0.1 * np.cos(n))
        turn = rotation(0.06 * np.sin(1.7 * n), 0.09 * np.cos(1.1 * n), 0.05 * np.sin(2.3 * n))
        view = world.render(CAMERA, place @ turn, 0.0)
        save_image(folder / f"{n:03d}.png", view.image)
        save_depth(folder / f"depth/{n:03d}.png", view.depth)
    write_intrinsics(folder)
    return folder


@pytest.fixture(scope="session")
def stereo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stereo") / "kitti"
    make(Plan("kitti", root, sequences=1, frames=5, height=96, width=320, seed=0, ext="png"))
    return root


@pytest.fixture(autouse=True)
def few_scans(monkeypatch):
    """Three pairs tell the focal length of the walk as well as eight, and sooner."""
    monkeypatch.setattr(intrinsics, "SCANNED", 3)


@pytest.fixture
def broken(walk, tmp_path) -> Path:
    """A copy of the walk for a test to break."""
    return Path(shutil.copytree(walk, tmp_path / "broken"))


def write_intrinsics(folder: Path, scale: float = 1.0, K: np.ndarray = K) -> None:
    numbers = " ".join(f"{scale * value:.6g}" for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2]))
    (folder / "cam.txt").write_text(numbers + "\n")


def ask(folder: Path, tmp_path: Path, capsys, *more: str, split: bool = True) -> tuple[int, str, str]:
    """Exit status, what was printed in one line, and the page."""
    out = tmp_path / "page.html"
    arguments = ["--data_path", str(folder), "--out", str(out), "--workers", "1", "--samples", "3"]
    status = doctor.main([*arguments, *(["--set", "val_fraction=0"] if split else []), *more])
    return status, " ".join(capsys.readouterr().out.split()), out.read_text()


def ask_kitti(root: Path, tmp_path: Path, capsys) -> tuple[int, str, str]:
    split = ["--dataset", "kitti", "--split", str(root / "splits")]
    return ask(root, tmp_path, capsys, *split, "--frame_ids", "0", "s", split=False)


# ----------------------------------------------------------------------------------------------- sound data


def test_a_sound_recording_passes_with_its_numbers(walk, tmp_path, capsys):
    status, words, _ = ask(walk, tmp_path, capsys)
    assert status == 0 and "can be trained on" in words and "problem" not in words
    assert "good files all 7 images exist; all were opened" in words
    assert "fx is 116 px: a view 82 degrees wide" in words
    assert "the motion agrees with fx 116 px" in words
    assert "good overlay ground truth and motion have a rank correlation" in words
    assert "the network's 640x192 stretches them 2.00 times" in words
    assert "is wider than they are; --height 96 --width 160 fits" in words


def test_a_leading_tilde_is_the_home_folder(walk, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(walk.parent))
    monkeypatch.chdir(tmp_path)
    words = ["--set", "val_fraction=0", "--samples", "1", "--workers", "1"]
    assert doctor.main([f"--data_path=~/{walk.name}", "--out=~/page.html", *words]) == 0
    assert (walk.parent / "page.html").is_file() and not Path("~").exists()


def test_the_page_is_one_whole_file_that_asks_for_nothing_else(walk, tmp_path, capsys):
    _, _, page = ask(walk, tmp_path, capsys)
    seen = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            seen.append((tag, dict(attributes)))

    Reader().feed(page)
    sources = [attributes["src"] for tag, attributes in seen if tag == "img"]
    assert len(sources) >= 5 and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not [tag for tag, _ in seen if tag in ("link", "script")]
    places = {f"#{attributes['id']}" for _, attributes in seen if "id" in attributes}
    linked = {attributes["href"] for _, attributes in seen if "href" in attributes}
    assert linked and linked == places  # topics lead to their own images, and nowhere else
    assert "<svg" in page  # the scan of focal lengths


def test_a_stereo_pair_as_it_should_be_passes(stereo, tmp_path, capsys):
    status, words, _ = ask_kitti(stereo, tmp_path, capsys)
    assert status == 0 and "rows of left and right agree" in words


def test_real_grey_frames_pass_with_a_note(shared_data, tmp_path, capsys):
    more = ["intrinsics=718.856 718.856 607.1928 185.2157", "files=left.png 0*.png", "val_fraction=0"]
    folder = shared_data / "kitti_odom_gray"
    status, words, _ = ask(folder, tmp_path, capsys, "--samples", "2", "--set", *more, split=False)
    assert status == 0 and "images are grey, which is fine" in words
    assert "the motion does not determine the focal length" in words  # it drives straight ahead


# ------------------------------------------------------------------------------------------ broken on purpose


@pytest.mark.parametrize(
    "numbers, sentence",
    [
        ("0.58 0.97 0.49 0.47", "look normalised"),
        (f"{K[0, 0]} {K[1, 1]} {K[1, 2]} {K[0, 2]}", "width and height are swapped, the middle is (100, 60)"),
        ("58 58 49 28", "belong to an image of 98x56; for this size they are '1"),
        ("232 232 195 112", "belong to an image of 390x224"),
        ("15 15 99 59", "fx means a view 163 degrees wide"),
        ("116 300 99 59", "pixels would not be square"),
    ],
)
def test_intrinsics_that_cannot_be_are_named_with_the_way_out(walk, numbers, sentence, tmp_path, capsys):
    more = ["--samples", "1", "--set", f"intrinsics={numbers}", "val_fraction=0"]
    _, words, _ = ask(walk, tmp_path, capsys, *more, split=False)
    assert sentence in words


def test_doctor_explains_a_file_that_the_dataset_refuses(broken, tmp_path, capsys):
    write_intrinsics(broken, scale=2.5)
    status, words, _ = ask(broken, tmp_path, capsys, "--samples", "1")
    assert status == 1 and "went on with guessed intrinsics" in words and "1 problem" in words
    assert "cam.txt: fx 290, fy 290" in words and "belong to an image of 4" in words


def test_intrinsics_are_guessed_for_images_not_for_depth_files(tmp_path):
    (tmp_path / "depth").mkdir()
    for n in range(4):
        Image.new("RGB", (96, 64)).save(tmp_path / f"{n}.png")
        Image.new("L", (48, 32)).save(tmp_path / f"depth/{n}.png")
    assert first_size(tmp_path) == (64, 96)


def test_wrong_focal_length_is_found_and_a_better_one_named(broken, tmp_path, capsys):
    write_intrinsics(broken, K=np.array([[200, 0, K[0, 2]], [0, 200, K[1, 2]], [0, 0, 1]]))
    status, words, _ = ask(broken, tmp_path, capsys)
    better = float(words.split("explains the motion better than the given 200")[0].split()[-2])
    assert status == 1 and abs(better / K[0, 0] - 1) < 0.12


def test_a_truncated_image_is_named(broken, tmp_path, capsys):
    image = broken / "003.png"
    image.write_bytes(image.read_bytes()[:3000])
    status, words, page = ask(broken, tmp_path, capsys)
    assert status == 1 and "003.png cannot be read as an image" in words and "003.png" in page


def test_frames_that_repeat_are_a_problem(broken, tmp_path, capsys):
    for n in range(1, 7):
        shutil.copy(broken / "000.png", broken / f"{n:03d}.png")
    status, words, _ = ask(broken, tmp_path, capsys)
    assert status == 1 and "6 of 6 frames repeat their neighbour" in words
    assert "the camera stands still in 100% of the pairs" in words


def test_a_camera_that_creeps_gets_a_larger_gap(tmp_path, capsys):
    folder, world = tmp_path / "creep", World(3, 2.0)
    for n in range(12):
        view = world.render(CAMERA, world.ego_pose(0) @ looking_ahead(0, 0.015 * n, 1.65), 0.0)
        save_image(folder / f"{n:03d}.png", view.image)
    write_intrinsics(folder)
    _, words, _ = ask(folder, tmp_path, capsys, "--samples", "3")
    assert "take a larger gap between frames" in words
    assert "warning frame gap a gap of" in words and "--set stride=" in words


def test_a_camera_that_only_turns_is_a_problem(tmp_path, capsys):
    folder, world = tmp_path / "turn", World(3, 2.0)
    for n in range(5):
        turned = looking_ahead(0, 0, 1.65) @ rotation(0.0, 0.06 * n, 0.0)
        save_image(folder / f"{n:03d}.png", world.render(CAMERA, world.ego_pose(0) @ turned, 0.0).image)
    write_intrinsics(folder)
    status, words, _ = ask(folder, tmp_path, capsys)
    assert status == 1 and "the camera rotates but hardly moves" in words


def test_frames_in_no_order_are_asked_about(broken, tmp_path, capsys):
    for new, old in enumerate((0, 4, 1, 6, 2, 5, 3)):
        shutil.copy(broken / f"{old:03d}.png", tmp_path / f"{new:03d}.png")
    for path in tmp_path.glob("*.png"):
        shutil.move(path, broken / path.name)
    _, words, _ = ask(broken, tmp_path, capsys)
    assert "warning order" in words and "are the frames in order of time?" in words


def test_missing_intrinsics_are_estimated_from_the_motion(broken, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(focal, "TARGETS", 3)
    monkeypatch.setattr(focal, "GAP", 2)
    (broken / "cam.txt").unlink()
    status, words, _ = ask(broken, tmp_path, capsys)
    assert status == 0 and "from the motion between the frames; write yours into" in words
    told = words.split("are guessed, '")[1].split("'")[0]
    fx, fy, cx, cy = map(float, told.split())
    assert fx == fy and abs(fx / K[0, 0] - 1) < 0.15 and (cx, cy) == (99.5, 59.5)
    assert "the motion agrees with fx" in words


def test_bad_intrinsics_and_few_frames_do_not_stop_the_rest(broken, tmp_path, capsys):
    (broken / "cam.txt").write_text("fx: 116")
    status, words, _ = ask(broken, tmp_path, capsys, "--samples", "1", "--set", "val_fraction=0.9")
    assert (
        status == 1 and "intrinsics are the numbers fx fy cx cy" in words and "went on with guessed" in words
    )
    assert "too few to hold" in words and "went on with nothing held back" in words
    assert "all 7 images exist" in words


def test_images_that_match_nowhere_are_a_problem(broken, tmp_path, capsys):
    random = np.random.default_rng(0)
    for path in broken.glob("*.png"):
        save_image(path, random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
    status, words, _ = ask(broken, tmp_path, capsys)
    assert status == 1 and "problem motion none of 6 pairs of frames have 25 matches" in words
    assert "frame gap" not in words  # chance matches say nothing about it


def test_twelve_bit_values_in_16_bit_images_are_found(broken, tmp_path, capsys):
    for path in broken.glob("*.png"):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), grey.astype(np.uint16) << 4)
    status, words, _ = ask(broken, tmp_path, capsys)
    assert status == 1 and "7 of 7 images are nearly black" in words and "do 16-bit files hold 10" in words


def test_every_ground_truth_file_is_opened_on_request(broken, tmp_path, capsys):
    (broken / "depth/003.png").write_bytes(b"no image")
    assert ask(broken, tmp_path, capsys, "--samples", "1")[0] in (0, 1)
    status, words, _ = ask(broken, tmp_path, capsys, "--samples", "1", "--all_files")
    assert status == 1 and "ground truth cannot be read: 003.png" in words


def test_targets_without_sources_are_checked_for_evaluation(walk, tmp_path, capsys):
    status, words, _ = ask(walk, tmp_path, capsys, "--frame_ids", "0")
    assert status == 0 and "can be evaluated on; training needs frames in addition to 0" in words


def test_a_setting_that_there_is_not_is_a_slip_and_no_finding(walk, tmp_path):
    with pytest.raises(InputError, match="no setting 'stide'; did you mean 'stride'"):
        doctor.main(["--data_path", str(walk), "--set", "stide=2"])


@pytest.mark.parametrize(
    "image, pixels, fitting",
    [((1242, 375), 640 * 192, (640, 192)), ((1080, 1920), 640 * 192, (256, 448)), ((16, 10), 9999, (32, 32))],
)
def test_the_network_size_that_is_named_has_the_image_aspect(image, pixels, fitting):
    assert fitting_size(*image, pixels) == fitting


def test_black_bars_and_black_images_are_found(broken, tmp_path, capsys):
    for n in range(7):
        image = np.array(Image.open(broken / f"{n:03d}.png"))
        image[:12] = image[-10:] = 0
        Image.fromarray(image * (n != 6)).save(broken / f"{n:03d}.png")
    _, words, _ = ask(broken, tmp_path, capsys)
    assert "black bars take 18% of every image (top 12, bottom 10, left 0, right 0 of 200x120)" in words
    assert "1 of 7 images are empty" in words


def test_ground_truth_in_millimetres_is_asked_about(broken, tmp_path, capsys):
    for path in (broken / "depth").glob("*.png"):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) / 256
        np.save(path.with_suffix(".npy"), (1000 * depth).astype(np.float32))
        path.unlink()
    status, words, _ = ask(broken, tmp_path, capsys)
    assert status == 1 and "are these millimetres?" in words


def test_ground_truth_of_other_images_contradicts_the_motion(broken, tmp_path, capsys):
    for path in (broken / "depth").glob("*.png"):
        turned = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::-1, ::-1]
        cv2.imwrite(str(path), np.where(turned > 0, turned, 65535))
    status, words, _ = ask(broken, tmp_path, capsys)
    assert status == 1 and "does the ground truth belong to these images?" in words


def test_an_unrectified_stereo_pair_is_found_with_its_pixels(stereo, tmp_path, capsys):
    root = Path(shutil.copytree(stereo, tmp_path / "kitti"))
    for path in root.glob("*/*/image_03/data/*.png"):
        Image.fromarray(np.roll(np.array(Image.open(path)), 6, axis=0)).save(path)
    status, words, _ = ask_kitti(root, tmp_path, capsys)
    assert status == 1 and "6.0 px apart in height (the right one 6.0 px lower)" in words


def test_left_and_right_swapped_are_found(stereo, tmp_path, capsys):
    root = Path(shutil.copytree(stereo, tmp_path / "kitti"))
    drive = next(root.glob("*/*_sync"))
    (drive / "image_02").rename(drive / "other")
    (drive / "image_03").rename(drive / "image_02")
    (drive / "other").rename(drive / "image_03")
    status, words, _ = ask_kitti(root, tmp_path, capsys)
    assert status == 1 and "are left and right swapped?" in words


def test_a_missing_image_is_named_and_the_rest_looked_at(stereo, tmp_path, capsys):
    root = Path(shutil.copytree(stereo, tmp_path / "kitti"))
    next(root.glob("*/*/image_03/data/0000000001.png")).unlink()
    status, words, _ = ask_kitti(root, tmp_path, capsys)
    assert status == 1 and "no image at" in words and "rows of left and right agree" in words


def test_what_does_not_open_at_all_still_gets_a_page(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    status, words, page = ask(tmp_path / "empty", tmp_path, capsys)
    assert status == 1 and "holds no images" in words and "cannot be trained on yet: 1 problem" in page


def test_an_unknown_dataset_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'kitti'"):
        doctor.main(["--dataset", "kity", "--data_path", str(tmp_path)])


# ------------------------------------------------------------------------------------------------------ rigs


def rig(*angles: float) -> SimpleNamespace:
    """Cameras that look to these angles, degrees to the left of ahead, as a dataset without images."""
    poses = [rotation(np.radians(angle)) @ looking_ahead(1, 0, 1.5) for angle in angles]
    names = RING[: len(angles)]
    return SimpleNamespace(
        cameras=len(angles), camera_names=names, samples=[0], rig_from_camera=lambda _: np.stack(poses)
    )


def seen_by(dataset: SimpleNamespace) -> list[Sample]:
    nothing = Features(np.zeros((0, 2)), np.zeros((0, 128)))
    look = Look(np.zeros((HEIGHT, WIDTH, 3), np.uint8), K, (HEIGHT, WIDTH), nothing)
    return [Sample(0, "first", {0: [look] * dataset.cameras})]


def test_a_ring_of_cameras_shares_what_its_angles_say():
    dataset = rig(0, 60, 120, 180, 240, 300)  # each sees 82 degrees
    (finding,) = check_rig(dataset, seen_by(dataset))
    assert finding.level == "good" and finding.text == "6 pairs of neighbours overlap by 21 degrees"


def test_cameras_in_another_order_see_nothing_in_common():
    dataset = rig(0, 120, 240, 60, 180, 300)
    (finding,) = check_rig(dataset, seen_by(dataset))
    assert finding.level == "problem" and "front and front_left" in finding.text


def test_poses_that_are_mirrored_or_in_millimetres_are_refused():
    dataset = rig(0, 60)
    poses = dataset.rig_from_camera(0)
    mirrored, far = poses.copy(), poses.copy()
    mirrored[1, :3, 0] *= -1
    far[0, :3, 3] *= 1000
    dataset.rig_from_camera = lambda _: mirrored
    assert check_rig(dataset, seen_by(dataset))[0].text.startswith(
        "front_left: the rotation of the extrinsics is invalid"
    )
    dataset.rig_from_camera = lambda _: far
    assert "front: stands at (1000, 0, 1500)" in check_rig(dataset, seen_by(dataset))[0].text


def test_a_mask_that_hides_nearly_everything_is_asked_about():
    dataset = rig(0, 60)
    visible = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    dataset.maps = lambda _: {"ego_mask": ~visible}
    assert check_masks(dataset, seen_by(dataset))[0].text == "masks leave 100% of the pixels on average"
    visible[1, :, 1:] = False
    assert "front_left: the mask leaves 12% of the image" in check_masks(dataset, seen_by(dataset))[0].text


# ------------------------------------------------------------------------------------------------- geometry


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Matches of 300 points 3 to 20 m ahead before and after a known step with a turn; R, t and depths."""
    random = np.random.default_rng(0)
    target = random.uniform((0, 0), (WIDTH - 1, HEIGHT - 1), (300, 2))
    depth = random.uniform(3, 20, 300)
    R, t = cv2.Rodrigues(np.array([0.02, 0.12, -0.03]))[0], np.array([0.6, 0.1, 0.5])
    rays = np.concatenate([target, np.ones((300, 1))], 1) @ np.linalg.inv(K).T
    image = (depth[:, None] * rays @ R.T + t) @ K.T
    return target, image[:, :2] / image[:, 2:], R, t, depth


def test_exact_matches_give_back_the_motion_and_the_depth(drawn):
    target, source, R, t, depth = drawn
    motion = find_motion(target, source, K)
    T = motion.T_source_from_target
    assert motion.explained.all() and motion.distance < 1e-3
    assert np.allclose(T[:3, :3], R, atol=1e-4) and np.allclose(T[:3, 3], t / np.linalg.norm(t), atol=1e-3)
    assert np.allclose(motion.inverse_depth * depth, np.linalg.norm(t), rtol=0.02)
    assert np.allclose(inverse_depths(target, source, K, R, t)[0], 1 / depth)
    assert np.abs(epipolar_distance(R, t, target, source, K)).max() < 1e-9


def test_scan_finds_the_focal_length_only_with_rotation(drawn):
    target, source, _, t, depth = drawn
    given = K * np.array([[1.5, 1, 1], [1, 1.5, 1], [1, 1, 1]])
    costs = scan_focal(target, source, given)
    assert abs(FACTORS[costs.argmin()] * 1.5 - 1) < 0.06  # half a step of the scan
    rays = np.concatenate([target, np.ones((300, 1))], 1) @ np.linalg.inv(K).T
    image = (depth[:, None] * rays + t) @ K.T
    costs = scan_focal(target, image[:, :2] / image[:, 2:], given)
    assert np.ptp(costs) < 1e-3
