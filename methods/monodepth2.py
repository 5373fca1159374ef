"""Monodepth2: depth and motion from video, each the other's teacher (Godard et al., ICCV 2019).

A depth network sees the target, a pose network the target beside each source. Depth and motion resample
the sources into the target's view; where they are right, the image appears (losses/photometric.py).
Disparities of every scale are brought to full resolution first, so that a coarse one is not free to explain
texture by small wrong depths.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers import disparity_to_depth, pose_matrix, sample, sampling_grid
from losses import LOSSES
from methods import METHODS
from methods._base import Method
from methods._views import Views
from networks import NETWORKS, build_encoder
from structures import Batch, Frame, Prediction
from utils import InputError, check_settings, nearest_name


class Motion(NamedTuple):
    """What a pose network says of one source: (B, 3) radians, (B, 3), and whether it was asked backwards."""

    axis_angle: Tensor
    translation: Tensor
    invert: bool

    def matrix(self, scale: Tensor | float = 1.0) -> Tensor:
        """(B, 4, 4) T_source_from_target, the translation times `scale` (B, 1)."""
        return pose_matrix(self.axis_angle, self.translation.float() * scale, self.invert)


@METHODS.register
class Monodepth2(Method):
    """Monocular, stereo and mono + stereo training, with the published ablations.

    Args:
        frame_ids: 0 and the sources: -1 and 1 for video, "s" for the stereo partner.
        num_layers: of the ResNet encoders: 18, 34, 50, 101 or 152.
        encoder: any other depth encoder by name (networks/, or a timm model); None is ResNet `num_layers`.
        pose_encoder: likewise for pose; None is the ResNet of the same depth, or 18 beside another encoder.
        decoder: of the disparities, a file of networks/: `depth_decoder`, `grid_decoder`, ...
        weights_init: `pretrained` on ImageNet, or `scratch`.
        scales: of the disparities that are trained, 0 the input size.
        min_depth, max_depth: what the sigmoid's ends mean, in the unit of the translations.
        pose_model_type: `separate_resnet`; `shared`, on the depth encoder's features; `posecnn`.
        pose_model_input: `pairs` of target and source, or `all` frames at once.
        v1_multiscale: warp and compare at each scale's own size, as Monodepth 1 did.
        avg_reprojection: mean over the sources instead of the minimum.
        disable_automasking: keep pixels that stand still.
        predictive_mask: predict a weight of each source (Zhou et al. 2017); needs `disable_automasking`.
        no_ssim: compare by absolute difference alone.
        disparity_smoothness: weight of the smoothness term.
        align_corners: of the resampling. False is what the published code does since torch 1.3.
        views: `local_crop`, `patch_reshuffle`: further views of each sample in training, see
            `methods/_views.py` and docs/methods.md.
        losses: term → its weight and settings, over the defaults; a weight of 0 takes a term away.

    Raises:
        InputError: settings that contradict each other or name what does not exist.
    """

    def __init__(
        self,
        frame_ids: Sequence[Frame] = (0, -1, 1),
        num_layers: int = 18,
        encoder: str | None = None,
        pose_encoder: str | None = None,
        decoder: str = "depth_decoder",
        weights_init: str = "pretrained",
        scales: Sequence[int] = (0, 1, 2, 3),
        min_depth: float = 0.1,
        max_depth: float = 100.0,
        pose_model_type: str = "separate_resnet",
        pose_model_input: str = "pairs",
        v1_multiscale: bool = False,
        avg_reprojection: bool = False,
        disable_automasking: bool = False,
        predictive_mask: bool = False,
        no_ssim: bool = False,
        disparity_smoothness: float = 1e-3,
        align_corners: bool = True,
        views: Mapping[str, Any] | None = None,
        losses: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.frame_ids = _checked_frames(frame_ids)
        _check_choice("weights_init", weights_init, ("pretrained", "scratch"))
        _check_choice("pose_model_input", pose_model_input, ("pairs", "all"))
        if predictive_mask and not disable_automasking:
            raise InputError("predictive_mask takes the automask's place; add --disable_automasking")
        if not 0 < min_depth < max_depth:
            raise InputError(f"need 0 < min_depth < max_depth, got {min_depth} and {max_depth}")
        self.min_depth, self.max_depth = min_depth, max_depth
        self.scales = tuple(scales)
        self.pose_model_type, self.pose_model_input = pose_model_type, pose_model_input
        self.v1_multiscale = v1_multiscale
        self.align_corners = align_corners
        self.video_frames = [frame for frame in self.frame_ids if frame != "s"]
        check_settings("views", Views, views or {})
        self.views = Views(**(views or {}))
        self.detail = self.views.detail if self.views.local_crop else 1
        if self.views.published_camera and pose_model_type == "posecnn":
            raise InputError("views.published_camera bends the poses of a ResNet, not those of a posecnn")

        pretrained = weights_init == "pretrained"
        depth_encoder = encoder or f"resnet{num_layers}"
        decoder_class = NETWORKS.get(decoder)
        if not {"num_channels", "scales"} <= set(inspect.signature(decoder_class).parameters):
            raise InputError(
                f"networks/{decoder}.py does not turn features into disparities; --decoder depth_decoder does"
            )
        # A decoder that goes on to the image's own size wants a feature of that size as well.
        context = getattr(decoder_class, "joins_context", False)
        if context and 0 not in self.scales:
            raise InputError(
                f"the {decoder} goes on to the image's own size, which is scale 0 and not among "
                f"{list(self.scales)}; add 0 to --scales, or take --decoder depth_decoder"
            )
        self.encoder = build_encoder(depth_encoder, pretrained=pretrained, context=context)
        self.depth = decoder_class(self.encoder.num_channels, self.scales)
        _freeze_unread(self.encoder, getattr(self.depth, "finest_feature", 0))
        if len(self.video_frames) > 1:
            default = depth_encoder if depth_encoder.startswith("resnet") else "resnet18"
            self._build_pose(pose_encoder or default, pretrained)
        if predictive_mask:
            sources = len(self.frame_ids) - 1
            self.predictive_mask = decoder_class(self.encoder.num_channels, self.scales, num_outputs=sources)

        self.loss_weights: dict[str, float] = {}
        self.loss_terms = nn.ModuleDict()
        photometric = {
            "weight": 1.0,
            "ssim_weight": 0.0 if no_ssim else 0.85,
            "automask": not disable_automasking,
            "reduction": "mean" if avg_reprojection else "min",
        }
        defaults: dict[str, dict[str, Any]] = {
            "photometric": photometric,
            "smoothness": {"weight": disparity_smoothness},
        }
        if predictive_mask:
            defaults["explainability"] = {"weight": 0.2}
        if self.views:
            defaults["depth_agreement"] = {"weight": self.views.consistency_weight}
        self._build_losses(defaults, losses or {})
        self.metric = bool({"spatial", "sfm_matches"} & set(self.loss_terms))  # a rig's places are in metres

    def forward(self, batch: Batch) -> Prediction:
        """Disparities, depths, poses and warped sources; shapes as in `structures.Prediction`."""
        images = batch.network_images
        with self.networks_autocast():
            features = self._encode(images)
            prediction = self._decode(features[0])
            motions = self._motions(images, features) if len(self.video_frames) > 1 else {}
        with self.in_float32():
            self.resample(batch, prediction, motions)
            if self.views and self.training:
                self.views.look(self, batch, prediction, motions)
        return prediction

    def look(self, images: Tensor) -> Prediction:
        """Disparities and masks of images (B·N, 3, H, W) in [0, 1], without any geometry yet."""
        with self.networks_autocast():
            return self._decode(self.encoder(images))

    def resample(
        self,
        batch: Batch,
        prediction: Prediction,
        motions: Mapping[Frame, Motion],
        depths: Mapping[int, Tensor] | None = None,
    ) -> None:
        """Fill depths, poses and warped sources of a prediction from its disparities and the motions, and
        bring its masks to the size of the depths.

        Sources are stacked, one look-up a scale: (S·B, ...). Sources without a motion have their pose in the
        batch. `depths`, by scale, are those whose mean inverse a PoseCNN's translation is multiplied by;
        the prediction's own where not given.
        """
        height, width = batch.images[0].shape[-2:]
        predicted = {frame: self.pose_of(motion, batch) for frame, motion in motions.items()}
        prediction.T_source_from_target = {
            frame: predicted[frame] if frame in predicted else batch.T_source_from_target[frame]
            for frame in batch.sources
        }
        count = len(batch.sources)
        sources = torch.cat([batch.images[frame] for frame in batch.sources])
        poses = torch.cat(list(prediction.T_source_from_target.values()))
        intrinsics = batch.intrinsics.repeat(count, 1, 1)
        for scale, disparity in prediction.disparities.items():
            images, K = sources, intrinsics
            if self.v1_multiscale:
                # The published rule, without the half pixel that a smaller image's centre moves by.
                K = torch.cat([0.5**scale * intrinsics[:, :2], intrinsics[:, 2:]], 1)
                if scale:
                    images = F.interpolate(sources, disparity.shape[-2:], mode="area")
            elif scale:
                disparity = _enlarge(disparity, (height, width))
                if scale in prediction.masks:
                    prediction.masks[scale] = _enlarge(prediction.masks[scale], (height, width))
            depth = self.depth_of(disparity, batch)
            T = poses
            if self.pose_model_type == "posecnn":
                T = self._rescaled(poses, motions, depth if depths is None else depths[scale], batch)
            grid = sampling_grid(depth.repeat(count, 1, 1, 1), K, T)
            warped = sample(images, grid, self.align_corners)
            prediction.depths[scale] = depth
            prediction.warped[scale] = warped.unflatten(0, (count, -1))

    def depth_of(self, disparity: Tensor, batch: Batch) -> Tensor:
        """(B·N, 1, h, w) depth from the sigmoid output. A method that makes up for the focal length
        overrides this with `batch.intrinsics`.

        Without, things in an image that was zoomed into by `batch.extra["zoom"]` (B·N,) look as many times
        nearer as they are.
        """
        depth = disparity_to_depth(disparity, self.min_depth, self.max_depth)
        return depth * batch.extra["zoom"][:, None, None, None] if "zoom" in batch.extra else depth

    def pose_of(self, motion: Motion, batch: Batch, scale: Tensor | float = 1.0) -> Tensor:
        """(B·N, 4, 4) T_source_from_target from what the pose network said of one source, the translation
        times `scale` (B·N, 1).
        """
        return motion.matrix(scale)

    def losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """The terms of the constructor's `losses`, weighted; each is the mean over the plain batch and its
        views, but for the term that compares them.
        """
        looks = [(batch, prediction), *prediction.extra.get("views", {}).values()]
        terms = {}
        for name, term in self.loss_terms.items():
            seen = looks[:1] if getattr(term, "compares_views", False) else looks
            with self.in_float32():
                terms[name] = self.loss_weights[name] * torch.stack([term(*look) for look in seen]).mean()
        return terms

    def predict_depth(self, images: Tensor, intrinsics: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) in [0, 1] to (B, 1, H, W) within [min_depth, max_depth], up to one factor."""
        return disparity_to_depth(self.predict_disparity(images), self.min_depth, self.max_depth)

    def predict_disparity(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to the sigmoid output (B, 1, H, W), enlarged from the finest scale."""
        with self.networks_autocast():
            disparities = self.depth(self.encoder(images))
        finest = disparities[min(disparities)].float()
        return _enlarge(finest, images.shape[-2:]) if min(disparities) else finest

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] twice to (B, 4, 4) T_later_from_earlier."""
        needed = ("pose_encoder", "pose") if self.pose_model_type == "separate_resnet" else ("pose",)
        if self.pose_model_input == "all" or not all(hasattr(self, name) for name in needed):
            raise InputError("this model has no pose network for a pair of frames (pose_model_input pairs)")
        with self.networks_autocast():
            images: dict[Frame, Tensor] = {0: earlier, 1: later}
            shared = self.pose_model_type == "shared"
            features = {frame: self.encoder(image) for frame, image in images.items()} if shared else {}
            return self._motions(images, features)[1].matrix()

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Target, disparity, sources resampled at the finest scale, automask; all of the target's size."""
        scale = min(prediction.disparities)
        shown = {"target": batch.images[0], "disparity": prediction.disparities[scale]}
        for frame, warped in zip(batch.sources, prediction.warped[scale]):
            shown[f"warped_{frame}"] = warped
        if "photometric" in self.loss_terms:
            finest = Prediction({}, warped={scale: prediction.warped[scale]})
            automask = self.loss_terms["photometric"].maps(batch, finest)[scale][1]
            if automask is not None:
                shown["automask"] = automask.float()
        for name, (view, seen) in prediction.extra.get("views", {}).items():
            if name == "local":
                shown["local_target"] = view.images[0]
            shown[f"{name}_disparity"] = seen.disparities[scale]
        size = batch.images[0].shape[-2:]  # of the coarser scales too
        return {name: F.interpolate(images, size) for name, images in shown.items()}

    # Building.

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
            _check_choice("pose_model_type", self.pose_model_type, ("separate_resnet", "shared", "posecnn"))

    def _build_losses(self, defaults: Mapping[str, Mapping], chosen: Mapping[str, Mapping]) -> None:
        for name in [*defaults, *(name for name in chosen if name not in defaults)]:
            settings = {**defaults.get(name, {"weight": 1.0}), **(chosen.get(name) or {})}
            weight = float(settings.pop("weight"))
            term = LOSSES.get(name)
            check_settings(f"loss {name}", term, settings)
            if weight:
                self.loss_weights[name] = weight
                self.loss_terms[name] = term(**settings)
        if not self.loss_terms:
            raise InputError("all loss terms have a weight of 0; leave --losses.photometric.weight at 1")

    # Networks.

    def _encode(self, images: Mapping[Frame, Tensor]) -> dict[Frame, list[Tensor]]:
        """Features of the target, and of every frame where the pose network shares them."""
        if self.pose_model_type != "shared" or len(self.video_frames) < 2:
            return {0: self.encoder(images[0])}
        together = self.encoder(torch.cat([images[frame] for frame in self.frame_ids]))
        split = [level.chunk(len(self.frame_ids)) for level in together]
        return {frame: [level[n] for level in split] for n, frame in enumerate(self.frame_ids)}

    def _decode(self, features: list[Tensor]) -> Prediction:
        """The disparities and masks of one image's features, float32."""
        disparities = {scale: out.float() for scale, out in self.depth(features).items()}
        masks = {}
        if hasattr(self, "predictive_mask"):
            masks = {scale: out.float() for scale, out in self.predictive_mask(features).items()}
        return Prediction(disparities, masks=masks)

    def _motions(
        self, images: Mapping[Frame, Tensor], features: Mapping[Frame, list[Tensor]]
    ) -> dict[Frame, Motion]:
        """Source → motion. A pair is shown in temporal order and the answer inverted for earlier sources;
        all frames together are shown as they are listed, and nothing is inverted.
        """
        sources = [frame for frame in images if frame not in (0, "s")]
        if self.pose_model_input == "all":
            axis_angle, translation = self._ask([0, *sources], images, features)
            return {f: Motion(axis_angle[:, n], translation[:, n], False) for n, f in enumerate(sources)}
        motions = {}
        for frame in sources:
            pair = [frame, 0] if frame < 0 else [0, frame]
            axis_angle, translation = self._ask(pair, images, features)
            motions[frame] = Motion(axis_angle[:, 0], translation[:, 0], frame < 0)
        return motions

    def _ask(
        self, frames: list, images: Mapping[Frame, Tensor], features: Mapping[Frame, list[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        if self.pose_model_type == "shared":
            return self.pose([features[frame] for frame in frames])
        stacked = torch.cat([images[frame] for frame in frames], 1)
        if self.pose_model_type == "posecnn":
            return self.pose(stacked)
        return self.pose([self.pose_encoder(stacked)])

    def _rescaled(
        self, poses: Tensor, motions: Mapping[Frame, Motion], depth: Tensor, batch: Batch
    ) -> Tensor:
        """PoseCNN's translation is in units of the scene: times the mean inverse depth (Wang et al. 2018)."""
        nearness = (1 / depth).mean((1, 2, 3))[:, None]
        parts = poses.chunk(len(batch.sources))
        rescaled = {frame: self.pose_of(motion, batch, nearness) for frame, motion in motions.items()}
        return torch.cat([rescaled.get(frame, T) for frame, T in zip(batch.sources, parts)])


def _enlarge(values: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(values, size, mode="bilinear", align_corners=False)


def _freeze_unread(encoder: nn.Module, first: int) -> None:
    """Leave untrained what only features before number `first` need, such as an HRNet's last exchanges:
    distributed training would wait for its gradient.
    """
    if not first:
        return
    encoder.eval()  # the norms' statistics are not to see the empty image
    with torch.enable_grad():
        total = sum(feature.sum() for feature in encoder(torch.zeros(1, 3, 64, 64))[first:])
    parameters = list(encoder.parameters())
    for parameter, slope in zip(parameters, torch.autograd.grad(total, parameters, allow_unused=True)):
        parameter.requires_grad_(slope is not None)
    encoder.train()


def _checked_frames(frame_ids: Sequence[Frame]) -> tuple[Frame, ...]:
    frames = tuple(frame_ids)
    if not frames or frames[0] != 0:
        raise InputError(f"frame_ids must begin with 0, the target, got {list(frames)}")
    if len(frames) < 2:
        raise InputError("training needs a source beside the target: frame_ids 0 -1 1, or use_stereo")
    if len(set(frames)) != len(frames):
        raise InputError(f"frame_ids name a frame twice: {list(frames)}")
    return frames


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"there is no {what} '{value}'{nearest_name(value, choices)}")
