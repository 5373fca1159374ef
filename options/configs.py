"""Config files, and how settings of several sources become one: later ones win."""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from options.aliases import IGNORED, SAME, TRANSLATED, translate, word
from options.table import CHOOSING, NAMED, OPTIONS, SECTIONS
from options.values import is_nothing, shown
from utils import PROJECT, InputError, nearest_name, read_text, read_yaml

VIEWS = ("views", "Views")  # package and class of the section `views`
SAVED = "the run's options"  # the source that a resumed run's options come from
RECORDS = ("cameras", "scale_factor")  # facts that a checkpoint keeps among its options
_SAID: set[str] = set()  # sentences about published configs, each said once


def read_config(path: str | Path) -> dict[str, Any]:
    """The settings of a config file: YAML, JSON or `key = value` text, ours or a published system's.

    `configs/NAME.yaml` is found from every folder, since an installed Parallax brings these files along.

    Raises:
        InputError: no such file, or it does not parse.
    """
    path = Path(path).expanduser()
    if not path.is_file() and (PROJECT / path).is_file():
        path = PROJECT / path
    if not path.is_file():
        known = {p.name: f"configs/{p.name}" for p in sorted((PROJECT / "configs").glob("*.yaml"))}
        near = difflib.get_close_matches(path.name, known, n=1)
        guess = f"did you mean '{known[near[0]]}'?" if near else "run.py --list names the configs"
        raise InputError(f"there is no config {path}; {guess}")
    content = read_text(path)
    try:
        if path.suffix == ".txt":
            lines = (line.split("#")[0].strip() for line in content.splitlines())
            # A single word is a flag, as ConfigArgParse reads it.
            lines = (line if "=" in line else f"{line} = true" for line in lines if line)
            pairs = (re.split(r"\s*=\s*", line, maxsplit=1) for line in lines)
            settings = {key: read_yaml(value) for key, value in pairs}
        else:
            settings = read_yaml(content)
    except ValueError as error:
        raise InputError(f"{path} does not parse: {error}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold 'name: value' lines")
    known = {*OPTIONS, *SAME, *IGNORED, *TRANSLATED, *SECTIONS}
    return settings if set(map(str, settings)) <= known else _published(path, settings)


def _published(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """A config as it is, or translated if it is one of a published system; prints once what changed."""
    from published_configs import SYSTEMS  # some of them read network tables, which takes torch

    found = next((entry for entry in SYSTEMS if entry[1](settings)), None)
    if found is None:
        return settings
    system, _, to_ours = found
    settings, notes = to_ours(settings)
    sentence = f"{path} is a config of the published {system}: {'; '.join(notes)}"
    if sentence not in _SAID and os.environ.get("RANK", "0") == "0":
        print(sentence, file=sys.stderr)
    _SAID.add(sentence)
    return settings


def read_values(source: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config or a saved run as options of ours, each read by its type.

    Args:
        source: the file, or `SAVED`; errors begin with it.
        settings: result of `read_config`.

    Raises:
        InputError: an unknown option, with the nearest one; an impossible value; a value given twice.
    """
    known = {**OPTIONS, **TRANSLATED}
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = SAME.get(key, key)
        if name in SECTIONS:
            found[name] = read_section(source, name, value)
        elif name in IGNORED or (source == SAVED and name in RECORDS):
            continue
        elif name == "config":
            raise InputError(f"{source} names a config, which only the command line does: --config A B")
        elif name not in known:
            guess = nearest_name(key, {*known, *SAME, *SECTIONS}).partition(" (")[0]
            raise InputError(f"{source} has an unknown option '{key}'{guess or '; see run.py --help'}")
        else:
            found[name] = _read(source, known[name], value)
    found = translate(found)
    for section in NAMED:
        _lift(source, section, found)
    return found


def _read(source: str, option: Any, value: Any) -> Any:
    try:
        return option.read(word(option.name, value))
    except ValueError as error:
        raise InputError(f"{source}: {option.name} {error}") from None


def _lift(source: str, section: str, found: dict[str, Any]) -> None:
    """Make a section's setting that is an option as well the option, so that every part sees one value.

    Raises:
        InputError: a config gives both, with different values. Of a saved run the section's holds, which is
            what the run was trained with.
    """
    settings = found.get(section)
    if not isinstance(settings, dict):
        return
    for key in [key for key in settings if key in OPTIONS or key in SECTIONS]:
        value = settings.pop(key)
        value = read_section(source, key, value) if key in SECTIONS else _read(source, OPTIONS[key], value)
        if found.get(key, value) != value and source != SAVED:
            raise InputError(
                f"{source} gives {key} twice, {shown(found[key])} and {section}.{key} {shown(value)}; "
                f"leave out {section}.{key}"
            )
        found[key] = value


def read_section(source: str, section: str, value: Any) -> str | dict[str, Any]:
    """A section's form checked; only a section that chooses a component may be a bare name.

    Raises:
        InputError: it is neither a name nor settings.
    """
    if value is None:
        return {}
    if isinstance(value, str) and value.strip() and section in CHOOSING:
        return value
    if not isinstance(value, dict):
        form = "a name or {name: ..., setting: value}" if section in CHOOSING else "{setting: value}"
        raise InputError(f"{source}: {section} must be {form}, got {value!r}")
    name = value.get("name", section)
    if section in CHOOSING and not (isinstance(name, str) and name.strip()):
        raise InputError(f"{source}: {section}'s name must be a word, got {name!r}")
    for term, settings in value.items():
        if section == "losses" and not isinstance(settings, dict):
            raise InputError(
                f"{source}: losses.{term} must be settings like {{weight: 1.0}}, got {settings}; "
                f"for the weight use --losses.{term}.weight"
            )
    return dict(value)


def merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Later wins; sections are merged setting by setting. Another component does not inherit settings."""
    for key, value in new.items():
        old = into.get(key)
        if key in CHOOSING and isinstance(value, str) and isinstance(old, dict):
            value = {**old, "name": value} if old.get("name") == value else {"name": value}
        elif key in SECTIONS and isinstance(value, dict) and old is not None:
            merged = {"name": old} if isinstance(old, str) else dict(old)
            if "name" not in value or value["name"] == merged.get("name"):
                _merge_nested(merged, value)
                value = merged
        into[key] = value


def _merge_nested(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            into[key] = dict(into[key])
            _merge_nested(into[key], value)
        else:
            into[key] = value


def named_section(section: str, value: str | Mapping[str, Any]) -> dict[str, Any]:
    """A section as settings; `method` and `dataset` always have a `name`, another named `none` is empty."""
    if isinstance(value, str):
        value = {"name": value}
    if section not in NAMED and is_nothing(value.get("name", "")):
        return {}
    if section in NAMED and "name" not in value:
        return {"name": OPTIONS[section].default, **value}
    return dict(value)
