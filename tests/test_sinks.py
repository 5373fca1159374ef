"""The content of each sink after the same run."""

from __future__ import annotations

import errno
import importlib
import json
import math
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from logs import RunLog
from sinks import JsonLines, TensorBoard, Wandb, open_sinks, with_section
from tests import runs
from tools import report
from utils import PROJECT, InputError

GRID = np.full((8, 16, 3), 200, np.uint8)
CLOUD = (np.array([[30.0, 20.0, 10.0]], np.float32), np.array([[255, 0, 0]], np.uint8))


def test_names_without_a_slash_are_from_training():
    found = with_section({"epoch": 1, "loss": 0.5, "val/abs_rel": 0.1})
    assert found == {"train/loss": 0.5, "val/abs_rel": 0.1}


def test_json_lines_keep_step_and_values(tmp_path):
    sink = JsonLines(tmp_path / "log.jsonl")
    sink.scalars(3, {"epoch": 0, "loss": 0.5})
    sink.images(3, {"grid": GRID})
    sink.close()
    (record,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert record.pop("time") > 0 and record == {"step": 3, "epoch": 0, "loss": 0.5}


def test_resumed_json_lines_drop_later_steps_and_half_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    JsonLines(path, step=2).close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_damaged_lines_of_a_resumed_log_are_left_out(tmp_path):
    """A machine that lost power leaves zeros or other bytes; the lines around them are kept."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n\0\0\0\n\xff\xfe\n7\n[1]\n{"no": 1}\n{"step": "1"}\n{"step": 2}\n{"st')
    JsonLines(path, step=1).close()
    assert path.read_text() == '{"step": 1}\n'


def test_full_disk_under_the_log_is_one_sentence(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    sink = JsonLines(tmp_path / "log.jsonl")
    with pytest.raises(InputError, match=r"log\.jsonl cannot be written: the disk is full"):
        sink.scalars(1, {"loss": 0.5})
    sink.close()


def test_full_disk_under_tensorboard_is_told_at_once(tmp_path, monkeypatch, capfd):
    """A thread writes the events. Its error is raised where the numbers are logged, without its traceback."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    sink = TensorBoard(tmp_path)
    sink.scalars(1, {"loss": 0.5})

    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(InputError, match="cannot be written: the disk is full; free some space"):
        for step in range(2, 300):  # the thread may still be falling when the first is flushed
            sink.scalars(step, {"loss": 0.5})
            time.sleep(0.1)
    sink.close()
    assert "Traceback" not in capfd.readouterr().err


def test_tensorboard_holds_scalars_images_and_clouds(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoard(tmp_path)
    sink.scalars(3, {"epoch": 0, "loss": 0.5, "val/abs_rel": 0.25})
    sink.images(3, {"target | disparity": GRID})
    sink.clouds(3, {"cloud": CLOUD})
    sink.close()
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in board.Scalars("val/abs_rel")] == [(3, 0.25)]
    assert board.Tags()["images"] == ["target | disparity"]
    assert "cloud_VERTEX" in board.Tags()["tensors"]


def test_missing_package_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(InputError, match=r"needs the package trackio.*: pip install trackio"):
        open_sinks(tmp_path, {"trackio": True}, 0)


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """Weights & Biases without a network and without files outside of the test's folder."""
    package = importlib.import_module("wandb")
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setitem(os.environ, "WANDB_DISABLE_GIT", "true")
    return package


def chunks_of(data: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log, which wandb writes after a header of 7 bytes."""
    position, parts = 7, []
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # the end of a block is padding
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        parts.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield b"".join(parts)
            parts = []


def records_of(folder: Path) -> list[dict]:
    """The content of the files of offline runs, one dict per log call."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for record in complete(path):
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                found.append({i.key or i.nested_key[0]: json.loads(i.value_json) for i in items})
    return found


def complete(path: Path) -> list:
    """The records of one run, once its service process has written the last one, `exit`."""
    from wandb.proto import wandb_internal_pb2

    deadline = time.monotonic() + runs.HANG
    while time.monotonic() < deadline:
        records = [wandb_internal_pb2.Record.FromString(data) for data in chunks_of(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} was not finished")


def test_offline_wandb_holds_scalars_images_and_clouds(wandb, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    sink = Wandb(folder, {"learning_rate": 1e-4}, offline=True)
    sink.scalars(3, {"epoch": 0, "loss": 0.5, "val/abs_rel": 0.25})
    sink.images(3, {"target | disparity": GRID})
    sink.clouds(3, {"cloud": CLOUD})
    sink.close()
    scalars, *media = records_of(folder)
    assert (scalars["step"], scalars["train/loss"], scalars["val/abs_rel"]) == (3, 0.5, 0.25)
    assert [record["step"] for record in media] == [3, 3]
    (image,) = folder.glob("wandb/offline-run-*/files/media/images/target*.png")
    with Image.open(image) as shown:
        assert np.array_equal(np.asarray(shown), GRID)
    (cloud,) = folder.glob("wandb/offline-run-*/files/media/object3D/cloud*.pts.json")
    assert json.loads(cloud.read_text()) == [[30.0, 20.0, 10.0, 255.0, 0.0, 0.0]]


def test_resumed_wandb_run_keeps_its_id(wandb, tmp_path):
    folder = tmp_path / "run"
    for step in (1, 2):
        with RunLog(folder, {"wandb": "offline"}, 4, step - 1, active=True) as log:
            log.step(step, 0, {"loss": 1.0 / step})
    note = (folder / "wandb_id.txt").read_text()
    names = {path.name.split("-")[3] for path in folder.glob("wandb/offline-run-*")}
    assert names == {note}
    assert [record["train/loss"] for record in records_of(folder)] == [1.0, 0.5]


def test_scalars_are_means_over_log_frequency_steps(tmp_path):
    losses = [1.0, 2.0, 3.0, math.nan, 5.0, math.nan, math.nan]
    with RunLog(tmp_path, {"log_frequency": 3}, total_steps=20, step=0, active=True) as log:
        for step, loss in enumerate(losses, 1):
            log.time(samples=4, waited=1.0, worked=3.0)
            log.step(step, 0, {"loss": loss})
        assert log._shown == 7
        log.flush()
        log.flush()  # nothing is left
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(r["step"], r["samples_per_second"], r["data_wait"]) for r in records] == [
        (3, 1, 0.25),
        (6, 1, 0.25),
        (7, 1, 0.25),
    ]
    assert [r["loss"] for r in records[:2]] == [2.0, 5.0] and math.isnan(records[2]["loss"])


# In a process of its own: trackio reads its folder from the environment when it is imported.
TRACKIO = """
from pathlib import Path

import numpy as np

from sinks import open_sinks

for step, loss in ((3, 0.5), (6, 0.25)):
    sinks = open_sinks(Path("walk"), {"trackio": True, "learning_rate": 1e-4}, step)
    sinks[-1].scalars(step, {"epoch": 0, "loss": loss, "val/abs_rel": 0.125})
    sinks[-1].images(step, {"val/image | inverse_depth": np.full((8, 16, 3), 200, np.uint8)})
    sinks[-1].report(Path("walk/report.html"))
    for sink in sinks:
        sink.close()
from trackio.sqlite_storage import SQLiteStorage

for record in SQLiteStorage.get_logs("parallax", "walk"):
    print("RECORD", record)
print("CONFIG", SQLiteStorage.get_run_config("parallax", "walk"))
"""


def test_trackio_holds_scalars_images_and_the_report(tmp_path):
    pytest.importorskip("trackio")
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk/report.html").write_text("<p>report</p>")
    places = {
        "TRACKIO_DIR": str(tmp_path / "board"),
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path]),
    }
    done = subprocess.run(
        [sys.executable, "-c", TRACKIO],
        cwd=tmp_path,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        timeout=runs.HANG,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    for part in ("'train/loss': 0.5, 'val/abs_rel': 0.125", "'train/loss': 0.25", "'step': 6"):
        assert part in said, said
    assert said.count("'val/image | inverse_depth': {'_type': 'trackio.image'") == 2
    assert f"Report of this run: `{(tmp_path / 'walk/report.html').resolve()}`" in said
    assert len(list((tmp_path / "board").rglob("*.png"))) == 2


def test_wandb_shows_the_report_of_the_run(wandb, tmp_path):
    """A report that was made while the run was trained."""
    folder = tmp_path / "run"
    with RunLog(folder, {"wandb": "offline"}, 1, 0, active=True) as log:
        log.step(1, 0, {"loss": 1.0})
        (folder / "report.html").write_text("<p>made while it ran</p>")
    *_, record = records_of(folder)
    (page,) = folder.glob("wandb/offline-run-*/files/media/html/report*.html")
    assert "report" in record and page.read_text() == "<p>made while it ran</p>"


def test_a_later_report_is_added_to_the_runs_page(wandb, tmp_path, capsys):
    folder = tmp_path / "run"
    with RunLog(folder, {"wandb": "offline"}, 1, 0, active=True) as log:
        log.step(1, 0, {"loss": 1.0})
    report.main([str(folder), "--device", "cpu", "--track"])
    (page,) = folder.glob("wandb/offline-run-*/files/media/html/report*.html")
    assert page.read_text() == (folder / "report.html").read_text()
    names = {path.name.split("-")[3] for path in folder.glob("wandb/offline-run-*")}
    assert names == {(folder / "wandb_id.txt").read_text()}  # one run, its report in a second session


def test_track_needs_a_run_with_a_service(tmp_path):
    with RunLog(tmp_path / "run", {}, 1, 0, active=True) as log:
        log.step(1, 0, {"loss": 1.0})
    with pytest.raises(InputError, match="was logged to no service; leave out --track"):
        report.main([str(tmp_path / "run"), "--device", "cpu", "--track"])
    assert not (tmp_path / "run/report.html").exists()


def test_every_sink_gets_the_same_validation_images(tiny_kitti, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(TensorBoard, "images", lambda self, step, images: shown.append((step, images)))
    words = runs.arguments(tiny_kitti, tmp_path, batch_size=16, num_epochs=1)
    runs.train(words)
    runs.train([*words, "--num_epochs", "3", "--resume", "auto"])
    named = [(step, *item) for step, images in shown for item in images.items()]
    grids = [(step, name, grid) for step, name, grid in named if name.startswith("val/")]
    assert [(step, name) for step, name, _ in grids] == [
        (step, "val/image | inverse_depth | ground_truth") for step in (1, 2, 3)
    ]
    columns = [[grid[:, start : start + 96] for start in (0, 100, 200)] for _, _, grid in grids]
    for images, _, ground_truths in columns:
        assert np.array_equal(images, columns[0][0]) and np.array_equal(ground_truths, columns[0][2])
        assert len(np.unique(images.reshape(-1, 3), axis=0)) > 100
    assert not np.array_equal(columns[0][1], columns[2][1])  # the prediction changes
    assert len(grids[0][2]) == 3 * 64 + 2 * 4  # the lists validate on three images
