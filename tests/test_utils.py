"""Registries, nearest names, files that are whole or absent, YAML."""

import errno
import json
import os

import pytest

from devices import seed_everything
from utils import (
    InputError,
    Registry,
    atomic_path,
    check_settings,
    nearest_name,
    read_lines,
    read_text,
    read_yaml,
    run_main,
    to_yaml,
)


def test_a_component_has_the_name_of_its_file_or_its_own():
    registry = Registry("losses")
    registry.register(type("Plain", (), {"__module__": "losses.plain"}))
    registry.register("other")(type("Other", (), {"__module__": "losses.plain"}))
    assert {"plain", "other"} <= set(registry.names())
    with pytest.raises(ValueError, match="two classes are registered as losses/plain"):
        registry.register(type("Second", (), {"__module__": "losses.plain"}))
    with pytest.raises(InputError, match=r"no losses/plane\.py; did you mean 'plain'"):
        registry.get("plane")


def test_a_near_name_is_guessed_and_few_are_listed():
    assert nearest_name("zzz", ["b", "a"]) == " (available: a, b)"
    assert nearest_name("heigth", ["height", "width"]).startswith("; did you mean 'height'?")
    assert nearest_name("a", []) == "; there is none yet"
    many = [f"name_{n}" for n in range(20)]
    assert nearest_name("nam_3", many) == "; did you mean 'name_3'?"


def test_settings_that_a_constructor_does_not_take_are_refused():
    class Thing:
        def __init__(self, weight: float = 1.0) -> None: ...

    check_settings("thing", Thing, {"weight": 2})
    with pytest.raises(InputError, match="thing has no setting 'wieght'; did you mean 'weight'"):
        check_settings("thing", Thing, {"wieght": 2})


def test_settings_of_another_kind_are_refused():
    class Thing:
        def __init__(self, weight: float = 1.0, count: "int | None" = None, often: int = 1) -> None: ...

    class Special(Thing):
        def __init__(self, loud: bool = False, **settings) -> None: ...

    check_settings("thing", Special, {"weight": 2, "count": "any", "often": 3, "loud": True})
    for key, value, meant in [
        ("weight", "much", "a number"),
        ("weight", True, "a number"),
        ("often", 1.5, "a whole number"),
        ("often", "two", "a whole number"),
        ("loud", "maybe", "true or false"),
        ("loud", 1, "true or false"),
    ]:
        with pytest.raises(InputError, match=f"thing: {key} is {meant}, got {value!r}"):
            check_settings("thing", Special, {key: value})


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new/file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
    with pytest.raises(OSError), atomic_path(path) as temporary:
        temporary.write_text("ha")
        raise OSError("disk full")
    assert path.read_text() == "whole" and os.listdir(path.parent) == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_lines_have_no_blanks_and_a_missing_file_is_named(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(" a \n\n b\n")
    assert read_lines(path) == ["a", "b"]
    with pytest.raises(InputError, match="there is no file"):
        read_lines(tmp_path / "other.txt")


@pytest.mark.parametrize(
    "value", ["1e5", "1e-4", "12", "yes", "2011-09-26", "a: b", "", 1e-7, True, None, [0, "s"]]
)
def test_what_is_written_as_yaml_is_read_back(value):
    assert read_yaml(to_yaml({"key": value})) == {"key": value}


def test_an_entry_script_turns_our_errors_into_sentences(capsys):
    def refuse():
        raise InputError("height is odd")

    with pytest.raises(SystemExit) as stop:
        run_main(refuse)
    assert stop.value.code == 2 and capsys.readouterr().err == "error: height is odd\n"

    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_main(interrupt)
    assert stop.value.code == 130


def test_a_seed_decides_python_numpy_and_torch():
    import random

    import numpy as np
    import torch

    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert draw() == first


def test_aliases_of_aliases_are_refused_before_they_grow():
    levels = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ValueError, match="aliases stand for more than"):
        read_yaml("\n".join(levels))
    with pytest.raises(ValueError, match="aliases stand for more than"):
        read_yaml("a: &a [*a]")
    assert read_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}


def test_a_package_that_is_missing_is_a_sentence(capsys):
    def load():
        import no_such_package  # noqa: F401

    with pytest.raises(SystemExit) as stop:
        run_main(load)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "'no_such_package' is not installed for" in error
    assert ".venv/bin/activate" in error and error.count("\n") == 1

    def load_ours():
        import datasets.no_such_file  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        run_main(load_ours)


def test_torchrun_reports_an_error_once(tmp_path, monkeypatch, capsys):
    def refuse():
        raise InputError("height is odd")

    for rank in (1, 0):
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / f"attempt_0/{rank}/error.json"))
        (tmp_path / f"attempt_0/{rank}").mkdir(parents=True)
        with pytest.raises(SystemExit):
            run_main(refuse)
    (report,) = tmp_path.glob("attempt_0/*/error.json")
    assert report.parent.name == "1" and json.loads(report.read_text())["message"] == "error: height is odd"
    assert capsys.readouterr().err == ""


def test_a_refused_file_is_named_with_the_fix(capsys):
    def refused(number):
        def main():
            raise OSError(number, os.strerror(number), "data/scan.bin")

        return main

    for number, fix in (
        (errno.EACCES, "chmod"),
        (errno.ENOSPC, "free some space"),
        (errno.EISDIR, "a folder"),
    ):
        with pytest.raises(SystemExit) as left:
            run_main(refused(number))
        said = capsys.readouterr().err
        assert left.value.code == 2 and said.count("\n") == 1
        assert said.startswith("error: data/scan.bin: ") and fix in said
    with pytest.raises(OSError):  # not a matter of the machine: the traceback stays
        run_main(refused(errno.EBADF))


def test_a_folder_in_place_of_a_text_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Is a directory; it is a folder where a file is needed"):
        read_text(tmp_path)
