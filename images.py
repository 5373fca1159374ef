"""Images to look at: maps in colours, image grids, all cameras of a rig in one image; depth as 16-bit PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, PngImagePlugin
from torch import Tensor

from files import writing
from utils import InputError

IMAGE_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}
JPEG_QUALITY = 95
LARGEST = 65535  # of 16 bits

# Row and column of each camera in an image of the whole rig: seen from above, the front at the top.
_CELLS = {
    "front_left": (0, 0), "front": (0, 1), "front_right": (0, 2),
    "back_left": (1, 0), "back": (1, 1), "back_right": (1, 2),
}  # fmt: skip


def colourise(
    values: Tensor | np.ndarray,
    low: float | None = None,
    high: float | None = None,
    colours: str = "magma",
) -> np.ndarray:
    """A map of numbers in colours. In a map of inverse depth, near is bright.

    Args:
        values: (H, W).
        low: value of the first colour; the minimum if not given.
        high: value of the last colour; the 95th percentile if not given, as in the published images.
        colours: a matplotlib colour map.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    values = np.asarray(values.detach().float().cpu() if isinstance(values, Tensor) else values, np.float32)
    low = float(values.min()) if low is None else low
    high = float(np.percentile(values, 95)) if high is None else high
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    return (colormaps[colours](scaled)[..., :3] * 255).astype(np.uint8)


def as_image(values: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image (3, H, W) in [0, 1], or of a map (1, H, W) in colours."""
    if values.shape[0] == 1:
        return colourise(values[0])
    scaled = values.detach().float().clamp(0, 1).mul(255).round()
    return scaled.byte().permute(1, 2, 0).cpu().numpy()


def image_grid(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Images of one size in rows and columns, separated by white: (H, W, 3) uint8."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3)
    canvas = np.full(shape, 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            canvas[top : top + height, left : left + width] = image
    return canvas


def surround_grid(
    images: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    names: Sequence[str],
    width: int = 480,
) -> np.ndarray:
    """All cameras of a rig arranged as on the vehicle, each image above its depth: (H, W, 3) uint8.

    Args:
        images: (h, w, 3) uint8 RGB of each camera.
        depths: (h, w) of each camera, in one unit. All share one colour range; near is bright.
        names: camera names; front_left, front, front_right form the row above back_left, back, back_right.
        width: width of one camera's image in the grid, pixels.
    """
    small = [resized(image, width) for image in images]
    inverse = [1 / np.asarray(depth, np.float32) for depth in depths]
    # Minimum and 95th percentile over all cameras, as `colourise` takes them over one.
    low, high = min(part.min() for part in inverse), float(np.percentile(np.stack(inverse), 95))
    coloured = [resized(colourise(part, low, high), width) for part in inverse]
    return ring_grid(list(zip(small, coloured)), names)


def ring_grid(views: Sequence[Sequence[np.ndarray]], names: Sequence[str], gap: int = 4) -> np.ndarray:
    """Cameras arranged as on the vehicle, the images of each stacked vertically: (H, W, 3) uint8.

    Args:
        views: for each camera its (h, w, 3) uint8 RGB images, all of one size.
        names: camera names. If one of them has no known position, the cameras form a single row.
        gap: pixels between cameras.
    """
    stacks = [
        labelled(np.concatenate(list(images)), name.replace("_", " ")) for images, name in zip(views, names)
    ]
    positions = [_CELLS.get(name) for name in names]
    if None in positions:
        return image_grid([stacks], gap)
    rows = sorted({row for row, _ in positions})
    columns = sorted({column for _, column in positions})
    cells = [[np.full_like(stacks[0], 255) for _ in columns] for _ in rows]
    for (row, column), stack in zip(positions, stacks):
        cells[rows.index(row)][columns.index(column)] = stack
    return image_grid(cells, gap)


def resized(image: np.ndarray, width: int) -> np.ndarray:
    """(h, w, 3) uint8 resized to another width; the aspect ratio is kept."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def labelled(image: np.ndarray, name: str) -> np.ndarray:
    """(h, w, 3) uint8 with a name in its upper left corner."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    draw.text((6, 4), name, fill="white", stroke_width=2, stroke_fill="black")
    return np.array(canvas)


def check_format(name: str, formats: Sequence[str]) -> None:
    """Check that a file ending is among `formats`; both with or without their dot.

    Raises:
        InputError: an unknown ending; the sentence lists the known ones.
    """
    known = [ending.removeprefix(".") for ending in formats]
    if name.removeprefix(".").lower() not in known:
        raise InputError(f"cannot write '{name}'; known endings are {', '.join(known)}")


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) or (H, W) uint8 in the format of the ending of `path`.

    Raises:
        InputError: an unknown ending, or the file cannot be written.
    """
    ending = Path(path).suffix
    check_format(ending, list(IMAGE_FORMATS))
    with writing(path) as temporary:
        kind = IMAGE_FORMATS[ending[1:].lower()]
        Image.fromarray(image).save(temporary, format=kind, quality=JPEG_QUALITY)


def encode_depth(values: np.ndarray, factor: float | None = None) -> np.ndarray:
    """Depth or inverse depth (h, w) as uint16. What is not finite and above 0 is 0, unknown.

    Args:
        values: in any unit.
        factor: value of one unit; larger values than 65535 are cut. None: the largest becomes 65535.
    """
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        return np.zeros(values.shape, np.uint16)
    factor = LARGEST / float(values[known].max()) if factor is None else factor
    scaled = np.where(known, values, 0).astype(np.float64) * factor
    return np.where(known, scaled.round().clip(1, LARGEST), 0).astype(np.uint16)


def save_depth(path: str | Path, depth: np.ndarray, factor: float) -> None:
    """Write depth (h, w) as a 16-bit PNG, by `encode_depth`; a comment in the file states the factor.

    Raises:
        InputError: the file cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", f"depth = value / {factor:g}; 0 is unknown")
    with writing(path) as temporary:
        Image.fromarray(encode_depth(depth, factor)).save(temporary, "PNG", pnginfo=text)
