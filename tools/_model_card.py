"""A release of a run: weights as safetensors, and a model card made from what the run recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from checkpoints import hub, load_checkpoint
from checkpoints._own import export_weights
from files import explained, read_records, writing
from images import as_image, colourise, save_image
from methods.metric_scale import learned_from, trained_on
from metrics import METRICS
from predictor import Predictor, as_images, load_predictor
from utils import InputError

CARD, IMAGE = "README.md", "example.jpg"
GAP = 3600.0  # seconds between two lines of a log from which on the training stood still


def write_release(
    folder: Path, run: Path, repository: str, which: str, licence: str | None, image: Path | None
) -> list[str]:
    """Write the files of a repository.

    Args:
        folder: an existing or new folder.
        run: run folder or checkpoint.
        repository: `owner/name`, for the card.
        which: checkpoint of a run folder, `best` or `last`.
        licence: the hub's name of a licence; None if not stated.
        image: image of the card; None for a validation image, if the dataset is there.

    Returns:
        Names of the files.

    Raises:
        InputError: no model at `run`, or a file cannot be written.
    """
    checkpoint = load_checkpoint(run, which)
    predictor = load_predictor(run, "cpu", which)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    export_weights(folder / hub.RELEASE, checkpoint)
    shown = example(predictor, image)
    if shown is not None:
        save_image(folder / IMAGE, shown)
    text = card(predictor, run, repository, licence, shown is not None)
    with writing(folder / CARD) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return [hub.RELEASE, CARD, *([IMAGE] if shown is not None else [])]


def example(predictor: Predictor, image: Path | None) -> np.ndarray | None:
    """An image next to its depth, (h, 2 w, 3) uint8; None without an image and without the dataset."""
    if image is None:
        from evaluation.choice import Model
        from tools._report.images import validation_images

        try:
            images = validation_images(Model(predictor.method, predictor.options), None)
        except InputError:
            return None
        batch = images[len(images) // 2]
        inverse, shown = predictor.predict_batch(batch)[0][0, 0], as_image(batch.images[0][0] / 255)
        return np.hstack([shown, colourise(inverse)])
    if predictor.cameras > 1:
        raise InputError("--image is for a model of single images, and this one predicts a rig; leave it out")
    (read,) = as_images(image)
    return np.hstack([as_image(read / 255), colourise(1 / predictor([read])[0, 0])])


def card(predictor: Predictor, run: Path, repository: str, licence: str | None, has_image: bool) -> str:
    """The model card, Markdown with the hub's header."""
    header = {
        "library_name": "parallax",
        "pipeline_tag": "depth-estimation",
        "tags": ["depth", "monocular-depth"],
        **({"license": licence} if licence else {"license": "other", "license_name": "not-stated"}),
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        f"# {repository.partition('/')[2]}\n",
        *(["![An image and its predicted depth](example.jpg)\n"] if has_image else []),
        _table(facts(predictor, run, licence)),
        "## Use\n",
        _use(predictor, repository),
        "## Evaluation\n",
        *(_evaluations(run) or ["No evaluation was recorded.\n"]),
    ]
    return "\n".join(parts)


def facts(predictor: Predictor, run: Path, licence: str | None) -> dict[str, str]:
    """Facts that a user must know, name → words."""
    method, options = predictor.method, predictor.options
    records = getattr(method, "training_data", None) or ()
    lists = [f"{r['dataset']}, {r['frames']:,} frames, list {str(r['hash'])[:12]}" for r in records]
    name, _ = trained_on(options)
    section = options.get("method")
    network = (
        options.get("depth_network") or options.get("encoder") or f"resnet{options.get('num_layers', '')}"
    )
    found = {
        "depth": f"along the optical axis, {predictor.unit}",
        "method": str(section.get("name") if isinstance(section, Mapping) else section),
        "network": f"{network.get('name') if isinstance(network, Mapping) else network}, "
        f"{sum(p.numel() for p in method.parameters()) / 1e6:.1f} million weights, input "
        f"{predictor.width} x {predictor.height}",
        "learned from": learned_from(method, options),
        "training data": "; ".join(lists) or f"{name}; the checkpoint holds no list of frames",
        "initial weights": "ImageNet" if options.get("weights_init") == "pretrained" else "random",
        "training": training_time(run / "log.jsonl"),
        "licence": f"{licence}; the terms of the training data apply as well" if licence else
        "not stated; the terms of the training data apply",
    }  # fmt: skip
    if hasattr(method, "min_depth") and hasattr(method, "max_depth"):
        found["range"] = f"{method.min_depth:g} to {method.max_depth:g} in the network's unit"
    return found


def training_time(log: Path) -> str:
    """Steps and hours of a training, from the times in its log; pauses of over an hour are left out."""
    steps, times = 0, list[float]()
    for _, record in read_records(log):
        if "step" in record and "time" in record:
            steps = int(record["step"])
            times.append(float(record["time"]))
    if len(times) < 2:
        return "not recorded"
    waits = np.diff(times)
    return f"{steps:,} steps, {waits[(waits > 0) & (waits < GAP)].sum() / 3600:.2g} hours"


def _use(predictor: Predictor, repository: str) -> str:
    inputs = '"street.jpg"' if predictor.cameras == 1 else "images, intrinsics"
    return (
        "```python\nimport parallax\n\n"
        f'model = parallax.load("hf://{repository}")\n'
        f"depth = model({inputs})  # (1, 1, h, w), {predictor.unit}\n```\n"
    )


def _evaluations(run: Path) -> list[str]:
    """A section for each evaluation of depth in a run folder: its protocol card and its table."""
    parts = []
    for file in sorted(run.glob("evaluation/**/results.json")) if run.is_dir() else []:
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
            means = results.get("mean")
        except (ValueError, AttributeError):
            raise InputError(
                f"{file} is damaged; remove its folder, or evaluate again with evaluate_depth.py"
            ) from None
        if not means:  # of labels
            continue
        rows = {"model": means, "one constant depth": results.get("constant")}
        rows["mean depth of each pixel"] = results.get("pixel_mean")
        known = {name: values for name, values in rows.items() if values}
        lines = [f"| | {' | '.join(METRICS)} |", f"|{' --- |' * (len(METRICS) + 1)}"]
        lines += [
            f"| {name} | {' | '.join(_number(values.get(metric)) for metric in METRICS)} |"
            for name, values in known.items()
        ]
        parts += [f"### {file.parent.name}\n", "\n".join(lines) + "\n"]
        parts += [f"{results['verdict']}\n"] if results.get("verdict") else []
        parts.append(_table({key: str(value) for key, value in results["card"].items()}))
    return parts


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.3f}"


def _table(rows: Mapping[str, str]) -> str:
    escaped: Sequence[str] = [f"| {key} | {value.replace('|', '/')} |" for key, value in rows.items()]
    return "\n".join(["| | |", "| --- | --- |", *escaped]) + "\n"
