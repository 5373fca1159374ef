"""Train, resume, evaluate. One command on a CPU, a GPU, or under torchrun.

python run.py --config configs/monodepth2_kitti_m_640x192.yaml --data_path kitti_raw
torchrun --nproc_per_node 4 run.py --config ... --resume auto
python run.py --config ... --eval_only
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components import components, first_sentence
from options import OPTIONS, SECTIONS, effective, parse, read_config
from options.command_line import read_command_line
from utils import PROJECT, InputError, run_main, to_yaml


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; `--help` lists the options."""
    words = sys.argv[1:] if arguments is None else arguments
    typed = read_command_line(words)
    saved: dict[str, Any] = {}
    if "model_name" in typed and typed.get("resume", "never") != "never":
        folder = Path(typed.get("log_dir", "runs")).expanduser() / typed["model_name"]
        saved = saved_options(typed["resume"], folder)  # settings that are typed belong to its dataset
    options = parse(words, saved=saved)
    if options.list:
        return print_components()
    # Help, the list and mistakes are answered by now; from here on torch is needed.
    import torch.distributed as dist

    from trainer import Trainer

    folder = Path(options.log_dir).expanduser() / options.model_name
    if options.eval_only:
        return evaluate_only(words, options, folder)
    if saved := saved or saved_options(options.resume, folder):
        name = options.model_name
        options = parse(words, saved=saved)
        if options.resume == "auto":  # also where the folder was moved or renamed
            options.log_dir, options.model_name = str(folder.parent), name
        folder = Path(options.log_dir).expanduser() / options.model_name
    if options.resume == "never" and not options.dry_run and (folder / "checkpoints").exists():
        raise InputError(
            f"{folder} holds a run already; --resume auto continues it, --model_name starts another"
        )
    try:
        trainer = Trainer(options, effective(options))
        if options.dry_run:
            return print_plan(trainer, options)
        trainer.train()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def saved_options(resume: str, folder: Path) -> dict[str, Any]:
    """The options of the run that `--resume` continues; empty for a new one."""
    if resume == "auto" and (folder / "options.yaml").exists():
        return read_config(folder / "options.yaml")
    if resume in ("auto", "never"):
        return {}
    from trainer import to_resume

    return to_resume(resume).options


def evaluate_only(words: Sequence[str], options: argparse.Namespace, folder: Path) -> None:
    """`--eval_only`: evaluate the run's best checkpoint, or `--load_weights_folder`, with its options.

    A split, height or width on the command line overrides that of the checkpoint.

    Raises:
        InputError: there is no such run, or a setting of the dataset would be without effect.
    """
    from checkpoints import load_checkpoint
    from evaluate_depth import main as evaluate

    flags = ("--load_weights_folder", "--pretrained_path")  # of one option
    typed = any(str(word).startswith(flags) for word in words)
    # What a config names is where its run started from, not what came of it.
    source = os.path.expanduser(options.load_weights_folder) if typed else str(folder)
    if not Path(source).exists():
        raise InputError(f"there is no run {source} to evaluate; name one with --model_name and --log_dir")
    trained = load_checkpoint(source).options
    saved = {key: value for key, value in trained.items() if key in OPTIONS or key in SECTIONS}
    options, own = parse(words, saved=saved), parse([], saved=saved)
    other = [key for key in options.dataset if options.dataset[key] != own.dataset.get(key) and key != "name"]
    if other:
        raise InputError(
            "--eval_only evaluates with the dataset's settings of the training, so --dataset."
            f"{other[0]} would be without effect; leave it out, or see evaluate_depth.py --help"
        )
    asked = {"eval_split": options.split, "height": options.height, "width": options.width}
    trained_with = {"eval_split": own.split, "height": own.height, "width": own.width}
    evaluate(
        [
            *(("--load_weights_folder", source) if Path(source).is_dir() else ("--pretrained_path", source)),
            *("--data_path", options.data_path, "--dataset", options.dataset["name"]),
            *("--batch_size", str(options.batch_size), "--num_workers", str(options.num_workers)),
            *("--device", options.device),
            *(("--skip_missing",) if options.skip_missing else ()),
            *(f"--{name}={value}" for name, value in asked.items() if value != trained_with[name]),
        ]
    )


def print_plan(trainer: Any, options: argparse.Namespace) -> None:
    """`--dry_run`: print the options and sizes of the run, after one sample has passed through it."""
    terms = trainer.rehearse()
    if not trainer.processes.first:
        return
    parameters = sum(parameter.numel() for parameter in trainer.parameters)
    ground_truth = "ground truth" if trainer.validation.has_ground_truth else "the loss"
    print(to_yaml(effective(options)))
    samples = len(trainer.train_set)
    print(
        f"{samples} training samples, {trainer.schedule.steps_per_epoch} steps an epoch on {trainer.device}"
    )
    print(f"{len(trainer.validation.indices)} validation samples, evaluated by {ground_truth}")
    print(f"the first sample's loss: {', '.join(f'{name} {term:.4g}' for name, term in terms.items())}")
    print(f"{parameters / 1e6:.1f} million parameters; {trainer.last_step} steps in all; nothing was trained")


def print_components() -> None:
    """`--list`: every name that an option can take, with one line of description."""
    kinds = {package: components(package) for package in ("methods", "networks", "losses", "datasets")}
    groups = {kind: {name: found.summary for name, found in known.items()} for kind, known in kinds.items()}
    groups["networks"]["..."] = "every timm model by its name"
    splits = sorted(path for path in (PROJECT / "splits").glob("*/*") if path.is_dir())
    groups["splits"] = {
        f"{path.parent.name}/{path.name}": "lists: "
        + ", ".join(sorted(part.stem for part in path.glob("*.txt")))
        for path in splits
    }
    configs = sorted((PROJECT / "configs").glob("*.yaml"))
    groups["configs"] = {f"configs/{path.name}": _first_comment(path) for path in configs}
    for kind, names in groups.items():
        width = max(map(len, names))
        print(f"{kind}:")
        for name, summary in names.items():
            print(f"  {name:{width}}  {summary}")


def _first_comment(config: Path) -> str:
    """The first sentence of the comment on top of a config."""
    lines = config.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return first_sentence("\n".join(line.removeprefix("#").strip() for line in comment))


if __name__ == "__main__":
    run_main(main)
