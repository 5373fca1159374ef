"""Our own files: an epoch of a run, its links `last` and `best`, and a release."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch

from checkpoints._record import Checkpoint, Layout, split_state_dict
from checkpoints._writing import storable, write, writing
from utils import InputError

FORMAT = 1  # of our files; raised when an older Parallax could not read them


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write our file. It takes its place only once complete, so an earlier `path` survives a full disk.

    Raises:
        InputError: it could not be written, and why.
        TypeError: `options` or `training` hold something that could not be read back safely; it is named.
    """
    content = {
        "parallax": FORMAT,
        "weights": checkpoint.weights,
        "options": checkpoint.options,
        "training": checkpoint.training,
    }
    write(path, {name: storable(value, name) for name, value in content.items()})


def export_weights(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a release: `.safetensors`, with the options and the training lists as JSON in its metadata.

    Options that name a place on this machine (absolute paths) stay out of it.
    """
    metadata = {"parallax": str(FORMAT), "options": json.dumps(_without_paths(checkpoint.options))}
    if lists := (checkpoint.training or {}).get("training_data"):
        metadata["training_data"] = json.dumps(lists)
    weights = {key: value.detach().cpu().clone().contiguous() for key, value in checkpoint.weights.items()}
    with writing(path) as temporary:
        safetensors.torch.save_file(weights, temporary, metadata)


def update_link(link: str | Path, target: str | Path) -> None:
    """Let `link` (last.pt, best.pt) be the file `target` from one moment to the next.

    A hard link, so that it costs nothing and outlives `target`; a copy where the file system has no links.
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


def prune_checkpoints(folder: str | Path, keep: int) -> None:
    """Remove all but the `keep` newest epoch files; last.pt and best.pt stay whatever they link to."""
    files = _epoch_files(Path(folder))
    for path in files[: max(0, len(files) - keep)]:
        path.unlink(missing_ok=True)


def _epoch_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch_*.pt"), key=lambda path: (len(path.name), path.name))


def file_of_run(path: Path, which: str) -> Path | None:
    """The file to read of a run folder or its `checkpoints`; None where `path` is neither."""
    if which not in ("best", "last"):
        raise InputError(f"which checkpoint of a run is 'best' or 'last', got '{which}'")
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    names = ["best.pt", "last.pt"] if which == "best" else ["last.pt"]
    # A run killed before its first link was made has an epoch file alone.
    candidates = [folder / name for name in names] + _epoch_files(folder)[-1:]
    found = [candidate for candidate in candidates if candidate.is_file()]
    if not found and (folder != path or (path / "options.yaml").is_file()):
        raise InputError(
            f"the run {path} has not saved a checkpoint yet: no {' or '.join(names)} in {folder}"
        )
    return found[0] if found else None


def _is_ours(content: Mapping[str, Any]) -> bool:
    return "parallax" in content


def _read_ours(content: Mapping[str, Any], path: Path) -> Checkpoint:
    if content["parallax"] != FORMAT:
        raise InputError(
            f"{path} is of checkpoint format {content['parallax']}, this Parallax reads format {FORMAT}; "
            "load it with the version that wrote it"
        )
    weights, _ = split_state_dict(content.get("weights"), path)
    return Checkpoint(weights, content.get("options") or {}, training=content.get("training"))


PARALLAX = Layout("parallax", "a run folder, or our .pt or .safetensors file", _is_ours, _read_ours)


def _without_paths(value: Any) -> Any:
    """The same options without those that are absolute paths."""
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items() if not _is_path(item)}
    if isinstance(value, (list, tuple)):
        return [_without_paths(item) for item in value if not _is_path(item)]
    return value


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and (os.path.isabs(value) or value.startswith("~"))
