"""Depth and motion networks of Monodepth2 and of the methods that extend it.

A depth network reads the target, a pose network the target and each source. The pose network gets a pair in
temporal order, and the motion is inverted for earlier sources, so that the network only learns forward motion
(Godard et al., ICCV 2019, supplement).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from layers import disparity_to_depth, pose_matrix
from methods._base import Method
from networks import NETWORKS, build_depth, build_encoder
from structures import Batch, Frame, Prediction
from utils import InputError, nearest_name


class Motion(NamedTuple):
    """Pose output for one source: axis-angle (B, 3) radians, translation (B, 3), and whether to invert."""

    axis_angle: Tensor
    translation: Tensor
    invert: bool

    def matrix(self, scale: Tensor | float = 1.0) -> Tensor:
        """(B, 4, 4) T_source_from_target, the translation times `scale` (B, 1)."""
        return pose_matrix(self.axis_angle, self.translation.float() * scale, self.invert)


class DepthAndMotion(Method):
    """A depth network for single images and a pose network for their motion.

    Args:
        frame_ids: 0 and the sources: -1 and 1 for video, "s" for the stereo partner.
        num_layers: layers of the ResNet encoders: 18, 34, 50, 101 or 152.
        encoder: another depth encoder by name (networks/, or a timm model); None for ResNet `num_layers`.
        decoder: depth decoder, a file of networks/: `depth_decoder`, `grid_decoder`, ...
        depth_network: a whole depth network instead of encoder and decoder: a file of networks/ such as
            `packnet`, or a section {name: packnet, version: 1A}.
        pose_encoder: another pose encoder; None for the depth encoder's ResNet, or resnet18 if the depth
            encoder is not a ResNet.
        pose_model_type: `separate_resnet`; `shared`, on the features of the depth encoder; `posecnn`.
        pose_model_input: `pairs` of target and source, or `all` frames at once.
        weights_init: `pretrained` on ImageNet, or `scratch`.
        scales: scales of the trained disparities; 0 is the input size.
        min_depth: depth at disparity 1, in the unit of the translations.
        max_depth: depth at disparity 0.

    Raises:
        InputError: settings that contradict each other, or a name that does not exist.
    """

    def __init__(
        self,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        num_layers: int = 18,
        encoder: str | None = None,
        decoder: str = "depth_decoder",
        depth_network: str | Mapping[str, Any] | None = None,
        pose_encoder: str | None = None,
        pose_model_type: str = "separate_resnet",
        pose_model_input: str = "pairs",
        weights_init: str = "pretrained",
        scales: Sequence[int] = (0, 1, 2, 3),
        min_depth: float = 0.1,
        max_depth: float = 100.0,
    ) -> None:
        super().__init__()
        self.frame_ids = check_frames(frame_ids)
        check_choice("weights_init", weights_init, ("pretrained", "scratch"))
        check_choice("pose_model_input", pose_model_input, ("pairs", "all"))
        if not 0 < min_depth < max_depth:
            raise InputError(f"need 0 < --min_depth < --max_depth, got {min_depth} and {max_depth}")
        self.min_depth, self.max_depth = min_depth, max_depth
        self.scales = tuple(scales)
        self.pose_model_type, self.pose_model_input = pose_model_type, pose_model_input
        self.video_frames = [frame for frame in self.frame_ids if frame != "s"]
        pretrained = weights_init == "pretrained"
        depth_encoder = encoder or f"resnet{num_layers}"
        if depth_network and pose_model_type == "shared":
            raise InputError(
                "--pose_model_type shared reads the features of a depth encoder, and --depth_network has "
                "none; leave one of them out"
            )
        networks = build_depth(depth_encoder, decoder, self.scales, pretrained, depth_network)
        for name, network in networks.items():
            setattr(self, name, network)
        if len(self.video_frames) > 1:
            resnet = depth_encoder.startswith("resnet") and not depth_network
            self._build_pose(pose_encoder or (depth_encoder if resnet else "resnet18"), pretrained)

    def _build_pose(self, encoder: str, pretrained: bool) -> None:
        frames = len(self.video_frames)
        seen = 2 if self.pose_model_input == "pairs" else frames
        decoder = NETWORKS.get("pose_decoder")
        if self.pose_model_type == "separate_resnet":
            self.pose_encoder = build_encoder(encoder, num_images=seen, pretrained=pretrained)
            # Two motions even for a pair: the second is never used, and published checkpoints hold it.
            motions = max(2, seen - 1)
            self.pose = decoder(self.pose_encoder.num_channels, num_input_features=1, num_frames=motions)
        elif self.pose_model_type == "shared":
            self.pose = decoder(self.encoder.num_channels, num_input_features=seen)
        elif self.pose_model_type == "posecnn":
            self.pose = NETWORKS.get("pose_cnn")(seen)
        else:
            check_choice("pose_model_type", self.pose_model_type, ("separate_resnet", "shared", "posecnn"))

    # Training.

    def run_networks(self, batch: Batch, plain: Prediction | None = None) -> Prediction:
        """Disparities of `depth_frames`, and motions (`extra["motions"]`) of the video sources.

        See `Method.run_networks`.
        """
        images = batch.network_images
        moving = len(self.video_frames) > 1
        with self.networks_autocast():
            shared = moving and plain is None and self.pose_model_type == "shared"
            features = self._shared_features(images) if shared else {}
            prediction = self.predict_disparities(images[0], features.get(0))
            for frame in self.depth_frames[1:]:
                prediction.sources[frame] = self.predict_disparities(images[frame], features.get(frame))
            if plain is None:
                motions = self.predict_motions(images, features) if moving else {}
        if plain is not None:
            motions = plain.extra["motions"]
            prediction.extra["scene_depths"] = plain.depths
        prediction.extra["motions"] = motions
        return prediction

    def predict_disparities(self, images: Tensor, features: list[Tensor] | None = None) -> Prediction:
        """Outputs of the depth network, without geometry.

        Args:
            images: (B·N, 3, H, W) in [0, 1].
            features: features of the depth encoder, if it has run already.

        Returns:
            float32 disparities.
        """
        if hasattr(self, "encoder"):
            outputs = self.depth(self.encoder(images) if features is None else features)
        else:
            outputs = self.depth(images)
        return Prediction({scale: disparity.float() for scale, disparity in outputs.items()})

    def _shared_features(self, images: Mapping[Frame, Tensor]) -> dict[Frame, list[Tensor]]:
        """Features of every frame in one pass, for a pose network that shares the depth encoder."""
        together = self.encoder(torch.cat([images[frame] for frame in self.frame_ids]))
        split = [level.chunk(len(self.frame_ids)) for level in together]
        return {frame: [level[n] for level in split] for n, frame in enumerate(self.frame_ids)}

    def predict_motions(
        self, images: Mapping[Frame, Tensor], features: Mapping[Frame, list[Tensor]]
    ) -> dict[Frame, Motion]:
        """Source → motion. Pairs are in temporal order, and the motion is inverted for earlier sources. All
        frames together are in the order of the options, and nothing is inverted.
        """
        sources = [frame for frame in images if frame not in (0, "s")]
        if self.pose_model_input == "all":
            axis_angle, translation = self.run_pose_network([0, *sources], images, features)
            return {f: Motion(axis_angle[:, n], translation[:, n], False) for n, f in enumerate(sources)}
        motions = {}
        for frame in sources:
            pair = [frame, 0] if frame < 0 else [0, frame]
            axis_angle, translation = self.run_pose_network(pair, images, features)
            motions[frame] = Motion(axis_angle[:, 0], translation[:, 0], frame < 0)
        return motions

    def run_pose_network(
        self, frames: list, images: Mapping[Frame, Tensor], features: Mapping[Frame, list[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Axis-angle and translation, (B, motions, 3) each, from these frames together."""
        if self.pose_model_type == "shared":
            return self.pose([features[frame] for frame in frames])
        stacked = torch.cat([images[frame] for frame in frames], 1)
        if self.pose_model_type == "posecnn":
            return self.pose(stacked)
        return self.pose([self.pose_encoder(stacked)])

    # Geometry that subclasses change.

    def depth_of(self, disparity: Tensor, batch: Batch) -> Tensor:
        """(B·N, 1, h, w) depth from the sigmoid output. A method whose depth depends on the focal length
        overrides this with `batch.intrinsics`.

        In an image zoomed by `batch.extra["zoom"]` (B·N,), objects appear nearer by that factor; the depth is
        multiplied by it.
        """
        depth = disparity_to_depth(disparity, self.min_depth, self.max_depth)
        return depth * batch.extra["zoom"][:, None, None, None] if "zoom" in batch.extra else depth

    def pose_of(self, motion: Motion, batch: Batch, scale: Tensor | float = 1.0) -> Tensor:
        """(B·N, 4, 4) T_source_from_target from the motion of one source, the translation times `scale`
        (B·N, 1).
        """
        return motion.matrix(scale)

    # Inference.

    def predict(self, batch: Batch) -> Prediction:
        """Disparity and depth of the targets at the network's size. See `Method.predict`."""
        image = batch.network_images[0]
        with self.networks_autocast():
            disparities = self.predict_disparities(image).disparities
        finest = disparities[min(disparities)]
        disparity = enlarge(finest, image.shape[-2:]) if min(disparities) else finest
        return Prediction({0: disparity}, depths={0: self.depth_of(disparity, batch)})

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] twice to (B, 4, 4) T_later_from_earlier.

        Raises:
            InputError: no pose network for pairs.
        """
        needed = ("pose_encoder", "pose") if self.pose_model_type == "separate_resnet" else ("pose",)
        if self.pose_model_input == "all" or not all(hasattr(self, name) for name in needed):
            raise InputError("this model has no pose network for a pair of frames (pose_model_input pairs)")
        with self.networks_autocast():
            images: dict[Frame, Tensor] = {0: earlier, 1: later}
            shared = self.pose_model_type == "shared"
            features = {frame: self.encoder(image) for frame, image in images.items()} if shared else {}
            return self.predict_motions(images, features)[1].matrix()


def enlarge(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) to (B, C, *size), bilinear, pixel corners aligned."""
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def check_frames(frame_ids: Sequence[Frame]) -> tuple[Frame, ...]:
    """The frames as a tuple: 0 first, at least one source, each once."""
    frames = tuple(frame_ids)
    if not frames or frames[0] != 0:
        raise InputError(f"--frame_ids must begin with 0, the target, got {list(frames)}; try 0 -1 1")
    if len(frames) < 2:
        raise InputError("training needs a source frame: --frame_ids 0 -1 1, or --use_stereo")
    if len(set(frames)) != len(frames):
        raise InputError(f"--frame_ids name a frame twice: {list(frames)}")
    return frames


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices, with the nearest one."""
    if value not in choices:
        raise InputError(f"there is no {what} '{value}'{nearest_name(value, choices)}")
