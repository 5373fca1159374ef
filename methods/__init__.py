"""Methods, one file each. `METHODS.get(name)` finds one by its file's name."""

from utils import Registry

METHODS = Registry("methods")
