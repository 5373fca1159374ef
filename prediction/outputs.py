"""The files of one predicted image: which are written, how they are called, and what they hold.

Next to each image, or in a folder of outputs:

    <stem>_disp.EXT            inverse depth in colours
    <stem>_depth.npy           depth, (h, w) float32                                 --save_npy
    <stem>_disp.npy            1 / depth, (h, w) float32                             --save_npy
    <stem>_depth.npz           `depth` (h, w) float32 and `intrinsics` (3, 3)         --save npz
    <stem>_depth.png           depth x factor, 16 bits                               --save png
    <stem>_rgb.png             the image, upright                                    --save rgb
    <stem>_viz.png             inverse depth up to its 95th percentile, plasma       --save viz
    <stem>_labels.png          train ids, 8 bits                                     --save labels
    <stem>_label_colours.EXT   the classes in their colours                          --save labels
    <stem>_overlay.EXT         these colours over the image                          --save labels
    <stem>.ply, <stem>.glb     coloured points                                       --ply, --glb

All have the size (h, w) of the image, and the intrinsics belong to this size. Guessed intrinsics are not
written: a reader of the .npz would take them for a calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from clouds import below_sky, point_cloud, write_cloud
from datasets._labels import LabelTable
from files import writing
from images import colourise, save_depth, save_image
from prediction import KINDS
from prediction.bridges import Bridge, BridgedImage
from prediction.labels import label_map, overlay
from predictor import enlarge
from utils import InputError, nearest_name

ENDINGS = {"npz": "_depth.npz", "png": "_depth.png", "rgb": "_rgb.png", "viz": "_viz.png"}
DEPTH_FACTOR = 256.0  # of 16-bit depth, as KITTI's and PackNet's files have it: up to 256 m


@dataclass(frozen=True)
class Wanted:
    """Outputs for each image in addition to the coloured inverse depth.

    Attributes:
        ext: format of the coloured images, such as `png`.
        arrays: write depth and inverse depth as .npy.
        clouds: endings of the point cloud's files, some of `clouds.ENDINGS`.
        intrinsics: `fx fy cx cy` of all images, pixels; None to look for them.
        kinds: further files, some of `prediction.KINDS`.
        depth_factor: value of the 16-bit PNG for one unit of depth.
        table: classes of the labels; needed for the kind `labels`.
        bridges: folders for other programs, which take every image.

    Raises:
        InputError: a kind that does not exist.
    """

    ext: str = "png"
    arrays: bool = False
    clouds: tuple[str, ...] = ()
    intrinsics: str | None = None
    kinds: tuple[str, ...] = ()
    depth_factor: float = DEPTH_FACTOR
    table: LabelTable | None = None
    bridges: tuple[Bridge, ...] = ()

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise InputError(
                    f"--save has no kind '{kind}'{nearest_name(kind, KINDS)}; it takes {', '.join(KINDS)}; "
                    "--save_npy and --ply are flags of their own"
                )

    @property
    def reads_intrinsics(self) -> bool:
        """True if an output holds intrinsics or needs them."""
        return bool(self.clouds or self.bridges) or "npz" in self.kinds

    @property
    def endings(self) -> list[str]:
        """Endings of the files that are written for one image."""
        ext = self.ext.removeprefix(".")
        endings = [f"_disp.{ext}"]
        endings += ["_depth.npy", "_disp.npy"] if self.arrays else []
        endings += [ending for kind, ending in ENDINGS.items() if kind in self.kinds]
        if "labels" in self.kinds:
            endings += label_endings(ext)
        return [*endings, *self.clouds]


@dataclass(frozen=True)
class Predicted:
    """One image and its prediction.

    Attributes:
        image: (3, h, w) uint8.
        inverse_depth: (1, H, W) at the network's size.
        logits: (classes, H, W); None without segmentation.
        intrinsics: (3, 3) pixels of the image; None if they are not needed.
        guessed: nothing gives the intrinsics, so that they are a guess.
        unit: unit of depth in words.
    """

    image: Tensor
    inverse_depth: Tensor
    logits: Tensor | None = None
    intrinsics: np.ndarray | None = None
    guessed: bool = False
    unit: str = ""


def write_outputs(output: Path, predicted: Predicted, wanted: Wanted) -> None:
    """Write everything that is wanted of one image.

    Args:
        output: path of the outputs without ending.
        predicted: the image and its prediction.
        wanted: the outputs to write.

    Raises:
        InputError: a file cannot be written.
    """
    size = predicted.image.shape[-2:]
    inverse = enlarge(predicted.inverse_depth[None], *size)[0, 0].cpu().numpy()
    depth, image = 1 / inverse, predicted.image.permute(1, 2, 0).numpy()
    save_image(with_ending(output, wanted.endings[0]), colourise(inverse))
    if wanted.arrays:
        for name, values in (("depth", depth), ("disp", inverse)):
            with writing(with_ending(output, f"_{name}.npy")) as path, open(path, "wb") as file:
                np.save(file, values)
    for kind, ending in ENDINGS.items():
        if kind in wanted.kinds:
            _write_kind(kind, with_ending(output, ending), depth, predicted, wanted)
    if "labels" in wanted.kinds:
        labels = label_map(predicted.logits, wanted.table, *size)
        colours = wanted.table.colourise(labels)
        for ending, values in zip(label_endings(wanted.ext), (labels, colours, overlay(image, colours))):
            save_image(with_ending(output, ending), values)
    if wanted.clouds:
        points, colours = point_cloud(depth, predicted.intrinsics, image, kept=below_sky(depth))
        for ending in wanted.clouds:
            write_cloud(with_ending(output, ending), points, colours, predicted.unit)
    for bridge in wanted.bridges:
        bridge.add(BridgedImage(output.name, image, depth, predicted.intrinsics, predicted.guessed))


def _write_kind(kind: str, path: Path, depth: np.ndarray, predicted: Predicted, wanted: Wanted) -> None:
    """Write one file of `ENDINGS`; `depth` is (h, w)."""
    if kind == "npz":
        known = predicted.intrinsics is not None and not predicted.guessed
        arrays = {"depth": depth, **({"intrinsics": predicted.intrinsics} if known else {})}
        with writing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
    elif kind == "png":
        save_depth(path, depth, wanted.depth_factor)
    elif kind == "rgb":
        save_image(path, predicted.image.permute(1, 2, 0).numpy())
    else:
        inverse = 1 / depth
        save_image(path, colourise(inverse, 0.0, float(np.percentile(inverse, 95)), "plasma"))


def label_endings(ext: str) -> list[str]:
    """Endings of the files of labels: train ids, colours, overlay."""
    ext = ext.removeprefix(".")
    return ["_labels.png", f"_label_colours.{ext}", f"_overlay.{ext}"]


def with_ending(output: Path, ending: str) -> Path:
    """A path with an ending appended; an ending that its name already has stays."""
    return output.with_name(output.name + ending)
