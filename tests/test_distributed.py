"""Two processes learn what one learns with the doubled batch."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests import runs

pytestmark = pytest.mark.usefixtures("one_thread")
# Without batch norm, whose statistics are a process's own; jitter and mirroring are on, drawn per sample.
SETTINGS = {
    "encoder": "timm/test_convnext",
    "losses.photometric.noise": 0,
    "num_epochs": 1,
    "optimizer": "sgd",
}


@pytest.mark.parametrize(
    ("launcher", "world"),
    [("torch.distributed.run", "tiny_kitti"), ("torch.distributed.launch", "tiny_folder")],
)
def test_two_processes_equal_one_with_the_doubled_batch(launcher, world, request, tmp_path):
    data = request.getfixturevalue(world)
    steps = {"tiny_kitti": 3, "tiny_folder": 2}[world]
    settings = {**SETTINGS, "max_steps": steps}
    two = runs.start(
        *("-m", launcher, "--nproc_per_node", 2, "--master_port", runs.free_port(), "run.py"),
        *runs.arguments(data, tmp_path / "two", batch_size=2, **settings),
    )
    runs.train(runs.arguments(data, tmp_path / "one", batch_size=4, **settings))
    output = runs.finish(two)
    assert "on cpu, 2 processes" in output and output.count("trained") == 1

    one, two = runs.last(tmp_path / "one"), runs.last(tmp_path / "two")
    assert (one.training["world"], two.training["world"]) == (1, 2)
    assert two.training["step"] == steps
    runs.same_gradients(one, two)

    (validated,) = [record for record in runs.records(tmp_path / "one") if "loss" not in record]
    (sharded,) = [record for record in runs.records(tmp_path / "two") if "loss" not in record]
    names = [name for name in validated if name.startswith("val/")]
    assert len(names) >= 3
    for name in names:
        assert sharded[name] == pytest.approx(validated[name], rel=1e-4), name


def test_two_processes_share_the_labels_of_the_companion(tiny_kitti, tmp_path):
    """The joint batch of video and labels: frequent and rare classes lie in different processes."""
    labelled = tmp_path / "labelled"
    (labelled / "images").mkdir(parents=True)
    (labelled / "labels").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):  # from almost no labelled pixel to all of them
        labels = np.full((64, 96), 255, np.uint8)
        labels[: 4 + 12 * number] = (7, 26, 24)[number % 3]
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), np.uint8)).save(labelled / f"images/{number}.png")
        Image.fromarray(labels).save(labelled / f"labels/{number}.png")
    (labelled / "labels.yaml").write_text(
        "classes: cityscapes\nids: {7: road, 24: person, 26: car, 255: ignored}\n"
        "images: images/{name}.png\nlabels: labels/{name}.png\n"
    )
    settings = {**SETTINGS, "max_steps": 3, "method": "sgdepth", "num_val": 1}
    settings |= {"companion.name": "label_folder", "companion.data_path": labelled}
    settings |= {"companion.val_fraction": 0, "losses.photometric.moving_objects": "{from_epoch: 0}"}
    two = runs.start(
        *("-m", "torch.distributed.run", "--nproc_per_node", 2, "--master_port", runs.free_port(), "run.py"),
        *runs.arguments(tiny_kitti, tmp_path / "two", batch_size=2, **settings),
    )
    runs.train(runs.arguments(tiny_kitti, tmp_path / "one", batch_size=4, **settings))
    runs.finish(two)
    one, two = runs.last(tmp_path / "one"), runs.last(tmp_path / "two")
    assert two.training["world"] == 2 and two.training["step"] == 3
    runs.same_gradients(one, two)
    for name, value in one.weights.items():
        if value.is_floating_point() and "observed" not in name:
            assert torch.allclose(value, two.weights[name], rtol=1e-4, atol=1e-5), name


def test_process_without_data_does_not_block_the_others(tiny_kitti, tmp_path):
    """One validation image for two processes; and the run goes on with one process where two stopped."""
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=4, num_val=1, **SETTINGS)
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", 2, "--master_port", runs.free_port())
    runs.finish(runs.start(*launch, "run.py", *words, "--max_steps", 1))
    trainer = runs.train([*words, "--resume", "auto"])
    assert (trainer.progress.position, trainer.progress.epoch, trainer.progress.step) == (
        0,
        1,
        3,
    )  # 8 samples, then twice 4
