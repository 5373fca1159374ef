"""Configs of the published SC-Depth code, `key = value` text with bare flags, as options of ours.

Its defaults differ from ours, so each is written out. An epoch there is a fixed number of batches, drawn with
replacement. What has no counterpart is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from checkpoints.sc_depth import SIZES

# Published dataset → value of one metre in its depth images, and metres up to which depth is evaluated.
DEPTHS = {"kitti": (256.0, 80.0), "ddad": (256.0, 200.0), "nyu": (5000.0, 10.0), "bonn": (1000.0, 10.0)}
DEPTHS["tum"] = DEPTHS["bonn"]

CROPPED = ("kitti", "nyu")  # datasets whose ground truth is cropped

# Published option → ours, and the published default.
_SAME = {
    "resnet_layers": ("num_layers", 18),
    "batch_size": ("batch_size", 4),
    "num_epochs": ("num_epochs", 100),
    "lr": ("learning_rate", 1e-4),
    "epoch_size": ("steps_per_epoch", 1000),
    "val_mode": ("val_mode", "depth"),
}
_IF_GIVEN = {"exp_name": "model_name", "ckpt_path": "load_weights_folder"}
_WEIGHTS = {
    "photo_weight": 1.0, "geometry_weight": 0.1, "smooth_weight": 0.1, "rot_t_weight": 1.0,
    "rot_c_weight": 1.0, "normal_matching_weight": 0.1, "mask_rank_weight": 0.1, "normal_rank_weight": 0.1,
}  # fmt: skip
_ELSEWHERE = {
    "dataset_name": "kitti", "model_version": "v1", "sequence_length": 3, "skip_frames": 1,
    "use_frame_index": False, "no_ssim": False, "no_auto_mask": False,
    "no_dynamic_mask": False, "no_min_optimize": False,
}  # fmt: skip
_WITHOUT = {
    "dataset_dir": "--data_path names the data",
    "input_dir": "test_simple.py",
    "output_dir": "test_simple.py",
    "save-vis": "test_simple.py",
    "save-depth": "test_simple.py",
}
_TELLING = {
    "model_version",
    "dataset_name",
    "skip_frames",
    "use_frame_index",
    "resnet_layers",
    "photo_weight",
}


def is_sc_depth(settings: Mapping[str, Any]) -> bool:
    """Whether the settings of a text config are those of SC-Depth's code."""
    return bool(_TELLING & set(settings))


def sc_depth(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Our options for the settings of a published config, and sentences on what differs.

    A key that is neither known here nor there stays, for the options to refuse it by name.
    """
    given = {**{key: default for key, (_, default) in _SAME.items()}, **_WEIGHTS, **_ELSEWHERE, **settings}
    options = {ours: given[key] for key, (ours, _) in _SAME.items()}
    options |= {ours: settings[key] for key, ours in _IF_GIVEN.items() if key in settings}
    name, version = given["dataset_name"], given["model_version"]
    notes = []
    options["method"] = {"name": "sc_depth", "version": version, "published": True}
    options["dataset"] = {"name": "folder", "stride": int(given["skip_frames"])}
    if name in DEPTHS:
        options["height"], options["width"] = SIZES[name]
        options["dataset"]["depth_scale"], options["dataset"]["depth_cap"] = DEPTHS[name]
    else:
        notes.append(f"dataset_name {name} is not one of {', '.join(DEPTHS)}; give --height and --width")
    if version == "v3":
        options["dataset"]["pseudo_depth"] = True
    if given["use_frame_index"]:
        options["dataset"]["frame_index"] = True
    reach = (int(given["sequence_length"]) - 1) // 2
    options["frame_ids"] = [0, *range(-reach, 0), *range(1, reach + 1)]
    options["losses"] = _losses(given, version)
    options |= {"scheduler": "constant", "optimizer": "adam", "precision": "float32"}
    options["augment"] = {"flip": 0.5, "jitter": 0.0}
    options["sample_with_replacement"] = True
    notes.append("its random scaling and cropping by up to 1.15 has no counterpart here")
    if name in CROPPED and given["val_mode"] == "depth":
        notes.append(
            "its validation crops the ground truth, here all of it is used; --dataset testing_tree "
            f"--dataset.benchmark {name} evaluates with its crop"
        )
    left = [f"{key} ({why})" for key, why in _WITHOUT.items() if key in settings]
    if left:
        notes.append(f"left out: {', '.join(left)}")
    known = {*_SAME, *_IF_GIVEN, *_WEIGHTS, *_ELSEWHERE, *_WITHOUT, "config"}
    return options | {key: value for key, value in settings.items() if key not in known}, notes


def _losses(given: Mapping[str, Any], version: str) -> dict[str, dict[str, Any]]:
    """The version's terms with their weights; a term without weight is left out by the method."""
    photometric, geometry = float(given["photo_weight"]), float(given["geometry_weight"])
    pairwise: dict[str, Any] = {"weight": photometric}
    if photometric:
        pairwise["geometry_weight"] = geometry / photometric
    for flag, setting in (
        ("no_ssim", {"ssim_weight": 0.0}),
        ("no_auto_mask", {"automask": False}),
        ("no_dynamic_mask", {"dynamic_mask": False}),
        ("no_min_optimize", {"reduction": "mean"}),
    ):
        pairwise |= setting if given[flag] else {}
    losses = {"pairwise": pairwise}
    if not photometric and geometry:
        losses["geometry_consistency"] = {
            "weight": geometry, "automask": not given["no_auto_mask"], "published_warp": True
        }  # fmt: skip
    if version in ("v1", "v2"):
        losses["depth_smoothness"] = {"weight": float(given["smooth_weight"])}
    if version == "v2":
        consistency, triplet = float(given["rot_c_weight"]), float(given["rot_t_weight"])
        losses["rotation"] = {"consistency_weight": consistency, "triplet_weight": triplet}
    if version == "v3":
        losses["normal_matching"] = {"weight": float(given["normal_matching_weight"])}
        losses["mask_ranking"] = {"weight": float(given["mask_rank_weight"])}
        losses["edge_ranking"] = {"weight": float(given["normal_rank_weight"])}
    return losses
