"""The Trainer: epochs, steps, validation, checkpoints, logs. It knows no method by name.

A run can be stopped at any step and goes on to the same bits: the order of the samples and their
augmentation are functions of (seed, epoch, sample), and the checkpoint holds the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from checkpoints import (
    Checkpoint,
    epoch_path,
    load_checkpoint,
    load_optimizer,
    load_weights,
    prune_checkpoints,
    save_checkpoint,
    update_link,
)
from datasets import open_dataset
from datasets.loading import EpochBatches, Guarded, collate, outlive_sigterm
from datasets.opening import build_augmentation
from devices import pick_device, seed_everything
from evaluation import evaluate_several, gather
from logs import RunLog
from methods import build_method
from structures import Batch
from utils import InputError, atomic_path, can_write

MAX_NOT_FINITE = 3  # steps in a row before a run gives up


class Trainer:
    """Builds everything an options namespace names, and trains it.

    Args:
        options: from `options.parse`.
        settings: what the run folder keeps of them, `options.effective`.

    Raises:
        InputError: anything that would not have survived the first epoch.
    """

    def __init__(self, options: argparse.Namespace, settings: dict[str, Any]) -> None:
        self.options, self.settings = options, settings
        self.folder = Path(options.log_dir).expanduser() / options.model_name
        self.device = start_processes(options.device)
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if self.rank == 0 and not can_write(self.folder):
            raise InputError(f"the run folder {self.folder} cannot be written; give another with --log_dir")
        seed_everything(options.seed)
        if options.deterministic:
            torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = not options.deterministic

        self.epoch = self.step = self.position = 0  # position: steps done within the epoch
        self.best: float | None = None
        self._not_finite = 0  # steps in a row
        self._asked_to_stop = False
        self._build_data()
        self._build_method()
        # Ranks share weights and data order, and draw different noise.
        torch.manual_seed(options.seed + 1000 * self.rank)
        if checkpoint := self._checkpoint_to_resume():
            self._resume(checkpoint)
        elif options.load_weights_folder:
            self._start_from(options.load_weights_folder)
        self.network: nn.Module = self.method
        if self.world > 1:
            self.network = DistributedDataParallel(self.method)

    # Building.

    def _build_data(self) -> None:
        options = self.options
        self.train_set = open_dataset(vars(options), "train")
        self.augment = build_augmentation(vars(options))
        batches = EpochBatches(
            len(self.train_set),
            options.batch_size,
            seed=options.seed,
            rank=self.rank,
            world=self.world,
            steps_per_epoch=options.steps_per_epoch,
            replacement=options.sample_with_replacement,
        )
        self.loader = self._loader(self.train_set, batches)
        self.steps_per_epoch = len(batches)
        # Schedules follow the epochs. max_steps only stops, so that a larger one goes on as if never stopped.
        self.total_steps = options.num_epochs * self.steps_per_epoch
        self._build_validation()

    def _build_validation(self) -> None:
        """Single images where there is ground truth, otherwise targets with the sources of training."""
        options = self.options
        self.val_set = open_dataset(vars(options), "val")
        self.val_indices = _evenly_spaced(len(self.val_set), options.num_val)
        self.val_ground_truth = any(self.val_set.depth(index) is not None for index in self.val_indices)
        if not self.val_ground_truth:
            self.val_set = open_dataset(vars(options), "train", part="val")
            self.val_indices = _evenly_spaced(len(self.val_set), options.num_val)

    def _loader(self, dataset: Any, batches: Any) -> DataLoader:
        workers = self.options.num_workers
        return DataLoader(
            Guarded(dataset),
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            worker_init_fn=outlive_sigterm,
            generator=torch.Generator(),  # its own, so that opening a loader draws nothing from the run's
        )

    def _build_method(self) -> None:
        options = self.options
        method = build_method(vars(options))
        if options.sync_batchnorm:
            if self.device.type != "cuda":
                raise InputError("sync_batchnorm needs GPUs; leave it out on the CPU")
            method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
        if options.channels_last:
            method = method.to(memory_format=torch.channels_last)
        self.method = method.to(self.device)
        # Under a companion lies the dataset itself. Loading, which reads this, begins later.
        getattr(self.train_set, "dataset", self.train_set).detail = method.detail
        capable = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        if options.precision == "bfloat16" or (options.precision == "auto" and capable):
            self.method.precision = torch.bfloat16
        if options.compile:
            for child in self.method.children():
                child.compile()
        groups = [
            {**group, "lr_factor": group.get("lr_factor", 1.0)} for group in self.method.parameter_groups()
        ]
        self.optimizer = self._build_optimizer(groups)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        norms = [module for module in method.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        self.statistics = [b for norm in norms for b in norm.buffers(recurse=False) if b.is_floating_point()]
        self._statistics_before = [buffer.clone() for buffer in self.statistics]

    def _build_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """As named, else Adam, or AdamW where there is a weight decay."""
        o = self.options
        shared = {"lr": o.learning_rate, "weight_decay": o.weight_decay}
        shared["fused"] = self.device.type == "cuda" or None
        name = o.optimizer or ("adamw" if o.weight_decay else "adam")
        if name == "sgd":
            return torch.optim.SGD(groups, momentum=o.momentum, **shared)
        kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
        return kind(groups, betas=(o.beta1, o.beta2), **shared)

    # Training.

    @torch.no_grad()
    def rehearse(self) -> dict[str, float]:
        """The loss terms of the first sample; nothing is learned. Tells what the data lacks for them."""
        self.method.train()
        batch = self.augment(self.train_set[0].to(self.device), epoch=0)
        return {name: float(term) for name, term in self.method.losses(batch, self.method(batch)).items()}

    def train(self) -> None:
        """All that is left of the run; returns early after SIGTERM, the state saved."""
        before = signal.signal(signal.SIGTERM, self._on_sigterm)
        first = self.step
        try:
            with RunLog(self.folder, self.settings, self.last_step, self.step, self.rank == 0) as log:
                self.log = log
                log.say(self._greeting())
                while not (self.finished or self._stopping()):
                    self._train_epoch()
            log.say(self._farewell(first))
        finally:
            signal.signal(signal.SIGTERM, before)
        if dist.is_initialized():
            dist.barrier()

    @property
    def last_step(self) -> int:
        """The step after which the run ends: that of the last epoch, or max_steps.

        Steps so far may have been of another size, before a run was resumed with other batches or processes.
        """
        left = self.total_steps - self._steps_of_epochs()
        return min(self.step + left, self.options.max_steps or self.step + left)

    def _steps_of_epochs(self) -> int:
        """How many steps of today's size the epochs so far have."""
        return self.epoch * self.steps_per_epoch + self.position

    @property
    def finished(self) -> bool:
        """All epochs are done, or max_steps; an epoch whose last step is done is still to be validated."""
        stopped_short = self.step >= self.last_step and self.position < self.steps_per_epoch
        return self.epoch >= self.options.num_epochs or stopped_short

    def _train_epoch(self) -> None:
        self.method.on_epoch_start(self.epoch, self.options.num_epochs)
        self.method.train()
        for batch, waited in self._batches():
            started = time.perf_counter()
            terms, batch, prediction = self._step(batch)
            self.step += 1
            self.position += 1
            self._log_step(terms, waited, time.perf_counter() - started)
            if self.step % self.options.log_frequency == 0 or self.step == 1:
                self._log_images(batch, prediction)
            if self._stopping():
                return self._save()
            if self.step >= self.last_step:
                break
        ended = self.position >= self.steps_per_epoch
        evaluated = (self.epoch + ended) % self.options.save_frequency == 0 or self.step >= self.last_step
        if evaluated:
            self._save()  # validating may outlast whoever stops the run
        if ended:
            self.epoch, self.position = self.epoch + 1, 0
        if evaluated:
            self._validate_and_save()

    def _batches(self) -> Iterator[tuple[Batch, float]]:
        """The rest of this epoch's batches, each with the seconds it was waited for."""
        self.loader.batch_sampler.go_to(self.epoch, self.position)
        batches = iter(self.loader)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            if isinstance(batch, InputError):
                raise batch
            yield batch, time.perf_counter() - started

    def _step(self, batch: Batch) -> tuple[dict[str, float], Batch, Any]:
        """One forward, backward and update; an update that is not finite is left out."""
        batch = self.augment(batch.to(self.device), self.epoch)
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        _copy(self.statistics, self._statistics_before)
        prediction = self.network(batch)
        terms = self.method.losses(batch, prediction)
        total = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.options.clip_grad_norm or math.inf)
        values = torch.stack([total.detach(), norm.detach(), *(term.detach() for term in terms.values())])
        numbers = dict(zip(["loss", "grad_norm", *terms], values.tolist()))
        if self._any_rank(not all(map(math.isfinite, numbers.values()))):
            self._leave_out(batch, numbers)
        else:
            self.optimizer.step()
            self._not_finite = 0
        return {**numbers, "learning_rate": rate}, batch, prediction

    def _leave_out(self, batch: Batch, numbers: dict[str, float]) -> None:
        """Instead of an update: name the term that is not finite, keep the batch, give up after a few."""
        # The pass forward has put the batch into the running statistics of the norms already.
        _copy(self._statistics_before, self.statistics)
        self._not_finite += 1
        path = self.folder / f"not_finite_step_{self.step + 1}_rank_{self.rank}.pt"
        with atomic_path(path) as temporary:
            torch.save(dataclasses.asdict(batch.to("cpu")), temporary)
        bad = [name for name, value in numbers.items() if not math.isfinite(value)]
        bad = list(dict.fromkeys(name for names in self._gather(bad) for name in names))
        terms = [name for name in bad if name not in ("loss", "grad_norm")] or bad
        verb = "is" if len(terms) == 1 else "are"
        sentence = f"step {self.step + 1}: {', '.join(terms)} {verb} not finite; the batch is kept in {path}"
        if self._not_finite >= MAX_NOT_FINITE:
            raise InputError(f"{sentence}; that was {self._not_finite} in a row, so the run stops")
        self.log.say(f"{sentence}; the step is left out")

    def learning_rate(self) -> float:
        """The rate of the current step: warm-up, then constant, stepped or cosine."""
        o = self.options
        if self.step < o.warmup_steps:
            return o.learning_rate * (self.step + 1) / o.warmup_steps
        if o.scheduler == "step" and o.decay_epochs:
            return o.learning_rate * o.scheduler_gamma ** sum(self.epoch >= epoch for epoch in o.decay_epochs)
        if o.scheduler == "step":
            return o.learning_rate * o.scheduler_gamma ** (self.epoch // o.scheduler_step_size)
        if o.scheduler == "cosine":
            after = max(0, self._steps_of_epochs() - o.warmup_steps)
            done = after / max(1, self.total_steps - o.warmup_steps)
            swing = o.learning_rate - o.min_learning_rate
            return o.min_learning_rate + swing * (1 + math.cos(math.pi * done)) / 2
        return o.learning_rate

    # Validation.

    def _validate_and_save(self) -> None:
        """Validate, and keep `last`, and `best` where it is the best so far."""
        metrics = self.validate()
        goal = self._goal()
        value = metrics.get(goal, math.nan)
        better = math.isfinite(value) and (self.best is None or value < self.best)
        if better:
            self.best = value
        epochs = self.epoch + self.position / self.steps_per_epoch
        self.log.validation(self.step, epochs, metrics, goal if better else None)
        self._save(better, metrics)

    def _goal(self) -> str:
        """The number whose least value is the best checkpoint's."""
        if not self.val_ground_truth:
            return "loss"
        return "metric_abs_rel" if self.method.metric else "abs_rel"

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Ground-ground truth errors where there is ground truth, otherwise the loss on held-out samples."""
        self.method.eval()
        indices = self.val_indices[self.rank :: self.world]
        with self._noise_kept():
            if not self.val_ground_truth:
                return self._validation_loss(indices)
            protocol = self.val_set.protocol
            protocols = {"aligned": protocol}
            # A rig may know metres, and so may one of its cameras, so it is evaluated as it is too.
            if self.val_set.cameras > 1 or self.method.metric:
                protocols["metric"] = dataclasses.replace(protocol, alignment="none")
            results = evaluate_several(
                self.method.predict_depth,
                self.val_set,
                protocols,
                batch_size=self.options.batch_size,
                device=self.device,
                workers=self.options.num_workers,
                indices=indices,
            )
            numbers = dict(gather(results["aligned"]).mean)
            if "metric" in results:
                whole = gather(results["metric"])
                numbers |= {f"metric_{name}": whole.mean[name] for name in ("abs_rel", "a1")}
                numbers["ground_truth_per_prediction"] = whole.ratio_median
            return numbers

    def _validation_loss(self, indices: list[int]) -> dict[str, float]:
        size = self.options.batch_size
        chunks = [indices[start : start + size] for start in range(0, len(indices), size)]
        loader = DataLoader(
            Guarded(self.val_set),
            batch_sampler=chunks,
            collate_fn=collate,
            num_workers=self.options.num_workers,
            worker_init_fn=outlive_sigterm,
            generator=torch.Generator(),
        )
        sums: dict[str, float] = {}
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            batch = batch.to(self.device)
            terms = self.method.losses(batch, self.method(batch))
            terms["loss"] = torch.stack(list(terms.values())).sum()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + float(term) * len(batch)
        shards = self._gather(sums)  # one may be empty: fewer samples than processes
        names = dict.fromkeys(name for shard in shards for name in shard)
        count = len(self.val_indices)
        return {name: sum(shard.get(name, 0.0) for shard in shards) / count for name in names}

    def _noise_kept(self) -> contextlib.AbstractContextManager:
        """A block that may draw random numbers: looking must not change what is trained next."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    # Checkpoints.

    def _save(self, better: bool = False, metrics: dict[str, float] | None = None) -> None:
        """Write this moment: the end of an epoch as the epoch's file, which `last` links to."""
        rng = self._gather(_get_rng())
        if self.rank == 0:
            training = {
                "optimizer": self.optimizer.state_dict(),
                "epoch": self.epoch,
                "step": self.step,
                "position": self.position,
                "best": self.best,
                "metrics": metrics or {},
                "rng": rng,
                "versions": {"torch": str(torch.__version__), "python": sys.version.split()[0]},
                "world": self.world,
            }
            checkpoint = Checkpoint(self.method.state_dict(), self.settings, training=training)
            folder = self.folder / "checkpoints"
            path = folder / "last.pt" if self.position else epoch_path(folder, self.epoch)
            save_checkpoint(path, checkpoint)
            if not self.position:
                update_link(folder / "last.pt", path)
            if better:
                update_link(folder / "best.pt", path)
            if self.options.keep_checkpoints:
                prune_checkpoints(folder, self.options.keep_checkpoints)
        if dist.is_initialized():
            dist.barrier()

    def _checkpoint_to_resume(self) -> Checkpoint | None:
        """`--resume auto` takes the run's last checkpoint, if there is one yet."""
        wanted = self.options.resume
        path = self.folder / "checkpoints" / "last.pt" if wanted == "auto" else Path(wanted)
        if wanted == "never" or (wanted == "auto" and not path.exists()):
            return None
        return to_resume(path)

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint stopped, on as many processes as there are now."""
        state = checkpoint.training
        load_weights(self.method, checkpoint.weights)
        self._resume_optimizer(state["optimizer"])
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        samples = state["position"] * checkpoint.options["batch_size"] * state["world"]
        self.position = samples // (self.options.batch_size * self.world)
        if len(state["rng"]) == self.world:
            _set_rng(state["rng"][self.rank])

    def _resume_optimizer(self, state: dict[str, Any]) -> None:
        """Its moments, under the settings and on the kind of device of today."""
        chosen = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        groups = state["param_groups"]
        if ("momentum" in groups[0]) != ("momentum" in chosen[0]):
            was, wanted = ("sgd", "adam") if "momentum" in groups[0] else ("adam", "sgd")
            raise InputError(
                f"the run was trained with {was}, whose state is of no use to {wanted}: resume without "
                "--optimizer, or start another run with --load_weights_folder"
            )
        groups = [{**group, **own} for group, own in zip(groups, chosen)]
        self.optimizer.load_state_dict({**state, "param_groups": groups})

    def _start_from(self, path: str) -> None:
        """Fine-tune: weights, and the optimiser's moments where a published folder has them."""
        checkpoint = load_checkpoint(path)
        names = self.options.models_to_load
        report = load_weights(self.method, checkpoint.weights, models=names, source=path)
        states = (checkpoint.training or {}).get("optimizer_by_name") or {}
        states = {key: state for key, state in states.items() if not names or key.split(".")[0] in names}
        if states:
            report += "; " + load_optimizer(self.optimizer, self.method, states)
        if self.rank == 0:
            print(f"{path} ({checkpoint.layout}): {report}")

    # Logs.

    def _log_step(self, numbers: dict[str, float], waited: float, worked: float) -> None:
        samples = self.options.batch_size * self.world
        self.log.step(self.step, self.epoch, numbers, samples, waited, worked)

    @torch.no_grad()
    def _log_images(self, batch: Batch, prediction: Any) -> None:
        if self.rank == 0:
            with self._noise_kept():
                self.log.images(self.step, self.method.log_images(batch, prediction))
                self.log.clouds(self.step, self.method.log_clouds(batch, prediction))

    def _greeting(self) -> str:
        processes = f", {self.world} processes" if self.world > 1 else ""
        begin = f"goes on after step {self.step} of" if self.step else "has"
        return (
            f"{self.folder} {begin} {self.last_step} steps: {len(self.train_set)} samples, "
            f"{self.steps_per_epoch} steps an epoch, on {self.device}{processes}"
        )

    def _farewell(self, first: int) -> str:
        if not self.finished:
            return f"stopped after step {self.step}, everything saved; --resume auto goes on from there"
        if self.step == first:
            more = "num_epochs" if self.epoch >= self.options.num_epochs else "max_steps"
            return f"{self.folder} has had all its {self.step} steps; a larger --{more} adds more"
        goal = self._goal()
        best = "" if self.best is None else f", best {goal} {self.best:.4f}"
        return f"trained {self.step} steps{best}; the run is in {self.folder}"

    # Processes.

    def _on_sigterm(self, *_: Any) -> None:
        self._asked_to_stop = True  # the step under way is finished first

    def _stopping(self) -> bool:
        return self._any_rank(self._asked_to_stop)

    def _gather(self, value: Any) -> list[Any]:
        """Every process's value."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def _any_rank(self, value: bool) -> bool:
        if self.world == 1:
            return value
        flag = torch.tensor(int(value), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())


def to_resume(path: str | Path) -> Checkpoint:
    """The last checkpoint of a run, or one of its files, with the state of the training.

    Raises:
        InputError: it has none, or not one of ours.
    """
    checkpoint = load_checkpoint(path, which="last")
    if "optimizer" not in (checkpoint.training or {}):
        held = "weights only" if checkpoint.layout == "parallax" else f"a checkpoint of {checkpoint.layout}"
        raise InputError(f"{path} holds {held} and cannot be resumed; --load_weights_folder starts from it")
    return checkpoint


def start_processes(device: str) -> torch.device:
    """Pick the device and, under torchrun, join the other processes (NCCL on GPUs, gloo on CPUs).

    Raises:
        InputError: a GPU is asked for and there is none.
    """
    chosen = pick_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return chosen


def _copy(values: list[torch.Tensor], into: list[torch.Tensor]) -> None:
    """Copy tensors in one go; there may be none."""
    if values:
        torch._foreach_copy_(into, values)


def _evenly_spaced(count: int, wanted: int) -> list[int]:
    """`wanted` of the places 0 to count - 1, or all where `wanted` is 0."""
    return np.linspace(0, count - 1, min(count, wanted or count)).round().astype(int).tolist()


def _get_rng() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": [version, list(internal), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
    }


def _set_rng(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
