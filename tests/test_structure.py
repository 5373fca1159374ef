"""How the project is built: one import direction, no circle, short files, functions and constructors.

Every exception stands below with its reason. An exception that is no longer needed fails as well, so the
tables only shrink.
"""

import ast
import functools
from pathlib import Path

import pytest

from utils import PROJECT

MOST_FILE, MOST_FUNCTION, MOST_SETTINGS = 400, 60, 10  # lines, lines, parameters that a constructor adds

# A file imports from lower levels only. Files of one folder may import each other, without a circle.
LEVELS = [
    {"utils"},
    {"structures", "components", "devices", "files", "intrinsics", "provenance", "shards", "workers"},
    {"layers", "notices", "processes", "progress", "schedule", "segmentation_metrics", "storage"},
    {"kernels"},
    {
        "cameras",
        "image_pyramid",
        "photometric_error",
        "metrics",
        "checkpoints",
        "images",
        "clouds",
        "sinks",
        "trajectories",
        "matching",
    },
    {"networks", "losses", "datasets", "videos"},
    {"views"},
    {"methods"},
    {"evaluation"},
    {"validation", "logs", "published_configs"},
    {"training"},
    {"options", "trainer", "predictor"},
    {"flags"},
    {"prediction"},
    {"tools"},
    {
        "run",
        "evaluate_depth",
        "evaluate_pose",
        "evaluate_segmentation",
        "test_simple",
        "test_video",
        "hubconf",
        "parallax",
    },
    {"benchmarks"},
]
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}

UPWARD: dict[tuple[str, str], str] = {}  # (importing, imported): why
SCRIPTS_AS_LIBRARY = {  # (importing, entry script): why
    ("benchmarks.sift_matches", "benchmarks.prepare_cityscapes"): "shares the published program's stand-in",
    ("benchmarks.sift_matches", "tools.make_synthetic"): "renders its world with the tool",
    ("benchmarks.tables.demo", "tools.demo"): "evaluates as the demo does",
}
LONG_FILES = {  # file: why
}
LONG_FUNCTIONS = {  # file:function: why
}
MANY_SETTINGS = {  # file:class: why
    "datasets/folder.py:Folder": "recordings of one's own: each setting is a fact that no file there states",
    "methods/_networks.py:DepthAndMotion": "depth and pose networks; its settings are Monodepth2's options",
}
CIRCLES: dict[tuple[str, ...], str] = {}  # files that import each other, in alphabetical order: why

FILES = sorted(
    path.relative_to(PROJECT)
    for path in PROJECT.rglob("*.py")
    if path.relative_to(PROJECT).parts[0].removesuffix(".py") in LEVEL
)


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse((PROJECT / path).read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path) -> dict[str, int]:
    """Modules of the project that a file imports, also inside functions → line."""
    skipped = {
        id(node)
        for test in ast.walk(tree(path))
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for node in ast.walk(test)
    }
    found: dict[str, int] = {}
    for node in ast.walk(tree(path)):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [
                name if (name := f"{node.module}.{alias.name}") in MODULES else node.module
                for alias in node.names
            ]
        else:
            continue
        found |= {name: node.lineno for name in names if name in MODULES}
    return found


def level_of(module: str) -> int:
    return LEVEL[module.split(".")[0]]


def is_entry(module: str) -> bool:
    body = tree(MODULES[module]).body
    return any(isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in body)


def parts(path: Path, kind: type | tuple[type, ...]) -> list[tuple[str, ast.AST]]:
    """(Class.function, node) of a file's definitions of a kind."""
    found = []

    def visit(node: ast.AST, names: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            inner = (
                (*names, child.name) if hasattr(child, "name") and isinstance(child, DEFINITIONS) else names
            )
            if isinstance(child, kind):
                found.append((".".join(inner), child))
            visit(child, inner)

    visit(tree(path), ())
    return found


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)


def lines(path: Path) -> int:
    return len((PROJECT / path).read_text(encoding="utf-8").splitlines())


def long_functions(path: Path) -> list[str]:
    nodes = parts(path, FUNCTIONS)
    return [f"{path}:{name}" for name, node in nodes if node.end_lineno - node.lineno + 1 > MOST_FUNCTION]


