"""Terms that divide by a count: several processes learn what one process learns with the joined batch."""

import pytest
import torch

from losses.normal_matching import NormalMatching
from losses.segmentation import Segmentation
from losses.sfm_matches import SfmMatches
from losses.supervised_depth import SupervisedDepth
from losses.velocity import Velocity
from structures import Batch, Prediction
from training.distributing import distribute

SIZE = 6, 8


class FakeProcesses:
    """Two processes that run one after the other: the first round records counts, the second shares them."""

    world = 2

    def __init__(self):
        self.recorded, self.shared = [[], []], None

    def round(self, run):
        """The values of `run(0)` and `run(1)`, each with the mean counts of both."""
        self.shared = None
        for self.rank in (0, 1):
            run(self.rank)
        self.shared = [(a + b) / 2 for a, b in zip(*self.recorded, strict=True)]
        values = []
        for self.rank in (0, 1):
            self.position = iter(self.shared)
            values.append(run(self.rank))
        return values

    def mean_on_device(self, value):
        if self.shared is None:
            self.recorded[self.rank].append(value)
            return value
        return next(self.position)


def batch_of(samples, labelled=False):
    """Samples 0 and 1 differ in how much of them is known."""
    torch.manual_seed(0)
    known = torch.rand(2, 1, *SIZE) + 1
    known[1, :, :5] = 0
    labels = torch.randint(0, 3, (2, 1, *SIZE))
    labels[0, :, 2:] = 255
    matches = torch.rand(2, 5, 6) * torch.tensor([7, 5, 9, 3, 0.9, 0.9])
    matches[0, :, 2] = 0
    n = len(samples)
    batch = Batch(
        {0: torch.rand(2, 3, *SIZE)[samples]},
        torch.eye(3).expand(n, 3, 3),
        torch.zeros(n, dtype=torch.int64),
        maps={"depth": known[samples], "pseudo_depth": known[samples], "labels": labels[samples]},
        points={"matches": matches[samples]},
        speed={1: torch.tensor([10.0, float("nan")])[samples], -1: torch.tensor([8.0, 9.0])[samples]},
        time_step={1: torch.full((n,), 0.1), -1: torch.full((n,), -0.1)},
    )
    batch.companion = batch
    return batch


TERMS = {
    "supervised l1": lambda: SupervisedDepth("l1"),
    "supervised mse": lambda: SupervisedDepth("mse", "depth"),
    "supervised abs_rel": lambda: SupervisedDepth("abs_rel"),
    "velocity": Velocity,
    "normals": NormalMatching,
    "matches": SfmMatches,
    "segmentation": lambda: Segmentation([1.0, 5.0, 2.0]),
}


def value_and_slope(term, samples):
    """The term for some samples, and its gradient by a parameter that all samples share."""
    weight = torch.full((), 1.0, requires_grad=True)
    torch.manual_seed(1)
    depth, logits, T = torch.rand(2, 1, *SIZE) + 1, torch.randn(2, 3, *SIZE), torch.eye(4).repeat(2, 1, 1)
    T[:, 2, 3] = torch.tensor([0.4, 0.7])
    scaled = T[samples] * torch.where(torch.arange(4) == 3, weight, 1.0)
    prediction = Prediction(
        {}, depths={0: (weight * depth)[samples] ** weight}, T_source_from_target={1: scaled, -1: scaled}
    )
    prediction.logits = (weight * logits)[samples]
    prediction.companion = prediction
    loss = term(batch_of(samples), prediction)
    loss.backward()
    return torch.stack([loss.detach(), weight.grad])


@pytest.mark.parametrize("name", TERMS)
def test_two_processes_learn_what_one_does(name, monkeypatch):
    monkeypatch.setattr("training.distributing.DistributedDataParallel", lambda model: model)
    alone = value_and_slope(TERMS[name](), [0, 1])
    processes = FakeProcesses()
    term = distribute(TERMS[name](), processes)
    together = torch.stack(processes.round(lambda rank: value_and_slope(term, [rank]))).mean(0)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-7)
    separate = torch.stack([value_and_slope(TERMS[name](), [rank]) for rank in (0, 1)]).mean(0)
    assert not torch.allclose(separate, alone, rtol=1e-3)


def test_validation_waits_for_no_other_process():
    term = Velocity().eval()
    term.mean_over_processes = lambda _: pytest.fail("a count was shared")
    value_and_slope(term, [0, 1])
