"""A step that is not finite changes nothing, and no step waits for the device."""

from __future__ import annotations

import traceback

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from processes import Processes
from structures import Batch
from tests import runs
from training.finite import FiniteSteps

pytestmark = pytest.mark.usefixtures("one_thread")


class _Scene:
    """A network with running statistics that learns, and a guard of its steps."""

    def __init__(self, folder, deferred):
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.1, fused=True)
        self.finite = FiniteSteps(
            self.network, self.optimizer, Processes(torch.device("cpu")), folder, deferred=deferred
        )

    def step(self, number, factor=1.0):
        """One step whose loss is multiplied by `factor`."""
        torch.manual_seed(number)
        image = torch.rand(8, 4)
        self.finite.begin()
        self.optimizer.zero_grad()
        loss = self.network(image * factor).square().mean()
        loss.backward()
        batch = Batch({0: image}, torch.eye(3)[None], torch.arange(1))
        self.finite.finish(number, ["loss"], loss.detach()[None], [batch], 0.1)
        return [(steps.step, sentence) for steps, _, sentence in self.finite.read()]

    def state(self):
        moments = self.optimizer.state_dict()["state"]
        states = {f"{key}.{name}": value for key, item in moments.items() for name, value in item.items()}
        kept = {**self.network.state_dict(), **states}
        return {name: value.clone() for name, value in kept.items() if "num_batches" not in name}


def test_device_leaves_out_the_step_as_the_host_does(tmp_path):
    by_host, by_device = _Scene(tmp_path / "host", False), _Scene(tmp_path / "device", True)
    (tmp_path / "host").mkdir(), (tmp_path / "device").mkdir()
    for number, factor in enumerate([1.0, torch.nan, 1.0], 1):
        before = by_device.state()
        by_host.step(number, factor), by_device.step(number, factor)
        if number == 2:
            assert all(torch.equal(value, before[name]) for name, value in by_device.state().items())
    for name, value in by_host.state().items():
        assert torch.equal(value, by_device.state()[name]), name


def test_deferred_numbers_are_read_one_step_later(tmp_path):
    scene = _Scene(tmp_path, deferred=True)
    assert scene.step(1, torch.nan) == []
    ((step, sentence),) = scene.step(2)
    kept = tmp_path / "not_finite_step_1_rank_0.pt"
    assert (step, kept.exists()) == (1, True)
    assert sentence == f"step 1: loss is not finite; the batch is kept in {kept}; the step is left out"
    assert [(steps.step, sentence) for steps, _, sentence in scene.finite.read(all=True)] == [(2, "")]


class _Waits(TorchDispatchMode):
    """Collects the operations whose result the host needs, for which it would wait on a GPU.

    Left out are functions that read a tensor of the host, or do so on CPUs only.
    """

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")
    ON_HOST = ("mirror", "sample", "_sample")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        indices = [i for i in args[1] if i is not None] if name in ("index", "index_put_") else []
        if name.startswith(self.NAMES) or any(i.dtype == torch.bool for i in indices):
            callers = [frame.name for frame in traceback.extract_stack(limit=8)]
            if not set(callers) & set(self.ON_HOST):
                self.found.append((name, callers))
        return function(*args, **(kwargs or {}))


SYNC_FREE = {
    "monodepth2": {},
    "bdedepth": {"method": "bdedepth"},
    "packnet": {"method": "packnet"},
    "sc_depth": {
        "method": "sc_depth",
        "pose_model_type": "separate_resnet",
        "pose_encoder": "timm/test_efficientnet",
    },
}


@pytest.mark.parametrize("name", SYNC_FREE)
def test_no_operation_of_a_step_waits(name, tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=2, **SYNC_FREE[name])
    trainer = runs.build(words)
    trainer.finite.deferred = True
    trainer.optimizer.step = lambda: None  # the fused optimiser of a GPU, which decides by the flag
    batch = next(iter(trainer.loader))
    trainer.model.train()
    with _Waits() as waits:
        trainer.step([batch])
    assert waits.found == []


@pytest.mark.gpu
def test_steps_on_a_gpu_never_synchronise(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, device="cuda", batch_size=2, num_workers=1)
    trainer = runs.build(words)
    trainer.model.train()
    batches = [batch.map(lambda tensor: tensor.pin_memory()) for batch in trainer.loader]
    trainer.step([batches[0]])  # compiles, chooses algorithms
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:4]:
            trainer.step([batch])
            list(trainer.finite.read())
    finally:
        torch.cuda.set_sync_debug_mode("default")
