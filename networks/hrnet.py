"""HRNet encoder: parallel branches of four sizes, which exchange features after every few blocks.

    x = (image - 0.45) / 0.225;   out_i = relu(sum over j of f_ij(branch_j))

f_ij is the identity for j = i, a 1 x 1 convolution and an enlargement for a coarser j, and one convolution of
stride 2 per halving for a finer j (Wang et al., PAMI 2020). The five features are those of the first
convolution, at half the image's size, and of the four branches. A context adds a first feature at the image's
own size (Liu et al., RA-L 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from checkpoints import read_file
from networks import NETWORKS
from networks._checkpointing import run_checkpointed
from utils import InputError

WIDTHS = (18, 30, 32, 40, 44, 48, 64)  # channels of the finest branch; each further one doubles them
OFFICIAL = "HRNet_W{}_C_cosinelr_cutmix_300epoch.pth.tar"  # the file of the authors' ImageNet weights


@NETWORKS.register
class Hrnet(nn.Module):
    """HRNet over one or more images. Keys are the official ones under `encoder.`.

    Args:
        width: channels of the finest branch: 18, 30, 32, 40, 44, 48 or 64.
        num_images: RGB images stacked on the channel axis.
        pretrained: start from ImageNet weights: the official file if it is in torch hub's cache or in
            ./hrnet_IN_pretrained, else timm's weights of the same network.
        context: add a first feature at the image's own size, 64 channels; keys `context_conv`,
            `context_bn`.

    Raises:
        InputError: an unknown width, `num_images` below 1, or ImageNet weights that cannot be loaded.
    """

    strides: Sequence[int] = (2, 4, 8, 16, 32)

    def __init__(
        self, width: int = 18, num_images: int = 1, pretrained: bool = False, context: bool = False
    ) -> None:
        super().__init__()
        if width not in WIDTHS:
            nearest = min(WIDTHS, key=lambda known: abs(known - width))
            raise InputError(
                f"hrnet has a width of {', '.join(map(str, WIDTHS))}, got {width}; the nearest is {nearest}"
            )
        if num_images < 1:
            raise InputError(f"num_images must be at least 1, got {num_images}")
        self.num_channels = [64, width, 2 * width, 4 * width, 8 * width]
        self.encoder = _Trunk(width)
        if pretrained:
            _load_imagenet(self.encoder, width)
        if num_images > 1:
            first = _conv(3 * num_images, 64, stride=2)
            if pretrained:  # n equal images give the features of one
                first.weight.data = self.encoder.conv1.weight.data.repeat(1, num_images, 1, 1) / num_images
            self.encoder.conv1 = first
        if context:
            self.strides, self.num_channels = (1, *self.strides), [64, *self.num_channels]
            self.context_conv = _conv(3 * num_images, 64)
            self.context_bn = nn.BatchNorm2d(64)
            # Not the running statistics, as published: they settle within a few hundred steps.
            self.context_conv.load_state_dict(self.encoder.conv1.state_dict())
            self.context_bn.load_state_dict(dict(self.encoder.bn1.named_parameters()), strict=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3 num_images, H, W) in [0, 1] to features (B, num_channels[k], H / stride, W / stride)."""
        x = (image - 0.45) / 0.225
        features = self.encoder(x)
        if not hasattr(self, "context_conv"):
            return features
        return [F.relu(self.context_bn(self.context_conv(x))), *features]


