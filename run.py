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
    from checkpoints import to_resume

    return to_resume(resume).options


def evaluate_only(words: Sequence[str], options: argparse.Namespace, folder: Path) -> None:
    """`--eval_only`: evaluate the run's best checkpoint, or `--load_weights_folder`, with its options.

    A split, size or dataset setting on the command line overrides that of the checkpoint.

    Raises:
        InputError: there is no such run, or a setting would do nothing.
    """
    from evaluation import Loading
    from evaluation.benchmarks import Files, evaluate_one
    from evaluation.choice import DatasetChoice, Model, ProtocolChoice
    from methods import load_method
    from processes import end_processes, start_processes

    flags = ("--load_weights_folder", "--pretrained_path")  # two names of one option
    typed = any(str(word).startswith(flags) for word in words)
    # The name in a config is that of the weights the run started from, not of its result.
    source = os.path.expanduser(options.load_weights_folder) if typed else str(folder)
    if not source.startswith("hf:") and not Path(source).exists():
        raise InputError(f"there is no run {source} to evaluate; name one with --model_name and --log_dir")
    device = start_processes(options.device)
    try:
        method, trained = load_method(source, device)
        saved = {key: value for key, value in trained.items() if key in OPTIONS or key in SECTIONS}
        options, own = parse(words, saved=saved), parse([], saved=saved)
        changed = {key: value for key, value in options.dataset.items() if value != own.dataset.get(key)}
        changed.pop("name", None)
        model = Model(method, {**trained, "height": options.height, "width": options.width}, source)
        split = options.split if options.split != own.split else None
        where = DatasetChoice(
            options.dataset["name"],
            options.data_path,
            split,
            gt_path=changed.pop("gt_path", None),
            ground_truth=changed.pop("ground_truth", None),
            skip_missing=options.skip_missing,
            settings=changed,
        )
        loading = Loading(options.batch_size, device, options.num_workers, progress=True)
        evaluate_one(model, where, ProtocolChoice(), Files(), loading)
    finally:
        end_processes()


def print_plan(trainer: Any, options: argparse.Namespace) -> None:
    """`--dry_run`: print the options and sizes of the run and its costs, measured in a few steps."""
    import kernels
    from training.planning import measure

    terms = trainer.rehearse()
    plan = measure(trainer)
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
    print(f"best.pt is selected by {trainer.validation.goal.metric}")
    print(f"the first sample's loss: {', '.join(f'{name} {term:.4g}' for name, term in terms.items())}")
    print(trainer.form)
    print(f"photometric error: {kernels.describe(trainer.device)}")
    left = trainer.last_step - trainer.progress.step
    for sentence in plan.sentences(left, options.batch_size, options.accumulate, options.num_workers):
        print(sentence)
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
