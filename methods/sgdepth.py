"""SGDepth: depth from video and segmentation of labelled images share layers (Klingner et al., ECCV 2020).

    loss = L_depth(video) + L_segmentation(companion),     shared layers get 0.9 and 0.1 of the two gradients

The video's targets and the labelled companion go through the encoder as one batch, so that batch norms see
both domains. Segmentation tells where objects may move; `losses/_moving_objects.py` leaves out those that do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from methods import METHODS
from methods.monodepth2 import Monodepth2
from networks import NETWORKS
from networks.resnet import Resnet
from networks.split_decoder import SplitDecoder
from structures import Batch, Prediction
from utils import InputError


@METHODS.register
class SGDepth(Monodepth2):
    """Monodepth2 with a second decoder branch for segmentation; it takes Monodepth2's settings as well.

    Args:
        split_position: decoder position where both branches part, 0 to 4; see networks/split_decoder.py.
        classes: channels of the segmentation; the published 20 hold one that is never trained.
        depth_gradient: factor of the depth loss in the gradient of shared layers.
        segmentation_gradient: factor of the segmentation loss in the gradient of shared layers.
        disparity_bias: initial bias of the disparity. With the published 5 all depth starts at min_depth,
            where the sigmoid is almost flat. 0 starts as Monodepth2 does, and learns sooner.
        losses: same as Monodepth2's; `segmentation` has the weight 1. With weight 0, only depth is
            trained, and no companion is needed.
    """

    provides = (*Monodepth2.provides, "logits", "sources.logits", "companion.logits")

    def __init__(
        self,
        split_position: int = 1,
        classes: int = 20,
        depth_gradient: float = 0.9,
        segmentation_gradient: float = 0.1,
        disparity_bias: float = 5.0,
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        if settings.get("depth_network"):
            raise InputError("sgdepth splits a decoder of its own; leave out --depth_network")
        if settings.get("pose_model_type") == "shared":
            raise InputError(
                "sgdepth's encoder sees only targets and companion; --pose_model_type separate_resnet or "
                "posecnn have an encoder of their own"
            )
        given = dict(losses or {})
        given["segmentation"] = {"weight": 1.0 if classes else 0.0, **(given.get("segmentation") or {})}
        super().__init__(losses=given, **settings)
        self.depth = SplitDecoder(
            self.encoder.num_channels,
            self.scales,
            classes,
            split_position,
            depth_gradient,
            segmentation_gradient,
            disparity_bias,
        )
        if self.trains_segmentation:
            self.encoder.requires_grad_(True)  # its finest features are read, whatever the scales
        elif classes:
            self.depth.freeze_segmentation()
        for encoder in (self.encoder, getattr(self, "pose_encoder", None)):
            if isinstance(encoder, Resnet):
                encoder.normalise_by_channel()

    @property
    def trains_segmentation(self) -> bool:
        """Whether a term of the loss reads the logits of the companion."""
        return "segmentation" in self.loss_terms

    @property
    def tasks(self) -> tuple[str, ...]:
        """Depth and, if it is trained, segmentation."""
        return ("depth", "segmentation") if self.trains_segmentation else ("depth",)

    def run_networks(self, batch: Batch, plain: Prediction | None = None) -> Prediction:
        """Same as in `DepthAndMotion`; adds logits of the companion and, to mask objects, of all frames.

        Augmented views take over the companion's logits; a step predicts them once.
        """
        if plain is not None:
            prediction = super().run_networks(batch, plain)
            prediction.companion = plain.companion
            return prediction
        images, companion = batch.network_images, self._companion_images(batch)
        with self.networks_autocast():
            features, labelled = self._features(images[0], companion)
            prediction = self.predict_disparities(images[0], features)
            for frame in self.depth_frames[1:]:
                prediction.sources[frame] = self.predict_disparities(images[frame])
            if labelled is not None:
                prediction.companion = Prediction({}, logits=self.depth.logits(self.depth.share(labelled)))
            moving = len(self.video_frames) > 1
            prediction.extra["motions"] = self.predict_motions(images, {}) if moving else {}
        if self._labels_wanted():
            self._label(batch, prediction)
        return prediction

    def predict(self, batch: Batch) -> Prediction:
        """Disparity, depth and logits of the targets, from one pass of the encoder."""
        image = batch.network_images[0]
        with self.networks_autocast():
            features = self.encoder(image)
            disparities = self.predict_disparities(image, features).disparities
            logits = self.depth.logits(self.depth.share(features)) if self.depth.classes else None
        return dataclasses.replace(self.finest(disparities, batch), logits=logits)

    @torch.no_grad()
    def segment(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, classes, H, W) logits, with the norms as in evaluation.

        Raises:
            InputError: the model has no segmentation branch.
        """
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)  # a sixth faster
        training = self.encoder.training
        self.encoder.eval()
        try:
            with self.networks_autocast():
                return self.depth.logits(self.depth.share(self.encoder(images)))
        finally:
            self.encoder.train(training)

    def _features(self, target: Tensor, companion: Tensor | None) -> tuple[list[Tensor], list[Tensor] | None]:
        """Features of targets and companion, from one pass, so that batch norms see both domains."""
        if companion is None:
            return self.encoder(target), None
        if companion.shape[-2:] != target.shape[-2:]:  # evaluation, where norms see nothing
            return self.encoder(target), self.encoder(companion)
        features = self.encoder(torch.cat([target, companion]))
        count = len(target)
        return [level[:count] for level in features], [level[count:] for level in features]

    def _companion_images(self, batch: Batch) -> Tensor | None:
        if not self.trains_segmentation or batch.companion is None:
            return None
        images, size = batch.companion.network_images[0], batch.images[0].shape[-2:]
        if self.training and images.shape[-2:] != size:
            height, width = images.shape[-2:]
            raise InputError(
                f"the companion's images are {width}x{height} and the video's {size[1]}x{size[0]}; crop them "
                f"with --augment.companion.crop '{{height: {size[0]}, width: {size[1]}}}'"
            )
        return images

    def _labels_wanted(self) -> bool:
        """Whether a loss term now reads predicted labels of target and sources."""
        terms = [getattr(term, "moving_objects", None) for term in self.loss_terms.values()]
        return any(term is not None and term.active and term.labels == "predicted" for term in terms)

    def _label(self, batch: Batch, prediction: Prediction) -> None:
        """Add the logits of target and sources: one pass of encoder and segmentation branch."""
        images = batch.network_images
        frames = [frame for frame in images if frame != "s"]
        logits = self.segment(torch.cat([images[frame] for frame in frames])).chunk(len(frames))
        for frame, values in zip(frames, logits):
            if frame == 0:
                prediction.logits = values
            else:
                prediction.sources.setdefault(frame, Prediction({})).logits = values

    def _build_pose(self, encoder: str, pretrained: bool) -> None:
        super()._build_pose(encoder, pretrained)
        if self.pose_model_type == "separate_resnet" and self.pose_model_input == "pairs":
            # One motion for a pair, and the factor of 0.01 in its weights.
            decoder = NETWORKS.get("pose_decoder")
            self.pose = decoder(self.pose_encoder.num_channels, num_frames=1, factor_in_weights=True)
