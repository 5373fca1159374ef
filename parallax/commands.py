"""One command for each entry script and tool: `parallax doctor walk.mp4` is `tools/doctor.py` with its flags.

The name of a tool's command is that of its file, so a new file in `tools/` is a command. Words before the
first flag are the input; `INPUT` holds the flag that it stands for. `train` and `predict` also choose
for the input what a script leaves to its user (parallax/recordings.py).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from pathlib import Path

from components import first_sentence
from parallax import __version__
from utils import PROJECT, InputError, import_own, nearest_name

ENTRIES = {  # command → module
    "doctor": "tools.doctor",
    "train": "run",
    "predict": "test_simple",
    "export": "tools.export",
    "evaluate": "evaluate_depth",
    "evaluate-pose": "evaluate_pose",
    "evaluate-segmentation": "evaluate_segmentation",
    "live": "tools.live",
    "report": "tools.report",
}
OTHER = {"test_video.py": "predict"}  # further scripts of these commands
ABOUT = {  # sentences of commands that do more than their script, or whose script says it in two
    "doctor": "Can this video, folder or dataset be trained on? Says in words and images what is wrong",
    "train": "Train on a video, a folder of images or a dataset; continue or plan a training",
    "predict": "Depth of images, as images, arrays and point clouds, or of a video, as a video",
}
INPUT = dict.fromkeys(("doctor", "evaluate", "evaluate-pose", "evaluate-segmentation"), "--data_path")
INPUT["export"] = "--run"
CHECKOUT_ONLY = {"demo", "site", "small-model"}  # tools that read or start files of the checkout


def run() -> None:
    """Run what the command line of this process names."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        return print(overview())
    if name == "--version":
        return print(f"parallax {__version__}")
    name = command_of(name)
    module, words = resolve(name, words)
    sys.argv = [f"parallax {name}", *words]  # for usage lines and for scripts that read it
    status = import_own(module).main()
    if isinstance(status, int):
        raise SystemExit(status)


def commands() -> dict[str, str]:
    """Command → its module, by the module's name in a checkout; entries first, then the tools."""
    tools = sorted(path.stem for path in (PROJECT / "tools").glob("[a-z]*.py"))
    named = {stem.replace("_", "-"): f"tools.{stem}" for stem in tools}
    named = {name: module for name, module in named.items() if name not in CHECKOUT_ONLY}
    return {**ENTRIES, **{name: module for name, module in named.items() if name not in ENTRIES}}


def command_of(typed: str) -> str:
    """The command that was typed: its name, or its script, which texts name: `run.py`, `tools/doctor.py`.

    Raises:
        InputError: there is none; the sentence gives the nearest name.
    """
    known = commands()
    scripts = {f"{module.replace('.', '/')}.py": name for name, module in known.items()} | OTHER
    name = scripts.get(typed, typed.replace("_", "-"))
    if name not in known:
        raise InputError(f"there is no command '{typed}'{nearest_name(typed, known)}")
    return name


def resolve(name: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """The module that a command runs, and the flags that it gets.

    Raises:
        InputError: an input that the command cannot take.
    """
    count = next((n for n, word in enumerate(words) if word.startswith("-")), len(words))
    given, rest = list(words[:count]), list(words[count:])
    if name in ("train", "predict", "live"):
        from parallax import recordings

        return getattr(recordings, name)(given, rest)
    flag = INPUT.get(name)
    if flag and len(given) > 1:
        raise InputError(f"parallax {name} takes one input, got {' and '.join(given)}")
    return commands()[name], [flag, *given, *rest] if flag and given else [*given, *rest]


def overview() -> str:
    """The usage, and each command with one sentence of description."""
    known = commands()
    width = max(map(len, known))
    lines = [f"  {name:{width}}  {ABOUT.get(name) or _about(module)}" for name, module in known.items()]
    lines.insert(len(ENTRIES), "")
    return "\n".join(
        [
            "usage: parallax COMMAND [INPUT] [--FLAG VALUE ...]",
            "",
            "Depth from video. From a recording to depth:",
            "  parallax doctor walk.mp4",
            "  parallax train walk.mp4",
            "  parallax predict walk.mp4",
            "",
            *lines,
            "",
            "parallax COMMAND --help prints the flags of a command.",
        ]
    )


def _about(module: str) -> str:
    """The first sentence of a module's docstring."""
    path = Path(PROJECT, *module.split(".")).with_suffix(".py")
    return first_sentence(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
