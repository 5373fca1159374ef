"""Packed images: equal samples for every dataset, refusals, resuming, training without the files."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from PIL import Image

import run
import structures
from datasets import DATASETS, open_dataset
from datasets.packed import list_shards
from tests import runs
from tests.datasets import test_label_folder, test_testing_tree
from tests.test_components import PACKAGE_OF
from tools import pack_dataset
from tools.layouts._base import Plan
from tools.make_synthetic import make
from utils import PROJECT, InputError

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = {"height": 64, "width": 96}
# Images without video: the part that holds them.
SINGLE = {"kitti2015": "test", "make3d": "test", "label_folder": "train", "testing_tree": "test"}


def draw(name, root, ext="png"):
    """A tiny tree of a dataset, and its further flags."""
    if name == "testing_tree":
        test_testing_tree.draw(root)
        return {}
    if name == "label_folder":
        root.mkdir()
        test_label_folder.draw(root)
        return {}
    make(Plan(name, root, sequences=2, frames=6, height=80, width=120, seed=0, ext=ext))
    return {"split": root / "splits"} if (root / "splits").is_dir() else {}


def options_of(name, root, **settings):
    return {"dataset": name, "data_path": root, **SIZE, **settings}


def pack(name, root, out, *words, part="train", frame_ids=(0, -1, 1), split=None):
    given = ["--dataset", name, "--data_path", root, "--out", out, "--part", part, "--workers", 1]
    given += ["--height", 64, "--width", 96, "--frame_ids", *frame_ids]
    given += ["--split", split] if split else []
    pack_dataset.main(list(map(str, [*given, *words])))


def tensors(sample):
    found = []
    structures._map(sample, lambda tensor: found.append(tensor) or tensor)
    return found


def assert_equal_samples(plain, packed):
    assert len(plain) == len(packed) > 0
    for index in range(len(plain)):
        pairs = list(zip(tensors(plain[index]), tensors(packed[index]), strict=True))
        assert pairs and all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def forbid_reading(monkeypatch, dataset):
    monkeypatch.setattr(dataset, "read_images", lambda *_: pytest.fail("an image file was read"))


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "kitti"
    draw("kitti", root)
    return root


@pytest.fixture(scope="module")
def packed(kitti):
    out = kitti.parent / "packed"
    pack("kitti", kitti, out, split=kitti / "splits")
    return out


@pytest.fixture
def copies(kitti, packed, tmp_path):
    """Copies of the tree and of its packed images."""
    shutil.copytree(kitti, tmp_path / "kitti")
    shutil.copytree(packed, tmp_path / "packed")
    return tmp_path / "kitti", tmp_path / "packed"


def opened(root, packed=None, **settings):
    return open_dataset(options_of("kitti", root, split=root / "splits", packed=packed, **settings), "train")


@pytest.mark.parametrize("name", DATASETS.names())
def test_every_dataset_has_equal_samples_from_packed_images(name, tmp_path, monkeypatch):
    if name in PACKAGE_OF:
        pytest.importorskip(PACKAGE_OF[name])
    root, out = tmp_path / "data", tmp_path / "packed"
    settings = draw(name, root)
    part, frames = SINGLE.get(name, "train"), (0,) if name in SINGLE else (0, -1, 1)
    pack(name, root, out, part=part, frame_ids=frames, **settings)
    options = options_of(name, root, frame_ids=frames, **settings)
    plain = open_dataset(options, "train", part=part)
    packed = open_dataset({**options, "packed": out}, "train", part=part)
    images = {key for sample in plain.samples for frame in frames for key in plain.image_keys(sample, frame)}
    assert len(packed.packed) == len(images)  # each image once
    forbid_reading(monkeypatch, packed)
    assert_equal_samples(plain, packed)


@pytest.mark.parametrize("layout", ["sequences", "triples"])
def test_prepared_cityscapes_has_equal_samples(layout, tmp_path, monkeypatch):
    from tools import prepare_cityscapes

    settings = draw("cityscapes", tmp_path / "data")
    root, out = tmp_path / layout, tmp_path / "packed"
    words = ["--data_path", tmp_path / "data", "--out", root, "--layout", layout, "--workers", 1]
    prepare_cityscapes.main(list(map(str, [*words, "--width", 128, "--height", 64])))
    pack("cityscapes", root, out, **settings)
    options = options_of("cityscapes", root, **settings)
    plain, packed = (open_dataset({**options, "packed": place}, "train") for place in (None, out))
    forbid_reading(monkeypatch, packed)
    assert_equal_samples(plain, packed)


def test_stereo_partner_and_larger_images_are_packed(kitti, tmp_path, monkeypatch):
    pack("kitti", kitti, tmp_path, "--detail", 2, frame_ids=(0, "s"), split=kitti / "splits")
    plain, packed = (opened(kitti, place, frame_ids=(0, "s")) for place in (None, tmp_path))
    plain.detail = packed.detail = 2
    forbid_reading(monkeypatch, packed)
    assert_equal_samples(plain, packed)
    assert packed[0].detailed.images[0].shape == (1, 3, 128, 192)


def test_larger_images_that_are_not_packed_are_refused(kitti, packed):
    dataset = opened(kitti, packed)
    dataset.detail = 2
    with pytest.raises(InputError, match=r"holds no images of 2 times the size.* --detail 2"):
        dataset[0]


def test_other_settings_are_refused_with_the_command(kitti, packed):
    with pytest.raises(InputError, match=r"width was 96 and is 128.*pack_dataset.*--width 128.*--overwrite"):
        opened(kitti, packed, width=128)
    with pytest.raises(InputError, match=r'resize was "bicubic" and is "lanczos".*--resize lanczos'):
        opened(kitti, packed, resize="lanczos")
    with pytest.raises(InputError, match='dataset was "kitti" and is "folder"'):
        folder = kitti.parent / "folder"
        draw("folder", folder)
        open_dataset(options_of("folder", folder, packed=packed), "train")


def test_settings_that_change_pixels_are_refused(tmp_path):
    settings = draw("nyuv2", tmp_path / "data")
    pack("nyuv2", tmp_path / "data", tmp_path / "packed", **settings)
    options = options_of("nyuv2", tmp_path / "data", packed=tmp_path / "packed", **settings)
    with pytest.raises(InputError, match=r"undistort was true and is false.*--set undistort=false"):
        open_dataset({**options, "dataset": {"name": "nyuv2", "undistort": False}}, "train")


def test_an_image_that_has_changed_is_refused_and_packed_again(copies):
    root, out = copies
    path = opened(root).paths(opened(root).samples[0], 0)[0]
    os.utime(path, (1, 1))  # as a copy of the data has it
    opened(root, out)
    Image.new("RGB", (120, 80), (200, 10, 10)).save(path)
    with pytest.raises(InputError, match=rf"{path.name} has changed; make it again: python tools/pack"):
        opened(root, out)
    pack("kitti", root, out, split=root / "splits")
    assert_equal_samples(opened(root), opened(root, out))


def test_an_image_in_another_format_is_refused(copies):
    root, out = copies
    path = opened(root).paths(opened(root).samples[0], 0)[0]
    Image.open(path).save(path.with_suffix(".jpg"))
    path.unlink()
    with pytest.raises(InputError, match=r"\.jpg has changed"):
        opened(root, out)


def test_shards_of_other_settings_need_overwrite(kitti, packed, tmp_path):
    out = tmp_path / "packed"
    shutil.copytree(packed, out)
    words = ["--resize", "lanczos"]
    with pytest.raises(InputError, match=r"resize was .*; --overwrite replaces them"):
        pack("kitti", kitti, out, *words, split=kitti / "splits")
    pack("kitti", kitti, out, *words, "--overwrite", split=kitti / "splits")
    assert_equal_samples(opened(kitti, resize="lanczos"), opened(kitti, out, resize="lanczos"))


def test_missing_images_are_read_from_their_files(kitti, tmp_path, capsys):
    pack("kitti", kitti, tmp_path, frame_ids=(0,), split=kitti / "splits")
    mixed = opened(kitti, tmp_path)
    assert "images; the others are read from their files" in capsys.readouterr().out
    assert_equal_samples(opened(kitti), mixed)


def test_folder_without_shards_is_refused(kitti, tmp_path):
    with pytest.raises(InputError, match=r"holds no packed images; make them: python tools/pack_dataset.py"):
        opened(kitti, tmp_path)


def test_damaged_shard_is_a_sentence(kitti, packed, tmp_path):
    out = tmp_path / "packed"
    shutil.copytree(packed, out)
    list_shards(out)[0].write_bytes(b"no shard")
    with pytest.raises(InputError, match="is not a shard of packed images"):
        opened(kitti, out)


def test_a_run_trains_to_the_same_weights_without_the_images(copies, tmp_path):
    root, out = copies
    pack("kitti", root, out, part="val", split=root / "splits")
    settings = {"dataset": "kitti", "batch_size": 1, "max_steps": 2, "optimizer": "sgd"}
    run.main(runs.arguments(root, tmp_path / "plain", **settings))
    for image in root.rglob("image_0[23]/data/*"):
        image.unlink()
    run.main(runs.arguments(root, tmp_path / "packed_run", packed=out, **settings))
    plain, packed = runs.last(tmp_path / "plain"), runs.last(tmp_path / "packed_run")
    assert all(torch.equal(value, packed.weights[key]) for key, value in plain.weights.items())


def test_evaluation_in_the_same_folder_reads_packed_images(kitti, packed, tmp_path):
    options = options_of("kitti", kitti, split=kitti / "splits", packed=packed)
    assert open_dataset(options, "evaluate", part="train").packed is not None
    assert open_dataset(options, "evaluate", part="train", width=128).packed is None
    copy = tmp_path / "copy"
    shutil.copytree(kitti, copy)
    assert open_dataset(options, "evaluate", part="train", data_path=copy).packed is None


def test_two_shards_of_the_work_make_the_same_images(kitti, packed, tmp_path):
    for share in ("1/2", "2/2"):
        pack("kitti", kitti, tmp_path, "--shard", share, split=kitti / "splits")
    assert_equal_samples(opened(kitti, packed), opened(kitti, tmp_path))


def test_a_killed_run_goes_on_where_it_was(kitti, tmp_path, capsys):
    words = ["--dataset", "kitti", "--data_path", kitti, "--out", tmp_path, "--split", kitti / "splits"]
    words += ["--height", 64, "--width", 96, "--workers", 1]
    code = f"""
import tools._packing, time
tools._packing.SHARD_BYTES = 3 * 64 * 96  # an image a shard
write = tools._packing.write_shard
tools._packing.write_shard = lambda *a: (write(*a), time.sleep(0.2))
from tools import pack_dataset
pack_dataset.main({list(map(str, words))!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stderr=subprocess.DEVNULL)
    runs.wait_for(lambda: len(list_shards(tmp_path)) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in list_shards(tmp_path)}
    assert len(kept) >= 2
    capsys.readouterr()
    pack_dataset.main(list(map(str, words)))
    assert f"{len(kept)} were there" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert_equal_samples(opened(kitti), opened(kitti, tmp_path))
