"""Your own images: a folder of frames, a video file, or scenes of either. No code needed.

    walk/0001.jpg, 0002.jpg, ...  walk/cam.txt       one scene
    walk.mp4                      cam.txt            one scene; extracted once, to walk.mp4.frames
    root/<scene>/...              root/cam.txt       several scenes, each of either kind (the SC-Depth layout)

`cam.txt` (or `intrinsics.txt`) holds the camera's intrinsics in pixels of the images as they are on disk:
`fx fy cx cy`, 3x3 or 3x4, separated by blanks, commas or new lines. It is looked for in the scene first, then
upwards to the root, so that scenes may have cameras of their own; the setting `intrinsics="fx fy cx cy"` says
the same in one line.

Frames are in natural order (frame9 before frame10), without what test_simple.py and test_video.py left
beside them. Where a folder holds other images too, or time does not follow the names, `frames.txt` in it
lists the frames in their order, one name or pattern a line.

Where a scene has a folder `depth`, its files are the ground truth of the images with the same name (or, as in
SC-Depth, of the same count in sorted order): .npy or SciPy's sparse .npz in metres, 16-bit .png in units of
1 / `depth_scale` metres; 0 is unknown.
"""

from __future__ import annotations

import fnmatch
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from datasets import DATASETS
from datasets._ground_truth import FOLDER, Exportable, read_values
from datasets._pseudo_depth import FOLDERS as PSEUDO_DEPTH
from datasets._pseudo_depth import find_pseudo_depth, resize_nearest
from datasets._sequence import SequenceDataset, check_offsets
from datasets._video import EXTRACTED, VIDEOS, extract_video
from metrics import Protocol
from structures import Frame
from utils import InputError, read_lines, read_text

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
INTRINSICS_FILES = ("cam.txt", "intrinsics.txt")
FRAMES_FILE = "frames.txt"
NOT_SCENES = {"depth", *PSEUDO_DEPTH, "seg_mask", FOLDER}
OWN_OUTPUT = "_disp"  # ends the stem of a coloured image that test_simple.py wrote
OWN_FILM = "_depth"  # likewise of a video of test_video.py
SEQUENCE = 3  # images; fewer are a cover or image grid where scenes or videos lie beside them
PARTS = ("train", "val", "test", "all")


class Target(NamedTuple):
    """A sample: frame number `frame` of scene number `scene`."""

    scene: int
    frame: int


@dataclass
class Scene:
    """Images of one camera in time.

    Attributes:
        name: its path below the root; "." is the root itself.
        folder: where the images lie.
        frames: file names in time.
        size: (height, width) of every image.
        intrinsics: (3, 3) pixels at that size.
        depths: frame's file name → its depth file.
    """

    name: str
    folder: Path
    frames: list[str]
    size: tuple[int, int]
    intrinsics: np.ndarray
    depths: dict[str, Path]


