"""`make demo`: depth learned from video only, on this machine, in minutes.

Renders a synthetic world in KITTI's layout, exports its ground truth, trains configs/demo.yaml on it,
evaluates the result on held-out streets next to two baselines, and leaves images to look at. Every step is a
command of its own and is printed. Finished steps are not repeated.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools._options import place
from tools._steps import step
from utils import run_main

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from evaluation import Result
    from predictor import Predictor

CONFIG = "configs/demo.yaml"
SHOWN = 6  # rows of the image grid


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    args = parse(arguments)
    from evaluation import compare
    from predictor import load_predictor

    started = time.time()
    data, run = args.out / "data", args.out / "run"
    size = {"height": args.height, "width": args.width, "seed": args.seed}
    render(data, {"sequences": args.sequences, "frames": args.frames, **size})
    step(
        "Training",
        ["run.py", "--config", CONFIG, "--data_path", data, "--split", data / "splits", "--log_dir", args.out]
        + ["--model_name", "run", "--seed", args.seed, "--resume", "auto", *args.run_options],
    )
    images = args.out / "images"
    predictor = load_predictor(run)
    results = evaluate_demo(predictor, data)
    results["learned from video"].save(run / "evaluation" / "test")
    dense = open_part(predictor.options, data, "test", ground_truth="improved")
    draw(images / "depth.png", predictor, dense)
    sequence = sorted(path for path in data.glob("*/*_sync") if path.is_dir())[-1]
    step(
        "A video of a held-out street",
        ["test_video.py", "--run", run, "--image_path", sequence / "image_02/data"]
        + ["--output", images / "depth.gif"],
    )
    print(f"\nDepth on streets that were never trained on, {next(iter(results.values())).protocol.name}:\n")
    print(compare(results))
    print("\n  abs_rel to rmse_log: lower is better; a1 to a3: higher is better")
    print(f"\nImages: {images}/depth.png, {images}/depth.gif, {data}/gallery.png")
    print(f"The run: {run} (tensorboard --logdir {run}); {(time.time() - started) / 60:.1f} minutes in all")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = argparse.ArgumentParser("demo.py", description="Learn depth from a synthetic video.")
    add = parser.add_argument
    add("--out", type=place, default=Path("demo"), help="folder for all files of the demo")
    add("--sequences", type=int, default=20, help="streets to render; a quarter is held out")
    add("--frames", type=int, default=16, help="frames of each street")
    add("--height", type=int, default=128, help="height of the rendered images, pixels")
    add("--width", type=int, default=416, help="width of the rendered images, pixels")
    add("--seed", type=int, default=0, help="seed of the world and of the training")
    add("--run_options", nargs=argparse.REMAINDER, default=[], help="all that follows goes to run.py")
    return parser.parse_args(arguments)


def render(data: Path, settings: dict[str, int]) -> None:
    """Render the world and export its ground truth, unless both are finished."""
    done = data / "gt_depths"
    if done.is_dir() and any(done.iterdir()):
        print(f"{data} is there already; remove it to render another world")
        return
    flags = [word for name, value in settings.items() for word in (f"--{name}", value)]
    step(
        "A world to learn from",
        ["tools/make_synthetic.py", "--layout", "kitti", "--out", data, "--overwrite", *flags],
    )
    step(
        "Its ground truth, only for evaluation",
        ["tools/export_gt_depth.py", "--data_path", data, "--split", data / "splits"]
        + ["--part", "train", "val", "test"],
    )


def open_part(options: dict, data: Path, part: str, **settings: str) -> Dataset:
    """A part of the demo's world, as a dataset of single images."""
    from datasets import open_dataset

    return open_dataset(options, "evaluate", data_path=data, split=data / "splits", part=part, **settings)


def evaluate_demo(predictor: Predictor, data: Path) -> dict[str, Result]:
    """The learned depth, and two baselines: one constant depth, the training set's mean depth per pixel."""
    from evaluation import Loading, constant_predictor, evaluate, map_predictor, mean_depth_map

    options = predictor.options
    train, test = (open_part(options, data, part) for part in ("train", "test"))
    mean = mean_depth_map(train, options["height"] // 4, options["width"] // 4)
    predictors = {
        "one constant depth": constant_predictor(),
        "mean depth of each pixel": map_predictor(mean),
        "learned from video": predictor.method.predict,
    }
    loading = Loading(device=next(predictor.method.parameters()).device)
    return {name: evaluate(predict, test, loading=loading)[""] for name, predict in predictors.items()}


def draw(path: Path, predictor: Predictor, dataset: Dataset) -> None:
    """Write rows of image, learned depth and ground truth at the size of the images; near is bright."""
    import torch

    from datasets.image_files import read_image
    from images import as_image, colourise, image_grid, save_image

    rows = []
    for index in torch.linspace(0, len(dataset) - 1, SHOWN).round().int().tolist():
        image = read_image(dataset.paths(dataset.samples[index], 0)[0])
        depth = torch.from_numpy(dataset.depth(index))[0]
        inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-3), 0)  # 0 in the sky
        learned = 1 / predictor(image)[0, 0]
        rows.append([as_image(image / 255), colourise(learned), colourise(inverse)])
    save_image(path, image_grid(rows))
    print(f"\nwrote {path}: image, learned depth, ground truth")


if __name__ == "__main__":
    run_main(main)
