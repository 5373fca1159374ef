"""Camera files of other programs: COLMAP, nerfstudio, Kalibr and ROS, recognised by their content.

    cameras.txt          COLMAP, as text (`colmap model_converter --output_type TXT`)
    transforms.json      nerfstudio; without `fl_x`, `camera_angle_x` gives the focal length
    *camchain*.yaml      Kalibr
    camera_info.yaml     ROS, also as `ost.yaml`, the name that its calibrator writes

The centre of the first pixel is (0, 0) here, in Kalibr and in ROS. It is (0.5, 0.5) in COLMAP and nerfstudio:

    cx = cx_file - 0.5,     cy = cy_file - 0.5

Formats: colmap.github.io/format.html and its sensor/models.h; docs.nerf.studio, "Data conventions"; Kalibr's
wiki, "Supported models" and "YAML formats"; ROS's sensor_msgs/CameraInfo and camera_calibration_parsers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cameras._base import Camera, Pinhole, Size
from cameras._files import camera_settings, read_camera
from cameras._models import BrownConrady, DoubleSphere, KannalaBrandt, Unified
from cameras._ray_surface import RaySurface
from notices import notice
from utils import InputError, nearest_name, read_text, read_yaml

# Looked for in this order, in one folder after another.
CALIBRATION_FILES = (
    "cameras.txt",
    "sparse/cameras.txt",
    "sparse/0/cameras.txt",
    "transforms.json",
    "*camchain*.yaml",
    "camera_info.yaml",
    "ost.yaml",
)
EXPECTED = (
    "COLMAP's cameras.txt, nerfstudio's transforms.json, Kalibr's camchain.yaml or ROS's camera_info.yaml"
)


LARGEST = 1e9  # of any number in a camera file


class Lens(NamedTuple):
    """A model of COLMAP: the names of its numbers in their order, and the distortion's order here."""

    parameters: str
    distortion: str = ""
    fisheye: bool = False


COLMAP_MODELS = {
    "SIMPLE_PINHOLE": Lens("f cx cy"),
    "PINHOLE": Lens("fx fy cx cy"),
    "SIMPLE_RADIAL": Lens("f cx cy k1", "k1 0 0 0"),
    "RADIAL": Lens("f cx cy k1 k2", "k1 k2 0 0"),
    "OPENCV": Lens("fx fy cx cy k1 k2 p1 p2", "k1 k2 p1 p2"),
    "FULL_OPENCV": Lens("fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6", "k1 k2 p1 p2 k3 k4 k5 k6"),
    "SIMPLE_RADIAL_FISHEYE": Lens("f cx cy k1", "k1 0 0 0", fisheye=True),
    "RADIAL_FISHEYE": Lens("f cx cy k1 k2", "k1 k2 0 0", fisheye=True),
    "OPENCV_FISHEYE": Lens("fx fy cx cy k1 k2 k3 k4", "k1 k2 k3 k4", fisheye=True),
}
# Names that ROS and Kalibr give to a distortion → whether it is that of a fisheye.
DISTORTIONS = {
    "plumb_bob": False,
    "rational_polynomial": False,
    "radtan": False,
    "fisheye": True,
    "equidistant": True,
    "equi": True,
}


def find_calibration(folders: Iterable[Path]) -> Path | None:
    """The first of CALIBRATION_FILES in the first folder that has one; None if there is none."""
    found = (path for folder in folders for name in CALIBRATION_FILES for path in sorted(folder.glob(name)))
    return next((path for path in found if path.is_file()), None)


def read_calibration(path: str | Path, images: Path | None = None) -> tuple[Camera, Size | None]:
    """The camera of a file of another program, or of our own camera.yaml.

    Args:
        path: the file.
        images: the folder of the images. Of several Kalibr cameras, that with the name of this folder or of
            one above it is read, else the first, `cam0`.

    Returns:
        The camera with B = 1, and (height, width) of its images, None if the file does not tell them.

    Raises:
        InputError: another kind of file, an unknown model, a missing key, several cameras that differ, or
            values that are not numbers.
    """
    path = Path(path)
    if path.suffix == ".txt":
        return _read_colmap(path)
    if path.suffix == ".json":
        return _read_nerfstudio(path)
    try:
        content = read_yaml(read_text(path))
    except ValueError as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    if isinstance(content, dict):
        if "model" in content:
            return read_camera(path), None
        if any(key in content for key in ("camera_matrix", "K", "k")):
            return _read_ros(path, content)
        if cameras := {key: value for key, value in content.items() if str(key).startswith("cam")}:
            return _read_kalibr(path, cameras, images)
    raise InputError(f"{path} is none of the camera files that are read: camera.yaml, {EXPECTED}")


