"""Scenes that tests draw for themselves, and what they skip without."""

import os
import random
import shutil
import zlib
from pathlib import Path

# To be said before numpy, OpenCV and torch are imported: each test process, and each program that it starts,
# has one core, and a waiting thread that spins takes the core of the one it waits for.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from layers import warp
from structures import Batch
from tests.worlds import Worlds

SHARED = Path(__file__).resolve().parents[2] / "shared"

torch.set_num_threads(1)  # the two test processes have a core each


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def seed(name: str) -> None:
    """Seed every stream that a test may draw from without saying so; the CPU's only, which takes no time."""
    value = zlib.crc32(name.encode())
    random.seed(value)
    np.random.seed(value)
    torch.default_generator.manual_seed(value)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    """A fixture draws the same numbers, whichever test asks for it first."""
    seed(fixturedef.argname)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    """A test draws the same numbers, whichever ones ran before it."""
    seed(item.nodeid)


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
def worlds(tmp_path_factory) -> Worlds:
    """Synthetic worlds, rendered once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    worlds = Worlds((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "worlds")
    yield worlds
    worlds.check()


@pytest.fixture(scope="session")
def tiny_kitti(worlds, tmp_path_factory) -> Path:
    """Three drives of 6 frames, 64 x 96, in KITTI's layout; its own lists validate on 3 images."""
    root = worlds.copy(tmp_path_factory.mktemp("tiny") / "kitti", "kitti", sequences=3, frames=6)
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
def tiny_ddad(worlds, tmp_path_factory) -> Path:
    """Two scenes of four frame sets of six cameras, 64 x 96, one to train on and one to be evaluated by."""
    root = worlds.copy(tmp_path_factory.mktemp("rig") / "ddad", "ddad", frames=4)
    for mask in (root / "ground_truth/masks").glob("*.png"):
        for scene in ("000000", "000001"):
            (root / "masks" / mask.stem).mkdir(parents=True, exist_ok=True)
            shutil.copy(mask, root / "masks" / mask.stem / f"{scene}.png")
    return root
