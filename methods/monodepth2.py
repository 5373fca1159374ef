"""Monodepth2: depth and motion learned from video by view synthesis (Godard et al., ICCV 2019).

    I_s→t = I_s < proj(D_t, T_s←t, K) >,     loss = photometric(I_t, I_s→t) + λ smoothness(disparity)

A depth network reads the target, a pose network the target and each source. Depth and motion resample the
sources into the target's view. If both are correct, the warped source equals the target
(losses/photometric.py). Disparities of every scale are first enlarged to full resolution, so that a coarse
scale cannot explain texture by small wrong depths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cameras import stacked_grid
from image_pyramid import check_filter, shrink
from layers import invert_rigid, sample
from methods import METHODS
from methods._networks import DepthAndMotion, Motion, enlarge
from networks import build_depth_head
from structures import Batch, Frame, Prediction
from utils import InputError


@METHODS.register
class Monodepth2(DepthAndMotion):
    """Monocular, stereo and mono + stereo training, with the published ablations.

    Args:
        v1_multiscale: warp and compare at each scale's own size, as in Monodepth.
        image_resize: filter that brings images to the size of a coarser scale, in the warp and by default in
            the loss terms, see `image_pyramid`: `area`, `bilinear`, or `lanczos` as in the published code.
        avg_reprojection: mean over the sources instead of the minimum.
        disable_automasking: keep pixels that do not move between frames.
        predictive_mask: predict a weight of each source (Zhou et al. 2017); needs `disable_automasking`.
        no_ssim: use only the absolute difference as photometric error.
        disparity_smoothness: weight of the smoothness term.
        align_corners: pixel convention of the resampling. False is that of the published code since
            torch 1.3.
        losses: term → its weight and settings, which override the defaults; a weight of 0 removes a term.

    Raises:
        InputError: settings that contradict each other, or a name that does not exist.
    """

    provides = ("sources.depths", "sources.T_target_from_source")
    padding = "border"  # of warped sources outside of the image, see `layers.sample`

    def __init__(
        self,
        v1_multiscale: bool = False,
        avg_reprojection: bool = False,
        disable_automasking: bool = False,
        predictive_mask: bool = False,
        no_ssim: bool = False,
        disparity_smoothness: float = 1e-3,
        align_corners: bool = True,
        image_resize: str = "area",
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if predictive_mask and not disable_automasking:
            raise InputError("--predictive_mask replaces the automask; add --disable_automasking")
        check_filter(image_resize, "method")
        self.v1_multiscale, self.image_resize = v1_multiscale, image_resize
        self.align_corners = align_corners
        if predictive_mask:
            if not hasattr(self, "encoder"):
                raise InputError(
                    "--predictive_mask reads the features of an encoder, and --depth_network has none; leave "
                    "one of them out"
                )
            self.provides = (*self.provides, "masks")
            self.predictive_mask = build_depth_head(
                self.depth, self.encoder, self.scales, len(self.frame_ids) - 1
            )
        photometric = {
            "weight": 1.0,
            "ssim_weight": 0.0 if no_ssim else 0.85,
            "automask": not disable_automasking,
            "reduction": "mean" if avg_reprojection else "min",
            "image_resize": image_resize,
        }
        defaults: dict[str, dict[str, Any]] = {
            "photometric": photometric,
            "smoothness": {"weight": disparity_smoothness, "image_resize": image_resize},
        }
        if predictive_mask:
            defaults["explainability"] = {"weight": 0.2}
        self.build_losses({**defaults, **self.loss_defaults()}, losses or {})

    def loss_defaults(self) -> dict[str, dict[str, Any]]:
        """Further default loss terms of a method that extends this one."""
        return {}

    def predict_disparities(self, images: Tensor, features: list[Tensor] | None = None) -> Prediction:
        """The disparities of `DepthAndMotion`, and the predicted weights of the sources, if any."""
        if not hasattr(self, "predictive_mask"):
            return super().predict_disparities(images, features)
        features = self.encoder(images) if features is None else features
        prediction = super().predict_disparities(images, features)
        prediction.masks = {s: mask.float() for s, mask in self.predictive_mask(features).items()}
        return prediction

    def add_geometry(self, batch: Batch, prediction: Prediction) -> None:
        """Fill depths, poses, grids and warped sources from the disparities and motions of `run_networks`,
        and enlarge the masks to the size of the depths.

        Sources are stacked to (S·B, ...), so that each scale needs one warp. A source without
        a predicted motion takes its pose from the batch.
        """
        with self.in_float32():
            motions: Mapping[Frame, Motion] = prediction.extra.get("motions", {})
            known = batch.T_source_from_target
            prediction.T_source_from_target = {
                frame: self.pose_of(motions[frame], batch) if frame in motions else known[frame]
                for frame in batch.sources
            }
            poses = torch.cat(list(prediction.T_source_from_target.values()))
            for scale, disparity in prediction.disparities.items():
                depth = self._depth_at(scale, disparity, batch)
                if scale in prediction.masks and not self.v1_multiscale and scale:
                    prediction.masks[scale] = enlarge(prediction.masks[scale], depth.shape[-2:])
                T = poses
                if self.pose_model_type == "posecnn":
                    scene = prediction.extra.get("scene_depths") or {scale: depth}
                    T = self._scene_scaled(poses, motions, scene[scale], batch)
                    if scale == min(prediction.disparities):  # loss terms read poses in the unit of depth
                        prediction.T_source_from_target = dict(
                            zip(batch.sources, T.chunk(len(batch.sources)))
                        )
                prediction.depths[scale] = depth
                self._warp_sources(batch, prediction, scale, T)
            self._add_sources(batch, prediction)

    def _depth_at(self, scale: int, disparity: Tensor, batch: Batch) -> Tensor:
        """Depth of one scale, at full resolution unless `v1_multiscale`."""
        if scale and not self.v1_multiscale:
            disparity = enlarge(disparity, batch.images[0].shape[-2:])
        return self.depth_of(disparity, batch)

    def _warp_sources(self, batch: Batch, prediction: Prediction, scale: int, T: Tensor) -> None:
        """Fill `grids` and `warped` of one scale. T: (S·B·N, 4, 4)."""
        count = len(batch.sources)
        sources = torch.cat([batch.images[frame] for frame in batch.sources])
        K, depth = batch.intrinsics.repeat(count, 1, 1), prediction.depths[scale]
        if self.v1_multiscale:
            # The published rule; it ignores the half-pixel shift of the principal point in a smaller image.
            K = torch.cat([0.5**scale * K[:, :2], K[:, 2:]], 1)
            sources = shrink(sources, depth.shape[-2:], self.image_resize)
        size = batch.images[0].shape[-2:]
        grid = stacked_grid(depth.repeat(count, 1, 1, 1), K, T, batch.camera, size)
        prediction.grids[scale] = grid.unflatten(0, (count, -1))
        prediction.extra["sampling"] = self.align_corners, self.padding
        warped = sample(sources, grid, self.align_corners, self.padding)
        prediction.warped[scale] = warped.unflatten(0, (count, -1))

    def _add_sources(self, batch: Batch, prediction: Prediction) -> None:
        """Depths of the source frames and reverse poses, if a loss term reads them."""
        for source in prediction.sources.values():
            for scale, disparity in source.disparities.items():
                source.depths[scale] = self._depth_at(scale, disparity, batch)
        if self.reads("sources.T_target_from_source"):
            for frame, T in prediction.T_source_from_target.items():
                source = prediction.sources.setdefault(frame, Prediction({}))
                source.T_source_from_target[0] = invert_rigid(T)

    def _scene_scaled(
        self, poses: Tensor, motions: Mapping[Frame, Motion], depth: Tensor, batch: Batch
    ) -> Tensor:
        """Poses with PoseCNN's translation multiplied by the mean inverse depth (Wang et al. 2018)."""
        inverse_depth = (1 / depth).mean((1, 2, 3))[:, None]
        parts = poses.chunk(len(batch.sources))
        scaled = {frame: self.pose_of(motion, batch, inverse_depth) for frame, motion in motions.items()}
        return torch.cat([scaled.get(frame, T) for frame, T in zip(batch.sources, parts)])

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Same as in `DepthAndMotion`; PoseCNN's translation is brought to the unit of depth by that of
        `earlier`.
        """
        T = super().predict_pose(earlier, later)
        if self.pose_model_type != "posecnn":
            return T
        depth = self.predict(Batch({0: earlier}, None, torch.arange(len(earlier)))).depths[0]
        scaled = T.clone()
        scaled[:, :3, 3] *= (1 / depth).mean((1, 2, 3))[:, None]
        return scaled

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Target, disparity, warped sources of the finest scale, automask; all of the target's size."""
        scale = min(prediction.disparities)
        shown = {"target": batch.images[0], "disparity": prediction.disparities[scale]}
        for frame, warped in zip(batch.sources, prediction.warped[scale]):
            shown[f"warped_{frame}"] = warped
        if "photometric" in self.loss_terms:
            finest = Prediction({}, warped={scale: prediction.warped[scale]})
            automask = self.loss_terms["photometric"].maps(batch, finest)[scale][1]
            if automask is not None:
                shown["automask"] = automask.float()
        size = batch.images[0].shape[-2:]
        return {name: F.interpolate(images, size) for name, images in shown.items()}
