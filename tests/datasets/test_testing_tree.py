"""SC-Depth's test images: six benchmarks with their units, crops and caps, and masks of dynamic objects."""

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_depth
from datasets.testing_tree import BENCHMARKS, TestingTree
from evaluation import evaluate
from tests.predictors import predictor_of
from tests.tiny_models import save_run
from utils import InputError

CAR = (0, 0, 142)
KINDS = {"kitti": "npy", "ddad": "npz", "nyu": "png", "bonn": "png", "tum": "png", "scannet": "png"}


def draw(root, benchmark="bonn", count=2, metres=4.0, upper=False, masks=False, named=True):
    """`count` images, 48 x 64, of a wall; the right half of image 0 is a car, if there are masks."""
    testing = root / ("Testing" if upper else "testing")
    for folder in ("color", "depth", *(["seg_mask"] if masks else [])):
        (testing / folder).mkdir(parents=True)
    for number in range(count):
        name = f"{number:04d}"
        Image.new("RGB", (64, 48), (90, 60, 30)).save(testing / f"color/{name}.jpg")
        depth = np.full((48, 64), metres + number, np.float32)
        file = testing / "depth" / (name if named else f"d_{number}")
        if KINDS[benchmark] == "png":
            values = (depth * BENCHMARKS[benchmark].depth_scale).astype(np.uint16)
            Image.fromarray(values).save(file.with_suffix(".png"))
        elif KINDS[benchmark] == "npy":
            np.save(file.with_suffix(".npy"), depth)
        else:  # SciPy's sparse form
            rows, columns = np.nonzero(depth)
            np.savez(
                file.with_suffix(".npz"), row=rows, col=columns, data=depth[rows, columns],
                shape=depth.shape, format=np.array(b"coo"),
            )  # fmt: skip
        if masks:
            mask = np.zeros((48, 64, 3), np.uint8)
            mask[:, 32:] = CAR if number == 0 else (9, 9, 9)
            Image.fromarray(mask).save(testing / f"seg_mask/{name}.png")
    if masks:
        (testing / "seg_mask/dynamic_colors.txt").write_text("0 0 142")
    return root


def opened(root, benchmark="bonn", **settings):
    return TestingTree(root, benchmark, height=64, width=96, **settings)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_each_benchmark_has_its_unit_crop_and_cap(tmp_path, benchmark):
    dataset = opened(draw(tmp_path, benchmark, upper=True), benchmark)
    assert np.allclose(dataset.depth(1), 5.0) and dataset.depth(1).shape == (1, 48, 64)
    assert dataset.name(0) == "0000.jpg" and dataset[0].images[0].shape == (1, 3, 64, 96)
    card = dataset.protocol.card()
    caps = {"kitti": 80, "ddad": 200}
    assert card["counts"] == f"0.1 m < ground truth < {caps.get(benchmark, 10)} m"
    assert card["crop"] == {"kitti": "garg", "nyu": "nyu"}.get(benchmark, "none")
    result = evaluate(predictor_of([torch.full((2, 1, 64, 96), 2.0)]), dataset)[""]
    assert result.mean["abs_rel"] == pytest.approx(0, abs=1e-6) and result.ratio_median == pytest.approx(2.25)


def test_depth_is_matched_by_order_where_no_name_fits(tmp_path):
    dataset = opened(draw(tmp_path, named=False))
    assert dataset.depth(0)[0, 0, 0] == 4 and dataset.depth(1)[0, 0, 0] == 5
    (tmp_path / "testing/depth/d_1.png").unlink()
    with pytest.raises(InputError, match=r"depth holds 1 files for 2 images, and no name of an image"):
        opened(tmp_path)


def test_dynamic_and_static_pixels_are_measured_apart(tmp_path):
    dataset = opened(draw(tmp_path, masks=True))
    # Right on the left half, which is static and decides the median; half as far on the right.
    depth = torch.full((2, 1, 48, 64), 4.0)
    depth[0, ..., 34:] = 2.0
    depth[1] = 5.0
    result = evaluate(predictor_of([depth]), dataset)[""]
    dynamic, static = result.regions["dynamic"], result.regions["static"]
    assert dynamic["abs_rel"] == pytest.approx(0.5 * 30 / 32) and static["abs_rel"] == pytest.approx(0)
    assert result.rows[0].details["abs_rel_dynamic"] == dynamic["abs_rel"]
    assert "abs_rel_dynamic" not in result.rows[1].details


def test_colours_that_match_nothing_and_bad_lines_are_refused(tmp_path):
    path = draw(tmp_path, masks=True) / "testing/seg_mask/dynamic_colors.txt"
    path.write_text("142 0 0\n")
    with pytest.raises(
        InputError, match=r"no mask in .*seg_mask has a colour of .* \(142 0 0\); are they R G B"
    ):
        opened(tmp_path)
    path.write_text("0 0 142\ncar\n")
    with pytest.raises(InputError, match=r"line 2: expected 'R G B', three numbers to 255, got 'car'"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"benchmark": "bon"}, r"--dataset.benchmark has no 'bon'; did you mean 'bonn'"),
        ({"part": "train"}, "--dataset folder trains on training/"),
        ({"depth_scale": 0}, "--dataset.depth_scale must be positive, got 0"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, settings, sentence):
    draw(tmp_path)
    with pytest.raises(InputError, match=sentence):
        TestingTree(tmp_path, **settings)
    with pytest.raises(
        InputError, match=r"no folder .*testing; --data_path is the folder that holds testing"
    ):
        opened(tmp_path / "testing/color")


def test_evaluate_depth_prints_the_regions_and_the_latex_line(tmp_path, capsys):
    root = draw(tmp_path / "bonn", masks=True)
    words = ["--run", str(save_run(tmp_path / "run")), "--dataset", "testing_tree", "--data_path", str(root)]
    evaluate_depth.main([*words, "--dataset.benchmark", "bonn", "--num_workers", "0", "--latex"])
    said = capsys.readouterr().out
    assert "Bonn RGB-D Dynamic (SC-Depth's test images)" in said and "dynamic pixels" in said
    assert r"& abs\_diff & abs\_rel" in said and said.count(r"\\") == 2


def test_saved_depth_of_inference_py_is_evaluated(tmp_path, capsys):
    root = draw(tmp_path / "bonn")
    for number in range(2):
        (tmp_path / "depth").mkdir(exist_ok=True)
        np.save(tmp_path / f"depth/{number}.npy", np.full((24, 32), 0.5 + number, np.float32))
    words = ["--ext_disp_to_eval", str(tmp_path / "depth"), "--eval_mono", "--num_workers", "0"]
    words += ["--dataset", "testing_tree", "--data_path", str(root), "--output", str(tmp_path / "out")]
    evaluate_depth.main(words)
    assert "model                   0.000" in capsys.readouterr().out
    np.save(tmp_path / "depth/1.npy", np.zeros((24, 32), np.float32))
    with pytest.raises(InputError, match=r"1.npy holds values that are not above 0 or not finite"):
        evaluate_depth.main(words)
    np.save(tmp_path / "depth/1.npy", np.ones((24, 30), np.float32))
    with pytest.raises(InputError, match=r"1.npy has the shape \(24, 30\); .* and 0.npy has \(24, 32\)"):
        evaluate_depth.main(words)
