"""GIF, MP4 and WebM: read back and compared with the frames that were written."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from PIL import Image

import videos
from images import colourise
from utils import InputError
from videos import video

WHITE = np.full((64, 128, 3), 255, np.uint8)


@pytest.mark.parametrize("ending", ["gif", "mp4", "webm"])
def test_video_has_the_frames_it_was_given(tmp_path, ending):
    path = tmp_path / f"video.{ending}"
    with video(path, fps=10, colours="magma") as write:
        for grey in (0, 100, 200):
            write(np.full((32, 48, 3), grey, np.uint8))
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    frames = read_video(path)
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 3
    assert np.allclose([frame.mean() for frame in frames], (0, 100, 200), atol=6)


@pytest.mark.parametrize("fps", [29.97, 119.913, 142.857, 240])
def test_video_keeps_the_speed_of_fast_cameras(tmp_path, fps):
    import cv2

    with video(tmp_path / "fast.mp4", fps) as write:
        write(WHITE)
        write(WHITE)
    shown = cv2.VideoCapture(str(tmp_path / "fast.mp4")).get(cv2.CAP_PROP_FPS)
    assert shown == pytest.approx(fps, rel=1e-3)


def test_gif_depth_colours_do_not_depend_on_the_image(tmp_path):
    depth = colourise(np.tile(np.linspace(0, 1, 64), (32, 1)))
    draw = np.random.default_rng(0)
    with video(tmp_path / "a.gif", fps=10, colours="magma") as write:
        for _ in range(3):
            write(np.concatenate([draw.integers(0, 255, (32, 64, 3), np.uint8), depth], 1))
    shown = [frame[:, 64:].astype(int) for frame in read_video(tmp_path / "a.gif")]
    assert max(np.abs(frame - depth).max() for frame in shown) <= 12
    assert max(np.abs(frame - shown[0]).mean() for frame in shown) <= 1


def test_gif_stores_durations_and_loops(tmp_path):
    with video(tmp_path / "a.gif", fps=10) as write:
        write(WHITE)
        write(WHITE // 2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.info["duration"] == 100 and gif.info["loop"] == 0


def test_gif_rounds_durations_without_drift(tmp_path):
    with video(tmp_path / "a.gif", fps=30) as write:
        for n in range(30):
            write(WHITE // 30 * n)
    durations = []
    with Image.open(tmp_path / "a.gif") as gif:
        for n in range(30):
            gif.seek(n)
            durations.append(gif.info["duration"])
    assert sum(durations) == 1000 and set(durations) == {30, 40}


def test_gif_writer_needs_less_memory_than_the_file(tmp_path):
    draw = np.random.default_rng(0)
    tracemalloc.start()
    with video(tmp_path / "a.gif", fps=10) as write:
        for _ in range(60):
            write(draw.integers(0, 255, (96, 128, 3), np.uint8))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (tmp_path / "a.gif").stat().st_size / 2


def read_video(path) -> list[np.ndarray]:
    """Every frame of a GIF or MP4, (H, W, 3) RGB."""
    import cv2

    if path.suffix == ".gif":
        frames = []
        with Image.open(path) as gif:
            for n in range(gif.n_frames):
                gif.seek(n)
                frames.append(np.array(gif.convert("RGB")))
        return frames
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def test_unknown_ending_is_refused(tmp_path):
    sentence = r"cannot write '\.avi'; known endings are gif, mp4, webm"
    with pytest.raises(InputError, match=sentence), video(tmp_path / "a.avi", 10):
        pass


def test_video_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="there was no image"), video(tmp_path / "a.gif", 10):
        pass
    assert not list(tmp_path.iterdir())


def test_full_disk_is_noticed_although_opencv_is_silent(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with (
            pytest.raises(InputError, match="did not take the whole video"),
            video(tmp_path / "a.mp4", 10) as write,
        ):
            for _ in range(20):
                write(noise.integers(0, 255, (96, 128, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_mp4_is_h264_or_vp9_which_browsers_play(tmp_path):
    with video(tmp_path / "a.mp4", 10) as write:
        write(WHITE)
    content = (tmp_path / "a.mp4").read_bytes()
    assert b"avc1" in content or b"vp09" in content  # the sample entry names the codec


def test_codec_that_browsers_lack_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(videos.CODECS, ".mp4", ("none", "mp4v"))
    with video(tmp_path / "a.mp4", 10) as write:
        write(WHITE)
    assert "not in browsers; --output depth.gif" in capsys.readouterr().err


def test_build_without_any_codec_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(videos.CODECS, ".mp4", ("none",))
    sentence = "cannot write mp4.*--output depth.gif needs no codec"
    with pytest.raises(InputError, match=sentence), video(tmp_path / "a.mp4", 10) as write:
        write(WHITE)
