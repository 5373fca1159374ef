"""Shared by every part: errors, registries, settings of constructors, files, YAML.

This file imports only the standard library (PyYAML on first use), because entry scripts answer `--help` and
mistakes before they load torch.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import functools
import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

PROJECT = Path(__file__).resolve().parent
PACKAGE = __name__.removesuffix("utils")  # before our modules' names: "" in a checkout, "parallax." installed
WORKERS = min(8, os.cpu_count() or 1)  # loader processes if not given
REFUSED = {  # what a machine refuses, whatever the program: errno → the fix
    errno.EACCES: "give this user the permission (chmod, chown)",
    errno.EPERM: "give this user the permission (chmod, chown)",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.ENOSPC: "free some space and start again",
    errno.EDQUOT: "free some space and start again",
    errno.EISDIR: "it is a folder where a file is needed",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EMFILE: "raise the limit of open files, such as ulimit -n 65536",
}
MOST_VALUES = 100_000  # in one YAML text, aliases written out


class InputError(ValueError):
    """An error in one sentence for the person who fixes it: what is wrong, the value, what to type."""


def run_main(main: Callable[[], Any]) -> None:
    """Run an entry script; an `InputError` becomes its sentence and exit status 2, without a traceback.

    A package that is not installed becomes a sentence too, and so does a file that the machine refuses, for
    lack of permission or space. Output into a closed pipe (`| head`) ends quietly.
    """
    try:
        main()
        sys.stdout.flush()  # a closed pipe fails here and not while Python exits
    except InputError as error:
        _say_once(f"error: {error}")
        raise SystemExit(2) from None
    except ModuleNotFoundError as error:
        package = (error.name or "").removeprefix(PACKAGE).partition(".")[0]
        if not package or (PROJECT / package).exists() or (PROJECT / f"{package}.py").exists():
            raise
        activate = f"activate the environment (source {PROJECT / '.venv/bin/activate'}) or install: "
        fix = f"pip install {package}" if PACKAGE else f"{activate}pip install -r requirements.txt"
        _say_once(f"error: the package '{package}' is not installed for {sys.executable}; {fix}")
        raise SystemExit(2) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit has a reader
        raise SystemExit(141) from None  # 128 + SIGPIPE, as other commands
    except OSError as error:
        if error.errno not in REFUSED or error.filename is None:
            raise
        _say_once(f"error: {refusal(error)}")
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130) from None


def refusal(error: OSError) -> str:
    """One sentence about a file that the machine refuses: the file, the reason, the fix."""
    fix = REFUSED.get(error.errno or 0)
    return f"{error.filename}: {error.strerror or error}" + (f"; {fix}" if fix else "")


def _say_once(sentence: str) -> None:
    """Print an error; under torchrun the first process that fails hands it to torchrun's closing report."""
    report = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not report:
        print(sentence, file=sys.stderr)
        return
    # .../attempt_0/<local rank>/error.json: the folder above the rank's is shared by a node's processes.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(Path(report).parents[1] / "said", os.O_CREAT | os.O_EXCL))
        Path(report).parent.mkdir(parents=True, exist_ok=True)
        # torchrun reports the earliest failure, and among equal seconds that of the lowest rank.
        Path(report).write_text(json.dumps({"message": sentence, "timestamp": int(time.time()) - 1}))


def nearest_name(name: Any, names: Iterable[str]) -> str:
    """`; did you mean 'x'? (available: ...)` for an unknown `name`. With a guess, a long list is left out.

    `name` may be any YAML key, such as the number 1.
    """
    names = sorted(names)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    if not names:
        return "; there is none yet"
    guess = f"; did you mean '{near[0]}'?" if near else ""
    return guess if near and len(names) > 12 else f"{guess} (available: {', '.join(names)})"


def quotes_needed(words: Sequence[str], word: str) -> str:
    """The fix for a word that no flag takes, if it follows a flag and its value; else empty.

    Such as `; in quotes it belongs to its flag: --intrinsics "60 60 48 32"` for the second 60.
    """
    starts = [number for number, item in enumerate(words) if item.startswith("--")]
    for start, end in zip(starts, [*starts[1:], len(words)]):
        flag, equals, value = words[start].partition("=")
        value = [*([value] if equals else []), *words[start + 1 : end]]
        if word in value[1:]:
            return f'; in quotes it belongs to its flag: {flag} "{" ".join(value)}"'
    return ""


