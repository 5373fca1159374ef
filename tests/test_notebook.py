"""docs/notebook.ipynb runs from top to bottom, and becomes a page with its outputs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tools._notebook import executed, write_page
from utils import PROJECT, InputError

FILE = PROJECT / "docs/notebook.ipynb"
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")


def test_the_notebook_beats_a_constant_depth_and_becomes_a_page(tmp_path):
    stored = nbformat.read(FILE, as_version=4)
    assert not any(cell.get("outputs") for cell in stored.cells)  # outputs are those of the build
    notebook = executed(FILE)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    words = printed[printed.index("abs_rel") :].replace(",", "").split()
    assert float(words[1]) < 0.6 * float(words[-1])

    write_page(notebook, tmp_path / "notebook.md")
    page = (tmp_path / "notebook.md").read_text()
    assert f"```text\n{printed.splitlines()[-1]}" in page and "![Output 1](notebook_1.png)" in page
    assert "site-packages" not in page and str(PROJECT) not in page
    assert page.index("```python\nimport sys") < page.index("## Predict") < page.index("![Output 1]")
    with Image.open(tmp_path / "notebook_1.png") as image:
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 1000


def test_a_failing_cell_is_one_sentence(tmp_path):
    cells = [nbformat.v4.new_code_cell("1 / 0")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "broken.ipynb")
    with pytest.raises(InputError, match=r"broken\.ipynb: a cell fails: ZeroDivisionError"):
        executed(tmp_path / "broken.ipynb")
