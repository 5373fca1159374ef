"""Metric scale: how many metres one unit of a model's depth is, and what told the model.

    depth in metres = metric_scale(method, options) * depth of the network

Video by itself never shows how large the world is: depth is known up to a scale factor. A stereo pair's
baseline fixes the factor, and so does a loss term that declares `gives_metric_scale = True`: the overlap of
cameras with known extrinsics, known speed, measured depth. This rule is the only one; training, validation,
prediction and evaluation ask it.

`tools/scale.py` fits the factor of a trained model to measurements and writes it, as the option
`scale_factor`, into a file of its own. That factor takes precedence.

Each term may declare `learned_from`, the source of its supervision beyond the images' sequence, such as
"camera rig". Protocol cards list these sources.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from utils import InputError

KITTI_BASELINE = 0.54  # metres between KITTI's colour cameras
PUBLISHED_BASELINE = 0.1  # Monodepth2 trains with this baseline, so its depth is metres / 5.4
PLAUSIBLE = (0.5, 2.0)  # ground truth / prediction in validation; outside, the scale was not learned
RATIO = "ground_truth_per_prediction"  # the validation metric that holds this ratio


def metric_scale(method: nn.Module | None, options: Mapping[str, Any]) -> float | None:
    """Metres in one unit of a model's depth; None if depth is known up to scale only.

    Args:
        method: a Method; its `loss_terms` declare `gives_metric_scale`. None for saved predictions.
        options: options of its training: dataset, frame_ids, use_stereo; `scale_factor` of tools/scale.py.

    Raises:
        InputError: a stereo baseline that is not in metres together with a loss term that teaches metres.
    """
    if fitted := options.get("scale_factor"):
        return float(fitted["factor"])
    metric = [name for name, term in loss_terms(method).items() if getattr(term, "gives_metric_scale", False)]
    if not trained_with_stereo(options):
        return 1.0 if metric else None
    scale = stereo_scale(options)
    if metric and not math.isclose(scale, 1.0):
        raise InputError(
            f"the loss term {metric[0]} teaches metres, but the stereo baseline makes depth metres / "
            f"{scale:g}; set --dataset.baseline {KITTI_BASELINE}"
        )
    return scale


def loss_terms(method: nn.Module | None) -> dict[str, nn.Module]:
    """Name → term, for the terms whose weight is above 0."""
    terms = getattr(method, "loss_terms", None) or {}
    weights = getattr(method, "loss_weights", None) or {}
    return {name: term for name, term in terms.items() if weights.get(name, 1.0) > 0}


def learned_from(method: nn.Module | None, options: Mapping[str, Any]) -> str:
    """Training signal of a model, for the protocol card: "video", "stereo pairs", "video, camera rig", ...

    Args:
        method, options: same as for `metric_scale`.
    """
    offsets = [frame for frame in options.get("frame_ids", (0, -1, 1)) if frame not in (0, "s")]
    sources = ["video"] if offsets else []
    sources += ["stereo pairs"] if trained_with_stereo(options) else []
    declared = (getattr(term, "learned_from", None) for term in loss_terms(method).values())
    sources += [source for source in declared if source]
    if fitted := options.get("scale_factor"):
        sources.append(f"scale from {fitted['source']}")
    return ", ".join(dict.fromkeys(sources)) or "single images"


def scale_error(method: nn.Module | None, options: Mapping[str, Any]) -> float | None:
    """The factor by which a metric model was off in its own validation, at least 1; None if it was not.

    The checkpoint's validation metrics hold median(ground truth) / median(prediction). A ratio from 0.5 to 2
    is a rough scale; outside, training has not reached metres.

    Args:
        method: with `validation_metrics`, those of its checkpoint, as `methods.load_method` sets them.
        options: same as for `metric_scale`.
    """
    metrics = getattr(method, "validation_metrics", None) or {}
    ratio = metrics.get(RATIO, metrics.get("truth_per_prediction"))  # the second is of older checkpoints
    if metric_scale(method, options) is None or not ratio or not math.isfinite(ratio):
        return None
    return None if PLAUSIBLE[0] <= ratio <= PLAUSIBLE[1] else max(ratio, 1 / ratio)


def unit_of(method: nn.Module | None, options: Mapping[str, Any]) -> str:
    """The unit of a model's depth after multiplication by `metric_scale`, in words."""
    if metric_scale(method, options) is None:
        return f"up to scale (learned from {learned_from(method, options)} only)"
    if fitted := options.get("scale_factor"):
        return f"metres ({fit_in_words(fitted)})"
    factor = scale_error(method, options)
    if factor is None:
        return "metres"
    return f"meant as metric; off by a factor of {factor:.3g} in validation"


def fit_in_words(fitted: Mapping[str, Any]) -> str:
    """Origin and uncertainty of the option `scale_factor`, such as "scale from speed, 95 % within 2 %".

    Args:
        fitted: `factor`, `source` and the bounds `low` and `high`, which are None for one measurement.
    """
    if fitted["low"] is None:
        return f"scale from one {fitted['source']}, uncertainty unknown"
    farthest = max(fitted["high"] / fitted["factor"] - 1, 1 - fitted["low"] / fitted["factor"])
    return f"scale from {fitted['source']}, 95 % within {100 * farthest:.2g} %"


# -------------------------------------------------------------------------------- facts of the training


def trained_on(options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and settings of the dataset that a model was trained on; KITTI if the options do not name one."""
    section = options.get("dataset") or "kitti"
    if isinstance(section, str):
        return section, {}
    return section.get("name", "kitti"), {key: value for key, value in section.items() if key != "name"}


def dataset_to_evaluate(options: Mapping[str, Any]) -> str:
    """Name of the dataset that a model is evaluated on if none is given.

    Raises:
        InputError: the checkpoint of a camera rig does not name its dataset; KITTI has no rig.
    """
    section = options.get("method")
    method = section.get("name") if isinstance(section, Mapping) else section
    if method == "surround_depth" and not options.get("dataset"):
        raise InputError(
            "the checkpoint does not name its dataset; give one with --dataset, or write it into an "
            'opt.json next to the checkpoint, as in {"dataset": "ddad"} or {"dataset": "nusc"}'
        )
    return trained_on(options)[0]


def trained_with_stereo(options: Mapping[str, Any]) -> bool:
    """True if stereo pairs were among the frames, so that their baseline fixed the scale."""
    return bool(options.get("use_stereo")) or "s" in options.get("frame_ids", ())


def stereo_scale(options: Mapping[str, Any]) -> float:
    """Metres in one unit of a stereo-trained model's depth: 5.4 if KITTI's 0.54 m were called 0.1."""
    name, settings = trained_on(options)
    if name.startswith("kitti"):
        return KITTI_BASELINE / settings.get("baseline", PUBLISHED_BASELINE)
    return 1.0
