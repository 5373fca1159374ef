"""The rules for image files: orientation, size limits, one file per frame, runs without gaps."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from datasets import _pillow, image_files
from datasets.animated import animation_frames
from datasets.image_files import (
    frame_runs,
    image_size,
    list_images,
    one_per_name,
    read_image,
)
from predictor import find_images
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
    for module in (image_files, _pillow):
        monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=f"large{ending} is an image of 40x30, more than 1000 pixels"):
            read(tmp_path / f"large{ending}")


def test_warnings_as_errors_do_not_change_what_is_read(tmp_path):
    Image.new("P", (8, 6)).save(tmp_path / "palette.png", transparency=b"\x00\x80")
    Image.new("RGB", (13000, 8000)).save(tmp_path / "large.png")  # above the limit at which Pillow warns
    Image.new("1", (14000, 14000)).save(tmp_path / "too_large.webp", "png")
    code = (
        "import sys; from datasets.image_files import image_size, read_image; from utils import InputError\n"
        "print(read_image('palette.png').shape, image_size('large.png'))\n"
        "try: read_image('too_large.webp')\n"
        "except InputError as error: print(error)"
    )
    words = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "torch.Size([3, 6, 8]) (8000, 13000)", done.stderr
    assert (
        "too_large.webp is an image of 14000x14000, more than 134217728 pixels" in done.stdout
        and not done.stderr
    )


def test_damaged_metadata_leave_the_pixels(tmp_path):
    """Whole pixels under a cut EXIF entry are read as they are stored, and Pillow does not warn."""
    image = Image.radial_gradient("L").resize((16, 12)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in ("jpg", "png", "webp"):
        path = tmp_path / f"image.{ending}"
        image.save(path, exif=exif.tobytes()[:12] + b"\xff" * 20, lossless=True)
        assert read_image(path).shape == (3, 12, 16) and image_size(path) == (12, 16)


@pytest.mark.parametrize("error", [struct.error, KeyError, MemoryError, ZeroDivisionError, RuntimeError])
def test_whatever_a_decoder_raises_is_one_sentence(tmp_path, monkeypatch, error):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.bmp")

    def load(_):
        raise error("odd")

    monkeypatch.setattr(Image.Image, "convert", lambda *_: load(_))
    for read in (read_image, lambda path: next(animation_frames(path))):
        with pytest.raises(InputError, match=r"a\.bmp .*odd"):
            read(tmp_path / "a.bmp")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            "a git-LFS pointer, not .*git lfs pull",
        ),
        (b"\n<HTML><title>404</title>", "a web page, such as .*, not an image; download it again"),
        (b"", "an empty file, not an image; copy or download it again"),
    ],
)
def test_an_image_that_was_not_downloaded_is_named(tmp_path, content, words, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=rf"a\.{ending} is {words}"):
            read(path)


def test_a_link_to_nothing_is_named_and_not_left_out(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "0.png")
    os.symlink("annex/1.png", tmp_path / "1.png")
    os.symlink(tmp_path, tmp_path / "2.png")  # a folder
    assert list_images(tmp_path) == ["0.png", "1.png"]
    assert [path.name for path in find_images(tmp_path)] == ["0.png", "1.png"]
    for read in (read_image, image_size):
        with pytest.raises(InputError, match=r"no image at .*1\.png; it is a link to annex/1\.png"):
            read(tmp_path / "1.png")


@pytest.mark.parametrize("value", [-1, 70_000])
def test_values_beyond_16_bits_are_refused(tmp_path, value):
    Image.new("I", (8, 6), value).save(tmp_path / "image.tif")
    with pytest.raises(InputError, match=rf"image\.tif is an image of values from {value} to {value}; save"):
        read_image(tmp_path / "image.tif")


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
    path = tmp_path / "image.png"
    noise = np.random.default_rng(0).integers(0, 255, (12, 16), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    assert read_image(path).shape == (3, 12, 16)
    for damaged in (
        whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
        whole[:100],
        whole[:10] + b"\xff" + whole[11:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read as an image"):
            read_image(path)
    path.write_bytes(whole[:-12] + b"\0\0\0" + whole[-11:])  # behind the pixels, which are whole
    np.testing.assert_array_equal(read_image(path)[0].numpy(), noise)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1"])
def test_png_of_every_kind_has_the_pixels_of_pillow(tmp_path, mode):
    path = tmp_path / "image.png"
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    expected = np.array(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_image(path).permute(1, 2, 0).numpy(), expected)


def test_png_of_a_camera_is_not_left_to_pillow(tmp_path, monkeypatch):
    """Pillow takes four times as long."""
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    for mode in ("RGB", "L"):
        Image.fromarray(noise).convert(mode).save(tmp_path / f"{mode}.png")
    monkeypatch.setattr(image_files, "opened", lambda path: pytest.fail(f"Pillow opened {path}"))
    for mode in ("RGB", "L"):
        assert read_image(tmp_path / f"{mode}.png").shape == (3, 12, 16)
