"""Derived files: unchanged sources are recognised, changed ones are named."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from provenance import PIECE, content, difference, fingerprint, origin, unchanged


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.bin").write_bytes(bytes(range(256)) * 4)
    return tmp_path / "data"


def test_same_sources_and_settings_have_no_difference(data):
    made = origin([data / "a.bin"], data, ratio=0.75, K=np.eye(3), size=(3, 4), out=data)
    assert difference(made, data, ratio=0.75, K=np.eye(3), size=[3, 4], out=str(data)) is None
    assert list(made["sources"]) == ["a.bin"]


def test_changed_setting_is_named_with_both_values(data):
    made = origin([], data, ratio=0.75)
    assert difference(made, data, ratio=0.8) == "ratio was 0.75 and is 0.8"
    assert difference(made, data, ratio=0.75, version=2) == "version was null and is 2"


def test_same_size_with_other_content_is_a_change(data):
    made = origin([data / "a.bin"], data)
    (data / "a.bin").write_bytes(bytes(1024))
    os.utime(data / "a.bin", ns=(1, 1))
    assert difference(made, data) == "a.bin has changed"


def test_copy_with_another_time_is_unchanged(data):
    made = origin([data / "a.bin"], data)
    copy = shutil.copytree(data, data.parent / "copy", copy_function=shutil.copy)
    os.utime(copy / "a.bin", ns=(1, 1))
    assert difference(made, copy) is None


def test_removed_source_counts_as_unchanged(data):
    made = origin([data / "a.bin"], data)
    (data / "a.bin").unlink()
    assert difference(made, data) is None


def test_source_that_appears_later_is_a_change(data):
    made = origin([data / "b.bin"], data)
    assert made["sources"] == {"b.bin": "missing"} and difference(made, data) is None
    (data / "b.bin").write_bytes(b"1")
    assert difference(made, data) == "b.bin has changed"


@pytest.mark.parametrize("place", [0, 5 * PIECE, 10 * PIECE - 1])
def test_change_at_start_middle_or_end_of_a_large_file_is_seen(data, place):
    large = bytearray(10 * PIECE)
    (data / "large.bin").write_bytes(large)
    then = fingerprint(data / "large.bin")
    large[place] = 1
    (data / "large.bin").write_bytes(large)
    os.utime(data / "large.bin", ns=(1, 1))
    assert not unchanged(data / "large.bin", then)


def test_content_ignores_times_and_follows_values(data):
    first = content([data / "a.bin"], np.eye(3))
    os.utime(data / "a.bin", ns=(1, 1))
    assert content([data / "a.bin"], np.eye(3)) == first
    assert content([data / "a.bin"], 2 * np.eye(3)) != first
