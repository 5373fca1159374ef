"""A model on several processes: gradients are averaged, and so are the denominators of loss terms.

A term that divides by a count of its batch, such as labelled pixels, has another denominator in each process.
The mean of its gradients is the gradient of the joined batch only if all divide by the mean denominator.
"""

from __future__ import annotations

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from processes import Processes


def distribute(model: nn.Module, processes: Processes) -> nn.Module:
    """The module that a training step runs: `model`, or its DistributedDataParallel.

    Call it once everything that runs the model on one process only is done: from then on the terms of
    `model` with the attribute `mean_over_processes` wait for each other in each training step.
    """
    if processes.world == 1:
        return model
    for module in model.modules():
        if hasattr(module, "mean_over_processes"):
            module.mean_over_processes = processes.mean_on_device
    return DistributedDataParallel(model)
