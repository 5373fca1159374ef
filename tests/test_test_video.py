"""Frames and videos in, a video out."""

from __future__ import annotations

import functools
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import methods
from datasets.image_files import read_image
from datasets.video import extract_video
from prediction.frames import open_frames
from prediction.layout import SteadyRange, arrange
from test_video import main
from tests.test_test_simple import draw
from tests.test_test_simple_rig import RIG
from tests.test_videos import read_video
from tests.tiny_models import save_run
from utils import InputError

COUNT = 5


@pytest.fixture(autouse=True)
def load_once(monkeypatch):
    """Reading a checkpoint is what takes the time here, and is tested where it belongs."""
    monkeypatch.setattr(methods, "load_method", load_method)


load_method = functools.cache(methods.load_method)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def frames(tmp_path) -> Path:
    """A folder of frames whose names sort wrongly as text."""
    for n in range(8, 8 + COUNT):
        draw(tmp_path / f"walk/frame{n}.png", 48, 64)
    return tmp_path / "walk"


@pytest.fixture
def video(tmp_path) -> Path:
    """Seven frames of rising brightness at 20 a second."""
    import cv2

    writer = cv2.VideoWriter(str(tmp_path / "walk.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 20, (64, 48))
    for n in range(7):
        writer.write(np.full((48, 64, 3), 30 * n, np.uint8))
    writer.release()
    return tmp_path / "walk.mp4"


def predict(*words: object) -> None:
    main([*map(str, words), "--device", "cpu"])


def test_a_video_is_turned_as_its_header_says(tmp_path):
    """A telephone stores a portrait lying and writes into the track's matrix how to turn it."""
    import cv2

    lying = np.zeros((48, 64, 3), np.uint8)
    lying[:, :32] = 255  # bright on the left, which a quarter turn clockwise brings up
    path = tmp_path / "phone.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 20, (64, 48))
    for number in range(3):
        frame = lying.copy()
        frame[8:40, 36 + 8 * number : 44 + 8 * number] = 100  # moves, or training would refuse the video
        writer.write(frame)
    writer.release()
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # of the first version of this box
    assert struct.unpack_from(">9i", content, matrix)[::4] == (1 << 16, 1 << 16, 1 << 30)
    struct.pack_into(">9i", content, matrix, 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(content)
    shown = next(open_frames([str(path)]).images).float()
    trained = read_image(extract_video(path) / "000000.jpg").float()
    for image in (shown, trained):
        assert image.shape == (3, 64, 48)
        assert image[:, :30].mean() > 200 > 50 > image[:, 34:].mean()


def test_a_folder_becomes_a_gif_of_as_many_frames(run, frames, capsys):
    predict("--image_path", frames, "--run", run)
    shown = read_video(frames.parent / "walk_depth.gif")
    assert len(shown) == COUNT
    assert shown[0].shape == (72, 192, 3)  # side by side, each as wide as the network sees it
    assert "5 frames at 10 a second" in capsys.readouterr().out
    with Image.open(frames / "frame8.png") as image:
        first = np.asarray(image.resize((96, 72)), float)
    assert np.abs(shown[0][:, :96] - first).mean() < 12


def test_a_video_becomes_a_video_at_its_own_speed(run, video, tmp_path, capsys):
    predict("--image_path", video, "--run", run, "--every", 2, "--depth_only", "--output_width", 50)
    shown = read_video(tmp_path / "walk_depth.mp4")
    assert [frame.shape for frame in shown] == [(38, 50, 3)] * 4
    assert "4 frames at 10 a second" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.mp4", "walk_depth.mp4"]


def test_frames_are_read_in_numeric_order_and_every_nth(frames, video):
    opened = open_frames([str(frames)], every=2)
    assert opened.count == 3 and opened.fps == 5
    brightness = [frame.float().mean().item() for frame in open_frames([str(video)], every=3).images]
    assert brightness == pytest.approx([0, 90, 180], abs=4)


@pytest.mark.parametrize("place", [".", "*.png", "frame8.png", "sub/.."])
def test_video_of_the_working_folder_lies_next_to_it(frames, monkeypatch, place):
    (frames / "sub").mkdir()
    monkeypatch.chdir(frames)
    assert open_frames([place]).output.resolve() == frames.parent / "walk_depth.gif"


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_animated_image_is_a_video(run, tmp_path, ending):
    shades = [Image.new("RGB", (64, 48), (40 * n, 40 * n, 40 * n)) for n in range(6)]
    path = tmp_path / f"anim.{ending}"
    shades[0].save(path, save_all=True, append_images=shades[1:], duration=50, loop=0, lossless=True)
    frames = open_frames([str(path)])
    assert (frames.count, frames.fps) == (6, pytest.approx(10 if ending == "tif" else 20))
    brightness = [frame.float().mean().item() for frame in frames.images]
    assert brightness == pytest.approx([0, 40, 80, 120, 160, 200], abs=2)
    predict("--image_path", path, "--run", run, "--every", 2)
    assert len(read_video(tmp_path / "anim_depth.gif")) == 3


def test_still_image_of_an_animated_format_is_one_frame(tmp_path):
    draw(tmp_path / "a.png", 48, 64)
    assert open_frames([str(tmp_path / "a.png")]).count == 1


@pytest.mark.parametrize("ending", [".ts", ".3gp", ".flv"])
def test_containers_that_opencv_reads_are_videos(tmp_path, ending):
    import cv2

    codec = {".ts": "mp4v", ".3gp": "mp4v", ".flv": "FLV1"}[ending]
    writer = cv2.VideoWriter(str(tmp_path / f"a{ending}"), cv2.VideoWriter_fourcc(*codec), 20, (64, 48))
    for n in range(5):
        writer.write(np.full((48, 64, 3), 40 * n, np.uint8))
    writer.release()
    images = [item for item in open_frames([str(tmp_path / f"a{ending}")]).images if torch.is_tensor(item)]
    assert len(images) >= 4


@pytest.mark.parametrize("name", ["video.vob", "video.mjpeg", "video"])
def test_other_endings_are_videos_by_their_content(video, name):
    other = video.rename(video.with_name(name))
    assert len([item for item in open_frames([str(other)]).images if torch.is_tensor(item)]) == 7


def test_a_video_without_any_frame_gives_the_reason(run, tmp_path):
    shades = [Image.new("RGB", (64, 48), (40 * n, 40 * n, 40 * n)) for n in range(6)]
    shades[0].save(tmp_path / "a.webp", save_all=True, append_images=shades[1:])
    whole = (tmp_path / "a.webp").read_bytes()
    (tmp_path / "a.webp").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "page").write_text("<html>not found</html>")
    for name, reason in (("a.webp", "cannot be read as an image"), ("page", "is a web page, such as")):
        with pytest.raises(InputError, match=f"{name} {reason}"):
            predict("--image_path", tmp_path / name, "--run", run, "--output", tmp_path / "out.gif")
        assert not (tmp_path / "out.gif").exists()


def test_relative_name_with_colons_is_not_taken_for_a_url(video, monkeypatch):
    video.rename(video.with_name("12:30:15.mp4"))
    monkeypatch.chdir(video.parent)
    assert len(list(open_frames(["12:30:15.mp4"]).images)) == 7


def test_frames_of_another_format_can_be_left_aside(frames):
    draw(frames / "poster.jpg", 48, 64)
    assert open_frames([str(frames)]).count == COUNT + 1
    assert open_frames([str(frames)], ext="png").count == COUNT
    with pytest.raises(InputError, match=r"there is no \.bmp at .*leave --ext out"):
        open_frames([str(frames)], ext="bmp")


def test_frames_are_those_of_training(frames, capsys):
    for n in range(8, 8 + COUNT):
        draw(frames / f"frame{n}.jpg", 48, 64)
    draw(frames / "frame20.jpg", 48, 64)
    assert open_frames([str(frames)]).count == open_frames([str(frames / "*")]).count == COUNT + 1
    said = capsys.readouterr().err
    assert "1 gap, between frame12.jpg and frame20.jpg; the video goes on" in said
    assert f"{COUNT} images are left out" in said
    (frames / "frames.txt").write_text("frame10.png\nframe8.png\n")
    assert open_frames([str(frames)]).count == 2


def test_wide_images_stand_one_above_the_other():
    assert arrange(torch.zeros(3, 100, 330), None, 640).axis == 0
    assert arrange(torch.zeros(3, 100, 130), None, 640).axis == 1
    assert arrange(torch.zeros(3, 101, 203), 101, 640, ["depth"]).width % 2 == 0


def test_colours_keep_their_meaning_when_a_bus_drives_by():
    street = torch.linspace(0, 1, 400).view(20, 20)
    bus = torch.cat([street[:10], torch.full((10, 20), 5.0)])
    colours = SteadyRange()
    usual = colours.update(street)
    assert colours.update(street) == pytest.approx(usual)
    passing = colours.update(bus)
    assert passing[1] < 1.3 * usual[1]  # by itself the frame would span five times as much


def test_the_batch_size_changes_no_frame(run, frames, tmp_path):
    for size in (1, 3):
        predict(
            "--image_path", frames, "--run", run, "--output", tmp_path / f"{size}.gif", "--batch_size", size
        )
    for one, three in zip(read_video(tmp_path / "1.gif"), read_video(tmp_path / "3.gif"), strict=True):
        assert np.abs(one.astype(int) - three).mean() < 0.5


def test_a_damaged_frame_is_named_and_the_video_goes_on(run, frames, capsys):
    (frames / "frame10.png").write_bytes(b"nothing")
    with pytest.raises(SystemExit) as stopped:
        predict("--image_path", frames, "--run", run)
    assert stopped.value.code == 1
    assert len(read_video(frames.parent / "walk_depth.gif")) == COUNT - 1
    assert "frame10.png cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--run", "RUN", "--output", "a.avi"], r"cannot write '\.avi'; known endings are gif, mp4, webm"),
        (["--run", "RUN", "--fps", "0"], "--fps must be above 0"),
        (["--run", "RUN", "--every", "0"], "--every must be 1 or more, got 0"),
        ([], "no model was given"),
    ],
)
def test_contradictory_flags_are_refused(run, frames, words, sentence):
    with pytest.raises(InputError, match=sentence):
        predict("--image_path", frames, *(str(run) if word == "RUN" else word for word in words))


