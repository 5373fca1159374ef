"""Every key of a published PackNet-SfM config, its default there, and what becomes of it here.

Source: the published default config; a key outside it is an error there too.
"""

from __future__ import annotations

from typing import Any

_EVALUATION = "evaluation follows the protocol of the dataset"
_LOADING = ("batch_size", "num_workers", "back_context", "forward_context", "num_logs")
_NO_EFFECT = "it has no effect there"
_RUN = "run folders, logs and saved predictions have options of their own"


# Published key → (published default, what becomes of it).
TRANSLATED: dict[str, tuple[Any, str]] = {
    "name": ("", "model_name"),
    "arch.seed": (42, "seed"),
    "arch.max_epochs": (50, "num_epochs, times repeat"),
    "checkpoint.save_top_k": (5, "keep_best; keep_checkpoints 0 if not positive"),
    "model.name": ("", "loss terms and their weights"),
    "model.checkpoint_path": ("", "load_weights_folder"),
    "model.optimizer.name": ("Adam", "optimizer"),
    "model.optimizer.depth.lr": (2e-4, "learning_rate"),
    "model.optimizer.pose.lr": (2e-4, "learning_rate, one for both networks"),
    "model.optimizer.depth.weight_decay": (0.0, "weight_decay"),
    "model.optimizer.pose.weight_decay": (0.0, "weight_decay, one for both networks"),
    "model.scheduler.name": ("StepLR", "scheduler"),
    "model.scheduler.step_size": (10, "scheduler_step_size, times repeat"),
    "model.scheduler.gamma": (0.5, "scheduler_gamma"),
    "model.scheduler.T_max": (20, "a cosine ends with num_epochs"),
    "model.loss.num_scales": (4, "scales"),
    "model.loss.flip_lr_prob": (0.5, "augment.flip, which mirrors the intrinsics by W - 1 - cx"),
    "model.loss.rotation_mode": ("euler", "euler only"),
    "model.loss.upsample_depth_maps": (True, "v1_multiscale if false"),
    "model.loss.ssim_loss_weight": (0.85, "losses.photometric.ssim_weight"),
    "model.loss.smooth_loss_weight": (1e-3, "losses.smoothness.weight"),
    "model.loss.photometric_reduce_op": ("min", "avg_reprojection if mean"),
    "model.loss.automask_loss": (True, "disable_automasking if false"),
    "model.loss.clip_loss": (0.0, "0 only"),
    "model.loss.padding_mode": ("zeros", "method.published if zeros, else a warp repeats the border"),
    "model.loss.velocity_loss_weight": (0.1, "losses.velocity.weight"),
    "model.loss.supervised_method": ("sparse-l1", "losses.supervised_depth: error, only_known"),
    "model.loss.supervised_num_scales": (4, "losses.supervised_depth.num_scales"),
    "model.loss.supervised_loss_weight": (0.9, "losses.supervised_depth.weight; the others have 1 minus it"),
    "model.depth_net.name": ("", "depth_network.name; encoder and decoder for DepthResNet"),
    "model.depth_net.version": ("", "depth_network.version; num_layers and weights_init for a ResNet"),
    "model.depth_net.dropout": (0.0, "depth_network.dropout"),
    "model.depth_net.checkpoint_path": ("", "load_weights_folder, models_to_load"),
    "model.pose_net.name": ("", "pose_model_type"),
    "model.pose_net.version": ("", "pose_encoder, weights_init"),
    "model.pose_net.checkpoint_path": ("", "load_weights_folder, models_to_load"),
    "datasets.augmentation.image_shape": ((), "height, width"),
    "datasets.augmentation.jittering": ((0.2, 0.2, 0.2, 0.05), "augment: brightness to hue, jitter"),
    "datasets.augmentation.crop_train_borders": ((), "dataset.crop_borders; height, width if no image_shape"),
    "datasets.train.batch_size": (8, "batch_size, for each GPU"),
    "datasets.train.num_workers": (16, "num_workers"),
    "datasets.train.back_context": (1, "frame_ids"),
    "datasets.train.forward_context": (1, "frame_ids"),
    "datasets.train.dataset": ([], "dataset.name; further ones are joined"),
    "datasets.train.split": ([], "split"),
    "datasets.train.depth_type": ([""], "dataset.supervision; for kitti dataset.ground_truth"),
    "datasets.train.input_depth_type": ([""], "dataset.input_depth"),
    "datasets.train.cameras": ([[]], "dataset.camera_names; several lists are joined datasets"),
    "datasets.train.repeat": ([1], "num_epochs, scheduler_step_size, save_frequency; or joined.repeat"),
    "datasets.test.dataset": ([], "dataset.name without training data"),
    "datasets.test.split": ([], "split without training data"),
    "datasets.test.depth_type": ([""], "dataset.ground_truth"),
    "datasets.test.cameras": ([[]], "dataset.camera_names without training data"),
}  # fmt: skip
LEFT_OUT: dict[str, str] = {
    "debug": "",
    "config": "",
    "default": "",
    "prepared": "",
    "arch.min_epochs": _NO_EFFECT,
    "arch.validate_first": "evaluate_depth.py evaluates a checkpoint before training",
    "model.loss.occ_reg_weight": _NO_EFFECT,
    "model.loss.disp_norm": _NO_EFFECT,
    "model.loss.progressive_scaling": _NO_EFFECT,
    "model.loss.C1": "SSIM has the default constants",
    "model.loss.C2": "SSIM has the default constants",
    "model.pose_net.dropout": _NO_EFFECT,
    "datasets.augmentation.crop_eval_borders": _EVALUATION,
    **{f"model.params.{key}": _EVALUATION for key in ("crop", "min_depth", "max_depth", "scale_output")},
    **{
        f"checkpoint.{key}": _RUN
        for key in ("filepath", "monitor", "monitor_index", "mode", "s3_path", "s3_frequency", "s3_url")
    },
    **{
        f"save.{key}": _RUN
        for key in ("folder", "pretrained", "depth.rgb", "depth.viz", "depth.npz", "depth.png")
    },
    **{
        f"wandb.{key}": _RUN for key in ("dry_run", "name", "project", "entity", "tags", "dir", "url")
    },
    "datasets.train.path": "--data_path names the data",
    "datasets.train.num_logs": _RUN,
    "datasets.test.path": "--data_path names the data",
    **{
        f"datasets.validation.{key}": "each split has its validation part"
        for key in (*_LOADING, "dataset", "path", "split", "depth_type", "input_depth_type", "cameras")
    },
    **{
        f"datasets.test.{key}": _EVALUATION
        for key in (*_LOADING, "input_depth_type")
    },
}  # fmt: skip
MAP: dict[str, str] = {
    **{key: words for key, (_, words) in TRANSLATED.items()},
    **{key: f"left out: {reason}" if reason else "left out" for key, reason in LEFT_OUT.items()},
}


def as_list(value: Any) -> list[Any]:
    """A value as a list: a single value is a list of one, an empty string an empty list, as in yacs."""
    if isinstance(value, (list, tuple)):
        return list(value)
    return [] if value in ("", None) else [value]
