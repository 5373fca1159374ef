"""The contract, probed by parts that someone else could have written.

Each probe is a small component that reads or makes something beyond Monodepth2: a whole depth network, depth
of source frames under augmented views, labels of a companion with predicted logits, ground truth of only
some samples, speed. Each trains ten steps, is evaluated, predicts, and resumes to the same bits.
"""

from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import evaluate_depth
from losses import LOSSES
from methods import METHODS
from methods.monodepth2 import Monodepth2
from networks import NETWORKS
from predictor import load_predictor
from structures import Prediction
from tests import runs
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread", "probes")
STEPS = 10


class ProbeNetwork(nn.Module):
    """A whole depth network of two convolutions."""

    is_depth_network = True

    def __init__(self, scales=(0, 1, 2, 3), pretrained=False, channels: int = 8) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.features = nn.Conv2d(3, channels, 5, padding=2)
        self.output = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, images):
        disparity = torch.sigmoid(self.output(F.relu(self.features(images))))
        return {scale: F.avg_pool2d(disparity, 2**scale) for scale in self.scales}


class ProbeSources(nn.Module):
    """Median depth of target and sources, and a reverse pose that undoes the pose."""

    predicts = ("sources.depths", "sources.T_target_from_source")

    def forward(self, batch, prediction):
        errors = []
        for frame in batch.sources:
            source = prediction.sources[frame]
            T = source.T_source_from_target[0] @ prediction.T_source_from_target[frame]
            errors.append((T - torch.eye(4)).abs().mean())
            errors.append((source.depths[0].log().mean() - prediction.depths[0].log().mean()).abs())
        return torch.stack(errors).mean()


class ProbeSegmentation(Monodepth2):
    """Monodepth2 with logits of the targets and of a companion."""

    provides = (*Monodepth2.provides, "logits", "companion.logits")

    def __init__(self, classes: int = 19, **settings) -> None:
        super().__init__(**settings)
        self.head = nn.Conv2d(3, classes, 3, padding=1)

    def run_networks(self, batch, plain=None):
        prediction = super().run_networks(batch, plain)
        prediction.logits = self.head(batch.network_images[0])
        if batch.companion is not None:
            logits = self.head(batch.companion.network_images[0])
            prediction.companion = Prediction({}, logits=logits)
        return prediction

    def predict(self, batch):
        prediction = super().predict(batch)
        prediction.logits = self.head(batch.images[0])
        return prediction


class ProbeLabels(nn.Module):
    """Cross-entropy of the companion's logits."""

    needs = ("companion.maps.labels",)
    predicts = ("companion.logits",)

    def forward(self, batch, prediction):
        labels = batch.companion.maps["labels"][:, 0].long()
        return F.cross_entropy(prediction.companion.logits, labels, ignore_index=255)


@pytest.fixture
def probes(monkeypatch):
    """The probes under names that configs can use, for one test."""
    monkeypatch.setitem(NETWORKS._classes, "probe_network", ProbeNetwork)
    monkeypatch.setitem(LOSSES._classes, "probe_sources", ProbeSources)
    monkeypatch.setitem(LOSSES._classes, "probe_labels", ProbeLabels)
    monkeypatch.setitem(METHODS._classes, "probe_segmentation", ProbeSegmentation)


@pytest.fixture(scope="module")
def kitti(tiny_kitti, tmp_path_factory):
    """A copy of the drawn drives whose every second LiDAR scan is missing in training."""
    root = tmp_path_factory.mktemp("probes") / "kitti"
    shutil.copytree(tiny_kitti, root)
    for line in (root / "splits/train_files.txt").read_text().splitlines():
        drive, frame, _ = line.split()
        if int(frame) % 2:
            (root / drive / f"velodyne_points/data/{int(frame):010d}.bin").unlink(missing_ok=True)
    return root


@pytest.fixture
def city(worlds):
    return worlds.get("cityscapes")


