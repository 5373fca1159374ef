"""Weight files and config files in the layouts of the published repositories, for tests.

Weights are the published keys and shapes with zeros: a file of a few kilobytes that loads as the real one.
Configs state the values that the specifications list.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from tests.goldens import FOLDER
from tests.test_packnet_configs import PUBLISHED as PACKNET_CONFIGS
from tests.test_published_configs import COMMON as SURROUND_COMMON
from tests.test_published_configs import PUBLISHED as SURROUND_CONFIGS
from tests.test_sgdepth_configs import FULL, ONLY_DEPTH, RECORD, ZHOU

Maker = Callable[[Path], None]


def hollow(case: str, prefix: str = "") -> dict[str, Tensor]:
    """The entries of `golden/<case>.keys.json`, each one zero repeated."""
    entries = json.loads((FOLDER / f"{case}.keys.json").read_text())
    return {
        f"{prefix}{key}": torch.zeros((), dtype=getattr(torch, kind)).expand(shape)
        for key, shape, kind in entries
    }


def folder_of(facts: dict[str, Any], **cases: str) -> Maker:
    """A folder of `<network>.pth`; the encoder also holds the facts."""

    def make(path: Path) -> None:
        path.mkdir(parents=True)
        for name, case in cases.items():
            torch.save({**hollow(case), **(facts if name == "encoder" else {})}, path / f"{name}.pth")

    return make


def monodepth2(pose: str = "pairs", layers: int = 18, mask: bool = False, stereo: bool = False) -> Maker:
    """A Monodepth2 folder: `pose` is pairs, shared, posecnn or empty."""
    cases = {"encoder": f"encoder_resnet{layers}", "depth": f"depth_resnet{layers}"}
    if pose == "pairs":
        cases |= {"pose_encoder": f"pose_encoder_resnet{layers}", "pose": f"pose_resnet{layers}"}
    elif pose:
        cases["pose"] = {"shared": "pose_shared_resnet18", "posecnn": "posecnn2"}[pose]
    if mask:
        cases["predictive_mask"] = "predictive_mask_resnet18"
    facts = {"height": 192, "width": 640, "use_stereo": stereo}
    return folder_of(facts, **{name: f"monodepth2_{case}" for name, case in cases.items()})


def bdedepth(backbone: str, pose: bool = False, **further: Any) -> Maker:
    """A BDEdepth file; the released ones hold the two networks of depth."""
    cases = {"encoder": f"{backbone}_encoder", "depth": f"{backbone}_depth"}
    cases |= {"pose_encoder": "pose_encoder", "pose": "pose"} if pose else {}
    return file_of({name: hollow(f"bdedepth_{case}") for name, case in cases.items()} | further)


def hrnet_imagenet(folder: Path) -> None:
    """HRNet's ImageNet file where BDEdepth has it, below the working directory `folder`."""
    trunk = {
        key.removeprefix("encoder."): value
        for key, value in hollow("bdedepth_hrnet18_encoder").items()
        if key.startswith("encoder.")
    }
    file_of(trunk)(folder / "hrnet_IN_pretrained/HRNet_W18_C_cosinelr_cutmix_300epoch.pth.tar")


def file_of(content: dict[str, Any]) -> Maker:
    """One file with this content."""

    def make(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)

    return make


def surround(height: int) -> Maker:
    """A SurroundDepth folder; the height is that of its dataset."""
    names = ("encoder", "depth", "pose_encoder", "pose")
    facts = {"height": height, "width": 640, "use_stereo": False}
    return folder_of(facts, **{name: f"surrounddepth_{name}_resnet34" for name in names})


def sgdepth(path: Path) -> None:
    """SGDepth's folder."""
    path.mkdir(parents=True)
    content = {
        "model": hollow("sgdepth_full_r18"),
        "optim": {"state": {}, "param_groups": [{"lr": 1e-4, "params": []}]},
        "scheduler": {"last_epoch": 20},
        "train": {"step": 9, "epoch": 20},
    }
    for name, part in content.items():
        torch.save(part, path / f"{name}.pth")


def lightning(version: str, dataset: str) -> Maker:
    """SC-Depth's file, as Lightning 1.7 writes it."""
    options = Namespace(resnet_layers=18, lr=1e-4, model_version=version, dataset_name=dataset)
    return file_of({
        "epoch": 99, "global_step": 1000, "pytorch-lightning_version": "1.7.3",
        "state_dict": hollow(f"scdepth_step_{version}"), "hparams_name": "kwargs",
        "hyper_parameters": {"hparams": options},
    })  # fmt: skip


