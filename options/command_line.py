"""The command line of run.py: its parser, what was typed, and what to type instead."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from components import components, find_class
from options.aliases import IGNORED, SAME, TRANSLATED, translate, word
from options.configs import VIEWS, read_section
from options.table import CHOOSING, GROUPS, NAMED, OPTIONS, SECTIONS, Option, switch
from options.values import Typed, boolean
from utils import InputError, program, quotes_needed

_WIDE = 240  # columns of the help in a pipe, so that `--help | grep` shows whole lines


class _Parser(argparse.ArgumentParser):
    """argparse whose refusals are our sentences, with flags as they are typed."""

    def error(self, message: str) -> None:
        message = re.sub(r"^argument ([^:]+): ", lambda m: m[1].split("/")[0] + " ", message)
        raise InputError(re.sub(r"expected (one|at least one) argument$", "needs a value", message))


class _Formatter(argparse.HelpFormatter):
    """One line for each option if the help goes into a pipe."""

    def __init__(self, prog: str) -> None:
        size: dict[str, Any] = {} if sys.stdout.isatty() else {"width": _WIDE, "max_help_position": 52}
        super().__init__(prog, **size)


def build_parser() -> argparse.ArgumentParser:
    """The parser of run.py; its result holds only what was typed. `--help` prints the defaults."""
    parser = _Parser(
        program("run.py"),
        usage=f"{program('run.py')} [--config FILE ...] [--OPTION VALUE ...] [--SECTION.SETTING VALUE ...]",
        description="Train, resume or evaluate a self-supervised depth method.",
        epilog=f"The sections {', '.join(SECTIONS)} take every setting of what they name, such as "
        "--views.local_crop true or --losses.smoothness.weight 1e-2; docs/methods.md lists them. A method "
        "may have defaults of its own; --dry_run prints the options of a run.",
        formatter_class=_Formatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    # argparse knows -1 and -0.5 as values, and takes -1e-3 for a flag.
    parser._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|-inf$")
    for title, options in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in options:
            _add(group, option)
    for name in [*TRANSLATED, *IGNORED]:
        _add(parser, TRANSLATED.get(name) or switch(name, ""))
    return parser


def _add(group: Any, option: Option) -> None:
    names = [option.name, *(alias for alias, name in SAME.items() if name == option.name)]
    facts: dict[str, Any] = {"help": argparse.SUPPRESS, "dest": option.name}
    if option.help:
        default = option.shown or (" ".join(map(str, option.default)) if option.several else option.default)
        facts["help"] = option.help + ("" if option.kind is boolean else f" (default: {default})")
    if option.kind is boolean:
        facts["action"] = "store_true"
    else:
        facts["type"] = str if option.several else _reader(option)
        facts["metavar"] = option.metavar or (
            "{" + ",".join(option.choices) + "}" if option.choices else None
        )
    if option.name == "resume":
        facts |= {"nargs": "?", "const": "auto"}
    if option.several:
        facts |= {"nargs": "+"}
    if option.name == "config":
        facts |= {"action": "extend"}
    if option.name == "local_rank":  # torch.distributed.launch writes either spelling
        names.append("local-rank")
    group.add_argument(*(f"--{name}" for name in names), **facts)


def _reader(option: Option) -> Any:
    """The value of an option of one word, from that word."""

    def read(typed: str) -> Any:
        try:
            return option.read(word(option.name, typed))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _read_several(given: dict[str, Any]) -> dict[str, Any]:
    """The typed options, with the words of those that take several values read together."""
    found = dict(given)
    for name in given:
        if name in OPTIONS and OPTIONS[name].several:
            try:
                found[name] = OPTIONS[name].read(given[name])
            except ValueError as error:
                raise InputError(f"--{name} {error}") from None
    return found


def read_command_line(arguments: Sequence[str]) -> dict[str, Any]:
    """The typed options: option → value and section → its settings; values of settings are `Typed` text.

    Raises:
        InputError: an unknown flag or an impossible value; the sentence says what to type instead.
    """
    words = _apart(arguments)
    given, rest = build_parser().parse_known_args(words)
    values = translate(_read_several(vars(given)))
    for section, settings in _dotted(rest, values, words).items():
        old = values.get(section)
        if isinstance(old, dict):
            settings = {**old, **settings}
        elif isinstance(old, str) and section in CHOOSING:
            settings = {"name": old, **settings}
        values[section] = settings
    return values


def _apart(words: Sequence[str]) -> list[str]:
    """`--dataset.intrinsics="1 2 3 4"` as two words, since argparse takes one with a space for a value."""
    dotted = rf"--({'|'.join(SECTIONS)})\.\S+?=.*\s"
    parts = (word.split("=", 1) if re.match(dotted, word) else [word] for word in map(str, words))
    return [part for pair in parts for part in pair]


def _dotted(rest: Sequence[str], typed: dict[str, Any], typed_words: Sequence[str]) -> dict[str, Any]:
    """`--dataset.baseline 0.54` and `--dataset.baseline=0.54` as nested sections."""
    nested: dict[str, Any] = {}
    words = list(rest)
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if not flag.startswith("--"):
            raise InputError(f"unexpected argument '{flag}'{quotes_needed(typed_words, flag)}")
        section, *path = flag[2:].split(".")
        if section in NAMED and path and path[0] in SECTIONS:  # --method.views.detail is --views.detail
            section, *path = path
        if section in CHOOSING and not path:  # as --dataset NAME
            path = ["name"]
        if section not in SECTIONS or not all(path) or not path:
            raise InputError(f"there is no option '{flag}'{_instead(flag, typed)}")
        if not equals:
            if not words:
                raise InputError(f"{flag} needs a value")
            value = words.pop(0)
        _refuse_shadow(section, path, value)
        settings = nested.setdefault(section, {})
        for step in path[:-1]:
            settings = settings.setdefault(step, {})
            if not isinstance(settings, dict):
                raise InputError(f"{flag} sets a part of '{step}', which has the value '{settings}'")
        settings[path[-1]] = str(value) if path == ["name"] else Typed(value)
    return {section: read_section("the command line", section, value) for section, value in nested.items()}


def _refuse_shadow(section: str, path: Sequence[str], value: str) -> None:
    """Refuse a section's setting that is an option as well: the program would use two values of it."""
    name = path[0]
    if section not in NAMED or name == "name":
        return
    if name in OPTIONS:
        raise InputError(f"--{section}.{name} is an option of the run; use --{name} {value}")
    if (section, name) == ("dataset", "part"):
        raise InputError(
            "--dataset.part has no effect: run.py trains on train and validates on val; leave it out"
        )


