"""The documentation as a site: built in strict mode, refused with a dead link."""

from __future__ import annotations

import re

import pytest

from tools import site
from utils import InputError

pytest.importorskip("material")


def test_the_site_has_no_dead_link_and_asks_no_other_host(tmp_path):
    pytest.importorskip("ipykernel")
    site.main(["--out", str(tmp_path)])
    first = (tmp_path / "html/index.html").read_text()
    assert "docs/bridges.html" in first and (tmp_path / "html/docs/bridges.html").is_file()
    loaded = re.findall(r"<(?:link|script|img)[^>]+(?:src|href)=[\"']?(https?://[^\s\"'>]+)", first)
    assert not [address for address in loaded if "fonts" in address or address.endswith((".js", ".css"))]
    assert "docs/notebook.html" in first and not re.search(r"href=[\"']?[^\"'> ]*ipynb", first)
    notebook = (tmp_path / "html/docs/notebook.html").read_text()
    assert "one constant depth 0." in notebook and 'src="notebook_1.png"' in notebook
    assert (tmp_path / "html/docs/notebook_1.png").stat().st_size > 10_000


def test_a_dead_link_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "write_page", lambda notebook, page: page.write_text("# Notebook"))
    monkeypatch.setattr(site, "executed", lambda file: None)
    site.copy_pages(tmp_path / "pages")
    page = tmp_path / "pages/docs/hub.md"
    page.write_text(page.read_text() + "\n[gone](gone.md)\n")
    with pytest.raises(InputError, match=r"the site was not built: .*gone\.md"):
        site.build(tmp_path)