def import_own(module: str) -> ModuleType:
    """A module of ours by its name in the checkout, such as `datasets.kitti`; see `PACKAGE`."""
    return importlib.import_module(PACKAGE + module)


def program(script: str) -> str:
    """The program as it was typed, for its usage: `parallax doctor`, or the script itself."""
    return sys.argv[0] if sys.argv[0].startswith("parallax ") else script


class Registry:
    """Name → class, filled by importing every file of a package: `@NETWORKS.register` above a class.

    A component's name is the name of its file, so `methods/monodepth2.py` holds the class registered as
    `monodepth2`; in a file with several, each is named: `@NETWORKS.register("pose_cnn")`.
    """

    def __init__(self, package: str) -> None:
        self.package = package
        self._classes: dict[str, type] = {}

    def register(self, name: str | type) -> Any:
        """Decorator; without a name, the class has the name of its file."""
        if isinstance(name, type):
            return self._add(name.__module__.rsplit(".", 1)[-1], name)
        return lambda cls: self._add(name, cls)

    def _add(self, name: str, cls: type) -> type:
        if self._classes.get(name, cls) is not cls:
            raise ValueError(f"two classes are registered as {self.package}/{name}")
        self._classes[name] = cls
        return cls

    def _import_all(self) -> None:
        for module in pkgutil.iter_modules(import_own(self.package).__path__):
            import_own(f"{self.package}.{module.name}")

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self._import_all()
        return sorted(self._classes)

    def known(self) -> list[str]:
        """Names registered so far; imports nothing."""
        return sorted(self._classes)

    def get(self, name: str) -> type:
        """The class called `name`.

        Raises:
            InputError: there is none; the sentence gives the nearest name.
        """
        if name not in self._classes:
            self._import_all()
        if name not in self._classes:
            raise InputError(f"there is no {self.package}/{name}.py{nearest_name(name, self._classes)}")
        return self._classes[name]

    def find(self, name: str) -> type | None:
        """The class called `name`, or None."""
        if name not in self._classes:
            self._import_all()
        return self._classes.get(name)

    def build(self, section: str, options: Mapping[str, Any], **overrides: Any) -> Any:
        """The component that `options[section]` names, from the options its constructor takes.

        Args:
            section: `method` or `dataset`. The option is a name, or a section `{"name": ..., setting: value}`
                whose settings win over options of the same name.
            options: options of a run.
            overrides: settings that win over both.

        Raises:
            InputError: an unknown component or setting, with the nearest that exists; what the component
                itself refuses.
        """
        chosen = options[section]
        settings = {"name": chosen} if isinstance(chosen, str) else dict(chosen)
        name = settings.pop("name", None)
        if not name:
            raise InputError(f"the section '{section}' has no name")
        component = self.get(name)
        check_settings(f"{section} {name}", component, settings)
        taken = settings_of(component)
        shared = {key: value for key, value in options.items() if key in taken and value is not None}
        return component(**{**shared, **settings, **overrides})


def settings_of(function: Callable) -> list[str]:
    """Names of the settings that a function or a constructor takes.

    A constructor with `**settings` also takes the settings of the class it extends.
    """
    return list(parameters(function))


def parameters(function: Callable) -> dict[str, inspect.Parameter]:
    """Name → parameter; a parameter redefined by a subclass overrides that of the class it extends."""
    is_class = isinstance(function, type)
    owners = [o for o in inspect.getmro(function) if "__init__" in vars(o)] if is_class else []
    found: dict[str, inspect.Parameter] = {}
    for call in [vars(owner)["__init__"] for owner in owners if owner is not object] or [function]:
        taken = inspect.signature(call).parameters.values()
        named = {p.name: p for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        found |= {name: p for name, p in named.items() if name not in found}
        if not any(p.kind is p.VAR_KEYWORD for p in taken):
            break
    found.pop("self", None)
    return found


_KINDS = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
}


