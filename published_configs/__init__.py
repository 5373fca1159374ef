"""Configs of published systems as options of ours, one file each.

Each has `is_<system>(settings)`, which recognises a config by its keys, and `<system>(settings)`, which gives
our options and sentences on what differs.
"""

from published_configs.packnet import is_packnet, packnet
from published_configs.sc_depth import is_sc_depth, sc_depth
from published_configs.sgdepth import is_sgdepth, sgdepth
from published_configs.surround_depth import is_surround_depth, surround_depth

__all__ = [
    "is_packnet",
    "is_sc_depth",
    "is_sgdepth",
    "is_surround_depth",
    "packnet",
    "sc_depth",
    "sgdepth",
    "surround_depth",
]
