"""PackNet-SfM: depth from video, from speed, from measured depth, and for any camera.

    self-supervised    photometric + smoothness                                (Guizilini et al., CVPR 2020)
    velocity           the same + velocity, which makes depth metric           (the same paper)
    semi-supervised    (1 - w) (photometric + smoothness) + w supervised_depth (Guizilini et al., CoRL 2019)
    supervised         supervised_depth only: --frame_ids 0, no pose network
    completion         supervised_depth of both passes, without and with input depth, + feature_gap
                                                                               (Guizilini et al., CVPR 2021)
    ray surfaces       photometric + smoothness; a network predicts the rays   (Vasiljevic et al., 3DV 2020)

The loss terms and their weights choose among these. Networks are Monodepth2's or whole ones: `packnet`,
`packnet_slim`, `packnet_san` (completion), `ray_surface`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cameras import Pinhole, RaySurface
from cameras._ray_surface import published_temperature, residual_share
from devices import constants
from losses._draws import generator_for
from losses.feature_gap import feature_gap
from methods import METHODS
from methods.monodepth2 import Monodepth2
from networks.packnet_san import FeaturesAndDisparities
from structures import Batch, Prediction
from utils import InputError, nearest_name

PROJECTIONS = ("refine", "softmax")
_LEAST_Z = 0.05  # of a unit ray, 87 degrees off the axis: depth stays positive


@METHODS.register
class PackNet(Monodepth2):
    """Monodepth2 with PackNet-SfM's networks and supervision; it takes Monodepth2's settings as well.

    Args:
        published: warp, enlarge and compare as the published code does: warped sources are black outside of
            the image, disparities are enlarged by the nearest pixel and smoothed at full size, and nothing is
            added to the unwarped error.
        mirror_depth: probability of mirroring the depth network's input and its output back, one draw a
            batch, as the published code does. `augment.flip` mirrors images and geometry instead.
        completion_weight: factor of the supervised loss of the pass with input depth.
        ray_projection: `refine` or the published `softmax` for a ray surface, see `cameras.RaySurface`.
        losses: term → weight and settings, over the defaults; a weight of 0 removes a term.

    Raises:
        InputError: a probability outside [0, 1], a negative weight, an unknown projection; terms that compare
            sources without a source; what Monodepth2 refuses.
    """

    needs_sources: ClassVar[bool] = False

    def __init__(
        self,
        published: bool = False,
        mirror_depth: float = 0.0,
        completion_weight: float = 1.0,
        ray_projection: str = "refine",
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        if not 0 <= mirror_depth <= 1:
            raise InputError(f"--method.mirror_depth is a probability in [0, 1], got {mirror_depth}")
        if completion_weight < 0:
            raise InputError(f"--method.completion_weight must be at least 0, got {completion_weight}")
        if ray_projection not in PROJECTIONS:
            raise InputError(
                f"there is no ray_projection '{ray_projection}'{nearest_name(ray_projection, PROJECTIONS)}"
            )
        if published:
            given = dict(losses or {})
            losses = {**given, "photometric": {"noise": 0.0, **(given.get("photometric") or {})}}
        super().__init__(losses=losses, **settings)
        self.published, self.mirror_depth = published, mirror_depth
        self.completion_weight, self.ray_projection = completion_weight, ray_projection
        self.padding = "zeros" if published else "border"
        self.progress = 1.0  # of a model that is loaded; a training sets its own
        if mirror_depth and self.pose_model_type == "shared":
            raise InputError(
                "--method.mirror_depth mirrors only the depth network's input, and --pose_model_type shared "
                "reads its features; use --augment.flip, which mirrors everything"
            )
        if len(self.frame_ids) == 1:
            self._check_supervised()

    def _check_supervised(self) -> None:
        """Refuse terms that compare sources in a training without a source."""
        for name in ("photometric", "velocity"):
            if name in self.loss_terms:
                raise InputError(
                    f"losses.{name} compares the target with its sources, and --frame_ids 0 names none; add "
                    f"some, such as --frame_ids 0 -1 1, or use --losses.{name}.weight 0"
                )

    @property
    def takes_input_depth(self) -> bool:
        """True if the depth network completes an input depth."""
        return getattr(self.depth, "takes_input_depth", False)

    @property
    def predicts_rays(self) -> bool:
        """True if the depth network predicts the camera's rays as well."""
        return hasattr(self.depth, "disparities_and_rays")

    def on_epoch_start(self, epoch: int, num_epochs: int) -> None:
        """Let the share of the predicted rays follow the training as well."""
        super().on_epoch_start(epoch, num_epochs)
        self.progress = epoch / num_epochs

    # Training.

    def run_networks(self, batch: Batch, plain: Prediction | None = None) -> Prediction:
        """Same as in Monodepth2, with two kinds of `extra`.

        With an input depth, `completed` is the Prediction of the pass that reads it, and `feature_gap` its
        difference in features. With a ray surface, `ray_residual` is (B·N, 3, H, W). Augmented views do not
        read input depth and take over the gap.
        """
        seen = self._mirrored(batch) if plain is None else batch
        if self.takes_input_depth and "input_depth" in batch.maps and plain is None:
            prediction = self._predict_and_complete(seen)
        elif seen is not batch:
            with self.networks_autocast():
                prediction = self.predict_disparities(seen.network_images[0])
        else:
            prediction = super().run_networks(batch, plain)
            if plain is not None and "feature_gap" in plain.extra:
                prediction.extra["feature_gap"] = plain.extra["feature_gap"]
            return prediction
        if seen is not batch:
            prediction = _mirrored_back(prediction)
        with self.networks_autocast():
            for frame in self.depth_frames[1:]:
                prediction.sources[frame] = self.predict_disparities(batch.network_images[frame])
            moving = len(self.video_frames) > 1
            prediction.extra["motions"] = self.predict_motions(batch.network_images, {}) if moving else {}
        return prediction

    def predict_disparities(self, images: Tensor, features: list[Tensor] | None = None) -> Prediction:
        """Same as in Monodepth2, with the predicted correction of the rays, if any."""
        if not self.predicts_rays:
            return super().predict_disparities(images, features)
        disparities, residual = self.depth.disparities_and_rays(images)
        return Prediction(
            {scale: disparity.float() for scale, disparity in disparities.items()},
            extra={"ray_residual": residual},
        )

    def _predict_and_complete(self, batch: Batch) -> Prediction:
        """One pass of the image encoder, decoded without and with the input depth."""
        with self.networks_autocast():
            alone, completed = self.depth.prediction_and_completion(
                batch.network_images[0], batch.maps["input_depth"]
            )
        with self.in_float32():
            gap = feature_gap(_floats(completed.features), _floats(alone.features))
        return Prediction(
            _disparities(alone), extra={"completed": Prediction(_disparities(completed)), "feature_gap": gap}
        )

    def _mirrored(self, batch: Batch) -> Batch:
        """The batch that the depth network sees: as it is, or in some training steps its mirror image."""
        if not self.mirror_depth or not self.training:
            return batch
        draw = torch.rand((), generator=generator_for(batch, "mirror_depth"), device=batch.images[0].device)
        if draw >= self.mirror_depth:
            return batch
        images = {frame: image.flip(-1) for frame, image in batch.network_images.items()}
        maps = {name: values.flip(-1) for name, values in batch.maps.items() if name == "input_depth"}
        return dataclasses.replace(batch, images=images, augmented=None, maps=maps)

    # Geometry.

    def add_geometry(self, batch: Batch, prediction: Prediction) -> None:
        """Same as in Monodepth2, with the predicted rays if there are any.

        Also adds the depth of the pass with input depth. Without sources, it adds only depth.
        """
        completed = prediction.extra.get("completed")
        with self.in_float32():
            for part in (prediction, completed, *prediction.sources.values()):
                if part is not None and self.published and not self.v1_multiscale:
                    part.disparities = _enlarge_nearest(part.disparities, batch)
            if completed is not None:
                completed.depths = self._depths(completed, batch)
            if not batch.sources:
                prediction.depths = self._depths(prediction, batch)
                return
            if "ray_residual" in prediction.extra:
                camera = self.ray_surface(batch, prediction.extra["ray_residual"])
                batch = dataclasses.replace(batch, camera=camera)
                prediction.extra["camera"] = camera
        super().add_geometry(batch, prediction)

    def _depths(self, prediction: Prediction, batch: Batch) -> dict[int, Tensor]:
        return {
            scale: self._depth_at(scale, disparity, batch)
            for scale, disparity in prediction.disparities.items()
        }

    def ray_surface(self, batch: Batch, residual: Tensor) -> RaySurface:
        """The camera normalise(template + g residual).

        Args:
            batch: its camera is the template, such as a ray template or any lens of `camera.yaml`; the
                pinhole of its intrinsics if it has none.
            residual: (B·N, 3, H, W) in (-1, 1).

        Returns:
            Unit rays; g grows from 0 to 1 over the first third of the training (`residual_share`).
        """
        size = batch.images[0].shape[-2:]
        template = (batch.camera or Pinhole(batch.intrinsics)).rays(*size).unflatten(2, size)
        template = F.normalize(template, dim=1)
        dark = (template == 0).all(1, keepdim=True)
        residual = torch.where(dark, 0.0, residual.float())
        settings = {"projection": self.ray_projection, "temperature": published_temperature(self.progress)}
        return RaySurface.of(template, residual, residual_share(self.progress), **settings)

    # Losses.

    def losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Same as `Method.losses`; `supervised_completion` is the supervised loss with input depth."""
        terms = super().losses(batch, prediction)
        completed = prediction.extra.get("completed")
        if completed is not None and "supervised_depth" in terms and self.completion_weight:
            weight = self.completion_weight * self.loss_weights["supervised_depth"]
            with self.in_float32():
                error = self.loss_terms["supervised_depth"](batch, completed)
            terms["supervised_completion"] = weight * error
        return terms

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Same as in Monodepth2, with the disparity of the pass with input depth."""
        if batch.sources:
            shown = super().log_images(batch, prediction)
        else:
            finest = prediction.disparities[min(prediction.disparities)]
            shown = {"target": batch.images[0], "disparity": finest}
        if "completed" in prediction.extra:
            disparities = prediction.extra["completed"].disparities
            shown["completed"] = disparities[min(disparities)]
        size = batch.images[0].shape[-2:]
        return {name: F.interpolate(images, size) for name, images in shown.items()}

    # Inference.

    def predict(self, batch: Batch) -> Prediction:
        """Depth of the targets; completed from `maps["input_depth"]` if the batch has it and the network
        takes it.

        A ray surface predicts the distance along the ray. For images of a pinhole camera with known
        intrinsics it is turned into depth along the optical axis, as ground truth has it. For a lens it stays
        the distance, as ground truth of a lens is. Without intrinsics it stays the distance.
        """
        if self.predicts_rays and batch.camera is None and batch.intrinsics is not None:
            return self._predict_along_axis(batch)
        if not (self.takes_input_depth and "input_depth" in batch.maps):
            return super().predict(batch)
        with self.networks_autocast():
            disparities = self.depth(batch.network_images[0], batch.maps["input_depth"])
        return self.finest({scale: disparity.float() for scale, disparity in disparities.items()}, batch)

    def _predict_along_axis(self, batch: Batch) -> Prediction:
        """Distance times the z of the predicted unit ray."""
        with self.networks_autocast():
            disparities, residual = self.depth.disparities_and_rays(batch.network_images[0])
        prediction = self.finest({scale: values.float() for scale, values in disparities.items()}, batch)
        with self.in_float32():
            rays = self.ray_surface(batch, residual).directions
            prediction.depths[0] = prediction.depths[0] * rays[:, 2:].clamp(min=_LEAST_Z)
        return prediction


