"""Build the documentation as a site, in strict mode: a dead link or anchor is an error.

    python tools/site.py --out build/site        writes build/site/html/index.html; make site does it

The pages are README.md, CONTRIBUTING.md, docs/ and the READMEs of splits/, copied with their folders, so that
their links to each other are those of the repository. The notebook is executed and becomes a page with its
outputs; links to it lead to that page.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from files import explained
from tools._notebook import executed, write_page
from tools._options import new_parser, place
from utils import PROJECT, InputError, run_main

PAGES = ("README.md", "CONTRIBUTING.md", "LICENSE", "Dockerfile", "docs/**/*", "splits/**/README.md")
NOTEBOOK = Path("docs/notebook.ipynb")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    out = parse(arguments).out
    with explained(out):
        copy_pages(out / "pages")
    print(f"site: {build(out)}")


def copy_pages(folder: Path) -> None:
    """Copy the pages and what they show into a new folder, and write the page of the notebook.

    Raises:
        InputError: a cell of the notebook fails, or its packages are not installed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for pattern in PAGES:
        for source in PROJECT.glob(pattern):
            if source.is_file():
                target = folder / source.relative_to(PROJECT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    for page in folder.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(f"{NOTEBOOK.name})", f"{NOTEBOOK.stem}.md)"), encoding="utf-8")
    write_page(executed(PROJECT / NOTEBOOK), (folder / NOTEBOOK).with_suffix(".md"))


def build(out: Path) -> Path:
    """Build the site of copied pages; returns its first page.

    Raises:
        InputError: mkdocs-material is not installed, or a page has a dead link.
    """
    try:
        from mkdocs.commands.build import build as build_site
        from mkdocs.config import load_config
        from mkdocs.exceptions import MkDocsException
    except ModuleNotFoundError:
        raise InputError('the site needs mkdocs-material; type pip install -e ".[docs]"') from None
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())
    log = logging.getLogger("mkdocs")
    log.addHandler(handler)
    places = {"docs_dir": str((out / "pages").absolute()), "site_dir": str((out / "html").absolute())}
    try:
        build_site(load_config(str(PROJECT / "mkdocs.yml"), **places))
    except (MkDocsException, SystemExit) as error:  # a SystemExit is how mkdocs refuses a missing theme
        raise InputError(f"the site was not built: {'; '.join(warnings) or error}") from error
    finally:
        log.removeHandler(handler)
    return out / "html" / "index.html"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--out", type=place, default=PROJECT / "build/site", help="folder to write (default: build/site)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
