"""Scale drift: how the ratio of ground truth and prediction changes along a sequence.

    r_n = median(ground truth) / median(prediction) of frame n         constant for depth of one scale

    max_over_min   max r / min r
    std_log        standard deviation of log r
    slope          of a line through (n, log r), least squares, times 100: log scale gained in 100 frames

A model may have any constant scale without drift. The numbers are of one scene; means are over the scenes of
at least three frames. n is the number in the frame's name, else its position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from datasets.frame_names import parse_frame

FEWEST = 3  # frames of a scene
PER = 100  # frames that `slope` is given for

Ratio = tuple[str, int | str, float]  # name and camera of an image, its ratio; camera 0 or "" if it has one


def drift_of(numbers: Sequence[float], ratios: Sequence[float]) -> dict[str, float]:
    """The drift of one scene.

    Args:
        numbers: (N,) numbers of the frames, not all equal.
        ratios: (N,) scale ratios, above 0.

    Returns:
        `frames`, `max_over_min`, `std_log`, `slope`.
    """
    n, logs = np.asarray(numbers, float), np.log(ratios)
    centred = n - n.mean()
    return {
        "frames": len(logs),
        "max_over_min": float(np.exp(logs.max() - logs.min())),
        "std_log": float(logs.std()),
        "slope": float(PER * (centred @ logs) / (centred @ centred)),
    }


def scale_drift(images: Sequence[Ratio]) -> dict[str, Mapping[str, float]]:
    """The drift of each scene and camera of an evaluation, and of their mean.

    Args:
        images: name, camera and ratio of each image, in the dataset's order.

    Returns:
        scene -> `drift_of`, the camera appended for the further cameras of a rig; under "mean" the means of
        max_over_min, std_log and of the absolute slope. Empty if no scene has FEWEST frames.
    """
    found: dict[str, Mapping[str, float]] = {}
    for scene, values in ratios_of_scenes(images).items():
        if len({number for number, _ in values}) >= FEWEST:
            found[scene] = drift_of(*zip(*values))
    if found:
        keys = ("max_over_min", "std_log", "slope")
        found["mean"] = {key: float(np.mean([abs(one[key]) for one in found.values()])) for key in keys}
    return found


def ratios_of_scenes(images: Sequence[Ratio]) -> dict[str, list[tuple[int, float]]]:
    """Scene -> number and ratio of each image, as `scale_drift` names them; invalid ratios are left out."""
    scenes: dict[str, list[tuple[int, float]]] = {}
    for name, camera, ratio in images:
        frame = parse_frame(name)
        scene = scenes.setdefault(f"{frame.scene} {camera}" if camera else frame.scene, [])
        number = frame.number if isinstance(frame.number, int) and not frame.unique else len(scene)
        if np.isfinite(ratio) and ratio > 0:
            scene.append((number, ratio))
    return scenes
