"""Loss terms, one file each. `LOSSES.get(name)` finds one by its file's name."""

from utils import Registry

LOSSES = Registry("losses")
