"""Configs of the published SurroundDepth code, `key = value` text, as options of ours.

Its flags are off where a config does not name them, and its sizes are its own, so every published default is
written out. What has no counterpart here, or did nothing there, is left out and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DATASETS = {"ddad": "ddad", "nusc": "nuscenes"}
CAMERAS = 6

# Published option → its published default, for what has the same name and meaning here.
_SAME = {
    "num_layers": 34,
    "height": 384,
    "width": 640,
    "disparity_smoothness": 1e-3,
    "scales": [0, 1, 2, 3],
    "min_depth": 0.1,
    "max_depth": 100.0,
    "frame_ids": [0, -1, 1],
    "learning_rate": 1e-4,
    "num_epochs": 20,
    "scheduler_step_size": 15,
    "v1_multiscale": False,
    "avg_reprojection": False,
    "disable_automasking": False,
    "predictive_mask": False,
    "no_ssim": False,
    "weights_init": "pretrained",
    "pose_model_input": "pairs",
    "pose_model_type": "separate_resnet",
}
# The same here, taken over only where a config names them.
_WHERE_NAMED = (
    "log_dir", "model_name", "eval_only", "num_workers", "load_weights_folder", "models_to_load",
    "log_frequency",
)  # fmt: skip
_OF_METHOD = {"focal": False, "focal_scale": 500.0, "joint_pose": False, "skip": False}
_ELSEWHERE = {
    "dataset": "kitti",
    "batch_size": 12,
    "use_fix_mask": False,
    "spatial": False,
    "spatial_weight": 0.1,
    "use_sfm_spatial": False,
    "match_spatial_weight": 0.1,
    "thr_dis": 1.0,
}
_WITHOUT = {
    "data_path": "published code ignores it; --data_path names the data",
    "split": "each dataset has its published list",
    "png": "found by looking",
    "height_ori": "follows from the recordings",
    "width_ori": "follows from the recordings",
    "use_stereo": "a rig has no stereo partner",
    "model_type": "",
    "save_frequency": "",
    "eval_frequency": "validation follows each epoch, or --save_frequency of them",
    "no_cuda": "",
    "local_rank": "",
}
_WITHOUT |= dict.fromkeys(
    (
        "eval_stereo", "eval_mono", "disable_median_scaling", "pred_depth_scale_factor", "ext_disp_to_eval",
        "eval_split", "save_pred_disps", "no_eval", "eval_eigen_to_benchmark", "eval_out_dir", "post_process",
    ),
    "",
)  # fmt: skip
# What a config of theirs has and one of Monodepth2 in the same form has not.
_TELLING = {*_OF_METHOD, *_ELSEWHERE} - {"dataset", "batch_size"}


def is_surround_depth(settings: Mapping[str, Any]) -> bool:
    """Whether the settings of a text config are those of SurroundDepth's code."""
    return settings.get("dataset") in DATASETS or bool(_TELLING & set(settings))


def surround_depth(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Our options for the settings of a published config, and what there is to know about them, in sentences.

    A key that is neither known here nor there stays, for the options to refuse it by name.
    """
    given = {**_SAME, **_OF_METHOD, **_ELSEWHERE, **settings}
    options = {key: given[key] for key in _SAME}
    options |= {key: settings[key] for key in _WHERE_NAMED if key in settings}
    notes = []

    images = int(given["batch_size"])
    options["batch_size"] = max(1, images // CAMERAS)
    notes.append(
        f"batch_size {images} counts images there and frame sets of {CAMERAS} cameras here: it is now "
        f"{options['batch_size']}"
    )
    options["method"] = {"name": "surround_depth", **{key: given[key] for key in _OF_METHOD}}
    name = DATASETS.get(given["dataset"], given["dataset"])
    options["dataset"] = {"name": name, "masks": bool(given["use_fix_mask"])}
    losses: dict[str, dict[str, float]] = {}
    if given["spatial"]:
        losses["spatial"] = {"weight": given["spatial_weight"]}
    if given["use_sfm_spatial"]:
        losses["sfm_matches"] = {"weight": given["match_spatial_weight"], "threshold": given["thr_dis"]}
        options["dataset"]["matches"] = True
    options |= {"losses": losses, "resize": "lanczos", "precision": "float32"}
    # There a mirrored image keeps the rig and the principal point as they were; here they are mirrored too.
    options["augment"] = {"flip": 0.0 if given["joint_pose"] or given["use_sfm_spatial"] else 0.5}

    left = [f"{key} ({_WITHOUT[key]})" if _WITHOUT[key] else key for key in settings if key in _WITHOUT]
    if left:
        notes.append(f"left out: {', '.join(left)}")
    known = {*_SAME, *_OF_METHOD, *_ELSEWHERE, *_WHERE_NAMED, *_WITHOUT}
    return options | {key: value for key, value in settings.items() if key not in known}, notes
