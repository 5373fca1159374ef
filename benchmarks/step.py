"""Seconds of a training step, split into networks, warping with loss, and the rest.

    python -m benchmarks.step [--method packnet --height 192 --width 640 --batch_size 4 --steps 5]

Our warping and losses take turns with plain implementations of the published ones (benchmarks/published.py,
benchmarks/published_sc_depth.py) behind the same networks on the same images; the median is reported.
`sgdepth` is timed with and without its mask of moving objects, whose published form labels each image in a
pass of its own. `packnet` is PackNetSlim01 with PackNet-SfM's pose network and has no plain counterpart.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.published import Loss
from benchmarks.published_sc_depth import PairLoss
from methods.monodepth2 import Monodepth2
from methods.packnet import PackNet
from methods.sc_depth import ScDepth
from methods.sgdepth import SGDepth
from structures import Batch, Prediction
from utils import run_main

Way = tuple[Callable[[], Prediction], Callable[[Prediction], Tensor]]  # networks, and loss of their output
WITHOUT_DRAWS = {  # terms whose random draws differ from the published ones
    "v1": {},
    "v2": {"rotation": {"weight": 0}},
    "v3": {"mask_ranking": {"weight": 0}, "edge_ranking": {"weight": 0}},
}
ONLY_SUPERVISED = {
    "photometric": {"weight": 0},
    "smoothness": {"weight": 0},
    "supervised_depth": {"weight": 1},
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=192, help="height of the network input, pixels")
    parser.add_argument("--width", type=int, default=640, help="width of the network input, pixels")
    parser.add_argument("--batch_size", type=int, default=4, help="samples per step")
    parser.add_argument(
        "--steps", type=int, default=5, help="timed steps of each implementation, after one to warm up"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device, cpu or cuda"
    )
    parser.add_argument("--method", default="monodepth2", choices=WAYS, help="training method to time")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    batch = draw(args.batch_size, args.height, args.width).to(args.device)
    print(f"{args.width}x{args.height}, batch {args.batch_size}, {args.device}, {args.threads} threads")
    for title, ways in WAYS[args.method](batch, args.device):
        print(f"\n{title}; seconds, median of {args.steps}\n")
        show(measure(ways, args.steps, args.device))


def measure(ways: dict[str, tuple[nn.Module, Way]], steps: int, device: str) -> dict[str, list[float]]:
    """Median seconds of each way: networks, warp and loss, rest, step; and its last loss."""
    optimizers = {name: torch.optim.Adam(method.parameters(), 1e-4) for name, (method, _) in ways.items()}
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for _ in range(steps + 1):
        for name, (method, way) in ways.items():
            state = {key: value.clone() for key, value in method.state_dict().items()}
            times[name].append(timed_step(way, optimizers[name], device))
            method.load_state_dict(state)  # all ways and steps compute the same loss
    medians = {name: [statistics.median(part) for part in zip(*all[1:])] for name, all in times.items()}
    return {name: [*parts[:3], sum(parts[:3]), parts[3]] for name, parts in medians.items()}


def show(medians: dict[str, list[float]]) -> None:
    """Print a table with the ratio of the first and the last way, and shares of the last one's step."""
    columns = ("networks", "warp + loss", "rest", "step", "loss")
    print(f"{'':<20}" + "".join(f"{name:>13}" for name in columns))
    for name, parts in medians.items():
        print(f"{name:<20}" + "".join(f"{value:>13.3f}" for value in parts[:4]) + f"{parts[4]:>13.6f}")
    first, last = next(iter(medians.values())), list(medians.values())[-1]
    if len(medians) > 1:
        print(f"{'ratio':<20}" + "".join(f"{a / b:>12.2f}x" for a, b in zip(first[:4], last[:4])))
    print(f"warp + loss: {100 * last[1] / last[3]:.1f} % of the step of the last line")


def draw(batch_size: int, height: int, width: int) -> Batch:
    """Smooth random images, so that warping has gradients; sparse and pseudo-depth; a labelled companion."""

    def smooth(channels: int) -> Tensor:
        small = torch.rand(batch_size, channels, height // 8, width // 8)
        return F.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)

    images = {frame: smooth(3) for frame in (0, -1, 1)}
    K = torch.tensor([[0.58 * width, 0, width / 2], [0, 1.92 * height, height / 2], [0, 0, 1]])
    K, index = K.expand(batch_size, 3, 3), torch.arange(batch_size)
    labels = torch.randint(19, (batch_size, 1, height, width), dtype=torch.uint8)
    companion = Batch({0: smooth(3)}, K, index, maps={"labels": labels})
    depth = 60 * smooth(1) * (torch.rand(batch_size, 1, height, width) < 0.05)  # as a LiDAR scan gives
    return Batch(images, K, index, maps={"pseudo_depth": 1 + smooth(1), "depth": depth}, companion=companion)


# What is timed: for each title, the ways by name; the plain one first, ours last.


def monodepth2_ways(batch: Batch, device: str) -> list[tuple[str, dict[str, tuple[nn.Module, Way]]]]:
    method = Monodepth2(weights_init="scratch").to(device)
    plain = plain_loss(batch, device)
    ways = {
        "published": (method, (partial(method.run_networks, batch), plain)),
        "ours": (method, ours(method, batch)),
    }
    return [("Monodepth2", ways)]


def packnet_ways(batch: Batch, device: str) -> list[tuple[str, dict[str, tuple[nn.Module, Way]]]]:
    found = []
    for title, losses in {"self-supervised": {}, "supervised": ONLY_SUPERVISED}.items():
        method = PackNet(
            depth_network="packnet_slim",
            pose_model_type="packnet_pose",
            weights_init="scratch",
            min_depth=0.5,
            max_depth=float("inf"),
            losses=losses,
        ).to(device)
        found.append((f"PackNetSlim01, {title}", {"ours": (method, ours(method, batch))}))
    return found


