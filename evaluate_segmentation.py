"""Evaluate segmentation: mean IoU, each class, and the confusion matrix of a labelled dataset.

    python evaluate_segmentation.py --run runs/sgdepth --dataset cityscapes --data_path CITYSCAPES
    python evaluate_segmentation.py --load_weights_folder epoch_20 --dataset label_folder --data_path MINE

Cityscapes' whole frames are resized to 512 x 1024 as SGDepth does, images of other datasets to the size that
the model was trained with. `--published` compares as SGDepth's code does: nearest logits, and the untrained
channel takes part in the arg max. Saved are results.json, per_class.csv and confusion.png.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import build_dataset
from devices import pick_device
from evaluation.segmentation import default_protocol, evaluate_segmentation
from methods import load_method
from utils import WORKERS, InputError, can_write, data_root, run_main

CITYSCAPES_SIZE = (512, 1024)
SETTINGS = {  # of datasets, for evaluation: whole annotated frames, no depth
    "cityscapes": {"split": "fine", "top_rows": 1.0, "ground_truth": None},
    "label_folder": {},
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = build_parser().parse_args(argv)
    for option, least in (("batch_size", 1), ("num_workers", 0)):
        if getattr(args, option) < least:
            raise InputError(f"--{option} must be {least} or more, got {getattr(args, option)}")
    model = args.run or args.load_weights_folder or args.pretrained_path
    output = Path(args.output or default_output(Path(model), args.dataset, args.part))
    if not can_write(output):
        raise InputError(f"{output} cannot be written; give another folder with --output")
    device = pick_device("cpu" if args.no_cuda else args.device)
    method, options = load_method(model, device, args.checkpoint)
    dataset = open_labelled(args, options)
    published = {"resize": "nearest", "all_channels": True} if args.published else {}
    result = evaluate_segmentation(
        method.eval().predict,
        dataset,
        default_protocol(dataset, **published),
        batch_size=args.batch_size,
        device=device,
        workers=args.num_workers,
        progress=True,
        facts={
            "model": str(model),
            "dataset": f"{args.dataset}, {args.part}, {len(dataset)} images",
            "network size": f"{dataset.width}x{dataset.height}",
        },
    )
    print(result.table())
    result.save(output)
    print(f"\nsaved: {output}/results.json, per_class.csv, confusion.png")


def open_labelled(args: argparse.Namespace, options: dict[str, Any]) -> Any:
    """The labelled dataset of the command line, at the size that images are predicted at.

    Raises:
        InputError: no such data, or a size that is not a multiple of 32.
    """
    trained = options.get("height"), options.get("width")
    height, width = CITYSCAPES_SIZE if args.dataset == "cityscapes" else trained
    settings = dict(SETTINGS[args.dataset])
    if args.table:
        if args.dataset != "label_folder":
            raise InputError("--table is for --dataset label_folder; cityscapes has a table of its own")
        settings["table"] = args.table
    return build_dataset(
        {
            "dataset": {"name": args.dataset, **settings},
            "data_path": args.data_path or data_root() / args.dataset,
            "height": args.height or height,
            "width": args.width or width,
            "resize": options.get("resize") or "bicubic",
        },
        part=args.part,
        frame_ids=(0,),
        skip_missing=args.skip_missing,
    )


def default_output(source: Path, dataset: str, part: str) -> Path:
    """Folder next to the model: <folder>/evaluation/segmentation_<dataset>_<part>."""
    folder = source if source.is_dir() else source.parent / source.stem
    return folder / "evaluation" / f"segmentation_{dataset}_{part}"


def build_parser() -> argparse.ArgumentParser:
    """Flags are named as in evaluate_depth.py."""
    parser = argparse.ArgumentParser(
        "evaluate_segmentation.py",
        description="Evaluate segmentation on labelled images.",
        allow_abbrev=False,
    )
    switch: dict[str, Any] = {"action": "store_true"}
    folder, file = ({"type": os.path.expanduser, "metavar": kind} for kind in ("FOLDER", "FILE"))

    group = parser.add_argument_group("what is evaluated").add_mutually_exclusive_group(required=True)
    group.add_argument("--run", **folder, help="a run folder of ours")
    group.add_argument("--load_weights_folder", **folder, help="a published checkpoint folder, or a run")
    group.add_argument("--pretrained_path", **file, help="a checkpoint of a single file")

    group = parser.add_argument_group("labelled images")
    group.add_argument(
        "--dataset",
        default="cityscapes",
        choices=sorted(SETTINGS),
        help="labelled dataset; default cityscapes",
    )
    group.add_argument("--data_path", **folder, help="root folder of the dataset; default data/<dataset>")
    group.add_argument("--part", default="val", help="train, val, test or all; default val")
    group.add_argument("--table", **file, help="label table of a label_folder; default its labels.yaml")
    group.add_argument("--skip_missing", **switch, help="leave out samples that lack an image or labels")

    group = parser.add_argument_group("how")
    group.add_argument("--height", type=int, help="network input height; default as trained, cityscapes 512")
    group.add_argument("--width", type=int, help="network input width; default as trained, cityscapes 1024")
    group.add_argument("--published", **switch, help="nearest logits, arg max over all channels")

    group = parser.add_argument_group("machine")
    group.add_argument("--output", **folder, help="output folder; default evaluation/... next to the model")
    group.add_argument("--checkpoint", default="best", choices=("best", "last"), help="which one of a run")
    group.add_argument("--batch_size", type=int, default=4, help="images per batch; default 4")
    group.add_argument("--num_workers", type=int, default=WORKERS, help="processes that read images")
    group.add_argument("--device", default="auto", help="device: auto, cpu, cuda or cuda:N")
    group.add_argument("--no_cuda", **switch, help="same as --device cpu")
    return parser


if __name__ == "__main__":
    run_main(main)
