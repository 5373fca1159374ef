"""Scenes of a user's data: folders of images and videos, and which of their frames a part holds.

The root is searched for images and videos, then each of its folders. A folder with images is one scene, each
video is one. The frames of a scene are its images in natural order, or those that `frames.txt` lists.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from pathlib import Path

from datasets._pillow import ANIMATED
from datasets.animated import frames_in
from datasets.ground_truth import FOLDER
from datasets.image_files import (
    IMAGES,
    image_size,
    is_image,
    list_images,
    natural_key,
    one_per_name,
    visible_files,
)
from datasets.own_output import OWN_VIDEO, is_own_output
from datasets.sequence import check_folder
from datasets.video import EXTRACTED, MOVING, VIDEOS, extract_video, is_bag, is_video
from files import inside
from notices import notice
from utils import InputError, read_lines, read_text, read_yaml

FRAMES_FILE = "frames.txt"
INDEX_FILE, INDEX_ABOUT = "frame_index.txt", "frame_index.yaml"  # numbers of frames, and the rule
NOT_SCENES = {"depth", "pseudo_depth", "leres_depth", "seg_mask", FOLDER}
SEQUENCE = 3  # images; fewer are a cover or image grid if scenes or videos lie next to them
PARTS = ("train", "val", "test", "all")


# ----------------------------------------------------------------------------- finding scenes


def find_scenes(data_path: Path) -> tuple[Path, dict[str, Path]]:
    """The root folder, and the scenes in natural order: name → folder of images. Videos are extracted.

    The root is `data_path`, the folder of a video, or `training` in it (also `Training`) if scenes lie there.
    Folders of images that are not read are named in a warning.

    Raises:
        InputError: nothing is there, or a folder holds both images and videos.
    """
    if data_path.is_file() or is_bag(data_path):
        if not is_video(data_path):
            raise InputError(
                f"{data_path} is neither a folder nor a video ({', '.join(sorted(VIDEOS))}, or an animated "
                "GIF, WebP or PNG)"
            )
        return data_path.parent, {data_path.name: extract_video(data_path)}
    if not data_path.is_dir():
        raise InputError(f"there is no folder or video {data_path}; give your images with --data_path")
    check_folder(data_path)
    training = subfolder(data_path, "training")
    root = training if training and _scenes_below(training) else data_path
    own = _scenes_in(root, ".")
    if len(images_in(root)) < SEQUENCE and (below := _scenes_below(root)):
        videos = {name: folder for name, folder in own.items() if folder != root}
        own = {**videos, **below}
    if not own:
        nested = _unread(root, own)
        hint = f"; {nested[0]} does, give it with --data_path" if nested else ""
        endings = f"images ({', '.join(sorted(IMAGES))}), no videos ({', '.join(sorted(VIDEOS))})"
        raise InputError(f"{data_path} holds no {endings} and no folders of them{hint}")
    if unread := _unread(root, own):
        others = f" and {len(unread) - 1} more folders" if len(unread) > 1 else ""
        notice(
            f"{unread[0]}{others} hold images that are not read: scenes are the images of {root} itself, or "
            "else its folders; move the images up into folders of their own"
        )
    return root, own


def subfolder(folder: Path, name: str) -> Path | None:
    """A folder of this name in upper or lower case; None if there is none."""
    found = [entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name.lower() == name]
    return folder / (name if name in found else sorted(found)[0]) if found else None


def images_in(folder: Path) -> list[str]:
    """Names of the images in a folder, in natural order, without what was predicted from them."""
    return [name for name in list_images(folder) if not is_own_output(folder / name)]


def _scenes_below(root: Path) -> dict[str, Path]:
    return {
        name: found for folder in _subfolders(root) for name, found in _scenes_in(folder, folder.name).items()
    }


def _scenes_in(folder: Path, name: str) -> dict[str, Path]:
    """Scenes of a folder, name → folder of images: itself if it holds images, else each of its videos."""
    files, images = visible_files(folder), images_in(folder)
    videos = [file for file in files if Path(file).suffix.lower() in MOVING]
    if len(images) < SEQUENCE:  # a few images may be animations; the frames of a sequence are not looked into
        videos += [file for file in files if is_image(file) and frames_in(folder / file) > 1]
        images = [image for image in images if image not in videos]
    videos = [file for file in videos if not is_own_output(folder / file, OWN_VIDEO, {*MOVING, *ANIMATED})]
    if videos and len(images) >= SEQUENCE:
        raise InputError(f"{folder} holds both images and videos; put {videos[0]} into a folder of its own")
    if images and not videos:
        return {name: folder}
    videos.sort(key=natural_key)
    return {(Path(name) / file).as_posix(): extract_video(folder / file) for file in videos}


def _subfolders(folder: Path) -> list[Path]:
    """Folders that may hold a scene; not the extracted frames of a video that lies next to them."""
    names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    names = [name for name in names if name[0] != "." and name not in NOT_SCENES]
    names = [
        n for n in names if not (n.endswith(EXTRACTED) and (folder / n.removesuffix(EXTRACTED)).is_file())
    ]
    return [folder / name for name in sorted(names, key=natural_key)]


def _unread(root: Path, scenes: dict[str, Path]) -> list[Path]:
    """Folders of at least `SEQUENCE` images, up to two levels below the root, that belong to no scene."""
    below = [folder for child in _subfolders(root) for folder in (child, *_subfolders(child))]
    read = set(scenes.values())
    return [
        folder
        for folder in below
        if folder not in read and sum(map(is_image, visible_files(folder))) >= SEQUENCE and images_in(folder)
    ]


# ----------------------------------------------------------------------------- frames in order


def frame_names(folder: Path, patterns: Sequence[str] | None = None) -> list[str]:
    """The image names of a scene in time: as listed, or all of them in natural order.

    Raises:
        InputError: a listed image does not exist, or nothing is listed and the names differ in more than
            numbers.
    """
    names = images_in(folder)
    if (listed := listed_frames(folder, patterns)) is not None:
        return _matching(folder, *listed)
    kinds: dict[str, str] = {}
    for name in names:
        kinds.setdefault(re.sub(r"\d+", "#", Path(name).stem), name)
    if len(kinds) > 1:
        raise InputError(
            f"the images in {folder} are not named alike ({', '.join(list(kinds.values())[:3])}), so their "
            f"order in time is unclear; list the frames in {folder / FRAMES_FILE}, or give "
            '--dataset.files "first.png 0*.png"'
        )
    return names


def other_formats(folder: Path) -> int:
    """Number of images in a folder that are not read, since the same frame is there in another format."""
    images = [name for name in visible_files(folder) if is_image(name)]
    return len(images) - len(one_per_name(images))


def gaps_in_words(names: Sequence[str], runs: Sequence[range]) -> str:
    """The gaps between runs of frames (`image_files.frame_runs`), in words; "" if there is none."""
    if len(runs) < 2:
        return ""
    count = "1 gap" if len(runs) == 2 else f"{len(runs) - 1} gaps"
    where = f"{names[runs[1].start - 1]} and {names[runs[1].start]}"
    return f"the names of the frames have {count}, {'' if len(runs) == 2 else 'the first '}between {where}"


def listed_frames(folder: Path, patterns: Sequence[str] | None = None) -> tuple[Sequence[str], str] | None:
    """The patterns that list a scene's frames and where they stand; None if nothing lists them."""
    if patterns is not None:
        return patterns, f"--dataset.files, in {folder}"
    path = folder / FRAMES_FILE
    return (read_lines(path), str(path)) if path.is_file() else None


