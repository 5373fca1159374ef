"""A config of the published PackNet-SfM means here what it meant there."""

import pytest
import yaml

from options import read_config
from published_configs import is_packnet, packnet
from published_configs._packnet_keys import LEFT_OUT, MAP, TRANSLATED
from utils import PROJECT, InputError, read_yaml

PACKNET = {"name": "PackNet01", "version": "1A"}
POSENET = {"name": "PoseNet", "version": ""}
SAN = {"name": "PackNetSAN01", "version": "1A", "dropout": 0.5}
RESNETS = {"depth_net": {"name": "DepthResNet", "version": "18pt"}}
RESNETS["pose_net"] = {"name": "PoseResNet", "version": "18pt"}
ZHOU, TEST = "data_splits/eigen_zhou_files.txt", "data_splits/eigen_test_files.txt"


def optimizer(rate: float) -> dict:
    return {"name": "Adam", "depth": {"lr": rate}, "pose": {"lr": rate}}


def step(size: int = 30) -> dict:
    return {"name": "StepLR", "step_size": size, "gamma": 0.5}


def loader(dataset: str, split: str, **settings) -> dict:
    return {"dataset": [dataset], "path": ["/data/datasets"], "split": [split], **settings}


def kitti(**settings) -> dict:
    return loader("KITTI", TEST, depth_type=["velodyne"], **settings)


def ddad(split: str = "val", cameras=("camera_01",), **settings) -> dict:
    return loader("DGP", split, depth_type=["lidar"], cameras=[list(cameras)], **settings)


