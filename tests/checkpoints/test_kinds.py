"""A file that is not a checkpoint is refused in a sentence that says what it is."""

from __future__ import annotations

import gzip
import io
import pickle
import re
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from checkpoints import load_checkpoint
from checkpoints._reading import read_file
from utils import InputError

ONNX = b"\x08\x0a\x12\x07pytorch\x1a\x052.4.0:\x9c\x01\n\x1d\n\x05input"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"


def numpy_file() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones(3))
    return stream.getvalue()


def archive(names: list[str]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, b"content")
    return stream.getvalue()


def tar_of_a_run() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for name in ("run/options.yaml", "run/checkpoints/last.pt"):
            file.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def image() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    return stream.getvalue()


FILES = {
    "a git-LFS pointer, .* git lfs pull": POINTER,
    "a web page, .*; download it again": b"\n<!DOCTYPE html><html><title>404 \xc3\xa9</title>",
    "a text in XML, .*; download it again": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "a numpy array, .*--ext_disp_to_eval": numpy_file(),
    "a numpy archive of disps.npy": archive(["disps.npy"]),
    "a zip archive of run/options.yaml, run/checkpoints/last.pt, .*; unpack it": archive(
        ["run/options.yaml", "run/checkpoints/last.pt"]
    ),
    "a tar archive of run/options.yaml, run/checkpoints/last.pt, .*; unpack it": tar_of_a_run(),
    "a compressed archive, .*; unpack it": gzip.compress(tar_of_a_run()),
    "an ONNX model, .*; name the checkpoint that it was made from": ONNX,
    "a TensorFlow Lite model": b"\x1c\x00\x00\x00TFL3" + bytes(64),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "a language model in GGUF": b"GGUF\x03\x00\x00\x00" + bytes(64),
    "an image or a video": image(),
    "a text in JSON": b'{"num_layers": 18}',
    "a text, ": b"num_layers: 18\n",
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("words", FILES)
def test_a_file_of_another_kind_is_named(tmp_path, words, suffix):
    path = tmp_path / f"depth{suffix}"
    path.write_bytes(FILES[words])
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))} is {words}") as refused:
        load_checkpoint(path)
    assert "not a checkpoint; " in str(refused.value)


def test_a_torchscript_program_is_named(tmp_path):
    members = ["net/data.pkl", "net/code/__torch__.py", "net/constants.pkl", "net/data/0"]
    (tmp_path / "net.pt").write_bytes(archive(members))
    with pytest.raises(InputError, match=r"net\.pt is a TorchScript program, .*torch\.jit\.load\(FILE\)"):
        load_checkpoint(tmp_path / "net.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_named(tmp_path, zipped):
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 1)), tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"net\.pth holds a whole module, .*model\.state_dict\(\)"):
        load_checkpoint(tmp_path / "net.pth")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_another_program_is_named(tmp_path, protocol):
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"conv.weight": [1.0, 2.0]}, protocol))
    with pytest.raises(InputError, match=r"weights\.pkl is a pickle that torch\.save did not write, not a"):
        load_checkpoint(tmp_path / "weights.pkl")


def test_the_content_tells_the_format_and_not_the_name(tmp_path):
    state = {"conv.weight": torch.arange(3.0)}
    safetensors.torch.save_file(state, tmp_path / "weights.pth")
    torch.save(state, tmp_path / "weights.safetensors")
    for name in ("weights.pth", "weights.safetensors"):
        assert torch.equal(read_file(tmp_path / name)["conv.weight"], torch.arange(3.0))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight"], "a language model"),
        (["transformer.wte.weight", "transformer.h.0.attn.c_attn.weight"], "a language model"),
        (["base_model.model.qkv.lora_A.weight"], "a LoRA adapter without the network"),
        (["time_embedding.linear_1.weight", "down_blocks.0.resnets.0.conv1.weight"], "a diffusion model"),
    ],
)
def test_a_network_for_another_task_is_named(tmp_path, keys, words):
    safetensors.torch.save_file({key: torch.ones(2) for key in keys}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=rf"model\.safetensors holds .* and looks like {words}"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_a_part_of_a_training_is_named(tmp_path):
    parameter = nn.Parameter(torch.ones(2))
    optimiser = torch.optim.Adam([parameter])
    parts = {
        "an optimiser": optimiser,
        "a learning rate schedule": torch.optim.lr_scheduler.MultiStepLR(optimiser, [2]),
        "a gradient scaler": torch.amp.GradScaler("cpu"),
    }
    for words, part in parts.items():
        for content in (part.state_dict(), {"state": part.state_dict(), "epoch": 3}):
            torch.save(content, tmp_path / "part.pth")
            with pytest.raises(InputError, match=f"looks like the state of {words}"):
                load_checkpoint(tmp_path / "part.pth")
