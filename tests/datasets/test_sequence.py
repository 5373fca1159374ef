"""The base of all datasets: decoding, resizing, resized intrinsics, gaps found at the start."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datasets.image_files import read_image
from datasets.resizing import resize_image, resize_intrinsics
from datasets.sequence import SequenceDataset
from structures import Batch
from utils import InputError


class Drawn(SequenceDataset):
    """Frame n of the folder is n.png; samples are the given frames."""

    def __init__(self, data_path, lines, **settings):
        self.samples = lines
        super().__init__(data_path, **{"height": 32, "width": 64, **settings})

    def paths(self, sample, frame):
        return [self.data_path / f"{sample + frame}.png"]

    def intrinsics(self, sample, camera, height, width):
        return np.array([[50.0, 0, width / 2], [0, 60.0, height / 2], [0, 0, 1]])


@pytest.fixture
def images(tmp_path) -> Path:
    for frame in range(5):
        Image.new("RGB", (96, 48), (frame, 10 * frame, 100)).save(tmp_path / f"{frame}.png")
    return tmp_path


def test_an_image_of_floating_point_numbers_is_refused(tmp_path):
    """Converted, values from 0 to 1 would be black without a word."""
    path = tmp_path / "float.tiff"
    Image.fromarray(np.full((48, 96), 0.5, np.float32)).save(path)
    with pytest.raises(InputError, match=r"float\.tiff is an image of floating-point numbers; save"):
        read_image(path)


def test_upper_eight_bits_of_a_16_bit_image_are_read(tmp_path):
    blue_green_red = np.full((48, 96, 3), (0x30FF, 0x2001, 0x1080), np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), blue_green_red)
    assert read_image(tmp_path / "deep.png")[:, 5, 5].tolist() == [0x10, 0x20, 0x30]
    cv2.imwrite(str(tmp_path / "grey.png"), blue_green_red[..., 0])
    assert read_image(tmp_path / "grey.png")[:, 5, 5].tolist() == [0x30, 0x30, 0x30]


def test_a_sample_is_a_batch_of_one_as_bytes_at_network_size(images):
    sample = Drawn(images, [1, 2, 3])[1]
    assert {frame: image[0, :, 5, 5].tolist() for frame, image in sample.images.items()} == {
        0: [2, 20, 100],
        -1: [1, 10, 100],
        1: [3, 30, 100],
    }
    assert sample.images[0].shape == (1, 3, 32, 64) and sample.images[0].dtype == torch.uint8
    assert sample.index.tolist() == [1]


def test_resized_intrinsics_keep_the_relative_pixel_of_a_point():
    K = np.array([[50.0, 0, 40.3], [0, 60.0, 21.7], [0, 0, 1]])
    point = np.array([0.3, -0.2, 2.0])
    small = resize_intrinsics(K, (48, 96), (32, 48))
    old, new = K @ point / 2, small @ point / 2
    # A pixel's centre is an integer, so the left edge of the image is at -0.5.
    assert np.allclose((new[:2] + 0.5) / (48, 32), (old[:2] + 0.5) / (96, 48))
    assert np.allclose(resize_intrinsics(K, (48, 96), (48, 96)), K)


def test_detailed_images_are_read_for_a_method_that_zooms(images):
    dataset = Drawn(images, [1, 2], frame_ids=(0, 1), height=64, width=96)
    assert dataset[0].detailed is None
    dataset.detail = 2
    sample = dataset[0]
    larger = sample.detailed
    assert larger.images[1].shape == (1, 3, 128, 192) and larger.images[1].dtype == torch.uint8
    assert torch.equal(larger.index, sample.index)
    point = torch.tensor([0.3, -0.2, 1.0])  # the same half pixel further in
    small, large = (sample.intrinsics[0] @ point)[:2], (larger.intrinsics[0] @ point)[:2]
    assert torch.allclose((large + 0.5) / 2, small + 0.5, atol=1e-4)
    both = Batch.cat([sample, dataset[0]]).to("cpu")
    assert both.detailed.images[0].shape == (2, 3, 128, 192) and both.detailed.images[0].max() <= 1


def test_lanczos_is_pillows_and_bicubic_close_to_it():
    y, x = np.mgrid[:48, :96]
    wave = np.stack(
        [127 + 100 * np.sin(x / 9), 127 + 100 * np.cos(y / 7), 127 + 50 * np.sin((x + y) / 11)], -1
    )
    array = wave.round().astype(np.uint8)
    image = torch.from_numpy(array).permute(2, 0, 1)
    expected = np.array(Image.fromarray(array).resize((64, 32), Image.Resampling.LANCZOS))
    lanczos = resize_image(image, 32, 64, "lanczos").permute(1, 2, 0).numpy()
    assert np.array_equal(lanczos, expected)
    bicubic = resize_image(image, 32, 64).permute(1, 2, 0).numpy()
    assert np.abs(bicubic.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
def test_images_of_any_format_and_depth_of_colour_are_rgb(tmp_path, suffix):
    Image.new("L", (8, 6), 77).save(tmp_path / f"grey{suffix}")
    image = read_image(tmp_path / f"grey{suffix}")
    assert image.shape == (3, 6, 8) and image.unique().tolist() == [77]


def test_gaps_are_found_at_opening(images):
    (images / "3.png").unlink()
    with pytest.raises(InputError, match=r"no image at .*3\.png; 2 of 3 samples lack an image \("):
        Drawn(images, [1, 2, 3])
    assert Drawn(images, [1, 2, 3], skip_missing=True).samples == [1]
    with pytest.raises(InputError, match=r"2 of 2 samples lack an image$"):
        Drawn(images, [2, 3], skip_missing=True)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"height": 100}, "--height must be a multiple of 32, got 100; try --height 96"),
        ({"width": 0}, "--width must be a multiple of 32, got 0; try --width 32"),
        ({"resize": "nearest"}, "--resize is one of bicubic, lanczos, bilinear, got 'nearest'"),
        ({"lines": []}, "Drawn has no samples under"),
        ({"data_path": "/nowhere"}, "there is no folder /nowhere; give the dataset's root with --data_path"),
    ],
)
def test_invalid_settings_are_refused(images, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Drawn(**{"data_path": images, "lines": [1], **settings})


@pytest.mark.parametrize("name", ["1.png", "1.bmp"])
def test_a_broken_image_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(InputError, match=f"{name} cannot be read as an image .*is it truncated"):
        read_image(tmp_path / name)
    with pytest.raises(InputError, match="there is no image at"):
        read_image(tmp_path / "missing.png")


class Measured(Drawn):
    """Drawn, with ground truth of the recording's size for every second sample."""

    def depth(self, index):
        depth = np.zeros((1, 48, 96), np.float32)
        depth[0, 10, 20] = 7.5
        return depth if index % 2 == 0 else None


def test_supervision_puts_every_known_point_into_the_batch(images):
    dataset = Measured(images, [1, 2], supervision=True)
    batch = Batch.cat([dataset[0], dataset[1]])
    depth = batch.maps["depth"]
    assert depth.shape == (2, 1, 32, 64) and depth.dtype == torch.float32
    assert torch.nonzero(depth).tolist() == [[0, 0, int(10.5 * 32 / 48), int(20.5 * 64 / 96)]]
    assert depth.max() == 7.5
    assert Measured(images, [1, 2])[0].maps == {}
