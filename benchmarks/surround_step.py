"""Seconds of the parts of SurroundDepth's training step, forward and backward.

    python -m benchmarks.surround_step [--height 192 --width 320 --batch_size 1 --threads 1]

SurroundDepth as published, with joint pose, spatial term and matches, on smooth random images of the
synthetic rig. The graph is cut between the parts, so that each has its own time; the median is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods._networks import Motion
from methods.surround_depth import SurroundDepth
from structures import Batch, Prediction
from tools.layouts._rig import SurroundRig
from utils import run_main


def main() -> None:
    """The command line."""
    args = parse()
    torch.set_num_threads(args.threads)
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


def parse() -> argparse.Namespace:
    """The flags of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--height", type=int, default=192, help="height of the network input, pixels (default: 192)")
    add("--width", type=int, default=320, help="width of the network input, pixels (default: 320)")
    add("--batch_size", type=int, default=1, help="frame sets per step (default: 1)")
    add("--num_layers", type=int, default=34, help="layers of the ResNets (default: 34)")
    add("--threads", type=int, default=2, help="CPU threads (default: 2)")
    add("--repeat", type=int, default=3, help="timed steps, after one to warm up (default: 3)")
    return parser.parse_args()


if __name__ == "__main__":
    run_main(main)
