"""The tool's report and exit status."""

from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from tools.audit_splits import main, parse
from utils import PROJECT, InputError

DRIVE = "2011_09_26/2011_09_26_drive_0002_sync"


@pytest.fixture
def lists(tmp_path):
    """Paths of a training list, a leaking test list and a clean one."""
    for name, lines in {"train": ["5 l", "6 l"], "leaking": ["6 r"], "clean": []}.items():
        drive = DRIVE if name != "clean" else DRIVE.replace("0002", "0003")
        (tmp_path / f"{name}.txt").write_text(
            "\n".join(f"{drive} {line}" for line in lines or ["6 l"]) + "\n"
        )
    return {name: str(tmp_path / f"{name}.txt") for name in ("train", "leaking", "clean")}


def test_exit_status_is_one_on_overlap_only(lists, capsys):
    with pytest.raises(SystemExit) as ended:
        main([lists["train"], lists["leaking"]])
    assert ended.value.code == 1
    report = capsys.readouterr().out
    assert "other camera      1 evaluated frames" in report
    assert "2011_09_26_drive_0002 6 r" in report
    with pytest.raises(SystemExit) as ended:
        main([lists["train"], lists["clean"]])
    assert ended.value.code == 0
    assert "no overlap by name" in capsys.readouterr().out


def test_copy_under_another_name_is_found_with_images(tmp_path, capsys):
    pytest.importorskip("imagehash")
    image = Image.effect_mandelbrot((128, 96), (-2, -1.5, 1, 1.5), 50)
    for name, size in (("train/walk/0001.png", (128, 96)), ("test/other/0071.jpg", (64, 48))):
        (tmp_path / name).parent.mkdir(parents=True)
        image.resize(size).save(tmp_path / name)
    train, test = str(tmp_path / "train"), str(tmp_path / "test")
    with pytest.raises(SystemExit) as ended:
        main([train, test])
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main([train, test, "--images", "--workers", "1"])
    assert ended.value.code == 1
    assert "1 of 1 test images look like a training image" in capsys.readouterr().out


def test_torch_is_not_imported(lists):
    code = "import sys, tools.audit_splits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0


def test_distance_without_images_is_refused(lists):
    with pytest.raises(InputError, match="add --images"):
        parse([lists["train"], lists["clean"], "--distance", "3"])