def sfmlearner(path: Path) -> None:
    """SC-SfMLearner's two files, from the keys of Monodepth2's decoders."""
    depth = {
        **{f"encoder.{key}": value for key, value in hollow("monodepth2_encoder_resnet18").items()},
        **{f"decoder.{key}": value for key, value in hollow("monodepth2_depth_resnet18").items()},
    }
    pose = {f"encoder.{key}": value for key, value in hollow("monodepth2_pose_encoder_resnet18").items()}
    shapes = ((256, 512, 1, 1), (256, 256, 3, 3), (256, 256, 3, 3), (6, 256, 1, 1))
    for number, shape in enumerate(shapes):
        pose[f"decoder.net.{number}.weight"] = torch.zeros(()).expand(shape)
        pose[f"decoder.net.{number}.bias"] = torch.zeros(()).expand(shape[:1])
    for name, state in (("dispnet", depth), ("exp_pose", pose)):
        file_of({"epoch": 200, "state_dict": state})(path.parent / f"{name}_model_best.pth.tar")


def packnet(depth: str, pose: str = "posenet", config: str = "") -> Maker:
    """PackNet-SfM's file; `config` is the depth network's name as its saved config has it."""
    state = hollow(f"packnet_{depth}", "model.depth_net.")
    state |= hollow(f"packnet_{pose}", "model.pose_net.") if pose else {}
    content: dict[str, Any] = {"epoch": 10, "state_dict": state}
    return file_of(content | ({"config": {"model": {"depth_net": {"name": config}}}} if config else {}))


def first_release(path: Path) -> None:
    """The .pth.tar of PackNet-SfM's first release, whose networks have other names."""
    state = hollow("packnet_packnet01_1A_dropout", "disp_network.")
    state |= hollow("packnet_posenet", "pose_network.")
    file_of({"state_dict": state})(path)


def featdepth(case: str) -> Maker:
    """FeatDepth's file, as mmcv 0.4.4 writes it."""
    meta = {"mmcv_version": "0.4.4", "epoch": 40, "iter": 796200}
    return file_of({"meta": meta, "state_dict": hollow(f"featdepth_{case}"), "optimizer": {"state": {}}})


_MODELS = "models/"
WEIGHTS: dict[str, dict[str, tuple[str, Maker]]] = {  # system → published name → path below their/, maker
    "Monodepth2": {
        name: (_MODELS + name, maker)
        for names, maker in (
            ("mono_640x192 mono_1024x320 mono_no_pt_640x192 mono_odom_640x192", monodepth2()),
            ("stereo_640x192 stereo_1024x320 stereo_no_pt_640x192", monodepth2("", stereo=True)),
            ("mono+stereo_640x192 mono+stereo_1024x320 mono+stereo_no_pt_640x192 "
             "mono+stereo_odom_640x192", monodepth2(stereo=True)),
            ("mono_resnet50_640x192 mono_resnet50_no_pt_640x192", monodepth2(layers=50)),
            ("weights_19", monodepth2()),
            ("weights_19_shared", monodepth2("shared")),
            ("weights_19_posecnn", monodepth2("posecnn")),
            ("weights_19_mask", monodepth2(mask=True)),
        )
        for name in names.split()
    },
    "BDEdepth": {
        name: (name, bdedepth(backbone))
        for backbone, names in (
            ("hrnet18", "kitti_hrnet18_640x192.pth cs_hrnet18_512x192.pth kitti_hrnet18_512x192.pth "
                        "final_hrnet18_640x192.pth"),
            ("resnet18", "kitti_resnet18_640x192.pth cs_resnet18_512x192.pth"),
        )
        for name in names.split()
    } | {
        "model19.pth": ("model19.pth", bdedepth("resnet18", True, height=192, width=640, use_stereo=False)),
        "ckpt.pth": ("ckpt.pth", bdedepth("resnet18", True, height=192, width=640, use_stereo=False,
                                          epoch=3, step_in_total=9, batch_idx=0,
                                          optimizer={"state": {}, "param_groups": [{"params": []}]},
                                          lr_scheduler={"last_epoch": 3})),
    },
    "SurroundDepth": {
        name: (f"weights/{name}", surround(height))
        for height, names in ((384, "ddad ddad_scale_pretrain ddad_scale"),
                              (352, "nusc nusc_scale_pretrain nusc_scale"))
        for name in names.split()
    },
    "SGDepth": {
        "epoch_20": ("zhou_full/checkpoints/epoch_20", sgdepth),
        "model.pth": ("zhou_full/epoch_20/model.pth", lambda path: sgdepth(path.parent)),
    },
    "SC-Depth": {
        f"{dataset}_sc{version}": (f"ckpts/{dataset}_sc{version}/{file}.ckpt", lightning(version, dataset))
        for version, file, datasets in (
            ("v1", "epoch=99-val_loss=0.1411", "kitti ddad"),
            ("v2", "epoch=101-val_loss=0.1580", "nyu"),
            ("v3", "epoch=93-val_loss=0.1384", "kitti nyu ddad bonn tum"),
        )
        for dataset in datasets.split()
    } | {
        f"{name}_model_best.pth.tar": (f"ckpts/{name}_model_best.pth.tar", sfmlearner)
        for name in ("dispnet", "exp_pose")
    },
    "PackNet-SfM and All4Depth": {
        f"{name}.ckpt": (f"{name}.ckpt", maker)
        for names, maker in (
            ("PackNet01_MR_selfsup_K PackNet01_MR_selfsup_D PackNet01_MR_selfsup_CS "
             "PackNet01_MR_velsup_CStoK PackNet01_HR_velsup_CStoK PackNet01_MR_semisup_CStoK",
             packnet("packnet01_1A")),
            ("ResNet18_MR_selfsup_K ResNet18_MR_selfsup_D", packnet("depthresnet18", "poseresnet18")),
            ("PackNetSAN01_HR_sup_K PackNetSAN01_HR_sup_D",
             packnet("packnetsan01_1A_dropout", "", "PackNetSlimEnc01")),
            ("omnicam_pretrained", packnet("raysurfaceresnet18", "poseresnet18")),
        )
        for name in names.split()
    } | {"PackNet_MR_selfsup_K.pth.tar": ("PackNet_MR_selfsup_K.pth.tar", first_release)},
    "FeatDepth": {
        "autoencoder.pth": ("autoencoder.pth", featdepth("autoencoder_r50")),
        "epoch_40_joint.pth": ("epoch_40_joint.pth", featdepth("mono_fm_joint_loss")),
        **{f"{name}.pth": (f"{name}.pth", featdepth("mono_fm_r50"))
           for name in ("epoch_40", "kitti_refine", "odometry", "euroc", "nyu")},
    },
}  # fmt: skip

