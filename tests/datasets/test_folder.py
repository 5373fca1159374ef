"""Own images: folders, videos and scenes made here, and refusals of invalid ones."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cameras import read_camera
from datasets import open_dataset
from datasets._depth_files import read_depth
from datasets._random_crop import Window, crop
from datasets._speed import read_speed_csv
from datasets.folder import Folder
from datasets.image_files import natural_key
from datasets.scenes import find_scenes
from datasets.video import extract_video
from intrinsics import parse_intrinsics
from notices import collect_notices
from options import parse
from structures import Batch
from tools import export_gt_depth
from tools.layouts._base import Plan
from tools.make_synthetic import make
from utils import PROJECT, InputError

SNIPPET = Path(__file__).resolve().parents[3] / "shared" / "data" / "kitti_odom_gray"
CAMERA = "60 61 47 23"  # of 96 x 48 images


def draw(path: Path, grey: int, size: tuple[int, int] = (96, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (grey,) * 3).save(path)


def draw_scene(folder: Path, count: int, suffix: str = ".png", camera: str | None = CAMERA) -> Path:
    """`count` frames whose grey value is their number; 8.png comes before 10.png."""
    for number in range(count):
        draw(folder / f"{number + 8}{suffix}", 5 * number)
    if camera:
        (folder / "cam.txt").write_text(camera)
    return folder


def open_folder(path: Path, **settings) -> Folder:
    return Folder(path, **{"height": 32, "width": 64, **settings})


def greys(dataset: Folder, index: int) -> dict:
    return {frame: round(image[0, 0, 9, 9].item() / 5) for frame, image in dataset[index].images.items()}


def targets(dataset: Folder) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_a_folder_of_images_is_a_scene_in_natural_order(tmp_path, suffix):
    dataset = open_folder(draw_scene(tmp_path, 5, suffix), val_fraction=0)
    assert targets(dataset) == [f"9{suffix}", f"10{suffix}", f"11{suffix}"]
    assert greys(dataset, 0) == {0: 1, -1: 0, 1: 2}
    assert dataset[0].images[0].dtype == torch.uint8


@pytest.mark.parametrize("form", ["{:09}", "{}"])  # OmniCam's names, and the same without zeros
def test_frames_of_omnicam_follow_each_other_by_number(tmp_path, form):
    for number in (*range(7, 13), *range(98, 103)):
        draw(tmp_path / f"{form.format(number)}.png", number)
    config = str(PROJECT / "configs/packnet_omnicam_ray_surface.yaml")
    size = ["--height", "64", "--width", "64"]
    options = vars(parse(["--config", config, "--data_path", str(tmp_path), *size]))
    options["dataset"] = {**options["dataset"], "val_fraction": 0, "intrinsics": CAMERA}
    dataset = open_dataset(options, "train")
    samples = [dataset[index].images for index in range(len(dataset))]
    seen = [[int(images[frame][0, 0, 9, 9]) for frame in (-1, 0, 1)] for images in samples]
    assert seen == [[number - 1, number, number + 1] for number in (8, 9, 10, 11, 99, 100, 101)]


def test_natural_order_counts_numbers_as_numbers():
    names = ["b2.png", "b10.png", "a.png", "3.png", "12.png"]
    assert sorted(names, key=natural_key) == ["3.png", "12.png", "a.png", "b2.png", "b10.png"]


def test_stride_widens_the_step_between_frames(tmp_path):
    dataset = open_folder(draw_scene(tmp_path, 7), stride=2, val_fraction=0)
    assert greys(dataset, 0) == {0: 2, -1: 0, 1: 4} and len(dataset) == 3


def test_intrinsics_follow_the_resize(tmp_path):
    K = open_folder(draw_scene(tmp_path, 3), val_fraction=0)[0].intrinsics[0]
    expected = [[60 * 64 / 96, 0, 47.5 * 64 / 96 - 0.5], [0, 61 * 32 / 48, 23.5 * 32 / 48 - 0.5], [0, 0, 1]]
    assert torch.allclose(K, torch.tensor(expected))


@pytest.mark.parametrize(
    "text",
    [
        "60 61 47 23",
        "60, 61, 47, 23\n",
        "60 0 47\n0 61 23\n0 0 1",
        "[[60, 0, 47], [0, 61, 23], [0, 0, 1]]",
        "60 0 47 9\n0 61 23 9\n0 0 1 9",
        "# a comment\n60.0 61.0 4.7e1 23",
        [60, 61, 47, 23],
        [[60, 0, 47], [0, 61, 23], [0, 0, 1]],
    ],
)
def test_intrinsics_may_be_written_in_many_ways(text):
    assert np.array_equal(parse_intrinsics(text, "cam.txt"), [[60, 0, 47], [0, 61, 23], [0, 0, 1]])


def test_setting_overrides_scene_camera_and_that_the_roots(tmp_path):
    draw_scene(tmp_path / "a", 3, camera=None)
    draw_scene(tmp_path / "b", 3, camera="50 50 47 23")
    (tmp_path / "intrinsics.txt").write_text("70 70 47 23")
    focals = [scene.intrinsics[0, 0] for scene in open_folder(tmp_path, part="all").scenes]
    assert focals == [70, 50]
    focals = [scene.intrinsics[0, 0] for scene in open_folder(tmp_path, intrinsics=CAMERA).scenes]
    assert focals == [60, 60]


def test_byte_order_mark_is_read_and_text_not_in_utf_8_refused(tmp_path):
    """A text as editors and shells of Windows write it."""
    for name in ("a", "b"):
        draw_scene(tmp_path / name, 3)
    texts = {"a/cam.txt": "50 50 47 23\r\n", "a/frames.txt": "*.png\r\n", "train.txt": "a\r\n\r\n"}
    for file, text in texts.items():
        (tmp_path / file).write_bytes(text.encode("utf-8-sig"))
    assert open_folder(tmp_path).scenes[0].intrinsics[0, 0] == 50
    assert targets(open_folder(tmp_path)) == ["a/9.png"]
    for file, text in texts.items():
        (tmp_path / file).write_bytes(text.encode("utf-16"))
        with pytest.raises(InputError, match=rf"{file} is not text in UTF-8; save it as UTF-8"):
            open_folder(tmp_path)
        (tmp_path / file).write_bytes(text.encode())


def test_last_scenes_are_held_out(tmp_path):
    for name in ("walk1", "walk2", "walk10"):
        draw_scene(tmp_path / name, 3)
    assert targets(open_folder(tmp_path, part="train")) == ["walk1/9.png", "walk2/9.png"]
    assert targets(open_folder(tmp_path, part="val")) == ["walk10/9.png"]
    assert len(open_folder(tmp_path, part="all")) == 3


def test_last_frames_of_a_single_scene_are_held_out(tmp_path):
    draw_scene(tmp_path, 40)
    images = {}
    for part in ("train", "val"):
        dataset = open_folder(tmp_path, part=part, val_fraction=0.25)
        every = [dataset.paths(sample, frame)[0].name for sample in dataset.samples for frame in (0, -1, 1)]
        images[part] = set(every)
    assert len(images["train"]) == 30 and len(images["val"]) == 10
    assert not images["train"] & images["val"]


def test_without_held_out_scenes_every_part_is_complete(tmp_path):
    draw_scene(tmp_path, 6)
    for part in ("train", "val", "test", "all"):
        assert len(open_folder(tmp_path, part=part, val_fraction=0)) == 4


def test_lists_of_scenes_are_followed(tmp_path):
    for name in ("a", "b", "c"):
        draw_scene(tmp_path / name, 3)
    (tmp_path / "train.txt").write_text("c\na")  # SC-Depth's own reader would lose the last letter here
    (tmp_path / "val.txt").write_text("b\n")
    assert targets(open_folder(tmp_path)) == ["c/9.png", "a/9.png"]
    assert targets(open_folder(tmp_path, part="test")) == ["b/9.png"]
    (tmp_path / "train.txt").write_text("a\nd\n")
    with pytest.raises(InputError, match=r"train.txt, line 2: there is no scene 'd'"):
        open_folder(tmp_path)


def test_sc_depths_archives_open_at_their_root(tmp_path):
    for name in ("a", "b"):
        draw_scene(tmp_path / "training" / name, 3, ".jpg", camera="60 0 47\n0 61 23\n0 0 1")
    draw(tmp_path / "testing/color/0.jpg", 9)
    (tmp_path / "training/train.txt").write_text("a\n")
    (tmp_path / "training/val.txt").write_text("b\n")
    assert targets(open_folder(tmp_path, part="val")) == ["b/9.jpg"]


def test_images_outside_of_scenes_are_ignored_or_refused(tmp_path):
    for name in ("a", "b"):
        draw_scene(tmp_path / name, 3)
    draw(tmp_path / "gallery.png", 9, (10, 10))
    assert targets(open_folder(tmp_path, part="all")) == ["a/9.png", "b/9.png"]
    write_video(tmp_path / "a/clip.avi", 3)
    with pytest.raises(InputError, match=r"a holds both images and videos; put clip.avi into a folder"):
        open_folder(tmp_path)


def write_video(path: Path, count: int) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 48))
    for number in range(count):
        writer.write(np.full((48, 96, 3), 5 * number, np.uint8))
    writer.release()


def test_predictions_are_neither_frames_nor_videos(tmp_path):
    """By default test_simple.py writes next to the images and test_video.py next to the video."""
    walk = draw_scene(tmp_path / "walk", 5)
    before = targets(open_folder(walk, val_fraction=0))
    for number in range(5):
        draw(walk / f"{number + 8}_disp.png", 200)
    assert targets(open_folder(walk, val_fraction=0)) == before
    for name in ("a.avi", "b.avi", "lone_depth.avi"):
        write_video(tmp_path / "drives" / name, 4)
    (tmp_path / "drives" / "a_depth.mp4").write_bytes(b"a video of a.avi")
    assert list(find_scenes(tmp_path / "drives")[1]) == ["a.avi", "b.avi", "lone_depth.avi"]


def test_lists_next_to_a_video_belong_to_its_folder(tmp_path):
    for name in ("a.avi", "b.avi"):
        write_video(tmp_path / name, 5)
    (tmp_path / "cam.txt").write_text(CAMERA)
    (tmp_path / "train.txt").write_text("a.avi\n")
    (tmp_path / "val.txt").write_text("b.avi\n")
    for name in ("a.avi", "b.avi"):
        dataset = open_folder(tmp_path / name, val_fraction=0)
        assert targets(dataset) == [f"{name}/{n:06d}.jpg" for n in (1, 2, 3)]
    assert targets(open_folder(tmp_path, part="val"))[0] == "b.avi/000001.jpg"


def test_a_video_is_a_scene_and_is_extracted_once(tmp_path):
    video = tmp_path / "walk.avi"
    write_video(video, 6)
    (tmp_path / "cam.txt").write_text(CAMERA)
    dataset = open_folder(video, val_fraction=0)
    assert targets(dataset)[0] == "walk.avi/000001.jpg" and len(dataset) == 4
    assert greys(dataset, 0) == {0: 1, -1: 0, 1: 2}
    written = (tmp_path / "walk.avi.frames/000000.jpg").stat().st_mtime_ns
    assert len(open_folder(tmp_path, val_fraction=0)) == 4  # its folder is accepted as well
    assert (tmp_path / "walk.avi.frames/000000.jpg").stat().st_mtime_ns == written


def test_changed_video_is_extracted_again_with_its_camera(tmp_path):
    video = tmp_path / "walk.avi"
    write_video(video, 6)
    (extract_video(video) / "cam.txt").write_text(CAMERA)
    time.sleep(0.01)
    write_video(video, 8)
    assert len(open_folder(video, val_fraction=0)) == 6
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_scenes_may_be_videos(tmp_path):
    write_video(tmp_path / "a/clip.avi", 4)
    draw_scene(tmp_path / "b", 4)
    (tmp_path / "cam.txt").write_text(CAMERA)
    assert targets(open_folder(tmp_path, part="train"))[0] == "a/clip.avi/000001.jpg"
    assert targets(open_folder(tmp_path, part="val"))[0] == "b/9.png"


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "apng"])
def test_an_animated_image_is_a_video(tmp_path, ending):
    shades = [Image.new("RGB", (96, 48), (40 * n,) * 3) for n in range(5)]
    kind = {"apng": "png"}.get(ending, ending)
    path = tmp_path / "in" / f"walk.{ending}"
    path.parent.mkdir()
    shades[0].save(path, kind, save_all=True, append_images=shades[1:], duration=50, lossless=True)
    (tmp_path / "in/cam.txt").write_text(CAMERA)
    for root in (path, tmp_path / "in"):
        dataset = open_folder(root, val_fraction=0)
        assert targets(dataset) == [f"walk.{ending}/{n:06d}.jpg" for n in (1, 2, 3)]
        assert greys(dataset, 0) == {0: 8, -1: 0, 1: 16}


def test_a_still_gif_is_refused_as_a_video(tmp_path):
    Image.new("RGB", (96, 48)).save(tmp_path / "walk.gif")
    with pytest.raises(InputError, match=r"walk.gif holds one image and is not a video; save it as \.png"):
        open_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.gif"]


def test_a_broken_video_leaves_nothing_behind(tmp_path):
    video = tmp_path / "walk.mp4"
    video.write_bytes(b"no video at all")
    with pytest.raises(InputError, match=r"walk.mp4 cannot be read as a video"):
        open_folder(video)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.mp4"]


def test_list_of_frames_sets_order_and_selection(tmp_path):
    draw_scene(tmp_path, 4)
    draw(tmp_path / "start.png", 100)
    draw(tmp_path / "mask.png", 200)
    with pytest.raises(InputError, match=r"not named alike \(8.png, mask.png, start.png\).*frames.txt"):
        open_folder(tmp_path)
    (tmp_path / "frames.txt").write_text("start.png\n[0-9]*.png\n")
    dataset = open_folder(tmp_path, val_fraction=0)
    assert targets(dataset) == ["8.png", "9.png", "10.png"] and greys(dataset, 0)[-1] == 20
    assert len(open_folder(tmp_path, files="8.png 9.png start.png", val_fraction=0)) == 1
    with pytest.raises(InputError, match=r"no image matches 'end.png'"):
        open_folder(tmp_path, files=["8.png", "end.png"])


def sparse(path: Path, dense: np.ndarray) -> None:
    """A CSR matrix as scipy.sparse.save_npz writes it."""
    rows, columns = np.nonzero(dense)
    starts = np.searchsorted(rows, np.arange(len(dense) + 1))
    np.savez(
        path, indices=columns, indptr=starts, format=b"csr", shape=dense.shape, data=dense[rows, columns]
    )


def test_a_list_of_frames_may_hold_numbers(tmp_path):
    draw_scene(tmp_path, 4)
    with pytest.raises(InputError, match="no image matches '5'"):
        open_folder(tmp_path, files=["8.png", 5])


def test_depth_next_to_the_images_is_read_in_metres(tmp_path):
    scene = draw_scene(tmp_path, 5)
    (scene / "depth").mkdir()
    metres = np.zeros((48, 96), np.float32)
    metres[10, 20] = 2.5
    np.save(scene / "depth/8.npy", metres)
    sparse(scene / "depth/9.npz", metres)
    Image.fromarray((metres * 256).astype(np.uint16)).save(scene / "depth/10.png")
    dataset = open_folder(scene, part="all", frame_ids=(0,))
    for index in range(3):
        assert np.array_equal(dataset.depth(index)[0], metres)
    assert dataset.depth(3) is None
    assert open_folder(scene, part="all", frame_ids=(0,), depth_scale=1280).depth(2).max() == 0.5


def test_depth_of_other_proportions_is_not_that_of_its_image(tmp_path):
    scene = draw_scene(tmp_path, 3)
    (scene / "depth").mkdir()
    np.save(scene / "depth/8.npy", np.ones((24, 48), np.float32))  # half the size
    np.save(scene / "depth/9.npy", np.ones((2, 2), np.float32))
    dataset = open_folder(scene, part="all", frame_ids=(0,))
    assert dataset.depth(0).shape == (1, 24, 48)
    with pytest.raises(InputError, match=r"depth/9.npy is 2x2 and 9.png is 96x48; a depth map has the prop"):
        dataset.depth(1)


def test_exported_depth_is_not_taken_for_that_of_another_scale(tmp_path):
    scene = draw_scene(tmp_path, 5)
    (scene / "depth").mkdir()
    Image.fromarray(np.full((48, 96), 512, np.uint16)).save(scene / "depth/10.png")
    for scale, metres in ((256, 2), (512, 1)):
        words = ["--dataset", "folder", "--data_path", str(scene), "--part", "all", "--workers", "1"]
        export_gt_depth.main([*words, "--set", f"depth_scale={scale}"])
        dataset = open_folder(scene, part="all", frame_ids=(0,), depth_scale=scale)
        assert dataset.exported.paths and dataset.depth(2).max() == metres


def test_depth_with_other_names_is_matched_in_sorted_order(tmp_path):
    scene = draw_scene(tmp_path, 3)
    (scene / "depth").mkdir()
    for number in range(3):
        np.save(scene / f"depth/ground_truth_{number}.npy", np.full((48, 96), number + 1.0))
    dataset = open_folder(scene, part="all", frame_ids=(0,))
    assert [dataset.depth(index).max() for index in range(3)] == [1, 2, 3]
    (scene / "depth/ground_truth_0.npy").unlink()
    with pytest.raises(InputError, match="depth holds 2 files for 3 images"):
        open_folder(scene)


def test_a_depth_image_of_eight_bits_is_refused(tmp_path):
    scene = draw_scene(tmp_path, 3)
    draw(scene / "depth/8.png", 7)
    with pytest.raises(
        InputError, match=r"depth/8.png is not a depth image: expected one 16-bit channel, got uint8"
    ):
        open_folder(scene, part="all", frame_ids=(0,)).depth(0)


@pytest.mark.parametrize(
    "camera, sentence",
    [
        ("60 61 47", r"cam.txt: expected 4 \(fx fy cx cy\), 9 \(3x3\) or 12 \(3x4\) numbers, got 3"),
        ("60 61 47 x", r"cam.txt: intrinsics are the numbers fx fy cx cy, in pixels .*'x'"),
        (
            "0.625 1.25 0.5 0.5",
            r"cam.txt: .*96x48 images look normalised; in pixels they are '60 60 48 24'",
        ),
        ("600 600 470 230", r"cam.txt: .* belong to an image of 940x460; for this size they are"),
        ("nan 61 47 23", "intrinsics are finite numbers, got nan 61 47 23"),
        ("60 0 0 0 61 0 47 23 1", r"must end in 0 0 1, got \[47.0, 23.0, 1.0\]; is it transposed\?"),
        ("-60 61 47 23", r"fx and fy must be positive, got -60 and 61"),
        (
            None,
            r"no intrinsics for .*: write 'fx fy cx cy' in pixels into .*cam.txt, .*try \"83 83 47.5 23.5\"",
        ),
    ],
)
def test_implausible_intrinsics_are_refused_with_an_example(tmp_path, camera, sentence):
    with pytest.raises(InputError, match=sentence):
        open_folder(draw_scene(tmp_path, 3, camera=camera))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_damaged_depth_arrays_are_one_sentence(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    depth = np.random.default_rng(0).random((24, 32), np.float32)
    np.save(path, depth) if suffix == ".npy" else np.savez_compressed(path, depth=depth)
    whole = path.read_bytes()
    for start in range(0, len(whole), 97):
        for damaged in (whole[:start], whole[:start] + b"\xff\xff\xff" + whole[start + 3 :]):
            path.write_bytes(damaged)
            try:
                assert read_depth(path, 256).ndim == 2
            except InputError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize("name", ["../other/0.png", "/tmp/0.png", ".."])
def test_a_listed_frame_cannot_lie_outside_of_its_scene(tmp_path, name):
    folder = draw_scene(tmp_path / "scene", 5)
    (folder / "frames.txt").write_text(f"{name}\n")
    with pytest.raises(InputError, match=r"frames\.txt: the name '.*' leads out of .*scene"):
        open_folder(folder, part="all", intrinsics="20 20 16 12")


def test_the_suggested_camera_is_sixty_degrees_wide():
    assert 2 * math.degrees(math.atan(96 / 2 / 83)) == pytest.approx(60, abs=0.5)


def test_two_sizes_in_one_scene_are_refused_with_both(tmp_path):
    draw_scene(tmp_path, 3)
    draw(tmp_path / "9.png", 1, (48, 96))
    with pytest.raises(InputError, match=r"8.png is 96x48 and 9.png is 48x96"):
        open_folder(tmp_path)


def test_a_truncated_image_is_found_when_the_folder_is_opened(tmp_path):
    draw_scene(tmp_path, 3)
    (tmp_path / "9.png").write_bytes((tmp_path / "9.png").read_bytes()[:20])
    with pytest.raises(InputError, match=r"9.png cannot be read as an image .*; is it truncated"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"part": "valid"}, "parts train, val, test, all, got 'valid'"),
        ({"frame_ids": (0, "s")}, "no stereo partner"),
        ({"stride": 0}, "stride is a whole number of frames from 1 on, got 0"),
        ({"val_fraction": 1.5}, r"val_fraction is in \[0, 1\), got 1.5"),
        ({}, "5 frames are too few to hold 3 of them back for validation; --dataset.val_fraction 0"),
        ({"stride": 4}, "a target and its neighbours take 9 frames, got 5"),
        ({"val_fraction": 0, "stride": 4}, "no frame has all of its neighbours"),
        ({"split": "eigen_zhou"}, "eigen_zhou holds none of train.txt"),
    ],
)
def test_unknown_setting_is_refused_with_the_valid_ones(tmp_path, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        open_folder(draw_scene(tmp_path, 5), **settings)


def test_a_folder_without_images_says_what_it_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"holds no images \(.bmp, .jpeg, .jpg"):
        open_folder(tmp_path)
    with pytest.raises(InputError, match="there is no folder or video"):
        open_folder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes.txt is neither a folder nor a video"):
        open_folder(tmp_path / "notes.txt")


@pytest.mark.skipif(not SNIPPET.is_dir(), reason="needs the KITTI images in ../shared/data")
def test_six_real_images_open_in_the_order_they_were_taken(tmp_path):
    for path in SNIPPET.glob("*.png"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "cam.txt").write_text("718.856 718.856 607.1928 185.2157")
    (tmp_path / "frames.txt").write_text("left.png\n0*.png\n")
    dataset = open_folder(tmp_path, val_fraction=0, height=128, width=416)
    assert targets(dataset) == [f"00000{number}.png" for number in range(1, 5)]
    assert dataset.paths(dataset.samples[0], -1) == [tmp_path / "left.png"]
    assert dataset[0].images[0].shape == (1, 3, 128, 416)
    # Neighbours in time are similar; the disparity is not a frame.
    previous, target, later = (dataset[1].images[frame].float() for frame in (-1, 0, 1))
    assert (target - previous).abs().mean() < 25 and (target - later).abs().mean() < 25


# ----------------------------------------------------------------------------- missing and double frames


def listed(folder: Path, **settings) -> list[str]:
    dataset = open_folder(folder, part="all", **settings)
    return [dataset.paths(sample, 0)[0].name for sample in dataset.samples]


def draw_frames(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for n, name in enumerate(names):
        draw(folder / name, n)
    (folder / "cam.txt").write_text("60 60 48 24")
    return folder


def test_no_sample_reaches_across_a_missing_frame(tmp_path):
    draw_frames(tmp_path, *(f"{n:03d}.png" for n in (0, 1, 2, 3, 7, 8, 9)))
    assert listed(tmp_path) == ["001.png", "002.png", "008.png"]
    (tmp_path / "frames.txt").write_text("*.png")  # a list is taken as it stands
    assert len(listed(tmp_path)) == 5


def test_no_sample_joins_two_sequences(tmp_path):
    draw_frames(tmp_path, "clip1_0002.png", "clip1_0003.png", "clip1_0004.png", "clip2_0000.png")
    assert listed(tmp_path) == ["clip1_0003.png"]


def test_gaps_are_named(tmp_path, capsys):
    draw_frames(tmp_path, *(f"{n}.png" for n in (0, 1, 2, 5, 6, 7)))
    assert listed(tmp_path) == ["1.png", "6.png"]
    assert "1 gap, between 2.png and 5.png; no sample reaches across" in capsys.readouterr().err


def test_frames_in_even_steps_have_no_gap(tmp_path):
    draw_frames(tmp_path, *(f"{n:03d}.png" for n in (0, 5, 10, 15)))
    assert listed(tmp_path) == ["005.png", "010.png"]


def test_a_frame_in_two_formats_counts_once(tmp_path, capsys):
    names = [f"{n}{ending}" for n in range(4) for ending in (".jpg", ".png")]
    draw_frames(tmp_path, *names)
    assert listed(tmp_path) == ["1.jpg", "2.jpg"]
    assert f"note: 4 images in {tmp_path} are left out" in capsys.readouterr().err
    (tmp_path / "frames.txt").write_text("*.png\n")  # the fix of the note
    assert listed(tmp_path) == ["1.png", "2.png"] and not capsys.readouterr().err
    (tmp_path / "frames.txt").write_text("0.png\n1.png\n2.png\n")
    assert listed(tmp_path) == ["1.png"]


def test_validation_has_a_sample_for_distant_frames(tmp_path):
    draw_frames(tmp_path, *(f"{n:02d}.png" for n in range(30)))
    train, val = (open_folder(tmp_path, part=part, frame_ids=(0, -2, 2)) for part in ("train", "val"))
    assert len(val) == 1 and len(train) == 21


def test_images_that_are_not_read_are_named(tmp_path, capsys):
    draw_frames(tmp_path / "a", "0.png", "1.png", "2.png")
    (tmp_path / "b").mkdir()
    draw_frames(tmp_path / "b" / "rgb", "0.png", "1.png", "2.png")
    for _ in range(2):
        open_folder(tmp_path, part="all")
    assert capsys.readouterr().err.count("b/rgb hold images that are not read") == 1


def test_exif_rotation_applies_in_training(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    tmp_path.mkdir(exist_ok=True)
    for n in range(3):
        Image.new("RGB", (96, 48), (n, 0, 0)).save(tmp_path / f"{n}.jpg", exif=exif)
    (tmp_path / "cam.txt").write_text("60 60 24 48")
    dataset = open_folder(tmp_path, part="all")
    assert dataset.read_images(dataset.samples[0], 0)[0].shape == (3, 96, 48)
    assert dataset.scenes[0].size == (96, 48)


def test_guessed_intrinsics_see_60_degrees_and_are_said(tmp_path):
    with collect_notices() as said:
        dataset = open_folder(draw_scene(tmp_path, 3, camera=None), part="all", intrinsics="guess")
    assert "are guessed, '83.1384 83.1384 47.5 23.5'" in said[0] and "write yours into" in said[0]
    assert dataset.scenes[0].intrinsics[0, 0] == pytest.approx(48 / math.tan(math.radians(30)))


def test_a_file_takes_precedence_over_guessed_intrinsics(tmp_path):
    assert (
        open_folder(draw_scene(tmp_path, 3), part="all", intrinsics="guess").scenes[0].intrinsics[0, 0] == 60
    )


def test_one_number_is_refused_as_intrinsics(tmp_path):
    with pytest.raises(InputError, match=r"--dataset.intrinsics: expected 4 .* got 1"):
        open_folder(draw_scene(tmp_path, 3), part="all", intrinsics=87)


# Lenses and speed.


@pytest.fixture(scope="module")
def fisheye(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fisheye") / "out"
    make(Plan("folder", root, 2, 5, 64, 128, 0, "png", camera="fisheye"))
    return root


def test_a_lens_travels_with_its_images(fisheye):
    dataset = Folder(fisheye, height=32, width=96, speed=True)
    sample = dataset[0]
    native = read_camera(fisheye / "training/scene_000/camera.yaml")
    expected = native.resized((64, 128), (32, 96))
    assert torch.allclose(sample.camera.rays(32, 96), expected.rays(32, 96), atol=1e-6)
    assert torch.allclose(sample.intrinsics, expected.nearest_pinhole(32, 96), atol=1e-3)
    assert not sample.maps["ego_mask"].any()  # this fisheye has no dark corners
    batch = Batch.cat([dataset[0], dataset[1]])
    assert batch.camera.rows == 2


def test_the_speed_of_a_scene_is_that_of_its_file(fisheye):
    sample = Folder(fisheye, height=32, width=96, speed=True)[0]
    track = read_speed_csv(fisheye / "training/scene_000/speed.csv")
    assert sample.speed[-1].item() == pytest.approx(track.mean(0.0, 0.1), rel=1e-5)
    assert sample.time_step[1].item() == pytest.approx(0.1)
    faster = Folder(fisheye, height=32, width=96, speed=20.0)[0]
    assert faster.time_step[1].item() == pytest.approx(0.05)


def test_dark_corners_belong_to_the_ego_mask(tmp_path):
    draw_scene(tmp_path, 5, camera=None)
    narrow = "model: kannala_brandt\nintrinsics: [9, 9, 47.5, 23.5]\ndistortion: [0, 0, 0, 0]\n"
    (tmp_path / "camera.yaml").write_text(narrow)  # its circle has a radius of 9 pi pixels
    mask = open_folder(tmp_path, val_fraction=0)[0].maps["ego_mask"]
    assert mask.shape == (1, 1, 32, 64) and mask[0, 0, 0, 0] and not mask[0, 0, 16, 32]


def test_intrinsics_of_the_command_line_replace_a_lens(fisheye):
    assert Folder(fisheye, height=32, width=96, intrinsics="70 70 64 32")[0].camera is None


def test_a_lens_of_another_image_size_is_refused(tmp_path):
    draw_scene(tmp_path, 5, camera=None)
    far = "model: kannala_brandt\nintrinsics: [9, 9, 9000, 23.5]\ndistortion: [0, 0, 0, 0]\n"
    (tmp_path / "camera.yaml").write_text(far)
    with pytest.raises(InputError, match="no pixel of the 96x48 images has a ray"):
        open_folder(tmp_path)


def test_a_crop_and_larger_images_keep_the_lens(fisheye):
    dataset = Folder(fisheye, height=32, width=96)
    dataset.detail = 2
    sample = dataset[0]
    assert torch.allclose(
        sample.detailed.camera.rays(64, 192),
        sample.camera.resized((32, 96), (64, 192)).rays(64, 192),
        atol=1e-6,
    )
    cropped = crop(sample, [Window(24, 72, 5, 8)], 16, 48)
    expected = sample.camera.resized((32, 96), (24, 72)).cropped(5, 8, 16, 48)
    assert torch.allclose(cropped.camera.rays(16, 48), expected.rays(16, 48), atol=1e-5)


def test_upper_case_layout_and_list_without_final_newline(tmp_path):
    """SC-Depth's README writes Training, its code reads training and drops a character of each line."""
    for name in ("scene_1", "scene_2"):
        draw_scene(tmp_path / "Training" / name, 4)
    (tmp_path / "Training/train.txt").write_text("scene_1\nscene_2")
    (tmp_path / "Training/val.txt").write_text("scene_1")
    assert len(open_folder(tmp_path)) == 4 and len(open_folder(tmp_path, part="val")) == 2
    draw_scene(tmp_path / "training/scene_3", 3)
    assert targets(open_folder(tmp_path, part="all")) == ["scene_3/9.png"]  # the exact name comes first


