"""Loss terms, one file each. `LOSSES.get(name)` finds a term by the name of its file."""

from utils import Registry

LOSSES = Registry("losses")
