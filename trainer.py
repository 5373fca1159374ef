"""The Trainer: epochs, steps, checkpoints and logs, for any method.

A run can be stopped at any step and continues to the same bits: the order of the samples and their
augmentation are functions of (seed, epoch, sample), and the checkpoint holds the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import kernels
from checkpoints import Checkpoint, RunFolder, load_weights, random_state, restore_random_state
from datasets import open_dataset
from datasets.frame_lists import innermost, training_list
from datasets.loading import EpochBatches
from datasets.opening import build_augmentation
from devices import seed_everything
from methods import check_needs
from methods.metric_scale import metric_scale
from processes import Processes, start_processes
from schedule import Progress, Schedule
from structures import Batch
from training.averaging import WeightAverage
from training.cameras import with_cameras, with_record
from training.computing import apply_form, choose_form, prepare
from training.distributing import distribute
from training.finite import FiniteSteps
from training.fixed_images import fixed_images
from training.loading import build_loader, iterate, load
from training.optimizers import build_optimizer, resume_optimizer
from training.reporting import farewell, greeting, saved
from training.resuming import check_agreement, checkpoint_to_resume, progress_of, start_from
from training.stopping import StopRequest, as_sentence
from training.writing import written
from utils import InputError
from validation import Best, Validation, saved_best
from views import with_views


class Trainer:
    """Builds everything an options namespace names, and trains it.

    Args:
        options: from `options.parse`.
        settings: the options that the run folder keeps, `options.effective`.

    Attributes:
        method: networks and losses; its `state_dict` is the checkpoint's.
        model: the module that a step runs: the method, or its wrapper with augmented views.
        network: `model`, or its DistributedDataParallel.
        form: a sentence about number format and memory layout of the networks.

    Raises:
        InputError: anything that would not have survived the first epoch.
    """

    def __init__(self, options: argparse.Namespace, settings: dict[str, Any]) -> None:
        self.options, self.settings = options, settings
        self.folder = Path(options.log_dir).expanduser() / options.model_name
        self.device = start_processes(options.device)
        self.processes = Processes(self.device)
        self.run_folder = RunFolder(self.folder)
        if self.processes.first and not options.dry_run:
            self.run_folder.check()
        seed_everything(options.seed)
        if options.deterministic:
            torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = not options.deterministic
        kernels.allow(options.kernels != "off")

        self.progress = Progress()
        self.best: Best | None = None
        self._trouble: InputError | None = None  # ends the run once the state is saved
        self._restored: dict[str, float] = {}  # metrics of the checkpoint that the run continues from
        self.stop = StopRequest(self.processes.first)
        self.accumulate = getattr(options, "accumulate", 1)  # batches of one step
        self._build_data()
        self._build_method()
        decay = getattr(options, "ema", None)
        self.average = WeightAverage(self.method, decay) if decay else None
        self.validation = Validation(
            options, self.processes, metric_scale(self.method, settings), self.method.tasks
        )
        # Ranks share weights and data order, and draw different noise.
        torch.manual_seed(options.seed + 1000 * self.processes.rank)
        if checkpoint := checkpoint_to_resume(options.resume, self.run_folder, self.processes.first):
            self._resume(checkpoint)
        elif path := options.load_weights_folder:
            report = start_from(path, options.models_to_load, self.method, self.optimizer)
            if self.processes.first:
                print(report)
            if self.average:
                self.average.load(self.method.state_dict())
        check_agreement(self.processes, self.progress, self.folder, len(self.train_set))
        self._saved_step = self.progress.step
        self.network = distribute(self.model, self.processes)

    # Building.

    def _build_data(self) -> None:
        options, processes = self.options, self.processes
        self.train_set = open_dataset(vars(options), "train")
        self.augment = build_augmentation(vars(options))
        steps = options.steps_per_epoch
        if steps is None:
            steps = len(self.train_set) // (options.batch_size * processes.world * self.accumulate)
        self.batches = EpochBatches(
            len(self.train_set),
            options.batch_size,
            seed=options.seed,
            rank=processes.rank,
            world=processes.world,
            steps_per_epoch=steps * self.accumulate or None,
            replacement=options.sample_with_replacement,
        )
        if not steps:
            raise InputError(
                f"--accumulate {self.accumulate} needs that many batches in each step, and an epoch has "
                f"{len(self.batches)}; lower it or --batch_size"
            )
        chosen = {name: getattr(options, name) for name in Schedule.__dataclass_fields__ if name in options}
        self.schedule = Schedule(**{**chosen, "steps_per_epoch": steps})

    def _build_method(self) -> None:
        options = self.options
        self.method = prepare(with_cameras(vars(options), self.train_set), options, self.device)
        self.model = with_views(self.method, options.views, options.losses)
        innermost(self.train_set).detail = getattr(self.model, "detail", 1)
        provides = getattr(getattr(self.train_set, "dataset", self.train_set), "provides", {})
        sample = self.train_set[0]
        check_needs(self.method.needed_entries(), sample, provides)
        form = choose_form(self.model, options, self.augment(sample.to(self.device), epoch=0), self.device)
        form, self.form = self.processes.gather(form)[0]  # that of the first process, for all
        apply_form(self.method, form)
        if options.compile:
            for child in self.method.children():
                child.compile()
        groups = [
            {**group, "lr_factor": group.get("lr_factor", 1.0)} for group in self.method.parameter_groups()
        ]
        self.optimizer = build_optimizer(groups, options, self.device)
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.finite = FiniteSteps(self.method, self.optimizer, self.processes, self.folder)
        cuda, skip = self.device.type == "cuda", options.skip_missing
        self.loader = build_loader(
            self.train_set, self.batches, sample, options.num_workers, pinned=cuda, skip=skip
        )

    # Training.

    @torch.no_grad()
    def rehearse(self) -> dict[str, float]:
        """The loss terms of the first sample: one forward pass without learning, so that faults show now."""
        self.model.train()
        batch = self.augment(self.method.with_camera(self.train_set[0].to(self.device)), epoch=0)
        return {name: float(term) for name, term in self.model.losses(batch, self.model(batch)).items()}

    def train(self) -> None:
        """Train to the last step; return early after SIGTERM or Ctrl-C, with the state saved.

        Raises:
            InputError: the data, a disk or the machine stops the run; the state is saved if it can be.
        """
        first = self.progress.step
        with self._writing(), self.stop:
            samples = len(self.train_set)
            self._say(greeting(self.folder, self.progress, self.schedule, samples, self.processes))
            self._say(self.form)
            while not (self.finished or self._stopping()):
                self._train_epoch()
            if trouble := self.processes.first_error(self._trouble):
                raise InputError(f"{trouble}{saved(self.progress)}")
            self._say(farewell(self.folder, self.progress, self.schedule, self.best, first))
        self.processes.wait()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """The run folder is this run's, and its log is open."""
        begin = self.last_step, self.progress.step
        run = self.run_folder, self.options, self.settings, begin, self.processes
        with written(*run, lambda: self.finished and not self._trouble) as self.log:
            if self._restored and not self.run_folder.has_validation(self.progress.step):
                self._log_validation(self._restored)  # the process was killed before it could
            yield

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
        for batches, waited in self._batches():
            started = time.perf_counter()
            batch, prediction = self.step(batches)
            progress.step += 1
            progress.position += 1
            samples = self.options.batch_size * self.processes.world * len(batches)
            self.log.time(samples, waited, time.perf_counter() - started)
            self._log_steps()
            if progress.step % self.options.log_frequency == 0 or progress.step == 1:
                self._log_images(batch, prediction)
            if progress.step >= self.last_step:
                break
        self._log_steps(all=True)
        self._log(self.log.flush)
        if self._stopping():
            if progress.step != self._saved_step:
                self._save()
            return
        ended = progress.position >= per_epoch
        due = (progress.epoch + ended) % self.options.save_frequency == 0 or progress.step >= self.last_step
        if ended:
            statistics = self.processes.gather(self.method.epoch_statistics())
            for sentence in self.method.on_epoch_end(progress.epoch, statistics):
                self._say(sentence)
        if due:
            self._save()  # validation may take longer than a stopped run is given
        if ended:
            progress.epoch, progress.position = progress.epoch + 1, 0
        if due:
            self._validate_and_save()

    def _batches(self) -> Iterator[tuple[list[Batch], float]]:
        """The batches of each step that is left of this epoch, with the seconds spent waiting for them.

        Ends early if any process must stop, so that all of them stop after the same step.
        """
        self.batches.go_to(self.progress.epoch, self.progress.position * self.accumulate)
        loader = iterate(self.loader)
        for _ in range(self.progress.position, self.schedule.steps_per_epoch):
            started = time.perf_counter()
            batches, trouble = load(loader, self.accumulate)
            self._trouble = self._trouble or trouble
            if self._stopping():
                return
            yield batches, time.perf_counter() - started

    def step(self, batches: list[Batch]) -> tuple[Batch, Any]:
        """One update from the mean gradient of some batches; an update that is not finite is left out."""
        rate = self.schedule.rate(self.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        self.finite.begin()
        self.optimizer.zero_grad(set_to_none=True)
        seen, values = [], []
        for number, batch in enumerate(batches, 1):
            batch = self.augment(self.method.with_camera(batch.to(self.device)), self.progress.epoch)
            with self._synchronised(number == len(batches)):
                prediction = self.network(batch)
                terms = self.model.losses(batch, prediction)
                total = torch.stack(list(terms.values())).sum()
                (total / len(batches)).backward()
            seen.append(batch)
            values.append(torch.stack([total.detach(), *(term.detach() for term in terms.values())]))
        norm = nn.utils.clip_grad_norm_(self.parameters, self.options.clip_grad_norm or math.inf)
        numbers = torch.cat([torch.stack(values).mean(0), norm.detach()[None]])
        step = self.progress.step + 1
        self.finite.finish(step, ["loss", *terms, "grad_norm"], numbers, seen, rate)
        if self.average:
            self.average.update(step)
        return batch, prediction

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager:
        """Gradients of several processes are summed once, in the last batch of a step."""
        return contextlib.nullcontext() if last or self.processes.world == 1 else self.network.no_sync()

    # Validation and checkpoints.

    def _validate_and_save(self) -> None:
        """Validate, and keep `last`, and `best` if it is the best so far."""
        metrics = self.validate()
        better = self.validation.better(metrics, self.best)
        self.best = better or self.best
        self._save(better is not None, metrics)
        self._log_validation(metrics, better.metric if better else None)
        self._log_fixed_images()
        if self.validation.verdict:
            self._say(self.validation.verdict)

    def validate(self) -> dict[str, float]:
        """Depth errors if the validation set has ground truth, else the loss on held-out samples."""
        with self._noise_kept(), self._averaged():
            return self.validation.measure(self.model, self.method, self.train_set)

    def _averaged(self) -> contextlib.AbstractContextManager:
        """A block in which the method has the averaged weights, if there are some."""
        return self.average.applied() if self.average else contextlib.nullcontext()

    def _noise_kept(self) -> contextlib.AbstractContextManager:
        """A block that may draw random numbers without changing those of the training."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def _save(self, better: bool = False, metrics: dict[str, float] | None = None) -> None:
        """Write the state: at the end of an epoch as the epoch's file, which `last` links to."""
        states = self.processes.gather(random_state())
        error = None
        if self.processes.first:
            training = {
                "optimizer": self.optimizer.state_dict(),
                **dataclasses.asdict(self.progress),
                "best": dataclasses.asdict(self.best) if self.best else None,
                "metrics": metrics or {},
                "is_best": better,
                "rng": states,
                "versions": {"torch": str(torch.__version__), "python": sys.version.split()[0]},
                "world": self.processes.world,
                "training_data": training_list(self.train_set, self.method),
            }
            weights = self.method.state_dict()
            if self.average:  # what is evaluated are the averages; training goes on with the weights
                training["weights"], weights = weights, self.average.state_dict()
            settings = with_record(self.settings, self.train_set, self.method)
            checkpoint = Checkpoint(weights, settings, training=training)
            try:
                keep = self.options.keep_checkpoints, self.options.keep_best
                self.run_folder.save(checkpoint, better, *keep, self.validation.cost)
            except (OSError, InputError) as caught:
                error = as_sentence(caught, self.folder)
        if error := self.processes.first_error(error):
            raise InputError(f"{self._trouble}; {error}") if self._trouble else error
        self._saved_step = self.progress.step

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, on today's number of processes."""
        state = checkpoint.training
        load_weights(self.method, state.get("weights", checkpoint.weights))
        if self.average:
            self.average.load(checkpoint.weights)
        resume_optimizer(self.optimizer, state["optimizer"])
        self.best = saved_best(state)
        self.method.training_data = state.get("training_data")
        if self.options.resume == "auto":
            self._restored = state.get("metrics") or {}
            if not self.run_folder.has_best():  # the folder was copied without it
                self.best = None
        per_step = self.options.batch_size * self.processes.world * self.accumulate
        self.progress = progress_of(checkpoint, per_step)
        if len(state["rng"]) == self.processes.world:
            restore_random_state(state["rng"][self.processes.rank])

    # Logs.

    def _log(self, write: Callable[..., None], *arguments: Any) -> None:
        """Write to the log; a failure ends the run once the state is saved."""
        try:
            write(*arguments)
        except (OSError, InputError) as error:
            self._trouble = self._trouble or as_sentence(error, self.folder)

    def _say(self, sentence: str) -> None:
        self._log(self.log.say, sentence)

    def _log_steps(self, all: bool = False) -> None:
        """Log the steps whose numbers have reached the host; all that were taken if `all`."""
        for numbers, values, sentence in self.finite.read(all):
            if sentence:
                self._say(sentence)
            values["learning_rate"] = numbers.learning_rate
            self._log(self.log.step, numbers.step, self.progress.epoch, values)

    def _log_validation(self, metrics: dict[str, float], best: str | None = None) -> None:
        epochs = self.progress.epoch + self.progress.position / self.schedule.steps_per_epoch
        self._log(self.log.validation, self.progress.step, epochs, metrics, best)

    @torch.no_grad()
    def _log_images(self, batch: Batch, prediction: Any) -> None:
        if self.processes.first:
            with self._noise_kept():
                self._log(self.log.images, self.progress.step, self.model.log_images(batch, prediction))
                self._log(self.log.clouds, self.progress.step, self.model.log_clouds(batch, prediction))
                for sentence in self.method.diagnose(batch, prediction):
                    self._say(sentence)

    def _log_fixed_images(self) -> None:
        if self.processes.first:
            with self._noise_kept(), self._averaged():
                shown = fixed_images(self.validation, self.method, self.device)
            self._log(self.log.images, self.progress.step, shown, "val/")

    def _stopping(self) -> bool:
        return self.processes.any(self.stop.requested or self._trouble is not None)
