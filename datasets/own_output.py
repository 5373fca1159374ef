"""Files that our own programs wrote next to a user's images: they are not input.

left_disp.jpg     test_simple.py, coloured depth of left.png
left_labels.png   test_simple.py, labels of left.png; the other images of `OWN_IMAGES` too
walk_depth.mp4    test_video.py, depth of walk.mp4
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets.image_files import IMAGES

# Ends of the stems of our images.
OWN_IMAGES = ("_disp", "_depth", "_rgb", "_viz", "_labels", "_label_colours", "_overlay")
OWN_VIDEO = ("_depth",)  # end of the stem of a video


def is_own_output(path: Path, endings: Sequence[str] = OWN_IMAGES, kinds: Iterable[str] = IMAGES) -> bool:
    """Whether the file from which `path` was predicted lies next to it: left.png for left_disp.jpg.

    Args:
        path: path of the file to check.
        endings: ends of the stems of our outputs.
        kinds: suffixes that the source may have.
    """
    suffixes = ("", *kinds, *map(str.upper, kinds))
    sources = [path.stem.removesuffix(ending) for ending in endings if path.stem.endswith(ending)]
    return any(path.with_name(source + kind).is_file() for source in sources if source for kind in suffixes)
