"""Where a run's numbers go: JSON lines, TensorBoard, Weights & Biases and trackio behind one interface.

    sink.scalars(step, {"loss": 0.1, "val/abs_rel": 0.12})   names without a slash are from training
    sink.images(step, {"target | disparity": array})         (H, W, 3) uint8 RGB
    sink.clouds(step, {"surround": (points, colours)})       (P, 3) metres and (P, 3) uint8 RGB
    sink.report(Path("runs/walk/report.html"))               a page about the run
    sink.close()

A sink shows what it can and ignores the rest: a JSON file holds no images. A run that is resumed from an
earlier step than it had reached logs these steps again, and each sink drops or covers the old values.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from files import explained, read_records
from utils import InputError, atomic_path

POINT_WIDTH = 1 / 200  # width of a point in TensorBoard, as a share of the largest coordinate
REPORT = "report.html"  # of a run folder, if somebody has made one
PROJECT_NAME = "parallax"  # the project that the services file runs under

Cloud = tuple[np.ndarray, np.ndarray]


class Sink:
    """Base class; every method may be left out."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers; `epoch` among them is a fact about the step."""

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        """Log (H, W, 3) uint8 RGB images."""

    def clouds(self, step: int, shown: Mapping[str, Cloud]) -> None:
        """Log coloured points in the vehicle's frame."""

    def report(self, page: Path) -> None:
        """Add a page about the run, one HTML file."""

    def close(self) -> None:
        """Write what is buffered."""


def open_sinks(folder: Path, settings: Mapping[str, Any], step: int) -> list[Sink]:
    """The sinks of a run: JSON lines, TensorBoard, and the services that its options name.

    Args:
        folder: the run folder.
        settings: the effective options of the run; the services store them with the numbers. `wandb` is
            "online", "offline" or None; `trackio` is True or False.
        step: the step that the run starts from; later ones that an earlier process logged are dropped.

    Raises:
        InputError: the package of a service is not installed, or the service does not start.
    """
    services = open_services(folder, settings)
    return [JsonLines(folder / "log.jsonl", step), TensorBoard(folder / "tensorboard", step), *services]


def open_services(folder: Path, settings: Mapping[str, Any]) -> list[Sink]:
    """The services that the options of a run name; arguments as in `open_sinks`."""
    sinks: list[Sink] = []
    if mode := settings.get("wandb"):
        sinks.append(Wandb(folder, settings, offline=mode == "offline"))
    if settings.get("trackio"):
        sinks.append(Trackio(folder, settings))
    return sinks


class JsonLines(Sink):
    """One JSON object per line, with its step and the time.

    Args:
        path: the file; lines of earlier processes are kept up to `step`.
        step: the step that the run starts from.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        _drop_later_steps(path, step)
        with explained(path):
            self._file = open(path, "a", buffering=1)  # noqa: SIM115 closed in close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with explained(self.path):
            self._file.write(json.dumps({"step": step, **values, "time": round(time.time(), 3)}) + "\n")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk was reported when the line was written
            self._file.close()


class TensorBoard(Sink):
    """TensorBoard's event files; numbers from training are shown under `train/`.

    Args:
        folder: where the event files go.
        step: the step that the run starts from; TensorBoard hides later ones of earlier processes.
    """

    def __init__(self, folder: Path, step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.folder = folder
        with explained(folder):
            self._board = SummaryWriter(folder, purge_step=step + 1)
        threading.excepthook = _without_writer(threading.excepthook)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        with explained(self.folder):
            for name, value in with_section(values).items():
                self._board.add_scalar(name, value, step)
            self._board.flush()  # a thread writes; its failure is known here and not two minutes later

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        with explained(self.folder):
            for name, image in shown.items():
                self._board.add_image(name, image, step, dataformats="HWC")
            self._board.flush()

    def clouds(self, step: int, shown: Mapping[str, Cloud]) -> None:
        """TensorBoard looks along -z with y up: forward, left, up become -z, -x, y, a view from behind.

        Its default point is half a centimetre wide; here the width follows the extent of the cloud.
        """
        import torch

        for name, (points, colours) in shown.items():
            forward, left, up = points.T
            turned = torch.from_numpy(np.stack([-left, up, -forward], -1))
            width = POINT_WIDTH * turned.abs().max().item()
            material = {"material": {"cls": "PointsMaterial", "size": width}}
            with explained(self.folder):
                self._board.add_mesh(
                    name, turned[None], torch.from_numpy(colours)[None], None, material, step
                )

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk was reported when the value was added
            self._board.close()


def _without_writer(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A `threading.excepthook` that leaves out TensorBoard's writer, whose errors `flush` raises."""

    def other_threads(arguments: Any) -> None:
        if not type(arguments.thread).__module__.startswith("tensorboard."):
            hook(arguments)

    return other_threads