class _Trunk(nn.Module):
    """The official network without its classification head."""

    gradient_checkpointing = False  # recompute the activations of stages; the trainer sets it

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width, 2 * width, 4 * width, 8 * width]
        self.conv1, self.bn1 = _conv(3, 64, stride=2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = _conv(64, 64, stride=2), nn.BatchNorm2d(64)
        widen = nn.Sequential(nn.Conv2d(64, 256, 1, bias=False), nn.BatchNorm2d(256))
        self.layer1 = nn.Sequential(
            Bottleneck(64, 64, downsample=widen), *(Bottleneck(256, 64) for _ in range(3))
        )
        begin = [
            _conv_norm_relu(256, channels[0]),
            nn.Sequential(_conv_norm_relu(256, channels[1], stride=2)),
        ]
        self.transition1 = nn.ModuleList(begin)
        self.stage2 = _stage(channels[:2], modules=1)
        self.transition2 = _one_branch_more(channels[:3])
        self.stage3 = _stage(channels[:3], modules=4)
        self.transition3 = _one_branch_more(channels[:4])
        self.stage4 = _stage(channels, modules=3)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = F.relu(self.bn1(self.conv1(x)))
        x = self._run(self.layer1, F.relu(self.bn2(self.conv2(first))))
        branches = self._run(self.stage2, [transition(x) for transition in self.transition1])
        for transition, stage in ((self.transition2, self.stage3), (self.transition3, self.stage4)):
            branches = [*branches, transition[-1](branches[-1])]
            for exchange in stage:
                branches = self._run(exchange, branches)
        return [first, *branches]

    def _run(self, part: nn.Module, x: Tensor | list[Tensor]) -> Any:
        return run_checkpointed(part, x) if self.gradient_checkpointing and self.training else part(x)


class _Exchange(nn.Module):
    """Four blocks on every branch, then each branch adds the features of the others: list in, list out."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width, width) for _ in range(4))) for width in channels
        )
        count = range(len(channels))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._fuse(channels, i, j) for j in count) for i in count
        )

    @staticmethod
    def _fuse(channels: Sequence[int], i: int, j: int) -> nn.Module:
        """From branch j to the channels of branch i and, if j is finer, to its size."""
        if j == i:
            return nn.Identity()
        if j > i:
            return nn.Sequential(
                nn.Conv2d(channels[j], channels[i], 1, bias=False), nn.BatchNorm2d(channels[i])
            )
        steps: list[nn.Module] = [
            _conv_norm_relu(channels[j], channels[j], stride=2) for _ in range(i - j - 1)
        ]
        last = nn.Sequential(_conv(channels[j], channels[i], stride=2), nn.BatchNorm2d(channels[i]))
        return nn.Sequential(*steps, last)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        branches = [branch(x) for branch, x in zip(self.branches, inputs)]
        outputs = []
        for i, fuse in enumerate(self.fuse_layers):
            size = branches[i].shape[-2:]
            total = fuse[0](branches[0])
            for j in range(1, len(branches)):
                other = fuse[j](branches[j])
                if j > i:
                    other = F.interpolate(other, size, mode="bilinear", align_corners=True)
                total = total + other
            outputs.append(F.relu(total))
        return outputs


def _stage(channels: Sequence[int], modules: int) -> nn.Sequential:
    return nn.Sequential(*(_Exchange(channels) for _ in range(modules)))


def _one_branch_more(channels: Sequence[int]) -> nn.ModuleList:
    """All branches unchanged, and a further one at half the size of the coarsest, made from it."""
    begin = nn.Sequential(_conv_norm_relu(channels[-2], channels[-1], stride=2))
    return nn.ModuleList([*(nn.Identity() for _ in channels[:-1]), begin])


def _conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def _conv_norm_relu(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels), nn.ReLU())


# ------------------------------------------------------------------------------------------------- ImageNet


def _load_imagenet(trunk: nn.Module, width: int) -> None:
    """Load the trunk's weights. The file must hold all of its keys; the classification head is ignored."""
    name = OFFICIAL.format(width)
    paths = [Path(torch.hub.get_dir()) / "checkpoints" / name, Path("hrnet_IN_pretrained") / name]
    file = next((path for path in paths if path.is_file()), None)
    weights = _from_timm(width, paths[0]) if file is None else read_file(file)
    ours = trunk.state_dict()
    taken = {key: weights[key] for key in ours if key in weights}
    # Older files lack this counter, and nothing reads it.
    wrong = [key for key in ours if key not in taken and not key.endswith(".num_batches_tracked")]
    wrong += [key for key in taken if taken[key].shape != ours[key].shape]
    if wrong:
        raise InputError(
            f"{file} does not hold the ImageNet weights of hrnet{width}: it has no {wrong[0]} of the right "
            "shape; put the official file there, or start with --weights_init scratch"
        )
    trunk.load_state_dict(taken, strict=False)


def _from_timm(width: int, path: Path) -> dict[str, Tensor]:
    """timm's weights of the same network under the same keys, downloaded if timm's cache lacks them."""
    import timm

    try:
        return timm.create_model(f"hrnet_w{width}", pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"no ImageNet weights for hrnet{width}: timm's could not be fetched ({error}), and there is no "
            f"{path}; put the official file there, or start with --weights_init scratch"
        ) from error
