"""docs/coming-from.md is true: its commands are understood, its flags and tools exist."""

import importlib
import re
import shlex

import pytest

import flags
import options
from utils import PROJECT

TEXT = (PROJECT / "docs/coming-from.md").read_text()
SCRIPTS = (
    "evaluate_depth",
    "evaluate_pose",
    "evaluate_segmentation",
    "test_simple",
    "test_video",
    "tools.export_gt_depth",
    "tools.select_frames",
    "tools.pseudo_depth",
)
KEPT = ("the same", "accepted")  # how the column of ours begins where theirs goes on working


def ours() -> list[str]:
    """The code in what stands for us: the second column, and the first where it goes on working."""
    found = []
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or cells[0].startswith("---"):
            continue
        for cell in cells[:2] if cells[1].startswith(KEPT) else cells[1:2]:
            found += re.findall(r"`([^`]+)`", cell)
    return found


COMMANDS = [text for text in ours() if re.match(r"(python|torchrun) .*\.py ", text)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    """`...` stands for further flags."""
    words = [word for word in shlex.split(command) if word != "..."]
    place = next(n for n, word in enumerate(words) if word.endswith(".py"))
    script, words = words[place], words[place + 1 :]
    assert (PROJECT / script).is_file()
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    if script == "run.py":
        options.parse(words)
    elif hasattr(module, "build_parser"):
        flags.parse(module.build_parser(), words)
    else:
        module.parse(words)


def test_there_are_commands_and_all_of_them_are_found():
    assert len(COMMANDS) >= 9
    assert {"tools/prepare_cityscapes.py", "test_video.py", "run.py"} <= {
        word for command in COMMANDS for word in command.split()
    }


def test_every_flag_that_is_named_exists(capsys):
    known = set(options.build_parser()._option_string_actions)
    for name in SCRIPTS:
        module = importlib.import_module(name)
        with pytest.raises(SystemExit):
            module.main(["--help"])
        known |= set(re.findall(r"--\w+", capsys.readouterr().out))
        if hasattr(module, "build_parser"):  # older names, too, which the help leaves out
            known |= set(module.build_parser()._option_string_actions)
    named = {flag for text in ours() for flag in re.findall(r"(?<!\S)--[\w.]+", text)}
    sections = {flag for flag in named if flag[2:].partition(".")[0] in options.SECTIONS}
    elsewhere = {"--nproc_per_node", "--out", "--dataset_dir"}  # of torchrun and of prepare_cityscapes
    assert len(named) > 80 and sections
    assert not named - sections - known - elsewhere


def test_every_tool_config_and_page_that_is_named_is_there():
    tools = [path for text in ours() for path in re.findall(r"tools/\w+\.py", text)]
    configs = re.findall(r"configs/[\w*]+\.yaml", TEXT)
    assert tools and configs
    for path in {*tools, *configs}:
        assert list(PROJECT.glob(path)), path
    for page in re.findall(r"\]\((\w+\.md)", TEXT):
        assert (PROJECT / "docs" / page).is_file(), page
