"""ResNet encoder: torchvision's network without its classifier, with features after five stages.

    x = (image - 0.45) / 0.225;   features[k] has stride 2 ** (k + 1)

A context adds a first feature at the image's own size: a copy of the first convolution without its stride
(Liu et al., RA-L 2024).

Several images, stacked on the channel axis, need a wider first convolution; a pose network reads two frames
this way (He et al., CVPR 2016; as in Godard et al., ICCV 2019).
"""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torchvision import models

from networks import NETWORKS
from utils import InputError

NUM_LAYERS = (18, 34, 50, 101, 152)


@NETWORKS.register
class Resnet(nn.Module):
    """ResNet with 18 to 152 layers over one or more images. Keys are torchvision's under `encoder.`.

    Args:
        num_layers: 18, 34, 50, 101 or 152.
        num_images: RGB images stacked on the channel axis.
        pretrained: start from torchvision's ImageNet weights (IMAGENET1K_V1). For n images the first
            convolution is repeated n times and divided by n, so that n equal images give the features of one.

    Raises:
        InputError: another number of layers, `num_images` below 1, or ImageNet weights that cannot be loaded.
    """

    strides = (2, 4, 8, 16, 32)

    def __init__(self, num_layers: int = 18, num_images: int = 1, pretrained: bool = False) -> None:
        super().__init__()
        if num_layers not in NUM_LAYERS:
            nearest = min(NUM_LAYERS, key=lambda layers: abs(layers - num_layers))
            raise InputError(
                f"resnet has 18, 34, 50, 101 or 152 layers, got {num_layers}; the nearest is {nearest}"
            )
        if num_images < 1:
            raise InputError(f"num_images must be at least 1, got {num_images}")
        widen = 1 if num_layers < 50 else 4  # bottleneck blocks end four times as wide
        self.num_channels = [64, *(widen * channels for channels in (64, 128, 256, 512))]
        # torchvision's initialisation is the published one: Kaiming normal over fan_out, norms at 1 and 0.
        self.encoder = models.get_model(f"resnet{num_layers}", weights=None)
        self.encoder.fc = nn.Identity()  # parameters without a gradient would stall distributed training
        if pretrained:
            _load_imagenet(self.encoder, num_layers)
        # Not persistent: a checkpoint's keys stay torchvision's.
        self.register_buffer("mean", None, persistent=False)
        self.register_buffer("std", None, persistent=False)
        if num_images > 1:
            self.encoder.conv1 = _repeat_input(self.encoder.conv1, num_images, pretrained)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3 num_images, H, W) in [0, 1] to five features (B, num_channels[k], H / stride, W / stride)."""
        net = self.encoder
        features = [self.first_feature(image)]
        features.append(net.layer1(net.maxpool(features[-1])))
        for stage in (net.layer2, net.layer3, net.layer4):
            features.append(stage(features[-1]))
        return features

    def first_feature(self, image: Tensor) -> Tensor:
        """Only the first of the five features, (B, 64, H / 2, W / 2)."""
        net = self.encoder
        return net.relu(net.bn1(net.conv1(self.normalised(image))))

    def normalised(self, image: Tensor) -> Tensor:
        """The input of the first convolution, (B, 3 num_images, H, W)."""
        if self.mean is None:
            return (image - 0.45) / 0.225
        repeats = image.shape[1] // 3
        return (image - self.mean.repeat(repeats, 1, 1)) / self.std.repeat(repeats, 1, 1)

    def normalise_by_channel(self) -> None:
        """Use ImageNet's mean and deviation of each channel, as torchvision's own training and SGDepth do."""
        self.mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        self.std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def leave_images_raw(self) -> None:
        """Take images in [0, 1] as they are, as FeatDepth's auto-encoder does."""
        self.mean, self.std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)


@NETWORKS.register("resnet_context")
class ResnetContext(Resnet):
    """ResNet with a further first feature at the image's own size. Keys are BDEdepth's.

    The context starts from the weights of the first convolution and norm, and is trained separately.

    Args:
        num_layers, num_images, pretrained: see `Resnet`.
    """

    strides = (1, 2, 4, 8, 16, 32)

    def __init__(self, num_layers: int = 18, num_images: int = 1, pretrained: bool = False) -> None:
        super().__init__(num_layers, num_images, pretrained)
        self.num_channels = [64, *self.num_channels]
        self.conv1 = nn.Conv2d(3 * num_images, 64, kernel_size=7, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        # Not the running statistics, as published: they settle within a few hundred steps.
        self.conv1.load_state_dict(self.encoder.conv1.state_dict())
        self.bn1.load_state_dict(dict(self.encoder.bn1.named_parameters()), strict=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3 num_images, H, W) in [0, 1] to six features, the first (B, 64, H, W)."""
        context = torch.relu(self.bn1(self.conv1((image - 0.45) / 0.225)))
        return [context, *super().forward(image)]


def _repeat_input(conv: nn.Conv2d, times: int, pretrained: bool) -> nn.Conv2d:
    """`conv` for `times` as many input channels: its weight repeated and divided, or new random weights."""
    wide = nn.Conv2d(3 * times, conv.out_channels, kernel_size=7, stride=2, padding=3, bias=False)
    if pretrained:
        wide.weight.data = conv.weight.data.repeat(1, times, 1, 1) / times
    else:
        nn.init.kaiming_normal_(wide.weight, mode="fan_out", nonlinearity="relu")
    return wide


def _load_imagenet(encoder: nn.Module, num_layers: int) -> None:
    """Load the weights of `encoder` from torch hub's cache; download the file first if it is missing."""
    weights = models.get_model_weights(f"resnet{num_layers}").IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        state = weights.get_state_dict(check_hash=True, map_location="cpu", weights_only=True)
        encoder.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    except (OSError, HTTPException, RuntimeError, EOFError, UnpicklingError) as error:
        if path.is_file():
            problem = f"{path} does not hold the ImageNet weights of resnet{num_layers}; delete it"
        else:
            problem = (
                f"no ImageNet weights for resnet{num_layers}: {path} is missing and could not be fetched "
                f"({error}); put {weights.url} there"
            )
        raise InputError(f"{problem}, or start with --weights_init scratch") from error
