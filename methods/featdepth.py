"""FeatDepth: sources explain the target's features as well as its colours (Shu et al., ECCV 2020).

    loss = photometric + 1e-3 feature metric + smoothness of first and second order

The features come from an image auto-encoder, losses/feature_metric.py. Its encoder, the extractor, is either
frozen, from the weights of `methods/featdepth_autoencoder.py`, or trained along (`joint`) with
losses/reconstruction.py and losses/feature_gradients.py. The finest disparity has half the image's size
(networks/refine_decoder.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from cameras import stacked_grid
from losses._features import Features
from methods import METHODS
from methods._networks import check_choice, enlarge
from methods.monodepth2 import Monodepth2
from networks import NETWORKS
from networks.image_decoder import ImageDecoder
from networks.resnet import Resnet
from structures import Batch, Frame, Prediction
from utils import InputError

STRIDE = 2  # of the first feature
_OF_THE_AUTOENCODER = ("extra.features.levels", "extra.features.reconstructions")


@METHODS.register
class FeatDepth(Monodepth2):
    """Monodepth2 with a feature-metric loss; it takes Monodepth2's settings as well.

    Args:
        joint: train the auto-encoder along. False: its encoder is frozen, and must be loaded:
            `--load_weights_folder RUN --models_to_load extractor`.
        extractor_layers: depth of the extractor's ResNet.
        extractor_norms: statistics of a frozen extractor's batch norms: `running`, or `batch`, of each batch,
            as in the published training.
        pose_size: (height, width) that images are resized to for the pose network; None keeps their size.
        scales: scales of the disparities, 1 (half the image's size) to 4.
        decoder: depth decoder.
        pose_encoder: pose encoder.
        disparity_smoothness: weight of the smoothness term; scale s counts 1 / 2**s.
        losses: same as Monodepth2's. With stereo pairs the published loss has neither automask nor normalised
            disparities; `losses.photometric.automask` and `losses.smoothness.normalise` change that.

    Raises:
        InputError: a setting that `Monodepth2` refuses; joint training without reconstruction.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "num_layers": 50,
        "decoder": "refine_decoder",
        "pose_encoder": "resnet18",
        "scales": [1, 2, 3, 4],
        "disparity_smoothness": 2e-3,  # published: 1e-3 at their finest scale, which is scale 1 here
    }
    provides = (*Monodepth2.provides, "extra.features", *_OF_THE_AUTOENCODER)
    only_for_training: ClassVar[tuple[str, ...]] = (
        *Monodepth2.only_for_training,
        "extractor",
        "image_decoder",
    )

    def __init__(
        self,
        joint: bool = False,
        extractor_layers: int = 50,
        extractor_norms: str = "running",
        pose_size: Sequence[int] | None = (192, 640),
        scales: Sequence[int] = (1, 2, 3, 4),
        decoder: str = "refine_decoder",
        pose_encoder: str | None = "resnet18",
        disparity_smoothness: float = 2e-3,
        losses: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        check_choice("extractor_norms", extractor_norms, ("running", "batch"))
        if pose_size is not None and (len(pose_size) != 2 or min(pose_size) < 32):
            raise InputError(f"pose_size is height and width of at least 32, got {pose_size}; try [192, 640]")
        defaults = _loss_defaults(joint, "s" in settings.get("frame_ids", ()), settings)
        super().__init__(
            scales=scales,
            decoder=decoder,
            pose_encoder=pose_encoder,
            disparity_smoothness=disparity_smoothness,
            losses=_merged(defaults, losses or {}),
            **settings,
        )
        trained = [name for name, term in self.loss_terms.items() if set(_OF_THE_AUTOENCODER) & _reads(term)]
        if trained and not joint:
            raise InputError(
                f"losses.{trained[0]} trains the auto-encoder, and featdepth's is frozen; add "
                "--method.joint true"
            )
        if joint and "reconstruction" not in self.loss_terms:
            raise InputError(
                "joint training without losses.reconstruction lets all features become equal; leave its "
                "weight above 0, or freeze the extractor with --method.joint false"
            )
        self.joint, self.extractor_norms = joint, extractor_norms
        self.pose_size = None if pose_size is None else tuple(pose_size)
        pretrained = joint and settings.get("weights_init", "pretrained") == "pretrained"
        self.extractor = Resnet(extractor_layers, pretrained=pretrained)
        self.extractor.leave_images_raw()
        if joint:
            self.image_decoder = ImageDecoder(self.extractor.num_channels)
        else:
            self.extractor.requires_grad_(False)
        # Weights that are still these have not been loaded. A plain list, so that no checkpoint holds it.
        self._drawn: list[float] | None = None if joint else self._some_weights()

    def _build_pose(self, encoder: str, pretrained: bool) -> None:
        super()._build_pose(encoder, pretrained)
        if self.pose_model_type == "separate_resnet" and self.pose_model_input == "pairs":
            # The published one predicts one motion for a pair.
            self.pose = NETWORKS.get("pose_decoder")(self.pose_encoder.num_channels, num_frames=1)

    def train(self, mode: bool = True) -> FeatDepth:
        """Same as `nn.Module.train`; a frozen extractor keeps its running statistics."""
        super().train(mode)
        if mode and not self.joint and self.extractor_norms == "running":
            self.extractor.eval()
        return self

    def run_pose_network(
        self, frames: list, images: Mapping[Frame, Tensor], features: Mapping[Frame, list[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Same as in `DepthAndMotion`, on images of `pose_size`."""
        if self.pose_size is not None and self.pose_model_type != "shared":
            images = {frame: enlarge(images[frame], self.pose_size) for frame in frames}
        return super().run_pose_network(frames, images, features)

    def add_geometry(self, batch: Batch, prediction: Prediction) -> None:
        """Same as in `Monodepth2`; adds the features of target and sources and the grid that samples them.

        Raises:
            InputError: a frozen extractor is used in training and was never loaded.
        """
        if self.joint or self.reads("extra.features"):
            prediction.extra["features"] = self.extract(batch)
        super().add_geometry(batch, prediction)

    def extract(self, batch: Batch) -> Features:
        """Features of the images without colour jitter, which losses compare; as `Features`, without a grid.

        Raises:
            InputError: see `add_geometry`.
        """
        if self.training and self._drawn is not None:
            if self._some_weights() == self._drawn:
                raise InputError(
                    "featdepth's frozen extractor has weights that were never trained; take them from an "
                    "auto-encoder with --load_weights_folder RUN --models_to_load extractor, or train it "
                    "along with --method.joint true"
                )
            self._drawn = None
        features = Features()
        with self.networks_autocast(), torch.set_grad_enabled(self.joint and torch.is_grad_enabled()):
            if self.joint:
                levels = self.extractor(batch.images[0])
                features.reconstructions = self.image_decoder(levels)
                features.levels = [level.float() for level in levels]
                features.target = features.levels[0]
            else:
                features.target = self.extractor.first_feature(batch.images[0]).float()
            sources = [self.extractor.first_feature(batch.images[frame]).float() for frame in batch.sources]
            features.sources = torch.stack(sources)
        return features

    def _warp_sources(self, batch: Batch, prediction: Prediction, scale: int, T: Tensor) -> None:
        """Same as in `Monodepth2`; at the finest scale also adds the grid that samples the features."""
        super()._warp_sources(batch, prediction, scale, T)
        features = prediction.extra.get("features")
        if features is None or scale != min(prediction.disparities):
            return
        size, disparity = features.target.shape[-2:], prediction.disparities[scale]
        if disparity.shape[-2:] != size:
            disparity = enlarge(disparity, size)
        count, K = len(batch.sources), batch.intrinsics
        # Feature (x, y) is centred on pixel (2 x, 2 y): a kernel of 7, a padding of 3, a stride of 2.
        K = torch.cat([K[:, :2] / STRIDE, K[:, 2:]], 1).repeat(count, 1, 1)
        depth = self.depth_of(disparity, batch).repeat(count, 1, 1, 1)
        camera = batch.camera
        if camera is not None:
            rows = depth.new_ones(camera.rows, 2)
            camera = camera.zoomed(rows / STRIDE, -rows / 4, size)
        grid = stacked_grid(depth, K, T, camera, size)
        features.grid = grid.unflatten(0, (count, -1))

    def _some_weights(self) -> list[float]:
        return self.extractor.encoder.conv1.weight[0, 0, 0].detach().tolist()


def _reads(term: torch.nn.Module) -> set[str]:
    return set(getattr(term, "predicts", ()))


def _loss_defaults(joint: bool, stereo: bool, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The published terms, over Monodepth2's: robust differences, two orders of smoothness."""
    terms: dict[str, dict[str, Any]] = {
        "photometric": {"l1_epsilon": 1e-6},
        "smoothness": {"second_order": True, "sharpness": 0.5, "normalise": not stereo},
        "feature_metric": {"weight": 1e-3, "align_corners": settings.get("align_corners", True)},
    }
    if stereo:
        terms["photometric"]["automask"] = False
    if joint:
        terms |= {"reconstruction": {}, "feature_gradients": {}}
    return terms


def _merged(
    defaults: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    names = [*defaults, *(name for name in chosen if name not in defaults)]
    return {name: {**defaults.get(name, {}), **(chosen.get(name) or {})} for name in names}
