"""The fix that an error prints can be typed as printed: its flags exist, and its values are understood."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import options
from options.command_line import _section_flags, build_parser, read_command_line
from tests import runs
from tests.test_structure import FILES
from utils import PROJECT, InputError

ENTRIES = ("evaluate_depth", "evaluate_pose", "evaluate_segmentation", "test_simple", "test_video")
SPEAKING = {"InputError", "notice", "print", "ArgumentTypeError", "say", "_say"}
OF_OTHERS = {  # flags of other programs that a sentence names
    "--nproc_per_node": "torchrun",
    "--shm-size": "docker",
    "--logdir": "tensorboard",
    "--ImageReader.single_camera": "COLMAP",
}


def sentences() -> Iterator[tuple[str, str]]:
    """(place, text) of what our files print; `{}` stands for a value."""
    for path in FILES:
        if path.parts[0] in ("tests", "benchmarks"):
            continue
        for node in ast.walk(ast.parse((PROJECT / path).read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in SPEAKING:
                yield from ((f"{path}:{node.lineno}", text) for text in texts(node))


def texts(node: ast.AST) -> Iterator[str]:
    """The string literals below a node; of an f-string the whole, once."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in child.values)
            yield "".join(parts)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        if not isinstance(child, ast.Constant):
            yield from texts(child)


def flags_of(parser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


@pytest.fixture(scope="module")
def flags() -> set[str]:
    """Every flag of run.py, the entries and the tools."""
    found = flags_of(build_parser()) | set(_section_flags({})) | {f"--{name}" for name in options.SECTIONS}
    for entry in ENTRIES:
        found |= flags_of(importlib.import_module(entry).build_parser())
    for path in (PROJECT / "tools").glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        words = [word.value for call in calls for word in call.args if isinstance(word, ast.Constant)]
        found |= {word for word in words if isinstance(word, str) and word.startswith("--")}
    return found


def test_every_flag_in_a_sentence_exists(flags):
    looked_at = 0
    for place, text in sentences():
        for flag in re.findall(r"(?<![\w-])--[A-Za-z_]\w*(?:[.-]\w+)*(?![\w.]*\{)", text):
            looked_at += 1
            if flag in flags or flag in OF_OTHERS:
                continue
            try:  # a setting within a setting, such as --augment.companion.crop
                options.parse([flag, "1"])
            except InputError as error:
                assert not re.search("no option|no setting", str(error)), f"{place}: {error}"
    assert looked_at > 200


def test_a_setting_with_a_printed_value_is_understood():
    found = set()
    for place, text in sentences():
        for flag, value in re.findall(r'(--\w+\.[\w.]+) ("[^"{]+"|true|false|\d[\w.e-]*)', text):
            if flag not in OF_OTHERS:
                read_command_line([flag, *shlex.split(value)])
                found.add(f"{place} {flag}")
    assert len(found) >= 8


@pytest.fixture
def plain(tiny_folder, tmp_path) -> Path:
    """The folder without intrinsics."""
    shutil.copytree(tiny_folder, tmp_path / "scene")
    (tmp_path / "scene/cam.txt").unlink()
    return tmp_path / "scene"


def advice(words: list[str]) -> str:
    with pytest.raises(InputError) as refused:
        runs.build(words)
    return str(refused.value)


def test_missing_intrinsics_are_typed_as_printed(plain, tmp_path):
    words = runs.arguments(plain, tmp_path, batch_size=2, dry_run=True)
    said = advice(words)
    number = re.search(r'try ("[\d. ]+")', said)[1]
    for flag in re.findall(r'or give (--dataset\.intrinsics) "fx fy cx cy"', said):
        runs.build([*words, flag, *shlex.split(number)])
    guess = re.search(r"or (--dataset\.intrinsics guess)", said)[1]
    runs.build([*words, *guess.split()])


@pytest.mark.parametrize("wrong", ["30 30 23.75 15.75", "0.6 0.9 0.5 0.5", "3.5 3.5 47.5 31.5"])
def test_wrong_intrinsics_are_typed_as_printed(plain, tmp_path, wrong):
    words = runs.arguments(plain, tmp_path, batch_size=2, dry_run=True)
    said = advice([*words, "--dataset.intrinsics", wrong])
    flag, right = said.partition(":")[0], re.search(r"'([\d. ]+)'", said)[1]
    runs.build([*words, flag, right])


def test_intrinsics_without_quotes_are_typed_as_printed(plain, tmp_path):
    words = runs.arguments(plain, tmp_path, batch_size=2, dry_run=True)
    for typed in ("--dataset.intrinsics 60 60 47.5 31.5", "--dataset.intrinsics=60 60 47.5 31.5"):
        said = advice([*words, *typed.split()])
        assert "unexpected argument '60'" in said
        runs.build([*words, *shlex.split(said.partition("its flag: ")[2])])
    assert advice([*words, "--intrinsics", "60 60 47.5 31.5"]).endswith(
        "did you mean '--dataset.intrinsics'?"
    )


def test_a_stem_in_two_formats_is_chosen_as_printed(plain, tmp_path, capsys):
    with Image.open(plain / "000.png") as image:
        image.save(plain / "000.jpg")
    np.savetxt(plain / "cam.txt", [[60, 60, 47.5, 31.5]])
    words = runs.arguments(plain, tmp_path, batch_size=2, dry_run=True)
    runs.build(words)
    fix = re.search(r"--dataset\.files \"\*\.png\"", capsys.readouterr().err)[0]
    trainer = runs.build([*words, *shlex.split(fix)])
    assert trainer.train_set.scenes[0].frames[0] == "000.png"
