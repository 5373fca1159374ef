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
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from layers import euler_to_rotation, invert_rigid, rigid, sample, sampling_grid
from losses._draws import generator_for
from losses._pairs import compare_pairs
from methods import METHODS
from methods._networks import DepthAndMotion
from networks import NETWORKS, build_encoder
from networks.rectifier import Rectified, turn
from structures import Batch, Frame, Prediction
from utils import InputError, nearest_name

VERSIONS = ("v1", "v2", "v3")
NEAREST = 1 / 10.01  # depth is 1 / (10 sigmoid + 0.01)


class PairMotion(NamedTuple):
    """Poses of one source, (B·N, 4, 4) each: source from target, and target from source."""

    there: Tensor
    back: Tensor


@METHODS.register
class ScDepth(DepthAndMotion):
    """Monodepth2's networks under pairwise consistency.

    Args:
        version: `v1`, `v2` or `v3`.
        published: sample, pad, reduce and draw pairs as the published code does; see the terms' options.
        scales: only scale 0 is trained.
        decoder: `depth_decoder_bilinear` is SC-Depth's, `depth_decoder` that of SC-SfMLearner.
        pose_encoder: the published one is a ResNet-18 for every depth encoder.
        min_depth: depth at disparity 1, in the unit of the translations.
        max_depth: depth at disparity 0.
        losses: term → weight and settings, over the version's; a weight of 0 removes a term.

    Raises:
        InputError: an unknown version; another scale or pose variant; what `DepthAndMotion` refuses.
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
    provides: ClassVar[tuple[str, ...]] = ("sources.depths", "sources.T_target_from_source")
    only_for_training: ClassVar[tuple[str, ...]] = ("pose_encoder", "pose", "rectifier")

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
            raise InputError(f"sc_depth compares depth at full size, got --scales {list(scales)}; try 0")
        super().__init__(
            scales=scales,
            decoder=decoder,
            pose_encoder=pose_encoder,
            min_depth=min_depth,
            max_depth=max_depth,
            **settings,
        )
        if (self.pose_model_type, self.pose_model_input) != ("separate_resnet", "pairs"):
            raise InputError(
                "sc_depth has a ResNet for pairs of frames; leave --pose_model_type and --pose_model_input "
                "at their defaults"
            )
        self.version = version
        if version == "v2":
            pretrained = settings.get("weights_init", "pretrained") == "pretrained"
            self.rectifier = NETWORKS.get("rectifier")(pretrained=pretrained)
            self.provides = (*self.provides, "extra.rectified")
        self.build_losses(_terms(version, published), losses or {})

    def _build_pose(self, encoder: str, pretrained: bool) -> None:
        self.pose_encoder = build_encoder(encoder, num_images=2, pretrained=pretrained)
        decoder = NETWORKS.get("pose_decoder")
        self.pose = decoder(self.pose_encoder.num_channels, num_input_features=1, num_frames=1)

    # Training.

    def run_networks(self, batch: Batch, plain: Prediction | None = None) -> Prediction:
        """Disparities of all frames, each by itself, and `PairMotion`s; V2 first takes rotation out.

        Raises:
            InputError: V2 on augmented views.
        """
        rectified: dict[Frame, Rectified] = {}
        if self.version == "v2":
            if plain is not None:
                raise InputError("V2 rectifies whole images; leave --views out, or use --method.version v1")
            rectified = self.rectify_sources(batch)
            images = {frame: one.image for frame, one in rectified.items()}
            batch = dataclasses.replace(batch, augmented={**batch.network_images, **images})
        prediction = super().run_networks(batch, plain)
        if rectified:
            prediction.extra["rectified"] = rectified
            for frame, source in prediction.sources.items():
                if frame in rectified:
                    source.extra["seen"] = rectified[frame].seen
        return prediction

    def rectify_sources(self, batch: Batch) -> dict[Frame, Rectified]:
        """Each source without its rotation; a stereo partner has none."""
        images, generator = batch.network_images, generator_for(batch, "rectifier")
        with self.networks_autocast():
            return {
                frame: self.rectifier.rectify(images[0], images[frame], batch.intrinsics, generator)
                for frame in batch.sources
                if frame != "s"
            }

    def predict_motions(
        self, images: Mapping[Frame, Tensor], features: Mapping[Frame, list[Tensor]]
    ) -> dict[Frame, PairMotion]:
        """Source → poses in both directions, each predicted from the pair in its order."""
        return {
            frame: PairMotion(self._pose(images[0], images[frame]), self._pose(images[frame], images[0]))
            for frame in images
            if frame not in (0, "s")
        }

    def _pose(self, start: Tensor, end: Tensor) -> Tensor:
        """(B·N, 4, 4) T_end_from_start; the network predicts Euler angles."""
        angles, translation = self.pose([self.pose_encoder(torch.cat([start, end], 1))])
        with self.in_float32():
            translation = translation[:, 0].float() * self.translation_factor
            return rigid(euler_to_rotation(angles[:, 0].float()), translation)

    def add_geometry(self, batch: Batch, prediction: Prediction) -> None:
        """Fill depths and poses of target and sources; sampling grids and warped sources if a term of
        another method reads them.
        """
        with self.in_float32():
            prediction.depths[0] = self.depth_of(prediction.disparities[0], batch)
            motions: Mapping[Frame, PairMotion] = prediction.extra.get("motions", {})
            for frame in batch.sources:
                if frame in motions:
                    there, back = motions[frame]
                else:
                    there = batch.T_source_from_target[frame]
                    back = invert_rigid(there)
                source = prediction.sources.setdefault(frame, Prediction({}))
                prediction.T_source_from_target[frame] = there
                source.T_source_from_target[0] = back
                if source.disparities:
                    source.depths[0] = self.depth_of(source.disparities[0], batch)
            if "photometric" in self.loss_terms:
                self._warp_sources(self.compared(batch, prediction), prediction)

    @staticmethod
    def _warp_sources(batch: Batch, prediction: Prediction) -> None:
        """Fill `grids` and `warped`, for terms of other methods."""
        count = len(batch.sources)
        images = torch.cat([batch.images[frame] for frame in batch.sources])
        poses = torch.cat([prediction.T_source_from_target[frame] for frame in batch.sources])
        depth = prediction.depths[0].repeat(count, 1, 1, 1)
        grid = sampling_grid(depth, batch.intrinsics.repeat(count, 1, 1), poses)
        prediction.grids[0] = grid.unflatten(0, (count, -1))
        prediction.warped[0] = sample(images, grid).unflatten(0, (count, -1))

    def losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """The version's terms; V2 compares the rectified sources."""
        return super().losses(self.compared(batch, prediction), prediction)

    @staticmethod
    def compared(batch: Batch, prediction: Prediction) -> Batch:
        """The batch with the sources that losses compare: in V2 turned by the rotation that was found."""
        rectified: Mapping[Frame, Rectified] = prediction.extra.get("rectified", {})
        images = {
            frame: one.image
            if batch.augmented is None
            else turn(batch.images[frame], one.before, batch.intrinsics)[0]
            for frame, one in rectified.items()
        }
        return dataclasses.replace(batch, images={**batch.images, **images}) if images else batch

    # Inference.

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] twice to (B, 4, 4) T_later_from_earlier.

        Raises:
            InputError: V2, whose pose network sees rectified frames; rectification needs intrinsics.
        """
        if self.version == "v2":
            raise InputError("V2 predicts motion of rectified frames, which needs intrinsics; use V1 or V3")
        with self.networks_autocast():
            return self._pose(earlier, later)

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Target, disparity, each source warped into it, and the self-discovered mask; all (B·N, C, H, W)."""
        shown = {"target": batch.images[0], "disparity": prediction.disparities[0]}
        if self.reads("sources.depths"):
            pairs = compare_pairs(self.compared(batch, prediction), prediction, normalised=False)
            for frame, warped in zip(batch.sources, pairs.warped[::2]):
                shown[f"warped_{frame}"] = warped.clamp(0, 1)
            shown["static"] = pairs.static_weight().clamp(0, 1)
        if "pseudo_depth" in batch.maps:
            pseudo = batch.maps["pseudo_depth"].float()
            inverse = torch.where(pseudo > 0, 1 / pseudo.clamp(min=1e-6), 0.0)
            shown["pseudo_disparity"] = inverse / inverse.amax((2, 3), keepdim=True).clamp(min=1e-12)
        size = batch.images[0].shape[-2:]
        return {name: F.interpolate(image, size) for name, image in shown.items()}


def _terms(version: str, published: bool) -> dict[str, dict[str, Any]]:
    """The version's loss terms with their published weights."""
    warp = {"published_warp": True} if published else {}
    reduction = {"reduction": "published"} if published else {}
    terms: dict[str, dict[str, Any]] = {
        "pairwise": {"weight": 1.0, **warp, **reduction},
    }
    if version in ("v1", "v2"):
        terms["depth_smoothness"] = {"weight": 0.1}
    if version == "v2":
        terms["rotation"] = {"weight": 1.0}
    if version == "v3":
        terms["normal_matching"] = {"weight": 0.1}
        ranking = {"published_pairs": published, "published_difference": published}
        terms["mask_ranking"] = {"weight": 0.1, **ranking, **warp}
        terms["edge_ranking"] = {"weight": 0.1, "published": published}
    return terms