def pinhole_of(camera: Camera, path: Path, height: int, width: int) -> np.ndarray:
    """(3, 3) pixels for outputs that only know pinholes; a notice says that a lens bends them.

    Raises:
        InputError: a wide lens, whose depth is the distance from the camera.
    """
    if camera.depth_is_distance:
        raise InputError(
            f"{path} describes a wide lens, which no pinhole replaces; undistort the images, or leave out "
            "the outputs that need intrinsics"
        )
    if not isinstance(camera, Pinhole):
        notice(
            f"the distortion in {path} is not applied here: towards the border, points are a few pixels off"
        )
    return camera.nearest_pinhole(height, width)[0].double().numpy()


def fitting_camera(path: Path, height: int, width: int, images: Path | None = None) -> Camera:
    """`read_calibration` for images of this size.

    Raises:
        InputError: a file that `read_calibration` refuses, or a camera of another size. If only the
            resolution differs, the sentence gives the numbers to type.
    """
    camera, size = read_calibration(path, images)
    if size is None or size == (height, width):
        return camera
    told = f"{path} is for images of {size[1]}x{size[0]} and these are {width}x{height}"
    if abs(size[0] * width / size[1] - height) > 1:
        raise InputError(
            f"{told}, another aspect ratio; were they cropped or turned? Calibrate with images of this size"
        )
    if isinstance(camera, RaySurface):
        raise InputError(f"{told}; calibrate with images of this size, or resize these")
    settings = camera_settings(camera.resized(size, (height, width)))
    if isinstance(camera, Pinhole):
        text = " ".join(f"{value:.7g}" for value in settings["intrinsics"])
        raise InputError(f"{told}; for resized images write '{text}' into {path.parent / 'cam.txt'}")
    lines = [
        f"'{key}: {value if isinstance(value, str) else _short(value)}'" for key, value in settings.items()
    ]
    raise InputError(
        f"{told}; for resized images write the lines {', '.join(lines)} into {path.parent / 'camera.yaml'}"
    )


def _short(value: float | list[float]) -> str:
    """A number or a list of numbers with at most seven digits, as YAML."""
    return f"[{', '.join(map(_short, value))}]" if isinstance(value, list) else f"{value:.7g}"


# ------------------------------------------------------------------------------------ the programs


def _read_colmap(path: Path) -> tuple[Camera, Size]:
    """Rows of `CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]`."""
    rows = [line.split("#")[0].split() for line in read_text(path).splitlines()]
    rows = [row for row in rows if row]
    cameras = {row[0]: tuple(row[1:]) for row in rows}
    if not rows or min(map(len, rows)) < 5:
        raise InputError(
            f"{path}: a row is a camera's number, MODEL WIDTH HEIGHT and parameters, as in COLMAP"
        )
    if len(set(cameras.values())) > 1:
        raise InputError(
            f"{path} holds {len(cameras)} cameras that differ; run COLMAP with "
            "--ImageReader.single_camera 1, or give each scene a file with its own camera"
        )
    name, *values = rows[0][1:]
    lens = _entry(path, "COLMAP's model", name, COLMAP_MODELS)
    names = lens.parameters.split()
    width, height, *numbers = _numbers(path, name, values, 2 + len(names))
    known = dict(zip(names, numbers))
    K = known.get("fx", known.get("f")), known.get("fy", known.get("f")), known["cx"] - 0.5, known["cy"] - 0.5
    distortion = [known.get(key, 0.0) for key in lens.distortion.split()]
    return _camera(path, K, distortion, lens.fisheye), _size(path, height, width)


