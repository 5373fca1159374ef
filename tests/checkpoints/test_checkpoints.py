"""Checkpoints: our files are read back, published files are recognised, malicious files are refused."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import pickle
import re
import resource
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import checkpoints
from checkpoints import (
    Checkpoint,
    epoch_path,
    export_weights,
    load_checkpoint,
    load_ground_truth_npz,
    load_optimizer,
    load_weights,
    prune_checkpoints,
    save_checkpoint,
    update_link,
    write_monodepth2_folder,
)
from methods import build_method
from tests import goldens
from utils import InputError

OPTIONS = {"method": "monodepth2", "num_layers": 18, "height": 64, "width": 96, "frame_ids": [0, -1, 1, "s"]}


class Small(nn.Module):
    """A method of two networks that fits on a line, and a loss that has a constant."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
        self.depth = nn.Conv2d(width, 1, 3)
        self.loss = nn.Module()
        self.loss.register_buffer("constant", torch.ones(1))


def small(**changes) -> Checkpoint:
    return Checkpoint(**{"weights": Small().state_dict(), "options": dict(OPTIONS), **changes})


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def hollow(name: str) -> dict[str, torch.Tensor]:
    """A published state dict of the right keys and shapes; each tensor is one zero repeated, a few bytes."""
    entries = json.loads((goldens.FOLDER / f"monodepth2_{name}.keys.json").read_text())
    return {key: torch.zeros((), dtype=getattr(torch, kind)).expand(shape) for key, shape, kind in entries}


def published(folder: Path, *, height=192, width=640, use_stereo=False, make=hollow, **files) -> Path:
    """A Monodepth2 folder: file name → state dict, or the name of a golden one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        content = make(content) if isinstance(content, str) else content
        if name == "encoder":
            content = {"height": height, "width": width, "use_stereo": use_stereo, **content}
        torch.save(content, folder / f"{name}.pth")
    return folder


DEPTH_18 = {"encoder": "encoder_resnet18", "depth": "depth_resnet18"}
POSE_18 = {"pose_encoder": "pose_encoder_resnet18", "pose": "pose_resnet18"}


class RunsACommand:
    """An object whose unpickling runs a shell command."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.command,)


# Our file.


def test_saved_checkpoint_is_read_back_completely(tmp_path):
    training = {
        "epoch": 3,
        "rng": {"torch": torch.get_rng_state(), "python": (3, (2**32 - 1, 7), None)},
        "optimizer": torch.optim.Adam(Small().parameters()).state_dict(),
        "best": np.float64(0.125),
        "seen": {1, 2},
    }
    saved = small(training=training)
    save_checkpoint(tmp_path / "epoch.pt", saved)
    loaded = load_checkpoint(tmp_path / "epoch.pt")
    assert same(loaded.weights, saved.weights)
    assert loaded.options == OPTIONS
    assert loaded.layout == "parallax"
    assert torch.equal(loaded.training.pop("rng")["torch"], training.pop("rng")["torch"])
    assert loaded.training == training