GARG = {"crop": "garg", "min_depth": 0.0, "max_depth": 80.0}
FAR = {"crop": "", "min_depth": 0.0, "max_depth": 200.0}
COMPLETION = {
    "name": "SemiSupCompletionModel",
    "loss": {"supervised_method": "sparse-silog", "supervised_num_scales": 1, "supervised_loss_weight": 1.0},
    "optimizer": optimizer(1e-4),
    "scheduler": step(),
    "depth_net": SAN,
}
# The ten published files, from the specification: what is not the default.
PUBLISHED = {
    "train_kitti": {
        "model": {"name": "SelfSupModel", "optimizer": optimizer(2e-4), "scheduler": step(),
                  "depth_net": PACKNET, "pose_net": POSENET, "params": GARG},
        "datasets": {"augmentation": {"image_shape": "(192, 640)"},
                     "train": loader("KITTI", ZHOU, batch_size=4, depth_type=["velodyne"], repeat=[2]),
                     "validation": kitti(), "test": kitti()},
    },
    "train_ddad": {
        "model": {"name": "SelfSupModel", "optimizer": optimizer(9e-5), "scheduler": step(),
                  "depth_net": PACKNET, "pose_net": POSENET, "params": FAR},
        "datasets": {"augmentation": {"image_shape": "(384, 640)"},
                     "train": ddad("train", batch_size=2, num_workers=8, repeat=[5]),
                     "validation": ddad(num_workers=8), "test": ddad(num_workers=8)},
    },
    "overfit_kitti": {
        "arch": {"max_epochs": 1},
        "model": {"name": "SelfSupModel", "optimizer": optimizer(2e-4), **RESNETS, "params": GARG},
        "datasets": {"augmentation": {"image_shape": "(192, 640)"},
                     "train": loader("KITTI", "kitti_tiny.txt", batch_size=6, repeat=[1000]),
                     "validation": kitti(), "test": kitti()},
    },
    "overfit_ddad": {
        "arch": {"max_epochs": 1},
        "model": {"name": "SelfSupModel", "optimizer": optimizer(1e-4), **RESNETS, "params": FAR},
        "datasets": {"augmentation": {"image_shape": "(384, 640)"},
                     "train": ddad("train", batch_size=4, repeat=[500]),
                     "validation": ddad("train"), "test": ddad("train")},
    },
    "train_omnicam": {
        "arch": {"max_epochs": 50},
        "model": {"name": "GenericSelfSupModel", "optimizer": optimizer(2e-4), "params": GARG,
                  "depth_net": {"name": "RaySurfaceResNet", "version": "18pt"},
                  "pose_net": RESNETS["pose_net"]},
        "datasets": {"augmentation": {"image_shape": "(384, 384)"},
                     "train": loader("Image", "{:09}", batch_size=1),
                     "validation": kitti(), "test": kitti()},
    },
    "train_packnet_san_kitti": {
        "arch": {"validate_first": True},
        "model": {**COMPLETION, "params": {**GARG, "scale_output": "top-center"}},
        "datasets": {"augmentation": {"crop_train_borders": "(-352, 0, 0.5, 1216)",
                                      "crop_eval_borders": "(-352, 0, 0.5, 1216)"},
                     "train": loader("KITTI", ZHOU, batch_size=1, repeat=[2], depth_type=["groundtruth"],
                                     input_depth_type=["velodyne"]),
                     "validation": {"input_depth_type": ["velodyne", ""], "depth_type": ["groundtruth"]}},
    },
    "train_packnet_san_ddad": {
        "arch": {"validate_first": True},
        "model": {**COMPLETION, "params": {**FAR, "scale_output": "resize"}},
        "datasets": {"augmentation": {"image_shape": "(384, 640)"},
                     "train": loader("DGP", "train", batch_size=1, num_workers=8, repeat=[5],
                                     depth_type=["lidar"],
                                     cameras=[[f"camera_0{n}"] for n in (1, 5, 6, 9)]),
                     "test": ddad()},
    },
    "eval_kitti": {
        "model": {"depth_net": PACKNET, "pose_net": POSENET, "params": GARG},
        "datasets": {"augmentation": {"image_shape": "(192, 640)"}, "test": kitti()},
        "save": {"folder": "/data/save", "depth": {"rgb": True, "viz": True, "npz": True, "png": True}},
    },
    "eval_ddad": {
        "model": {"depth_net": PACKNET, "pose_net": POSENET, "params": FAR},
        "datasets": {"augmentation": {"image_shape": "(384, 640)"}, "test": ddad()},
    },
    "eval_image": {
        "model": {"depth_net": PACKNET, "pose_net": POSENET},
        "datasets": {"augmentation": {"image_shape": "(384, 640)"}, "test": loader("Image", "{:010d}")},
    },
}  # fmt: skip
WHOLE = {"depth_network": {"name": "packnet", "version": "1A", "dropout": 0.0}, "min_depth": 0.5}
EXPECTED = {
    "train_kitti": WHOLE | {
        "max_depth": float("inf"), "pose_model_type": "packnet_pose", "height": 192, "width": 640,
        "batch_size": 4, "learning_rate": 2e-4, "num_epochs": 100, "scheduler_step_size": 60,
        "scheduler_gamma": 0.5, "save_frequency": 2, "split": "eigen_zhou", "frame_ids": [0, -1, 1],
        "dataset": {"name": "kitti", "ground_truth": "velodyne"}, "scales": [0, 1, 2, 3],
        "losses": {"photometric": {"weight": 1.0, "ssim_weight": 0.85}, "smoothness": {"weight": 1e-3}},
        "augment": {"flip": 0.5, "jitter": 1.0, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2,
                    "hue": 0.05},
        "seed": 42, "optimizer": "adam", "keep_checkpoints": 1, "keep_best": 5, "weights_init": "scratch",
    },
    "train_ddad": WHOLE | {
        "height": 384, "batch_size": 2, "num_workers": 8, "learning_rate": 9e-5, "num_epochs": 250,
        "scheduler_step_size": 150, "dataset": {"name": "ddad", "camera_names": ["front"]},
    },
    "overfit_kitti": {
        "num_layers": 18, "min_depth": 0.1, "max_depth": 100.0, "pose_model_type": "packnet_pose_resnet",
        "pose_encoder": "resnet18", "weights_init": "pretrained", "num_epochs": 1000, "batch_size": 6,
    },
    "overfit_ddad": {"num_layers": 18, "learning_rate": 1e-4, "num_epochs": 500, "batch_size": 4},
    "train_omnicam": {
        "depth_network": {"name": "ray_surface", "num_layers": 18}, "dataset": {"name": "folder"},
        "height": 384, "width": 384, "batch_size": 1, "weights_init": "pretrained",
        "augment": {"flip": 0.0, "jitter": 1.0, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2,
                    "hue": 0.05},
    },
    "train_packnet_san_kitti": {
        "depth_network": {"name": "packnet_san", "version": "1A", "dropout": 0.5}, "height": 352,
        "width": 1216, "frame_ids": [0], "split": "eigen_zhou",
        "dataset": {
            "name": "kitti", "ground_truth": "improved", "supervision": True, "input_depth": "velodyne",
            "crop_borders": [-352, 0, 0.5, 1216],
        },
        "losses": {
            "photometric": {"weight": 0.0, "ssim_weight": 0.85}, "smoothness": {"weight": 0.0},
            "supervised_depth": {"weight": 1.0, "error": "silog", "only_known": True, "num_scales": 1,
                                 "published": True},
            "feature_gap": {"weight": 1.0},
        },
    },
    "train_packnet_san_ddad": {
        "dataset": {"name": "ddad", "camera_names": ["front"], "supervision": True},
        "joined": {"others": [{"name": "ddad", "camera_names": [camera], "supervision": True}
                              for camera in ("front_left", "front_right", "back")]},
        "num_epochs": 250,
        "losses": {
            "photometric": {"weight": 0.0, "ssim_weight": 0.85}, "smoothness": {"weight": 0.0},
            "supervised_depth": {"weight": 1.0, "error": "silog", "only_known": True, "num_scales": 1,
                                 "published": True},
        },
    },
    "eval_kitti": WHOLE | {"split": "eigen", "dataset": {"name": "kitti", "ground_truth": "velodyne"}},
    "eval_ddad": WHOLE | {"dataset": {"name": "ddad", "camera_names": ["front"]}, "height": 384},
    "eval_image": WHOLE | {"dataset": {"name": "folder"}, "width": 640},
}  # fmt: skip


