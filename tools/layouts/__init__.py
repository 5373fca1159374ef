"""Real datasets' places on disk, one file each, for tools/make_synthetic.py to write the synthetic world in.

`LAYOUTS.get(name)` finds one by its file's name; a further layout is a further file.
"""

from __future__ import annotations

from utils import Registry

LAYOUTS = Registry("tools.layouts")