def _instead(flag: str, typed: dict[str, Any]) -> str:
    """The flag that was probably meant, in words."""
    name = flag.removeprefix("--")
    sections = list(_section_flags(typed))
    exact = [candidate for candidate in sections if candidate.rsplit(".", 1)[-1] == name]
    near = difflib.get_close_matches(flag, [*(f"--{option}" for option in [*OPTIONS, *SAME]), *sections], n=1)
    found = exact[:1] or near
    return f"; did you mean '{found[0]}'?" if found else "; see run.py --help"


def _section_flags(typed: dict[str, Any]) -> Iterator[str]:
    """Every flag of a section's setting; those of the chosen dataset and method first."""
    for section, package in (("dataset", "datasets"), ("method", "methods")):
        known = components(package)
        chosen = typed.get(section, OPTIONS[section].default)
        ordered = [known[chosen]] if chosen in known else []
        for component in [*ordered, *known.values()]:
            yield from (f"--{section}.{name}" for name in component.settings if name not in OPTIONS)
    for section, (package, name) in {"augment": ("datasets", "Augment"), "views": VIEWS}.items():
        yield from (f"--{section}.{setting}" for setting in find_class(package, name).settings)
    for name, term in components("losses").items():
        yield from (f"--losses.{name}.{setting}" for setting in ["weight", *term.settings])