def test_a_video_does_not_take_the_place_of_its_video(run, video, monkeypatch):
    before = video.read_bytes()
    monkeypatch.chdir(video.parent)
    with pytest.raises(InputError, match=r"walk\.mp4 is the input; give another file with --output"):
        predict("--image_path", video, "--run", run, "--output", "walk.mp4")
    assert video.read_bytes() == before


def test_input_other_than_a_video_is_refused(tmp_path, frames, video):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.mp4 cannot be read as a video"):
        open_frames([str(tmp_path / "broken.mp4")])
    with pytest.raises(InputError, match=r"there is no video .*none\.mp4"):
        open_frames([str(tmp_path / "none.mp4")])
    with pytest.raises(InputError, match="is a folder of videos; name one"):
        open_frames([str(tmp_path)])


def test_a_damaged_place_does_not_end_a_video(video, tmp_path):
    """The frames behind it are read, and the last word says how many are missing."""
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    writer = cv2.VideoWriter(str(tmp_path / "hurt.avi"), cv2.VideoWriter_fourcc(*"mp4v"), 20, (64, 48))
    for n in range(40):
        writer.write(np.roll(image, n, 1))
    writer.release()
    content = bytearray((tmp_path / "hurt.avi").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = bytes(6000)
    (tmp_path / "hurt.avi").write_bytes(content)
    *frames, last = open_frames([str(tmp_path / "hurt.avi")]).images
    assert 20 < len(frames) < 40 and all(isinstance(frame, torch.Tensor) for frame in frames)
    assert f"announces 40 frames; {len(frames)} could be read" in str(last)
    assert all(isinstance(frame, torch.Tensor) for frame in open_frames([str(video)]).images)


def test_a_rigs_model_takes_no_video(frames, tmp_path):
    rig = save_run(tmp_path / "rig", **RIG)
    with pytest.raises(InputError, match="predicts 6 cameras of one frame set together, and a video has one"):
        main(["--image_path", str(frames), "--run", str(rig), "--device", "cpu"])
