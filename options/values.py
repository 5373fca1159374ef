"""Values as people type them, read by the type of what they are for.

A flag's value is text. A config's value has gone through YAML, which reads `010`, `none` or `yes` in ways of
its own; both are read here by the type of the option or of the constructor's parameter.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from components import Setting
from utils import InputError, nearest_name, read_setting

NOTHING = ("none", "null", "~")


class Typed(str):
    """Text from the command line; the setting that it is for decides its type."""


def whole(value: Any) -> int:
    """A whole number; 4.0 and 1e3 are whole, True is not a number."""
    if isinstance(value, bool):
        raise ValueError(value)
    try:
        return int(str(value))
    except ValueError:
        exact = float(str(value))
        if exact != exact or exact in (float("inf"), float("-inf")) or exact != int(exact):
            raise ValueError(value) from None
        return int(exact)


def number(value: Any) -> float:
    """A number, infinity included; nan is not one, since no comparison would refuse it later."""
    if isinstance(value, bool):
        raise ValueError(value)
    found = float(str(value))
    if math.isnan(found):
        raise ValueError(value)
    return found


def as_written(value: Any) -> float:
    """A number of a list; a whole one stays an int, since pixels and shares may stand in one list."""
    return int(str(value)) if re.fullmatch(r"[+-]?\d+", str(value)) else number(value)


def boolean(value: Any) -> bool:
    """true, yes, on, 1 or false, no, off, 0."""
    word = str(value).lower()
    if word not in ("true", "yes", "on", "1", "false", "no", "off", "0"):
        raise ValueError(value)
    return word in ("true", "yes", "on", "1")


def text(value: Any) -> str:
    """Text; a number in a config is the text it was written as. Nothing, a list or a boolean is refused."""
    if isinstance(value, (bool, list, tuple, dict)) or value is None or not str(value).strip():
        raise ValueError(value)
    return str(value)


def frame_id(value: Any) -> int | str:
    """An offset in frames, or "s" for the stereo partner."""
    return "s" if str(value) == "s" else whole(value)


def listed(kind: Callable[[Any], Any], value: Any) -> list[Any]:
    """Values of one kind: a list, a single value, or typed words with blanks or commas between them."""
    items = plain(value)
    broken = isinstance(items, str) and items.startswith(("[", "{"))  # a list that is not closed, a pattern
    if broken or isinstance(items, Mapping):
        raise ValueError(value)
    if isinstance(value, Typed) and isinstance(items, str):
        items = items.replace(",", " ").split()
    return [kind(item) for item in (items if isinstance(items, (list, tuple)) else [items])]


def section(value: Any) -> dict[Any, Any]:
    """Settings by name."""
    found = plain(value)
    if not isinstance(found, Mapping):
        raise ValueError(value)
    return dict(found)


_LISTS = {kind: functools.partial(listed, kind) for kind in (whole, as_written, text)}
MEANING = {
    whole: "a whole number",
    number: "a number",
    boolean: "true or false",
    text: "a word or text",
    frame_id: "frames like 0 -1 1 or s",
    _LISTS[whole]: "a list of whole numbers",
    _LISTS[as_written]: "a list of numbers",
    _LISTS[text]: "a list of words",
    section: "settings like {name: value}",
}
# A part of an annotation → its reader. A structured value is tried from the end.
_OF_ANNOTATION = {
    "bool": boolean,
    "int": whole,
    "float": number,
    "str": text,
    "Path": text,
    "Sequence of int": _LISTS[whole],
    "Sequence of float": _LISTS[as_written],
    "Sequence of str": _LISTS[text],
    "Mapping": section,
    "dict": section,
}


def is_nothing(value: Any) -> bool:
    """Whether a value says "not set": none or null, in any case."""
    return value is None or (isinstance(value, str) and value.lower() in NOTHING)


def read_settings(what: str, known: Mapping[str, Setting], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a section, each as the type of the constructor's parameter.

    Args:
        what: the section and its component, such as "dataset kitti"; errors begin with it.
        known: the component's settings.
        settings: from configs and the command line.

    Raises:
        InputError: an unknown setting, with the nearest one, or a value of another type.
    """
    for key in settings:
        if key not in known:
            raise InputError(f"{what} has no setting '{key}'{nearest_name(key, known)}")
    return {key: _read_setting(what, key, known[key], value) for key, value in settings.items()}


def _read_setting(what: str, key: str, setting: Setting, value: Any) -> Any:
    kinds, others, optional = _kinds(setting)
    if optional and is_nothing(value):
        return None
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InputError(f"{what}: {key} needs a value, got {shown(value)}")
    structured = isinstance(value, (list, tuple, dict)) or str(value).startswith(("[", "{"))
    if not kinds or (others and (text not in kinds or structured)):
        return plain(value)
    for kind in reversed(kinds) if structured else kinds:
        try:
            return kind(value)
        except ValueError:
            continue
    meant = " or ".join(MEANING[kind] for kind in kinds)
    raise InputError(f"{what}: {key} is {meant}, got {shown(value)}")


def _kinds(setting: Setting) -> tuple[list[Any], bool, bool]:
    """A parameter's readers; whether it has further types; whether it may be None."""
    if not setting.annotation:  # the type of its default, except that 1 may stand for 1.0
        default = setting.default
        by_type = {bool: boolean, int: number, float: number, str: text}
        kinds = [] if type(default) is int else [by_type[type(default)]] if type(default) in by_type else []
        return kinds, False, default is None
    annotation = re.sub(r"Sequence\[(int|float|str)\]", r"Sequence of \1", setting.annotation)
    while (inner := re.sub(r"\[[^\[\]]*\]", "", annotation)) != annotation:
        annotation = inner  # Mapping[str, Any] is a Mapping here
    names = {name.strip() for name in annotation.split("|")}
    kinds = [kind for name, kind in _OF_ANNOTATION.items() if name in names]
    return list(dict.fromkeys(kinds)), bool(names - set(_OF_ANNOTATION) - {"None"}), "None" in names


def plain(value: Any) -> Any:
    """A value with every text from the command line read as YAML."""
    if isinstance(value, Typed):
        return read_setting(str(value))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value


def shown(value: Any) -> str:
    """A value as an error shows it; of a long one the beginning."""
    words = repr(str(value) if isinstance(value, Typed) else value)
    return words if len(words) <= 100 else f"{words[:100]}..."
