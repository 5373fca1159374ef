"""`make demo`: depth learned from video alone, on this machine, in minutes.

Renders a synthetic world as KITTI, exports its ground truth, trains configs/demo.yaml on it, judges the
result on streets it has not seen, beside two predictors that know nothing, and leaves pictures to look at.
Every step is a command of its own and is printed as one; what has been done already is not done again.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from PIL import Image

from datasets import build_dataset
from methods import load_method
from metrics import Result, compare, constant_predictor, evaluate, map_predictor, mean_depth_map
from pictures import as_picture, colourise, sheet
from utils import PROJECT, InputError, atomic_path, run_main

CONFIG = "configs/demo.yaml"
SHOWN = 6  # rows of the sheet of pictures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser("demo.py", description="Learn depth from a synthetic video.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for everything it makes")
    parser.add_argument("--sequences", type=int, default=8, help="streets; a quarter of them is held out")
    parser.add_argument("--frames", type=int, default=40, help="pictures of each, per camera")
    parser.add_argument("--height", type=int, default=128, help="of the pictures on disk")
    parser.add_argument("--width", type=int, default=416, help="of the pictures on disk")
    parser.add_argument("--seed", type=int, default=0, help="of the world and of the training")
    parser.add_argument(
        "--run_options", nargs=argparse.REMAINDER, default=[], help="everything after it goes to run.py"
    )
    args = parser.parse_args()
    started = time.time()
    data, run = args.out / "data", args.out / "run"
    size = {"height": args.height, "width": args.width, "seed": args.seed}
    render(data, {"sequences": args.sequences, "frames": args.frames, **size})
    step(
        "Training",
        ["run.py", "--config", CONFIG, "--data_path", data, "--split", data / "splits", "--log_dir", args.out]
        + ["--model_name", "run", "--seed", args.seed, "--resume", "auto", *args.run_options],
    )
    results, shown = judge(run, data)
    pictures = args.out / "pictures"
    draw(pictures / "depth.png", *shown)
    sequence = sorted(path for path in data.glob("*/*_sync") if path.is_dir())[-1]
    step(
        "A film of a held-out street",
        ["test_video.py", "--run", run, "--image_path", sequence / "image_02/data"]
        + ["--output", pictures / "depth.gif"],
    )
    print(f"\nDepth on streets that were never trained on, {next(iter(results.values())).protocol.name}:\n")
    print(compare(results))
    print("\n  abs_rel to rmse_log: lower is better; a1 to a3: higher is better")
    print(f"\nPictures: {pictures}/depth.png, {pictures}/depth.gif, {data}/gallery.png")
    print(f"The run: {run} (tensorboard --logdir {run}); {(time.time() - started) / 60:.1f} minutes in all")


def render(data: Path, settings: dict[str, int]) -> None:
    """The world, once: a finished one is kept, and so is its exported truth."""
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
        "Its ground truth, for judging alone",
        ["tools/export_gt_depth.py", "--data_path", data, "--split", data / "splits"]
        + ["--part", "train", "val", "test"],
    )


def step(title: str, command: list) -> None:
    """Run one of the project's own commands, shown as anyone would type it."""
    words = [str(word) for word in command]
    print(f"\n{title}\n  $ python {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, *words], cwd=PROJECT).returncode
    if status:
        raise InputError(f"the demo stopped, since {words[0]} ended with status {status}")


def judge(run: Path, data: Path) -> tuple[dict[str, Result], tuple]:
    """The learned depth beside one constant depth and the training set's mean depth at each pixel."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    method, options = load_method(run, device)
    options = {**options, "data_path": str(data), "split": str(data / "splits")}
    train, test = (build_dataset(options, part=part, frame_ids=(0,)) for part in ("train", "test"))
    dense = build_dataset(options, part="test", frame_ids=(0,), ground_truth="improved")
    mean = mean_depth_map(train, options["height"] // 4, options["width"] // 4)
    predictors = {
        "one constant depth": constant_predictor(),
        "mean depth of each pixel": map_predictor(mean),
        "learned from video": method.predict_depth,
    }
    results = {}
    for name, predict in predictors.items():
        results[name] = evaluate(predict, test, device=device, batch_size=options["batch_size"])
    results["learned from video"].save(run / "evaluation" / "test")
    return results, (method, dense, device)


@torch.no_grad()
def draw(path: Path, method: torch.nn.Module, dataset: torch.utils.data.Dataset, device: str) -> None:
    """Rows of picture, learned depth and true depth, near things bright."""
    rows = []
    for index in torch.linspace(0, len(dataset) - 1, SHOWN).round().int().tolist():
        batch = dataset[index].to(device)
        learned = 1 / method.predict_depth(batch.images[0], batch.intrinsics)[0, 0]
        depth = torch.from_numpy(dataset.depth(index))[None].float()
        nearness = torch.where(depth > 0, 1 / depth.clamp(min=1e-3), 0)  # the sky has none
        truth = F.interpolate(nearness, learned.shape, mode="nearest")[0, 0]
        rows.append([as_picture(batch.images[0][0]), colourise(learned), colourise(truth)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet(rows)).save(temporary, format="PNG")
    print(f"wrote {path}: picture, learned depth, true depth")


if __name__ == "__main__":
    run_main(main)
