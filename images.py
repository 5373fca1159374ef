"""What people look at: depth in colours, image grids of images, videos, coloured points.

Everything is written under a temporary name first, so that an interrupted run leaves no half file behind.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import GifImagePlugin, Image, ImageDraw
from torch import Tensor

from utils import InputError, atomic_path

IMAGE_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP", "bmp": "BMP", "tif": "TIFF"}
FILM_FORMATS = (".gif", ".mp4")
JPEG_QUALITY = 95
_STEADY_COLOURS = 96  # entries of a GIF's 256 that are the same in every frame


def colourise(
    values: Tensor | np.ndarray,
    low: float | None = None,
    high: float | None = None,
    colours: str = "magma",
) -> np.ndarray:
    """A map of numbers as an image; of disparities the near is bright.

    Args:
        values: (H, W).
        low, high: the values that get the first and the last colour; the least value and the 95th
            percentile where not given, as the published images.
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
    """(3, H, W) in [0, 1] as it is, (1, H, W) in colours: (H, W, 3) uint8 RGB."""
    if values.shape[0] == 1:
        return colourise(values[0])
    scaled = values.detach().float().clamp(0, 1).mul(255).round()
    return scaled.byte().permute(1, 2, 0).cpu().numpy()


def image_grid(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Images of one size in rows and columns, white between them: (H, W, 3) uint8."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3)
    canvas = np.full(shape, 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            canvas[top : top + height, left : left + width] = image
    return canvas


# Where a camera's views stand in an image of the whole rig, seen from above with the front at the top.
_PLACES = {
    "front_left": (0, 0), "front": (0, 1), "front_right": (0, 2),
    "back_left": (1, 0), "back": (1, 1), "back_right": (1, 2),
}  # fmt: skip


def surround_grid(
    images: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    names: Sequence[str],
    width: int = 480,
) -> np.ndarray:
    """All views of a rig in their places round the vehicle, each above its depth: (H, W, 3) uint8.

    Args:
        images: (h, w, 3) uint8 RGB of each camera.
        depths: (h, w) of each camera, in one unit: one scale of colours for all, near is bright.
        names: of the cameras; front_left, front, front_right above back_left, back, back_right.
        width: of one view, pixels.
    """
    small = [resized(image, width) for image in images]
    inverse = [1 / np.asarray(depth, np.float32) for depth in depths]
    # The least and the 95th percentile over all cameras, as `colourise` takes them of one.
    low, high = min(part.min() for part in inverse), float(np.percentile(np.stack(inverse), 95))
    coloured = [resized(colourise(part, low, high), width) for part in inverse]
    return ring_grid(list(zip(small, coloured)), names)


def ring_grid(views: Sequence[Sequence[np.ndarray]], names: Sequence[str], gap: int = 4) -> np.ndarray:
    """Each camera's images above one another, the cameras in their places: (H, W, 3) uint8.

    Args:
        views: of each camera its (h, w, 3) uint8 RGB images, all of one size.
        names: of the cameras. Where there is one that has no place, they stand side by side.
        gap: pixels between cameras.
    """
    stacks = [_labelled(np.concatenate(list(images)), name) for images, name in zip(views, names)]
    places = [_PLACES.get(name) for name in names]
    if None in places:
        return image_grid([stacks], gap)
    rows = sorted({row for row, _ in places})
    columns = sorted({column for _, column in places})
    cells = [[np.full_like(stacks[0], 255) for _ in columns] for _ in rows]
    for (row, column), stack in zip(places, stacks):
        cells[rows.index(row)][columns.index(column)] = stack
    return image_grid(cells, gap)


def resized(image: np.ndarray, width: int) -> np.ndarray:
    """(h, w, 3) uint8 at another width, in its proportions."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _labelled(image: np.ndarray, name: str) -> np.ndarray:
    """The image with a name in its upper left corner."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    draw.text((6, 4), name.replace("_", " "), fill="white", stroke_width=2, stroke_fill="black")
    return np.array(canvas)


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """`atomic_path`, with a sentence where the disk is full or the folder closed.

    Raises:
        InputError: the file could not be written, and why.
    """
    try:
        with atomic_path(path) as temporary:
            yield temporary
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def check_format(name: str, formats: Sequence[str]) -> None:
    """Refuse a file ending that is not among `formats`; both with or without their dot.

    Raises:
        InputError: lists the known ones.
    """
    known = [ending.removeprefix(".") for ending in formats]
    if name.removeprefix(".").lower() not in known:
        raise InputError(f"cannot write '{name}'; known endings are {', '.join(known)}")


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Write (H, W, 3) or (H, W) uint8 in the format that the ending of `path` names.

    Raises:
        InputError: an unknown ending, or it could not be written.
    """
    ending = Path(path).suffix
    check_format(ending, list(IMAGE_FORMATS))
    with writing(path) as temporary:
        kind = IMAGE_FORMATS[ending[1:].lower()]
        Image.fromarray(image).save(temporary, format=kind, quality=JPEG_QUALITY)


# ------------------------------------------------------------------------------------------------ points


def point_cloud(
    depth: np.ndarray,
    intrinsics: np.ndarray,
    image: np.ndarray,
    tolerance: float = 0.02,
    radius: int | None = None,
    kept: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Coloured points of a depth map, without the veils between foreground and background.

    A network's depth glides from an object to what lies behind it, and the points in between hang in the
    air. Left out is therefore what `off_plane` finds uneven.

    Args:
        depth: (H, W), any unit along the optical axis.
        intrinsics: (3, 3) pixels at H x W.
        image: (H, W, 3) uint8 RGB.
        tolerance: up to which unevenness a point stays; infinite keeps every one.
        radius: of the neighbourhood, pixels, about as far as an edge is smeared; W / 160 where not given,
            which is four pixels of a network 640 wide.
        kept: (H, W) bool, what else decides which points stay.

    Returns:
        (P, 3) float32 in the unit of `depth`: x right, y down, z forward. (P, 3) uint8 RGB.
    """
    height, width = depth.shape
    y, x = np.mgrid[0:height, 0:width]
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(intrinsics).T
    even = off_plane(1 / depth, radius or max(2, round(width / 160))) <= tolerance
    kept = even if kept is None else even & kept
    return (rays[kept] * depth[kept][:, None]).astype(np.float32), image[kept]


def surround_cloud(
    depths: Sequence[np.ndarray],
    intrinsics: Sequence[np.ndarray],
    images: Sequence[np.ndarray],
    rig_from_camera: Sequence[np.ndarray],
    ego_masks: Sequence[np.ndarray] | None = None,
    farthest: float = 60.0,
) -> tuple[np.ndarray, np.ndarray]:
    """The coloured points of all cameras of a rig, in the vehicle's frame.

    Args:
        depths: (h, w) metres along each camera's optical axis.
        intrinsics: (3, 3) pixels at h x w.
        images: (h, w, 3) uint8 RGB.
        rig_from_camera: (4, 4) each camera's place on the vehicle, metres.
        ego_masks: (h, w) bool, True where a camera sees its own vehicle; those pixels are left out.
        farthest: metres from the camera; what is farther is mostly sky and guesses.

    Returns:
        (P, 3) float32 metres: x forward, y left, z up. (P, 3) uint8 RGB.
    """
    points, colours = [], []
    for camera, (depth, K, image, T) in enumerate(zip(depths, intrinsics, images, rig_from_camera)):
        shown = depth <= farthest
        if ego_masks is not None:
            shown &= ~ego_masks[camera]
        places, paint = point_cloud(depth, K, image, kept=shown)
        points.append(places @ T[:3, :3].T + T[:3, 3])
        colours.append(paint)
    return np.concatenate(points).astype(np.float32), np.concatenate(colours)


def off_plane(inverse_depth: np.ndarray, radius: int) -> np.ndarray:
    """How far the neighbourhood of each pixel is from a plane, relative to its 1 / depth: (H, W).

    1 / depth is linear on every plane, however slanted, so roads and walls are even at any distance. It is
    the root mean square of what a linear fit over the (2 radius + 1) square leaves over.
    """
    import cv2

    values = np.pad(np.asarray(inverse_depth, np.float64), radius, "reflect", reflect_type="odd")  # goes on
    offsets = np.arange(-radius, radius + 1.0)
    mean_of = np.full(len(offsets), 1 / len(offsets))
    spread = np.mean(offsets**2)

    def average(of: np.ndarray, along_x: np.ndarray = mean_of, along_y: np.ndarray = mean_of) -> np.ndarray:
        return cv2.sepFilter2D(of, cv2.CV_64F, along_x, along_y)[radius:-radius, radius:-radius]

    mean = average(values)
    slope_x, slope_y = average(values, offsets * mean_of), average(values, mean_of, offsets * mean_of)
    rest = average(values**2) - mean**2 - (slope_x**2 + slope_y**2) / spread
    return np.sqrt(np.maximum(rest, 0)) / mean


def write_ply(
    path: str | Path,
    points: np.ndarray,
    colours: np.ndarray,
    unit: str = "",
    axes: str = "x right, y down, z forward",
) -> None:
    """A point cloud as binary PLY, which MeshLab, CloudCompare, Blender and Open3D read.

    Args:
        path: of the file.
        points: (P, 3).
        colours: (P, 3) uint8 RGB.
        unit: of the points, in words; goes into the header.
        axes: where they point, likewise.

    Raises:
        InputError: it could not be written.
    """
    layout = [(axis, "<f4") for axis in "xyz"] + [(colour, "u1") for colour in ("red", "green", "blue")]
    vertices = np.empty(len(points), layout)
    for n, axis in enumerate("xyz"):
        vertices[axis] = points[:, n]
    for n, colour in enumerate(("red", "green", "blue")):
        vertices[colour] = colours[:, n]
    header = ["ply", "format binary_little_endian 1.0", f"comment {axes}"]
    header += [f"comment unit: {unit}"] if unit else []
    header += [f"element vertex {len(points)}", *(f"property float {axis}" for axis in "xyz")]
    header += [*(f"property uchar {colour}" for colour in ("red", "green", "blue")), "end_header"]
    with writing(path) as temporary, open(temporary, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.tobytes())


# ------------------------------------------------------------------------------------------------- videos


@contextlib.contextmanager
def video(path: str | Path, fps: float, steady: str | None = None) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a GIF or MP4 image by image; memory holds one, however long the video.

        with video("depth.gif", fps=10) as write:
            write(image)  # (H, W, 3) uint8 RGB, all of one size

    Args:
        path: ends in .gif or .mp4.
        fps: images in a second. A GIF counts in hundredths of a second and shows at most 50; between, its
            images take turns in standing a hundredth longer.
        steady: a matplotlib colour map that keeps its place in every palette of a GIF, so that depth does
            not change its colours when the image beside it does.

    Raises:
        InputError: another ending, no image at all, or it could not be written.
    """
    path = Path(path)
    check_format(path.suffix, FILM_FORMATS)
    with writing(path) as temporary:
        kind = _gif(temporary, fps, steady) if path.suffix.lower() == ".gif" else _mp4(temporary, fps)
        with kind as write:
            yield write
        if temporary.stat().st_size == 0:
            raise InputError(f"{path}: there was no image to make a video of")


@contextlib.contextmanager
def _gif(path: Path, fps: float, steady: str | None) -> Iterator[Callable[[np.ndarray], None]]:
    """Pillow's own writer collects every frame before it writes the first; this one writes them as they come.

    Each frame has a palette of its own, so no first look at the whole video is needed.
    """
    fixed, written = b"", 0
    if steady is not None:
        entries = colormaps[steady](np.linspace(0, 1, _STEADY_COLOURS))[:, :3]
        fixed = (entries * 255).astype(np.uint8).tobytes()
    with open(path, "wb") as file:

        def write(image: np.ndarray) -> None:
            nonlocal written
            frame = Image.fromarray(image)
            begin, end = round(100 * written / fps), round(100 * (written + 1) / fps)
            duration = max(2, end - begin) * 10  # milliseconds; browsers slow down what is faster
            written += 1
            if file.tell() == 0:
                size = b"".join(side.to_bytes(2, "little") for side in frame.size)
                file.write(b"GIF89a" + size + b"\x00\x00\x00")  # no palette for all
                file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # again and again
            indexed = _to_palette(frame, fixed)
            parts = GifImagePlugin.getdata(indexed, duration=duration, include_color_table=True)
            file.writelines(parts)
            parts.clear()  # Pillow's own list, in a cycle that would keep many frames before it is collected

        yield write
        if file.tell():
            file.write(b";")


def _to_palette(image: Image.Image, fixed: bytes) -> Image.Image:
    """256 colours: `fixed` ones and the best others for this image."""
    own = image.quantize(256 - len(fixed) // 3, dither=Image.Dither.NONE)
    if not fixed:
        return own
    palette = Image.new("P", (1, 1))
    palette.putpalette(fixed + bytes(own.getpalette()))
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


@contextlib.contextmanager
def _mp4(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    import cv2

    named = path.with_suffix(".mp4")  # OpenCV goes by the ending
    fps = fps if fps < 65 else float(f"{fps:.4g}")  # MPEG-4's clock ticks at most 65535 times a second
    writer, written = None, 0

    def write(image: np.ndarray) -> None:
        nonlocal writer, written
        if writer is None:
            size = image.shape[1], image.shape[0]
            writer = cv2.VideoWriter(str(named), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
            if not writer.isOpened():
                raise InputError(f"OpenCV cannot write MP4 to {path.parent} here; a GIF needs no codec")
        writer.write(np.ascontiguousarray(image[..., ::-1]))
        written += 1

    try:
        yield write
        if writer is not None:
            writer.release()
            kept = cv2.VideoCapture(str(named)).get(cv2.CAP_PROP_FRAME_COUNT)
            if kept != written:  # OpenCV says nothing where a disk is full
                raise InputError(f"{path.parent} did not take the whole video; is the disk full?")
            os.replace(named, path)
    finally:
        named.unlink(missing_ok=True)