def sc_depth_ways(batch: Batch, device: str) -> list[tuple[str, dict[str, tuple[nn.Module, Way]]]]:
    found = []
    for version, without in WITHOUT_DRAWS.items():
        method = ScDepth(version, published=True, losses=without, weights_init="scratch").to(device)
        plain = partial(plain_pairs, method, batch, PairLoss(version))
        ways = {
            "published": (method, (partial(method.run_networks, batch), plain)),
            "ours": (method, ours(method, batch)),
        }
        found.append((f"SC-Depth {version.upper()}", ways))
    return found


def sgdepth_ways(batch: Batch, device: str) -> list[tuple[str, dict[str, tuple[nn.Module, Way]]]]:
    masking = {"photometric": {"moving_objects": {"labels": "predicted"}}}
    torch.manual_seed(0)
    method = SGDepth(weights_init="scratch").to(device)
    torch.manual_seed(0)
    masked = SGDepth(weights_init="scratch", losses=masking).to(device)
    masked.on_epoch_start(20, 40)
    masks = masked.loss_terms["photometric"].moving_objects
    masks.threshold.fill_(0.5)
    plain, segmentation = plain_loss(batch, device), method.loss_terms["segmentation"]

    def without(prediction: Prediction) -> Tensor:
        return plain(prediction) + segmentation(batch, prediction)

    def three_passes() -> Prediction:
        prediction = method.run_networks(batch)
        logits = [method.segment(batch.images[frame]) for frame in (0, -1, 1)]
        prediction.extra["movable"] = [masks.movable[values.argmax(1, keepdim=True)] for values in logits]
        return prediction

    def with_mask(prediction: Prediction) -> Tensor:
        movable = prediction.extra["movable"]
        return plain(prediction, movable=movable) + segmentation(batch, prediction)

    unmasked = {
        "published": (method, (partial(method.run_networks, batch), without)),
        "ours": (method, ours(method, batch)),
    }
    return [
        ("SGDepth without masking", unmasked),
        (
            "SGDepth with masking",
            {"published": (method, (three_passes, with_mask)), "ours": (masked, ours(masked, batch))},
        ),
        (
            "SGDepth, masking's price",
            {"with masking": (masked, ours(masked, batch)), "without": (method, ours(method, batch))},
        ),
    ]


WAYS = {
    "monodepth2": monodepth2_ways,
    "packnet": packnet_ways,
    "sc_depth": sc_depth_ways,
    "sgdepth": sgdepth_ways,
}


def ours(method: Any, batch: Batch) -> Way:
    """The networks of a method, and its losses."""

    def loss(prediction: Prediction) -> Tensor:
        method.add_geometry(batch, prediction)
        return sum(method.losses(batch, prediction).values())

    return partial(method.run_networks, batch), loss


def plain_loss(batch: Batch, device: str) -> Callable[..., Tensor]:
    """Monodepth2's published loss as a function of a prediction."""
    loss = Loss(*batch.images[0].shape[-2:])
    loss.pixels = loss.pixels.to(device)
    K = torch.eye(4, device=device).repeat(len(batch), 1, 1)
    K[:, :3, :3] = batch.intrinsics

    def by_published(prediction: Prediction, movable: list[Tensor] | None = None) -> Tensor:
        poses = {frame: motion.matrix() for frame, motion in prediction.extra["motions"].items()}
        return loss(batch.images, prediction.disparities, poses, K, movable=movable)

    return by_published


def plain_pairs(method: ScDepth, batch: Batch, loss: PairLoss, prediction: Prediction) -> Tensor:
    """SC-Depth's published loss of a prediction."""
    method.add_geometry(batch, prediction)
    return loss(method.compared(batch, prediction), prediction)


def timed_step(way: Way, optimizer: torch.optim.Optimizer, device: str) -> tuple[float, float, float, float]:
    """Seconds of networks, warp and loss, and the rest, forward and backward; and the loss.

    The graph is cut between networks and loss, so that the backward pass of each is timed by itself.
    """

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    networks, loss = way
    torch.manual_seed(0)
    t0 = now()
    prediction = networks()
    t1 = now()
    outputs: list[Tensor] = []
    leaves: list[Tensor] = []
    prediction = cut(prediction, outputs, leaves)
    t2 = now()
    total = loss(prediction)
    total.backward()
    t3 = now()
    pairs = [(output, leaf.grad) for output, leaf in zip(outputs, leaves) if leaf.grad is not None]
    optimizer.zero_grad()
    torch.autograd.backward(*zip(*pairs))
    t4 = now()
    optimizer.step()
    t5 = now()
    return (t1 - t0) + (t4 - t3), t3 - t2, (t2 - t1) + (t5 - t4), total.item()


def cut(value: Any, outputs: list[Tensor], leaves: list[Tensor]) -> Any:
    """A record with new leaves in place of its tensors that have a gradient; both are collected."""
    again = partial(cut, outputs=outputs, leaves=leaves)
    if isinstance(value, Tensor):
        if not value.requires_grad:
            return value
        outputs.append(value)
        leaves.append(value.detach().requires_grad_())
        return leaves[-1]
    if isinstance(value, dict):
        return {key: again(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(again, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(again, value))
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{item.name: again(getattr(value, item.name)) for item in dataclasses.fields(value)}
        )
    return value


if __name__ == "__main__":
    run_main(main)
