"""The wheel: the checkout's modules inside one package, with their imports of each other rewritten.

    from networks import NETWORKS      from parallax.networks import NETWORKS
    import files                       from parallax import files
    import files as f                  from parallax import files as f
    import a.b                         import parallax.a.b; from parallax import a
    import a.b as c                    import parallax.a.b as c

A checkout is flat, so that `run.py` and `networks/` are what one sees first. A wheel with modules called
`datasets` and `utils` would hide other packages of these names. `ast` finds the imports, also those inside
functions, and only their characters change: lines and comments stay, and so do the lines of a traceback.
Names in strings go through `utils.import_own`, which knows where it is.
"""

from __future__ import annotations

import ast
import io
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from setuptools.command.build_py import build_py

NAME = "parallax"
LEFT_OUT = {"setup", "conftest", "hubconf", "tests", "benchmarks", "docs", "build", "dist", NAME}
DATA = ("configs", "models/synthetic_small", "splits")  # folders without Python files that modules read
ONLY_HERE = {
    "parallax/_wheel.py",
    "tools/demo.py",
    "tools/site.py",
    "tools/small_model.py",
}  # files that need a checkout


class BuildPackage(build_py):
    """setuptools' command, which also puts every part of the checkout into the package."""

    def run(self) -> None:
        """Fill the build folder; an editable installation uses the checkout itself."""
        if not self.editable_mode:
            shutil.rmtree(Path(self.build_lib, NAME), ignore_errors=True)  # files of an earlier build
        super().run()
        if not self.editable_mode:
            write_package(Path(__file__).resolve().parents[1], Path(self.build_lib, NAME))


def write_package(checkout: Path, package: Path) -> None:
    """Write all parts of a checkout into the folder of the package."""
    names = parts(checkout)
    for source in part_files(checkout, names):
        relative = source.relative_to(checkout)
        target = package / (relative.relative_to(NAME) if relative.parts[0] == NAME else relative)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".py":
            target.write_text(rewritten(source.read_text(encoding="utf-8"), names), encoding="utf-8")
        else:
            shutil.copyfile(source, target)
    for name in ONLY_HERE:
        (package / name.removeprefix(f"{NAME}/")).unlink(missing_ok=True)


def parts(checkout: Path) -> set[str]:
    """Names of the checkout's modules, and of its folders of modules."""
    files = {path.stem for path in checkout.glob("*.py")}
    folders = {path.parent.name for path in checkout.glob("*/*.py") if path.parent.name.isidentifier()}
    return (files | folders) - LEFT_OUT


def part_files(checkout: Path, names: Collection[str]) -> Iterator[Path]:
    """Files of these parts, of the data folders and of the package itself."""
    for name in sorted(names):
        if (checkout / f"{name}.py").is_file():
            yield checkout / f"{name}.py"
    for name in sorted({*names, *DATA, NAME}):
        for path in sorted((checkout / name).rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(checkout).parts)
            if path.is_file() and not hidden:
                yield path


def rewritten(text: str, names: Collection[str]) -> str:
    """Source text whose imports of the modules `names` come from the package instead."""
    lines = io.StringIO(text).readlines()  # as `ast` counts lines; splitlines() also breaks at form feeds
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        before = lines[node.lineno - 1].encode()[: node.col_offset].decode()  # columns are bytes
        after = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
        statement = ast.get_source_segment(text, node)
        new = (
            _import_from(statement, node, names) if isinstance(node, ast.ImportFrom) else _import(node, names)
        )
        if new is not None:
            lines[node.lineno - 1 : node.end_lineno] = [before + new + after]
    return "".join(lines)


def _import_from(statement: str, node: ast.ImportFrom, names: Collection[str]) -> str | None:
    if node.level or node.module.split(".")[0] not in names:
        return None
    return re.sub(r"^from\s+", f"from {NAME}.", statement)


def _import(node: ast.Import, names: Collection[str]) -> str | None:
    if not any(alias.name.split(".")[0] in names for alias in node.names):
        return None
    return "; ".join(_one_import(alias, names) for alias in node.names)


def _one_import(alias: ast.alias, names: Collection[str]) -> str:
    top, _, below = alias.name.partition(".")
    renamed = f" as {alias.asname}" if alias.asname else ""
    if top not in names:
        return f"import {alias.name}{renamed}"
    if not below:
        return f"from {NAME} import {top}{renamed}"
    return f"import {NAME}.{alias.name}{renamed}" + ("" if renamed else f"; from {NAME} import {top}")