def test_unsafe_values_are_not_saved(tmp_path):
    with pytest.raises(TypeError, match=r"training\.sampler\[1\] is a PosixPath"):
        save_checkpoint(tmp_path / "x.pt", small(training={"sampler": [1, Path("here")]}))
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_the_previous_checkpoint_intact(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, small(training={"epoch": 1}))

    def half_a_save(content, file):
        file.write(b"half a checkpoint")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", half_a_save)
    with pytest.raises(
        InputError, match=r"last\.pt cannot be written: the disk is full.*the earlier last\.pt is untouched"
    ):
        save_checkpoint(path, small(training={"epoch": 2}))
    assert load_checkpoint(path).training == {"epoch": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("save", [save_checkpoint, export_weights])
def test_failed_write_in_torch_or_safetensors_names_its_reason(tmp_path, save):
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
        with pytest.raises(InputError, match=r"cannot be written: .*File too large"):
            save(tmp_path / "big.pt", Checkpoint({"depth.weight": torch.zeros(300_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_run_folder_loads_best_or_last(tmp_path):
    folder = tmp_path / "checkpoints"
    for epoch in range(3):
        save_checkpoint(epoch_path(folder, epoch), small(training={"epoch": epoch}))
    assert load_checkpoint(tmp_path).training == {"epoch": 2}  # killed before its first link
    update_link(folder / "last.pt", epoch_path(folder, 2))
    assert load_checkpoint(tmp_path).training == {"epoch": 2}
    update_link(folder / "best.pt", epoch_path(folder, 1))
    assert load_checkpoint(tmp_path).training == {"epoch": 1}
    assert load_checkpoint(tmp_path, which="last").training == {"epoch": 2}
    with pytest.raises(InputError, match="'best' or 'last', got 'newest'"):
        load_checkpoint(tmp_path, which="newest")


@pytest.mark.parametrize("begun", ["checkpoints", "options.yaml"])
def test_run_without_checkpoint_is_refused(tmp_path, begun):
    (tmp_path / begun).mkdir() if begun == "checkpoints" else (tmp_path / begun).touch()
    with pytest.raises(InputError, match=r"has not saved a checkpoint yet: no best\.pt or last\.pt"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("hard_links", [True, False])
def test_last_is_updated_and_outlives_its_epoch(tmp_path, monkeypatch, hard_links):
    if not hard_links:
        monkeypatch.setattr(
            os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "no links here"))
        )
    for epoch in range(12):
        save_checkpoint(epoch_path(tmp_path, epoch), small(training={"epoch": epoch}))
        update_link(tmp_path / "last.pt", epoch_path(tmp_path, epoch))
        update_link(tmp_path / "last.pt", epoch_path(tmp_path, epoch))  # a second call changes nothing
    update_link(tmp_path / "best.pt", epoch_path(tmp_path, 4))
    prune_checkpoints(tmp_path, keep=2)
    names = sorted(item.name for item in tmp_path.iterdir())
    assert names == ["best.pt", "epoch_0010.pt", "epoch_0011.pt", "last.pt"]
    assert load_checkpoint(tmp_path / "last.pt").training == {"epoch": 11}
    assert load_checkpoint(tmp_path / "best.pt").training == {"epoch": 4}


def test_release_holds_weights_and_options_without_paths(tmp_path):
    saved = small(training={"epoch": 1})
    saved.options |= {"data_path": "/data/kitti", "section": {"log_dir": "~/tmp", "crop": "eigen"}}
    export_weights(tmp_path / "small.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "small.safetensors")
    assert same(loaded.weights, saved.weights)
    assert loaded.options == {**OPTIONS, "section": {"crop": "eigen"}}
    assert loaded.training is None


def test_a_file_of_a_later_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints._own, "FORMAT", 2)
    save_checkpoint(tmp_path / "new.pt", small())
    monkeypatch.undo()
    with pytest.raises(InputError, match="checkpoint format 2, this Parallax reads format 1"):
        load_checkpoint(tmp_path / "new.pt")


# Published Monodepth2 folders.


@pytest.mark.parametrize(
    "files, use_stereo, expected",
    [
        (
            {**DEPTH_18, **POSE_18},
            False,
            {"num_layers": 18, "pose_model_type": "separate_resnet", "pose_model_input": "pairs"},
        ),
        (
            {
                "encoder": "encoder_resnet50",
                "depth": "depth_resnet50",
                "pose_encoder": "pose_encoder_resnet50",
                "pose": "pose_resnet50",
            },
            False,
            {"num_layers": 50, "pose_model_type": "separate_resnet", "frame_ids": [0, -1, 1]},
        ),
        (
            {**DEPTH_18, **POSE_18, "pose_encoder": "pose_encoder3_resnet18"},
            True,
            {"pose_model_input": "all", "frame_ids": [0, -1, 1, "s"]},
        ),
        (
            {**DEPTH_18, "pose": "posecnn2"},
            False,
            {"pose_model_type": "posecnn", "pose_model_input": "pairs"},
        ),
        ({**DEPTH_18, "pose": "posecnn3"}, False, {"pose_model_type": "posecnn", "pose_model_input": "all"}),
        (
            {**DEPTH_18, "pose": "pose_shared_resnet18"},
            False,
            {"pose_model_type": "shared", "pose_model_input": "pairs", "frame_ids": [0, -1, 1]},
        ),
        (DEPTH_18, True, {"use_stereo": True, "frame_ids": [0, "s"], "predictive_mask": False}),
        (DEPTH_18, False, {"use_stereo": False, "frame_ids": [0, -1, 1]}),
        (
            {**DEPTH_18, **POSE_18, "predictive_mask": "predictive_mask_resnet18"},
            False,
            {"predictive_mask": True, "disable_automasking": True},
        ),
    ],
    ids=["resnet18", "resnet50", "all", "posecnn", "posecnn-all", "shared", "stereo", "depth-only", "mask"],
)
def test_keys_and_shapes_determine_the_options(tmp_path, files, use_stereo, expected):
    loaded = load_checkpoint(published(tmp_path, use_stereo=use_stereo, **files))
    assert loaded.layout == "monodepth2"
    common = {
        "method": "monodepth2",
        "height": 192,
        "width": 640,
        "scales": [0, 1, 2, 3],
        "resize": "lanczos",
    }
    for key, value in {**common, **expected}.items():
        assert loaded.options[key] == value, key


def test_decoder_keys_determine_its_two_scales(tmp_path):
    depth = {key: value for key, value in hollow("depth_resnet18").items() if ".13." not in key}
    depth = {key: value for key, value in depth.items() if ".11." not in key}
    depth = {key.replace(".12.", ".11."): value for key, value in depth.items()}
    assert load_checkpoint(published(tmp_path, **{**DEPTH_18, "depth": depth})).options["scales"] == [0, 2]


def test_classifier_and_extra_entries_are_listed_as_ignored(tmp_path):
    loaded = load_checkpoint(published(tmp_path, **DEPTH_18))
    assert len(loaded.weights) == 120 + 28
    extras = {"encoder.height", "encoder.width", "encoder.use_stereo"}
    assert set(loaded.ignored) == {*extras, "encoder.encoder.fc.weight", "encoder.encoder.fc.bias"}


def test_opt_json_in_the_folder_above_adds_options(tmp_path):
    record = {"min_depth": 0.5, "max_depth": 80, "scales": [0], "height": 192, "data_path": "somewhere"}
    (tmp_path / "opt.json").write_text(json.dumps(record))
    options = load_checkpoint(published(tmp_path / "weights_19", **DEPTH_18)).options
    assert (options["min_depth"], options["max_depth"]) == (0.5, 80)
    assert options["scales"] == [0, 1, 2, 3]  # the weights know better
    assert "data_path" not in options


def test_opt_json_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "opt.json").write_bytes('\ufeff{"min_depth": 0.5}'.encode())
    assert load_checkpoint(published(tmp_path, **DEPTH_18)).options["min_depth"] == 0.5


def test_opt_json_of_another_model_is_ignored(tmp_path):
    (tmp_path / "opt.json").write_text(json.dumps({"min_depth": 0.5, "height": 320}))
    loaded = load_checkpoint(published(tmp_path / "mono", **DEPTH_18))
    assert loaded.options["min_depth"] == 0.1
    assert "another model's: height 320, here 192" in loaded.ignored[-1]


@pytest.mark.parametrize("text", ["{", "[1]", '{"min_depth": "near"}'])
def test_a_broken_opt_json_is_named(tmp_path, text):
    (tmp_path / "opt.json").write_text(text)
    with pytest.raises(InputError, match=r"opt\.json.*mend it or move"):
        load_checkpoint(published(tmp_path, **DEPTH_18))


@pytest.mark.parametrize("absent", ["encoder", "depth", "pose"])
def test_missing_file_of_a_folder_is_named(tmp_path, absent):
    folder = published(tmp_path, **{**DEPTH_18, **POSE_18})
    (folder / f"{absent}.pth").unlink()
    with pytest.raises(InputError, match=rf"has .*\.pth but no {absent}\.pth"):
        load_checkpoint(folder)


def adam_of(*names: str, numbering=lambda n: n) -> dict:
    """A published adam.pth: parameter n has exp_avg n everywhere; the two fc never had a gradient."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    entries = [(k, v) for name in names for k, v in hollow(name).items() if not k.endswith(buffers)]
    state = {
        numbering(n): {"step": 7, "exp_avg": torch.tensor(float(n)).expand(value.shape)}
        for n, (key, value) in enumerate(entries)
        if ".fc." not in key
    }
    return {
        "state": state,
        "param_groups": [{"lr": 1e-4, "params": [numbering(n) for n in range(len(entries))]}],
    }


@pytest.mark.parametrize("numbering", [lambda n: n, lambda n: 140_000_000 - 8 * n], ids=["index", "address"])
def test_published_optimiser_state_matches_the_parameters(tmp_path, numbering):
    names = [*DEPTH_18.values(), *POSE_18.values()]
    adam = adam_of(*names, numbering=numbering)
    assert len(adam["param_groups"][0]["params"]) == 160
    loaded = load_checkpoint(published(tmp_path, **DEPTH_18, **POSE_18, adam=adam))
    states = loaded.training["optimizer_by_name"]
    assert len(states) == 160 - 4
    for key, number in {
        "encoder.encoder.conv1.weight": 0,
        "depth.decoder.0.conv.conv.weight": 62,
        "pose_encoder.encoder.conv1.weight": 62 + 28,
        "pose.net.3.bias": 159,
    }.items():
        assert states[key]["exp_avg"].unique() == number
        assert states[key]["exp_avg"].shape == loaded.weights[key].shape


def test_an_optimiser_of_other_networks_is_listed_as_ignored(tmp_path):
    folder = published(tmp_path, **DEPTH_18, adam=adam_of(*DEPTH_18.values(), *POSE_18.values()))
    loaded = load_checkpoint(folder)
    assert loaded.training is None
    assert any("adam.pth" in entry for entry in loaded.ignored)


def test_optimiser_resumes_published_state_at_its_own_rate():
    model = Small()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    states = {
        name: {"step": torch.tensor(7.0), "exp_avg": torch.ones_like(p), "exp_avg_sq": torch.ones_like(p)}
        for name, p in model.named_parameters()
    }
    states["depth.bias"]["exp_avg"] = torch.ones(5)  # of another model
    assert load_optimizer(optimizer, model, states) == "loaded the optimiser state of 5 of 6 parameters"
    model.depth(model.encoder(torch.ones(1, 3, 8, 8))).sum().backward()
    optimizer.step()
    assert optimizer.state[model.depth.weight]["step"] == 8
    assert optimizer.param_groups[0]["lr"] == 1e-5


@pytest.mark.parametrize("fused, place", [(None, "cpu"), (True, "meta")])
def test_step_count_is_on_the_device_that_adam_expects(fused, place):
    model = Small().to("meta")
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.param_groups[0]["fused"] = fused  # the constructor accepts it only on a GPU
    states = {name: {"step": torch.tensor(7.0)} for name, _ in model.named_parameters()}
    load_optimizer(optimizer, model, states)
    assert optimizer.state[model.depth.weight]["step"].device.type == place


def test_written_monodepth2_folder_equals_the_published_files(tmp_path):
    ours = load_checkpoint(published(tmp_path / "in", **DEPTH_18, **POSE_18, height=96, use_stereo=True))
    ours.options["min_depth"] = 0.3
    write_monodepth2_folder(tmp_path / "out", ours)
    for name, golden in {**DEPTH_18, **POSE_18}.items():
        content = torch.load(tmp_path / "out" / f"{name}.pth", weights_only=True)
        extras = {"height": 96, "width": 640, "use_stereo": True} if name == "encoder" else {}
        assert {key: content.pop(key) for key in extras} == extras
        expected = hollow(golden)
        assert content.keys() == expected.keys()  # the classifier among them: the published load is strict
        assert all(content[key].shape == expected[key].shape for key in content)
    back = load_checkpoint(tmp_path / "out")
    assert same(back.weights, ours.weights)
    assert back.options == ours.options


def test_other_networks_are_not_written_as_monodepth2_folder(tmp_path):
    with pytest.raises(InputError, match="this encoder is another"):
        write_monodepth2_folder(tmp_path, small())
    loaded = load_checkpoint(published(tmp_path, **DEPTH_18))
    loaded.weights["depth.cross.weight"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"this model has depth\.cross\.weight"):
        write_monodepth2_folder(tmp_path / "out", loaded)


def test_error_unrelated_to_the_disk_is_not_changed(tmp_path, monkeypatch):
    def out_of_memory(content, file):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(torch, "save", out_of_memory)
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        save_checkpoint(tmp_path / "x.pt", small())


@pytest.mark.parametrize("pose", [POSE_18, {"pose": "pose_shared_resnet18"}, {"pose": "posecnn2"}, {}])
def test_published_folder_loads_into_its_method(tmp_path, pose):
    make = (lambda name: goldens.state_dict(f"monodepth2_{name}")) if "pose_encoder" in pose else hollow
    loaded = load_checkpoint(published(tmp_path, **DEPTH_18, **pose, make=make, use_stereo=not pose))
    method = build_method({**loaded.options, "weights_init": "scratch"})
    report = load_weights(method, loaded.weights)
    assert report.startswith("loaded encoder (120 tensors), depth (28 tensors)")
    state = method.state_dict()
    assert all(torch.equal(state[key], value.to(state[key].dtype)) for key, value in loaded.weights.items())


# Loading weights into a model.


def test_weights_are_loaded_and_reported():
    model, weights = Small(), Small().state_dict()
    del weights["loss.constant"], weights["encoder.1.num_batches_tracked"]
    assert load_weights(model, weights) == "loaded encoder (6 tensors), depth (2 tensors)"
    assert all(torch.equal(model.state_dict()[key], value) for key, value in weights.items())


def test_only_requested_networks_change():
    model, weights = Small(), Small().state_dict()
    before = model.depth.weight.clone()
    report = load_weights(model, {**weights, "pose.net": torch.zeros(1)}, models=["encoder"])
    assert report == "loaded encoder (7 tensors); left aside depth, loss, pose (not asked for)"
    assert torch.equal(model.depth.weight, before)
    assert torch.equal(model.encoder[0].weight, weights["encoder.0.weight"])


def test_network_in_allow_missing_keeps_its_values():
    weights = {key: value for key, value in Small().state_dict().items() if not key.startswith("depth")}
    sentence = r"file does not fit the model: it has no depth \(--models_to_load encoder loss goes without\)$"
    with pytest.raises(InputError, match=sentence):
        load_weights(Small(), weights, source="a file")
    report = load_weights(Small(), weights, allow_missing=["depth"])
    assert report.endswith("depth not in the file and left unchanged")


def test_all_mismatches_are_named_and_nothing_is_loaded():
    model, weights = Small(), Small().state_dict()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    weights["depth.gain"] = weights.pop("depth.bias")
    weights["encoder.0.weight"] = torch.zeros(4, 6, 3, 3)
    weights["pose.net"] = torch.zeros(1)
    with pytest.raises(InputError) as caught:
        load_weights(model, weights, source="runs/x")
    assert str(caught.value) == (
        "runs/x does not fit the model: "
        "the model has no pose (--models_to_load encoder depth loss leaves it aside); "
        "encoder: 1 of another shape (encoder.0.weight [4, 6, 3, 3], in the model [4, 3, 3, 3]); "
        "depth: 1 missing (depth.bias), 1 unexpected (depth.gain)"
    )
    assert same(model.state_dict(), before)


def test_unknown_network_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="no sub-network 'dept' to load; did you mean 'depth'"):
        load_weights(Small(), Small().state_dict(), models=["dept"])
    with pytest.raises(InputError, match=r"the model has no pose$"):
        load_weights(Small(), {**Small().state_dict(), "pose.net": torch.zeros(1)}, models=["pose"])


def test_mismatch_of_resnets_names_both(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    model = nn.Module()
    model.encoder = nn.Module()
    with torch.device("meta"):
        model.encoder.encoder = torchvision.models.resnet18()
    del model.encoder.encoder.fc
    weights = {
        f"encoder.{key}": value for key, value in hollow("encoder_resnet50").items() if ".fc." not in key
    }
    with pytest.raises(InputError, match=r"the file looks like resnet50, the model is resnet18$"):
        load_weights(model, weights)


# Files from strangers.


@pytest.mark.parametrize("zipped", [True, False])
def test_file_that_runs_a_command_is_refused(tmp_path, zipped):
    marker = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    torch.save({"encoder": RunsACommand(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"evil\.pth wants to use 'posix\.system' .* refused"):
        load_checkpoint(path)
    assert not marker.exists()


def test_a_published_folder_with_a_malicious_file_is_refused(tmp_path):
    marker = tmp_path / "ran"
    folder = published(tmp_path, **DEPTH_18, adam={"state": RunsACommand(marker)})
    with pytest.raises(InputError, match=r"adam\.pth wants to use 'posix\.system'"):
        load_checkpoint(folder)
    assert not marker.exists()


@pytest.mark.parametrize("core", ["core", "_core"])
def test_harmless_classes_of_published_files_become_plain_values(tmp_path, core):
    content = {
        "options": argparse.Namespace(lr=0.5, nested=argparse.Namespace(x=1)),
        "scalar": np.float32(0.25),
        "array": np.arange(6, dtype=">i2").reshape(2, 3).T,
    }
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=False)
    renamed = re.sub(rb"cnumpy\._?core\.", f"cnumpy.{core}.".encode(), stream.getvalue())
    (tmp_path / "x.pth").write_bytes(renamed)
    loaded = checkpoints._reading.read_file(tmp_path / "x.pth")
    assert loaded["options"] == {"lr": 0.5, "nested": {"x": 1}}
    assert loaded["scalar"] == 0.25
    assert loaded["array"].tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 100, 0.5, -30])
def test_a_truncated_file_is_named(tmp_path, suffix, keep):
    path = tmp_path / f"cut{suffix}"
    (save_checkpoint if suffix == ".pt" else export_weights)(path, small())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if 0 < keep < 1 else keep])
    with pytest.raises(InputError, match=rf"cut{suffix} is (truncated or|an empty file,) not a checkpoint"):
        load_checkpoint(path)


def test_missing_or_unknown_layout_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"there is no file or folder .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        InputError, match=r"holds notes\.txt, which is not a known layout \(parallax: .*monodepth2: "
    ):
        load_checkpoint(tmp_path)
    torch.save({"model": 1, "step": 2}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds the entries model, step, which is not a known layout"):
        load_checkpoint(tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds a list, which is not a known layout"):
        load_checkpoint(tmp_path / "list.pth")
    torch.save("no weights", tmp_path / "depth.pth")
    torch.save({}, tmp_path / "encoder.pth")
    with pytest.raises(InputError, match=r"encoder\.pth holds a .* instead of weights by name"):
        load_checkpoint(tmp_path)


def test_error_for_one_file_names_its_folder(tmp_path):
    folder = published(tmp_path, **DEPTH_18)
    with pytest.raises(InputError, match="one file of a Monodepth2 folder"):
        load_checkpoint(folder / "depth.pth")


# Ground truth files.


def object_array(maps: list) -> np.ndarray:
    array = np.empty(len(maps), dtype=object)
    array[:] = maps
    return array


@pytest.mark.parametrize("protocol, core", [(2, "core"), (3, "core"), (3, "_core"), (4, None)])
def test_depth_maps_of_several_sizes_are_read_for_numpy_1_and_2(tmp_path, protocol, core):
    maps = [np.random.rand(2, 3).astype(np.float32), np.random.rand(5, 4).astype(np.float32).T]
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (2,)})
    pickled = pickle.dumps(object_array(maps), protocol)
    if core:  # numpy 1 calls it numpy.core, numpy 2 numpy._core
        pickled = re.sub(rb"cnumpy\._?core\.", f"cnumpy.{core}.".encode(), pickled)
    with zipfile.ZipFile(tmp_path / "gt_depths.npz", "w") as archive:
        archive.writestr("data.npy", stream.getvalue() + pickled)
    loaded = load_ground_truth_npz(tmp_path / "gt_depths.npz")
    assert len(loaded) == 2
    for one, other in zip(loaded, maps):
        assert one.dtype == np.float32
        assert np.array_equal(one, other)
        one[0, 0] = 1.0  # and it may be written to


@pytest.mark.parametrize("dtype", [np.float32, object])
def test_depth_maps_of_one_size_are_read(tmp_path, dtype):
    maps = np.random.rand(3, 2, 4).astype(np.float32)
    np.savez_compressed(tmp_path / "gt_depths.npz", data=maps.astype(dtype))
    loaded = load_ground_truth_npz(tmp_path / "gt_depths.npz")
    assert np.array_equal(np.stack(loaded), maps)


def test_ground_truth_file_that_runs_a_command_is_refused(tmp_path):
    marker = tmp_path / "ran"
    np.savez(tmp_path / "gt_depths.npz", data=object_array([np.zeros((2, 2)), RunsACommand(marker)]))
    with pytest.raises(InputError, match=r"wants to use 'posix\.system' .* refused"):
        load_ground_truth_npz(tmp_path / "gt_depths.npz")
    assert not marker.exists()


def test_invalid_ground_truth_files_are_named(tmp_path):
    path = tmp_path / "gt.npz"
    with pytest.raises(InputError, match="there is no file"):
        load_ground_truth_npz(path)
    np.savez(path, depth=np.zeros((1, 2, 2)))
    with pytest.raises(InputError, match="no array 'data'"):
        load_ground_truth_npz(path)
    np.savez(path, data=object_array([np.zeros((2, 2)), np.zeros(3)]))
    with pytest.raises(InputError, match=r"entry 1 is not a depth map but an array of shape \(3,\)"):
        load_ground_truth_npz(path)
    np.savez(path, data=object_array([np.zeros((2, 2)), np.zeros((0, 0))]))
    with pytest.raises(InputError, match=r"entry 1 is not a depth map but an array of shape \(0, 0\)"):
        load_ground_truth_npz(path)
    np.savez(path, data=np.array([[["1.5"]]]))
    with pytest.raises(InputError, match=r"entry 0 is not a depth map but an array of shape \(1, 1\) of <U3"):
        load_ground_truth_npz(path)
    np.savez(path, data=object_array([np.zeros((2, 2))]))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="truncated or not a ground truth file"):
        load_ground_truth_npz(path)
