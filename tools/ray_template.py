"""A ray template: the unit ray of every pixel, as a (H, W, 3) array, from any camera model.

    python tools/ray_template.py --camera camera.yaml --height 384 --width 384 --out rays.npy
    python tools/ray_template.py --camera camera.yaml --native 966 1280 --height 384 --width 384 --out a.npy

A method with a ray surface starts from such a template. The camera file is described in cameras/_files.py. It
may also name a template (`model: ray_surface`), which is then checked, and resized with --native. Pixels that
no ray reaches are written as 0 0 0.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools._options import new_parser, place
from utils import InputError, run_main

if TYPE_CHECKING:
    from cameras import Camera, RaySurface


def template(camera: Camera, size: tuple[int, int], native: tuple[int, int] | None = None) -> RaySurface:
    """The ray surface of a camera at `size` (height, width).

    Args:
        camera: with B = 1.
        size: size of the template.
        native: size of the images that the camera's parameters belong to; `size` if None.

    Raises:
        InputError: a template of another size, a camera that reaches no pixel.
    """
    from cameras import RaySurface

    if native is not None and native != size:
        camera = camera.resized(native, size)
    rays = camera.rays(*size)
    if not (rays != 0).any():
        raise InputError(
            f"the camera has no ray in an image of {size[1]}x{size[0]}; are its parameters in pixels of that "
            "size? --native gives the size they belong to"
        )
    return RaySurface.of(rays.unflatten(2, size))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--camera", type=place, required=True, metavar="FILE", help="camera file (YAML)")
    add("--height", type=int, required=True, help="rows of the template")
    add("--width", type=int, required=True, help="columns of the template")
    add(
        "--native",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="image size that the camera file belongs to (default: --height and --width)",
    )
    add("--out", type=place, required=True, metavar="FILE", help=".npy file to write")
    add("--overwrite", action="store_true", help="replace the file if it exists")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    for name in ("height", "width"):
        if getattr(given, name) < 2:
            raise InputError(f"--{name} must be at least 2, got {getattr(given, name)}")
    if given.native and min(given.native) < 2:
        raise InputError(f"--native must be at least 2 2, got {given.native[0]} {given.native[1]}")
    if given.out.suffix != ".npy":
        raise InputError(f"--out is a .npy file, got {given.out}")
    if given.out.exists() and not given.overwrite:
        raise InputError(f"{given.out} exists; give another --out, or --overwrite")
    from cameras import read_camera
    from cameras._files import write_template

    native = tuple(given.native) if given.native else None
    surface = template(read_camera(given.camera), (given.height, given.width), native)
    write_template(given.out, surface.directions)
    dark = 1 - surface.sees(given.height, given.width).float().mean().item()
    print(f"wrote {given.width}x{given.height} rays to {given.out}, {100 * dark:.1f} % of them 0 0 0")


if __name__ == "__main__":
    run_main(main)
