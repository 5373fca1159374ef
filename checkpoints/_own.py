"""Our own files: the epochs of a run, their links `last` and `best`, and a release."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from checkpoints._checksum import checksum
from checkpoints._reading import read_file
from checkpoints._record import Checkpoint, Layout, split_state_dict
from checkpoints._writing import storable, write, writing
from utils import InputError

FORMAT = 1  # version of our files; raised when an older Parallax could not read them


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write our file. It replaces an earlier `path` only when complete, so that one survives a full disk.

    The file carries the checksum of its content, which `load_checkpoint` verifies.

    Raises:
        InputError: the file could not be written; the reason is named.
        TypeError: `options` or `training` hold a value that could not be read back safely; it is named.
    """
    content = {
        "parallax": FORMAT,
        "weights": checkpoint.weights,
        "options": checkpoint.options,
        "training": checkpoint.training,
    }
    content = {name: storable(value, name) for name, value in content.items()}
    write(path, {**content, "checksum": checksum(content)})


def export_weights(path: str | Path, checkpoint: Checkpoint, half: bool = False) -> None:
    """Write a release: `.safetensors`, with the options and the training lists as JSON in its metadata.

    Options that are absolute paths on this machine or addresses are left out. With `half`, weights are
    float16, which halves the file; they are read into float32 networks.
    """
    weights = {key: value.detach().cpu().clone().contiguous() for key, value in checkpoint.weights.items()}
    if half:
        weights = {
            key: value.half() if value.is_floating_point() else value for key, value in weights.items()
        }
    options = json.loads(json.dumps(_without_paths(checkpoint.options)))  # tuples become lists, as when read
    content = {"parallax": FORMAT, "weights": dict(sorted(weights.items())), "options": options}
    lists = (checkpoint.training or {}).get("training_data")
    if lists:
        content["training"] = {"training_data": lists}
    metadata = {
        "parallax": str(FORMAT),
        "options": json.dumps(options),
        "checksum": checksum(content),
        **({"training_data": json.dumps(lists)} if lists else {}),
    }
    with writing(path) as temporary:
        safetensors.torch.save_file(weights, temporary, metadata)


def update_link(link: str | Path, target: str | Path) -> None:
    """Let `link` (last.pt, best.pt) be the file `target`, by an atomic replacement.

    It is a hard link, which costs nothing and outlives `target`, or a copy if the file system has no links.
    """
    link, target = Path(link), Path(target)
    with tempfile.TemporaryDirectory(dir=link.parent, prefix=f".{link.name}.") as folder:
        try:
            os.link(target, Path(folder) / link.name)
            os.replace(Path(folder) / link.name, link)
        except OSError:
            with writing(link) as temporary:
                shutil.copyfile(target, temporary)


def epoch_path(folder: str | Path, epoch: int) -> Path:
    """The file of one epoch in a run's `checkpoints` folder."""
    return Path(folder) / f"epoch_{epoch:04d}.pt"


def prune_checkpoints(
    folder: str | Path,
    keep: int,
    keep_best: int = 0,
    cost: Callable[[Mapping[str, Any]], float | None] = lambda training: None,
) -> None:
    """Remove epoch files except the newest and the best; last.pt and best.pt keep their content.

    The files themselves say how good they are, so a run that was killed or resumed prunes as another one.

    Args:
        folder: a run's `checkpoints`.
        keep: number of the newest files that stay.
        keep_best: number of files with the lowest cost that stay too; of equal ones the earlier.
        cost: reads the training record of a file; None for a file that cannot be compared.
    """
    files = epoch_files(Path(folder))
    older = files[: max(0, len(files) - keep)]
    best: list[Path] = []
    if older and keep_best:
        costs = {path: _cost(path, cost) for path in files}
        known = [path for path in files if costs[path] is not None]
        best = sorted(known, key=lambda path: costs[path])[:keep_best]
    for path in older:
        if path not in best:
            path.unlink(missing_ok=True)


def _cost(path: Path, cost: Callable[[Mapping[str, Any]], float | None]) -> float | None:
    """The cost of a file; None if it is damaged."""
    try:
        return cost(peek(path))
    except InputError:
        return None


