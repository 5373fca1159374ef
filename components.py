"""Components as their files declare them, read without importing them.

`--help`, `--list` and a mistyped name are answered before torch is loaded, so names, settings and first
sentences come from the source text (`ast`). The rule is the registry's: a class under `@NETWORKS.register`
has the name of its file, one under `@NETWORKS.register("name")` has that name. A constructor with
`**settings` also takes the settings of the class it extends.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import operator
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import utils
from utils import PACKAGE, PROJECT, InputError, Registry, import_own, nearest_name

REQUIRED = object()  # the default of a setting without one
_ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
COMPUTED = object()  # a default that is not a literal


@dataclass(frozen=True)
class Setting:
    """A parameter of a constructor.

    Attributes:
        annotation: its type as written, "" without one.
        default: its value, `REQUIRED`, or another object if it is not a literal.
    """

    annotation: str
    default: Any


@dataclass(frozen=True)
class Component:
    """A class that an option or a section of a config can name.

    Attributes:
        name: the name used in configs.
        module: dotted name of its file.
        class_name: name of the class.
        summary: one sentence of description.
        settings: parameters of its constructor and of the classes it extends.
        defaults: `Method.defaults`, the option defaults that it overrides.
        registered: the class, if other code registered it and no file of the package holds it.
    """

    name: str
    module: str
    class_name: str
    summary: str
    settings: dict[str, Setting]
    defaults: dict[str, Any]
    registered: type | None = None

    def load(self) -> type:
        """The class itself; imports its file."""
        return self.registered or getattr(import_own(self.module), self.class_name)

    def attribute(self, name: str) -> Any:
        """A class attribute made of literals, such as a dataset's `default_height`; None without one."""
        if self.registered:
            return getattr(self.registered, name, None)
        try:
            return _attribute(_resolve(self.module, self.class_name), name)
        except LookupError:
            return None


@functools.cache
def components(package: str) -> dict[str, Component]:
    """Name → component of `methods`, `networks`, `losses` or `datasets`, sorted."""
    found = {}
    for module in _modules(package):
        for node in _tree(module).body:
            name = _registered_name(node, module)
            if name is not None:
                found[name] = _describe(module, node, name)
    return dict(sorted(found.items()))


def find_component(package: str, name: str) -> Component:
    """The component called `name`: a file of the package, or a class that other code has registered.

    Raises:
        InputError: there is none; the sentence gives the nearest name.
    """
    known = components(package)
    if name in known:
        return known[name]
    for registry in vars(sys.modules.get(PACKAGE + package, utils)).values():
        if isinstance(registry, Registry) and registry.package == package and name in registry.known():
            cls = registry.get(name)
            settings = {key: _live_setting(value) for key, value in utils.parameters(cls).items()}
            defaults = getattr(cls, "defaults", {})
            return Component(name, cls.__module__, cls.__name__, "", settings, defaults, registered=cls)
    raise InputError(f"there is no {package}/{name}.py{nearest_name(name, known)}")


def _live_setting(parameter: inspect.Parameter) -> Setting:
    annotation = "" if parameter.annotation is parameter.empty else parameter.annotation
    default = REQUIRED if parameter.default is parameter.empty else parameter.default
    return Setting(annotation if isinstance(annotation, str) else annotation.__name__, default)


@functools.cache
def find_class(package: str, class_name: str) -> Component:
    """A class of a package that has no component name, such as `Augment` of `datasets`."""
    for module in _modules(package):
        for node in _tree(module).body:
            if isinstance(node, ast.ClassDef) and node.name == class_name:
                return _describe(module, node, class_name)
    raise LookupError(f"no file of {package}/ defines the class {class_name}")


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line; "et al." and initials do not end it."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    end = re.search(r"(?<!et al)(?<!\b[A-Z])(?<!e\.g)(?<!i\.e)\.(?=\s|$)|:$", paragraph)
    return paragraph[: end.start()] if end else paragraph


# ------------------------------------------------------------------------------------------------ source text


def _modules(package: str) -> list[str]:
    """Dotted names of a package's files, including `__init__` of its sub-packages."""
    files = sorted((PROJECT / package).glob("*.py")) + sorted((PROJECT / package).glob("*/__init__.py"))
    parts = (path.relative_to(PROJECT).with_suffix("").parts for path in files)
    return [".".join(part).removesuffix(".__init__") for part in parts]


