"""Cameras that a run guesses or learns: the method gets their parameters, and a checkpoint records them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets.frame_lists import innermost
from methods import RECORD, Method, build_method, learned_cameras
from utils import InputError


def with_cameras(options: Mapping[str, Any], train_set: Any) -> Method:
    """The method of a run, with the parameters of the cameras that it learns.

    Raises:
        InputError: intrinsics are learned, and further datasets are joined, whose cameras are not.
    """
    method = build_method(options)
    method.camera = learned_cameras(_record(train_set))
    if method.camera is not None and options.get("joined"):
        raise InputError(
            "--dataset.intrinsics learn is for the recordings of one dataset; leave out --joined, or put "
            "the recordings into one folder"
        )
    return method


def with_record(settings: Mapping[str, Any], train_set: Any, method: Method) -> dict[str, Any]:
    """The options that a checkpoint keeps: those of the run, and its cameras as they are now."""
    record = _record(train_set)
    if method.camera is not None:
        record = method.camera.record(record)
    return {**settings, RECORD: record} if record else dict(settings)


def _record(train_set: Any) -> dict[str, dict[str, Any]]:
    dataset = innermost(train_set)
    return dataset.camera_record() if hasattr(dataset, "camera_record") else {}
