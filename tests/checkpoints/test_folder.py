"""A run folder: one writer, the newest and the best checkpoint after a kill at any place, leftovers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

import checkpoints._own
from checkpoints import (
    Checkpoint,
    RunFolder,
    epoch_path,
    load_checkpoint,
    save_checkpoint,
    to_resume,
    update_link,
)
from checkpoints._lock import STALE, RunLock, _identity
from tests import runs
from utils import InputError


def state(epoch, value, best, position=0, step=None) -> Checkpoint:
    """After an epoch of four steps, with this metric and this best so far."""
    training = {
        "epoch": epoch,
        "position": position,
        "step": 4 * epoch + position if step is None else step,
        "metrics": {} if value is None else {"abs_rel": value},
        "best": None if best is None else {"metric": "abs_rel", "protocol": "eigen", "value": best},
        "is_best": value is not None and value == best,
        "optimizer": {},
    }
    return Checkpoint(
        {"encoder.a": torch.tensor([float(epoch)])}, {"method": "monodepth2"}, training=training
    )


EPOCHS = [(1, 0.4, 0.4), (2, 0.2, 0.2), (3, 0.3, 0.2), (4, 0.1, 0.1)]  # epoch, its metric, the best so far


def save(folder: RunFolder, epochs=EPOCHS) -> None:
    for epoch, value, best in epochs:
        folder.save(state(epoch, None, best if value != best else None, position=4, step=4 * epoch), False, 0)
        folder.save(state(epoch, value, best), value == best, 0)


class Killed(BaseException):
    """In place of SIGKILL."""


@pytest.mark.parametrize("write", range(22))
def test_best_and_last_agree_after_a_kill_at_any_place(tmp_path, monkeypatch, write):
    """Each epoch writes last.pt, its own file, and one or two links; the kill comes before one of them."""
    count = 0
    inner = {"replace": os.replace, "link": os.link}

    def counted(name):
        def call(*arguments, **named):
            nonlocal count
            count += 1
            if count == write + 1:
                raise Killed
            return inner[name](*arguments, **named)

        return call

    for name in inner:
        monkeypatch.setattr(os, name, counted(name))
    folder = RunFolder(tmp_path)
    with pytest.raises(Killed):
        save(folder)
    monkeypatch.undo()

    def check(where):
        last, best = (load_checkpoint(where, which).training for which in ("last", "best"))
        if last["metrics"]:
            assert last["best"]["value"] == best["metrics"]["abs_rel"]
        return last["step"], bool(last["metrics"])

    if count == 1:
        assert folder.to_resume() is None
        return
    found = check(tmp_path)
    again = RunFolder(tmp_path)
    again.claim()
    again.release()
    assert check(tmp_path) == found
    step, validated = found
    assert load_checkpoint(again.last).training["step"] == step
    save(again, [entry for entry in EPOCHS if 4 * entry[0] > step - (not validated)])
    assert load_checkpoint(tmp_path, "best").training["metrics"] == {"abs_rel": 0.1}


def test_a_folder_without_last_continues_from_the_newest_epoch(tmp_path):
    save(RunFolder(tmp_path))
    for name in ("last.pt", "best.pt"):
        (tmp_path / "checkpoints" / name).unlink()
    folder = RunFolder(tmp_path)
    assert folder.to_resume() == epoch_path(folder.checkpoints, 4)
    folder.claim()
    folder.release()
    assert load_checkpoint(folder.last).training["step"] == 16
    assert load_checkpoint(folder.best).training["metrics"] == {"abs_rel": 0.1}


def test_a_best_that_is_nowhere_is_not_replaced_by_a_worse_epoch(tmp_path):
    save(RunFolder(tmp_path), EPOCHS[:3])
    folder = RunFolder(tmp_path)
    folder.best.unlink()
    epoch_path(folder.checkpoints, 2).unlink()
    assert not folder.has_best()
    folder.claim()
    folder.release()
    assert not folder.best.exists()


def test_a_folder_with_only_best_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    save(folder)
    for path in (folder.last, *folder.checkpoints.glob("epoch_*")):
        path.unlink()
    with pytest.raises(
        InputError, match=r"neither last\.pt nor a file of an epoch; --resume .*best\.pt cont"
    ):
        folder.to_resume()


def test_a_copy_without_hard_links_keeps_its_last_and_best(tmp_path):
    save(RunFolder(tmp_path / "one"), EPOCHS[:3])
    shutil.copytree(tmp_path / "one", tmp_path / "two", copy_function=shutil.copyfile)
    folder = RunFolder(tmp_path / "two")
    assert load_checkpoint(folder.to_resume()).training["step"] == 12
    assert load_checkpoint(tmp_path / "two", "best").training["epoch"] == 2


def test_run_taken_back_to_an_earlier_epoch_continues_there(tmp_path):
    folder = RunFolder(tmp_path)
    save(folder)
    time.sleep(0.02)
    folder.save(state(2, None, 0.1, position=1), False, 0)
    assert folder.to_resume() == folder.last


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    folder = RunFolder(tmp_path)
    save(folder, EPOCHS[:1])
    (folder.checkpoints / ".epoch_0001.pt.abc.part").write_text("half")
    (folder.path / ".options.yaml.abc.part").write_text("half")
    (folder.checkpoints / ".best.pt.abc").mkdir()
    (folder.path / "lock.json.99").write_text("")
    folder = RunFolder(tmp_path)
    folder.claim()
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == [
        "best.pt",
        "epoch_0001.pt",
        "last.pt",
    ]
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "lock.json"]
    folder.release()
    assert not (folder.path / "lock.json").exists()


def test_a_damaged_checkpoint_names_an_earlier_one(tmp_path):
    folder = RunFolder(tmp_path)
    save(folder, EPOCHS[:2])
    folder.last.unlink()
    path = epoch_path(folder.checkpoints, 2)
    data = bytearray(path.read_bytes())
    data[data.index(torch.tensor([2.0]).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"0002\.pt is damaged.*; --resume .*epoch_0001\.pt continues from"):
        to_resume(path)


def test_a_checkpoint_is_looked_at_without_reading_its_tensors(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "x.pt", state(1, 0.4, 0.4))
    found = []
    inner = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **named: found.append(named["mmap"]) or inner(*a, **named))
    assert checkpoints._own.peek(tmp_path / "x.pt")["step"] == 4 and found == [True]


# The lock.


@pytest.fixture
def other_process():
    """A process that does nothing."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()  # closes its pipe as well