def _file(module: str) -> Path | None:
    path = PROJECT.joinpath(*module.removeprefix(PACKAGE).split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@functools.cache
def _tree(module: str) -> ast.Module:
    path = _file(module)
    assert path is not None, module
    return ast.parse(path.read_text(encoding="utf-8"))


def _registered_name(node: ast.stmt, module: str) -> str | None:
    """The name under which a class is registered, None for anything else."""
    if not isinstance(node, ast.ClassDef):
        return None
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(call, ast.Attribute) and call.attr == "register":
            named = isinstance(decorator, ast.Call) and decorator.args
            return ast.literal_eval(decorator.args[0]) if named else module.rsplit(".", 1)[-1]
    return None


def _describe(module: str, node: ast.ClassDef, name: str) -> Component:
    own = name == module.rsplit(".", 1)[-1]  # otherwise the file's sentence describes another class
    text = ast.get_docstring(_tree(module) if own else node) or ""
    return Component(
        name, module, node.name, first_sentence(text), _settings(module, node), _defaults(module, node)
    )


def _bases(module: str, node: ast.ClassDef) -> Iterator[tuple[str, ast.ClassDef]]:
    """The classes of this project that a class extends, each with its module, nearest first."""
    for base in node.bases:
        found = _resolve(module, base.id) if isinstance(base, ast.Name) else None
        if found:
            yield found


def _resolve(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """The class that `name` stands for in a module: defined there, or imported from another file of ours."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and _file(node.module):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _resolve(node.module, alias.name)
    return None


def _order(module: str, node: ast.ClassDef) -> list[tuple[str, ast.ClassDef]]:
    """A class and the classes of this project that it extends, in Python's method resolution order."""
    found = [(module, node)]
    for base in _bases(module, node):
        found += _order(*base)
    last = {(owner, cls.name): number for number, (owner, cls) in enumerate(found)}
    return [item for number, item in enumerate(found) if last[item[0], item[1].name] == number]


def _settings(module: str, node: ast.ClassDef) -> dict[str, Setting]:
    """Parameters of the constructor; a parameter that a subclass redefines is the subclass's."""
    found: dict[str, Setting] = {}
    for owner, cls in _order(module, node):
        init = next((n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        own = _fields(owner, cls) if init is None else _parameters(owner, init.args)
        found |= {key: value for key, value in own.items() if key not in found}
        if init is not None and init.args.kwarg is None:
            break
    return found


def _parameters(module: str, arguments: ast.arguments) -> dict[str, Setting]:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults), *zip(arguments.kwonlyargs, arguments.kw_defaults)]
    return {argument.arg: _setting(module, argument.annotation, value) for argument, value in pairs[1:]}


def _fields(module: str, node: ast.ClassDef) -> dict[str, Setting]:
    """Fields of a dataclass; nothing for any other class."""
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return {}
    fields = (field for field in node.body if isinstance(field, ast.AnnAssign))
    return {ast.unparse(field.target): _setting(module, field.annotation, field.value) for field in fields}


def _setting(module: str, annotation: ast.expr | None, value: ast.expr | None) -> Setting:
    text = "" if annotation is None else ast.unparse(annotation)
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        text = annotation.value
    if value is None:
        return Setting(text, REQUIRED)
    try:
        return Setting(text, _literal(module, value))
    except ValueError:
        return Setting(text, COMPUTED)


def _literal(module: str, node: ast.expr) -> Any:
    """The value of an expression made of literals, constants of files of ours and attributes of our classes.

    Raises:
        ValueError: other code.
    """
    if isinstance(node, ast.Name):
        return _literal(*_constant(module, node.id))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return _attribute(_resolve(module, node.value.id), node.attr)
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_literal(module, item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        found: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values):
            value = _literal(module, item)
            found |= value if key is None else {_literal(module, key): value}
        return found
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_literal(module, node.left), _literal(module, node.right))
    return ast.literal_eval(node)


def _constant(module: str, name: str) -> tuple[str, ast.expr]:
    """The module that assigns a constant, found through imports, and the assigned expression."""
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.module and _file(node.module):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _constant(node.module, alias.name)
        if name in _assigned(node):
            return module, node.value
    raise ValueError(f"{module} assigns nothing to {name}")


def _assigned(node: ast.stmt) -> list[str]:
    """Names that a statement assigns a value to."""
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _attribute(owner: tuple[str, ast.ClassDef] | None, name: str) -> Any:
    """A class attribute of the class itself or of a class that it extends.

    Raises:
        ValueError: there is none.
    """
    if owner is None:
        raise ValueError(name)
    module, node = owner
    for statement in node.body:
        if name in _assigned(statement):
            return _literal(module, statement.value)
    for base in _bases(module, node):
        with contextlib.suppress(LookupError):
            return _attribute(base, name)
    raise LookupError(name)


def _defaults(module: str, node: ast.ClassDef) -> dict[str, Any]:
    """The class attribute `defaults`, {} without one.

    Raises:
        TypeError: it is code that `_literal` does not understand; a message for the author of a method.
    """
    try:
        return _attribute((module, node), "defaults")
    except LookupError:
        return {}
    except ValueError:
        raise TypeError(f"{module}: `defaults` of {node.name} must be made of literals") from None
