"""Outputs of a sequence in addition to its video: each takes every frame, then finishes with a sentence."""

from __future__ import annotations

from typing import Protocol

from prediction.bridges import Bridge, bridged
from prediction.images import GUESSED
from prediction.streaming import SequenceCamera, SequenceFrame

RGBD_FACTOR = 1000.0  # of `--rgbd`: millimetres, up to 65.5 m


class Output(Protocol):
    """An output of test_video.py in addition to the video: `fusion.SequenceCloud`, `BridgedSequence`.

    Attributes:
        needs_poses: motions must be predicted.
    """

    needs_poses: bool

    def add(self, frame: SequenceFrame) -> None:
        """Take the next frame."""

    def finish(self) -> str:
        """Complete the output; returns a sentence about it."""


class BridgedSequence:
    """Gives the frames of a sequence to a bridge.

    Args:
        bridge: the folder that is written.
        camera: the sequence's intrinsics.
        fps: frames per second.
    """

    def __init__(self, bridge: Bridge, camera: SequenceCamera, fps: float) -> None:
        self.bridge, self.camera, self.fps = bridge, camera, fps
        self.needs_poses = bridge.needs_poses

    def add(self, frame: SequenceFrame) -> None:
        """Write one frame.

        Raises:
            InputError: frames of different sizes, or a file cannot be written.
        """
        K = self.camera.at(frame.image)
        guessed = self.camera.source == GUESSED
        facts = {"world_from_camera": frame.world_from_camera, "seconds": frame.number / self.fps}
        self.bridge.add(bridged(f"{frame.number:06d}", frame.image, frame.inverse_depth, K, guessed, **facts))

    def finish(self) -> str:
        """Complete the folder; returns a sentence about it."""
        return self.bridge.finish()
