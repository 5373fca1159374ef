"""SC-Depth V1 to V3: depth of one scale over a whole video, also hand-held and with moving objects.

    v1   target and sources explain each other's colours and agree on depth, in both directions
         (Bian et al., Unsupervised Scale-consistent Depth Learning from Video, IJCV 2021)
    v2   v1 on sources whose rotation a network has taken out
         (Bian et al., Auto-Rectify Network for Unsupervised Indoor Depth Estimation, PAMI 2021)
    v3   v1 without smoothness, with three terms on pseudo-depth from a network trained on other data
         (Sun, Bian et al., SC-DepthV3: Robust Self-supervised Depth for Dynamic Scenes, PAMI 2023)

The depth network sees target and sources, each by itself. The pose network sees each pair in both orders, and
neither answer is inverted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from layers import euler_to_rotation, invert_rigid, rigid
from losses._draws import generator_for
from losses._pairs import compare_pairs
from methods import METHODS
from methods.monodepth2 import Monodepth2
from networks import NETWORKS, build_encoder
from networks.rectifier import Rectified, turn
from structures import Batch, Frame, Prediction
from utils import InputError, nearest_name

VERSIONS = ("v1", "v2", "v3")
NEAREST = 1 / 10.01  # depth is 1 / (10 sigmoid + 0.01)


@METHODS.register
class ScDepth(Monodepth2):
    """Monodepth2's networks under pairwise consistency; takes its settings as well, except for pose variants.

    Args:
        version: `v1`, `v2` or `v3`.
        published: sample, pad, reduce and draw pairs as the published code does; see the terms' options.
        scales: only scale 0 is trained.
        decoder: `depth_decoder_bilinear` is SC-Depth's, `depth_decoder` that of SC-SfMLearner.
        pose_encoder: the published one is a ResNet-18 beside any depth encoder.
        min_depth, max_depth: depth at disparity 1 and 0, in the unit of the translations.
        losses: term → weight and settings, over the version's.

    Raises:
        InputError: an unknown version; what Monodepth2 refuses; another scale or pose variant.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "scales": [0],
        "decoder": "depth_decoder_bilinear",
        "pose_encoder": "resnet18",
        "min_depth": NEAREST,
        "height": 256,
        "width": 832,
        "batch_size": 4,
        "num_epochs": 100,
        "scheduler": "constant",
    }

    def __init__(
        self,
        version: str = "v1",
        published: bool = False,
        scales: Sequence[int] = (0,),
        decoder: str = "depth_decoder_bilinear",
        pose_encoder: str | None = "resnet18",
        min_depth: float = NEAREST,
        max_depth: float = 100.0,
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        if version not in VERSIONS:
            raise InputError(f"sc_depth has no version '{version}'{nearest_name(version, VERSIONS)}")
        if tuple(scales) != (0,):
            raise InputError(
                f"sc_depth compares depth at the images' size, got --scales {list(scales)}; try 0"
            )
        terms = _terms(version, published)
        for name, chosen in (losses or {}).items():
            terms[name] = {**terms.get(name, {"weight": 1.0}), **(chosen or {})}
        super().__init__(
            scales=scales,
            decoder=decoder,
            pose_encoder=pose_encoder,
            min_depth=min_depth,
            max_depth=max_depth,
            losses=terms,
            **settings,
        )
        if self.pose_model_type != "separate_resnet" or self.pose_model_input != "pairs" or self.views:
            raise InputError(
                "sc_depth has a ResNet for pairs of frames and no augmented views; leave --pose_model_type, "
                "--pose_model_input and --views at their defaults"
            )
        self.version = version
        if version == "v2":
            pretrained = settings.get("weights_init", "pretrained") == "pretrained"
            self.rectifier = NETWORKS.get("rectifier")(pretrained=pretrained)

    def forward(self, batch: Batch) -> Prediction:
        """Depth of all frames and poses in both directions; `sources` has those of the sources."""
        images, rectified = self._rectified(batch)
        with self.networks_autocast():
            disparities = {frame: self.depth(self.encoder(image))[0] for frame, image in images.items()}
            motions = {
                (to, start): self._motion(images[start], images[to])
                for frame in batch.sources
                if frame != "s"
                for to, start in ((frame, 0), (0, frame))
            }
        with self.in_float32():
            prediction = self._predicted(batch, 0, disparities[0])
            for frame in batch.sources:
                prediction.sources[frame] = source = self._predicted(batch, frame, disparities[frame])
                if frame == "s":
                    there = batch.T_source_from_target["s"]
                    back = invert_rigid(there)
                else:
                    there, back = (_pose(motions[pair]) for pair in ((frame, 0), (0, frame)))
                prediction.T_source_from_target[frame] = there
                source.T_source_from_target[0] = back
                if frame in rectified:
                    source.extra["seen"] = rectified[frame].seen
            if rectified:
                prediction.extra["rectified"] = rectified
        return prediction

    def losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """The version's terms; V2 compares the rectified sources."""
        return super().losses(self._compared(batch, prediction), prediction)

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] twice to (B, 4, 4) T_later_from_earlier.

        V2 takes the rotation out first, which needs intrinsics, and is refused.
        """
        if self.version == "v2":
            raise InputError(
                "V2 predicts the motion of rectified frames, which needs intrinsics; use V1 or V3"
            )
        with self.networks_autocast():
            motion = self._motion(earlier, later)
        return _pose(motion)

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Target, disparity, each source warped into it, and the self-discovered mask; all (B·N, C, H, W)."""
        compared = self._compared(batch, prediction)
        pairs = compare_pairs(compared, prediction, normalised=False)
        shown = {"target": batch.images[0], "disparity": prediction.disparities[0]}
        for frame, warped in zip(batch.sources, pairs.warped[::2]):
            shown[f"warped_{frame}"] = warped.clamp(0, 1)
        shown["static"] = pairs.static_weight().clamp(0, 1)
        if "pseudo_depth" in batch.maps:
            near = 1 / batch.maps["pseudo_depth"].float().clamp(min=1e-6)
            near = near.where(batch.maps["pseudo_depth"] > 0, 0.0)
            shown["pseudo_disparity"] = near / near.amax((2, 3), keepdim=True).clamp(min=1e-12)
        return {name: F.interpolate(image, batch.images[0].shape[-2:]) for name, image in shown.items()}

    def _build_pose(self, encoder: str, pretrained: bool) -> None:
        self.pose_encoder = build_encoder(encoder, num_images=2, pretrained=pretrained)
        decoder = NETWORKS.get("pose_decoder")
        self.pose = decoder(self.pose_encoder.num_channels, num_input_features=1, num_frames=1)

    def _motion(self, start: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        """Euler angles and translation that take points of `start` to `to`, (B, 3) each."""
        angles, translation = self.pose([self.pose_encoder(torch.cat([start, to], 1))])
        return angles[:, 0], translation[:, 0]

    def _predicted(self, batch: Batch, frame: Frame, disparity: Tensor) -> Prediction:
        disparity = disparity.float()
        return Prediction({0: disparity}, {0: self.depth_of(disparity, batch)})

    def _rectified(self, batch: Batch) -> tuple[dict[Frame, Tensor], dict[Frame, Rectified]]:
        """The networks' images, and what rectification made of each source in V2."""
        images = dict(batch.network_images)
        rectified: dict[Frame, Rectified] = {}
        if self.version == "v2":
            generator = generator_for(batch, "rectifier")
            with self.networks_autocast():
                for frame in batch.sources:
                    if frame != "s":  # a stereo pair is rectified already
                        rectified[frame] = self.rectifier.rectify(
                            images[0], images[frame], batch.intrinsics, generator
                        )
        return images | {frame: one.image for frame, one in rectified.items()}, rectified

    @staticmethod
    def _compared(batch: Batch, prediction: Prediction) -> Batch:
        """The batch with the sources that losses compare: in V2 turned by the rotation that was found."""
        rectified = prediction.extra.get("rectified", {})
        if not rectified:
            return batch
        images = dict(batch.images)
        for frame, one in rectified.items():
            if batch.augmented is None:
                images[frame] = one.image
            else:
                images[frame] = turn(batch.images[frame], one.before, batch.intrinsics)[0]
        return dataclasses.replace(batch, images=images)


def _pose(motion: tuple[Tensor, Tensor]) -> Tensor:
    """(B, 4, 4) from Euler angles and translation."""
    angles, translation = (values.float() for values in motion)
    return rigid(euler_to_rotation(angles), translation)


def _terms(version: str, published: bool) -> dict[str, dict[str, Any]]:
    """The version's loss terms with their published weights."""
    warp = {"published_warp": True} if published else {}
    reduction = {"reduction": "published"} if published else {}
    terms: dict[str, dict[str, Any]] = {
        "photometric": {"weight": 0.0},
        "smoothness": {"weight": 0.0},
        "pairwise": {"weight": 1.0, **warp, **reduction},
    }
    if version in ("v1", "v2"):
        terms["depth_smoothness"] = {"weight": 0.1}
    if version == "v2":
        terms["rotation"] = {"weight": 1.0}
    if version == "v3":
        terms["normal_matching"] = {"weight": 0.1}
        terms["mask_ranking"] = {"weight": 0.1, "published_pairs": published, **warp}
        terms["edge_ranking"] = {"weight": 0.1, "published": published}
    return terms
