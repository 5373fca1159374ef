"""SGDepth's opt.json, the options of a training run, as options of ours.

Every published default is written out, since ours differ. Options of its evaluation and of one machine are
left out and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Published option → ours, published default; same meaning.
_SAME = {
    "model_num_layers": ("num_layers", 18),
    "model_depth_min": ("min_depth", 0.1),
    "model_depth_max": ("max_depth", 100.0),
    "depth_resize_height": ("height", 192),
    "depth_resize_width": ("width", 640),
    "depth_training_batch_size": ("batch_size", 6),
    "depth_disparity_smoothness": ("disparity_smoothness", 1e-3),
    "depth_disable_automasking": ("disable_automasking", False),
    "train_num_epochs": ("num_epochs", 20),
    "train_checkpoint_frequency": ("save_frequency", 5),
    "train_learning_rate": ("learning_rate", 1e-4),
    "train_scheduler_step_size": ("scheduler_step_size", 15),
    "train_weight_decay": ("weight_decay", 0.0),
    "train_weights_init": ("weights_init", "pretrained"),
    "sys_num_workers": ("num_workers", 3),
}
_OF_METHOD = {
    "model_split_pos": ("split_position", 1),
    "train_depth_grad_scale": ("depth_gradient", 0.9),
    "train_segmentation_grad_scale": ("segmentation_gradient", 0.1),
}
_ELSEWHERE = {
    "model_num_layers_pose": 18,
    "model_depth_resolutions": 4,
    "depth_avg_reprojection": False,
    "depth_training_loaders": "kitti_kitti_train",
    "segmentation_training_loaders": "cityscapes_train",
    "segmentation_training_batch_size": 6,
    "segmentation_resize_height": 512,
    "segmentation_resize_width": 1024,
    "segmentation_crop_height": 192,
    "segmentation_crop_width": 640,
    "masking_enable": False,
    "masking_from_epoch": 15,
    "masking_linear_increase": False,
    "moving_mask_percent": 0.1,
    "train_batches_per_epoch": 9645,
    "model_name": None,
    "sys_cpu": False,
}
_LEFT_OUT = {
    "model_load": "--load_weights_folder starts from a checkpoint",
    "model_disable_lr_loading": "",
    "sys_best_effort_determinism": "--deterministic",
    "experiment_class": "--log_dir",
    "depth_crop_height": "unused there",
    "depth_crop_width": "unused there",
    "depth_min_sampling_res": "unused there",
    "train_tb_frequency": "--log_frequency",
    "train_print_frequency": "--log_frequency",
    "eval_num_images": "",
}
_EVALUATION = (
    "depth_validation_",
    "pose_validation_",
    "segmentation_validation_",
    "depth_ratio_on_validation",
)
SPLITS = {"kitti_zhou_train": "eigen_zhou"}
_GAMMA = "scheduler_gamma is 0.1; the published code multiplies by the learning rate itself"


def is_sgdepth(settings: Mapping[str, Any]) -> bool:
    """Whether the settings of a JSON or YAML file are those of SGDepth's code."""
    return "model_split_pos" in settings or "depth_training_loaders" in settings


def sgdepth(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Our options for the settings of a published opt.json, and sentences on what differs.

    A key that is known neither here nor there stays, for the options to refuse it by name.
    """
    known = {**_SAME, **_OF_METHOD}
    given = {**{key: default for key, (_, default) in known.items()}, **_ELSEWHERE, **settings}
    notes: list[str] = [_GAMMA]
    options: dict[str, Any] = {ours: given[key] for key, (ours, _) in _SAME.items()}
    options |= {
        "method": {"name": "sgdepth", **{ours: given[key] for key, (ours, _) in _OF_METHOD.items()}},
        "scales": list(range(given["model_depth_resolutions"])),
        "pose_encoder": f"resnet{given['model_num_layers_pose']}",
        # Without the automask the published code takes the mean over both sources.
        "avg_reprojection": bool(given["depth_avg_reprojection"] or given["depth_disable_automasking"]),
        "frame_ids": [0, -1, 1],
        "resize": "bilinear",
        "precision": "float32",
        "scheduler": "step",
        "losses": {"photometric": {"noise": 0.0}, "smoothness": {"image_resize": "bilinear"}},
    }
    options |= {"dataset": {"name": "kitti", "intrinsics": "fixed"}, **_split(given, notes)}
    if given["segmentation_training_loaders"]:
        options |= _companion(given, notes)
    else:
        options["losses"]["segmentation"] = {"weight": 0}
    if given["masking_enable"]:
        options["losses"]["photometric"]["moving_objects"] = {
            "schedule": "linear" if given["masking_linear_increase"] else "constant",
            "from_epoch": given["masking_from_epoch"],
            "share": given["moving_mask_percent"],
        }
    if given["model_name"]:
        options["model_name"] = given["model_name"]
    if given["sys_cpu"]:
        options["device"] = "cpu"
    notes.append(
        f"train_batches_per_epoch {given['train_batches_per_epoch']} is left out: an epoch is one pass over "
        "the list"
    )
    return options | _unknown(settings, notes), notes


def _split(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    loaders = given["depth_training_loaders"]
    if loaders in SPLITS:
        return {"split": SPLITS[loaders]}
    notes.append(
        f"the list of {loaders} is not published; --split FOLDER reads its JSON lists "
        "(kitti_<split>/train.json), "
        "else eigen_zhou is taken"
    )
    return {}


def _companion(given: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Cityscapes as the companion of the video; its images are resized, shrunk by up to 1.5 and cropped."""
    loaders, count = given["segmentation_training_loaders"], given["segmentation_training_batch_size"]
    if loaders != "cityscapes_train":
        notes.append(f"segmentation_training_loaders {loaders} is read as cityscapes_train")
    if count != given["depth_training_batch_size"]:
        notes.append(
            f"segmentation_training_batch_size {count} is left out: the companion follows the video's"
        )
    crop = {"height": given["segmentation_crop_height"], "width": given["segmentation_crop_width"]}
    return {
        "companion": {
            "name": "cityscapes",
            "split": "fine",
            "labels": True,
            "top_rows": 1.0,
            "height": given["segmentation_resize_height"],
            "width": given["segmentation_resize_width"],
        },
        "augment": {"companion": {"jitter": 1.0, "crop": {**crop, "shrink": 1.5}}},
    }


def _unknown(settings: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Settings that nothing above takes; those that are left out on purpose are named in a note."""
    rest = {key: value for key, value in settings.items() if key not in {**_SAME, **_OF_METHOD, **_ELSEWHERE}}
    aside = [key for key in rest if key in _LEFT_OUT or key.startswith(_EVALUATION)]
    if aside:
        named = (f"{key} ({_LEFT_OUT[key]})" if _LEFT_OUT.get(key) else key for key in aside)
        notes.append(f"left out: {', '.join(named)}")
    return {key: value for key, value in rest.items() if key not in aside}
