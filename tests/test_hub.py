"""The hub: a release is pushed to a stand-in server and loaded from it; what fails is one sentence."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
import yaml
from PIL import Image

from checkpoints import hub, load_checkpoint
from predictor import load_predictor
from test_simple import main as predict_images
from tests.tiny_models import save_run
from tools.push import main as push
from utils import InputError

NAME = "owner/walk"


class Hub(http.server.BaseHTTPRequestHandler):
    """The few requests of the hub's API that one push and one download make.

    `files` holds the content of the repositories; `status` is an answer to every request, to stand for a
    server that refuses or fails.
    """

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.status:
            return self.answer({}, self.server.status)
        if self.path.endswith("/repos/create"):
            asked = json.loads(body)
            self.server.files.setdefault(f"{asked['organization']}/{asked['name']}", {})
            return self.answer({"url": f"{self.url}/{asked['organization']}/{asked['name']}"})
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            listed = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            return self.answer({"files": listed})
        if "/commit/" in self.path:
            held = self.server.files["/".join(self.path.split("/")[3:5])]
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    held[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            done = {
                "commitOid": "0" * 40,
                "commitUrl": f"{self.url}/{NAME}/commit/{'0' * 40}",
                "success": True,
            }
            return self.answer(done)
        return self.answer({"errors": [], "warnings": []})  # validate-yaml

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.server.status:
            return self.answer({}, self.server.status)
        parts = self.path.lstrip("/").split("/")
        if parts[0] == "api":
            return self.answer({"id": NAME, "sha": "0" * 40, "siblings": []})
        repository, file = "/".join(parts[:2]), "/".join(parts[4:])
        if repository not in self.server.files:
            return self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        content = self.server.files[repository].get(file)
        if content is None:
            return self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        tag = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": "0" * 40}
        return self.answer(content, 200, tag)

    def answer(self, content: bytes | dict, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    """The hub's library tries again at once, not after its 1, 2, 4, ... seconds."""
    at_once = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", at_once)


