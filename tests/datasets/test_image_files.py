"""The rules for image files: orientation, size limits, one file per frame, runs without gaps."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from datasets import image_files
from datasets.image_files import (
    _torchvision_reads,
    frame_runs,
    image_size,
    list_images,
    one_per_name,
    read_image,
)
from utils import PROJECT, InputError


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".jpg", ".webp"])
def test_image_is_turned_by_its_exif(tmp_path, ending, orientation):
    path = tmp_path / f"image{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners = np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((16, 16))).astype(np.uint8)
    Image.fromarray(corners).convert("RGB").save(path, exif=exif, lossless=True)
    upright = np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    image = read_image(path)
    assert image_size(path) == tuple(image.shape[1:]) == upright.shape[:2]
    assert (image.permute(1, 2, 0).int() - torch.from_numpy(upright).int()).abs().max() <= 3


def test_pillow_reads_the_same_without_torchvision(tmp_path, monkeypatch):
    for ending in (".png", ".jpg"):
        Image.radial_gradient("L").convert("RGB").save(tmp_path / f"image{ending}")
    fast = [read_image(path) for path in sorted(tmp_path.iterdir())]
    monkeypatch.setattr(image_files, "decode_image", None)
    slow = [read_image(path) for path in sorted(tmp_path.iterdir())]
    assert all((a.int() - b.int()).abs().max() <= 3 for a, b in zip(fast, slow))


def test_warnings_as_errors_do_not_stop_reading(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "image.png")
    code = f"from datasets.image_files import read_image; read_image({str(tmp_path / 'image.png')!r})"
    words = [sys.executable, "-W", "error::DeprecationWarning:datasets", "-c", code]
    assert subprocess.run(words, cwd=PROJECT, capture_output=True).returncode == 0


def test_a_gif_with_another_ending_is_read(tmp_path):
    Image.new("RGB", (8, 6), (9, 9, 9)).save(tmp_path / "image.gif")
    (tmp_path / "image.gif").rename(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png").shape == (3, 6, 8)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_header_that_claims_too_much_is_refused(tmp_path, ending, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / f"large{ending}")
    monkeypatch.setattr(image_files, "MAX_PIXELS", 1000)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=f"large{ending} is an image of 40x30, more than 1000 pixels"):
            read(tmp_path / f"large{ending}")


def test_first_of_two_formats_is_used():
    assert sorted(one_per_name(["a.png", "a.jpg", "b.PNG", "a.tif"])) == ["a.jpg", "b.PNG"]


def test_images_are_listed_once_in_natural_order(tmp_path):
    for name in ("frame10.png", "frame9.png", "frame9.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["frame9.jpg", "frame10.png"]


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["1", "2", "3", "7", "8"], [(0, 3), (3, 5)]),
        (["a1_2", "a1_3", "a2_0"], [(0, 2), (2, 3)]),
        (["0", "10", "20"], [(0, 3)]),
        (["1403636579763", "1403636579813", "1403636579862", "1403636580163"], [(0, 3), (3, 4)]),
        (["left", "right"], [(0, 2)]),
        (["7"], [(0, 1)]),
    ],
)
def test_runs_end_at_gaps_and_at_other_prefixes(names, runs):
    assert [(run.start, run.stop) for run in frame_runs([f"{name}.png" for name in names])] == runs


def test_damaged_png_is_a_sentence_and_not_a_crash(tmp_path):
    """Torchvision's decoder ends the process at an error of libpng; it gets only PNGs with sound chunks."""
    path = tmp_path / "image.png"
    noise = np.random.default_rng(0).integers(0, 255, (12, 16), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    assert read_image(path).shape == (3, 12, 16)
    for damaged in (
        whole[:-12] + b"\0\0\0" + whole[-11:],  # the length of the last chunk has moved by a byte
        whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
        whole[:100],
    ):
        path.write_bytes(damaged)
        if _torchvision_reads(np.frombuffer(damaged, np.uint8)):
            pytest.fail("torchvision would read a damaged PNG")
        with contextlib.suppress(InputError):  # Pillow forgives an error behind the pixels
            assert read_image(path).shape == (3, 12, 16)
