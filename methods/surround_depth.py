"""SurroundDepth: joint depth for the cameras around a vehicle, with shared features, motion and scale.

    features of all cameras -> cross-view attention -> disparity -> depth = d(disparity) fx / focal_scale
    joint pose:  T_ego from the cameras' mean feature,   T_k = inv(E_k) T_ego E_k   with E = rig_from_camera

The extrinsics are in metres and can make depth metric in three ways: by the overlap of neighbours
(`spatial`), by matches triangulated in the overlap (`sfm_matches`), and by the joint pose, through which the
first two reach every camera (Wei et al., SurroundDepth: entangling surrounding views for self-supervised
multi-camera depth, CoRL 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clouds import surround_cloud
from datasets.surround import RING
from devices import constants
from images import as_image, colourise, ring_grid
from layers import disparity_to_depth, invert_rigid
from methods import METHODS
from methods._networks import Motion
from methods.monodepth2 import Monodepth2
from networks import NETWORKS
from structures import Batch, Frame, Prediction
from utils import InputError

_CLOUD_POINTS = 30_000  # points of a logged cloud; TensorBoard's page stays fast with this number
_NEARER = 0.9  # share of the nearest depths in a logged cloud if depth is not metric


@METHODS.register
class SurroundDepth(Monodepth2):
    """Monodepth2 over a rig of cameras, with Monodepth2's settings as well; `num_layers` is 34 by default.

    `losses: {spatial: {weight: 0.075}}` and `{sfm_matches: {weight: 0.1}}` add the terms that make depth
    metric.

    Args:
        cameras: N, the cameras of a frame set, in ring order.
        blocks: attention blocks at each of five levels; 0 removes attention, so that cameras are independent.
        heads: heads of each attention; must divide the channels of every feature.
        skip: add the output of attention to the features instead of replacing them.
        focal: multiply depth by fx / focal_scale, fx in pixels at the network's size. Cameras with different
            focal lengths can then share a network: an object of the same size in the image is farther away
            for a longer focal length.
        focal_scale: pixels; the fx for which `min_depth` and `max_depth` are given.
        joint_pose: predict one motion of the vehicle from all cameras, and transform it to each camera.
        pose_unit: metres per unit of the pose network's translation. The network's output starts near 0 and
            grows slowly, so a larger unit helps short trainings to find motions of a metre; 1 is published.

    Raises:
        InputError: invalid settings of Monodepth2; a joint pose from a PoseCNN or of all frames at once;
            another number of cameras in the data, or unknown extrinsics with `joint_pose`.
    """

    defaults: ClassVar[dict[str, Any]] = {"num_layers": 34, "height": 384, "width": 640, "batch_size": 1}

    def __init__(
        self,
        cameras: int = 6,
        blocks: int = 8,
        heads: int = 8,
        skip: bool = True,
        focal: bool = True,
        focal_scale: float = 500.0,
        joint_pose: bool = False,
        pose_unit: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(**{"num_layers": self.defaults["num_layers"], **settings})
        for name, value in (("cameras", cameras), ("focal_scale", focal_scale), ("pose_unit", pose_unit)):
            if value <= 0:
                raise InputError(f"{name} must be above 0, got {value}")
        pairs = self.pose_model_type in ("separate_resnet", "shared") and self.pose_model_input == "pairs"
        if joint_pose and not pairs:
            raise InputError(
                "joint_pose averages the features of pairs: pose_model_type separate_resnet or shared, "
                f"pose_model_input pairs, got {self.pose_model_type} and {self.pose_model_input}"
            )
        self.cameras, self.joint_pose, self.pose_unit = cameras, joint_pose, pose_unit
        self.needs = ("rig_from_camera",) if joint_pose else ()
        self.focal, self.focal_scale = focal, focal_scale
        if blocks:
            if not hasattr(self, "encoder"):
                raise InputError(
                    "attention over cameras joins the features of an encoder, and --depth_network has "
                    "none; add --method.blocks 0"
                )
            cross_view = NETWORKS.get("cross_view")
            self.depth = cross_view(self.depth, self.encoder.num_channels, cameras, blocks, heads, skip)

    @property
    def reads_intrinsics(self) -> bool:
        """True if depth follows the focal length."""
        return self.focal

    def run_networks(self, batch: Batch, plain: Prediction | None = None) -> Prediction:
        """The networks of Monodepth2, for all cameras together."""
        self._check_frame_sets(batch)
        return super().run_networks(batch, plain)

    def depth_of(self, disparity: Tensor, batch: Batch) -> Tensor:
        """Monodepth2's depth, times fx / focal_scale. The fx of a zoomed image includes the zoom."""
        if not self.focal:
            return super().depth_of(disparity, batch)
        return self._focal_depth(disparity, batch.intrinsics)

    def predict(self, batch: Batch) -> Prediction:
        """Monodepth2's prediction, for whole frame sets: all N cameras of a frame set together in ring order.

        Raises:
            InputError: another number of cameras; no intrinsics, which `focal` needs.
        """
        self._check_frame_sets(batch)
        if self.reads_intrinsics and batch.intrinsics is None:
            raise InputError("this model's depth depends on the focal length; give the images' intrinsics")
        return super().predict(batch)

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(B·N, 3, H, W) in [0, 1] twice to T_later_from_earlier: (B·N, 4, 4) of each camera, or with
        `joint_pose` (B, 4, 4) of the vehicle.
        """
        self._check_whole(earlier)
        T = super().predict_pose(earlier, later)
        return torch.cat([T[..., :3], T[..., 3:] * constants([[self.pose_unit]] * 3 + [[1.0]], like=T)], -1)

    def pose_of(self, motion: Motion, batch: Batch, scale: Tensor | float = 1.0) -> Tensor:
        """(B·N, 4, 4); with `joint_pose` the vehicle's motion, transformed to each camera."""
        T = motion.matrix(self.pose_unit * scale)
        if not self.joint_pose:
            return T
        rig = batch.rig_from_camera
        return invert_rigid(rig) @ T.repeat_interleave(self.cameras, 0) @ rig

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """`surround` (B, 3, h, w): a grid of the cameras in the layout of the rig, each with Monodepth2's
        images in a column. Near is bright, with the same colour scale for all cameras of a frame set.
        """
        shown = super().log_images(batch, prediction)
        scale = min(prediction.disparities)
        near = 1 / self.depth_of(prediction.disparities[scale], batch)
        low, high = near.min(), torch.quantile(near.flatten()[:: max(1, near.numel() // 2**20)], 0.95)
        nearness = (near - low) / (high - low).clamp(min=1e-12)
        shown["disparity"] = F.interpolate(nearness, batch.images[0].shape[-2:])
        names = RING if self.cameras == len(RING) else [f"camera {n}" for n in range(self.cameras)]
        image_grids = []
        for frame_set in range(len(batch)):
            rows = range(frame_set * self.cameras, (frame_set + 1) * self.cameras)
            views = [[_coloured(images[row]) for images in shown.values()] for row in rows]
            image_grids.append(torch.from_numpy(ring_grid(views, names)))
        return {"surround": torch.stack(image_grids).permute(0, 3, 1, 2).float() / 255}

    def log_clouds(self, batch: Batch, prediction: Prediction) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """`cloud`: points of all cameras of the first frame set, at most 30 000, chosen uniformly at random.

        If depth is known only up to scale, each camera's points have correct directions from its position on
        the vehicle, but the clouds of neighbouring cameras may not meet.
        """
        if batch.rig_from_camera is None:
            return {}
        finest, images = prediction.disparities[min(prediction.disparities)], batch.images[0]
        disparity = F.interpolate(finest.detach(), images.shape[-2:], mode="bilinear", align_corners=False)
        ego_mask = batch.maps.get("ego_mask")

        def of_first_frame_set(values: Tensor) -> np.ndarray:
            return values[: self.cameras].cpu().numpy()

        depths = of_first_frame_set(self.depth_of(disparity, batch))[:, 0]
        points, colours = surround_cloud(
            depths,
            of_first_frame_set(batch.intrinsics),
            [as_image(image) for image in images[: self.cameras]],
            of_first_frame_set(batch.rig_from_camera),
            None if ego_mask is None else of_first_frame_set(ego_mask)[:, 0],
            **({} if self.fixes_metric_scale else {"farthest": float(np.quantile(depths, _NEARER))}),
        )
        if not len(points):  # no smooth surface anywhere, possible in the first steps from scratch
            return {}
        # Its own generator, so that logging does not change training. A fixed stride would draw stripes.
        kept = np.random.default_rng(0).permutation(len(points))[:_CLOUD_POINTS]
        return {"cloud": (points[kept], colours[kept])}

    def _check_frame_sets(self, batch: Batch) -> None:
        if batch.cameras != self.cameras:
            raise InputError(
                f"the method reads {self.cameras} cameras of a frame set together and the data has "
                f"{batch.cameras}; --method.cameras {batch.cameras} fits it"
            )
        self._check_whole(batch.images[0])

    def _check_whole(self, images: Tensor) -> None:
        if images.shape[0] % self.cameras:
            raise InputError(
                f"{images.shape[0]} images are not whole frame sets of {self.cameras} cameras; give all "
                "cameras of a frame set together, in ring order"
            )

    def _focal_depth(self, disparity: Tensor, intrinsics: Tensor) -> Tensor:
        factor = intrinsics[:, 0, 0, None, None, None] / self.focal_scale
        return disparity_to_depth(disparity, self.min_depth, self.max_depth) * factor

    def run_pose_network(
        self, frames: list, images: Mapping[Frame, Tensor], features: Mapping[Frame, list[Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Monodepth2's pose network; a joint pose is read from the mean of the cameras' last features."""
        if not self.joint_pose:
            return super().run_pose_network(frames, images, features)
        if self.pose_model_type == "shared":
            seen = [features[frame][-1] for frame in frames]
        else:
            seen = [self.pose_encoder(torch.cat([images[frame] for frame in frames], 1))[-1]]
        return self.pose([[last.unflatten(0, (-1, self.cameras)).mean(1)] for last in seen])


def _coloured(values: Tensor) -> np.ndarray:
    """An image or map in [0, 1] as (H, W, 3) uint8: (3, H, W) unchanged, (1, H, W) by a colour map."""
    return colourise(values[0], 0.0, 1.0) if len(values) == 1 else as_image(values)
