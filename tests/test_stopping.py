"""Early stops of a run: the state is saved first, and one sentence gives the cause."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch

from checkpoints import load_checkpoint
from logs import RunLog
from processes import Processes
from schedule import Progress
from tests import runs
from tests.test_trainer import assert_same
from trainer import Trainer
from training.resuming import check_agreement
from training.stopping import REPEAT, StopRequest, as_sentence, of_loader
from utils import InputError

pytestmark = pytest.mark.usefixtures("one_thread")


# Signals.


def test_ctrl_c_in_a_terminal_saves_and_exits_well(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, num_epochs=1000, num_workers=1)
    process = runs.start("run.py", *words, start_new_session=True)
    log = tmp_path / "run/log.jsonl"
    runs.wait_for(lambda: log.exists() and len(log.read_text().splitlines()) > 2, process)
    os.killpg(process.pid, signal.SIGINT)  # the loader's process gets it too
    output = runs.finish(process)
    step = runs.last(tmp_path).training["step"]
    assert f"stopped after step {step}, everything saved; --resume auto continues from there" in output
    assert "Ctrl-C again ends at once" in output and "Traceback" not in output
    assert not (tmp_path / "run/lock.json").exists()


def test_a_second_ctrl_c_ends_at_once(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("training.stopping.time.monotonic", lambda: now[0])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    with StopRequest(speaks=False) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested
        os.kill(os.getpid(), signal.SIGINT)  # torchrun hands on what the terminal has sent already
        now[0] += REPEAT + 0.1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.signal(signal.SIGINT, before) == signal.default_int_handler


# Images.


@pytest.fixture
def broken(tiny_folder, tmp_path):
    """The folder with one image cut off."""
    scene = shutil.copytree(tiny_folder, tmp_path / "scene")
    path = scene / "004.png"
    path.write_bytes(path.read_bytes()[:100])
    return scene


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_saves_the_state_before_it_stops_the_run(broken, tiny_folder, tmp_path, workers):
    words = runs.arguments(broken, tmp_path, batch_size=1, num_workers=workers)
    with pytest.raises(InputError) as caught:
        runs.build(words).train()
    step = runs.last(tmp_path).training["step"] if (tmp_path / "run/checkpoints").exists() else 0
    assert "004.png" in str(caught.value)
    assert not (tmp_path / "run/lock.json").exists()
    if step:
        assert f"; the state after step {step} is saved, --resume auto continues" in str(caught.value)
    shutil.copy(tiny_folder / "004.png", broken / "004.png")
    resumed = runs.train([*words, "--resume", "auto"])
    straight = runs.train(runs.arguments(tiny_folder, tmp_path / "straight", batch_size=1))
    assert_same(dict(resumed.method.state_dict()), dict(straight.method.state_dict()))


def test_an_error_of_one_process_ends_all_of_them(monkeypatch):
    """A broken validation image stops the others too, which would wait for its share for ever."""
    ranks = Processes(torch.device("cpu"))
    assert ranks.together(lambda: 5) == 5
    monkeypatch.setattr(ranks, "world", 2)
    monkeypatch.setattr(ranks, "gather", lambda value: [value, None])
    assert ranks.together(lambda: 5) == 5
    monkeypatch.setattr(ranks, "gather", lambda value: [value, "b.png is broken"])
    with pytest.raises(InputError, match=r"b\.png is broken"):
        ranks.together(lambda: 5)


def test_skip_missing_passes_a_broken_image_by(broken, tmp_path, capfd):
    words = runs.arguments(broken, tmp_path, batch_size=2, num_epochs=1, skip_missing=True)
    trainer = runs.train(words)
    assert trainer.finished
    assert "004.png" in (said := capfd.readouterr().err) and "takes its place" in said


def test_a_folder_of_broken_images_is_not_passed_by(tiny_folder, tmp_path):
    scene = shutil.copytree(tiny_folder, tmp_path / "scene")
    trainer = runs.build(runs.arguments(scene, tmp_path, batch_size=2, skip_missing=True))
    for path in scene.glob("*.png"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"\.png"):
        trainer.train()


# Disks and machines.


@pytest.mark.parametrize("write", ["step", "validation", "images"])
def test_a_full_disk_under_the_log_saves_the_state_first(tiny_kitti, tmp_path, monkeypatch, write):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/log.jsonl")

    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, num_epochs=1, log_frequency=2))
    monkeypatch.setattr(RunLog, write, full)
    with pytest.raises(InputError) as caught:
        trainer.train()
    step = runs.last(tmp_path).training["step"]
    assert step == {"step": 1, "images": 1, "validation": 4}[write]
    assert str(caught.value) == (
        "runs/log.jsonl cannot be written: No space left on device; free some space and resume; "
        f"the state after step {step} is saved, --resume auto continues from there"
    )


def test_a_log_that_cannot_be_opened_is_one_sentence(tiny_kitti, tmp_path):
    (tmp_path / "run/log.jsonl").mkdir(parents=True)
    with pytest.raises(InputError, match=r"log\.jsonl cannot be written: Is a directory"):
        runs.train(runs.arguments(tiny_kitti, tmp_path))
    assert not (tmp_path / "run/lock.json").exists()


def test_a_killed_loader_process_saves_the_state_and_is_named(tiny_kitti, tmp_path):
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, num_epochs=50, num_workers=1))
    inner = trainer.step

    def killing(batches):
        if trainer.progress.step == 2:
            for worker in trainer.loader._iterator._workers:
                os.kill(worker.pid, signal.SIGKILL)
        return inner(batches)

    trainer.step = killing
    with pytest.raises(InputError, match=r"a loader process ended unexpectedly .*--num_workers.* is saved"):
        trainer.train()
    assert runs.last(tmp_path).training["step"] == trainer.progress.step >= 3


def test_other_errors_of_a_loader_keep_their_traceback():
    assert of_loader(RuntimeError("shape mismatch")) is None
    assert str(as_sentence(PermissionError(13, "Permission denied", "a/b"), "run")) == (
        "a/b cannot be written: Permission denied"
    )


@pytest.fixture
def small_shared_memory(monkeypatch):
    """A /dev/shm with some megabytes free."""

    def free(megabytes):
        state = os.statvfs("/")
        values = list(state)
        values[1], values[4] = 1000, int(megabytes * 1000)  # bytes of a fragment; free fragments
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))

    return free


def test_a_small_shared_memory_is_refused_with_what_fits(small_shared_memory, tiny_kitti, tmp_path):
    small_shared_memory(0.3)
    with pytest.raises(
        InputError, match=r"/dev/shm has 0 MB free .*--shm-size 2g\), or give --num_workers 0"
    ):
        runs.build(runs.arguments(tiny_kitti, tmp_path, num_workers=2))
    runs.build(runs.arguments(tiny_kitti, tmp_path, num_workers=0))


def test_a_validation_by_the_loss_fits_shared_memory_too(small_shared_memory, tiny_kitti, tmp_path):
    trainer = runs.build(runs.arguments(tiny_kitti, tmp_path, num_workers=2, monitor="loss"))
    small_shared_memory(0.3)
    with pytest.raises(InputError, match=r"/dev/shm has 0 MB free .*or give --num_workers 0"):
        trainer.validate()


# Runs in one folder.


def test_a_second_run_in_the_folder_is_refused(tiny_kitti, tmp_path):
    words = runs.arguments(tiny_kitti, tmp_path, num_epochs=1000)
    process = runs.start("run.py", *words)
    log = tmp_path / "run/log.jsonl"
    try:
        runs.wait_for(lambda: log.exists() and log.read_text(), process)
        os.kill(process.pid, signal.SIGSTOP)
        before = log.read_text()
        for resume in ("never", "auto"):
            with pytest.raises(InputError, match=rf"run is in use by process {process.pid} on "):
                runs.build([*words, "--resume", resume])
        assert log.read_text() == before
    finally:
        process.kill()
        process.communicate()  # closes its pipe as well
    trainer = runs.build([*words, "--resume", "auto", "--max_steps", "1"])  # the lock is stale now
    trainer.train()


def test_a_run_without_last_continues_from_its_newest_epoch(tiny_kitti, tmp_path, capsys, monkeypatch):
    scores = iter([0.3, 0.4])
    monkeypatch.setattr(Trainer, "validate", lambda self: {"abs_rel": next(scores)})
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=8, num_epochs=2)
    runs.train(words)
    for name in ("last", "best"):
        (tmp_path / f"run/checkpoints/{name}.pt").unlink()
    trainer = runs.train([*words, "--resume", "auto"])
    assert (trainer.progress.step, trainer.best.value) == (4, 0.3)
    output = capsys.readouterr().err
    assert "last.pt is missing or older; the run continues from" in output and "epoch_0002.pt" in output
    assert [r["step"] for r in runs.records(tmp_path) if "loss" in r] == [1, 2, 3, 4]
    assert load_checkpoint(tmp_path / "run/checkpoints/best.pt").training["epoch"] == 1


@pytest.mark.parametrize("kill", ["before the log", "before the save"])
def test_a_validation_is_logged_once(tiny_kitti, tmp_path, monkeypatch, kill):
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=8, num_epochs=1)
    trainer = runs.build(words)

    def killed(*_, **__):
        raise KeyboardInterrupt

    if kill == "before the log":
        monkeypatch.setattr(trainer, "_log_validation", killed)
    else:
        inner = trainer._save
        monkeypatch.setattr(trainer, "_save", lambda *a: killed() if len(a) > 1 else inner(*a))
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert not [r for r in runs.records(tmp_path) if "val/abs_rel" in r]
    for _ in range(2):
        trainer = runs.train([*words, "--resume", "auto"])
    assert len([r for r in runs.records(tmp_path) if "val/abs_rel" in r]) == 1
    assert trainer.best is not None


def test_processes_that_see_different_data_stop(tmp_path):
    processes = SimpleNamespace(gather=lambda value: [21, 20] if value == 21 else [value, value])
    with pytest.raises(InputError, match=r"training samples \(process 0: 21, process 1: 20\); every machine"):
        check_agreement(processes, Progress(), tmp_path, 21)
    check_agreement(processes, Progress(), tmp_path, 20)


def test_processes_that_disagree_on_the_step_stop(tiny_kitti, tmp_path):
    """Two machines with a folder each, by --log_dir relative to their own home."""
    words = runs.arguments(tiny_kitti, "logs", batch_size=2, max_steps=1)
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(runs.free_port()), "WORLD_SIZE": "2"}
    runs.train(runs.arguments(tiny_kitti, tmp_path / "0/logs", batch_size=2, max_steps=1))
    processes = []
    for rank in range(2):
        home = tmp_path / str(rank)
        home.mkdir(exist_ok=True)
        words[words.index("--log_dir") + 1] = str(home / "logs")
        code = (
            f"import os; os.environ.update({ {**environment, 'RANK': str(rank)}!r}); import run; "
            f"from utils import run_main; run_main(lambda: run.main({[*words, '--resume', 'auto']!r}))"
        )
        processes.append(runs.start("-c", code))
    for process in processes:
        output = runs.finish(process, expected=2)
        assert "do not continue from the same step (process 0: step 1, process 1: step 0)" in output
        assert "put --log_dir on a shared file system" in output
        assert "Traceback" not in output and output.count("error:") == 1
