"""Seconds of a training step, split into networks, warping with loss, and the rest.

    python -m benchmarks.step [--method packnet --height 192 --width 640 --batch_size 4 --steps 5]

Ours is compared with the published warp and loss, written plainly (benchmarks/published.py). Both train
the same ResNet-18 depth and pose networks on the same images. Their steps alternate; the median is reported.
`--method packnet` times only our PackNetSlim01, with PackNet-SfM's pose network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.published import Loss
from methods.monodepth2 import Monodepth2
from methods.packnet import PackNet
from structures import Batch, Prediction
from utils import run_main

METHODS = {
    "monodepth2": partial(Monodepth2, weights_init="scratch"),
    "packnet": partial(
        PackNet,
        depth_network="packnet_slim",
        pose_model_type="packnet_pose",
        weights_init="scratch",
        min_depth=0.5,
        max_depth=float("inf"),
    ),
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=192, help="height of the network input, pixels")
    parser.add_argument("--width", type=int, default=640, help="width of the network input, pixels")
    parser.add_argument("--batch_size", type=int, default=4, help="samples per step")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each way, after one to warm up")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device, cpu or cuda"
    )
    parser.add_argument(
        "--method",
        default="monodepth2",
        choices=METHODS,
        help="monodepth2 beside its published loss, or packnet",
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    batch = draw(args.batch_size, args.height, args.width).to(args.device)
    method = METHODS[args.method]().to(args.device)
    optimizer = torch.optim.Adam(method.parameters(), 1e-4)
    ways = {"ours": lambda: our_parts(method, batch)}
    if args.method == "monodepth2":
        loss = Loss(args.height, args.width)
        loss.pixels = loss.pixels.to(args.device)
        ways = {"published": lambda: published_parts(method, loss, batch), **ways}
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    for _ in range(args.steps + 1):
        for name, way in ways.items():
            times[name].append(timed_step(way, optimizer, args.device))
    name = f"{args.width}x{args.height}, batch {args.batch_size}, {args.device}, {args.threads} threads"
    print(f"{name}; seconds, median of {args.steps}\n")
    print(f"{'':<12}{'networks':>10}{'warp + loss':>14}{'rest':>8}{'step':>8}")
    medians = {}
    for name, measured in times.items():
        parts = [statistics.median(part) for part in zip(*measured[1:])]
        medians[name] = [*parts, sum(parts)]
        print(f"{name:<12}{parts[0]:>10.3f}{parts[1]:>14.3f}{parts[2]:>8.3f}{sum(parts):>8.3f}")
    if len(medians) < 2:
        networks, warp, _, step = medians["ours"]
        print(f"warp + loss: {100 * warp / step:.1f} % of the step, networks {100 * networks / step:.1f} %")
        return
    ratios = [a / b for a, b in zip(medians["published"], medians["ours"])]
    print(f"{'ratio':<12}{ratios[0]:>9.2f}x{ratios[1]:>13.2f}x{ratios[2]:>7.2f}x{ratios[3]:>7.2f}x")


def draw(batch_size: int, height: int, width: int) -> Batch:
    """Smooth random images, so that warping has gradients."""
    images = {
        frame: F.interpolate(
            torch.rand(batch_size, 3, height // 8, width // 8), (height, width), mode="bicubic"
        )
        for frame in (0, -1, 1)
    }
    K = torch.tensor([[0.58 * width, 0, width / 2], [0, 1.92 * height, height / 2], [0, 0, 1]])
    clamped = {frame: image.clamp(0, 1) for frame, image in images.items()}
    return Batch(clamped, K.expand(batch_size, 3, 3), torch.arange(batch_size))


def our_parts(method: Monodepth2, batch: Batch) -> tuple[Callable, Callable]:
    """The networks, and the functions that compute the loss of their output."""

    def networks() -> tuple:
        prediction = method.run_networks(batch)
        return prediction.disparities, prediction.extra["motions"]

    def loss(answer: tuple) -> Tensor:
        disparities, motions = answer
        prediction = Prediction(disparities, extra={"motions": motions})
        method.add_geometry(batch, prediction)
        return sum(method.losses(batch, prediction).values())

    return networks, loss


def published_parts(method: Monodepth2, loss: Loss, batch: Batch) -> tuple[Callable, Callable]:
    """The same networks with the published loss."""
    K = torch.eye(4, device=batch.intrinsics.device).repeat(len(batch), 1, 1)
    K[:, :3, :3] = batch.intrinsics

    def by_published(answer: tuple) -> Tensor:
        disparities, motions = answer
        poses = {frame: motion.matrix() for frame, motion in motions.items()}
        return loss(batch.images, disparities, poses, K)

    return our_parts(method, batch)[0], by_published


def timed_step(parts: Callable, optimizer: torch.optim.Optimizer, device: str) -> tuple[float, float, float]:
    """Seconds of networks, warp and loss, and the rest, forward and backward.

    The graph is cut between networks and loss, so that the backward pass of each is timed by itself.
    """

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    networks, loss = parts()
    t0 = now()
    disparities, motions = networks()
    t1 = now()
    cut = {scale: out.detach().requires_grad_() for scale, out in disparities.items()}
    cut_motions = {
        frame: m._replace(**{name: leaf.detach().requires_grad_() for name, leaf in tensors(m).items()})
        for frame, m in motions.items()
    }
    t2 = now()
    loss((cut, cut_motions)).backward()
    t3 = now()
    outputs, gradients = list(disparities.values()), [leaf.grad for leaf in cut.values()]
    for frame, motion in motions.items():
        outputs += tensors(motion).values()
        gradients += [leaf.grad for leaf in tensors(cut_motions[frame]).values()]
    optimizer.zero_grad()
    torch.autograd.backward(outputs, gradients)
    t4 = now()
    optimizer.step()
    t5 = now()
    return (t1 - t0) + (t4 - t3), t3 - t2, (t2 - t1) + (t5 - t4)


def tensors(motion: Any) -> dict[str, Tensor]:
    """The tensors of a motion by name."""
    return {name: value for name, value in motion._asdict().items() if isinstance(value, Tensor)}


if __name__ == "__main__":
    run_main(main)
