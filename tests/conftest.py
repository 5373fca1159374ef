"""Scenes that tests draw for themselves, and what they skip without."""

import os
import shutil
from pathlib import Path

import numpy as np

# A waiting thread that spins takes the core of the one it waits for. To be said before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from layers import warp
from structures import Batch
from tools.layouts._base import Plan
from tools.make_synthetic import make

SHARED = Path(__file__).resolve().parents[2] / "shared"

torch.set_num_threads(1)  # the two test processes have a core each


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Small real recordings; the test is skipped where there are none."""
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the recordings in ../shared/data")
    return SHARED / "data"


@pytest.fixture(scope="session")
def drawn_batch() -> Batch:
    """A textured wall 5 m ahead of a camera that steps 0.3 m to the right each frame: 2 samples, 64 x 96."""
    torch.manual_seed(0)
    texture = F.interpolate(torch.rand(2, 3, 12, 18), (64, 96), mode="bicubic", align_corners=False)
    target = texture.clamp(0, 1)
    K = torch.tensor([[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]]).expand(2, 3, 3)
    depth = torch.full((2, 1, 64, 96), 5.0)
    images = {0: target}
    for frame in (-1, 1):
        T_target_from_source = torch.eye(4).repeat(2, 1, 1)
        T_target_from_source[:, 0, 3] = 0.3 * frame
        images[frame] = warp(target, depth, K, T_target_from_source)
    return Batch(images, K, torch.arange(2))


@pytest.fixture
def one_thread():
    """For sums that come out the same to the bit, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_kitti(tmp_path_factory) -> Path:
    """Three drives of 6 frames, 64 x 96, in KITTI's layout; its own lists validate on 3 images."""
    root = tmp_path_factory.mktemp("tiny") / "kitti"
    make(Plan("kitti", root, sequences=3, frames=6, height=64, width=96, seed=0, ext="png"))
    test = (root / "splits/test_files.txt").read_text().split()
    (root / "splits/val_files.txt").write_text("".join(f"{test[0]} {frame} l\n" for frame in (1, 2, 3)))
    return root


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """One scene of 14 images, 64 x 96: a textured wall seen from a camera that steps to the right."""
    root = tmp_path_factory.mktemp("tiny_folder")
    generator = torch.Generator().manual_seed(0)
    wall = F.interpolate(torch.rand(1, 3, 16, 40, generator=generator), (64, 200), mode="bicubic")[0]
    wall = (wall.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    for frame in range(14):
        image = np.ascontiguousarray(wall[:, 4 * frame : 4 * frame + 96])
        Image.fromarray(image).save(root / f"{frame:03d}.png")
    (root / "cam.txt").write_text("60 60 47.5 31.5\n")
    return root


@pytest.fixture(scope="session")
def tiny_ddad(tmp_path_factory) -> Path:
    """Two scenes of four frame sets of six cameras, 64 x 96, one to train on and one to be evaluated by."""
    root = tmp_path_factory.mktemp("rig") / "ddad"
    make(Plan("ddad", root, sequences=2, frames=4, height=64, width=96, seed=0, ext="png"))
    for mask in (root / "ground_truth/masks").glob("*.png"):
        for scene in ("000000", "000001"):
            (root / "masks" / mask.stem).mkdir(parents=True, exist_ok=True)
            shutil.copy(mask, root / "masks" / mask.stem / f"{scene}.png")
    return root
