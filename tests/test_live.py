"""Live depth: the newest frame of a source, the page, a recording, and what is wrong with an address."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch

from prediction import live as live_source
from prediction.frames import open_video
from prediction.live import LiveSource
from prediction.live_page import LivePage
from prediction.smoothing import Smoothing
from prediction.streaming import SequenceFrame
from tests import runs
from tests.streams import rtsp_camera, silent_server
from tests.test_test_video import run, video  # noqa: F401  the fixtures of a trained run and a video
from tools import live
from utils import InputError

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def page():
    page = LivePage("127.0.0.1", 0)
    yield page
    page.close()


def test_a_file_is_shown_and_recorded(run, video, tmp_path, capsys):  # noqa: F811
    recorded = tmp_path / "live.mp4"
    words = ["--source", video, "--run", run, "--record", recorded, "--device", "cpu"]
    words += ["--port", 0, "--frames", 1]
    live.main([*map(str, words)])
    said = capsys.readouterr().out
    assert "http://127.0.0.1:" in said and "showed 1 frames" in said and f"wrote {recorded}" in said
    assert sum(1 for _ in open_video(recorded).images) == 1


def test_only_the_newest_frame_is_kept(video):  # noqa: F811
    source = LiveSource(str(video))
    source.start()
    source._thread.join(runs.HANG)  # the whole file has been read meanwhile
    count = sum(1 for _ in open_video(video).images)
    assert source.next(0)[0] == count and source.next(count) is None


def test_the_page_streams_the_images_and_tells_the_rate(page):
    page.status |= {"rate": 12.5, "unit": "metres"}
    page.show(np.full((8, 16, 3), 200, np.uint8))
    with urllib.request.urlopen(page.url + "status", timeout=60) as answer:
        assert json.load(answer)["rate"] == 12.5
    with urllib.request.urlopen(page.url + "stream", timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        assert answer.readline() == b"--image\r\n" and answer.readline() == b"Content-Type: image/jpeg\r\n"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(page.url + "etc/passwd", timeout=60)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_image_and_rate(page, tmp_path):
    page.status |= {"rate": 12.5, "unit": "metres", "source": "walk.mp4"}
    page.show(np.full((48, 96, 3), (255, 0, 0), np.uint8))
    shot = tmp_path / "page.png"
    words = [
        "--headless",
        "--virtual-time-budget=3000",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    words += ["--window-size=400,300", f"--screenshot={shot}", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *words, page.url], capture_output=True, text=True, timeout=runs.HANG)
    assert "12.5 frames per second" in done.stdout and "depth: metres" in done.stdout, done.stderr
    from datasets.image_files import read_image

    pixels = read_image(shot).permute(1, 2, 0).numpy().astype(int)
    red = (pixels[..., 0] > 200) & (pixels[..., 1:].max(-1) < 60)
    assert red.sum() > 40 * 90  # the streamed image itself


def test_a_port_in_use_is_one_sentence(page):
    port = int(page.url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(InputError, match=rf"no page at 127\.0\.0\.1:{port} \(.*in use.*give another --port"):
        LivePage("127.0.0.1", port)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("97", "there is no camera 97 on this machine"),
        ("missing.mp4", r"there is no video missing\.mp4; a live source is the number of a camera"),
        ("ftp://host/a", "a live address begins with rtsp://"),
        ("rtsp://127.0.0.1:{port}/a", r"127\.0\.0\.1:\d+ does not answer \(Connection refused\)"),
        ("rtsp://127.0.0.1:x/a", "a port that is not a number"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence(source, sentence):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=sentence):
        LiveSource(source.format(port=port))


def test_a_source_that_falls_silent_is_one_sentence(video, monkeypatch):  # noqa: F811
    monkeypatch.setattr(live_source.LiveSource, "_read_file", lambda self: self._stop.wait(5))
    source = LiveSource(str(video))
    source.start()
    with pytest.raises(InputError, match="has sent no frame for 0 s; is it still connected"):
        source.next(0, timeout=0.05)
    source.close()


# ------------------------------------------------------------------------------------------ network cameras

ORANGE = np.full((48, 64, 3), (230, 120, 20), np.uint8)


@pytest.fixture
def http_camera(page):
    """The address of Motion JPEG over HTTP, as cheap network cameras send it: our own page."""
    done = threading.Event()

    def send():
        while not done.wait(0.05):
            page.show(ORANGE)

    thread = threading.Thread(target=send)
    thread.start()
    yield page.url + "stream"
    done.set()
    thread.join()


@pytest.fixture
def impatient(monkeypatch):
    """An address has one second to answer."""
    monkeypatch.setattr(live_source, "ANSWER", 1.0)


def is_orange(image):
    return (
        image.shape == (3, 48, 64)
        and (image.float().mean((1, 2)) - torch.tensor(ORANGE[0, 0])).abs().max() < 6
    )


def test_motion_jpeg_over_http_is_read(http_camera):
    source = LiveSource(http_camera)
    source.start()
    number, image = source.next(0)
    assert is_orange(image) and source.next(number)[0] > number
    source.close()


def test_a_camera_over_rtsp_is_read():
    with rtsp_camera(ORANGE) as address:
        source = LiveSource(address)
        source.start()
        number, image = source.next(0)
        assert is_orange(image) and source.next(number)[0] > number
        source.close()


def test_an_address_is_shown_and_recorded(run, tmp_path, capsys):  # noqa: F811
    recorded = tmp_path / "live.mp4"
    words = ["--run", run, "--record", recorded, "--device", "cpu", "--port", 0, "--frames", 2]
    with rtsp_camera(ORANGE) as address:
        live.main([*map(str, words), "--source", address])
    assert f"shows the depth of {address}" in capsys.readouterr().out
    assert sum(1 for _ in open_video(recorded).images) >= 2


def test_a_camera_that_stops_is_one_sentence():
    with rtsp_camera(ORANGE, frames=40) as address:
        source = LiveSource(address)
        source.start()
        with pytest.raises(InputError, match=r"rtsp://127\.0\.0\.1:\d+/stream sends no more frames"):
            number = 0
            while True:
                number, _ = source.next(number)
        source.close()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_stays_silent_is_one_sentence(impatient, scheme):
    with silent_server() as place, pytest.raises(InputError, match=f"{place} answers, but not with a video"):
        LiveSource(f"{scheme}://{place}/stream")


# ---------------------------------------------------------------------------------------------- smoothing


def a_frame(image: float, depth: float) -> SequenceFrame:
    return SequenceFrame(0, torch.zeros(3, 4, 4), torch.full((1, 2, 2), depth), torch.full((3, 2, 2), image))


def test_depth_is_smoothed_where_the_image_stays():
    smooth = Smoothing(0.75)
    assert smooth(a_frame(0.5, 1.0)).inverse_depth.mean() == 1
    assert torch.allclose(smooth(a_frame(0.5, 2.0)).inverse_depth, torch.tensor(1.25))
    assert torch.allclose(
        smooth(a_frame(0.9, 3.0)).inverse_depth, torch.tensor(3.0)
    )  # something else is there


def test_a_weight_outside_of_its_range_is_refused():
    with pytest.raises(InputError, match=r"--smooth is in \[0, 1\), got 1; try 0.7"):
        Smoothing(1.0)
