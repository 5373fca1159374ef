"""Layouts of real datasets on disk, one file each, in which tools/make_synthetic.py writes the world.

`LAYOUTS.get(name)` finds one by the name of its file.
"""

from __future__ import annotations

from utils import Registry

LAYOUTS = Registry("tools.layouts")
