"""The model that comes with the checkout, and the tool that makes it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from datasets.synthetic import Camera, World
from predictor import load_predictor
from test_simple import main
from tests.tiny_models import save_run
from tools._options import place
from tools.layouts._base import looking_ahead
from tools.small_model import LARGEST, SHIPPED, ship
from utils import PROJECT, InputError


def test_the_shipped_model_knows_the_depth_of_a_new_street():
    assert SHIPPED.stat().st_size <= LARGEST
    predictor = load_predictor(SHIPPED.parent, "cpu")
    assert predictor.unit == "up to scale (learned from depth only)"
    world = World(987_654)
    view = world.render(Camera.like_kitti(128, 192), world.ego_pose(0.5) @ looking_ahead(0, 0, 1.65), 0.5)
    depth = predictor(view.image)[0, 0].numpy()
    known = view.depth > 0
    errors = []
    for predicted in (depth, np.ones_like(depth)):  # the baseline: one constant depth
        aligned = predicted * np.median(view.depth[known]) / np.median(predicted[known])
        errors.append(np.mean(np.abs(aligned - view.depth)[known] / view.depth[known]))
    assert errors[0] < 0.6 * errors[1]
    if (~known).any():
        assert np.median(depth[~known]) > np.median(depth[known])  # the sky is far


def test_depth_of_an_image_of_ones_own_is_one_command(tmp_path):
    Image.fromarray(np.zeros((60, 90, 3), np.uint8)).save(tmp_path / "mine.png")
    line = [sys.executable, "test_simple.py", "--image_path", str(tmp_path / "mine.png"), "--no_cuda"]
    done = subprocess.run(
        [*line, "--model_name", "synthetic_small"], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine_disp.png").is_file() and "depth is known up to scale" in done.stdout


def test_a_name_without_weights_names_the_published_addresses(tmp_path):
    with pytest.raises(InputError, match=r"no models/mono_640x19.*github.com/nianticlabs/monodepth2"):
        main(["--image_path", str(tmp_path), "--model_name", "mono_640x19", "--device", "cpu"])


def test_the_best_of_several_runs_is_shipped_in_float16(tmp_path):
    runs = []
    for number, error in enumerate((0.3, 0.2, 0.4)):
        runs.append(save_run(tmp_path / f"seed_{number}", encoder="mobilenetv3_small_050",
                             decoder="depth_decoder_slim", method="packnet", frame_ids=[0],
                             losses={"photometric": {"weight": 0}}))  # fmt: skip
        held = load_checkpoint(runs[-1])
        training = {"best": {"metric": "abs_rel", "value": error}}
        save_checkpoint(
            runs[-1] / "checkpoints/last.pt", Checkpoint(held.weights, held.options, training=training)
        )
    said = ship(runs, place(str(tmp_path / "out/model.safetensors")))
    assert "seed_0 0.300, seed_1 0.200, seed_2 0.400; wrote seed_1" in said
    first, second = load_predictor(runs[1], "cpu"), load_predictor(tmp_path / "out", "cpu")
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    assert np.allclose(first(image), second(image), rtol=1e-2)


def test_a_run_that_was_not_validated_is_not_shipped(tmp_path):
    with pytest.raises(InputError, match="was not validated"):
        ship([save_run(tmp_path / "run")], tmp_path / "model.safetensors")
