"""Batch entries that methods and loss terms need, and errors for missing ones."""

import pytest
import torch

from methods import check_needs
from methods._needs import has_entry
from structures import Batch
from utils import InputError


@pytest.fixture
def batch():
    image = torch.rand(1, 3, 8, 8)
    companion = Batch({0: image}, torch.eye(3)[None], torch.arange(1), maps={"labels": image[:, :1]})
    poses = {"s": torch.eye(4)[None], -1: torch.eye(4)[None]}
    return Batch({0: image}, torch.eye(3)[None], torch.arange(1), poses, companion=companion)


@pytest.mark.parametrize(
    "entry", ["T_source_from_target.s", "T_source_from_target.-1", "companion.maps.labels"]
)
def test_an_entry_is_found_by_its_path(batch, entry):
    assert has_entry(batch, entry)


@pytest.mark.parametrize("entry", ["maps.depth", "points.matches", "speed", "cameras", "rig_from_camera"])
def test_missing_entry_is_found(batch, entry):
    assert not has_entry(batch, entry)


def test_error_names_reader_entry_and_setting(batch):
    check_needs({"companion": "the method"}, batch)
    with pytest.raises(InputError, match=r"losses\.velocity needs speed, .*; --dataset\.speed true reads it"):
        check_needs({"speed": "losses.velocity"}, batch, {"speed": "--dataset.speed true reads it"})
    with pytest.raises(InputError, match=r"leave it out with --losses\.odd\.weight 0"):
        check_needs({"extra.odd": "losses.odd"}, batch)
