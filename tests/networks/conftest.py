import functools
from collections.abc import Callable

import pytest
import torch

from networks.resnet import Resnet
from tests.goldens import state_dict


@functools.cache
def _weights(name: str) -> dict[str, torch.Tensor]:
    # Published encoders also hold the unused classifier.
    return {key: value for key, value in state_dict(name).items() if not key.startswith("encoder.fc.")}


@pytest.fixture(scope="session")
def published_resnet() -> Callable[..., Resnet]:
    """(name of the checkpoint, num_layers, num_images) → a fresh encoder with its weights."""

    def build(name: str, num_layers: int = 18, num_images: int = 1) -> Resnet:
        encoder = Resnet(num_layers, num_images)
        encoder.load_state_dict(_weights(name))
        return encoder

    return build
