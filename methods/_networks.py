"""Depth and motion networks of Monodepth2 and of the methods that extend it.

A depth network reads the target, a pose network the target and each source. The pose network gets a pair in
temporal order, and the motion is inverted for earlier sources, so that the network only learns forward motion
(Godard et al., ICCV 2019, supplement).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers import disparity_to_depth, euler_pose_matrix, pose_matrix
from methods._base import Method
from networks import NETWORKS, build_depth, build_encoder
from structures import Batch, Frame, Prediction
from utils import InputError, nearest_name, settings_of


class Motion(NamedTuple):
    """Pose output for one source: axis-angle (B, 3) radians, translation (B, 3), and whether to invert."""

    axis_angle: Tensor
    translation: Tensor
    invert: bool

    def matrix(self, scale: Tensor | float = 1.0) -> Tensor:
        """(B, 4, 4) T_source_from_target, the translation times `scale` (B, 1)."""
        return pose_matrix(self.axis_angle, self.translation.float() * scale, self.invert)


class EulerMotion(NamedTuple):
    """Pose output of a whole pose network for one source: (B, 6), translation, then Euler angles, radians."""

    vector: Tensor

    def matrix(self, scale: Tensor | float = 1.0) -> Tensor:
        """(B, 4, 4) T_source_from_target, the translation times `scale` (B, 1)."""
        return euler_pose_matrix(torch.cat([self.vector[:, :3] * scale, self.vector[:, 3:]], 1))


POSE_MODELS = ("separate_resnet", "shared", "posecnn")  # in addition to the whole pose networks of networks/


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
        pose_model_type: `separate_resnet`; `shared`, on the features of the depth encoder; `posecnn`; or a
            whole pose network, a file of networks/ such as `packnet_pose`, which sees the target first and
            whose motion is not inverted.
        pose_model_input: `pairs` of target and source, or `all` frames at once.
        weights_init: `pretrained` on ImageNet, or `scratch`.
        scales: scales of the trained disparities; 0 is the input size.
        min_depth: depth at disparity 1, in the unit of the translations.
        max_depth: depth at disparity 0.
        translation_factor: factor of the pose network's translations. Pose networks multiply their output by
            0.01, so from random weights metres per frame are far away; 50 with `min_depth` 1 lets metric
            training begin near them.

    Raises:
        InputError: settings that contradict each other, or a name that does not exist.
    """

    needs_sources: ClassVar[bool] = True  # False: a method that can train on targets only

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
        translation_factor: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < translation_factor < math.inf:
            raise InputError(f"translation_factor must be positive, got {translation_factor}; 1 is published")
        self.translation_factor = translation_factor
        self.frame_ids = check_frames(frame_ids, self.needs_sources)
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
            self.pose = _build_whole_pose(self.pose_model_type, frames - 1, encoder, pretrained)

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
    ) -> dict[Frame, Motion | EulerMotion]:
        """Source → motion. Pairs are in temporal order, and the motion is inverted for earlier sources. All
        frames together are in the order of the options, and nothing is inverted. A whole pose
        network is shown the target and the list of sources.
        """
        sources = [frame for frame in images if frame not in (0, "s")]
        if self.pose_model_type not in POSE_MODELS:
            vectors = self.pose(images[0], [images[frame] for frame in sources])
            factors = vectors.new_tensor([self.translation_factor] * 3 + [1.0] * 3)
            return {frame: EulerMotion(vectors[:, n] * factors) for n, frame in enumerate(sources)}
        if self.pose_model_input == "all":
            axis_angle, translation = self._pose_output([0, *sources], images, features)
            return {f: Motion(axis_angle[:, n], translation[:, n], False) for n, f in enumerate(sources)}
        motions = {}
        for frame in sources:
            pair = [frame, 0] if frame < 0 else [0, frame]
            axis_angle, translation = self._pose_output(pair, images, features)
            motions[frame] = Motion(axis_angle[:, 0], translation[:, 0], frame < 0)
        return motions

    def _pose_output(
        self, frames: list, images: Mapping[Frame, Tensor], features: Mapping[Frame, list[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Axis-angle and translation, (B, motions, 3) each, the translation in the unit of depth."""
        axis_angle, translation = self.run_pose_network(frames, images, features)
        return axis_angle, translation * self.translation_factor

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

    def pose_of(self, motion: Motion | EulerMotion, batch: Batch, scale: Tensor | float = 1.0) -> Tensor:
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
        return self.finest(disparities, batch)

    def finest(self, disparities: Mapping[int, Tensor], batch: Batch) -> Prediction:
        """The finest of scale → disparity, enlarged to the size of the images, with its depth."""
        size = batch.network_images[0].shape[-2:]
        disparity = disparities[min(disparities)]
        disparity = enlarge(disparity, size) if disparity.shape[-2:] != size else disparity
        return Prediction({0: disparity}, depths={0: self.depth_of(disparity, batch)})

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] twice to (B, 4, 4) T_later_from_earlier.

        Raises:
            InputError: no pose network for pairs.
        """
        needed = ("pose_encoder", "pose") if self.pose_model_type == "separate_resnet" else ("pose",)
        if self.pose_model_input == "all" or not all(hasattr(self, name) for name in needed):
            raise InputError("this model has no pose network for a pair of frames (pose_model_input pairs)")
        if getattr(self.pose, "num_sources", 1) != 1:
            raise InputError(
                f"this model's pose network sees the target and {self.pose.num_sources} sources at once, not "
                "a pair of frames; --pose_model_type packnet_pose_resnet sees pairs"
            )
        with self.networks_autocast():
            images: dict[Frame, Tensor] = {0: earlier, 1: later}
            shared = self.pose_model_type == "shared"
            features = {frame: self.encoder(image) for frame, image in images.items()} if shared else {}
            return self.predict_motions(images, features)[1].matrix()


def _build_whole_pose(name: str, num_sources: int, encoder: str, pretrained: bool) -> nn.Module:
    """A pose network of networks/: `forward(target, sources)` → (B, S, 6).

    Raises:
        InputError: no such pose network; one on a ResNet with another encoder.
    """
    cls = NETWORKS.find(name)
    if not getattr(cls, "is_pose_network", False):
        whole = [n for n in NETWORKS.names() if getattr(NETWORKS.get(n), "is_pose_network", False)]
        check_choice("pose_model_type", name, (*POSE_MODELS, *whole))
    settings = settings_of(cls)
    given: dict[str, Any] = {"num_sources": num_sources, "pretrained": pretrained}
    if "num_layers" in settings:
        if not encoder.startswith("resnet"):
            raise InputError(f"{name} is on a ResNet, got --pose_encoder {encoder}; try resnet18")
        given["num_layers"] = int(encoder.removeprefix("resnet"))
    return cls(**{key: value for key, value in given.items() if key in settings})


def enlarge(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) to (B, C, *size), bilinear, pixel corners aligned."""
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def check_frames(frame_ids: Sequence[Frame], needs_sources: bool = True) -> tuple[Frame, ...]:
    """The frames as a tuple: 0 first, each once, at least one source if `needs_sources`."""
    frames = tuple(frame_ids)
    if not frames or frames[0] != 0:
        raise InputError(f"--frame_ids must begin with 0, the target, got {list(frames)}; try 0 -1 1")
    if len(frames) < 2 and needs_sources:
        raise InputError("training needs a source frame: --frame_ids 0 -1 1, or --use_stereo")
    if len(set(frames)) != len(frames):
        raise InputError(f"--frame_ids name a frame twice: {list(frames)}")
    return frames


def check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not among the choices, with the nearest one."""
    if value not in choices:
        raise InputError(f"there is no {what} '{value}'{nearest_name(value, choices)}")