def _disparities(passed: FeaturesAndDisparities) -> dict[int, Tensor]:
    return {scale: disparity.float() for scale, disparity in passed.disparities.items()}


def _floats(features: list[Tensor]) -> list[Tensor]:
    return [feature.float() for feature in features]


def _mirrored_back(prediction: Prediction) -> Prediction:
    """The prediction of a mirrored image as that of the image; rays turn around as well."""
    extra = dict(prediction.extra)
    if "completed" in extra:
        extra["completed"] = _mirrored_back(extra["completed"])
    if "ray_residual" in extra:
        sign = constants([-1.0, 1.0, 1.0], like=extra["ray_residual"])[:, None, None]
        extra["ray_residual"] = sign * extra["ray_residual"].flip(-1)
    disparities, masks = (
        {scale: values.flip(-1) for scale, values in maps.items()}
        for maps in (prediction.disparities, prediction.masks)
    )
    return dataclasses.replace(prediction, disparities=disparities, masks=masks, extra=extra)


def _enlarge_nearest(disparities: Mapping[int, Tensor], batch: Batch) -> dict[int, Tensor]:
    """Every scale at full size, by the nearest pixel."""
    size = batch.images[0].shape[-2:]
    return {scale: F.interpolate(values, size, mode="nearest") for scale, values in disparities.items()}