def lock_of(pid, **changes):
    from checkpoints._lock import _started

    return json.dumps({**_identity(), "pid": pid, "started": _started(pid), **changes})


def test_a_folder_has_one_writer_also_if_that_is_suspended(tmp_path, other_process):
    lock = RunLock(tmp_path / "lock.json")
    lock.path.write_text(lock_of(other_process.pid))
    other_process.send_signal(19)  # SIGSTOP
    for refused in (lock.check, lock.take):
        with pytest.raises(InputError, match=rf"is in use by process {other_process.pid} on .*--model_name$"):
            refused()
    assert json.loads(lock.path.read_text())["pid"] == other_process.pid


def test_a_lock_of_a_process_that_ended_is_taken_over(tmp_path, other_process):
    lock = RunLock(tmp_path / "lock.json")
    lock.path.write_text(lock_of(other_process.pid))
    other_process.kill()
    while os.waitid(os.P_PID, other_process.pid, os.WEXITED | os.WNOWAIT) is None:
        pass  # from here on it is a zombie
    lock.take()
    assert json.loads(lock.path.read_text())["pid"] == os.getpid()
    lock.release()
    assert not list(tmp_path.iterdir())


def test_reused_process_number_is_another_process(tmp_path, other_process):
    lock = RunLock(tmp_path / "lock.json")
    lock.path.write_text(lock_of(other_process.pid, started="1"))
    lock.check()


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"boot": "another"}, {"space": "pid:[1]"}])
def test_a_lock_of_another_machine_holds_while_it_is_renewed(tmp_path, changes):
    lock = RunLock(tmp_path / "lock.json")
    lock.path.write_text(lock_of(1, **changes))
    with pytest.raises(InputError, match=r"if it has ended already, remove .*lock\.json"):
        lock.check()
    long_ago = time.time() - STALE - 5
    os.utime(lock.path, (long_ago, long_ago))
    lock.take()
    lock.release()


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_an_unreadable_lock_holds_until_it_is_old(tmp_path, text):
    lock = RunLock(tmp_path / "lock.json")
    lock.path.write_text(text)
    with pytest.raises(InputError, match=r"in use by process \? on \?"):
        lock.check()
    os.utime(lock.path, (0, 0))
    lock.take()
    lock.release()


def test_a_lock_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr("checkpoints._lock.BEAT", 0.01)
    lock = RunLock(tmp_path / "lock.json")
    lock.take()
    os.utime(lock.path, (0, 0))
    runs.wait_for(lambda: lock.path.stat().st_mtime > 1)
    lock.release()


def test_a_release_leaves_the_lock_of_another_process(tmp_path, other_process):
    lock = RunLock(tmp_path / "lock.json")
    lock.take()
    lock.path.write_text(lock_of(other_process.pid))
    lock.release()
    assert lock.path.exists()


def test_a_folder_that_was_written_since_it_was_read_is_refused(tmp_path):
    late = RunFolder(tmp_path)
    save(RunFolder(tmp_path), EPOCHS[:1])
    with pytest.raises(InputError, match=r"another process has written .* meanwhile; start again"):
        late.claim()
    assert not late.lock.path.exists()


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    (tmp_path / "log.jsonl").touch()
    folder.check()
    denied = tmp_path / "log.jsonl"
    monkeypatch.setattr(os, "access", lambda path, mode: path != denied)
    with pytest.raises(InputError, match=r"log\.jsonl cannot be written: no permission; .*--log_dir"):
        folder.check()
    denied = folder.checkpoints
    with pytest.raises(InputError, match=r"the run folder .*checkpoints cannot be written"):
        folder.check()


def test_links_are_made_to_the_file_itself(tmp_path):
    save_checkpoint(epoch_path(tmp_path, 1), state(1, 0.4, 0.4))
    update_link(tmp_path / "best.pt", epoch_path(tmp_path, 1))
    assert (tmp_path / "best.pt").samefile(epoch_path(tmp_path, 1))
