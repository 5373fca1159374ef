"""Pseudo-depth of a folder of images: found by name or order, at the network's size, refused if missing."""

import json
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import open_dataset
from datasets._mirrored_files import mirrored_file
from datasets.folder import Folder
from losses._pseudo_depth import RankOrder, rank_correlation
from structures import Prediction
from utils import InputError


@pytest.fixture
def scene(tiny_folder, tmp_path):
    """The drawn wall; image n has pseudo-depth 1000 + n on its left half, 3000 in a corner, then 0."""
    shutil.copytree(tiny_folder, tmp_path / "scene")
    root = tmp_path / "scene"
    (root / "pseudo_depth").mkdir()
    for number in range(14):
        values = np.full((32, 48), 1000 + number, np.uint16)
        values[:4, :4] = 3000
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
        assert (pseudo[..., 8:, :48] == 1000 + number).all() and not pseudo[..., 48:].any()


@pytest.mark.parametrize(
    ("image", "words"), [("../x/1.jpg", "leads out of out"), ("/x/1.jpg", "x/1.jpg lies outside of data, so")]
)
def test_a_list_cannot_lead_files_out_of_their_folder(image, words):
    dataset = Namespace(data_path=Path("data"))
    with pytest.raises(InputError, match=words):
        mirrored_file(Path("out"), Path("data") / image, dataset)
    assert mirrored_file(Path("out"), Path("data/a/1.jpg"), dataset) == Path("out/a/1.png")


def test_pseudo_depth_is_read_only_on_request(scene):
    assert Folder(scene, part="all", height=64, width=96)[0].maps == {}


def test_scdepths_folder_is_matched_by_order(scene):
    (scene / "pseudo_depth").rename(scene / "leres_depth")
    for number, file in enumerate(sorted((scene / "leres_depth").glob("*.png"))):
        file.rename(file.with_name(f"{number:03d}-depth_raw.png"))
    dataset = opened(scene)
    assert dataset[3].maps["pseudo_depth"][..., 20, 20] == 1000 + dataset.samples[3].frame


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


def test_inverse_depth_is_inverted_where_the_convention_says_so(scene):
    depth = opened(scene)[2].maps["pseudo_depth"]
    convention = scene / "pseudo_depth/pseudo_depth.json"
    convention.write_text(json.dumps({"settings": {"quantity": "inverse_depth"}}))
    inverted = opened(scene)[2].maps["pseudo_depth"]
    known = depth > 0
    assert torch.allclose(inverted[known] * depth[known], torch.tensor(3000.0)) and not inverted[~known].any()
    convention.write_text('{"quantity": "disparity"}')
    with pytest.raises(InputError, match=r"states the quantity 'disparity'.*inverse_depth"):
        opened(scene)[2]
    convention.write_text("inverse")
    with pytest.raises(InputError, match=r'pseudo_depth.json cannot be read .*; write {"quantity": "depth"}'):
        opened(scene)[2]


def test_a_constant_map_is_unknown_and_named(scene, capsys):
    Image.fromarray(np.full((32, 48), 700, np.uint16)).save(scene / "pseudo_depth/003.png")
    dataset = opened(scene)
    (index,) = (n for n, sample in enumerate(dataset.samples) if sample.frame == 3)
    assert not dataset[index].maps["pseudo_depth"].any()
    assert "003.png is constant (700); its pseudo-depth, and" in capsys.readouterr().err


def test_other_datasets_mirror_their_images(tiny_kitti, tmp_path):
    options = {"dataset": {"name": "kitti"}, "data_path": tiny_kitti, "split": tiny_kitti / "splits"}
    options |= {"height": 64, "width": 96, "pseudo_depth_files": {"path": tmp_path}}
    with pytest.raises(InputError, match=r"has no pseudo-depth .*; tools/pseudo_depth.py --out makes it"):
        open_dataset(options, "train")
    dataset = open_dataset({**options, "pseudo_depth_files": {}}, "train")
    ramp = np.arange(1, 64 * 96 + 1, dtype=np.uint16).reshape(64, 96)
    for sample in dataset.samples:
        image = dataset.paths(sample, 0)[0].relative_to(tiny_kitti)
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp).save((tmp_path / image).with_suffix(".png"))
    assert torch.equal(
        open_dataset(options, "train")[0].maps["pseudo_depth"][0, 0], torch.tensor(ramp).float()
    )


def test_rank_correlation_ignores_monotone_functions():
    depth = torch.rand(2, 1, 40, 60, generator=torch.Generator().manual_seed(0)) + 0.5
    pseudo = depth**3 * 900
    pseudo[..., :7] = 0  # unknown
    same, inverted = (rank_correlation(pseudo.flatten(1), d.flatten(1)) for d in (depth, 1 / depth))
    assert torch.allclose(same, torch.ones(2).double()) and torch.allclose(inverted, -torch.ones(2).double())
    assert rank_correlation(torch.zeros(1, 9), torch.ones(1, 9)).isnan().all()


def test_inverted_pseudo_depth_is_reported_after_each_epoch():
    order, depth = RankOrder(), torch.rand(2, 1, 8, 8) + 0.5
    for inverted in (False, True):
        order.add(
            Namespace(maps={"pseudo_depth": 1 / depth if inverted else depth}), Prediction({}, {0: depth})
        )
        taken = [{"rank_order": order.take()}]
        if inverted:
            assert (
                "after epoch 2: -1.00, so one of them is inverted; check the quantity"
                in RankOrder.sentence(1, taken)
            )
        else:
            assert RankOrder.sentence(0, taken).endswith("depth after epoch 1: 1.00")
            assert RankOrder.sentence(1, taken) is None
    assert RankOrder.sentence(0, [{}]) is None
    assert "no image of this epoch has known" in RankOrder.sentence(0, [{"rank_order": order.take()}])
