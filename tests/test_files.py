"""Writing files: sentences for failed writes, and names that stay inside their folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets._depth_files import read_depth
from files import damage, explained, inside, writing
from utils import InputError


def test_full_disk_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    sentence = r"a\.txt cannot be written: the disk is full; free some space.*the earlier a\.txt is untouched"
    with pytest.raises(InputError, match=sentence), writing(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "earlier"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_error_under_torchs_runtime_error_is_explained():
    with pytest.raises(InputError, match="out cannot be written: the disk is full"), explained("out"):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 as torch does


def test_other_runtime_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), explained("out"):
        raise RuntimeError("shapes differ")


def test_file_instead_of_a_folder_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written: "), writing(tmp_path / "file/a.txt"):
        pass


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..", "", "..\\evil", "\\evil"])
def test_name_that_leads_out_of_its_folder_is_refused(name):
    with pytest.raises(InputError, match="leads out of masks"):
        inside("masks", name)


@pytest.mark.parametrize("name", ["scene-0061", "a/b..c", "..hidden"])
def test_name_within_its_folder_is_kept(name):
    assert inside("masks", name) == Path("masks") / name


def test_a_placeholder_of_a_file_is_named(tmp_path):
    path = tmp_path / "depth.npy"
    for content, words in (
        (
            b"version https://git-lfs.github.com/spec/v1",
            "it is a git-LFS pointer; fetch the file itself: git lfs",
        ),
        (b"", "it is an empty file; copy or download it again"),
        (b"\x93NUMPY", "is it truncated?"),
    ):
        path.write_bytes(content)
        assert damage(path).startswith(words)
        if content[:1] != b"\x93":
            with pytest.raises(InputError, match=r"depth\.npy cannot be read as depth \(.*\); it is an? "):
                read_depth(path, 1)
    np.save(path, np.zeros((0, 4)))
    with pytest.raises(InputError, match=r"is not a depth map: expected \(height, width\), got \(0, 4\)"):
        read_depth(path, 1)


def test_unreadable_input_is_not_called_unwritable(tmp_path):
    with pytest.raises(InputError, match=r"^/elsewhere/scan\.bin: Permission denied$"), explained(tmp_path):
        raise PermissionError(13, "Permission denied", "/elsewhere/scan.bin")