@DATASETS.register
class Folder(Exportable, SequenceDataset):
    """Images of your own.

    The parts train and val come from `train.txt` and `val.txt` (scene names, one a line) where the root has
    them. Otherwise the last scenes are held back for val or, of a single scene, its last frames; no image
    is in both, not even as a source.

    Args:
        data_path: a folder of images, a video file, or a folder of scenes.
        split: folder with lists of your own, `train.txt`, `val.txt`, `test.txt`; the root where not given.
        part: train, val, test (val where there is no `test.txt`) or all.
        frame_ids: 0 and the sources: offsets in steps of `stride`.
        height: network input height, pixels, a multiple of 32.
        width: network input width, pixels, a multiple of 32.
        resize: `bicubic`, `lanczos` or `bilinear`.
        skip_missing: leave out samples that lack an image.
        intrinsics: "fx fy cx cy" (or 3x3 numbers) in pixels of the images as they are on disk, for all
            scenes. Wins over files.
        val_fraction: share of scenes or frames that are held back. 0 holds back none: every part is all
            of them, and validation only tells how well the training images are explained.
        stride: frames from a target to its next source. Take more where the camera moves little.
        files: frames in their order, as names or patterns: "left.png 0*.png". As `frames.txt` in each scene.
        depth_scale: value of a .png ground truth that is one metre: 256 as in KITTI and our synthetic world,
            1000 for millimetres (ScanNet), 5000 for TUM and SC-Depth's NYUv2.
        depth_cap: metres, up to which ground truth counts and predictions are evaluated.
        gt_path: folder of exported ground truth; `<data_path>/gt_depths` where not given.
        pseudo_depth: read the target's pseudo-depth, see `datasets/_pseudo_depth.py`.
    """

    ground_truth = "depth"
    describes_folder = ("intrinsics", "files", "depth_scale", "depth_cap", "stride", "val_fraction")

    def __init__(
        self,
        data_path: str | Path,
        split: str | Path | None = None,
        part: str = "train",
        frame_ids: Sequence[Frame] = (0, -1, 1),
        height: int = 192,
        width: int = 640,
        resize: str = "bicubic",
        skip_missing: bool = False,
        intrinsics: str | Sequence[float] | None = None,
        val_fraction: float = 0.1,
        stride: int = 1,
        files: str | Sequence[str] | None = None,
        depth_scale: float = 256.0,
        depth_cap: float = 80.0,
        gt_path: str | Path | None = None,
        pseudo_depth: bool = False,
    ) -> None:
        if part not in PARTS:
            raise InputError(f"a folder has the parts {', '.join(PARTS)}, got '{part}'")
        check_offsets(frame_ids, "a folder")
        if stride < 1:
            raise InputError(f"stride is a whole number of frames from 1 on, got {stride}")
        if not 0 <= val_fraction < 1:
            raise InputError(f"val_fraction is in [0, 1), got {val_fraction}")
        if depth_scale <= 0:
            raise InputError(f"depth_scale must be positive, got {depth_scale}")
        self.stride, self.depth_scale = stride, depth_scale
        self.protocol = Protocol("own images", "files beside the images", max_depth=depth_cap)
        root, folders = find_scenes(Path(data_path))
        # Lists that lie beside a video are of its whole folder.
        lists = split or (None if Path(data_path).is_file() else root)
        listed = _listed_part(Path(lists), part, list(folders), split is not None) if lists else None
        K = None if intrinsics is None else parse_intrinsics(intrinsics, "intrinsics")
        patterns = files.replace(",", " ").split() if isinstance(files, str) else files
        self.scenes = [_open_scene(name, folders[name], root, K, patterns) for name in listed or folders]
        self.pseudo_depth = {
            number: find_pseudo_depth(scene.folder, scene.frames, natural_key)
            for number, scene in enumerate(self.scenes if pseudo_depth else [])
        }
        offsets = [frame * stride for frame in frame_ids]
        spans = [range(len(scene.frames)) for scene in self.scenes]
        if listed is None and part != "all":
            spans = _held_back(spans, part, val_fraction, stride)
        self.lines = [
            Target(scene, frame)
            for scene, span in enumerate(spans)
            for frame in span
            if all(frame + offset in span for offset in offsets)
        ]
        if not self.lines:
            raise InputError(
                f"{data_path}, part '{part}': no frame has all of its neighbours {list(frame_ids)} at stride "
                f"{stride}; the scenes hold {', '.join(str(len(span)) for span in spans[:8])} frames"
            )
        super().__init__(root, frame_ids, height, width, resize, skip_missing)
        scale = [] if depth_scale == 256 else [f"{depth_scale:g}"]
        self.find_exported(gt_path, split, part, scale, at_first=False)

    def paths(self, line: Target, frame: Frame) -> list[Path]:
        scene = self.scenes[line.scene]
        return [scene.folder / scene.frames[line.frame + frame * self.stride]]

    def intrinsics(self, line: Target, camera: int, height: int, width: int) -> np.ndarray:
        return self.scenes[line.scene].intrinsics

    def maps(self, line: Target) -> dict[str, Tensor]:
        """`pseudo_depth` (1, 1, height, width) of any scale, 0 where unknown, if it is asked for."""
        if not self.pseudo_depth:
            return {}
        path = self.pseudo_depth[line.scene][self.scenes[line.scene].frames[line.frame]]
        return {"pseudo_depth": resize_nearest(read_depth(path, 1.0), self.height, self.width)}

    def known_depth(self, index: int) -> np.ndarray | None:
        """From the file in `depth`; None for an image that has none."""
        line = self.lines[index]
        scene = self.scenes[line.scene]
        path = scene.depths.get(scene.frames[line.frame])
        return None if path is None else read_depth(path, self.depth_scale)[None]

    def name(self, index: int) -> str:
        line = self.lines[index]
        scene = self.scenes[line.scene]
        return (Path(scene.name) / scene.frames[line.frame]).as_posix()


# ----------------------------------------------------------------------------- finding scenes


