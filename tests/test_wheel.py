"""The installed package, next to packages called `datasets` and `utils` and outside of a checkout."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.image_files import image_size
from parallax._wheel import LEFT_OUT, parts, rewritten
from tests import runs
from tests.test_structure import LEVEL
from tests.test_videos import read_video
from utils import PROJECT

NAMES = {"networks", "files", "a"}
TINY = {
    "encoder": "timm/test_efficientnet",
    "weights_init": "scratch",
    "pose_model_type": "posecnn",
    "scales": 0,
}
TINY |= {"height": 64, "width": 96, "batch_size": 2, "num_workers": 1, "max_steps": 2, "device": "cpu"}


@pytest.mark.parametrize(
    ("source", "installed"),
    [
        ("from networks import X, Y as Z", "from parallax.networks import X, Y as Z"),
        (
            "from networks.hrnet import (\n    X,  # why\n)",
            "from parallax.networks.hrnet import (\n    X,  # why\n)",
        ),
        ("import files", "from parallax import files"),
        ("import files as f", "from parallax import files as f"),
        ("import a.b", "import parallax.a.b; from parallax import a"),
        ("import a.b as c", "import parallax.a.b as c"),
        ("import os, files", "import os; from parallax import files"),
        ("import files; import a", "from parallax import files; from parallax import a"),
        ("def f():\n    import files  # now", "def f():\n    from parallax import files  # now"),
        ("é = 1; from files import x", "é = 1; from parallax.files import x"),
        ("from . import networks\nimport filesystem", "from . import networks\nimport filesystem"),
        ("'import files'\nfiles = 'networks'", "'import files'\nfiles = 'networks'"),
    ],
)
def test_imports_of_our_modules_get_the_package(source, installed):
    assert rewritten(source, NAMES) == installed


def test_every_part_of_the_checkout_is_known():
    assert parts(PROJECT) == set(LEVEL) - LEFT_OUT
    own = {path.stem for path in (PROJECT / "parallax").glob("*.py")}
    assert not own & parts(PROJECT), "a module of parallax/ would replace one of the checkout's"


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout to build in, without what a build does not read."""
    folder = tmp_path_factory.mktemp("build") / "checkout"
    ignored = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "dist", "data", "runs", "demo", "models", "tests", "docs"
    )
    shutil.copytree(PROJECT, folder, ignore=ignored)
    return folder


@pytest.fixture(scope="session")
def wheel(source) -> Path:
    pip("wheel", str(source), "--no-build-isolation", "--wheel-dir", str(source.parent))
    return next(source.parent.glob("*.whl"))


@pytest.fixture(scope="session")
def site(wheel) -> Path:
    """The folder that the wheel is installed into."""
    pip("install", str(wheel), "--no-compile", "--target", str(wheel.parent / "site"))
    return wheel.parent / "site"


def pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", *words, "--no-deps", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=runs.HANG)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def desk(tmp_path_factory) -> Path:
    """A working folder with packages of its own called as ours, and a video that moves over a texture."""
    import cv2

    folder = tmp_path_factory.mktemp("desk")
    for name in ("datasets", "utils", "options"):
        (folder / "others" / name).mkdir(parents=True)
        (folder / "others" / name / "__init__.py").write_text("OTHER = True\n")
    texture = np.random.default_rng(0).integers(0, 256, (9, 24, 3), np.uint8)
    texture = cv2.resize(texture, (320, 64), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(folder / "walk.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64))
    (folder / "scene/depth").mkdir(parents=True)
    for n in range(12):
        writer.write(image := texture[:, 8 * n : 8 * n + 96].copy())
        cv2.imwrite(str(folder / f"scene/{n:06d}.png"), image)
        Image.fromarray(np.full((64, 96), 256 * (5 + n % 3), np.uint16)).save(
            folder / f"scene/depth/{n:06d}.png"
        )
    writer.release()
    (folder / "scene/cam.txt").write_text("83 83 47.5 31.5")
    return folder


def python(site: Path, desk: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess:
    """Python on `words` in the working folder; the other packages come first on its path."""
    path = os.pathsep.join(map(str, (desk / "others", site)))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=desk,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=runs.HANG,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def as_flags(options: dict, **more: object) -> list[str]:
    return [word for name, value in {**options, **more}.items() for word in (f"--{name}", str(value))]


def test_a_wheel_is_small_and_holds_one_package(wheel):
    assert wheel.stat().st_size < 5e6
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"parallax"}
    data = [
        *PROJECT.glob("configs/**/*.yaml"),
        *PROJECT.glob("splits/**/*.txt"),
        *PROJECT.glob("kernels/*.cpp"),
    ]
    missing = {f"parallax/{path.relative_to(PROJECT).as_posix()}" for path in data} - set(names)
    assert len(data) > 50 and not missing


def test_every_import_of_the_wheel_leads_into_it(site):
    flat, lost, ours = [], [], parts(PROJECT)
    for path in (site / "parallax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            flat += [(path, name) for name in names if name.split(".")[0] in ours]
            files = [site / name.replace(".", "/") for name in names if name.split(".")[0] == "parallax"]
            lost += [
                (path, file) for file in files if not file.with_suffix(".py").is_file() and not file.is_dir()
            ]
    assert not flat and not lost


def test_help_and_import_need_no_torch(site, desk):
    code = (
        "import sys, runpy, parallax, datasets\n"
        "sys.argv = ['parallax', '--help']\n"
        "runpy.run_module('parallax', run_name='__main__')\n"
        "assert datasets.OTHER and parallax.CHECKOUT is None and 'torch' not in sys.modules\n"
        "assert not any('parallax' in folder for folder in sys.path), sys.path\n"
    )
    printed = python(site, desk, "-c", code).stdout
    assert "\n  predict  " in printed and "\n  select-frames  " in printed


def test_a_mistake_is_one_sentence(site, desk):
    error = python(site, desk, "-m", "parallax", "trian", status=2).stderr
    assert error == "error: there is no command 'trian'; did you mean 'train'?\n"
    error = python(site, desk, "-m", "parallax", "train", "walk.mp4", "--heigth", "64", status=2).stderr
    assert error == "error: there is no option '--heigth'; did you mean '--height'?\n"


@pytest.fixture(scope="session")
def trained(site, desk) -> str:
    """The text that `parallax train walk.mp4` prints."""
    done = python(site, desk, "-m", "parallax", "train", "walk.mp4", *as_flags(TINY, precision="float32"))
    return done.stdout + done.stderr


def test_a_video_is_trained_without_a_config(trained, desk):
    assert "parallax train --dataset folder --data_path walk.mp4 --model_name walk" in trained
    assert "the intrinsics of walk.mp4.frames are guessed, '83.1384 83.1384 47.5 31.5'" in trained
    assert "trained 2 steps" in trained
    assert (desk / "runs/walk/revision.txt").read_text().startswith("parallax 0.1.0, python 3.")


def test_a_video_and_an_image_are_predicted(trained, site, desk):
    done = python(site, desk, "-m", "parallax", "predict", "walk.mp4", "--device", "cpu")
    assert "the model is runs/walk; --run names another" in done.stderr
    assert len(read_video(desk / "walk_depth.mp4")) == 12
    words = ["predict", "scene/000003.png", "--output", "out", "--save_npy", "--device", "cpu"]
    python(site, desk, "-m", "parallax", *words)
    assert image_size(desk / "out/000003_disp.png") == (64, 96)
    assert np.load(desk / "out/000003_depth.npy").min() > 0


def test_a_model_is_loaded_next_to_others_datasets(trained, site, desk):
    code = (
        "import datasets, parallax\n"
        "model = parallax.load('runs/walk', device='cpu')\n"
        "import utils\n"
        "assert datasets.OTHER and utils.OTHER\n"
        "print(tuple(model('scene/000003.png').shape))\n"
    )
    assert python(site, desk, "-c", code).stdout == "(1, 1, 64, 96)\n"


def test_a_run_is_evaluated(trained, site, desk):
    words = ["evaluate", "scene", "--run", "runs/walk", "--device", "cpu", "--num_workers", "0"]
    printed = python(site, desk, "-m", "parallax", *words).stdout
    assert "abs_rel" in printed and list((desk / "runs/walk/evaluation").rglob("results.json"))


def test_workers_of_a_tool_find_the_package(site, desk):
    words = as_flags({"out": "world", "sequences": 2, "frames": 3, "height": 64, "width": 96}, workers=2)
    python(site, desk, "-m", "parallax", "make-synthetic", "--layout", "folder", *words)
    assert len(list((desk / "world").glob("training/scene_*/*.png"))) == 6


def test_an_editable_installation_exposes_one_name(source, desk, tmp_path):
    pip("install", "--editable", str(source), "--no-build-isolation", "--target", str(tmp_path))
    code = (
        f"import site, sys; site.addsitedir({str(tmp_path)!r})\n"
        "import parallax, importlib.util\n"
        "print(parallax.CHECKOUT)\n"
        "assert importlib.util.find_spec('networks') is None\n"
        "from parallax.__main__ import main\n"
        "sys.argv = ['parallax', 'train', '--list']\n"
        "main()\n"
    )
    printed = python(tmp_path, desk, "-c", code).stdout
    assert printed.startswith(f"{source}\nmethods:\n")
