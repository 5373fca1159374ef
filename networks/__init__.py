"""Networks, one file each. `NETWORKS.get(name)` finds one by its file's name."""

from utils import Registry

NETWORKS = Registry("networks")
