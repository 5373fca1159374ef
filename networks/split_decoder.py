"""Split decoder: one U-Net decoder whose last steps exist twice, for depth and for segmentation.

    step 2m      x = elu(conv(x))                                     m = 0 ... 4, widths 256 128 64 32 16
    step 2m + 1  x = elu(conv(join(up(x), features[3 - m])))          up: nearest neighbour, twice as large

The first max(2 split_position - 1, 0) steps are shared. After them each branch gets the shared tensors and
scales their gradient: the shared layers learn from 0.9 dL_depth + 0.1 dL_segmentation
(Klingner et al., Self-supervised monocular depth estimation: solving the dynamic object problem by semantic
guidance, ECCV 2020, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers import scale_gradient
from networks import NETWORKS
from networks._blocks import ReflectedConv, check_sizes
from utils import InputError

WIDTHS = (256, 128, 64, 32, 16)  # channels of steps 2m and 2m + 1, from coarse to fine
STEPS = 2 * len(WIDTHS)
SPLITS = range(5)


class Shared(NamedTuple):
    """Output of the shared steps, the input of both branches.

    Attributes:
        x: output of the last shared step, or the coarsest feature.
        joined: features 0 to 3 of the encoder, finest first.
        outputs: level → output of a shared step that a head reads; level 0 has the input's size.
    """

    x: Tensor
    joined: list[Tensor]
    outputs: dict[int, Tensor]

    def scaled(self, factor: float) -> Shared:
        """Features with unchanged values and gradients multiplied by `factor`."""
        outputs = {level: scale_gradient(output, factor) for level, output in self.outputs.items()}
        joined = [scale_gradient(feature, factor) for feature in self.joined]
        return Shared(scale_gradient(self.x, factor), joined, outputs)


@NETWORKS.register
class SplitDecoder(nn.Module):
    """Depth decoder with a second branch for segmentation.

    Args:
        num_channels: channels of the encoder's five features, finest first.
        scales: levels with a disparity, from 0 (the input's size) to 3.
        classes: channels of the logits; 0 leaves the segmentation branch out.
        split_position: 0 shares no step, 1 shares step 0, each one more shares two more steps; at most 4.
        depth_gradient: factor of the depth branch's gradient at the split.
        segmentation_gradient: factor of the segmentation branch's gradient at the split.
        disparity_bias: initial bias of the disparity. The published 5 starts at sigmoid(5) = 0.993, all near,
            where the sigmoid is almost flat; 0 starts as Monodepth2 does.

    Raises:
        InputError: not five features, a scale or a split outside its range, a negative number.
    """

    def __init__(
        self,
        num_channels: Sequence[int],
        scales: Sequence[int] = (0, 1, 2, 3),
        classes: int = 20,
        split_position: int = 1,
        depth_gradient: float = 0.9,
        segmentation_gradient: float = 0.1,
        disparity_bias: float = 5.0,
    ) -> None:
        super().__init__()
        if len(num_channels) != len(WIDTHS):
            raise InputError(f"the split decoder joins 5 features, got {len(num_channels)}")
        if not scales or len(set(scales)) < len(scales) or not set(scales) <= set(range(4)):
            raise InputError(f"scales must be different numbers from 0 to 3, got {list(scales)}; try 0 1 2 3")
        if split_position not in SPLITS:
            raise InputError(
                f"split_position, where the branches part, must be 0 to 4, got {split_position}; try 1"
            )
        if classes < 0:
            raise InputError(f"classes is the number of segmentation channels, got {classes}; try 20")
        for name, value in (("depth", depth_gradient), ("segmentation", segmentation_gradient)):
            if value < 0:
                raise InputError(f"{name}_gradient is a factor of at least 0, got {value}; try 0.9 and 0.1")
        self.scales, self.classes, self.split_position = tuple(scales), classes, split_position
        self.depth_gradient, self.segmentation_gradient = depth_gradient, segmentation_gradient
        self.finest_feature = 0 if classes else max(0, min(scales) - 1)  # finer features are not read
        self.first = max(2 * split_position - 1, 0)  # number of shared steps

        def steps(numbers: range) -> nn.ModuleDict:
            return nn.ModuleDict({f"step_{k}": _step(k, num_channels) for k in numbers})

        self.shared = steps(range(self.first))
        self.depth_steps = steps(range(self.first, STEPS))
        for k in range(_last_step(min(scales)) + 1, STEPS):  # only published weights fill these
            if k >= self.first:
                self.depth_steps[f"step_{k}"].requires_grad_(False)
            elif not classes:
                self.shared[f"step_{k}"].requires_grad_(False)
        self.disparity_heads = nn.ModuleDict({str(s): ReflectedConv(_width(s), 1) for s in scales})
        for head in self.disparity_heads.values():
            head.conv.bias.data += disparity_bias
        if classes:
            self.segmentation_steps = steps(range(self.first, STEPS))
            self.segmentation_head = ReflectedConv(_width(0), classes)

    def freeze_segmentation(self) -> None:
        """Freeze the segmentation branch, since distributed training would wait for its gradient."""
        self.segmentation_steps.requires_grad_(False)
        self.segmentation_head.requires_grad_(False)
        for k in range(_last_step(min(self.scales)) + 1, self.first):
            self.shared[f"step_{k}"].requires_grad_(False)

    def forward(self, features: Sequence[Tensor]) -> dict[int, Tensor]:
        """The disparities of an image's five features.

        Args:
            features: (B, C, H / 2 ** (k + 1), W / 2 ** (k + 1)), k = 0 to 4.

        Returns:
            scale → (B, 1, H / 2 ** scale, W / 2 ** scale) in (0, 1), float32.

        Raises:
            InputError: features of an image whose height or width is below 64 or not a multiple of 32.
        """
        return self.disparities(self.share(features))

    def share(self, features: Sequence[Tensor]) -> Shared:
        """Run the decoder steps that both tasks share. Arguments and errors are those of `forward`."""
        check_sizes(features)
        start = Shared(features[-1], list(features[:-1]), {})
        return _run(self.shared, range(self.first), start)

    def disparities(self, shared: Shared) -> dict[int, Tensor]:
        """scale → (B, 1, H / 2 ** scale, W / 2 ** scale) in (0, 1), float32."""
        return {scale: torch.sigmoid(logit.float()) for scale, logit in self.disparity_logits(shared).items()}

    def disparity_logits(self, shared: Shared) -> dict[int, Tensor]:
        """The output of `disparities` before the sigmoid."""
        numbers = range(self.first, max(self.first, _last_step(min(self.scales)) + 1))
        end = _run(self.depth_steps, numbers, shared.scaled(self.depth_gradient))
        return {scale: self.disparity_heads[str(scale)](end.outputs[scale]) for scale in self.scales}

    def logits(self, shared: Shared) -> Tensor:
        """(B, classes, H, W) unnormalised class scores, float32.

        Raises:
            InputError: the decoder has no segmentation branch.
        """
        if not self.classes:
            raise InputError("this split decoder has no segmentation branch; build it with classes 20")
        scaled = shared.scaled(self.segmentation_gradient)
        end = _run(self.segmentation_steps, range(self.first, STEPS), scaled)
        return self.segmentation_head(end.outputs[0]).float()


def _run(steps: nn.ModuleDict, numbers: range, start: Shared) -> Shared:
    """Run numbered steps from `start`; keeps the output of each level for the heads."""
    x, outputs = start.x, dict(start.outputs)
    for k in numbers:
        level = len(WIDTHS) - 1 - k // 2
        if k % 2:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = torch.cat([x, start.joined[level - 1]], 1) if level else x
        x = F.elu(steps[f"step_{k}"](x))
        if k % 2:
            outputs[level] = x
    return Shared(x, start.joined, outputs)


def _step(k: int, num_channels: Sequence[int]) -> ReflectedConv:
    m = k // 2
    if k % 2:
        joined = num_channels[3 - m] if m < 4 else 0
        return ReflectedConv(WIDTHS[m] + joined, WIDTHS[m])
    return ReflectedConv(WIDTHS[m - 1] if m else num_channels[-1], WIDTHS[m])


def _last_step(scale: int) -> int:
    """Number of the step whose output has the size of `scale`."""
    return 2 * (len(WIDTHS) - 1 - scale) + 1


def _width(scale: int) -> int:
    return WIDTHS[len(WIDTHS) - 1 - scale]
