"""The project's prose keeps to the field's terms and to plain English.

The tests read comments, strings and names of Python files, and all lines of Markdown and YAML files. Each
forbidden word has a replacement. `ALLOWED` lists proper uses. `COVERED` lists the paths that are read: the
whole tree except the golden files.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests/golden"  # recorded by the published code
SUFFIXES = (".py", ".md", ".yaml")

COVERED = (
    "*",
    "benchmarks/**/*",
    "cameras/**/*",
    "checkpoints/**/*",
    "configs/**/*",
    "datasets/**/*",
    "docs/**/*",
    "evaluation/**/*",
    "losses/**/*",
    "methods/**/*",
    "networks/**/*",
    "options/**/*",
    "parallax/**/*",
    "prediction/**/*",
    "published_configs/**/*",
    "splits/**/*",
    "tests/**/*",
    "tools/**/*",
    "training/**/*",
    "views/**/*",
)

# Forbidden in names and prose → replacement. `_` separates words as a space does.
TERMS = {
    r"pictures?": "image",
    r"(?<!ground.)truths?": "ground truth",
    r"judge[sd]?|judging": "evaluate",
    r"moments? of|of one moment|(?:the|a|one|each) moment": "frame set, timestamp",
    r"films?|filmed": "video",
    r"sheets?": "image grid",
    r"trivial rivals?|rivals?": "baseline",
    r"both ways": "flip averaging",
    r"places? on the vehicle|in their places": "extrinsics, rig_from_camera",
}

# Forbidden in prose → replacement.
TURNS = {
    r"but for": "except",
    r"of which": "whose, or a new sentence",
    r"likewise": "also",
    r"wherein": "in which",
    r"(?<!there )(?:is|are|was|were) no (?!longer|more than)\w+": "is not a",
    r"can more": "has more options",
    r"for want of": "without",
    r"which it has not": "which it does not have",
    r"what (?:counts|is asked|is there|lies)|where nobody|nobody (?:says|waits)": "a noun",
    r"(?:has|have) no say": "is left out",
    r"cannot be meant": "is invalid",
    r"ask(?:ed|s)? backwards": "inverted",
    r"round (?:a|the|it|each|every) ": "around",
    r"in the place of|in place of its own": "instead of",
    r"hardly a mark": "little texture",
    r"says nothing": "a plain statement",
    r"beside": "next to, and, in addition to",
    r"alone": "only",
    r"anew|afresh|by chance": "again, at random",
}

# Forbidden at the start of a docstring or of an argument's description.
FRAGMENTS = ("of", "as", "what", "whatever", "whichever", "which")

# Proper uses: (file, part of the comment, string or name).
ALLOWED: tuple[tuple[str, str], ...] = (
    ("tests/losses/test_depth_smoothness.py", '"picture"'),  # keys of golden files
    ("tests/losses/test_edge_ranking.py", '"picture"'),
    ("tests/losses/test_pairwise.py", '"picture'),
    ("tests/losses/test_featdepth_losses.py", '"picture"'),
    ("tests/methods/test_featdepth.py", "picture"),
    ("tests/methods/test_sgdepth.py", "segmentation_picture"),
    ("tests/networks/test_featdepth_networks.py", "picture"),
    # Names in files and commands of earlier versions, which are still read.
    ("evaluate_depth.py", '"cap_truth"'),
    ("tests/test_evaluate_depth.py", "cap_truth"),
    ("methods/metric_scale.py", '"truth_per_prediction"'),
)

LONGEST_TEST_NAME = 60


def covered_files() -> list[Path]:
    files: list[Path] = []
    for pattern in COVERED:
        found = [path for path in ROOT.glob(pattern) if path.suffix in SUFFIXES]
        assert found, f"COVERED names {pattern}, which has no files"
        files += found
    excluded = (Path(__file__), GOLDEN)
    return sorted(file for file in files if not any(file.is_relative_to(path) for path in excluded))


def prose(file: Path) -> Iterator[tuple[int, str, bool]]:
    """Line number, text, and True for prose (a comment, a string, a test's name), False for another name."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        for number, line in enumerate(text.splitlines(), 1):
            yield number, line, True
        return
    strings = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in strings or token.type == tokenize.NAME:
            for offset, line in enumerate(token.string.splitlines()):
                is_prose = token.type != tokenize.NAME or line.startswith("test_")
                yield token.start[0] + offset, line, is_prose


def violations(file: Path) -> list[str]:
    name = file.relative_to(ROOT).as_posix()
    found = []
    for number, line, is_prose in prose(file):
        if any(name == where and text in line for where, text in ALLOWED):
            continue
        words = line.replace("_", " ")
        for pattern, replacement in {**TERMS, **(TURNS if is_prose else {})}.items():
            if match := re.search(rf"(?<![A-Za-z])(?:{pattern})(?![A-Za-z])", words, re.IGNORECASE):
                found.append(f"{name}:{number}: '{match[0]}' in '{line.strip()[:90]}'; write {replacement}")
    return found


def test_covered_files_use_the_terms_of_the_field():
    found = [line for file in covered_files() for line in violations(file)]
    assert not found, "\n" + "\n".join(found)


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (
            text := ast.get_docstring(node)
        ):
            yield node.body[0].lineno, text


def test_docstrings_do_not_begin_with_a_fragment():
    start = rf"(?i:(?:{'|'.join(FRAGMENTS)})\b)"
    found = []
    for file in (file for file in covered_files() if file.suffix == ".py"):
        for line, text in docstrings(file):
            sections = re.findall(rf"^    [\w, ]+: ({start}.*)", text, re.MULTILINE)
            found += [f"{file}:{line}: {part}" for part in sections]
            if re.match(start, text):
                found.append(f"{file}:{line}: {text.splitlines()[0]}")
    assert not found, "\n" + "\n".join(found)


def test_names_of_tests_are_short():
    found = []
    for file in (file for file in covered_files() if file.name.startswith("test_")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found += [f"{file}: {node.name}"] if len(node.name) > LONGEST_TEST_NAME else []
    assert not found, f"names of at most {LONGEST_TEST_NAME} characters:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line", ["# a picture", "x = 'is no tensor'", "def look_at_picture(): ...", "'the truth'"]
)
def test_forbidden_words_are_found(line, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "a.py").write_text(line)
    assert len(violations(tmp_path / "a.py")) == 1


@pytest.mark.parametrize(
    "line", ["ground_truth = 1", "# there is no image", "def image(): ...", "'is no longer'"]
)
def test_proper_words_pass(line, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "a.py").write_text(line)
    assert not violations(tmp_path / "a.py")