@pytest.fixture
def server(monkeypatch, tmp_path):
    import huggingface_hub.constants

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.status = {}, None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", functools.partial(
        huggingface_hub.hf_hub_download, cache_dir=tmp_path / "cache", token="test"))  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", "test")
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with a log of half an hour, one evaluation with its audit, and no dataset."""
    folder = save_run(
        tmp_path_factory.mktemp("hub") / "walk", disparity=0.25, dataset="kitti", data_path="/gone"
    )
    lines = [{"step": n, "time": 1000 + 600 * n, "loss": 1.0} for n in range(1, 5)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = {
        "mean": {"abs_rel": 0.1234, "a1": 0.9},
        "constant": {"abs_rel": 0.4},
        "card": {"protocol": "KITTI, Eigen", "training list": "no overlap with the 697 evaluated frames"},
    }
    (folder / "evaluation/eigen_test").mkdir(parents=True)
    (folder / "evaluation/eigen_test/results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture
def street(tmp_path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)).save(tmp_path / "s.png")
    return tmp_path / "s.png"


def test_a_pushed_run_is_loaded_wherever_a_model_is_named(server, run, street, tmp_path, capsys):
    push([str(run), NAME, "--licence", "cc-by-4.0", "--image", str(street)])
    assert (
        sorted(server.files[NAME]) == [".gitattributes", "README.md", "example.jpg", "model.safetensors"][1:]
    )
    ours, theirs = load_predictor(run, "cpu"), load_predictor(f"hf://{NAME}", "cpu")
    image = torch.rand(3, 64, 96)
    assert torch.equal(ours(image), theirs(image)) and ours.unit == theirs.unit
    words = ["--image_path", str(street), "--output", str(tmp_path / "out"), "--device", "cpu"]
    predict_images([*words, "--load_weights_folder", f"hf://{NAME}"])
    assert (tmp_path / "out/s_disp.png").is_file()
    assert f"--run hf://{NAME}" in capsys.readouterr().out


def test_a_model_that_was_used_once_needs_no_network(server, run):
    push([str(run), NAME])
    load_checkpoint(f"hf://{NAME}")
    server.status = 503
    assert load_checkpoint(f"hf://{NAME}").options["method"] == "monodepth2"


def test_the_card_tells_unit_data_hours_licence_audit_and_image(run, street, tmp_path):
    out = tmp_path / "release"
    push([str(run), NAME, "--to", str(out), "--licence", "cc-by-4.0", "--image", str(street)])
    header, text = (out / "README.md").read_text().split("---\n", 2)[1:]
    assert yaml.safe_load(header)["license"] == "cc-by-4.0"
    for words in ("up to scale (learned from video only)", "kitti", "4 steps, 0.5 hours", "random",
                  "no overlap with the 697 evaluated frames", "| model | 0.123 |", "![An image",
                  f'parallax.load("hf://{NAME}")', "96 x 64"):  # fmt: skip
        assert words in text, words
    with safetensors.safe_open(out / "model.safetensors", "pt") as file:
        assert "/gone" not in str(file.metadata())
    with Image.open(out / "example.jpg") as image:
        assert image.size == (140, 50)


def test_without_dataset_and_licence_the_card_says_so(run, tmp_path, capsys):
    push([str(run), NAME, "--to", str(tmp_path / "out")])
    text = (tmp_path / "out/README.md").read_text()
    assert "license_name: not-stated" in text and "not stated; the terms" in text
    assert not (tmp_path / "out/example.jpg").exists() and "example.jpg" not in text
    assert "nothing was sent" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"cannot be written: .*(log in with hf auth login|private)"),
        (403, "cannot be written: the server refuses it for lack of rights; log in with hf auth login"),
        (500, "cannot be written: the server answers with status 500"),
    ],
)
def test_a_hub_that_refuses_is_one_sentence(server, run, status, sentence):
    server.status = status
    with pytest.raises(InputError, match=sentence):
        push([str(run), NAME])


def test_names_that_do_not_exist_are_one_sentence(server, run):
    with pytest.raises(InputError, match="there is no repository owner/wlak, or it is private"):
        load_checkpoint("hf://owner/wlak")
    push([str(run), NAME])
    with pytest.raises(
        InputError, match=r"other.pt of hf://owner/walk cannot be read: there is no such file"
    ):
        load_checkpoint(f"hf://{NAME}/other.pt")


@pytest.mark.parametrize("weights", hub.WEIGHTS)
def test_a_model_of_another_library_comes_with_its_configuration(server, weights):
    server.files["other/depth"] = {
        "config.json": b"{}",
        weights: b"weights",
        "large.msgpack": b"never fetched",
    }
    path = hub.fetch("hf:other/depth")
    assert path.name == weights and path.read_bytes() == b"weights"
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(["config.json", weights])


def test_a_repository_without_weights_is_one_sentence(server):
    server.files["other/depth"] = {"config.json": b"{}"}
    with pytest.raises(InputError, match="safetensors of hf://other/depth cannot be read: there is no such"):
        load_checkpoint("hf:other/depth")


def test_no_network_is_one_sentence(monkeypatch, run, tmp_path):
    import huggingface_hub

    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", functools.partial(
        huggingface_hub.hf_hub_download, cache_dir=tmp_path / "cache"))  # fmt: skip
    with pytest.raises(InputError, match="cannot be read: there is no network, and it is not in the cache"):
        load_checkpoint("hf://owner/walk")
    with pytest.raises(InputError, match="cannot be written: the server does not answer"):
        push([str(run), NAME])


@pytest.mark.parametrize("address", ["hf://walk", "hf:a b", "hf://a/b c", "hf://", "hf://a/b@"])
def test_other_addresses_are_refused(address):
    with pytest.raises(InputError, match="is not an address of a model on the hub; write hf://OWNER/NAME"):
        load_checkpoint(address)


def test_addresses_are_read_in_parts():
    assert hub.parse("hf://a/b@v2/sub/c.pt") == ("a/b", "v2", "sub/c.pt")
    assert hub.parse(Path("hf://a/b-1.0")) == ("a/b-1.0", None, None) == hub.parse("hf:a/b-1.0")
    assert hub.results_folder("hf://a/b") == hub.results_folder("hf:a/b") == Path("runs/b")
