"""Frames of a sequence predicted one batch after another: depth, labels, poses and the camera.

    frames -> predictor -> SequenceFrame, SequenceFrame, ...        memory holds one batch

The outputs of `test_video.py` each read these frames: the video, the fused point cloud, the RGB-D folder.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prediction.frames import Frames
from prediction.images import find_intrinsics, trained_intrinsics
from predictor import Predictor
from trajectories import chain
from utils import InputError


@dataclass(frozen=True)
class SequenceFrame:
    """One frame and its prediction.

    Attributes:
        number: number of the frame in the sequence, from 0; frames that cannot be read count.
        image: (3, h, w) uint8.
        inverse_depth: (1, H, W) at the network's size.
        network_image: (3, H, W) in [0, 1], the network's input.
        logits: (classes, H, W); None without segmentation.
        world_from_camera: (4, 4) pose, the world the first frame's camera, the translation in the unit of
            depth; None if motions are not predicted.
    """

    number: int
    image: Tensor
    inverse_depth: Tensor
    network_image: Tensor
    logits: Tensor | None = None
    world_from_camera: np.ndarray | None = None


def predict_frames(
    predictor: Predictor, frames: Frames, batch_size: int, motions: bool, failed: list[InputError]
) -> Iterator[SequenceFrame | None]:
    """Predict a sequence.

    Args:
        predictor: a model of single images.
        frames: the sequence.
        batch_size: frames predicted at a time.
        motions: predict motion between consecutive frames as well, and chain it to poses.
        failed: gets a sentence for each frame that cannot be read; None is yielded for it.

    Raises:
        InputError: motions are wanted, and the model has no pose network for pairs, or one is not finite.
    """
    numbered, last, pose = enumerate(frames.images), None, np.eye(4)
    while items := list(itertools.islice(numbered, batch_size)):
        failed += [image for _, image in items if isinstance(image, InputError)]
        yield from (None for _, image in items if isinstance(image, InputError))
        read = [(number, image) for number, image in items if not isinstance(image, InputError)]
        if not read:
            continue
        images = predict_images(predictor, read)
        if motions:
            shown = torch.stack([frame.network_image for frame in images])
            chained = [pose @ step for step in chain(predictor.motions(_after(last, shown)))]
            poses = chained[len(chained) - len(read) :]
            images = [
                dataclasses.replace(frame, world_from_camera=found) for frame, found in zip(images, poses)
            ]
            last, pose = shown[-1:], chained[-1]
        yield from images


def predict_images(predictor: Predictor, numbered: Sequence[tuple[int, Tensor]]) -> list[SequenceFrame]:
    """Predict images (3, h, w) uint8, each with its number in the sequence, in one batch."""
    batch = predictor.batch([image for _, image in numbered])
    inverse_depths, logits = predictor.predict_batch(batch)
    network_images = batch.network_images[0]
    scores = itertools.repeat(None) if logits is None else logits
    return [
        SequenceFrame(number, image, inverse_depth, network_image, score)
        for (number, image), inverse_depth, network_image, score in zip(
            numbered, inverse_depths, network_images, scores
        )
    ]


def _after(last: Tensor | None, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) with the one before them, (1, 3, H, W), in front."""
    return images if last is None else torch.cat([last, images])


class SequenceCamera:
    """The intrinsics of a sequence, found at its first frame.

    Args:
        frames: the sequence; cam.txt is looked for next to its first file.
        given: `fx fy cx cy` in pixels of the frames; None to look for them.
        predictor: the model, whose training may have set intrinsics.

    Attributes:
        source: where the intrinsics are from, see `images.find_intrinsics`; "" before the first frame.
    """

    def __init__(self, frames: Frames, given: str | None, predictor: Predictor) -> None:
        self.path, self.given, self.source = frames.source, given, ""
        self.trained = trained_intrinsics(predictor.options, frames.source)
        self._K: np.ndarray | None = None
        self._size: tuple[int, int] | None = None

    def at(self, image: Tensor) -> np.ndarray:
        """(3, 3) pixels of a frame (3, h, w).

        Raises:
            InputError: intrinsics that cannot belong to this size, or frames of different sizes.
        """
        height, width = image.shape[-2:]
        if self._K is None:
            self._K, self.source = find_intrinsics(self.path, height, width, self.given, self.trained)
            self._size = height, width
        if (height, width) != self._size:
            raise InputError(
                f"the frames of one camera have one size, got {self._size[1]}x{self._size[0]} and "
                f"{width}x{height}"
            )
        return self._K
