"""The published commands with a published file: evaluation, prediction, video."""

import numpy as np
import pytest
import torch

import evaluate_depth
import test_simple
import test_video
from tests.checkpoints.test_bdedepth import published
from tests.goldens import state_dict

PUBLISHED = ["--backbone", "resnet", "--num_layers", "18", "--height", "64", "--width", "96", "--no_cuda"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of two networks that does not know its size, as weights to predict with are published."""
    path = published(
        tmp_path_factory.mktemp("weights") / "kitti_resnet18.pth",
        "resnet18",
        make=lambda name: state_dict(f"bdedepth_{name}"),
    )
    content = torch.load(path, weights_only=True)
    torch.save({key: content[key] for key in ("encoder", "depth")}, path)
    return str(path)


def test_evaluation_with_post_processing(weights, tiny_kitti, tmp_path, capsys):
    words = ["--dataset", "kitti", "--data_path", str(tiny_kitti), "--eval_split", str(tiny_kitti / "splits")]
    words += ["--post_process", "--num_workers", "0", "--output", str(tmp_path)]
    evaluate_depth.main(["--pretrained_path", weights, *PUBLISHED, *words])
    output = capsys.readouterr().out
    assert "flip averaging" in output and (tmp_path / "results.json").is_file()


def test_images_and_a_video(weights, tiny_folder, tmp_path):
    image = str(tiny_folder / "000.png")
    words = ["--image_path", image, "--save_npy", "--ext", "jpg", "--output", str(tmp_path)]
    test_simple.main(["--pretrained_path", weights, *PUBLISHED, *words])
    assert np.load(tmp_path / "000_disp.npy").shape == (64, 96)
    assert (tmp_path / "000_disp.jpg").is_file()
    words = ["--image_path", str(tiny_folder), "--ext", "png", "--every", "7"]
    test_video.main(
        ["--pretrained_path", weights, *PUBLISHED, *words, "--output", str(tmp_path / "demo.gif")]
    )
    assert (tmp_path / "demo.gif").stat().st_size > 1000