def find_scenes(data_path: Path) -> tuple[Path, dict[str, Path]]:
    """The root, and name → folder of images of every scene in natural order; videos are extracted.

    The root is `data_path`, the folder of a video, or `training` in it where scenes lie there (SC-Depth).

    Raises:
        InputError: nothing is there, or a folder holds both images and videos.
    """
    if data_path.is_file():
        if data_path.suffix.lower() not in VIDEOS:
            raise InputError(f"{data_path} is no folder and no video ({', '.join(sorted(VIDEOS))})")
        return data_path.parent, {data_path.name: extract_video(data_path)}
    if not data_path.is_dir():
        raise InputError(f"there is no folder or video {data_path}; give your images with --data_path")
    training = data_path / "training"
    root = training if training.is_dir() and _scenes_below(training) else data_path
    own = _scenes_in(root, ".")
    images = len(_images_in(root))
    if images < SEQUENCE and (below := _scenes_below(root)):
        videos = {name: folder for name, folder in own.items() if folder != root}
        return root, {**videos, **below}
    if not own:
        endings = f"images ({', '.join(sorted(IMAGES))}), no videos ({', '.join(sorted(VIDEOS))})"
        raise InputError(f"{data_path} holds no {endings} and no folders of them")
    return root, own


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Sorts frame9 before frame10."""
    return [
        (not word.isdecimal(), int(word) if word.isdecimal() else 0, word)
        for word in re.split(r"(\d+)", name)
    ]


def _scenes_below(root: Path) -> dict[str, Path]:
    return {
        name: place for folder in _subfolders(root) for name, place in _scenes_in(folder, folder.name).items()
    }


def _scenes_in(folder: Path, name: str) -> dict[str, Path]:
    """The folder itself where it holds images, or each of its videos; name → folder of images."""
    videos = [file for file in _visible_files(folder) if Path(file).suffix.lower() in VIDEOS]
    videos = [file for file in videos if not is_own_output(folder / file, OWN_FILM, VIDEOS)]
    images = _images_in(folder)
    if videos and len(images) >= SEQUENCE:
        raise InputError(f"{folder} holds both images and videos; put {videos[0]} into a folder of its own")
    if images and not videos:
        return {name: folder}
    videos.sort(key=natural_key)
    return {(Path(name) / file).as_posix(): extract_video(folder / file) for file in videos}


def _images_in(folder: Path) -> list[str]:
    """Names of the images in a folder, in natural order, without what was predicted from them."""
    names = (name for name in _visible_files(folder) if Path(name).suffix.lower() in IMAGES)
    return sorted((name for name in names if not is_own_output(folder / name)), key=natural_key)


def is_own_output(path: Path, ending: str = OWN_OUTPUT, kinds: Iterable[str] = IMAGES) -> bool:
    """Whether what a file was predicted from lies beside it: left.png for left_disp.jpg."""
    source = path.stem.removesuffix(ending)
    if source in ("", path.stem):
        return False
    return any(path.with_name(source + kind).is_file() for kind in ("", *kinds, *map(str.upper, kinds)))


def _visible_files(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name[0] != "."]


def _subfolders(folder: Path) -> list[Path]:
    """Where scenes may lie; not the frames of a video that stands beside them."""
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    names = [name for name in names if name[0] != "." and name not in NOT_SCENES]
    names = [
        n for n in names if not (n.endswith(EXTRACTED) and (folder / n.removesuffix(EXTRACTED)).is_file())
    ]
    return [folder / name for name in sorted(names, key=natural_key)]


def _open_scene(
    name: str, folder: Path, root: Path, K: np.ndarray | None, patterns: Sequence[str] | None
) -> Scene:
    frames = frame_names(folder, patterns)
    size = _common_size(folder, frames)
    source = "intrinsics"
    if K is None:
        K, source = _find_intrinsics(folder, root, size)
    _check_intrinsics(K, source, folder / frames[0], size)
    return Scene(name, folder, frames, size, K, _find_depths(folder, frames))


# ----------------------------------------------------------------------------- frames in order


def frame_names(folder: Path, patterns: Sequence[str] | None = None) -> list[str]:
    """The image names of a scene in time: as listed, or all of them in natural order.

    Raises:
        InputError: a listed one is not there, or nothing is listed and they are not named alike.
    """
    names = _images_in(folder)
    listed = folder / FRAMES_FILE
    if patterns is not None:
        return _matching(names, patterns, f"files, in {folder}")
    if listed.is_file():
        return _matching(names, read_lines(listed), str(listed))
    kinds: dict[str, str] = {}
    for name in names:
        kinds.setdefault(re.sub(r"\d+", "#", Path(name).stem), name)
    if len(kinds) > 1:
        raise InputError(
            f"the images in {folder} are not named alike ({', '.join(list(kinds.values())[:3])}), so their "
            f'order in time is unclear; list the frames in {listed}, or give files="first.png 0*.png"'
        )
    return names


def _matching(names: list[str], patterns: Sequence[str], where: str) -> list[str]:
    """Names in the order of the patterns they match, each once."""
    frames: dict[str, None] = {}
    for pattern in patterns:
        found = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not found:
            raise InputError(f"{where}: no image matches '{pattern}'")
        frames.update(dict.fromkeys(found))
    if not frames:
        raise InputError(f"{where}: no frame is listed")
    return list(frames)


def _common_size(folder: Path, frames: list[str]) -> tuple[int, int]:
    """(height, width) of all images of a scene, from their headers; one camera has one."""
    first = _image_size(folder / frames[0])
    for name in frames[1:]:
        size = _image_size(folder / name)
        if size != first:
            raise InputError(
                f"images of one scene must have one size, but {folder / frames[0]} is "
                f"{first[1]}x{first[0]} and {name} is {size[1]}x{size[0]}; make them equal, or give "
                "each size a folder of its own"
            )
    return first


def _image_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except OSError:
        raise InputError(f"{path} cannot be read as an image; is it truncated?") from None


# ----------------------------------------------------------------------------- intrinsics


def parse_intrinsics(numbers: str | Iterable[float], source: str) -> np.ndarray:
    """(3, 3) from `fx fy cx cy`, 3x3 or 3x4 numbers, as text or as a (nested) list.

    Args:
        source: the file or option they come from, for errors.

    Raises:
        InputError: not numbers, another count, not a camera's matrix, or not in pixels.
    """
    text = numbers if isinstance(numbers, str) else " ".join(str(x) for x in np.ravel(list(numbers)))
    text = re.sub(r"#.*", "", text)
    try:
        values = np.array([float(word) for word in re.split(r"[\s,;\[\]()]+", text) if word])
    except ValueError as error:
        raise InputError(f"{source}: intrinsics are the numbers fx fy cx cy, in pixels ({error})") from None
    if values.size == 4:
        fx, fy, cx, cy = values
        K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    elif values.size in (9, 12):
        K = values.reshape(3, -1)[:, :3]
    else:
        raise InputError(
            f"{source}: expected 4 (fx fy cx cy), 9 (3x3) or 12 (3x4) numbers, got {values.size}"
        )
    if not np.isfinite(K).all():
        raise InputError(f"{source}: intrinsics are finite numbers, got {text.strip()}")
    if not np.array_equal(K[2], [0, 0, 1]):
        transposed = "; is it transposed?" if np.array_equal(K[:, 2], [0, 0, 1]) else ""
        raise InputError(f"{source}: the matrix must end in 0 0 1, got {K[2].tolist()}{transposed}")
    if min(K[0, 0], K[1, 1]) <= 0:
        raise InputError(f"{source}: fx and fy must be positive, got {K[0, 0]:g} and {K[1, 1]:g}")
    return K


def _find_intrinsics(folder: Path, root: Path, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """The nearest intrinsics file from the scene's folder up to the root, and its path."""
    upwards = [folder, *folder.parents]
    upwards = upwards[: upwards.index(root) + 1] if root in upwards else [folder, root]
    for place in upwards:
        for name in INTRINSICS_FILES:
            if (place / name).is_file():
                path = place / name
                return parse_intrinsics(read_text(path), str(path)), str(path)
    height, width = size
    focal = round(width / 2 / math.tan(math.radians(30)))
    guess = f"{focal} {focal} {(width - 1) / 2:g} {(height - 1) / 2:g}"
    raise InputError(
        f"there are no intrinsics for {folder}: write 'fx fy cx cy' in pixels into {upwards[-1] / 'cam.txt'} "
        f'or give intrinsics="fx fy cx cy"; for {width}x{height} images of an ordinary camera (60 degrees '
        f'wide) try "{guess}"'
    )


