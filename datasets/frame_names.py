"""Names of frames: the frame of a line of any list, so that lists of different repositories can be compared.

A frame is (scene, camera, number). The same frame gets the same triple in every form:

    2011_09_26/2011_09_26_drive_0002_sync 69 l              Monodepth2
    2011_09_26_drive_0002_sync_02 0000000069                SfMLearner, SC-Depth
    2011_09_26/.../image_02/data/0000000069.png ...         PackNet, BTS, Eigen's test list
    2011_09_26 2011_09_26_drive_0002_sync 0000000069        SfMLearner's static frames
    9 12 l                                                  KITTI odometry, as a frame of the raw drive
    ulm ulm_000002_000025                                   ManyDepth; the scene of Cityscapes is the city
    000187 15616458249936530, or only the time stamp        DDAD
    scene-0103 3e8750f331d7499e9b5123e9eb70f2e2, or either  nuScenes; only a scene means all its frames
    kitchen/left_0012.jpg                                   any other images

The sequences of KITTI odometry are parts of raw drives (table in the benchmark's development kit): a model
trained on sequence 00 has seen test images of Eigen et al. Standard library only, so that an audit starts at
once.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple

ALL = -1  # the frame number of a line that names a whole scene
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".h5", ".npy")
# Sequence -> raw drive and the number of its first frame there, from KITTI's odometry development kit.
ODOMETRY = {
    0: ("2011_10_03_drive_0027", 0),
    1: ("2011_10_03_drive_0042", 0),
    2: ("2011_10_03_drive_0034", 0),
    3: ("2011_09_26_drive_0067", 0),
    4: ("2011_09_30_drive_0016", 0),
    5: ("2011_09_30_drive_0018", 0),
    6: ("2011_09_30_drive_0020", 0),
    7: ("2011_09_30_drive_0027", 0),
    8: ("2011_09_30_drive_0028", 1100),
    9: ("2011_09_30_drive_0033", 0),
    10: ("2011_09_30_drive_0034", 0),
}
SIDES = {"l": "l", "r": "r", "2": "l", "3": "r", "02": "l", "03": "r"}
MOST_OF_A_RUN = 1_000_000  # frames of `0-99`, hours of video; a digit too many must not fill the memory
SEQUENCE_STEP = 10**6  # Cityscapes: frame number = sequence x this + frame

_DRIVE = re.compile(r"(\d{4}_\d\d_\d\d_drive_\d{4})(?:_sync|_extract)?(?:_(0[23]))?")
_DATE = re.compile(r"\d{4}_\d\d_\d\d")
_CITY = re.compile(r"([a-z-]+)_(\d{6})_(\d{6})(?:_\w+)?")
_CITY_SEQUENCE = re.compile(r"([a-z-]+)_(\d{6})")
_UNIQUE = re.compile(r"[0-9a-f]{32}|\d{15,}")  # a token of nuScenes, a time stamp in microseconds
_NUSCENES_FILE = re.compile(r"(.+)__(CAM_\w+?)__(\d+)")
_CAMERA_FOLDER = re.compile(r"image_0?([23])")
_NUMBERED = re.compile(r"(.*?)(\d{1,14})")


class Frame(NamedTuple):
    """One image, or one frame set of a rig.

    Attributes:
        scene: drive, scene, city or folder; "" if a unique frame comes without its scene.
        camera: "l", "r", a camera's name, or "" if the line means the only one or all of them.
        number: consecutive number within the scene; a token, time stamp or file name; `ALL` for the scene.
    """

    scene: str
    camera: str
    number: int | str

    @property
    def unique(self) -> bool:
        """True for a token or a time stamp, which identifies the frame without its scene."""
        return isinstance(self.number, str) and _UNIQUE.fullmatch(self.number) is not None

    @property
    def key(self) -> str:
        """The same text for the same frame, whatever the form of its list."""
        return str(self.number) if self.unique else f"{self.scene} {self.camera} {self.number}"

    def __str__(self) -> str:
        number = "" if self.number == ALL else str(self.number)
        return " ".join(word for word in (self.scene, number, self.camera) if word)


def parse_frame(line: str) -> Frame:
    """The frame that a line of a list, or a dataset's name of a sample, means.

    Raises:
        ValueError: the line is empty.
    """
    line = line.strip()
    if line.lower().endswith(SUFFIXES) and "  " not in line and not _several_paths(line):
        return of_path(line)  # which may hold blanks
    words = line.replace(",", " ").split()
    if not words:
        raise ValueError("an empty line names no frame")
    if words[0].lower().endswith(SUFFIXES):
        return of_path(words[0])
    if len(words) == 1:
        return _of_word(words[0])
    if _DATE.fullmatch(words[0]) and _DRIVE.fullmatch(words[1]):
        words = words[1:]
    if match := _CITY.fullmatch(words[1] if len(words) > 1 else ""):
        return _of_city(match)
    if len(words) == 1:
        return _of_word(words[0])
    return of_parts(words[0], words[1], words[2] if len(words) > 2 else "")


def of_parts(folder: str, number: int | str, side: str | None = "") -> Frame:
    """The frame of a folder, a number and a side, the columns of Monodepth2's lists.

    Args:
        folder: with or without the date above it; a sequence number for odometry.
        number: number of the frame, a token or a time stamp.
        side: l, r, 2, 3; "" or None for none; any other word is ignored.
    """
    camera = SIDES.get(side or "", "")
    name = folder.rstrip("/").rpartition("/")[2]
    if isinstance(number, str):
        number = int(number) if number.isdecimal() and len(number) < 15 else number
    if match := _DRIVE.fullmatch(name):
        return Frame(match[1], camera or SIDES.get(match[2] or "", ""), number)
    if folder.isdecimal() and len(folder) <= 2 and isinstance(number, int):
        return _of_odometry(int(folder), camera, number)
    if isinstance(number, int) and (match := _CITY_SEQUENCE.fullmatch(folder)):
        return Frame(match[1], camera, int(match[2]) * SEQUENCE_STEP + number)
    return Frame(folder, camera, number)


def of_path(path: str) -> Frame:
    """The frame of an image file; only names count, nothing is read."""
    file = PurePosixPath(path.replace("\\", "/"))
    folders = file.parts[:-1]
    camera = next((SIDES[match[1]] for name in folders if (match := _CAMERA_FOLDER.fullmatch(name))), "")
    for name in reversed(folders):
        if match := _DRIVE.fullmatch(name):
            return of_parts(name, file.stem, camera)
    if "sequences" in folders[:-1]:
        sequence = folders[folders.index("sequences") + 1]
        if sequence.isdecimal() and file.stem.isdecimal():
            return of_parts(sequence, file.stem, camera)
    if match := _CITY.fullmatch(file.stem):
        return _of_city(match)
    if match := _NUSCENES_FILE.fullmatch(file.stem):
        return Frame(match[1], match[2], match[3])
    if len(folders) >= 3 and folders[-2] == "rgb":  # DDAD and other datasets in its format
        return Frame(folders[-3], folders[-1], file.stem)
    scene = "/".join(folders).replace("//", "/")
    if match := _NUMBERED.fullmatch(file.stem):
        return Frame(f"{scene}/{match[1]}".strip("/") if match[1] else scene, "", int(match[2]))
    return Frame(scene, "", file.stem)


def _several_paths(line: str) -> bool:
    """True for `image.png depth.png`."""
    return sum(word.lower().endswith(SUFFIXES) for word in line.split()) > 1


def _of_word(word: str) -> Frame:
    """The frame of a single word: a scene, a token or a time stamp."""
    if _UNIQUE.fullmatch(word):
        return Frame("", "", word)
    if match := _CITY.fullmatch(word):
        return _of_city(match)
    if word.endswith(".json"):  # scene_<hash>.json in the folder of a DGP scene
        return Frame(PurePosixPath(word).parent.name, "", ALL)
    return of_parts(word, ALL)


def _of_city(match: re.Match[str]) -> Frame:
    return Frame(match[1], "", int(match[2]) * SEQUENCE_STEP + int(match[3]))


def _of_odometry(sequence: int, camera: str, number: int) -> Frame:
    drive, first = ODOMETRY.get(sequence, (f"odometry {sequence:02d}", 0))
    return Frame(drive, camera, number if number == ALL else number + first)
