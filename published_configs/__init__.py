"""Config files of published systems, one file each: recognised by their keys, translated to our options."""

from published_configs.packnet import is_packnet, packnet
from published_configs.sc_depth import is_sc_depth, sc_depth
from published_configs.sgdepth import is_sgdepth, sgdepth
from published_configs.surround_depth import is_surround_depth, surround_depth

# System, test of a config's settings, translation to (our settings, sentences on what differs).
# SurroundDepth's test is the least specific.
SYSTEMS = (
    ("SGDepth", is_sgdepth, sgdepth),
    ("PackNet-SfM", is_packnet, packnet),
    ("SC-Depth", is_sc_depth, sc_depth),
    ("SurroundDepth", is_surround_depth, surround_depth),
)
