"""Parallax as a package: `model = parallax.load("runs/walk")`, and the command `parallax`.

A checkout keeps its modules side by side, and the wheel has all of them inside this package (`_wheel.py`), so
that no module called `datasets` or `utils` gets into a whole environment. `CHECKOUT` says which of the two
this is. Importing this file loads nothing else; `load` imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictor import Predictor

__version__ = "0.1.0"
__all__ = ["load"]

_HERE = Path(__file__).resolve().parent
# Folder of the modules; None if installed.
CHECKOUT = None if (_HERE / "utils.py").is_file() else _HERE.parent


def load(path: str | Path, device: str = "auto", which: str = "best", **options: Any) -> Predictor:
    """A model that is ready to predict depth.

        model(images)   (B, 3, h, w) float in [0, 1] or uint8, a PIL image, an array (h, w, 3), a path, or a
                        list of these  ->  depth (B, 1, h, w)
        model(images, intrinsics)   for a rig: (N, 3, h, w) in ring order and (N, 3, 3) in their pixels

    Args:
        path: a run folder, a checkpoint file or a published checkpoint.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, ...
        which: checkpoint of a run folder, `best` or `last`.
        options: height and width, to run the network at another size than it was trained with.

    Returns:
        A `predictor.Predictor`, an nn.Module; `unit` says whether its depth is in metres.

    Raises:
        InputError: (a ValueError) nothing known is at `path`.
    """
    if CHECKOUT is None:
        from parallax.predictor import load_predictor

        return load_predictor(path, device, which, **options)
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("_parallax_hubconf", CHECKOUT / "hubconf.py")
    hub = module_from_spec(spec)
    spec.loader.exec_module(hub)  # keeps our modules apart from the caller's `utils` and `datasets`
    return hub.parallax(path, device, which, **options)
