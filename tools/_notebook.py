"""A notebook as a page of the site: it is executed, and each cell is followed by its outputs."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from utils import InputError

TIMEOUT = 300  # seconds of one cell
NEEDS = 'notebooks need ipykernel, nbclient and nbformat; type pip install -e ".[docs]"'


def executed(file: Path) -> Any:
    """A notebook (nbformat 4) with the outputs of its cells, run in the folder of its file.

    Raises:
        InputError: the packages are not installed, or a cell fails.
    """
    try:
        import ipykernel  # noqa: F401 the kernel that is started
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError
    except ModuleNotFoundError:
        raise InputError(NEEDS) from None
    notebook = nbformat.read(file, as_version=4)
    resources = {"metadata": {"path": str(file.parent)}}
    try:
        NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources=resources).execute()
    except CellExecutionError as error:
        raise InputError(f"{file}: a cell fails: {error.ename}: {error.evalue}") from error
    except CellTimeoutError:
        raise InputError(f"{file}: a cell takes more than {TIMEOUT} seconds") from None
    return notebook


def write_page(notebook: Any, page: Path) -> None:
    """Write an executed notebook as Markdown, and each image next to it as a PNG; warnings are left out.

    Args:
        notebook: from `executed`.
        page: the .md file; images are <page>_<number>.png.
    """
    parts, images = [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            if output.get("name") == "stderr":
                continue
            data = output.get("data", {})
            if "image/png" in data:
                images += 1
                image = page.with_name(f"{page.stem}_{images}.png")
                image.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![Output {images}]({image.name})")
            elif text := output.get("text") or data.get("text/plain"):
                parts.append(f"```text\n{text.rstrip()}\n```")
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
