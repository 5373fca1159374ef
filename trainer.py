"""The Trainer: epochs, steps, checkpoints and logs, for any method.

A run can be stopped at any step and continues to the same bits: the order of the samples and their
augmentation are functions of (seed, epoch, sample), and the checkpoint holds the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
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
    random_state,
    restore_random_state,
    save_checkpoint,
    update_link,
)
from datasets import open_dataset
from datasets.frame_lists import training_list
from datasets.loading import EpochBatches, Guarded, collate, outlive_sigterm
from datasets.opening import build_augmentation
from devices import seed_everything
from logs import RunLog
from methods import build_method, check_needs
from methods.metric_scale import metric_scale
from processes import Processes, start_processes
from schedule import Progress, Schedule
from structures import Batch
from utils import InputError, atomic_path, can_write
from validation import Best, Validation, saved_best
from views import with_views

MAX_NOT_FINITE = 3  # steps in a row before a run gives up


class Trainer:
    """Builds everything an options namespace names, and trains it.

    Args:
        options: from `options.parse`.
        settings: the options that the run folder keeps, `options.effective`.

    Attributes:
        method: networks and losses; its `state_dict` is the checkpoint's.
        model: the module that a step runs: the method, or its wrapper with augmented views.
        network: `model`, or its DistributedDataParallel.

    Raises:
        InputError: anything that would not have survived the first epoch.
    """

    def __init__(self, options: argparse.Namespace, settings: dict[str, Any]) -> None:
        self.options, self.settings = options, settings
        self.folder = Path(options.log_dir).expanduser() / options.model_name
        self.device = start_processes(options.device)
        self.processes = Processes(self.device)
        if self.processes.first and not can_write(self.folder):
            raise InputError(f"the run folder {self.folder} cannot be written; give another with --log_dir")
        seed_everything(options.seed)
        if options.deterministic:
            torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = not options.deterministic

        self.progress = Progress()
        self.best: Best | None = None
        self.earlier_data: list[dict[str, Any]] = []  # training lists of the checkpoints it started from
        self._not_finite = 0  # steps in a row
        self._stop_requested = False
        self._build_data()
        self._build_method()
        self.validation = Validation(options, self.processes, metric_scale(self.method, settings))
        # Ranks share weights and data order, and draw different noise.
        torch.manual_seed(options.seed + 1000 * self.processes.rank)
        if checkpoint := self._checkpoint_to_resume():
            self._resume(checkpoint)
        elif options.load_weights_folder:
            self._start_from(options.load_weights_folder)
        self.network: nn.Module = self.model
        if self.processes.world > 1:
            self.network = DistributedDataParallel(self.model)

    # Building.

    def _build_data(self) -> None:
        options, processes = self.options, self.processes
        self.train_set = open_dataset(vars(options), "train")
        self.augment = build_augmentation(vars(options))
        batches = EpochBatches(
            len(self.train_set),
            options.batch_size,
            seed=options.seed,
            rank=processes.rank,
            world=processes.world,
            steps_per_epoch=options.steps_per_epoch,
            replacement=options.sample_with_replacement,
        )
        workers = options.num_workers
        self.loader = DataLoader(
            Guarded(self.train_set),
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            worker_init_fn=outlive_sigterm,
            generator=torch.Generator(),  # its own, so that opening a loader draws nothing from the run's
        )
        chosen = {name: getattr(options, name) for name in Schedule.__dataclass_fields__ if name in options}
        self.schedule = Schedule(**{**chosen, "steps_per_epoch": len(batches)})

    def _build_method(self) -> None:
        options = self.options
        method = build_method(vars(options))
        if options.sync_batchnorm:
            if self.device.type != "cuda":
                raise InputError("--sync_batchnorm needs GPUs; leave it out on the CPU")
            method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
        if options.channels_last:
            method = method.to(memory_format=torch.channels_last)
        self.method = method.to(self.device)
        self.model = with_views(self.method, options.views, options.losses)
        # A companion wraps the dataset; the setting belongs to the wrapped one. Workers have not started yet.
        dataset = self.train_set
        while hasattr(dataset, "dataset"):
            dataset = dataset.dataset
        dataset.detail = getattr(self.model, "detail", 1)
        capable = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        if options.precision == "bfloat16" or (options.precision == "auto" and capable):
            self.method.precision = torch.bfloat16
        if options.compile:
            for child in self.method.children():
                child.compile()
        groups = [
            {**group, "lr_factor": group.get("lr_factor", 1.0)} for group in self.method.parameter_groups()
        ]
        self.optimizer = build_optimizer(groups, options, self.device)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        norms = [module for module in method.modules() if isinstance(module, nn.modules.batchnorm._NormBase)]
        self.statistics = [b for norm in norms for b in norm.buffers(recurse=False) if b.is_floating_point()]
        self._statistics_before = [buffer.clone() for buffer in self.statistics]
        dataset = getattr(self.train_set, "dataset", self.train_set)
        provides = getattr(dataset, "provides", {})
        check_needs(self.method.needed_entries(), self.train_set[0], provides)

    # Training.

    @torch.no_grad()
    def rehearse(self) -> dict[str, float]:
        """The loss terms of the first sample: one forward pass without learning, so that faults show now."""
        self.model.train()
        batch = self.augment(self.train_set[0].to(self.device), epoch=0)
        return {name: float(term) for name, term in self.model.losses(batch, self.model(batch)).items()}

    def train(self) -> None:
        """The rest of the run; returns early after SIGTERM, with the state saved."""
        before = signal.signal(signal.SIGTERM, self._on_sigterm)
        first = self.progress.step
        try:
            with RunLog(
                self.folder, self.settings, self.last_step, self.progress.step, self.processes.first
            ) as log:
                self.log = log
                log.say(self._greeting())
                while not (self.finished or self._stopping()):
                    self._train_epoch()
            log.say(self._farewell(first))
        finally:
            signal.signal(signal.SIGTERM, before)
        self.processes.wait()

    @property
    def last_step(self) -> int:
        """The step after which the run ends."""
        return self.schedule.last_step(self.progress)

    @property
    def finished(self) -> bool:
        """True after all epochs or `max_steps`."""
        return self.schedule.finished(self.progress)

    def _train_epoch(self) -> None:
        progress, per_epoch = self.progress, self.schedule.steps_per_epoch
        self.method.on_epoch_start(progress.epoch, self.options.num_epochs)
        self.model.train()
        for batch, waited in self._batches():
            started = time.perf_counter()
            terms, batch, prediction = self._step(batch)
            progress.step += 1
            progress.position += 1
            self._log_step(terms, waited, time.perf_counter() - started)
            if progress.step % self.options.log_frequency == 0 or progress.step == 1:
                self._log_images(batch, prediction)
            if self._stopping():
                return self._save()
            if progress.step >= self.last_step:
                break
        ended = progress.position >= per_epoch
        due = (progress.epoch + ended) % self.options.save_frequency == 0 or progress.step >= self.last_step
        if ended:
            statistics = self.processes.gather(self.method.epoch_statistics())
            self.method.on_epoch_end(progress.epoch, statistics)
        if due:
            self._save()  # validation may take longer than a stopped run is given
        if ended:
            progress.epoch, progress.position = progress.epoch + 1, 0
        if due:
            self._validate_and_save()

    def _batches(self) -> Iterator[tuple[Batch, float]]:
        """The rest of this epoch's batches, each with the seconds that the step waited for it."""
        self.loader.batch_sampler.go_to(self.progress.epoch, self.progress.position)
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
        """One forward pass, backward pass and update; an update that is not finite is left out."""
        batch = self.augment(batch.to(self.device), self.progress.epoch)
        rate = self.schedule.rate(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        _copy(self.statistics, self._statistics_before)
        prediction = self.network(batch)
        terms = self.model.losses(batch, prediction)
        total = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.options.clip_grad_norm or math.inf)
        values = torch.stack([total.detach(), norm.detach(), *(term.detach() for term in terms.values())])
        numbers = dict(zip(["loss", "grad_norm", *terms], values.tolist()))
        if self.processes.any(not all(map(math.isfinite, numbers.values()))):
            self._leave_out(batch, numbers)
        else:
            self.optimizer.step()
            self._not_finite = 0
        return {**numbers, "learning_rate": rate}, batch, prediction

    def _leave_out(self, batch: Batch, numbers: dict[str, float]) -> None:
        """Instead of an update: name the term that is not finite, keep the batch, give up after a few."""
        # The forward pass has put the batch into the running statistics of the norms already.
        _copy(self._statistics_before, self.statistics)
        self._not_finite += 1
        step = self.progress.step + 1
        path = self.folder / f"not_finite_step_{step}_rank_{self.processes.rank}.pt"
        with atomic_path(path) as temporary:
            torch.save(dataclasses.asdict(batch.to("cpu")), temporary)
        bad = [name for name, value in numbers.items() if not math.isfinite(value)]
        bad = list(dict.fromkeys(name for names in self.processes.gather(bad) for name in names))
        terms = [name for name in bad if name not in ("loss", "grad_norm")] or bad
        verb = "is" if len(terms) == 1 else "are"
        sentence = f"step {step}: {', '.join(terms)} {verb} not finite; the batch is kept in {path}"
        if self._not_finite >= MAX_NOT_FINITE:
            raise InputError(f"{sentence}; that was {self._not_finite} in a row, so the run stops")
        self.log.say(f"{sentence}; the step is left out")

    # Validation and checkpoints.

    def _validate_and_save(self) -> None:
        """Validate, and keep `last`, and `best` if it is the best so far."""
        metrics = self.validate()
        better = self.validation.better(metrics, self.best)
        self.best = better or self.best
        epochs = self.progress.epoch + self.progress.position / self.schedule.steps_per_epoch
        self.log.validation(self.progress.step, epochs, metrics, better.metric if better else None)
        if self.processes.first:
            with self._noise_kept():
                if sentence := self.validation.verdict(metrics, self.method, self.train_set):
                    self.log.say(sentence)
        self._save(better is not None, metrics)

    def validate(self) -> dict[str, float]:
        """Depth errors if the validation set has ground truth, else the loss on held-out samples."""
        with self._noise_kept():
            return self.validation.measure(self.model, self.method)

    def _noise_kept(self) -> contextlib.AbstractContextManager:
        """A block that may draw random numbers without changing those of the training."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def _save(self, better: bool = False, metrics: dict[str, float] | None = None) -> None:
        """Write the state: at the end of an epoch as the epoch's file, which `last` links to."""
        states = self.processes.gather(random_state())
        if self.processes.first:
            training = {
                "optimizer": self.optimizer.state_dict(),
                **dataclasses.asdict(self.progress),
                "best": dataclasses.asdict(self.best) if self.best else None,
                "metrics": metrics or {},
                "rng": states,
                "versions": {"torch": str(torch.__version__), "python": sys.version.split()[0]},
                "world": self.processes.world,
                "training_data": training_list(self.train_set, self.earlier_data),
            }
            checkpoint = Checkpoint(self.method.state_dict(), self.settings, training=training)
            folder, position = self.folder / "checkpoints", self.progress.position
            path = folder / "last.pt" if position else epoch_path(folder, self.progress.epoch)
            save_checkpoint(path, checkpoint)
            if not position:
                update_link(folder / "last.pt", path)
            if better:
                update_link(folder / "best.pt", path)
            if self.options.keep_checkpoints:
                prune_checkpoints(folder, self.options.keep_checkpoints)
        self.processes.wait()

    def _checkpoint_to_resume(self) -> Checkpoint | None:
        """`--resume auto` takes the run's last checkpoint, if there is one."""
        wanted = self.options.resume
        path = self.folder / "checkpoints" / "last.pt" if wanted == "auto" else Path(wanted)
        if wanted == "never" or (wanted == "auto" and not path.exists()):
            return None
        return to_resume(path)

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, on today's number of processes."""
        state = checkpoint.training
        load_weights(self.method, checkpoint.weights)
        resume_optimizer(self.optimizer, state["optimizer"])
        self.best = saved_best(state)
        self.earlier_data = state.get("training_data") or []
        samples = state["position"] * checkpoint.options["batch_size"] * state["world"]
        position = samples // (self.options.batch_size * self.processes.world)
        self.progress = Progress(state["epoch"], state["step"], position)
        if len(state["rng"]) == self.processes.world:
            restore_random_state(state["rng"][self.processes.rank])

    def _start_from(self, path: str) -> None:
        """Fine-tune: weights, and the optimiser's moments if a published folder has them."""
        checkpoint = load_checkpoint(path)
        self.earlier_data = (checkpoint.training or {}).get("training_data") or []
        names = self.options.models_to_load
        report = load_weights(self.method, checkpoint.weights, models=names, source=path)
        states = (checkpoint.training or {}).get("optimizer_by_name") or {}
        states = {key: state for key, state in states.items() if not names or key.split(".")[0] in names}
        if states:
            report += "; " + load_optimizer(self.optimizer, self.method, states)
        if self.processes.first:
            print(f"{path} ({checkpoint.layout}): {report}")

    # Logs.

    def _log_step(self, numbers: dict[str, float], waited: float, worked: float) -> None:
        samples = self.options.batch_size * self.processes.world
        self.log.step(self.progress.step, self.progress.epoch, numbers, samples, waited, worked)

    @torch.no_grad()
    def _log_images(self, batch: Batch, prediction: Any) -> None:
        if self.processes.first:
            with self._noise_kept():
                self.log.images(self.progress.step, self.model.log_images(batch, prediction))
                self.log.clouds(self.progress.step, self.model.log_clouds(batch, prediction))
                for sentence in self.model.diagnose(batch, prediction):
                    self.log.say(sentence)

    def _greeting(self) -> str:
        world, step = self.processes.world, self.progress.step
        processes = f", {world} processes" if world > 1 else ""
        begin = f"continues after step {step} of" if step else "has"
        return (
            f"{self.folder} {begin} {self.last_step} steps: {len(self.train_set)} samples, "
            f"{self.schedule.steps_per_epoch} steps an epoch, on {self.device}{processes}"
        )

    def _farewell(self, first: int) -> str:
        step = self.progress.step
        if not self.finished:
            return f"stopped after step {step}, everything saved; --resume auto continues from there"
        if step == first:
            more = "num_epochs" if self.progress.epoch >= self.options.num_epochs else "max_steps"
            return f"{self.folder} has had all its {step} steps; a larger --{more} adds more"
        best = "" if self.best is None else f", best {self.best.metric} {self.best.value:.4f}"
        return f"trained {step} steps{best}; the run is in {self.folder}"

    def _on_sigterm(self, *_: Any) -> None:
        self._stop_requested = True  # the current step is finished first

    def _stopping(self) -> bool:
        return self.processes.any(self._stop_requested)