def _check_intrinsics(K: np.ndarray, source: str, image: Path, size: tuple[int, int]) -> None:
    """Refuse intrinsics that are not in pixels of this image."""
    height, width = size
    (fx, fy), (cx, cy) = (K[0, 0], K[1, 1]), K[:2, 2]
    if fx < 4 and fy < 4:
        pixels = f"{fx * width:g} {fy * height:g} {cx * width:g} {cy * height:g}"
        raise InputError(
            f"{source}: fx = {fx:g}, fy = {fy:g} look normalised, but pixels are wanted; for the "
            f"{width}x{height} images that is '{pixels}'"
        )
    if not (0 < cx < width and 0 < cy < height):
        raise InputError(
            f"{source}: the principal point ({cx:g}, {cy:g}) lies outside of {image}, which is "
            f"{width}x{height}; are these the intrinsics of another image size?"
        )


# ----------------------------------------------------------------------------- parts


def _listed_part(folder: Path, part: str, names: list[str], required: bool) -> list[str] | None:
    """The scenes that `<part>.txt` lists; None where the part is to be found by rule."""
    lists = {name: folder / f"{name}.txt" for name in PARTS[:3]}
    lists = {name: path for name, path in lists.items() if path.is_file()}
    if required and not lists:
        raise InputError(f"{folder} holds none of train.txt, val.txt, test.txt")
    if part == "all" or not lists:
        return None
    path = lists.get(part) or (lists.get("val") if part == "test" else None)
    if path is None:
        raise InputError(
            f"{folder} lists scenes in {', '.join(p.name for p in lists.values())}, but has no {part}.txt"
        )
    scenes = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        name = line.strip().rstrip("/")
        if name and name not in names:
            raise InputError(f"{path}, line {number}: there is no scene '{name}'")
        scenes += [name] if name else []
    if not scenes:
        raise InputError(f"{path} lists no scene")
    return scenes


