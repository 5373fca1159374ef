"""Effect of each part of SurroundDepth on the synthetic rig, and duration of the parts of a step.

    python -m benchmarks.surround_table --data_path /tmp/rig --out runs/surround_table --steps 1500
    python -m benchmarks.surround_table --data_path /tmp/rig --start RUN --steps 250
    python -m benchmarks.surround_table --time

Every row trains the same small network on the same frame sets for the same number of steps, with one part
more or less. Finished rows are only read. Rows start from random weights or, with `--start`, from a run of
monodepth2 on video (benchmarks.bdedepth_table makes one), whose depth is known up to scale. All six cameras
of held-out scenes are evaluated:

    abs_rel            each image aligned by its median
    abs_rel, a1 (m)    without alignment, metres
    ratio              median over images of median(ground truth) / median(prediction); 1 is the right scale
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets import open_dataset
from methods import load_method
from methods._networks import Motion
from methods.surround_depth import SurroundDepth
from options import effective, parse
from structures import Batch, Prediction
from tools.layouts._base import Plan
from tools.layouts._rig import SurroundRig
from tools.make_synthetic import make
from trainer import Trainer
from utils import InputError, atomic_path, run_main

JOINT, SPATIAL = {"method.joint_pose": "true"}, {"losses.spatial.weight": "0.1"}
SEPARATE = {"method.blocks": "0"}
ROWS: dict[str, dict[str, str]] = {
    "separate_cameras": SEPARATE,
    "attention": {},
    "joint_pose": {**SEPARATE, **JOINT},
    "attention_joint_pose": JOINT,
    "spatial": {**SEPARATE, **SPATIAL},
    "joint_pose_spatial": {**SEPARATE, **JOINT, **SPATIAL},
    "attention_joint_pose_spatial": {**JOINT, **SPATIAL},
}
COLUMNS = {
    "abs_rel": "abs_rel",
    "metric_abs_rel": "abs_rel (m)",
    "metric_a1": "a1 (m)",
    "ground_truth_per_prediction": "ratio",
}


def main() -> None:
    """The command line."""
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    if args.time:
        return print_times(args)
    if args.start:
        check_start(args)
    data = Path(args.data_path)
    if not (data / "ddad.json").is_file():
        make_rig(data, args)
    results = {}
    for name in args.rows:
        results[name] = train_row(name, data, args)
        print_table(results)
    path = Path(args.out) / "table.json"
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(results, indent=2))
    print(f"\nwrote {path}")


def make_rig(data: Path, args: argparse.Namespace) -> None:
    """Render the scenes, and move their ego masks to the folder that datasets/ddad.py reads."""
    make(Plan("ddad", data, args.sequences, args.frames, args.height, args.width, args.seed, "png"))
    for mask in sorted((data / "ground_truth/masks").glob("*.png")):
        for sequence in range(args.sequences):
            path = data / "masks" / mask.stem / f"{sequence:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(mask, path)


def train_row(name: str, data: Path, args: argparse.Namespace) -> dict[str, float]:
    """Train one row, or resume it, and return its last validation."""
    # Training starts at twice min_depth, which must be a depth where neighbours overlap.
    shared = {
        "data_path": data,
        "log_dir": args.out,
        "model_name": name,
        "method": "surround_depth",
        "dataset": "ddad",
        "dataset.masks": "true",
        "height": args.height,
        "width": args.width,
        "encoder": args.encoder,
        "pose_encoder": args.pose_encoder or args.encoder,
        "weights_init": "scratch",
        "scales": "0",
        "min_depth": 2.0,
        "max_depth": 200.0,
        "method.blocks": args.blocks,
        "method.focal_scale": 0.55 * args.width,
        "method.pose_unit": 100.0 if args.start else 30.0,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "scheduler": "cosine",
        "num_epochs": -(-args.steps // steps_per_epoch(data, args)),
        "max_steps": args.steps,
        "save_frequency": 100_000,
        "num_workers": 1,
        "num_val": 0,
        "seed": args.seed,
        "resume": "auto",
    }
    words = [word for key, value in {**shared, **ROWS[name]}.items() for word in (f"--{key}", str(value))]
    options = parse(words)
    trainer = Trainer(options, effective(options))
    if args.start and trainer.progress.step == 0:
        start_from(trainer.method, args.start)
    if not trainer.finished:
        trainer.train()
    if trainer.progress.step < args.steps:
        raise InputError(
            f"{name} was stopped after {trainer.progress.step} of {args.steps} steps; run it again to resume"
        )
    lines = (Path(args.out) / name / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    last = [record for record in records if "val/abs_rel" in record][-1]
    return {key: last[f"val/{key}"] for key in COLUMNS}


def steps_per_epoch(data: Path, args: argparse.Namespace) -> int:
    """Steps per epoch of the training part; the learning rate falls to 0 over whole epochs."""
    frame_sets = open_dataset({"dataset": "ddad", "data_path": data}, "inspect", part="train")
    return len(frame_sets) // args.batch_size


def check_start(args: argparse.Namespace) -> None:
    """Refuse a run whose networks do not fit the rows, before anything is rendered.

    Raises:
        InputError: its encoders are others than --encoder and --pose_encoder.
    """
    _, options = load_method(args.start, "cpu", which="last")
    encoder = options.get("encoder") or f"resnet{options.get('num_layers') or 18}"
    pose_encoder = options.get("pose_encoder") or encoder
    if (encoder, pose_encoder) != (args.encoder, args.pose_encoder or args.encoder):
        raise InputError(
            f"{args.start} has the encoder {encoder} and the pose encoder {pose_encoder}; give --encoder "
            f"{encoder} --pose_encoder {pose_encoder}, or another run"
        )


def start_from(method: SurroundDepth, run: str) -> None:
    """Load the networks of a run of monodepth2; attention, which it does not have, stays at random."""
    video, _ = load_method(run, "cpu", which="last")
    for name, network in video.named_children():
        if name != "loss_terms":
            own = getattr(method, name)
            own = own.decoder if hasattr(own, "cross") else own
            weights = network.state_dict()  # with heads of more scales than are trained here
            own.load_state_dict({key: weights[key] for key in own.state_dict()})


def print_table(results: dict[str, dict[str, float]]) -> None:
    """Print the results so far."""
    print(f"\n{'':<30}" + "".join(f"{title:>14}" for title in COLUMNS.values()))
    for name, numbers in results.items():
        print(f"{name:<30}" + "".join(f"{numbers[key]:>14.3f}" for key in COLUMNS))


# ------------------------------------------------------------------------------------------------- one step


def print_times(args: argparse.Namespace) -> None:
    """Print the seconds of the parts of a training step, forward and backward, median over `--repeat`."""
    batch = draw(args.batch_size, args.height, args.width)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = batch.to(device)
    settings: dict[str, Any] = {"weights_init": "scratch", "num_layers": args.num_layers, "joint_pose": True}
    settings["losses"] = {"spatial": {"weight": 0.075}, "sfm_matches": {"weight": 0.1}}
    method = SurroundDepth(**settings, max_depth=200.0).to(device)
    optimizer = torch.optim.Adam(method.parameters(), 1e-4)
    rounds = [timed_step(method, batch, optimizer) for _ in range(args.repeat + 1)][1:]
    medians = {part: statistics.median(times[part] for times in rounds) for part in rounds[0]}
    total = sum(medians.values())
    size = f"{args.width}x{args.height}, {args.batch_size} x 6 images"
    print(f"{size}, {device}, {args.threads} threads, seconds")
    for part, seconds in medians.items():
        print(f"  {part:<24}{seconds:>9.3f}{100 * seconds / total:>7.1f} %")
    print(f"  {'step':<24}{total:>9.3f}")


def draw(frame_sets: int, height: int, width: int) -> Batch:
    """Smooth random images of the synthetic rig's cameras, with empty ego masks and random matches."""
    rig = SurroundRig(height, width)
    coarse = torch.rand(3, 6 * frame_sets, 3, height // 8, width // 8)
    frames = [F.interpolate(part, (height, width), mode="bicubic").clamp(0, 1) for part in coarse]
    matches = torch.rand(6 * frame_sets, 1024, 6) * torch.tensor([width - 1, height - 1, 60, 5, 0.9, 0.9])
    return Batch(
        dict(zip((0, -1, 1), frames)),
        stacked([rig.camera(n).intrinsics for n in range(6)]).repeat(frame_sets, 1, 1),
        torch.arange(frame_sets),
        cameras=6,
        rig_from_camera=stacked([rig.rig_from_camera(n) for n in range(6)]).repeat(frame_sets, 1, 1),
        maps={"ego_mask": torch.zeros(6 * frame_sets, 1, height, width, dtype=torch.bool)},
        points={"matches": matches},
    )


def stacked(matrices: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(matrices)).float()


def timed_step(method: SurroundDepth, batch: Batch, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Seconds of each part with its backward pass; the graph is cut between parts."""
    times: dict[str, float] = {}

    def timed(part: str, work: Callable[[], Any]) -> Any:
        started = now()
        result = work()
        times[part] = times.get(part, 0.0) + now() - started
        return result

    features = timed("depth encoder", lambda: method.encoder(batch.images[0]))
    cut = [leaf(feature) for feature in features]
    attended = timed("cross-view attention", lambda: method.depth.attend(cut))
    cut_attended = [leaf(feature) for feature in attended]
    disparities = timed("depth decoder", lambda: method.depth.decoder(cut_attended))
    motions = timed("pose networks", lambda: method.predict_motions(batch.images, {}))
    cut_disparities = {scale: leaf(disparity) for scale, disparity in disparities.items()}
    cut_motions = {f: Motion(leaf(m.axis_angle), leaf(m.translation), m.invert) for f, m in motions.items()}
    prediction = Prediction(dict(cut_disparities), extra={"motions": cut_motions})
    timed("warp", lambda: method.add_geometry(batch, prediction))
    warped = {scale: leaf(images) for scale, images in prediction.warped.items()}
    depths = {scale: leaf(depth) for scale, depth in prediction.depths.items()}
    seen = Prediction(cut_disparities, depths, prediction.T_source_from_target, warped=warped)
    for name, term in method.loss_terms.items():
        timed(f"loss: {name}", lambda term=term: term(batch, seen).backward())
    outputs = [*prediction.warped.values(), *prediction.depths.values()]
    gradients = [part.grad for part in (*warped.values(), *depths.values())]
    timed("warp", lambda: torch.autograd.backward(outputs, gradients))
    pose_outputs = [part for motion in motions.values() for part in (motion.axis_angle, motion.translation)]
    pose_leaves = [
        part for motion in cut_motions.values() for part in (motion.axis_angle, motion.translation)
    ]
    optimizer.zero_grad()
    timed("pose networks", lambda: torch.autograd.backward(pose_outputs, [part.grad for part in pose_leaves]))
    decoded = [part.grad for part in cut_disparities.values()]
    timed("depth decoder", lambda: torch.autograd.backward(list(disparities.values()), decoded))
    grown = [part.grad for part in cut_attended]
    timed("cross-view attention", lambda: torch.autograd.backward(attended, grown))
    timed("depth encoder", lambda: torch.autograd.backward(features, [part.grad for part in cut]))
    timed("optimizer", optimizer.step)
    return times


def leaf(values: Tensor) -> Tensor:
    """The same values as a leaf of a new graph."""
    return values.detach().requires_grad_()


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def parse_arguments() -> argparse.Namespace:
    """The flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data_path",
        default="data/synthetic_rig",
        help="folder of the synthetic rig; rendered if it does not exist",
    )
    parser.add_argument("--out", default="runs/surround_table", help="folder for the runs and table.json")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), help="rows to train")
    parser.add_argument("--steps", type=int, default=1500, help="training steps of each row")
    parser.add_argument("--sequences", type=int, default=12, help="number of scenes to render")
    parser.add_argument("--frames", type=int, default=16, help="frames of each rendered scene")
    parser.add_argument("--height", type=int, default=96, help="height of the network input, pixels")
    parser.add_argument("--width", type=int, default=160, help="width of the network input, pixels")
    parser.add_argument("--batch_size", type=int, default=2, help="frame sets per step")
    parser.add_argument("--learning_rate", type=float, default=3e-4, help="initial learning rate")
    parser.add_argument("--encoder", default="resnet10t", help="encoder of the depth and pose networks")
    parser.add_argument("--pose_encoder", help="encoder of the pose network; else --encoder")
    parser.add_argument(
        "--start", metavar="RUN", help="run of monodepth2 whose networks every row starts from"
    )
    parser.add_argument("--blocks", type=int, default=2, help="attention blocks per level")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes and the networks")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--time", action="store_true", help="measure the parts of one training step instead of training"
    )
    parser.add_argument(
        "--num_layers", type=int, default=34, help="number of ResNet layers that --time measures"
    )
    parser.add_argument("--repeat", type=int, default=3, help="timed steps of --time, after one to warm up")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