def _read_nerfstudio(path: Path) -> tuple[Camera, Size]:
    """Keys at the top, or the same in every frame."""
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a transforms.json; it needs fl_x, fl_y, cx, cy, w and h")
    keys = ("camera_model", "camera_angle_x", "fl_x", "fl_y", "cx", "cy", "w", "h")
    keys = (*keys, "k1", "k2", "k3", "k4", "p1", "p2")
    frames = content.get("frames") if isinstance(content.get("frames"), list) else []
    for key in keys:
        of_frames = {json.dumps(frame[key]) for frame in frames if isinstance(frame, dict) and key in frame}
        if len(of_frames) > 1:
            raise InputError(
                f"{path}: its frames have {len(of_frames)} values of {key}, and a file describes one camera "
                "here; make a folder with its own file for each camera"
            )
        if of_frames:
            content.setdefault(key, json.loads(of_frames.pop()))
    name = content.get("camera_model", "OPENCV")
    fisheye = _entry(path, "camera_model", name, COLMAP_MODELS).fisheye
    numbers = {key: _numbers(path, key, content[key], 1)[0] for key in keys[1:] if key in content}
    _need(path, numbers, ("w", "h"))
    size = _size(path, numbers["h"], numbers["w"])
    if "fl_x" not in numbers and 0 < numbers.get("camera_angle_x", 0) < math.pi:
        numbers["fl_x"] = size[1] / 2 / math.tan(numbers["camera_angle_x"] / 2)
    _need(path, numbers, ("fl_x",))
    centre = numbers.get("cx", size[1] / 2) - 0.5, numbers.get("cy", size[0] / 2) - 0.5
    K = numbers["fl_x"], numbers.get("fl_y", numbers["fl_x"]), *centre
    if not fisheye and numbers.get("k4"):
        raise InputError(f"{path}: k4 is of a fisheye, and camera_model is {name}; it must be 0 here")
    order = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3")
    return _camera(path, K, [numbers.get(key, 0.0) for key in order], fisheye), size


def _read_kalibr(path: Path, cameras: Mapping[str, Any], images: Path | None) -> tuple[Camera, Size | None]:
    """One of the cameras `cam0`, `cam1`, ... of a chain."""
    above = [] if images is None else [images.name, *(folder.name for folder in images.parents)]
    named = next((name for name in above if name in cameras), None)
    if named is None and len(cameras) > 1:
        notice(
            f"{path} holds {', '.join(cameras)}; {next(iter(cameras))} is used, since neither the folder of "
            "the images nor one above it has the name of a camera"
        )
    key = named or next(iter(cameras))
    values = cameras[key]
    if not isinstance(values, dict):
        raise InputError(f"{path}: {key} needs camera_model, intrinsics and resolution, got {values!r}")
    _need(path, values, ("camera_model", "intrinsics"), f" of {key}")
    model = values["camera_model"]
    count = _entry(path, "Kalibr's camera_model", model, {"pinhole": 4, "omni": 5, "ds": 6})
    *lens, fx, fy, cx, cy = _numbers(path, "intrinsics", values["intrinsics"], count)
    size = None
    if "resolution" in values:
        width, height = _numbers(path, "resolution", values["resolution"], 2)
        size = _size(path, height, width)
    name, fisheye, distortion = values.get("distortion_model", "none"), False, []
    if name != "none":
        fisheye = _entry(path, "distortion_model", name, DISTORTIONS)
        distortion = _numbers(path, "distortion_coeffs", values.get("distortion_coeffs"), 4)
    if model == "pinhole":
        return _camera(path, (fx, fy, cx, cy), distortion, fisheye), size
    K = _matrix(path, (fx, fy, cx, cy))
    if not any(distortion) and not fisheye:
        xi = torch.tensor(lens[:1])
        return (Unified(K, xi) if model == "omni" else DoubleSphere(K, xi, torch.tensor(lens[1:]))), size
    if model == "omni" and not fisheye and size is not None:
        return _omni_surface(K, torch.tensor(lens), torch.tensor([distortion]), size), size
    raise InputError(
        f"{path}: a camera '{model}' with the distortion '{name}' is not read; calibrate with pinhole-equi, "
        "omni-radtan or ds-none, and with resolution in the file"
    )