class Wandb(Sink):
    """Weights & Biases. Its id is kept in the run folder, so that a resumed run continues the same curves.

    Offline, everything lies in `<run>/wandb`; `wandb sync <run>/wandb/offline-run-*` uploads it later.

    Args:
        folder: the run folder; its name is the run's name.
        settings: the effective options.
        offline: write files only.

    Raises:
        InputError: the package wandb is not installed, or it cannot start.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], offline: bool = False) -> None:
        self._package = _import("wandb")
        note = folder / "wandb_id.txt"
        known = note.read_text().strip() if note.is_file() else None
        try:
            self._run = self._package.init(
                project=PROJECT_NAME,
                name=folder.resolve().name,
                id=known,
                dir=str(folder),
                config=dict(settings),
                resume="allow",
                mode="offline" if offline else "online",
            )
        except self._package.errors.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"Weights & Biases does not start ({reason}); run `wandb login`, or give --wandb offline"
            ) from None
        if known is None:
            with atomic_path(note) as path:
                path.write_text(self._run.id)
        # Curves over our own step: wandb's counter only grows, and a resumed run goes back.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **with_section(values)})

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        self._run.log({"step": step, **{name: self._package.Image(image) for name, image in shown.items()}})

    def clouds(self, step: int, shown: Mapping[str, Cloud]) -> None:
        objects = {
            name: self._package.Object3D(np.concatenate([points, colours], 1))
            for name, (points, colours) in shown.items()
        }
        self._run.log({"step": step, **objects})

    def report(self, page: Path) -> None:
        """The page itself is uploaded and shown."""
        with open(page, encoding="utf-8") as file:
            self._run.log({"report": self._package.Html(file, inject=False)})

    def close(self) -> None:
        self._run.finish()


class Trackio(Sink):
    """trackio, a local dashboard by Hugging Face: scalars and images. `trackio show` opens it.

    Args:
        folder: the run folder; its name is the run's name.
        settings: the effective options.

    Raises:
        InputError: the package trackio is not installed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._package = _import("trackio")
        plain = json.loads(json.dumps(dict(settings), default=str))
        name = folder.resolve().name
        self._run = self._package.init(project=PROJECT_NAME, name=name, config=plain, resume="allow")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(with_section(values), step=step)

    def images(self, step: int, shown: Mapping[str, np.ndarray]) -> None:
        self._run.log({name: self._package.Image(image) for name, image in shown.items()}, step=step)

    def report(self, page: Path) -> None:
        """The path of the page, since the dashboard is of this machine and shows no HTML."""
        self._run.log({"report": self._package.Markdown(f"Report of this run: `{page.resolve()}`")})

    def close(self) -> None:
        self._run.finish()


def with_section(values: Mapping[str, float]) -> dict[str, float]:
    """Names grouped for dashboards: `loss` becomes `train/loss`, `val/abs_rel` stays, `epoch` is dropped."""
    return {name if "/" in name else f"train/{name}": v for name, v in values.items() if name != "epoch"}


def _import(package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(package)
    except ImportError:
        raise InputError(
            f"--{package} needs the package {package}, which is not installed: pip install {package}"
        ) from None


def _drop_later_steps(path: Path, step: int) -> None:
    """Remove the lines of steps after `step`, which the resumed run does again."""
    if not path.is_file():
        return
    steps = ((line, record.get("step")) for line, record in read_records(path))
    kept = [line for line, at in steps if isinstance(at, (int, float)) and at <= step]
    with explained(path), atomic_path(path) as temporary:
        temporary.write_text("".join(kept))
