"""Label tables: which class a value of a label file means, in one `labels.yaml` for any dataset.

    classes:                                              # train id 0, 1, ... in this order
      - {name: road, colour: [128, 64, 128], moves: false}
      - {name: car, colour: [0, 0, 142], moves: true}
    ids: {7: road, 26: car, 0: ignored}                   # value in the files: class

`classes: cityscapes` takes Cityscapes' 19 classes. Files that hold colours instead of ids are listed by
`colours: {"255 127 80": car}` in place of `ids`. A value outside the table is an error: SGDepth's published
code maps it to the class with the nearest id. Tables of public datasets are in configs/labels/.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets._pillow import Unreadable, opened
from files import damage
from utils import PROJECT, InputError, nearest_name, read_text, read_yaml

IGNORED = 255  # train id of pixels without a class
IGNORED_NAME = "ignored"
TABLES = PROJECT / "configs" / "labels"
_KEYS = ("classes", "ids", "colours", "images", "labels", "parts")


@dataclass(frozen=True)
class LabelTable:
    """The classes of a dataset and the values of its label files.

    Attributes:
        names: names of the classes, in the order of their train ids.
        palette: (classes, 3) uint8 RGB.
        moves: train ids of the classes that can move by themselves.
        ids: value in the files → train id, 255 for ignored ones; empty if the files hold colours.
        colours: (red, green, blue) in the files → train id; empty if the files hold ids.
        source: file of the table, for errors.
    """

    names: tuple[str, ...]
    palette: np.ndarray
    moves: tuple[int, ...]
    ids: Mapping[int, int]
    colours: Mapping[tuple[int, int, int], int]
    source: str

    def read(self, path: Path) -> np.ndarray:
        """(h, w) uint8 train ids of a label file.

        Raises:
            InputError: missing, not an image, colours where ids belong or the reverse, a value outside the
                table.
        """
        values = read_label_image(path)
        if self.colours:
            if values.ndim != 3:
                raise InputError(f"{path} holds ids, and {self.source} lists colours; list `ids` instead")
            return self._from_colours(values, path)
        if values.ndim != 2:
            raise InputError(
                f"{path} holds colours (shape {values.shape}), and {self.source} lists ids; take the files "
                'of label ids, or list `colours: {"red green blue": class}`'
            )
        return self.to_train_ids(values, path)

    def to_train_ids(self, values: np.ndarray, source: Any = "the labels") -> np.ndarray:
        """Train ids, uint8, of an array of ids of any shape.

        Raises:
            InputError: an id outside the table; the sentence names `source`.
        """
        found = np.flatnonzero(np.bincount(values.ravel()))
        unknown = [int(value) for value in found if value not in self.ids]
        if unknown:
            raise InputError(
                f"{source}: label id {unknown[0]} is not in {self.source}; add "
                f"`{unknown[0]}: {IGNORED_NAME}` or its class to `ids`"
            )
        table = np.full(int(found.max()) + 1 if len(found) else 1, IGNORED, np.uint8)
        table[found] = [self.ids[int(value)] for value in found]
        return table[values]

    def colourise(self, labels: np.ndarray) -> np.ndarray:
        """Train ids (h, w) as an image (h, w, 3) uint8 RGB; other values are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.palette)] = self.palette
        return table[labels]

    def _from_colours(self, values: np.ndarray, path: Path) -> np.ndarray:
        packed = values[..., :3].astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
        found, inverse = np.unique(packed, return_inverse=True)
        trained = []
        for value in found.tolist():
            colour = value >> 16, value >> 8 & 255, value & 255
            if colour not in self.colours:
                text = " ".join(map(str, colour))
                raise InputError(
                    f'{path}: colour "{text}" is not in {self.source}; add `"{text}": {IGNORED_NAME}` or its '
                    "class to `colours`"
                )
            trained.append(self.colours[colour])
        return np.array(trained, np.uint8)[inverse].reshape(packed.shape)


def read_label_image(path: Path) -> np.ndarray:
    """The values of a label file: (h, w) of ids, or (h, w, 3 or 4) of colours; a palette counts as ids.

    Raises:
        InputError: there is no such file, or it is not an image.
    """
    try:
        with opened(path) as image:
            return np.array(image)
    except FileNotFoundError:
        raise InputError(f"there is no file {path} of labels") from None
    except InputError as error:
        raise InputError(f"{path} is {error}") from None
    except (OSError, Unreadable) as error:
        raise InputError(f"{path} cannot be read as labels ({error}); {damage(path)}") from None