def test_frame_index_selects_frames_and_stride_counts_them(tmp_path):
    root = draw_scene(tmp_path / "walk", 9)
    (root / "frame_index.txt").write_text("0\n3\n4\n7\n8")
    dataset = open_folder(root, part="all", frame_index=True)
    assert greys(dataset, 0) == {0: 3, -1: 0, 1: 4} and len(dataset) == 3
    assert greys(open_folder(root, part="all", frame_index=True, stride=2), 0) == {0: 4, -1: 0, 1: 8}
    assert len(open_folder(root, part="all")) == 7
    draw_scene(tmp_path / "stands", 3)
    with pytest.raises(
        InputError, match=r"no .*frame_index.txt; tools/select_frames.py writes it, or leave out"
    ):
        open_folder(tmp_path, part="all", frame_index=True)
    (root / "frame_index.txt").write_text("0\n9\n")
    with pytest.raises(
        InputError, match=r"frame_index.txt, line 2: '9' is not the number of a frame, 0 to 8"
    ):
        open_folder(root, part="all", frame_index=True)


def test_a_frame_index_of_fewer_frames_is_refused(tmp_path):
    root = draw_scene(tmp_path, 7)
    (root / "frame_index.txt").write_text("0\n2\n4\n")
    (root / "frame_index.yaml").write_text("frames: 5\n")
    with pytest.raises(InputError, match=r"frame_index\.txt counts 5 frames and .* has 7 now; tools/select"):
        open_folder(root, frame_index=True)
    (root / "frame_index.yaml").write_text("frames: 7\n")
    assert len(open_folder(root, part="all", frame_index=True)) == 1


def test_files_matched_by_order_count_frames_left_out(tmp_path):
    root = draw_scene(tmp_path / "walk", 5)
    for folder in ("depth", "leres_depth"):
        (root / folder).mkdir()
        for number in range(5):
            values = np.full((48, 96), 1000 * (number + 1), np.uint16)
            values[0, 0] = 9
            Image.fromarray(values).save(root / folder / f"x_{number}.png")
    (root / "frame_index.txt").write_text("0\n2\n4\n")
    dataset = open_folder(root, part="all", frame_index=True, pseudo_depth=True, depth_scale=1000)
    assert targets(dataset) == ["10.png"] and dataset.depth(0)[0, 9, 9] == 3
    assert dataset[0].maps["pseudo_depth"][0, 0, 20, 20] == 3000


def test_a_scene_too_short_for_a_sample_is_named(tmp_path, capsys):
    draw_scene(tmp_path / "long", 7)
    draw_scene(tmp_path / "short", 4)
    assert len(open_folder(tmp_path, part="all", stride=2)) == 3
    sentence = "short has no sample: a target and its neighbours take 5 frames, and short holds 4"
    assert sentence in capsys.readouterr().err
