"""Predictions as folders that other programs read, one file for each form: `--bridge FORMAT FOLDER`.

`test_simple.py` gives images, `test_video.py` posed frames, and a rig its posed cameras; all of them become a
`BridgedImage`. A bridge writes each image when it comes, and what describes the whole folder at the end, so
that a full disk leaves every finished file whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prediction.bridges._base import Bridge, BridgedImage, bridged
from predictor import Predictor
from utils import Registry

__all__ = ["BRIDGES", "Bridge", "BridgedImage", "bridged", "open_bridges"]

BRIDGES = Registry("prediction.bridges")


def open_bridges(
    wanted: Sequence[Sequence[str]], predictor: Predictor, depth_factor: float | None = None
) -> list[Bridge]:
    """The bridges of `--bridge`.

    Args:
        wanted: format and folder of each.
        predictor: the model, whose depth has its unit.
        depth_factor: value of 16-bit depth for one unit; None for that of each form.

    Raises:
        InputError: an unknown format, with the nearest one.
    """
    return [
        BRIDGES.get(name)(Path(folder).expanduser(), predictor.unit, predictor.is_metric, depth_factor)
        for name, folder in wanted
    ]