def load_label_table(path: str | Path) -> LabelTable:
    """Read a table: a `labels.yaml`, or by name one of configs/labels/.

    Raises:
        InputError: no such file, or a key, class, id or colour that does not fit.
    """
    return table_of(read_label_settings(path), str(path))


@functools.cache
def cityscapes_table() -> LabelTable:
    """Cityscapes' 34 ids and 19 classes."""
    return load_label_table("cityscapes")


def read_label_settings(path: str | Path) -> dict[str, Any]:
    """The settings of a `labels.yaml`, its keys checked; arguments and errors as `load_label_table`."""
    known = sorted(file.stem for file in TABLES.glob("*.yaml"))
    file = TABLES / f"{path}.yaml" if str(path) in known else Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"there is no label table {path}; give a labels.yaml, or one of {', '.join(known)}")
    try:
        settings = read_yaml(read_text(file))
    except ValueError as error:
        raise InputError(f"{path} is not valid YAML ({error})") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path} must hold classes and ids, got a {type(settings).__name__}")
    for key in settings:
        if key not in _KEYS:
            raise InputError(
                f"{path} has a key '{key}' that label tables do not have{nearest_name(key, _KEYS)}"
            )
    return settings


def table_of(settings: Mapping[str, Any], source: str) -> LabelTable:
    """The table of checked settings; errors as `load_label_table`."""
    names, palette, moves = _classes(settings.get("classes"), source)
    entries = {key: settings[key] for key in ("ids", "colours") if settings.get(key)}
    if len(entries) != 1:
        raise InputError(f"{source} must list either `ids` or `colours` of its label files, and not both")
    ((kind, values),) = entries.items()
    if not isinstance(values, dict):
        raise InputError(f"{source}: `{kind}` maps values to classes, such as `7: road`")
    trained: dict[Any, int] = {}
    for value, name in values.items():
        if name not in (*names, IGNORED_NAME):
            raise InputError(
                f"{source}: {kind} {value} names no class '{name}'"
                f"{nearest_name(name, [*names, IGNORED_NAME])}"
            )
        key = _colour(value, source) if kind == "colours" else _id(value, source)
        trained[key] = IGNORED if name == IGNORED_NAME else names.index(name)
    ids, colours = (trained, {}) if kind == "ids" else ({}, trained)
    return LabelTable(names, palette, moves, ids, colours, source)


def _classes(classes: Any, source: str) -> tuple[tuple[str, ...], np.ndarray, tuple[int, ...]]:
    if classes == "cityscapes":
        table = cityscapes_table()
        return table.names, table.palette, table.moves
    if not isinstance(classes, list) or not classes:
        raise InputError(f"{source} needs `classes`: cityscapes, or a list of name, colour and moves")
    for entry in classes:
        if not isinstance(entry, dict) or set(entry) != {"name", "colour", "moves"}:
            raise InputError(f"{source}: a class has name, colour and moves, got {entry}")
        if not isinstance(entry["moves"], bool):
            raise InputError(f"{source}: class {entry['name']} moves: true or false, got {entry['moves']!r}")
    names = tuple(str(entry["name"]) for entry in classes)
    if len(set(names)) < len(names) or len(names) > IGNORED or IGNORED_NAME in names:
        raise InputError(
            f"{source}: class names must differ, be at most {IGNORED} and not '{IGNORED_NAME}', got "
            f"{', '.join(names[:30])}"
        )
    palette = np.array([_colour(entry["colour"], source) for entry in classes], np.uint8)
    return names, palette, tuple(n for n, entry in enumerate(classes) if entry["moves"])


def _colour(value: Any, source: str) -> tuple[int, int, int]:
    parts = value.split() if isinstance(value, str) else value
    try:
        red, green, blue = (int(part) for part in parts)
    except (TypeError, ValueError):
        raise InputError(f"{source}: a colour is three numbers of 0 to 255, got {value!r}") from None
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise InputError(f"{source}: a colour is three numbers of 0 to 255, got {value!r}")
    return red, green, blue


def _id(value: Any, source: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 65536:
        raise InputError(f"{source}: a label id is a whole number of 0 to 65535, got {value!r}")
    return value
