"""Evaluate segmentation: mean IoU, each class, and the confusion matrix of a labelled dataset.

    python evaluate_segmentation.py --run runs/sgdepth --dataset cityscapes --data_path CITYSCAPES
    python evaluate_segmentation.py --load_weights_folder epoch_20 --dataset label_folder --data_path MINE

Cityscapes' whole frames are resized to 512 x 1024 as SGDepth does, images of other datasets to the size that
the model was trained with. `--published` compares as SGDepth's code does: nearest logits, and the untrained
channel takes part in the arg max. Saved are results.json, per_class.csv, per_image.csv and confusion.png.
Under torchrun every process evaluates its share.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flags
from shards import is_first
from utils import InputError, can_write, data_root, run_main

if TYPE_CHECKING:
    from datasets import SequenceDataset

CITYSCAPES_SIZE = {"height": 512, "width": 1024}
SETTINGS: dict[str, dict[str, Any]] = {  # of datasets: whole annotated frames
    "cityscapes": {"split": "fine", "top_rows": 1.0},
    "label_folder": {},
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    from evaluation import Loading, gather
    from evaluation.segmentation import default_protocol, evaluate_segmentation
    from processes import end_processes, start_processes

    device = start_processes(flags.device_name(args))
    try:
        source = flags.model_path(args)
        output = Path(args.output or default_output(source, args.dataset, args.part))
        if not can_write(output):
            raise InputError(f"{output} cannot be written; give another folder with --output")
        method, options = flags.open_model(args, device)
        dataset = open_labelled(args, options)
        published = {"resize": "nearest", "all_channels": True} if args.published else {}
        facts = {
            "model": str(source),
            "dataset": f"{args.dataset}, {args.part}, {len(dataset)} images",
            "network size": f"{dataset.width}x{dataset.height}",
        }
        protocol = default_protocol(dataset, **published)
        loading = Loading(args.batch_size, device, args.num_workers, is_first(), flip=args.post_process)
        result = gather(
            evaluate_segmentation(
                method.eval().predict, dataset, protocol, loading.shared(len(dataset)), facts
            )
        )
        if is_first():
            if not result.confusion.counts.any():
                raise InputError(
                    f"no pixel of the {len(dataset)} images of part '{args.part}' has a class, so "
                    "nothing can be "
                    "compared; are all of its labels ignored? Look at the label files, or give another --part"
                )
            print(result.table())
            result.save(output)
            print(f"\nsaved: {output}/results.json, per_class.csv, per_image.csv, confusion.png")
    finally:
        end_processes()


def open_labelled(args: argparse.Namespace, options: Mapping[str, Any]) -> SequenceDataset:
    """The labelled dataset of the command line, at the size that images are predicted at.

    Raises:
        InputError: no such data, a setting that the dataset does not take, or a size that is not a multiple
            of 32.
    """
    from datasets import open_dataset
    from methods.metric_scale import trained_on

    settings = {**SETTINGS[args.dataset], **args.dataset_settings}
    if args.table:
        settings["table"] = args.table
    sizes = {**(CITYSCAPES_SIZE if args.dataset == "cityscapes" else {}), **flags.network_size(args)}
    name, section = trained_on(options)
    return open_dataset(
        {**options, **sizes, "dataset": {"name": name, **section}},
        "evaluate",
        name=args.dataset,
        data_path=args.data_path or data_root() / args.dataset,
        part=args.part,
        skip_missing=args.skip_missing,
        **settings,
    )


def default_output(source: Path, dataset: str, part: str) -> Path:
    """Folder next to the model: <folder>/evaluation/segmentation_<dataset>_<part>."""
    from checkpoints.hub import results_folder

    return results_folder(source) / "evaluation" / f"segmentation_{dataset}_{part}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags, after a check that they do not contradict each other.

    Raises:
        InputError: an unknown flag or value, a dataset without labels, `--table` where it has no effect.
    """
    args = flags.parse(build_parser(), arguments)
    flags.model_path(args)
    if args.dataset not in SETTINGS:
        raise InputError(f"--dataset {args.dataset} has no labels; give one of {', '.join(SETTINGS)}")
    if args.table and args.dataset != "label_folder":
        raise InputError("--table is for --dataset label_folder; cityscapes has a table of its own")
    return args


def build_parser() -> argparse.ArgumentParser:
    """The parser; flags are named as in evaluate_depth.py."""
    parser = flags.new_parser("evaluate_segmentation.py", "Evaluate segmentation on labelled images.")
    flags.add_model_flags(parser, decode_range=False)

    group = parser.add_argument_group("labelled images")
    flags.add_dataset_flags(group, "cityscapes", f"labelled dataset: {' or '.join(SETTINGS)}")
    group.add_argument(
        "--part", default="val", help="part of the dataset: train, val, test or all (default: val)"
    )
    group.add_argument("--table", **flags.FILE, help="label table of a label_folder; else its labels.yaml")

    group = parser.add_argument_group("protocol")
    group.add_argument("--published", **flags.SWITCH, help="nearest logits, arg max over all channels")
    group.add_argument(
        "--post_process", **flags.SWITCH, help="flip averaging: predict the mirror image too and average both"
    )

    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", **flags.FOLDER, help="folder of the results; else evaluation/... next to the model"
    )
    group = parser.add_argument_group("machine")
    flags.add_loading_flags(group, batch_size=4)
    flags.add_device_flags(group)
    return parser


if __name__ == "__main__":
    run_main(main)