def build_optimizer(
    groups: list[dict[str, Any]], options: argparse.Namespace, device: torch.device
) -> torch.optim.Optimizer:
    """The named optimiser, else AdamW with a weight decay and Adam without."""
    shared = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
    shared["fused"] = device.type == "cuda" or None
    name = options.optimizer or ("adamw" if options.weight_decay else "adam")
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=options.momentum, **shared)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(groups, betas=(options.beta1, options.beta2), **shared)


def resume_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the moments of an optimiser; its settings and its device stay those of today.

    Raises:
        InputError: the moments belong to another kind of optimiser.
    """
    chosen = [
        {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]
    groups = state["param_groups"]
    if ("momentum" in groups[0]) != ("momentum" in chosen[0]):
        was, wanted = ("sgd", "adam") if "momentum" in groups[0] else ("adam", "sgd")
        raise InputError(
            f"the run was trained with {was}, whose state is of no use to {wanted}: resume without "
            "--optimizer, or start another run with --load_weights_folder"
        )
    groups = [{**group, **own} for group, own in zip(groups, chosen)]
    optimizer.load_state_dict({**state, "param_groups": groups})


def to_resume(path: str | Path) -> Checkpoint:
    """The last checkpoint of a run, or one of its files, with the state of the training.

    Raises:
        InputError: it has none, or it is not one of ours.
    """
    checkpoint = load_checkpoint(path, which="last")
    if "optimizer" not in (checkpoint.training or {}):
        held = "weights only" if checkpoint.layout == "parallax" else f"a checkpoint of {checkpoint.layout}"
        raise InputError(f"{path} holds {held} and cannot be resumed; --load_weights_folder starts from it")
    return checkpoint


def _copy(values: list[torch.Tensor], into: list[torch.Tensor]) -> None:
    """Copy tensors at once; there may be none."""
    if values:
        torch._foreach_copy_(into, values)
