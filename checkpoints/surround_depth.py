"""SurroundDepth's folder: Monodepth2's files, with the attention over cameras inside depth.pth.

    decoder_cross.<level>.decoder.<block>.   →   depth.cross.<level>.blocks.<block>.
    decoder_cross.<level>.sep_conv.          →   depth.cross.<level>.down.      and sep_deconv: up
    decoder.<n>.                             →   depth.decoder.decoder.<n>.

The only options in the files are height and width. The other options are those of the published config for
images of that height, unless an opt.json sets them. A joint pose and the terms that fix metric scale
(`spatial`, `use_sfm_spatial`) cannot be recognised and are assumed off. A model for images of another height
needs an opt.json for inference, because these options scale its depth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpoints._networks import read_opt_json
from checkpoints._reading import Folder
from checkpoints._record import Checkpoint, Layout
from checkpoints.monodepth2 import MONODEPTH2

# Image height → options of the published configs for the dataset with that height.
_CHOSEN = {
    384: {"dataset": "ddad", "max_depth": 200.0, "focal_scale": 715.0873},
    352: {"dataset": "nuscenes", "max_depth": 80.0, "focal_scale": 500.0},
}
_OPT_JSON = {
    float: ("min_depth", "max_depth", "focal_scale", "spatial_weight", "match_spatial_weight", "thr_dis"),
    bool: ("focal", "joint_pose", "skip", "spatial", "use_sfm_spatial"),
    str: ("dataset",),
}
_DATASETS = {"ddad": "ddad", "nusc": "nuscenes"}
_OF_METHOD = ("focal", "focal_scale", "joint_pose", "skip")


def _is_surround_depth(content: Mapping[str, Any]) -> bool:
    if not isinstance(content, Folder) or "depth" not in content:
        return False
    depth = content["depth"]
    return isinstance(depth, Mapping) and any(str(key).startswith("decoder_cross.") for key in depth)


def _read_surround_depth(content: Mapping[str, Any], path: Path) -> Checkpoint:
    checkpoint = MONODEPTH2.read(content, path)
    recorded, _ = read_opt_json(path, _OPT_JSON)
    chosen = {**_CHOSEN.get(checkpoint.options.get("height"), {}), **recorded}
    blocks = {
        key.split(".")[4] for key in checkpoint.weights if key.startswith("depth.decoder_cross.0.decoder.")
    }
    method = {"name": "surround_depth", "cameras": 6, "blocks": len(blocks)}
    method |= {key: chosen[key] for key in _OF_METHOD if key in chosen}
    options = {**checkpoint.options, "method": method}
    options.pop("intrinsics", None)  # an option of KITTI
    options |= {key: chosen[key] for key in ("min_depth", "max_depth") if key in chosen}
    losses = {}
    if chosen.get("spatial"):
        losses["spatial"] = {"weight": chosen.get("spatial_weight", 0.1)}
    if chosen.get("use_sfm_spatial"):
        weight, threshold = chosen.get("match_spatial_weight", 0.1), chosen.get("thr_dis", 1.0)
        losses["sfm_matches"] = {"weight": weight, "threshold": threshold}
    options |= {"losses": losses} if losses else {}
    if name := _dataset(chosen):
        options["dataset"] = {"name": name}
    checkpoint.options, checkpoint.missing = options, _lacking(chosen, options.get("height"), path)
    checkpoint.weights = {_ours(key): value for key, value in checkpoint.weights.items()}
    if checkpoint.training:
        states = checkpoint.training["optimizer_by_name"]
        checkpoint.training = {"optimizer_by_name": {_ours(key): state for key, state in states.items()}}
    return checkpoint


def _dataset(chosen: Mapping[str, Any]) -> str | None:
    """Our name of the dataset: recorded, or the one whose configs have this depth range and focal length."""
    if "dataset" in chosen:
        return _DATASETS.get(chosen["dataset"], chosen["dataset"])
    settings = ("max_depth", "focal_scale")
    for known in _CHOSEN.values():
        if all(chosen.get(key) == known[key] for key in settings):
            return known["dataset"]
    return None


def _lacking(chosen: Mapping[str, Any], height: int | None, path: Path) -> str | None:
    """Error message if neither the height nor an opt.json determines the scale of depth, else None."""
    needed = ("max_depth", "focal_scale") if chosen.get("focal", True) else ("max_depth",)
    unknown = [key for key in needed if key not in chosen]
    if not unknown:
        return None
    heights = " or ".join(f"{known} ({data['dataset']})" for known, data in _CHOSEN.items())
    entries = {data["dataset"]: {key: data[key] for key in unknown} for data in _CHOSEN.values()}
    published = {ours: theirs for theirs, ours in _DATASETS.items()}
    examples = " or ".join(
        f"{name}'s {json.dumps(values | ({} if 'dataset' in chosen else {'dataset': published[name]}))}"
        for name, values in entries.items()
    )
    return (
        f"{path} does not hold the model's {' and '.join(unknown)}, known for image heights of {heights} "
        f"pixels, and its height is {height or 'unknown'}; write the values of its training to "
        f"{path / 'opt.json'}, such as {examples}"
    )


def _ours(key: str) -> str:
    """Our name of a published weight."""
    key = re.sub(r"^depth\.decoder\.", "depth.decoder.decoder.", key)
    if key.startswith("depth.decoder_cross."):
        key = re.sub(r"^depth\.decoder_cross\.(\d+)\.decoder\.", r"depth.cross.\1.blocks.", key)
        key = key.replace("depth.decoder_cross.", "depth.cross.", 1)
        key = key.replace(".sep_conv.", ".down.").replace(".sep_deconv.", ".up.")
    return key


SURROUND_DEPTH = Layout(
    "surround_depth",
    "a folder as for Monodepth2 whose depth.pth holds decoder_cross",
    _is_surround_depth,
    _read_surround_depth,
)
