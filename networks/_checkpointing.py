"""Gradient checkpointing: a part's activations are computed again in the backward pass instead of kept.

A network that supports it has an attribute `gradient_checkpointing` and runs its parts by `run_checkpointed`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from torch import nn
from torch.utils.checkpoint import checkpoint


def run_checkpointed(part: Callable, *inputs: object, of: nn.Module | None = None) -> object:
    """`part(*inputs)`, with activations recomputed in the backward pass.

    Args:
        part: a module, or a function.
        inputs: its inputs.
        of: module whose batch norms `part` runs, if `part` is not a module.
    """
    owner = part if isinstance(part, nn.Module) else of

    def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
        return contextlib.nullcontext(), _statistics_kept(owner)

    return checkpoint(part, *inputs, use_reentrant=False, context_fn=contexts)


@contextlib.contextmanager
def _statistics_kept(owner: nn.Module | None) -> Iterator[None]:
    """A second forward pass, which must not update the running statistics a second time."""
    parts = owner.modules() if owner is not None else ()
    norms = [part for part in parts if isinstance(part, nn.modules.batchnorm._NormBase)]
    norms = [norm for norm in norms if norm.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