def _matching(folder: Path, patterns: Sequence[str], where: str) -> list[str]:
    """Names that match a pattern, in the order of the patterns, each once; of several formats the first."""
    frames: dict[str, None] = {}
    names = sorted(filter(is_image, visible_files(folder)), key=natural_key)
    names = [name for name in names if not is_own_output(folder / name)]
    for pattern in patterns:
        # A listed file is read also if another format of the same frame would be the first choice.
        try:
            listed = inside(folder, pattern)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        found = [pattern] if listed.is_file() else one_per_name(fnmatch.filter(names, pattern))
        if not found:
            raise InputError(f"{where}: no image matches '{pattern}'")
        frames.update(dict.fromkeys(found))
    if not frames:
        raise InputError(f"{where}: no frame is listed")
    return list(frames)


def all_frames(folder: Path, patterns: Sequence[str] | None = None) -> list[str]:
    """The frames that the numbers of `frame_index.txt` count: all of a scene.

    Those of `frames.txt`, unless tools/select_frames.py wrote it with the names that it kept.
    """
    if patterns is None and (folder / INDEX_ABOUT).is_file() and (folder / FRAMES_FILE).is_file():
        patterns = ["*"]
    return frame_names(folder, patterns)


def indexed_frames(folder: Path, frames: Sequence[str]) -> list[str]:
    """The frames of a scene that its `frame_index.txt` lists, one number from 0 on a line.

    Args:
        folder: the scene.
        frames: `all_frames` of it.

    Raises:
        InputError: there is no list, it counts other frames than the scene has now, or a line is not the
            number of a frame.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        raise InputError(
            f"there is no {path}; tools/select_frames.py writes it, or leave out --dataset.frame_index"
        )
    about = folder / INDEX_ABOUT
    made = read_yaml(read_text(about)) if about.is_file() else None
    counted = made.get("frames") if isinstance(made, dict) else None
    if counted not in (None, len(frames)):
        raise InputError(
            f"{path} counts {counted} frames and {folder} has {len(frames)} now; tools/select_frames.py "
            "--overwrite writes the list again"
        )
    kept = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.isdecimal() or int(line) >= len(frames):
            raise InputError(
                f"{path}, line {number}: '{line}' is not the number of a frame, 0 to {len(frames) - 1}; "
                "tools/select_frames.py --overwrite writes the list again"
            )
        kept.append(frames[int(line)])
    if not kept:
        raise InputError(f"{path} lists no frame")
    return kept


def common_size(folder: Path, frames: list[str]) -> tuple[int, int]:
    """(height, width) of all images of a scene, from their headers; one camera has one size.

    Raises:
        InputError: two images differ in size, or one cannot be read.
    """
    first = image_size(folder / frames[0])
    for name in frames[1:]:
        size = image_size(folder / name)
        if size != first:
            raise InputError(
                f"images of one scene must have one size, but {folder / frames[0]} is "
                f"{first[1]}x{first[0]} and {name} is {size[1]}x{size[0]}; make them equal, or give "
                "each size a folder of its own"
            )
    return first


# ----------------------------------------------------------------------------- parts


def listed_part(folder: Path, part: str, names: list[str], required: bool) -> list[str] | None:
    """The scenes that `<part>.txt` lists; None if there are no lists or the part is `all`.

    Raises:
        InputError: `required` and there are no lists, no list of this part, an unknown scene.
    """
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


def held_back(spans: list[range], part: str, fraction: float, reach: int) -> list[range]:
    """The frames of each scene that belong to a part: val has the last scenes, or the last frames of one.

    Args:
        spans: frames of each scene.
        part: train, or another for val.
        fraction: share of scenes or frames that val has; 0 gives every part all of them.
        reach: frames from the first to the last frame of a sample.

    Raises:
        InputError: a single scene is too short for a sample in both parts.
    """
    training = part == "train"
    if fraction == 0:
        return spans
    if len(spans) > 1:
        cut = max(1, len(spans) - max(1, round(fraction * len(spans))))
        return [span if (number < cut) == training else range(0) for number, span in enumerate(spans)]
    count, least = len(spans[0]), reach + 1
    held = max(round(fraction * count), least)
    if count < least:
        raise InputError(f"a target and its neighbours take {least} frames, got {count}")
    if count - held < least:
        raise InputError(
            f"{count} frames are too few to hold {held} of them back for validation; "
            "--dataset.val_fraction 0 trains on all"
        )
    return [range(count - held) if training else range(count - held, count)]
