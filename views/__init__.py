"""Augmented views: transformed copies of each sample. Depth is learned from each, and all must agree.

    loss = mean over the plain sample and its views of the method's loss + w * depth agreement

`AugmentedViews` wraps any method. It makes a batch for each view, runs the method on it with the motions of
the plain sample, brings the predictions back to the plain image and averages the losses. Inference does not
use it (Liu et al., Towards better data exploitation in self-supervised monocular depth estimation, RA-L
2024).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from losses import LOSSES
from structures import Batch, Prediction
from utils import InputError, check_settings
from views.local_crop import LocalCrop, to_device_of
from views.patch_reshuffle import PatchReshuffle

DRAWS = 5  # random numbers that the views of a sample need


@dataclass(frozen=True)
class Views:
    """The views of a training. The constructor is the config's section `views`.

    Args:
        local_crop: add a zoomed window of each image.
        patch_reshuffle: add each image with its parts swapped.
        consistency_weight: weight of the term `depth_agreement` between the views and the image.
        detail: resolution of the images that crops are taken from, relative to the network's size. A crop
            from larger images shows what a smaller image has lost; 2 is enough for a zoom of 2. Loading takes
            longer.
        smallest_zoom: smallest zoom r of a crop.
        largest_zoom: largest zoom r of a crop.
        published_camera: treat crops as the published code does: whole pixels, the intrinsics of the whole
            image, and motions bent to fit by the batch's first intrinsics, as if the principal point were the
            middle of the image.

    Raises:
        InputError: a zoom or a detail below 1, or an empty range.
    """

    local_crop: bool = False
    patch_reshuffle: bool = False
    consistency_weight: float = 0.07
    detail: int = 1
    smallest_zoom: float = 1.2
    largest_zoom: float = 2.0
    published_camera: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.smallest_zoom <= self.largest_zoom:
            raise InputError(
                f"views zoom in: need 1 <= smallest_zoom <= largest_zoom, got {self.smallest_zoom} and "
                f"{self.largest_zoom}"
            )
        if self.detail < 1:
            raise InputError(f"views.detail must be a whole number of at least 1, got {self.detail}")

    def __bool__(self) -> bool:
        return self.local_crop or self.patch_reshuffle


class AugmentedViews(nn.Module):
    """A method that also trains on augmented views of each sample. In eval mode it is the method itself.

    The prediction of the plain sample carries the views: `extra["views"]` has name → (Batch, Prediction), and
    `extra["agreement"]` has name → scale → depth in the view and in the plain image at the same pixels,
    (B·N, 1, h, w) each, and a mask of pixels that both show (or None).

    Args:
        method: any method with `run_networks`, `add_geometry` and `depth_of`.
        views: the views to add.
        agreement: settings of the loss term `depth_agreement`; its `weight` overrides `consistency_weight`.

    Raises:
        InputError: the method cannot be combined with these views.
    """

    def __init__(self, method: nn.Module, views: Views, agreement: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if views.published_camera and getattr(method, "pose_model_type", "") == "posecnn":
            raise InputError("views.published_camera bends the poses of a ResNet, not those of a posecnn")
        settings = dict(agreement or {})
        self.method, self.views = method, views
        self.weight = float(settings.pop("weight", views.consistency_weight))
        self.agreement = LOSSES.get("depth_agreement")(**settings)

    @property
    def detail(self) -> int:
        """Resolution of `Batch.detailed` relative to the network's size; 1: not needed."""
        return self.views.detail if self.views.local_crop else 1

    def forward(self, batch: Batch) -> Prediction:
        """The method's prediction of the plain sample; in training with its views in `extra`."""
        prediction = self.method(batch)
        if not self.training:
            return prediction
        draws = _draws(batch)
        views, agreement = {}, {}
        if self.views.local_crop:
            views["local"], agreement["local"] = self._local_crop(batch, prediction, draws)
        if self.views.patch_reshuffle:
            pair, agreement["reshuffled"] = self._patch_reshuffle(batch, prediction, draws)
            views["reshuffled"] = pair
        prediction.extra |= {"views": views, "agreement": agreement}
        return prediction

    def losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """The method's terms, each the mean over the plain sample and its views, and `depth_agreement`."""
        pairs = [(batch, prediction), *prediction.extra.get("views", {}).values()]
        every = [self.method.losses(*pair) for pair in pairs]
        terms = {  # a method may compute a term of the plain sample alone
            name: torch.stack([terms[name] for terms in every if name in terms]).mean() for name in every[0]
        }
        if self.weight:
            with self.method.in_float32():
                terms["depth_agreement"] = self.weight * self.agreement(batch, prediction)
        return terms

    def diagnose(self, batch: Batch, prediction: Prediction) -> list[str]:
        """The method's sentences about a training that goes wrong."""
        return self.method.diagnose(batch, prediction)

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """The method's images, the cropped target, and the disparity of each view."""
        shown = self.method.log_images(batch, prediction)
        size = batch.images[0].shape[-2:]
        for name, (view, seen) in prediction.extra.get("views", {}).items():
            if name == "local":
                shown["local_target"] = view.images[0]
            shown[f"{name}_disparity"] = F.interpolate(seen.disparities[min(seen.disparities)], size)
        return shown

    def log_clouds(self, batch: Batch, prediction: Prediction) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The method's point clouds."""
        return self.method.log_clouds(batch, prediction)

    def _local_crop(
        self, batch: Batch, plain: Prediction, draws: Tensor
    ) -> tuple[tuple[Batch, Prediction], dict[int, Any]]:
        views = self.views
        zooms = views.smallest_zoom, views.largest_zoom
        crop = LocalCrop.draw(draws, batch.images[0].shape[-2:], zooms, views.published_camera)
        motions_from = plain
        with self.method.in_float32():
            cropped = crop.apply(batch, self.method.depth_frames)
            if views.published_camera:
                bent = crop.bend(plain.T_source_from_target, batch.intrinsics)
                cropped = dataclasses.replace(cropped, T_source_from_target=bent)
                motions_from = dataclasses.replace(plain, extra={**plain.extra, "motions": {}})
        prediction = self.method.run_networks(cropped, motions_from)
        self.method.add_geometry(cropped, prediction)
        with self.method.in_float32():
            agreement = {}
            for scale, disparity in prediction.disparities.items():
                reference = plain.depths[scale]
                restored, inside = crop.restore(disparity, reference.shape[-2:])
                depth = self.method.depth_of(restored, cropped)
                if views.published_camera:
                    depth = depth * to_device_of(depth, crop.zoom)[:, None, None, None]
                agreement[scale] = depth, reference, inside
        return (cropped, prediction), agreement

    def _patch_reshuffle(
        self, batch: Batch, plain: Prediction, draws: Tensor
    ) -> tuple[tuple[Batch, Prediction], dict[int, Any]]:
        shuffle = PatchReshuffle.draw(draws, batch.images[0].shape[-2:])
        shuffled = shuffle.batch(batch, self.method.depth_frames)
        # A PoseCNN's translation is scaled by this view's own depth.
        prediction = self.method.run_networks(shuffled, dataclasses.replace(plain, depths={}))
        with self.method.in_float32():
            shuffle.restore_prediction(prediction)
        self.method.add_geometry(batch, prediction)
        with self.method.in_float32():
            agreement = {
                scale: (
                    self.method.depth_of(disparity, batch),
                    self.method.depth_of(plain.disparities[scale], batch),
                    None,
                )
                for scale, disparity in prediction.disparities.items()
            }
        return (batch, prediction), agreement


def with_views(
    method: nn.Module, views: Mapping[str, Any] | None, losses: Mapping[str, Mapping[str, Any]] | None = None
) -> nn.Module:
    """The method itself, or its wrapper with augmented views.

    Args:
        method: any method.
        views: settings of `Views`, the config's section `views`.
        losses: the config's section `losses`; only `depth_agreement` is read.

    Raises:
        InputError: an unknown setting; a term that compares views without any view.
    """
    check_settings("views", Views, views or {})
    chosen, agreement = Views(**(views or {})), (losses or {}).get("depth_agreement")
    if chosen:
        return AugmentedViews(method, chosen, agreement)
    if agreement:
        raise InputError("losses.depth_agreement compares augmented views; add --views.local_crop true")
    return method


def _draws(batch: Batch) -> Tensor:
    """(B·N, DRAWS) random numbers in [0, 1) on the CPU: those of `Augment`, which depend on seed, epoch and
    sample only, or torch's for a batch that has not been augmented. The cameras of a sample share theirs.
    """
    if "draws" in batch.extra:
        return batch.extra["draws"].double().cpu()
    return torch.rand(len(batch), DRAWS, dtype=torch.float64).repeat_interleave(batch.cameras, 0)
