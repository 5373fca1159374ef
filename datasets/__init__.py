"""Datasets, one file each. `DATASETS.get(name)` finds one by its file's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from utils import InputError, Registry, check_settings, settings_of

DATASETS = Registry("datasets")


def build_dataset(options: Mapping[str, Any], **overrides: Any) -> Any:
    """The dataset that `options["dataset"]` names, from the options its constructor takes.

    Args:
        options: of a run. The section `dataset` is a name or `{"name": ..., setting: value}`.
        overrides: settings that win over both, such as `part="val"`.

    Raises:
        InputError: an unknown dataset or setting, with the nearest that exists; what the dataset refuses.
    """
    section = options["dataset"]
    settings = {} if isinstance(section, str) else {k: v for k, v in section.items() if k != "name"}
    name = section if isinstance(section, str) else section.get("name")
    if not name:
        raise InputError("the section 'dataset' has no name")
    dataset = DATASETS.get(name)
    check_settings(f"dataset {name}", dataset, settings)
    taken = settings_of(dataset)
    shared = {key: value for key, value in options.items() if key in taken and value is not None}
    return dataset(**{**shared, **settings, **overrides})
