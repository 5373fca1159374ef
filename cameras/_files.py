"""A camera's file: YAML with the model's name and its parameters, in pixels of the images next to it.

    model: kannala_brandt                      model: ray_surface
    intrinsics: [190.9, 190.9, 254.9, 256.9]   rays: template.npy
    distortion: [0.0035, 0.0007, -0.002, 0.0002]

`intrinsics` are fx fy cx cy, or the nine numbers of the matrix. A ray template is a (H, W, 3) array of unit
rays, at a path relative to the file or absolute. Arrays of (3, H, W) or (1, 3, H, W), as in published code,
are also read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cameras._base import Camera, Pinhole
from cameras._models import BrownConrady, DoubleSphere, KannalaBrandt, Unified
from cameras._ray_surface import RaySurface
from files import DAMAGED_ARRAY
from utils import InputError, atomic_path, nearest_name, read_text, read_yaml, to_yaml

CAMERAS: dict[str, type[Camera]] = {
    "pinhole": Pinhole,
    "brown_conrady": BrownConrady,
    "kannala_brandt": KannalaBrandt,
    "unified": Unified,
    "double_sphere": DoubleSphere,
    "ray_surface": RaySurface,
}
# Parameters in addition to the intrinsics → allowed counts of numbers; 1 is a plain number.
PARAMETERS: dict[str, dict[str, tuple[int, ...]]] = {
    "pinhole": {},
    "brown_conrady": {"distortion": (4, 5, 8)},
    "kannala_brandt": {"distortion": (4,)},
    "unified": {"xi": (1,)},
    "double_sphere": {"xi": (1,), "alpha": (1,)},
}


def read_camera(path: str | Path) -> Camera:
    """The camera of a file, with B = 1.

    Raises:
        InputError: no such file, not YAML, an unknown model or parameter, or a wrong count of numbers.
    """
    path = Path(path)
    text = read_text(path)
    try:
        content = read_yaml(text)
    except ValueError as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict) or "model" not in content:
        raise InputError(f"{path} is not a camera file; it needs a line such as 'model: kannala_brandt'")
    name = content.pop("model")
    if name not in CAMERAS:
        raise InputError(f"{path}: there is no camera model '{name}'{nearest_name(name, CAMERAS)}")
    if name == "ray_surface":
        _check_keys(path, name, content, ("rays",))
        return RaySurface(read_template(path.parent / str(content["rays"])))
    _check_keys(path, name, content, ("intrinsics", *PARAMETERS[name]))
    values = {key: _numbers(path, key, content[key], counts) for key, counts in PARAMETERS[name].items()}
    intrinsics = _numbers(path, "intrinsics", content["intrinsics"], (4, 9))
    if intrinsics.shape[1] == 4:
        fx, fy, cx, cy = intrinsics[0].tolist()
        intrinsics = torch.tensor([fx, 0, cx, 0, fy, cy, 0, 0, 1])
    if min(intrinsics.reshape(3, 3)[[0, 1], [0, 1]].tolist()) <= 0:
        raise InputError(f"{path}: fx and fy must be positive; intrinsics are [fx, fy, cx, cy] in pixels")
    return CAMERAS[name](intrinsics=intrinsics.reshape(1, 3, 3), **values)


def write_camera(path: str | Path, camera: Camera) -> None:
    """Write the first camera of a record; a ray surface also writes its template, `<stem>_rays.npy`."""
    path = Path(path)
    if isinstance(camera, RaySurface):
        content: dict[str, Any] = {"model": "ray_surface", "rays": f"{path.stem}_rays.npy"}
        write_template(path.parent / content["rays"], camera.directions)
    else:
        content = camera_settings(camera)
    with atomic_path(path) as temporary:
        temporary.write_text(to_yaml(content))


def camera_settings(camera: Camera) -> dict[str, Any]:
    """The content of a camera file: model and parameters of the first camera of a parametric record."""
    name = next(name for name, model in CAMERAS.items() if type(camera) is model)
    K = camera.intrinsics[0].double()
    plain = K[0, 1] == 0
    numbers = [K[0, 0], K[1, 1], K[0, 2], K[1, 2]] if plain else K.flatten()
    settings = {"model": name, "intrinsics": [number.item() for number in numbers]}
    return settings | {key: getattr(camera, key)[0].double().tolist() for key in PARAMETERS[name]}


def read_template(path: str | Path) -> Tensor:
    """A ray template as (1, 3, H, W) unit rays, (0, 0, 0) for a pixel without a ray.

    Raises:
        InputError: no such file, or not an array of (H, W, 3) or (3, H, W) finite numbers.
    """
    try:
        rays = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(
            f"there is no ray template {path}; tools/ray_template.py writes one from any camera model"
        ) from None
    except DAMAGED_ARRAY as error:
        raise InputError(f"{path} cannot be read as a ray template ({error})") from None
    if not isinstance(rays, np.ndarray) or not np.issubdtype(rays.dtype, np.number):
        raise InputError(f"{path} is not an array of numbers; a ray template is a .npy file of (H, W, 3)")
    shape = rays.shape
    rays = rays[0] if rays.ndim == 4 and len(rays) == 1 else rays
    if rays.ndim == 3 and rays.shape[0] == 3 and rays.shape[2] != 3:
        rays = rays.transpose(1, 2, 0)
    if rays.ndim != 3 or rays.shape[2] != 3 or min(rays.shape[:2]) < 2:
        raise InputError(f"{path} holds an array of {shape}; a ray template is (H, W, 3)")
    if not np.isfinite(rays).all():
        raise InputError(f"{path} holds rays that are not finite; pixels without a ray are 0 0 0")
    directions = torch.from_numpy(np.ascontiguousarray(rays.transpose(2, 0, 1), np.float32))[None]
    return torch.nn.functional.normalize(directions, dim=1)


def write_template(path: str | Path, directions: Tensor) -> None:
    """Write the rays (B, 3, H, W) of the first camera as a (H, W, 3) float32 array."""
    rays = directions[0].permute(1, 2, 0).contiguous().float().cpu().numpy()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, rays)


def _check_keys(path: Path, model: str, content: dict, needed: tuple[str, ...]) -> None:
    for key in content:
        if key not in needed:
            raise InputError(f"{path}: a {model} camera has no parameter '{key}'{nearest_name(key, needed)}")
    for key in needed:
        if key not in content:
            raise InputError(f"{path}: a {model} camera needs '{key}'")


def _numbers(path: Path, key: str, value: Any, counts: tuple[int, ...]) -> Tensor:
    """Values of a camera file as a tensor: (1, n) of a list, (1,) of a number."""
    try:
        numbers = np.asarray(value, np.float64).ravel()
    except (TypeError, ValueError):
        raise InputError(f"{path}: {key} must be numbers, got {value!r}") from None
    if numbers.size not in counts or not np.isfinite(numbers).all():
        wanted = " or ".join(map(str, counts))
        raise InputError(f"{path}: {key} takes {wanted} finite numbers, got {value!r}")
    row = torch.from_numpy(numbers.astype(np.float32))
    return row if counts == (1,) else row[None]