def changed(name: str, path: str, value) -> dict:
    """A published config with one more value, by its dotted path."""
    settings = yaml.safe_load(yaml.safe_dump(PUBLISHED[name]))
    *sections, key = path.split(".")
    place = settings
    for section in sections:
        place = place.setdefault(section, {})
    place[key] = value
    return settings


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_becomes_our_options(name):
    assert is_packnet(PUBLISHED[name])
    options, _ = packnet(PUBLISHED[name])
    for key, value in EXPECTED[name].items():
        assert options[key] == value, key
    assert options["method"] == {"name": "packnet", "published": True} and options["resize"] == "lanczos"


def test_a_file_is_translated_and_says_once_what_differs(tmp_path, capsys):
    path = tmp_path / "train_kitti.yaml"
    path.write_text(yaml.safe_dump(PUBLISHED["train_kitti"]))
    assert read_config(path)["learning_rate"] == 2e-4
    said = capsys.readouterr().err
    assert "a config of the published PackNet-SfM" in said
    assert "an epoch there is 2 passes over the data" in said
    assert "datasets.train.path" in said and "(--data_path names the data)" in said
    read_config(path)
    assert capsys.readouterr().err == ""


def test_configs_of_ours_are_not_taken_for_published_ones():
    for path in (PROJECT / "configs").glob("*.yaml"):
        assert not is_packnet(read_yaml(path.read_text())), path


def test_every_key_is_translated_or_left_out():
    assert not set(TRANSLATED) & set(LEFT_OUT) and set(MAP) == {*TRANSLATED, *LEFT_OUT}
    # Keys of each section in the published default config, counted by hand.
    sections = {}
    for key in MAP:
        sections[key.split(".")[0]] = sections.get(key.split(".")[0], 0) + 1
    assert sections == {
        "name": 1, "debug": 1, "config": 1, "default": 1, "prepared": 1, "arch": 4, "checkpoint": 8,
        "save": 6, "wandb": 7, "model": 42, "datasets": 38,
    }  # fmt: skip


def test_the_velocity_model_needs_speed():
    options, _ = packnet(changed("train_kitti", "model.name", "VelSupModel"))
    assert options["losses"]["velocity"] == {"weight": 0.1} and options["dataset"]["speed"] == "positions"


