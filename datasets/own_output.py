"""Files that our own programs wrote next to a user's images: they are not input.

left_disp.jpg     test_simple.py, coloured depth of left.png
walk_depth.mp4    test_video.py, depth of walk.mp4
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from datasets.image_files import IMAGES

OWN_IMAGE = "_disp"  # end of the stem of a coloured image
OWN_VIDEO = "_depth"  # end of the stem of a video


def is_own_output(path: Path, ending: str = OWN_IMAGE, kinds: Iterable[str] = IMAGES) -> bool:
    """Whether the file from which `path` was predicted lies next to it: left.png for left_disp.jpg.

    Args:
        path: path of the file to check.
        ending: end of the stem of our output.
        kinds: suffixes that the source may have.
    """
    source = path.stem.removesuffix(ending)
    if source in ("", path.stem):
        return False
    return any(path.with_name(source + kind).is_file() for kind in ("", *kinds, *map(str.upper, kinds)))
