"""The size of the network's input: the option, else the method's, else the dataset's own, else 192 x 640.

This is the only place that decides it; `run.py`, the doctor and the tools ask it. It reads the datasets'
facts from their source text (components.py), so that options are composed before torch is imported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from components import find_component
from utils import InputError

# Options, not dataset settings.
RUN_SETTINGS = ("height", "width", "resize", "frame_ids", "skip_missing", "packed")
DEFAULT_SIZE = (192, 640)  # height and width, pixels


def section_of(options: Mapping[str, Any], section: str = "dataset") -> tuple[str, dict[str, Any]]:
    """The name and the settings of a section that is a name or a mapping."""
    chosen = options[section]
    settings = {"name": chosen} if isinstance(chosen, str) else dict(chosen)
    return settings.pop("name", ""), settings


def network_size(options: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the network's input, pixels.

    Args:
        options: options of a run, with the method's defaults merged; height and width may be None or absent.

    Raises:
        InputError: an unknown dataset, or a section that repeats an option of the run.
    """
    name, section = section_of(options)
    dataset = find_component("datasets", name)
    for key in RUN_SETTINGS:
        if key in section:
            raise InputError(f"--dataset.{key} is an option of the run; write --{key} {section[key]}")
    own = dataset.attribute("default_height"), dataset.attribute("default_width")
    given = options.get("height"), options.get("width")
    choices = zip(given, own, DEFAULT_SIZE)
    height, width = (next(value for value in values if value is not None) for values in choices)
    return height, width


def fitting_size(width: int, height: int, pixels: int) -> tuple[int, int]:
    """(width, height): multiples of 32, about `pixels` in all, of the image's aspect ratio, not wider."""

    def misfit(size: tuple[int, int]) -> float:
        stretch, cost = size[0] / size[1] / (width / height), size[0] * size[1] / pixels
        return abs(math.log(stretch)) + 0.2 * abs(math.log(cost))

    steps = range(32, max(64, int(1.05 * max(width, height))), 32)
    return min(((w, h) for w in steps for h in steps if w <= max(32, 1.05 * width)), key=misfit)
