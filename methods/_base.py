"""The contract between the trainer and a method. The trainer knows nothing else of it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from structures import Batch, Prediction


class Method(nn.Module):
    """Networks and the losses that train them.

    Sub-networks are attributes named as in `models_to_load` (encoder, depth, pose_encoder, pose, ...), which
    is also how a checkpoint keys them. Networks may run in bfloat16 (`precision`); what they return is
    float32 again, and all geometry and losses stay in it.
    """

    precision: torch.dtype = torch.float32  # of the networks; the trainer sets bfloat16
    metric: bool = False  # whether what it learns from tells metres
    cameras: int = 1  # of one frame set that it looks at together; a method of one takes any image
    detail: int = 1  # above 1, data comes with `Batch.detailed` of that many times the network's size
    defaults: ClassVar[dict[str, Any]] = {}  # options of a run that are others for this method

    def forward(self, batch: Batch) -> Prediction:
        """Disparities, depths, poses and warped sources of a float Batch on the method's device."""
        raise NotImplementedError

    def losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Weighted scalars by name; their sum is minimised."""
        raise NotImplementedError

    def predict_depth(self, images: Tensor, intrinsics: Tensor | None = None) -> Tensor:
        """Depth of single images.

        Args:
            images: (B, 3, H, W) in [0, 1], at the network's size.
            intrinsics: (B, 3, 3) pixels, for the methods that need them.

        Returns:
            (B, 1, H, W), metres up to the method's scale.
        """
        raise NotImplementedError

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Motion between two images.

        Args:
            earlier, later: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 4, 4), T_later_from_earlier, the translation in the unit of the depth.
        """
        raise NotImplementedError

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser gets; a group may carry its own `lr` as a factor named `lr_factor`."""
        return [{"params": [parameter for parameter in self.parameters() if parameter.requires_grad]}]

    def on_epoch_start(self, epoch: int, num_epochs: int) -> None:
        """Called before each epoch, for schedules a method has of its own."""

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """What is worth a look: name → (B, 3 or 1, H, W) in [0, 1]."""
        return {}

    def log_clouds(self, batch: Batch, prediction: Prediction) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What is worth a walk round it: name → (K, 3) x forward, y left, z up, and (K, 3) uint8 RGB."""
        return {}

    def networks_autocast(self) -> torch.autocast:
        """The context the networks run in: lower precision on request, otherwise nothing."""
        device = next(self.parameters()).device.type
        return torch.autocast(device, self.precision, enabled=self.precision != torch.float32)

    def in_float32(self) -> torch.autocast:
        """The context of geometry and losses, also where all of a step is under a caller's autocast."""
        return torch.autocast(next(self.parameters()).device.type, enabled=False)