_SC_DEPTH = "resnet_layers = 18\nlr = 1e-4\nnum_epochs = 100\nepoch_size = 1000\n"


def sc_depth_config(version: str, dataset: str) -> str:
    """A text config of SC-Depth: what its fourteen files have in common, and their own values."""
    name = dataset.removesuffix("_raw")
    text = f"exp_name = {name}_sc{version}\nmodel_version = {version}\ndataset_name = {name}\n"
    text += f"batch_size = {4 if name in ('kitti', 'ddad') else 8}\n"
    if (version, name) == ("v2", "bonn"):
        return _SC_DEPTH + text + "use_frame_index\n"
    return _SC_DEPTH + text + ("skip_frames = 10\n" if name in ("bonn", "tum") else "")


CONFIGS: dict[str, dict[str, str]] = {  # system → path below their/ → its text
    "SurroundDepth": {
        f"configs/{name}.txt": SURROUND_COMMON + text for name, (_, text) in SURROUND_CONFIGS.items()
    },
    "SGDepth": {
        f"opt_{name}.json": json.dumps({**RECORD, "model_name": name, **changes})
        for name, changes in {
            "zhou_full": {**ZHOU, **FULL},
            "zhou_only_depth": {**ZHOU, **ONLY_DEPTH},
            "kitti_full": FULL,
            "kitti_only_depth": ONLY_DEPTH,
        }.items()
    },
    "SC-Depth": {
        f"configs/{version}/{dataset}.txt": sc_depth_config(version, dataset)
        for version, datasets in (
            ("v1", "kitti_raw ddad nyu bonn tum"),
            ("v2", "nyu bonn tum"),
            ("v3", "kitti_raw ddad nyu bonn tum"),
        )
        for dataset in datasets.split()
    },
    "PackNet-SfM and All4Depth": {
        f"configs/{name}.yaml": yaml.safe_dump(settings) for name, settings in PACKNET_CONFIGS.items()
    },
}


def write_ground_truth(path: Path, count: int) -> None:
    """A published gt_depths.npz: an object array of maps of several sizes under the key `data`."""
    maps = np.empty(count, dtype=object)
    for number in range(count):
        maps[number] = np.full((12, 20 + number % 2), 5.0 + number % 7, np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, data=maps)


def write_repository(folder: Path, system: str) -> None:
    """`their/`: the weights, the configs and, of Monodepth2, the arrays of its README."""
    for place, maker in WEIGHTS[system].values():
        if not (folder / place).exists():
            maker(folder / place)
    for place, text in CONFIGS.get(system, {}).items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text)
    if system == "Monodepth2":
        disparities = np.linspace(0.1, 1, 697 * 8 * 12, dtype=np.float32).reshape(697, 8, 12)
        np.save(folder / "mono_640x192_eigen.npy", disparities)
        for split, count in (("eigen", 697), ("eigen_benchmark", 652)):
            write_ground_truth(folder / f"splits/{split}/gt_depths.npz", count)