def test_semi_supervision_shares_the_weight():
    settings = changed("train_kitti", "model.name", "SemiSupModel")
    settings["model"]["loss"] = {"supervised_method": "l1", "supervised_loss_weight": 0.75}
    options, _ = packnet(settings)
    losses = options["losses"]
    assert losses["supervised_depth"] == {
        "weight": 0.75, "error": "l1", "only_known": False, "num_scales": 4, "published": True,
    }  # fmt: skip
    assert losses["photometric"]["weight"] == 0.25 and losses["smoothness"]["weight"] == 0.25e-3
    assert options["frame_ids"] == [0, -1, 1] and options["dataset"]["ground_truth"] == "velodyne"
    assert options["dataset"]["supervision"] is True


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("datasets.train.back_context", 2, {"frame_ids": [0, -2, -1, 1]}),
        ("model.loss.photometric_reduce_op", "mean", {"avg_reprojection": True}),
        ("model.loss.automask_loss", False, {"disable_automasking": True}),
        ("model.loss.upsample_depth_maps", False, {"v1_multiscale": True}),
        ("model.loss.num_scales", 2, {"scales": [0, 1]}),
        ("datasets.augmentation.jittering", "()", {"augment": {"flip": 0.5, "jitter": 0.0}}),
        ("checkpoint.save_top_k", -1, {"keep_checkpoints": 0, "keep_best": 0}),
        ("checkpoint.save_top_k", 3, {"keep_checkpoints": 1, "keep_best": 3}),
        ("model.scheduler.name", "CosineAnnealingLR", {"scheduler": "cosine"}),
        ("model.checkpoint_path", "a.ckpt", {"load_weights_folder": "a.ckpt"}),
        ("model.pose_net.checkpoint_path", "a.ckpt", {"models_to_load": ["pose"]}),
        ("model.depth_net.name", "PackNetSlimEnc01", {"depth_network": {
            "name": "packnet_san", "version": "1A", "dropout": 0.0, "completion": False}}),
        ("model.depth_net.version", "2B", {"depth_network": {
            "name": "packnet", "version": "1B", "dropout": 0.0}}),
        ("name", "mine", {"model_name": "mine"}),
    ],
)  # fmt: skip
def test_a_value_that_is_not_the_default_is_taken_over(path, value, expected):
    options, _ = packnet(changed("train_kitti", path, value))
    assert {key: options[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "model.optimizer.depth.rl",
            1e-4,
            r"no option 'model\.optimizer\.depth\.rl'; did you mean 'model.op",
        ),
        ("model.optimizer.pose.lr", 1e-4, "one lr here, got 0.0002 and 0.0001; give both the same value"),
        ("model.optimizer.name", "RMSprop", r"model\.optimizer\.name: there is no 'RMSprop'"),
        ("model.depth_net.name", "PackNet", "there is no 'PackNet'; did you mean 'PackNet01'"),
        ("model.depth_net.version", "1C", "is 1A or 1B for a PackNet, got '1C'"),
        ("model.loss.clip_loss", 0.5, "clip_loss 0.5 has no counterpart here; leave it at 0"),
        ("model.loss.rotation_mode", "quat", "rotation_mode quat has no counterpart here"),
        ("model.name", "SelfSup", "there is no 'SelfSup'; did you mean 'SelfSupModel'"),
        ("datasets.train.dataset", ["Kitti"], "there is no 'Kitti'"),
        ("datasets.train.dataset", ["KITTI", "KITI"], "there is no 'KITI'; did you mean 'KITTI'"),
        ("datasets.augmentation.image_shape", "(192, x)", "image_shape does not parse: .192, x."),
        ("datasets.test.depth_type", ["velodine"], "there is no 'velodine'; did you mean 'velodyne'"),
    ],
)
def test_what_has_no_counterpart_is_refused(path, value, words):
    with pytest.raises(InputError, match=words):
        packnet(changed("train_kitti", path, value))


def test_several_datasets_are_joined_with_their_repeats():
    settings = changed("train_kitti", "datasets.train.dataset", ["KITTI", "DGP", "DGP"])
    train = settings["datasets"]["train"]
    train |= {"path": ["/data/kitti", "/data/ddad", "/data/ddad"], "repeat": [2, 1, 1]}
    train |= {"cameras": [[], ["camera_01"], ["camera_09"]], "split": [ZHOU, "train", "train"]}
    options, notes = packnet(settings)
    assert options["dataset"]["name"] == "kitti" and options["split"] == "eigen_zhou"
    others = [
        {"name": "ddad", "camera_names": [name], "data_path": "/data/ddad"} for name in ("front", "back")
    ]
    assert options["joined"] == {"others": others, "repeat": [2, 1, 1]}
    assert options["num_epochs"] == 50 and "joined.others[0] is read from /data/ddad" in " ".join(notes)
    train["split"] = [ZHOU, "train"]
    with pytest.raises(InputError, match=r"train\.split has 2 values for 3 datasets; give one for all"):
        packnet(settings)


def test_two_files_of_weights_are_refused():
    settings = changed("train_kitti", "model.depth_net.checkpoint_path", "a.ckpt")
    settings["model"]["pose_net"] = {**POSENET, "checkpoint_path": "b.ckpt"}
    with pytest.raises(InputError, match=r"weights come from one file here, got a\.ckpt, b\.ckpt"):
        packnet(settings)


def test_resnets_start_alike():
    settings = changed("overfit_kitti", "model.pose_net", {"name": "PoseResNet", "version": "18x"})
    with pytest.raises(InputError, match="'18pt' and '18x'; end both with pt, or neither"):
        packnet(settings)
    with pytest.raises(InputError, match="18, 34 or 50, got '101pt'"):
        packnet(changed("overfit_kitti", "model.depth_net.version", "101pt"))
    options, _ = packnet(changed("overfit_kitti", "model.depth_net.version", 18) | {"model": {
        "depth_net": {"name": "DepthResNet", "version": 18}}})  # fmt: skip
    assert options["weights_init"] == "scratch"