def _held_back(spans: list[range], part: str, fraction: float, stride: int) -> list[range]:
    """The frames of each scene that belong to a part: the last scenes, or the last frames of one, are val."""
    training = part == "train"
    if fraction == 0:
        return spans
    if len(spans) > 1:
        cut = len(spans) - max(1, round(fraction * len(spans)))
        cut = max(cut, 1)
        return [span if (number < cut) == training else range(0) for number, span in enumerate(spans)]
    count, least = len(spans[0]), 2 * stride + 1  # a target and a source on each side
    held = max(round(fraction * count), least)
    if count < least:
        raise InputError(f"a target and its neighbours at stride {stride} take {least} frames, got {count}")
    if count - held < least:
        raise InputError(
            f"{count} frames are too few to hold {held} of them back for validation; "
            "val_fraction=0 trains on all"
        )
    return [range(count - held) if training else range(count - held, count)]


# ----------------------------------------------------------------------------- depth


def _find_depths(folder: Path, frames: list[str]) -> dict[str, Path]:
    """Frame → file in the scene's folder `depth`, by name or, where all names differ, in sorted order."""
    place = folder / "depth"
    if not place.is_dir():
        return {}
    files = sorted(_visible_files(place), key=natural_key)
    files = [name for name in files if Path(name).suffix.lower() in (".png", ".npy", ".npz")]
    by_stem = {Path(name).stem: place / name for name in files}
    named = {frame: by_stem[Path(frame).stem] for frame in frames if Path(frame).stem in by_stem}
    if named or not files:
        return named
    if len(files) != len(frames):
        raise InputError(
            f"{place} holds {len(files)} files for {len(frames)} images, and no name of an image; "
            "name them like the images they belong to"
        )
    return {frame: place / name for frame, name in zip(frames, files)}


def read_depth(path: Path, depth_scale: float) -> np.ndarray:
    """(h, w) float32 metres from .npy (metres), sparse .npz (metres) or 16-bit .png (value / depth_scale).

    Raises:
        InputError: not readable, not a map, or an image of 8 bits.
    """
    try:
        if path.suffix.lower() == ".png":
            return read_values(path, "depth").astype(np.float32) / np.float32(depth_scale)
        values = np.load(path)
        values = _dense(values) if isinstance(values, np.lib.npyio.NpzFile) else values
    except InputError:
        raise
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{path} cannot be read as depth ({error}); is it truncated?") from None
    values = np.squeeze(values)
    if values.ndim != 2:
        raise InputError(f"{path} is no depth map: expected (height, width), got {values.shape}")
    return np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)


def _dense(arrays: np.lib.npyio.NpzFile) -> np.ndarray:
    """SciPy's `save_npz` (CSR or COO) without SciPy; or the file's only array."""
    if "shape" not in arrays:
        (name,) = arrays.files
        return arrays[name]
    dense = np.zeros(arrays["shape"], arrays["data"].dtype)
    if "indptr" in arrays:
        if arrays["format"].item() != b"csr":
            raise ValueError(f"sparse format {arrays['format'].item()!r}; csr and coo are read")
        rows = np.repeat(np.arange(len(dense)), np.diff(arrays["indptr"]))
        dense[rows, arrays["indices"]] = arrays["data"]
    else:
        dense[arrays["row"], arrays["col"]] = arrays["data"]
    return dense
