"""One step of a run: accumulated gradients, and the average of the weights."""

from __future__ import annotations

import argparse

import pytest
import torch
from torch import nn

from checkpoints import load_checkpoint
from options import effective, parse
from tests import runs
from tests.test_trainer import assert_same, stop_after
from trainer import Trainer
from training.averaging import WeightAverage
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")
# Without batch norm, whose statistics are those of each batch.
SETTINGS = {"encoder": "timm/test_convnext", "losses.photometric.noise": 0, "optimizer": "sgd"}


def build(words, **settings) -> Trainer:
    """The Trainer of a command line with further options."""
    options = argparse.Namespace(**{**vars(parse(words)), **settings})
    return Trainer(options, {**effective(options), **settings})


def test_accumulated_batches_give_the_larger_batchs_gradient(tiny_kitti, tmp_path):
    """16 samples: five steps of three, and the last sample is left out either way."""
    large = build(runs.arguments(tiny_kitti, tmp_path / "a", batch_size=3, num_epochs=1, **SETTINGS))
    small = build(
        runs.arguments(tiny_kitti, tmp_path / "b", batch_size=1, num_epochs=1, **SETTINGS), accumulate=3
    )
    assert (large.last_step, small.last_step) == (5, 5)
    for trainer in (large, small):
        trainer.train()
    runs.same_gradients(runs.last(tmp_path / "a"), runs.last(tmp_path / "b"))
    one, two = (
        [record["loss"] for record in runs.records(tmp_path / name) if "loss" in record] for name in "ab"
    )
    assert one == pytest.approx(two, rel=1e-4)


def test_an_accumulating_run_resumes_to_the_same_bits(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path / "straight", batch_size=2, num_epochs=2)
    straight = build(words, accumulate=3)
    straight.train()
    words = runs.arguments(tiny_kitti, tmp_path / "stopped", batch_size=2, num_epochs=2)
    stopped = build(words, accumulate=3)
    stop_after(stopped, 1)
    stopped.train()
    resumed = build([*words, "--resume", "auto"], accumulate=3)
    assert (resumed.progress.step, resumed.progress.position) == (1, 1)
    resumed.train()
    assert_same(dict(resumed.method.state_dict()), dict(straight.method.state_dict()))
    # A batch of another size continues at the same sample: 6 of 16 are done.
    other = build([*words, "--resume", str(tmp_path / "stopped/run/checkpoints/epoch_0001.pt")], accumulate=1)
    assert (other.progress.epoch, other.progress.position) == (1, 0)


def test_more_batches_than_an_epoch_has_are_refused(tiny_kitti, tmp_path):
    with pytest.raises(
        InputError, match=r"--accumulate 9 needs that many batches .* an epoch has 4; lower it"
    ):
        build(runs.arguments(tiny_kitti, tmp_path, batch_size=4), accumulate=9)


def test_the_average_is_the_known_sum():
    module = nn.Linear(1, 1, bias=False)
    module.register_buffer("seen", torch.zeros(1))
    average = WeightAverage(module, 0.5)
    module.weight.data.fill_(0.0)
    average.load(module.state_dict())
    expected = 0.0
    for step, value in enumerate((1.0, 3.0, 5.0), 1):
        module.weight.data.fill_(value)
        module.seen.fill_(value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.state_dict()["weight"].item() == pytest.approx(expected)
    with average.applied():
        assert module.weight.item() == module.seen.item() == pytest.approx(expected)
    assert module.weight.item() == module.seen.item() == 5.0


@pytest.mark.parametrize("decay", [1.0, -0.1, 2])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(InputError, match=r"--ema must lie between 0 and 1, got .*; try --ema 0.999"):
        WeightAverage(nn.Linear(1, 1), decay)


def test_averages_are_validated_saved_and_resumed_exactly(tiny_kitti, tmp_path, monkeypatch):
    validated = []
    monkeypatch.setattr(
        "validation.Validation.measure",
        lambda self, model, method, train_set: (
            validated.append({k: v.clone() for k, v in method.state_dict().items()}) or {"abs_rel": 0.3}
        ),
    )
    words = runs.arguments(tiny_kitti, tmp_path / "straight", batch_size=8, num_epochs=2)
    straight = build(words, ema=0.9)
    straight.train()
    saved = load_checkpoint(tmp_path / "straight/run")
    assert_same(validated[0], saved.weights)  # best.pt is the first epoch
    raw = saved.training["weights"]
    assert any(not torch.equal(value, raw[key]) for key, value in saved.weights.items())

    words = runs.arguments(tiny_kitti, tmp_path / "stopped", batch_size=8, num_epochs=2)
    stopped = build(words, ema=0.9)
    stop_after(stopped, 3)
    stopped.train()
    resumed = build([*words, "--resume", "auto"], ema=0.9)
    resumed.train()
    assert_same(dict(resumed.method.state_dict()), dict(straight.method.state_dict()))
    last = [load_checkpoint(tmp_path / name / "run", "last").weights for name in ("straight", "stopped")]
    assert_same(*last)