PROBES = {
    "whole network": {"depth_network": "probe_network", "depth_network.channels": 4},
    "sources under views": {"losses.probe_sources.weight": 0.1, "views.local_crop": "true"},
    "companion": {
        "method": "probe_segmentation",
        "losses.probe_labels.weight": 0.1,
        "companion.name": "cityscapes",
        "companion.split": "fine",
        "companion.labels": "true",
        "companion.top_rows": 1,
        "companion.height": 64,
        "companion.width": 96,
    },
    "some supervised": {"losses.supervised_depth.weight": 1, "dataset.supervision": "true"},
    "speed": {"losses.velocity.weight": 0.1, "dataset.speed": "velocity"},
}
TERMS = {
    "sources under views": "probe_sources",
    "companion": "probe_labels",
    "some supervised": "supervised_depth",
    "speed": "velocity",
}


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_trains_evaluates_predicts_and_resumes(name, kitti, request, tmp_path):
    settings = {"batch_size": 2, "num_epochs": 4, "log_frequency": 1, "num_val": 2, **PROBES[name]}
    if name == "companion":
        settings["companion.data_path"] = request.getfixturevalue("city")

    def words(folder, steps=STEPS):
        return runs.arguments(kitti, tmp_path / folder, **settings, max_steps=steps)

    trainer = runs.train(words("straight"))
    runs.train(words("stopped", 4))
    runs.train([*words("stopped"), "--resume", "auto"])
    one, two = runs.last(tmp_path / "straight"), runs.last(tmp_path / "stopped")
    assert one.training["step"] == two.training["step"] == STEPS
    assert all(torch.equal(value, two.weights[key]) for key, value in one.weights.items())

    steps = [record for record in runs.records(tmp_path / "straight") if "learning_rate" in record]
    term = TERMS.get(name, "photometric")
    assert len(steps) == STEPS and all(any(key.endswith(term) for key in record) for record in steps)

    run, out = tmp_path / "straight/run", tmp_path / "out"
    evaluate_depth.main(
        ["--run", str(run), "--data_path", str(kitti), "--eval_split", str(kitti / "splits"), "--num_workers",
         "0", "--device", "cpu", "--output", str(out)]
    )  # fmt: skip
    assert list(out.rglob("results.json"))
    predictor = load_predictor(run, "cpu")
    assert predictor.is_metric == (name in ("some supervised", "speed"))
    images = torch.randint(0, 255, (2, 3, 80, 120), dtype=torch.uint8)
    assert predictor(images).shape == (2, 1, 80, 120)
    if name == "companion":
        assert trainer.method.predict(trainer.train_set[0].to("cpu")).logits.shape == (1, 19, 64, 96)


def test_ground_truth_of_only_some_samples_is_zeros_elsewhere(kitti, tmp_path):
    settings = PROBES["some supervised"]
    trainer = runs.build(runs.arguments(kitti, tmp_path, batch_size=2, **settings))
    known = [bool(sample.maps["depth"].any()) for sample in map(trainer.train_set.__getitem__, range(6))]
    assert any(known) and not all(known)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"losses.probe_labels.weight": 1}, "reads companion.logits .* Monodepth2 does not make here"),
        (
            {"losses.velocity.weight": 1},
            "velocity needs speed, .*--dataset.speed velocity reads it",
        ),
        (
            {"method": "probe_segmentation", "losses.probe_labels.weight": 1},
            "probe_labels needs companion.maps.labels.*--companion cityscapes",
        ),
        ({"losses.supervised_depth.weight": 1}, "needs maps.depth.*--dataset.supervision true adds"),
        ({"depth_network": "probe_network", "depth_network.chanels": 2}, "did you mean 'channels'"),
    ],
)
def test_what_a_probe_lacks_is_named_with_its_setting(settings, words, kitti, tmp_path):
    with pytest.raises(InputError, match=words):
        runs.build(runs.arguments(kitti, tmp_path, **settings))
