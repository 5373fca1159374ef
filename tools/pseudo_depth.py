"""Predict pseudo-depth with a trained depth network: one 16-bit PNG for each image.

    python tools/pseudo_depth.py --data_path SCENES --model hf:Intel/dpt-large
    python tools/pseudo_depth.py --data_path SCENES --model hub:intel-isl/MiDaS:MiDaS_small \\
        --predicts inverse_depth --height 256 --width 256
    torchrun --nproc_per_node 4 tools/pseudo_depth.py --data_path SCENES --model depth.onnx --predicts depth
    python tools/pseudo_depth.py --dataset kitti --data_path KITTI --model runs/first --out KITTI_PSEUDO

--model is one of

    PATH                 a run folder, a checkpoint of ours or of a published system
    FILE.onnx            a network in ONNX, which needs the package onnxruntime
    hf:NAME              a depth model of Hugging Face transformers, by its name or the folder of its files
    hub:REPO:ENTRY       an entry of torch.hub, REPO a GitHub repository or a local folder; its code is run

timm has encoders and no depth networks. For ONNX and torch.hub, --predicts tells whether the network predicts
depth or inverse depth, --height and --width its input size if it does not fix one, and --normalise its input.
A file of tools/export.py tells all of these itself.

A folder of images or of scenes gets `leres_depth/<image>.png` in each scene, the layout of SC-Depth, which
--dataset.pseudo_depth reads. Every other dataset mirrors its images in the folder of --out, which
--pseudo_depth_files.path reads. A file `pseudo_depth.json` next to the PNGs states the convention (depth or
inverse depth), the model and its version. 0 is unknown. A value is --factor times the prediction or, without
--factor, a share of the largest prediction of its image.

A file that exists is kept if its image, model and settings are unchanged, so that a stopped run goes on when
it is started again. Files of another model or origin are replaced only with --overwrite.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flags import add_device_flags, at_least, device_name, positive
from flags import parse as parse_flags
from tools._options import add_dataset, add_workers, new_parser, place
from utils import InputError, run_main


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add_dataset(parser, "folder", part=["train", "val"], parts="train val; every image of a folder")
    add = parser.add_argument
    add(
        "--model",
        required=True,
        metavar="MODEL",
        help="the network: PATH, FILE.onnx, hf:NAME, hub:REPO:ENTRY",
    )
    add(
        "--predicts",
        choices=("depth", "inverse_depth"),
        help="quantity that the network predicts; known for our models and for most of transformers",
    )
    for name in ("height", "width"):
        add(f"--{name}", type=at_least(1), metavar="PIXELS", help=f"{name} of the network's input, pixels")
    add(
        "--normalise",
        default="imagenet",
        choices=("imagenet", "half", "none"),
        help="input of ONNX and torch.hub: ImageNet's mean and deviation, 0.5 and 0.5, or none: images in "
        "[0, 1] (default: imagenet)",
    )
    add("--out", type=place, metavar="FOLDER", help="folder of the files, for datasets other than folder")
    add(
        "--factor",
        type=positive,
        metavar="X",
        help="value of one unit of the prediction, such as 1000 (default: 65535 for each image's largest)",
    )
    add("--batch_size", type=at_least(1), default=4, metavar="N", help="images at a time (default: 4)")
    add("--overwrite", action="store_true", help="replace files of another model or of other settings")
    add_device_flags(parser)
    add_workers(parser, "threads that read and write files")
    given = parse_flags(parser, arguments)
    if given.workers < 1:
        raise InputError(f"--workers must be at least 1, got {given.workers}")
    return given


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from devices import pick_device  # imports torch
    from tools._depth_models import open_depth_model
    from tools._pseudo_depth import Settings, find_images, write_all

    model = open_depth_model(given, pick_device(device_name(given)))
    which, shards = given.shard
    images = find_images(given)[which - 1 :: shards]
    settings = Settings(given.data_path, given.factor, given.batch_size, given.overwrite, given.workers)
    start = time.perf_counter()
    report = write_all(images, model, settings)
    speed = report.written / max(time.perf_counter() - start, 1e-9)
    at = f" at {speed:.1f} samples a second" if report.written else ""
    print(
        f"wrote the pseudo-depth of {report.written} of {len(images)} images ({model.quantity}, "
        f"{model.name}){at}; {len(images) - report.written} were there"
    )
    if report.constant:
        print(
            f"{len(report.constant)} predictions are constant, such as that of {report.constant[0]}; "
            "training takes such a file as unknown"
        )


if __name__ == "__main__":
    run_main(main)