def _omni_surface(K: torch.Tensor, xi: torch.Tensor, distortion: torch.Tensor, size: Size) -> RaySurface:
    """Rays of the unified model with distortion: undistorted on the plane z = 1, then on the sphere."""
    plane = BrownConrady(K, distortion).rays(*size)
    rays = Unified(K, xi)._unproject(plane[:, 0], plane[:, 1])
    return RaySurface(torch.where(plane[:, 2:] != 0, rays, 0.0).unflatten(2, size))


def _read_ros(path: Path, content: Mapping[str, Any]) -> tuple[Camera, Size]:
    """A file of camera_calibration_parsers, or a printed CameraInfo message."""
    other_names = {
        "image_width": ("width",),
        "image_height": ("height",),
        "camera_matrix": ("K", "k"),
        "distortion_coefficients": ("D", "d"),
    }
    values = dict(content)
    for key, others in other_names.items():
        for other in others:
            if key not in values and other in values:
                values[key] = values[other]
    _need(path, values, ("image_width", "image_height", "camera_matrix"))
    lists = {}
    for key in ("camera_matrix", "distortion_coefficients"):
        value = values.get(key) or []
        lists[key] = value["data"] if isinstance(value, dict) and "data" in value else value
    K = np.reshape(_numbers(path, "camera_matrix", lists["camera_matrix"], 9), (3, 3))
    distortion = _numbers(path, "distortion_coefficients", lists["distortion_coefficients"])
    _need(path, values, ("distortion_model",) if any(distortion) else ())
    name = values.get("distortion_model")
    fisheye = _entry(path, "distortion_model", name, DISTORTIONS) if name else False
    size = _size(path, *(_numbers(path, key, values[key], 1)[0] for key in ("image_height", "image_width")))
    return _camera(path, (K[0, 0], K[1, 1], K[0, 2], K[1, 2]), distortion, fisheye), size


# ------------------------------------------------------------------------------------------ values


def _camera(path: Path, K: Sequence[float], distortion: Sequence[float], fisheye: bool) -> Camera:
    """The camera of fx fy cx cy and OpenCV's distortion; a pinhole if no coefficient differs from 0."""
    matrix = _matrix(path, K)
    if not any(distortion) and not fisheye:
        return Pinhole(matrix)
    counts = (4,) if fisheye else (4, 5, 8)
    given = list(distortion) or [0.0] * 4
    if len(given) not in counts:
        wanted = " or ".join(map(str, counts))
        raise InputError(f"{path}: the distortion has {wanted} coefficients, got {len(given)}")
    return (KannalaBrandt if fisheye else BrownConrady)(matrix, torch.tensor([given]))


def _matrix(path: Path, K: Sequence[float]) -> torch.Tensor:
    """(1, 3, 3) of fx fy cx cy."""
    fx, fy, cx, cy = K
    if min(fx, fy) <= 0:
        raise InputError(f"{path}: focal lengths must be positive, got {fx:g} and {fy:g}")
    return torch.tensor([[[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]], dtype=torch.float32)


def _entry(path: Path, what: str, name: Any, table: Mapping[str, Any]) -> Any:
    """The entry of a table of known names."""
    if not isinstance(name, str) or name not in table:
        raise InputError(f"{path}: {what} '{name}' is not read{nearest_name(name, table)}")
    return table[name]


def _size(path: Path, height: float, width: float) -> Size:
    if min(height, width) < 1 or height % 1 or width % 1:
        raise InputError(
            f"{path}: width and height must be whole numbers of pixels, got {width:g}x{height:g}"
        )
    return int(height), int(width)


def _need(path: Path, values: Mapping[str, Any], keys: Sequence[str], of: str = "") -> None:
    for key in keys:
        if key not in values:
            raise InputError(f"{path}: the key '{key}'{of} is missing")


def _numbers(path: Path, key: str, value: Any, count: int | None = None) -> list[float]:
    """`count` finite numbers of a file; any count if it is None."""
    try:
        numbers = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{path}: {key} must be numbers, got {value!r}") from None
    if numbers.size != (numbers.size if count is None else count) or not (np.abs(numbers) < LARGEST).all():
        wanted = "" if count is None else f"{count} "
        raise InputError(f"{path}: {key} takes {wanted}finite numbers, got {value!r}")
    return numbers.tolist()
