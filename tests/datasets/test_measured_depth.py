"""A look at measured depth before a run: none at all is refused, another unit is questioned."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from datasets import open_dataset
from notices import collect_notices
from tests import runs
from utils import InputError

SUPERVISED = {"method": "packnet", "losses.supervised_depth.weight": 0.9, "dataset.supervision": "true"}


@pytest.fixture
def kitti(tiny_kitti, tmp_path):
    return shutil.copytree(tiny_kitti, tmp_path / "kitti")


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """The wall at 5 m, as 16-bit images of 256 a metre."""
    root = shutil.copytree(tiny_folder, tmp_path / "folder")
    (root / "depth").mkdir()
    for image in root.glob("*.png"):
        Image.fromarray(np.full((64, 96), 5 * 256, np.uint16)).save(root / "depth" / image.name)
    return root


def opened(root, **settings):
    name = "kitti" if (root / "splits").exists() else "folder"
    options = {"dataset": {"name": name, **settings}, "data_path": root, "height": 64, "width": 96}
    return open_dataset({**options, **({"split": root / "splits"} if name == "kitti" else {})}, "train")


@pytest.mark.parametrize("setting", ["supervision", "input_depth"])
def test_a_set_without_any_measured_depth_is_refused(kitti, setting):
    opened(kitti, **{setting: True})
    for scans in list(kitti.rglob("velodyne_points")):
        shutil.rmtree(scans)
    words = rf"kitti: of 16 samples, none has a known pixel .* leave out --dataset\.{setting}"
    with pytest.raises(InputError, match=words):
        opened(kitti, **{setting: True})
    assert len(opened(kitti)) == 16  # nobody reads it


def test_input_depth_none_reads_no_depth(folder):
    assert opened(folder, input_depth="none")[0].maps == {}


def test_scans_without_a_point_in_the_image_count_as_none(kitti):
    for scan in kitti.rglob("velodyne_points/data/*.bin"):
        np.float32([[-5, 0, 0, 0]]).tofile(scan)
    with pytest.raises(InputError, match="none has a known pixel"):
        opened(kitti, supervision=True)


def test_a_sample_without_points_has_a_loss_of_zero(kitti, tmp_path):
    first = opened(kitti, supervision=True).samples[0]
    scan = kitti / first.folder / "velodyne_points/data" / f"{first.frame:010d}.bin"
    np.float32([[-5, 0, 0, 0]]).tofile(scan)
    terms = runs.build(runs.arguments(kitti, tmp_path / "runs", **SUPERVISED)).rehearse()
    assert terms["supervised_depth"] == 0 and terms["photometric"] > 0


def test_few_samples_with_depth_among_many_are_found(kitti):
    kept = opened(kitti).samples[5]
    kept = kitti / kept.folder / "velodyne_points/data" / f"{kept.frame:010d}.bin"
    for scan in kitti.rglob("velodyne_points/data/*.bin"):
        if scan != kept:
            scan.unlink()
    opened(kitti, supervision=True)
    kept.unlink()
    with pytest.raises(InputError, match="none has a known pixel"):
        opened(kitti, supervision=True)


def test_samples_without_depth_are_pointed_out(kitti):
    with collect_notices() as said:
        opened(kitti, supervision=True)
    assert not any("have no known pixel" in sentence for sentence in said)
    gone = opened(kitti).samples[0].frame
    for scan in kitti.rglob(f"velodyne_points/data/{gone:010d}.bin"):
        scan.unlink()
    lacking = sum(sample.frame == gone for sample in opened(kitti).samples)
    with collect_notices() as said:
        opened(kitti, supervision=True)
    assert any(f": {lacking} of 16 samples that were looked at have no known" in line for line in said)


@pytest.mark.parametrize(("scale", "median"), [(1, "1.28e.03"), (25600, "0.05")])
def test_a_median_beyond_half_a_metre_to_200_m_is_questioned(folder, scale, median):
    words = (
        rf"median of the measured depth is {median} m, outside 0.5 to 200 m; .*depth_scale, here {scale}; set"
    )
    with collect_notices() as said:
        opened(folder, supervision=True, depth_scale=float(scale))
    assert re.search(words, " ".join(said))


def test_depth_in_metres_is_not_questioned(folder):
    with collect_notices() as said:
        opened(folder, supervision=True)
    assert not any("measured depth" in sentence for sentence in said)
