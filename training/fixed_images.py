"""The same validation images after every epoch: how the prediction of one scene changes over a training.

The samples are spread evenly over those that the validation evaluates. A training that is resumed shows the
same ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from structures import Batch
from validation import Validation, evenly_spaced

SAMPLES = 4


@torch.no_grad()
def fixed_images(validation: Validation, method: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """Columns of an image grid.

    Args:
        validation: validation of the run.
        method: networks; they are in eval mode afterwards.
        device: device of the networks.

    Returns:
        Name to (B·N, 3, H, W) in [0, 1] or (B·N, 1, H, W): `image`, `inverse_depth` of the prediction, and
        `ground_truth`, 1 / metres and 0 where unknown, if there is some. Of a method that does not predict
        depth, the images that it logs in training.
    """
    method.eval()
    dataset, indices = validation.dataset, validation.indices
    chosen = [indices[number] for number in evenly_spaced(len(indices), SAMPLES)]
    batch = Batch.cat([dataset[index] for index in chosen]).to(device)
    if "depth" not in method.tasks:
        return method.log_images(batch, method(batch))
    shown = {"image": batch.images[0], "inverse_depth": 1 / method.predict(batch).depths[0]}
    if validation.has_ground_truth:
        depth = torch.cat([dataset.network_depth(dataset.depth(index)) for index in chosen])
        shown["ground_truth"] = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
    return shown
