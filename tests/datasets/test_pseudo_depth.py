"""Pseudo-depth of a folder of images: found by name or order, at the network's size, refused if missing."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.folder import Folder
from utils import InputError


@pytest.fixture
def scene(tiny_folder, tmp_path):
    """The drawn wall; image n has a pseudo-depth of 1000 + n on its left half and 0 on its right."""
    shutil.copytree(tiny_folder, tmp_path / "scene")
    root = tmp_path / "scene"
    (root / "pseudo_depth").mkdir()
    for number in range(14):
        values = np.full((32, 48), 1000 + number, np.uint16)
        values[:, 24:] = 0
        Image.fromarray(values).save(root / f"pseudo_depth/{number:03d}.png")
    return root


def opened(root, **settings):
    return Folder(root, part="all", height=64, width=96, pseudo_depth=True, **settings)


def test_each_target_has_pseudo_depth_at_the_networks_size(scene):
    dataset = opened(scene)
    for index in (0, 5):
        pseudo = dataset[index].maps["pseudo_depth"]
        number = dataset.samples[index].frame
        assert pseudo.shape == (1, 1, 64, 96) and pseudo.dtype == torch.float32
        assert (pseudo[..., :48] == 1000 + number).all() and not pseudo[..., 48:].any()


def test_pseudo_depth_is_read_only_on_request(scene):
    assert Folder(scene, part="all", height=64, width=96)[0].maps == {}


def test_scdepths_folder_is_matched_by_order(scene):
    (scene / "pseudo_depth").rename(scene / "leres_depth")
    for number, file in enumerate(sorted((scene / "leres_depth").glob("*.png"))):
        file.rename(file.with_name(f"{number:03d}-depth_raw.png"))
    dataset = opened(scene)
    assert dataset[3].maps["pseudo_depth"].max() == 1000 + dataset.samples[3].frame


def test_a_missing_folder_or_file_is_named(scene):
    (scene / "pseudo_depth/004.png").unlink()
    with pytest.raises(InputError, match=r"has no file for 004.png; 1 of 14 images lack pseudo-depth"):
        opened(scene)
    shutil.rmtree(scene / "pseudo_depth")
    with pytest.raises(InputError, match=r"put one 16-bit .png or .npy for each image into .*pseudo_depth"):
        opened(scene)


def test_eight_bits_are_refused(scene):
    Image.fromarray(np.full((32, 48), 9, np.uint8)).save(scene / "pseudo_depth/001.png")
    with pytest.raises(InputError, match="expected one 16-bit channel, got uint8"):
        [opened(scene)[index] for index in range(3)]