def check_settings(what: str, function: Callable, settings: Mapping[str, Any]) -> None:
    """Refuse settings that `function` does not take, and values of another type than its annotation if that
    is `bool`, `int` or `float`.

    Raises:
        InputError: names `what` (a config section), the key, and the nearest valid one or the value.
    """
    known = parameters(function)
    for key, value in settings.items():
        if key not in known:
            raise InputError(f"{what} has no setting '{key}'{nearest_name(key, known)}")
        annotation = known[key].annotation
        kind, meant = _KINDS.get(getattr(annotation, "__name__", annotation), (object, ""))
        is_boolean = isinstance(value, bool) and kind not in (bool, object)  # Python counts it as an int
        if value is not None and (is_boolean or not isinstance(value, kind)):
            raise InputError(f"{what}: {key} is {meant}, got {value!r}")


def data_root() -> Path:
    """The parent of the dataset folders: $PARALLAX_DATA, else `data` in the checkout or, installed, here."""
    root = Path() if PACKAGE else PROJECT
    return Path(os.environ.get("PARALLAX_DATA") or root / "data").expanduser()


def can_write(folder: Path) -> bool:
    """True if files can be written in a folder; the folder may not exist yet."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path that replaces `path` after the block has ended without an error.

    A full disk or a killed process leaves the earlier file complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    try:
        yield Path(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def read_text(path: str | Path) -> str:
    """The content of a text file.

    Raises:
        InputError: there is no such file, it cannot be read, or it is not UTF-8.
    """
    try:
        # utf-8-sig also takes the byte order mark that some editors put first.
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:
        raise InputError(refusal(error)) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; save it as UTF-8") from None


def read_lines(path: str | Path) -> list[str]:
    """The non-empty lines of a text file, stripped.

    Raises:
        InputError: there is no such file, or it is not UTF-8.
    """
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


# Plain words of YAML that are not text: tag, pattern, first characters. Unlike YAML 1.1, `1e-4` is a number,
# and `010`, `12:30:15`, `2011-09-26`, `yes`, `no` are text, which is read by the type of its setting.
_SCALARS: list[tuple[str, str, list[str]]] = [
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9]\d*)", list("-+0123456789")),
    ("float", r"[-+]?(\d+\.\d*|\.\d+)([eE][-+]?\d+)?|[-+]?\d+[eE][-+]?\d+", list("-+0123456789.")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", "<<", ["<"]),
]


@functools.cache
def _yaml() -> tuple[Any, type, type]:
    """PyYAML, a loader that reads 1e-4 as a number, and a dumper that quotes words which look like numbers.

    Imported on first use: a script outside the environment must be able to say what is missing.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers: ClassVar[dict] = {}

    for tag, pattern, first in _SCALARS:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), first)

    class Dumper(yaml.SafeDumper):  # quotes what other YAML readers take for a number, too
        yaml_implicit_resolvers: ClassVar[dict] = {
            first: Loader.yaml_implicit_resolvers.get(first, []) + others
            for first, others in yaml.SafeDumper.yaml_implicit_resolvers.items()
        }

    return yaml, Loader, Dumper


def read_yaml(text: str) -> Any:
    """Parse YAML text.

    Raises:
        ValueError: it does not parse; the message says where.
    """
    yaml, kind, _ = _yaml()
    try:
        loader = kind(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > MOST_VALUES:
            raise ValueError(f"its aliases stand for more than {MOST_VALUES} values")
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _expanded(node: Any, known: dict[int, int]) -> int:
    """Values in a YAML node if each alias is written out; aliases of aliases grow without bound."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1  # what holds itself never ends
        parts = node.value if isinstance(node.value, list) else []
        parts = [part for item in parts for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_expanded(part, known) for part in parts)
    return known[id(node)]


def read_setting(text: str) -> Any:
    """A setting as it was typed: YAML, or the text itself if it is not YAML, such as the pattern *.png."""
    try:
        return read_yaml(text)
    except ValueError:
        return text


def to_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML text that `read_yaml` reads back to the same values."""
    yaml, _, dumper = _yaml()
    return yaml.dump(dict(settings), Dumper=dumper, sort_keys=False, default_flow_style=None, width=110)
