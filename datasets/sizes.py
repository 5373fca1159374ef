"""The size of the network's input: the option, else the method's, else the dataset's own, else 192 x 640.

This is the only place that decides it; `run.py`, the doctor and the tools ask it. It reads the datasets'
facts from their source text (components.py), so that options are composed before torch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components import find_component
from utils import InputError

RUN_SETTINGS = ("height", "width", "resize", "frame_ids", "skip_missing")  # options, not dataset settings
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
