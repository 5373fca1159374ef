"""Commands of the README and of every page of docs/ are understood, and what they link to exists."""

import importlib
import re
import shlex

import pytest

import flags
import options
from parallax.commands import command_of, resolve
from utils import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
IDS = [str(page.relative_to(PROJECT)) for page in PAGES]
BLOCK = re.compile(r"^```(?:bash|sh)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:(?:python|torchrun) [^`]*\.py|parallax [\w-]+) [^`]*)`")


def commands(text: str) -> list[str]:
    """Lines that start a script or command of ours, `\\` at the end of a line joined, comments left out."""
    blocks = "".join(BLOCK.findall(text)).replace("\\\n", " ")
    lines = [line.split("  #")[0].strip() for line in blocks.splitlines()] + INLINE.findall(text)
    return [line for line in lines if re.match(r"(python|torchrun) .*\.py\b|parallax ", line)]


COMMANDS = sorted(
    (name, line)
    for name, page in zip(IDS, PAGES)
    if name != "docs/coming-from.md"  # has the commands of others too, and a test of its own
    for line in dict.fromkeys(commands(page.read_text()))
)


def understand(command: str) -> None:
    """Parse a command as its script would; `...` stands for further flags."""
    words = [word for word in shlex.split(command) if word != "..."]
    if words[0] == "parallax":
        words = as_script(words[1], words[2:])
    place = next(n for n, word in enumerate(words) if word.endswith(".py"))
    script, words = words[place], words[place + 1 :]
    assert (PROJECT / script).is_file(), script
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    if script == "run.py":
        options.parse(words)
    elif hasattr(module, "build_parser"):
        flags.parse(module.build_parser(), words)
    elif hasattr(module, "parse"):
        module.parse(words)
    else:
        with pytest.raises(SystemExit) as stop:
            module.main([*words, "--help"])  # flags before it are read first
        assert not stop.value.code


def as_script(command: str, words: list[str]) -> list[str]:
    """The script and flags of a command; recordings and runs that it names do not exist."""
    if command in ("predict", "live") and "--run" not in words:
        words = [*words, "--run", "runs/walk"]
    if command == "train" and not words[0].startswith("-"):
        module, words = "run", ["--data_path", *words]
    else:
        module, words = resolve(command_of(command), words)
    return [f"{module.replace('.', '/')}.py", *words]


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[" ".join(pair) for pair in COMMANDS])
def test_a_command_is_understood(page, command):
    understand(command)


def test_the_commands_are_found():
    assert len([command for page, command in COMMANDS if page == "README.md"]) >= 12
    assert len(COMMANDS) >= 40


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text()), f"{page.name} links to {target}"


def anchors(text: str) -> set[str]:
    """The names that headings have as link targets."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