def epoch_files(folder: Path) -> list[Path]:
    """The files of epochs in a run's `checkpoints` folder, the latest epoch last."""
    return sorted(folder.glob("epoch_*.pt"), key=lambda path: (len(path.name), path.name))


def peek(path: Path) -> dict[str, Any]:
    """The training record of our file, without reading its tensors; empty if it has none."""
    content = read_file(path, mmap=True)
    return (content.get("training") or {}) if isinstance(content, Mapping) else {}


def records_best(training: Mapping[str, Any], best: Any = None) -> bool:
    """True for the record of the best checkpoint: marked as best, and its own metric is the best value.

    Args:
        training: the record.
        best: the best so far, by a later record; if it is not given, by this one.
    """
    if not training.get("is_best"):
        return False
    best, metrics = best or training.get("best"), training.get("metrics") or {}
    return isinstance(best, Mapping) and metrics.get(best.get("metric"), math.nan) == best.get("value")


def last_file(folder: Path) -> Path | None:
    """The newest checkpoint in a run's `checkpoints` folder; None if there is none.

    That is last.pt, unless it is missing or a process was killed after it wrote an epoch's file and before it
    linked last.pt to it.
    """
    last, files = folder / "last.pt", epoch_files(folder)
    if not last.exists():
        return files[-1] if files else None
    newest = max(files, key=lambda path: path.stat().st_mtime_ns, default=last)
    if newest.samefile(last) or newest.stat().st_mtime_ns < last.stat().st_mtime_ns:
        return last
    steps = [peek(path).get("step", -1) for path in (newest, last)]
    # Of the same step, the file of the epoch is the one that has been validated.
    return newest if steps[0] >= steps[1] else last


def best_file(folder: Path) -> Path | None:
    """The best checkpoint in a run's `checkpoints` folder; None if there is none.

    That is best.pt, unless the newest checkpoint records that it is the best: a process can be killed before
    it links best.pt to the file it has just written.
    """
    best, newest = folder / "best.pt", last_file(folder)
    if newest is None or not best.exists():
        return best if best.exists() else newest
    return best if best.samefile(newest) or not records_best(peek(newest)) else newest


def file_of_run(path: Path, which: str) -> Path | None:
    """The file to read in a run folder or its `checkpoints`; None if `path` is neither."""
    if which not in ("best", "last"):
        raise InputError(f"which checkpoint of a run is 'best' or 'last', got '{which}'")
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    found = best_file(folder) if which == "best" else last_file(folder)
    if found is None and (folder != path or (path / "options.yaml").is_file()):
        names = "best.pt or last.pt" if which == "best" else "last.pt"
        raise InputError(f"the run {path} has not saved a checkpoint yet: no {names} in {folder}")
    return found


def _is_ours(content: Mapping[str, Any]) -> bool:
    return "parallax" in content


def _read_ours(content: Mapping[str, Any], path: Path) -> Checkpoint:
    if content["parallax"] != FORMAT:
        raise InputError(
            f"{path} has checkpoint format {content['parallax']}, this Parallax reads format {FORMAT}; "
            "load it with the version that wrote it"
        )
    verify(content, path)
    weights, _ = split_state_dict(content.get("weights"), path)
    return Checkpoint(weights, content.get("options") or {}, training=content.get("training"))


def verify(content: Mapping[str, Any], path: Path) -> None:
    """Compare the content with the checksum that was written with it; files before version 0.3 have none.

    Raises:
        InputError: they differ.
    """
    held = {key: value for key, value in content.items() if key != "checksum"}
    if "checksum" in content and checksum(held) != content["checksum"]:
        raise InputError(
            f"{path} is damaged: its content does not match the checksum that was written with it; copy it "
            "again, or use another checkpoint of the run"
        )


PARALLAX = Layout("parallax", "a run folder, or our .pt or .safetensors file", _is_ours, _read_ours)


def _without_paths(value: Any) -> Any:
    """The options without absolute paths and addresses."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items() if not _is_path(item)}
    if isinstance(value, (list, tuple)):
        return [_without_paths(item) for item in value if not _is_path(item)]
    return value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and (os.path.isabs(value) or value.startswith("~") or "://" in value)