def many_settings(path: Path) -> list[str]:
    found = []
    for name, node in parts(path, ast.ClassDef):
        for init in (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"):
            arguments = [*init.args.posonlyargs, *init.args.args, *init.args.kwonlyargs][1:]
            if len(arguments) > MOST_SETTINGS:
                found.append(f"{path}:{name}")
    return found


def pairs_across(path: Path) -> list[tuple[str, str]]:
    """(part, other part) of imports that do not go down a level; scripts have a table of their own."""
    me = module_of(path)
    others = [other for other in imports(path) if other.split(".")[0] != me.split(".")[0]]
    return [
        (me.split(".")[0], other.split(".")[0])
        for other in others
        if level_of(other) >= level_of(me) and not is_entry(other)
    ]


def entries_imported(path: Path) -> list[tuple[str, str]]:
    return [(module_of(path), other) for other in imports(path) if is_entry(other)]


def circles() -> list[tuple[str, ...]]:
    """Groups of files that reach each other by imports."""
    graph = {module: set(imports(path)) - {module} for module, path in MODULES.items()}
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for other in graph[stack.pop()] - seen:
                seen.add(other)
                stack.append(other)
        reach[start] = seen
    groups = {tuple(sorted(b for b in reach[a] if a in reach[b])) for a in graph if a in reach[a]}
    return sorted(groups)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down_a_level(path):
    for pair in pairs_across(path):
        assert pair in UPWARD, f"{path} imports {pair[1]}; what both need moves a level down"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_entry_script_is_a_library(path):
    for pair in entries_imported(path):
        assert pair in SCRIPTS_AS_LIBRARY, f"{path} imports the script {pair[1]}; share it in a module"


def test_no_files_import_each_other():
    found = [group for group in circles() if group not in CIRCLES]
    assert not found, f"these files import each other: {found}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_is_short(path):
    long = lines(path) > MOST_FILE and path.as_posix() not in LONG_FILES
    assert not long, f"{path} has {lines(path)} lines, over {MOST_FILE}; name its two ideas and split it"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_functions_are_short(path):
    found = [name for name in long_functions(path) if name not in LONG_FUNCTIONS]
    assert not found, f"over {MOST_FUNCTION} lines: {found}; tell the work in named steps"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_constructors_have_few_settings(path):
    found = [name for name in many_settings(path) if name not in MANY_SETTINGS]
    assert not found, f"more than {MOST_SETTINGS} settings of their own: {found}; pass **settings on"


def test_every_exception_is_still_needed():
    stale = {
        "LONG_FILES": set(LONG_FILES) - {path.as_posix() for path in FILES if lines(path) > MOST_FILE},
        "LONG_FUNCTIONS": set(LONG_FUNCTIONS) - {name for path in FILES for name in long_functions(path)},
        "MANY_SETTINGS": set(MANY_SETTINGS) - {name for path in FILES for name in many_settings(path)},
        "UPWARD": set(UPWARD) - {pair for path in FILES for pair in pairs_across(path)},
        "SCRIPTS_AS_LIBRARY": set(SCRIPTS_AS_LIBRARY) - {p for path in FILES for p in entries_imported(path)},
        "CIRCLES": set(CIRCLES) - set(circles()),
    }
    stale = {table: entries for table, entries in stale.items() if entries}
    assert not stale, f"no longer needed, remove: {stale}"


def test_every_python_file_belongs_to_a_level():
    found = {path.name.removesuffix(".py") for path in PROJECT.glob("*.py")}
    found |= {path.parent.name for path in PROJECT.glob("*/*.py") if not path.parent.name.startswith(".")}
    unknown = found - set(LEVEL) - {"tests", "setup", "conftest"}
    assert not unknown, f"give {', '.join(sorted(unknown))} a place in LEVELS"


def test_the_measures_find_what_is_too_long(tmp_path, monkeypatch):
    """The measures themselves, on a file made for them."""
    settings = ", ".join(f"s{n}=0" for n in range(MOST_SETTINGS + 1))
    body = "\n".join(["        pass"] * MOST_FUNCTION)
    text = f"class Wide:\n    def __init__(self, {settings}):\n{body}\n" + "x = 1\n" * MOST_FILE
    (tmp_path / "wide.py").write_text(text)
    monkeypatch.setattr(f"{__name__}.PROJECT", tmp_path)
    path = Path("wide.py")
    assert lines(path) > MOST_FILE
    assert long_functions(path) == ["wide.py:Wide.__init__"] and many_settings(path) == ["wide.py:Wide"]
