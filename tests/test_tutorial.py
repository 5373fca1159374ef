"""docs/tutorial.md runs from top to bottom."""

import re
import shutil

from datasets.image_files import image_size
from utils import PROJECT


def test_the_tutorial_trains_and_leaves_a_depth_image(tiny_folder, tmp_path, monkeypatch):
    shutil.copytree(tiny_folder, tmp_path / "walk")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (PROJECT / "docs/tutorial.md").read_text(), re.M | re.S)
    assert len(blocks) >= 7
    names: dict = {}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"docs/tutorial.md, block {number}", "exec"), names)
    assert names["history"][-1] < names["history"][0]
    assert {"photometric", "smoothness"} <= set(names["terms"])
    assert names["depth"].shape == (4, 1, 64, 96) and (names["depth"] > 0).all()
    assert image_size("depth.png") == (64, 96)
