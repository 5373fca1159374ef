"""A reader for the point clouds that tests look into."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def read_ply(path: Path) -> tuple[str, np.ndarray, np.ndarray]:
    """Header, (P, 3) points and (P, 3) colours of a binary PLY of x y z red green blue."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    words = header.decode().split()
    assert "binary_little_endian" in words
    layout = [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    vertices = np.frombuffer(body, layout)
    assert len(vertices) == int(words[words.index("vertex") + 1])
    points = np.stack([vertices[name] for name in "xyz"], -1)
    return header.decode(), points, np.stack([vertices[name] for name in ("red", "green", "blue")], -1)
