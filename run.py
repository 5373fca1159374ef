"""Train, resume, evaluate. One command on a CPU, a GPU, or under torchrun.

python run.py --config configs/monodepth2_kitti_m_640x192.yaml --data_path kitti_raw
torchrun --nproc_per_node 4 run.py --config ... --resume auto
python run.py --config ... --eval_only
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch.distributed as dist

from datasets import DATASETS
from datasets._splits import split_names
from losses import LOSSES
from methods import METHODS
from networks import NETWORKS
from options import effective, parse, read_config
from trainer import Trainer
from utils import PROJECT, InputError, run_main, to_yaml


def main(arguments: list[str] | None = None) -> None:
    """The command line; `--help` lists the options."""
    options = parse(arguments)
    if options.list:
        return print_components()
    folder = Path(options.log_dir).expanduser() / options.model_name
    if options.resume == "auto" and (folder / "options.yaml").exists():
        options = parse(arguments, saved=read_config(folder / "options.yaml"))
    if options.eval_only:
        return evaluate_only(options, folder)
    if options.resume == "never" and not options.dry_run and (folder / "checkpoints").exists():
        raise InputError(f"{folder} holds a run already; --resume auto goes on, --model_name starts another")
    try:
        trainer = Trainer(options, effective(options))
        if options.dry_run:
            return print_plan(trainer, options)
        trainer.train()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def evaluate_only(options: argparse.Namespace, folder: Path) -> None:
    """`--eval_only`: the run's best checkpoint, or what `--load_weights_folder` names."""
    from evaluate_depth import main as evaluate

    source = options.load_weights_folder or str(folder)
    evaluate(["--run", source, "--data_path", options.data_path, "--dataset", options.dataset["name"]])


def print_plan(trainer: Trainer, options: argparse.Namespace) -> None:
    """What a run would do, after everything has been built and checked."""
    if trainer.rank != 0:
        return
    parameters = sum(parameter.numel() for parameter in trainer.parameters)
    truth = "ground truth" if trainer.val_truth else "the photometric loss"
    print(to_yaml(effective(options)))
    samples = len(trainer.train_set)
    print(f"{samples} training samples, {trainer.steps_per_epoch} steps an epoch on {trainer.device}")
    print(f"{len(trainer.val_indices)} validation samples, judged by {truth}")
    print(
        f"{parameters / 1e6:.1f} million parameters; {trainer.total_steps} steps in all; nothing was trained"
    )


def print_components() -> None:
    """`--list`: every name an option can take."""
    configs = sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "configs").glob("*.yaml"))
    splits = sorted(
        f"{folder.name}/{split}"
        for folder in (PROJECT / "splits").iterdir()
        if folder.is_dir()
        for split in split_names(folder.name)
    )
    groups = {
        "methods": METHODS.names(),
        "networks": [*NETWORKS.names(), "... and every timm model by its name"],
        "losses": LOSSES.names(),
        "datasets": DATASETS.names(),
        "splits": splits,
        "configs": configs,
    }
    for name, items in groups.items():
        print(f"{name}:")
        for item in items:
            print(f"  {item}")


if __name__ == "__main__":
    run_main(main)
