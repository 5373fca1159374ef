"""The mirror of a run: on a local S3 server that the tests start, and in a plain folder."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest
import torch

import training.mirroring as mirroring
from checkpoints import load_checkpoint
from storage import Storage, Unreachable
from tests import runs
from tests.s3 import KEY, s3_server
from tests.test_trainer import assert_same
from tools import mirror as tool
from training.mirror import IDENTITY, JOURNAL, Mirror, fetch
from training.mirroring import Mirroring
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def server(monkeypatch):
    with s3_server(monkeypatch) as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    """A run folder with two epochs, whose links are hard links, and what is not mirrored."""
    folder = tmp_path / "runs/walk"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "options.yaml").write_text("method: monodepth2\n")
    for epoch in (1, 2):
        (folder / f"checkpoints/epoch_{epoch:04d}.pt").write_bytes(bytes([epoch]) * 1000)
    os.link(folder / "checkpoints/epoch_0001.pt", folder / "checkpoints/best.pt")
    os.link(folder / "checkpoints/epoch_0002.pt", folder / "checkpoints/last.pt")
    (folder / "checkpoints/.epoch_0003.pt.part").write_bytes(b"half")
    (folder / "lock.json").write_text("{}")
    return folder


LINKS = {"checkpoints/best.pt", "checkpoints/last.pt"}
EPOCHS = {f"checkpoints/epoch_{epoch:04d}.pt" for epoch in (1, 2)}
SENT = {"options.yaml", IDENTITY, *EPOCHS, *LINKS}


def sent_whole(folder: Path, url: str) -> Mirror:
    mirror = Mirror(folder, Storage(url))
    mirror.meet()
    mirror.send_missing()
    return mirror


# What is sent.


def test_s3_has_every_whole_file_and_no_other(server, folder):
    mirror = sent_whole(folder, "s3://runs/lab/walk")
    assert server.names("lab/walk/") == SENT and not mirror.missing()
    for name in SENT:
        assert server.content(f"lab/walk/{name}") == (folder / name).read_bytes()


def test_links_are_copied_in_the_storage(folder, tmp_path, monkeypatch):
    sent = []
    send = Storage.send
    monkeypatch.setattr(Storage, "send", lambda self, path, name: (sent.append(name), send(self, path, name)))
    sent_whole(folder, str(tmp_path / "mirror"))
    assert sorted(sent) == sorted(SENT - LINKS)
    assert (tmp_path / "mirror/checkpoints/best.pt").read_bytes() == b"\1" * 1000
    assert (tmp_path / "mirror/checkpoints/last.pt").read_bytes() == b"\2" * 1000


def test_only_what_changed_is_sent_again_after_a_restart(folder, tmp_path, monkeypatch):
    url = (tmp_path / "mirror").as_uri()
    sent_whole(folder, url)
    (folder / "options.yaml").write_text("method: packnet\n")
    assert Mirror(folder, Storage(url)).missing() == ["options.yaml"]
    other = Mirror(folder, Storage(str(tmp_path / "elsewhere")))
    assert set(other.missing()) == SENT  # the journal is of one address


def test_what_the_mirror_has_lost_is_sent_again(server, folder):
    sent_whole(folder, "s3://runs/walk")
    server.client.delete_object(Bucket="runs", Key="walk/checkpoints/epoch_0002.pt")
    sent_whole(folder, "s3://runs/walk")
    assert server.names("walk/") == SENT


def test_pruned_epochs_leave_the_mirror_others_stay(server, folder):
    sent_whole(folder, "s3://runs/walk")
    (folder / "checkpoints/epoch_0001.pt").unlink()
    (folder / "options.yaml").unlink()
    sent_whole(folder, "s3://runs/walk")
    assert server.names("walk/") == SENT - {"checkpoints/epoch_0001.pt"}
    (folder / "checkpoints/epoch_0002.pt").unlink()  # the latest one: nothing has replaced it
    sent_whole(folder, "s3://runs/walk")
    assert "checkpoints/epoch_0002.pt" in server.names("walk/")


def test_an_upload_that_breaks_leaves_no_half_file(folder, tmp_path, monkeypatch):
    storage = Storage(str(tmp_path / "mirror"))

    def breaking(source, target, **_):
        Path(target).write_bytes(Path(source).read_bytes()[:10])
        raise ConnectionResetError("gone")

    monkeypatch.setattr(storage._files, "put_file", breaking)
    with pytest.raises(Unreachable, match="gone"):
        storage.send(folder / "options.yaml", "options.yaml")
    assert storage.sizes() == {}


# Refusals.


def test_a_bucket_that_is_not_there_is_one_sentence(server, folder):
    with pytest.raises(
        InputError, match="s3://walks/a cannot be written: there is no bucket 'walks'; create"
    ):
        sent_whole(folder, "s3://walks/a")


def test_missing_rights_are_one_sentence(server, folder, monkeypatch):
    from moto import settings

    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
    with pytest.raises(
        InputError, match=r"s3://runs/a cannot be \w+: .*; check the credentials \(AWS_ACCESS"
    ):
        sent_whole(folder, "s3://runs/a")
    assert not (folder / JOURNAL).exists()


def test_missing_credentials_are_one_sentence(server, folder, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(InputError, match="there are no credentials; set AWS_ACCESS_KEY_ID"):
        sent_whole(folder, "s3://runs/a")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("s4://runs/a", "s4://runs/a is not an address of a storage; write s3://BUCKET/PREFIX"),
        ("s3:/runs/a", "s3:/runs/a is not an address of a storage; write s3://BUCKET/PREFIX"),
        ("s3://", "names no bucket; write s3://BUCKET/PREFIX"),
        ("s3://Walks!/a", "cannot be read: .*check the address and AWS_ENDPOINT_URL"),
    ],
)
def test_an_impossible_address_is_one_sentence(server, folder, url, sentence):
    with pytest.raises(InputError, match=sentence):
        sent_whole(folder, url)


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    import fsspec

    def without(*_, **__):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", without)
    with pytest.raises(InputError, match=r'is not installed: pip install -e "\.\[s3\]"'):
        Storage("s3://runs/a")


def test_the_mirror_of_another_run_is_not_overwritten(folder, tmp_path):
    url = str(tmp_path / "mirror")
    sent_whole(folder, url)
    other = tmp_path / "other/walk"
    other.mkdir(parents=True)
    with pytest.raises(InputError, match=r"is the mirror of another run; .*mirror\.py fetch .*mirror .*walk"):
        Mirroring(other, str(tmp_path), "mirror")
    assert fetch(Storage(url), tmp_path / "back/walk")


def test_a_mirror_inside_the_run_is_refused(folder):
    with pytest.raises(InputError, match="would be inside of"):
        Mirroring(folder, str(folder.parent), folder.name)


# Without a network.


def test_a_dead_network_delays_little_and_loses_nothing(server, folder, monkeypatch, capfd):
    monkeypatch.setattr(mirroring, "LOOK", 0.2)
    monkeypatch.setattr(mirroring, "CONTACT", runs.HANG)
    server.stop()
    started = time.monotonic()
    running = Mirroring(folder, "s3://runs/lab", "walk")
    assert time.monotonic() - started < mirroring.CONTACT
    (folder / "checkpoints/epoch_0003.pt").write_bytes(b"\3" * 1000)
    server.start()
    try:
        runs.wait_for(lambda: server.names("lab/walk/") == {*SENT, "checkpoints/epoch_0003.pt"})
    finally:
        running.close(5)
    said = capfd.readouterr().err
    assert said.count("the run goes on, and what is missing is sent later") == 1
    assert "is complete again" in said


def test_a_silent_network_is_not_waited_for(folder, monkeypatch, capfd):
    """A listening socket that never answers, as a firewall that drops packets."""
    pytest.importorskip("s3fs")
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mirroring, "CONTACT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as hole:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{hole.getsockname()[1]}")
        started = time.monotonic()
        running = Mirroring(folder, "s3://runs", "walk")
        running.close(1.0)
        assert time.monotonic() - started < 30  # the library itself waits for 60
    said = capfd.readouterr().err
    assert "s3://runs/walk has not answered within 1 s; the run goes on" in said
    assert "not yet at s3://runs/walk (not enough time); --resume auto sends them" in said


def test_what_a_run_could_not_send_the_next_one_sends(server, tiny_kitti, tmp_path, monkeypatch, capfd):
    words = runs.arguments(tiny_kitti, tmp_path, checkpoint_mirror="s3://runs/lab", num_epochs=1)
    server.stop()
    trainer = runs.train(words)
    assert trainer.finished and "not yet at s3://runs/lab/run (" in capfd.readouterr().err
    server.start()
    runs.train([*words, "--resume", "auto"])
    for name in ("checkpoints/last.pt", "checkpoints/best.pt", "log.jsonl", "options.yaml"):
        assert server.content(f"lab/run/{name}") == (tmp_path / "run" / name).read_bytes()
    assert "not yet" not in capfd.readouterr().err


# Whole runs.


def test_a_run_without_rights_stops_before_the_first_step(server, tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, checkpoint_mirror="s3://walks/lab")
    with pytest.raises(InputError, match="there is no bucket 'walks'"):
        runs.train(words)
    assert not (tmp_path / "run/log.jsonl").exists() and not (tmp_path / "run/lock.json").exists()
    words[words.index("s3://walks/lab")] = "s3://runs/lab"
    runs.train([*words, "--max_steps", "2"])
    assert "checkpoints/last.pt" in server.names("lab/run/")


def test_a_run_continues_from_its_mirror_on_another_machine(server, tiny_kitti, tmp_path, capsys):
    straight = runs.train(runs.arguments(tiny_kitti, tmp_path / "straight", num_epochs=2))
    here = runs.arguments(tiny_kitti, tmp_path / "here", checkpoint_mirror="s3://runs/lab", num_epochs=2)
    runs.train([*here, "--max_steps", "6"])
    tool.main(["fetch", "s3://runs/lab/run", str(tmp_path / "there/run")])
    assert "fetched" in capsys.readouterr().out
    there = runs.arguments(tiny_kitti, tmp_path / "there", checkpoint_mirror="s3://runs/lab", num_epochs=2)
    resumed = runs.train([*there, "--resume", "auto", "--max_steps", "none"])
    assert_same(dict(resumed.method.state_dict()), dict(straight.method.state_dict()))
    assert (
        server.content("lab/run/checkpoints/last.pt")
        == (tmp_path / "there/run/checkpoints/last.pt").read_bytes()
    )


def test_a_mirror_cut_before_last_continues_from_the_epoch(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, checkpoint_mirror=tmp_path / "mirror", num_epochs=1)
    runs.train(words)
    first = (tmp_path / "mirror/run/checkpoints/last.pt").read_bytes()
    runs.train([*words, "--num_epochs", "2", "--resume", "auto"])
    (tmp_path / "mirror/run/checkpoints/last.pt").write_bytes(first)
    fetch(Storage(str(tmp_path / "mirror/run")), tmp_path / "back/run")
    assert load_checkpoint(tmp_path / "back/run", which="last").training["epoch"] == 2


def test_fetch_refuses_a_folder_in_use_and_an_empty_mirror(folder, tmp_path):
    sent_whole(folder, str(tmp_path / "mirror"))
    with pytest.raises(InputError, match="exists and is not empty; give another folder"):
        tool.main(["fetch", str(tmp_path / "mirror"), str(folder)])
    with pytest.raises(InputError, match="is not the mirror of a run"):
        tool.main(["fetch", str(tmp_path / "nothing"), str(tmp_path / "new")])


def test_the_tool_sends_what_is_missing(folder, tmp_path, capsys):
    (folder / "lock.json").unlink()
    tool.main(["send", str(folder), str(tmp_path / "mirror")])
    assert f"sent {len(SENT) - 1} files" in capsys.readouterr().out
    tool.main(["send", str(folder), str(tmp_path / "mirror")])
    assert "sent 0 files" in capsys.readouterr().out
    assert json.loads((folder / JOURNAL).read_text())["url"] == str(tmp_path / "mirror")


def test_a_release_does_not_tell_the_address(tmp_path):
    from checkpoints import Checkpoint, export_weights

    options = {"method": "monodepth2", "checkpoint_mirror": "s3://secret/lab"}
    export_weights(tmp_path / "a.safetensors", Checkpoint({"depth.w": torch.zeros(1)}, options))
    assert "checkpoint_mirror" not in load_checkpoint(tmp_path / "a.safetensors").options
