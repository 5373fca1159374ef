"""Parallax in other code, in one line.

    import torch
    model = torch.hub.load("path/to/parallax", "parallax", path="runs/monodepth2_kitti", source="local")
    depth = model("street.jpg")  # (1, 1, h, w) at the image's size; metres if model.is_metric

`path` is a run folder, a checkpoint file or a published checkpoint. `model` takes paths, PIL images, arrays
and tensors, one or many; a model of a rig takes all images of a frame set with their intrinsics
(predictor.py). It is an `nn.Module`, so `model.to("cuda")` works.

Our modules have common names, and the calling program may have a `utils` or `datasets` of its own. While a
model is loaded these names are ours; before and after, they are the caller's.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

dependencies = ["torch", "torchvision", "timm", "numpy", "PIL", "yaml", "tqdm", "matplotlib", "safetensors"]

_FOLDER = Path(__file__).resolve().parent
_NAMES = {path.stem for path in _FOLDER.glob("*.py")} | {
    path.parent.name for path in _FOLDER.glob("*/__init__.py")
}
# Our modules, kept between calls so that a class stays the same. The hub runs this file each time, so
# they are kept in sys.modules, under a name that nobody else uses.
_kept = sys.modules.setdefault("_parallax_modules", ModuleType("_parallax_modules"))
_loaded: dict[str, ModuleType] = vars(_kept).setdefault(str(_FOLDER), {})


def parallax(path: str | Path, device: str = "auto", which: str = "best", **options: Any):
    """A model that is ready to predict depth; arguments, result and errors are those of `parallax.load`."""
    with _our_modules():
        from predictor import load_predictor

        return load_predictor(path, device, which, **options)


@contextlib.contextmanager
def _our_modules() -> Iterator[None]:
    """A block in which `utils`, `datasets`, ... are our modules; afterwards they are the caller's."""

    def named_alike() -> dict[str, ModuleType]:
        return {n: m for n, m in sys.modules.items() if n.split(".")[0] in _NAMES - {"hubconf"}}

    before = named_alike()
    if not all(_is_ours(module) for module in before.values()):
        for name in before:
            del sys.modules[name]
    sys.modules.update({name: module for name, module in _loaded.items() if name not in sys.modules})
    sys.path.insert(0, str(_FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(_FOLDER))
        for name, module in named_alike().items():
            if before.get(name) is not module:
                _loaded[name] = sys.modules.pop(name)
        sys.modules.update(before)


def _is_ours(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).resolve().is_relative_to(_FOLDER):
        return False
    # A virtual environment in the checkout holds packages of other people.
    return Path(file).resolve().relative_to(_FOLDER).parts[0].removesuffix(".py") in _NAMES
