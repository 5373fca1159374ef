"""The model in other people's code: any kind of image, and nothing of ours left in their way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import hubconf
from predictor import Predictor
from tests.test_test_simple import draw
from tests.test_test_simple_rig import RIG
from tests.tiny_models import save_run
from utils import PROJECT, InputError


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def model(run) -> Predictor:
    return hubconf.parallax(run, device="cpu")


def test_a_loaded_model_says_what_it_is(model):
    assert (model.height, model.width) == (64, 96)
    assert model.options["method"] == "monodepth2"
    assert model.metric_scale is None and not model.is_metric
    assert model.unit == "up to scale (learned from video only)"
    assert not model.training


def test_one_image_gives_one_depth_however_it_is_handed_over(model, tmp_path):
    path = draw(tmp_path / "a.png", 50, 70)
    image = Image.open(path)
    array = np.array(image)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    depth = model(path)
    assert depth.shape == (1, 1, 50, 70) and (depth > 0).all()
    for same in (str(path), image, array, array / 255, tensor, tensor[None].float() / 255, [image]):
        assert torch.equal(model(same), depth)
    assert model([path, array]).shape == (2, 1, 50, 70)


def test_input_other_than_an_image_is_refused(model):
    with pytest.raises(InputError, match=r"uint8, or float in \[0, 1\]; got 0 to 255"):
        model(torch.tensor([0.0, 255.0]).expand(3, 4, 2))
    with pytest.raises(InputError, match=r"a tensor of images is .* got \(1, 4, 4\)"):
        model(torch.zeros(1, 4, 4))
    with pytest.raises(InputError, match=r"an array of images is .* got \(3, 4, 4\)"):
        model(np.zeros((3, 4, 4)))
    with pytest.raises(InputError, match=r"must have one size .* got \[\(4, 4\), \(5, 4\)\]"):
        model([np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)])
    with pytest.raises(InputError, match="expected images, got int"):
        model(3)


def test_a_rig_model_takes_frame_sets_with_intrinsics(tmp_path):
    model = hubconf.parallax(save_run(tmp_path / "run", disparity=0.1, **RIG), device="cpu")
    assert model.cameras == 6
    frame_set = torch.rand(6, 3, 128, 192)
    K = torch.tensor([[120.0, 0, 96], [0, 120, 64], [0, 0, 1]])
    depth = model(frame_set, K)
    assert depth.shape == (6, 1, 128, 192) and torch.equal(model(list(frame_set), K.expand(6, 3, 3)), depth)
    # At the network's size, half of this, fx is 60, the focal scale. Behind a longer lens all is farther.
    assert depth.mean() == pytest.approx(1 / (1 / 80 + 0.1 * (1 - 1 / 80)), rel=1e-4)
    assert torch.allclose(model(frame_set, K * torch.tensor([[2.0], [1.0], [1.0]])), 2 * depth)
    with pytest.raises(InputError, match=r"6 cameras of one frame set together, in ring order: .* got 1"):
        model(frame_set[0], K)
    with pytest.raises(InputError, match="give the images' intrinsics"):
        model(frame_set)
    with pytest.raises(InputError, match=r"\(3, 3\) or \(6, 3, 3\) here, got \(2, 3, 3\)"):
        model(frame_set, K.expand(2, 3, 3))


THEIRS = """
import sys, torch
import utils                                   # the caller's own
model = torch.hub.load(sys.argv[1], "parallax", path=sys.argv[2], device="cpu", source="local")
again = torch.hub.load(sys.argv[1], "parallax", path=sys.argv[2], device="cpu", source="local")
assert type(model) is type(again)
depth = model(torch.rand(2, 3, 50, 70))
assert depth.shape == (2, 1, 50, 70), depth.shape
assert utils is sys.modules["utils"] and utils.WHOSE == "theirs"
assert not {"datasets", "layers", "methods", "predictor"} & set(sys.modules)
import datasets                                # and this one, imported later
assert datasets.WHOSE == "theirs"
print("height", model.height)
"""


def test_hub_loads_next_to_modules_of_the_same_names(run, tmp_path):
    for name in ("utils", "datasets"):
        (tmp_path / f"{name}.py").write_text('WHOSE = "theirs"\n')
    (tmp_path / "theirs.py").write_text(THEIRS)
    command = [sys.executable, "theirs.py", str(PROJECT), str(run)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "height 64" in done.stdout


def test_packages_of_an_environment_in_the_checkout_are_not_ours():
    stranger, own = ModuleType("datasets"), ModuleType("datasets")
    stranger.__file__ = str(PROJECT / ".venv/lib/python3/site-packages/datasets/__init__.py")
    own.__file__ = str(PROJECT / "datasets/__init__.py")
    assert not hubconf._is_ours(stranger) and hubconf._is_ours(own)
