"""Any plain vision transformer of timm as an encoder: tokens of several blocks, reassembled to a pyramid.

    f_k = resize_k(project_k(tokens of block l_k)),   l_k at 1/4, 2/4, 3/4 and 4/4 of the depth

A ViT, DeiT, EVA, DINOv2 or DINOv3 has one resolution, a patch. Resizing is a transposed convolution for finer
features and a strided one for coarser ones (Ranftl et al., Vision Transformers for Dense Prediction, ICCV
2021, section 3.1). The position embeddings are interpolated, so that the image may have any size that is a
multiple of the patch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks import NETWORKS
from networks._lora import merge_lora
from networks._timm import add_normalisation, check_model, create, is_plain
from utils import InputError, nearest_name

READOUTS = ("ignore", "add", "project")
COARSEST = 32  # stride of the coarsest feature
LEVELS = 4  # features, of about the strides 4, 8, 16 and 32


@NETWORKS.register("vit")
class VitEncoder(nn.Module):
    """A transformer over one or more images. Keys are timm's under `encoder.`, then `readouts`, `reassemble`.

    Args:
        model: timm's name, with or without the tag of its weights: `vit_small_patch14_dinov2`.
        num_images: RGB images stacked on the channel axis.
        pretrained: start from timm's weights; for n images the first layer is repeated and divided by n.
        weights: a file or `hf://OWNER/NAME` whose weights `pretrained` loads instead of timm's own.
        blocks: numbers of the four blocks whose tokens are read, from 0, ascending; a quarter of the depth
            apart if not given. Later blocks are left out.
        channels: channels of the four features, finest first; 1/8, 1/4, 1/2 and all of the width if not
            given, as in DPT and Depth Anything.
        readout: use of the class token: `ignore`; `add` it to every token; `project` it with each token.
        norm: apply the transformer's last norm to the tokens of every block, as Depth Anything does.

    Attributes:
        num_channels: channels of the five features; the first, of stride 2, has none.
        patch: side of a patch, pixels.
        smallest: least height and width, pixels; every size is a multiple of it.

    Raises:
        InputError: an unknown model or one that is not a plain transformer; blocks, channels or a readout
            that it does not have; weights that cannot be loaded.
    """

    strides = (2, 4, 8, 16, COARSEST)  # those of patches of 8, 16 or 32 pixels

    def __init__(
        self,
        model: str,
        num_images: int = 1,
        pretrained: bool = False,
        weights: str | None = None,
        blocks: Sequence[int] | None = None,
        channels: Sequence[int] | None = None,
        readout: str = "ignore",
        norm: bool = False,
    ) -> None:
        super().__init__()
        check_model(model)
        if not is_plain(model):
            raise InputError(
                f"timm model '{model}' is not a plain transformer; try 'vit_small_patch16_224' or "
                "'vit_small_patch14_dinov2'"
            )
        if readout not in READOUTS:
            raise InputError(f"there is no readout '{readout}'{nearest_name(readout, READOUTS)}")
        self.model, self.readout, self.norm = model, readout, norm
        settings = {"num_classes": 0, "dynamic_img_size": True}
        try:
            self.encoder = create(model, num_images, pretrained, weights, **settings)
        except TypeError:
            raise InputError(f"timm model '{model}' takes images of one size only; try DINOv2's") from None
        depth, width = len(self.encoder.blocks), self.encoder.embed_dim
        self.patch = int(self.encoder.patch_embed.feat_ratio())
        self.smallest = math.lcm(COARSEST, self.patch)
        self.blocks = _checked_blocks(model, blocks, depth)
        if readout != "ignore" and not self.encoder.num_prefix_tokens:
            raise InputError(f"timm model '{model}' has no class token; leave readout at 'ignore'")
        self.encoder.prune_intermediate_layers(list(self.blocks), prune_norm=not norm, prune_head=True)
        channels = [width // 8, width // 4, width // 2, width] if channels is None else list(channels)
        if len(channels) != LEVELS or min(channels) < 1:
            raise InputError(f"channels must be {LEVELS} numbers above 0, got {channels}")
        self.num_channels = [0, *channels]
        if readout == "project":
            self.readouts = nn.ModuleList(nn.Linear(2 * width, width) for _ in channels)
        finest = 2 ** round(math.log2(self.patch))  # 14 counts as 16
        self.reassemble = nn.ModuleList(
            Reassemble(width, own, finest / stride) for own, stride in zip(channels, (4, 8, 16, COARSEST))
        )
        self.planar: nn.Module | None = None  # `networks.planar` sets it
        add_normalisation(self, model, num_images)

    def planar_form(self) -> nn.Module:
        """The transformer with merged LoRA factors, and attention with at most four axes."""
        found = copy.deepcopy(self.encoder)
        merge_lora(found)
        for block in found.blocks:
            # timm's plain attention, without relative positions and gates.
            if type(block.attn).__name__ == "Attention" and getattr(block.attn, "gate", None) is None:
                block.attn = _PlanarAttention(block.attn)
        return found

    def forward(self, image: Tensor) -> list[Tensor]:
        """Five features of an image.

        Args:
            image: (B, 3 num_images, H, W) in [0, 1].

        Returns:
            (B, 0, H / 2, W / 2), then four of (B, num_channels[k], h, w), h = H / 4, H / 8, H / 16 and H / 32
            for patches of 8, 16 or 32 pixels. For others they have the sizes of the nearest of these: 4, 2, 1
            and 1/2 times the number of patches of 14.

        Raises:
            InputError: a height or width that is not a multiple of the patch.
        """
        batch, _, height, width = image.shape
        if height % self.patch or width % self.patch:
            unit = self.smallest
            near = [max(unit, round(side / unit) * unit) for side in (height, width)]
            raise InputError(
                f"{self.model} has patches of {self.patch} pixels, so height and width must be multiples of "
                f"{unit}, got {height} x {width}; try --height {near[0]} --width {near[1]}"
            )
        network = self.encoder if self.planar is None else self.planar
        found = network.forward_intermediates(
            (image - self.mean) / self.std,
            indices=list(self.blocks),
            return_prefix_tokens=self.readout != "ignore",
            norm=self.norm,
            intermediates_only=True,
        )
        features = [image.new_empty(batch, 0, height // 2, width // 2)]
        for level, (tokens, part) in enumerate(zip(found, self.reassemble)):
            features.append(part(tokens if self.readout == "ignore" else self._read(level, *tokens)))
        return features

    def _read(self, level: int, tokens: Tensor, prefix: Tensor) -> Tensor:
        """Tokens (B, C, h, w) joined with the class token, the first of the prefix (B, n, C)."""
        class_token = prefix[:, 0, :, None, None].expand_as(tokens)
        if self.readout == "add":
            return tokens + class_token
        joined = torch.cat([tokens, class_token], 1).permute(0, 2, 3, 1)
        return F.gelu(self.readouts[level](joined)).permute(0, 3, 1, 2)


class Reassemble(nn.Module):
    """Tokens to a feature: (B, width, h, w) to (B, channels, factor h, factor w), factor a power of two."""

    def __init__(self, width: int, channels: int, factor: float) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, channels, 1)
        self.resize: nn.Module = nn.Identity()
        if factor > 1:
            self.resize = nn.ConvTranspose2d(channels, channels, int(factor), stride=int(factor))
        elif factor < 1:
            step = round(1 / factor)
            self.resize = nn.Conv2d(channels, channels, 2 * step - 1, stride=step, padding=step - 1)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.resize(self.project(tokens))


class _PlanarAttention(nn.Module):
    """timm's attention with its `qkv` as three tensors of four axes instead of one of five."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        own = self.attention
        heads, size = own.num_heads, own.head_dim
        parts = [part.unflatten(2, (heads, size)).transpose(1, 2) for part in own.qkv(x).chunk(3, 2)]
        q, k, v = own.q_norm(parts[0]), own.k_norm(parts[1]), parts[2]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=is_causal)
        x = own.norm(x.transpose(1, 2).flatten(2))
        return own.proj(x)


def _checked_blocks(model: str, blocks: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    if blocks is None:
        blocks = [depth * (level + 1) // LEVELS - 1 for level in range(LEVELS)]
    ascending = all(one < other for one, other in pairwise(blocks))
    if len(blocks) != LEVELS or not ascending or min(blocks) < 0 or max(blocks) >= depth:
        raise InputError(
            f"blocks must be {LEVELS} ascending numbers below {depth}, the depth of '{model}', got "
            f"{list(blocks)}; leave them out for every quarter"
        )
    return tuple(int(block) for block in blocks)
