"""Worlds of a test session: rendered once, also by two processes, and a test that writes into one is told."""

from __future__ import annotations

import multiprocessing

import pytest

from tests import worlds as module
from tests.worlds import Worlds


def render(plan) -> None:
    with open(plan.out.parent / "rendered", "a") as file:
        file.write(f"{plan.out.name}\n")
    plan.out.mkdir()
    (plan.out / "image.png").write_bytes(b"image")


def ask(folder) -> None:
    Worlds(folder).get("kitti", frames=3)


def test_two_processes_render_a_world_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "make", render)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=ask, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    ask(tmp_path)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len((tmp_path / "rendered").read_text().splitlines()) == 1


def test_each_plan_is_a_world_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "make", render)
    worlds = Worlds(tmp_path)
    found = {worlds.get("kitti"), worlds.get("kitti", frames=6), worlds.get("kitti", ext="jpg")}
    assert len(found) == 3 and worlds.get("kitti") in found


@pytest.mark.parametrize("change", ["overwrite", "remove"])
def test_a_world_that_was_changed_is_named(tmp_path, monkeypatch, change):
    monkeypatch.setattr(module, "make", render)
    worlds = Worlds(tmp_path)
    copy = worlds.copy(tmp_path / "copy", "ddad")
    (copy / "mask.png").write_bytes(b"mask")
    place = worlds.get("ddad")
    (place / "index.json").write_text("{}")  # datasets may derive files
    worlds.check()
    if change == "overwrite":
        (place / "image.png").write_bytes(b"another image")
    else:
        (place / "image.png").unlink()
    with pytest.raises(AssertionError, match=r"a test has changed .*ddad.*image\.png; copy .*ddad.* first"):
        worlds.check()
