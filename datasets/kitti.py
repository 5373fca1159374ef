"""KITTI raw: drives through Karlsruhe, a rectified stereo pair and a LiDAR (Geiger et al. 2013).

    <root>/<date>/<drive>_sync/image_02/data/0000000005.jpg     left camera, image_03 the right; or .png
    <root>/<date>/<drive>_sync/velodyne_points/data/0000000005.bin
    <root>/<date>/<drive>_sync/proj_depth/groundtruth/image_02/0000000005.png     improved ground truth
    <root>/<date>/calib_cam_to_cam.txt, calib_velo_to_cam.txt

Depth is known at the pixels of LiDAR points: `velodyne` is one scan, as in the Eigen evaluation, `improved`
is KITTI's own accumulation of eleven scans checked against stereo (Uhrig et al. 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets import DATASETS
from datasets._kitti import CAMERAS, CalibrationFile, KittiImages, fixed_intrinsics
from datasets._oxts import OxtsDrive
from datasets._speed import check_speeds
from datasets.ground_truth import DEPTH, Exportable, SparseDepth, check_ground_truth, read_scan, read_values
from datasets.resizing import resize_intrinsics
from datasets.splits import SplitLine, load_split
from metrics import Protocol
from provenance import content
from structures import Frame
from utils import InputError

# Values of `ground_truth`, and their words on the protocol card.
GROUND_TRUTHS = {
    "velodyne": "one LiDAR scan, LiDAR's forward axis as depth (the published Eigen numbers)",
    "velodyne_camera": "one LiDAR scan, depth along the camera's optical axis",
    "velodyne_published": "one LiDAR scan, LiDAR's forward axis as depth, published duplicate handling",
    "improved": "KITTI depth annotations (improved ground truth)",
}
SPEEDS_LOOKED_AT = 8  # records of each drive, when it is opened
IMPROVED_SPLITS = ("eigen_benchmark", "benchmark")

BENCHMARK_LIST = "image"  # folder name that the list of the depth benchmark's test set gives to its images
# Folders of KITTI's archive with these images, which belong to no drive.
BENCHMARK_FOLDERS = ("depth_selection/test_depth_prediction_anonymous", ".")


@DATASETS.register
class Kitti(Exportable, KittiImages):
    """KITTI raw with the splits eigen_zhou, eigen_full, benchmark (training) and eigen, eigen_benchmark.

    Args:
        data_path: the folder that holds the dates.
        split: a name under `splits/kitti`, or a folder with lists of your own in the published form
            (`train_files.txt`, ... of lines `<date>/<drive>_sync <frame> <l or r>`) or SGDepth's
            (`train.json`, `validation.json`).
        part: train, val or test.
        ground_truth: `velodyne`, `velodyne_camera`, `velodyne_published`, `improved`, None for no depth,
            or `auto`: improved for the benchmark splits, velodyne for the others.
        speed: mean speed between frames for the losses, from the inertial unit (oxts): `velocity`, measured
            over ground, or `positions`, the distance of the positions over the time; None reads none.
    """

    for_losses: ClassVar[tuple[str, ...]] = (*KittiImages.for_losses, "speed")
    input_kinds: ClassVar[tuple[str, ...]] = tuple(GROUND_TRUTHS)
    provides: ClassVar[Mapping[str, str]] = {
        **DEPTH,
        **dict.fromkeys(("speed", "time_step"), "--dataset.speed velocity reads it from oxts"),
    }

    def __init__(
        self,
        data_path: str | Path,
        split: str = "eigen_zhou",
        part: str = "train",
        ground_truth: str | None = "auto",
        speed: str | None = None,
        **settings: Any,
    ) -> None:
        if ground_truth == "auto":
            ground_truth = "improved" if str(split) in IMPROVED_SPLITS else "velodyne"
        self.ground_truth = check_ground_truth(ground_truth, GROUND_TRUTHS)
        self._calibration: dict[str, CalibrationFile] = {}
        self._projections: dict[tuple[str, str], tuple[np.ndarray, tuple[int, int]]] = {}
        self._drives: dict[str, OxtsDrive] = {}
        self.speed = speed
        self.samples = load_split("kitti", str(split), part)
        for sample in self.samples:
            if sample.side is None and sample.folder != BENCHMARK_LIST:
                raise InputError(
                    f"{sample.source}: the camera is missing; expected '<drive> <frame> <l or r>', "
                    f"got '{sample.folder} {sample.frame}'"
                )
        super().__init__(data_path, **settings)
        self.find_exported(split, part)
        if not self.fixed_intrinsics:
            self._check_calibration()
        if speed is not None:
            self._check_speed()

    @property
    def protocol(self) -> Protocol:
        """Eigen's rules for LiDAR scans; the improved ground truth is used whole, without crop or cap."""
        words = GROUND_TRUTHS.get(self.ground_truth, "none")
        if self.ground_truth == "improved":
            return Protocol("KITTI improved", words, max_depth=80.0, cap_ground_truth=False, crop="none")
        return Protocol("KITTI Eigen", words, max_depth=80.0, cap_ground_truth=True, crop="garg")

    def paths(self, sample: SplitLine, frame: Frame) -> list[Path]:
        if sample.side is None:
            return [self._benchmark_image(sample, frame)]
        camera = CAMERAS[self.side_of(sample, frame)]
        number = sample.frame + (0 if frame == "s" else frame)
        return [self.image(f"{self.data_path}/{sample.folder}/image_0{camera}/data", f"{number:010d}")]

    def intrinsics(self, sample: SplitLine, camera: int, height: int, width: int) -> np.ndarray:
        """Intrinsics of the rectified camera, scaled if the images on disk were made smaller."""
        if self.fixed_intrinsics:
            return fixed_intrinsics(height, width)
        if sample.side is None:
            image = self._benchmark_image(sample, 0)
            path = image.parent.parent / "intrinsics" / f"{image.stem}.txt"
            return _read_numbers(path, 9).reshape(3, 3)
        calibration = self._cam_to_cam(_date(sample))
        P = calibration.matrix(f"P_rect_0{CAMERAS[sample.side]}", 3, 4)
        native_width, native_height = calibration.matrix(f"S_rect_0{CAMERAS[sample.side]}", 2).astype(int)
        return resize_intrinsics(P[:, :3], (native_height, native_width), (height, width))

    def motion(self, sample: SplitLine, frame: Frame) -> tuple[float, float] | None:
        """Mean speed and time step from the drive's oxts, with the setting `speed`."""
        if self.speed is None:
            return None
        drive, source = self._drive(sample.folder), sample.frame + frame
        return drive.speed(sample.frame, source), drive.time_step(sample.frame, source)

    def read_raw_depth(self, index: int, kind: str | None = None) -> SparseDepth | np.ndarray | None:
        return self._read_depth(self.samples[index], kind or self.ground_truth)

    def read_input_depth(self, index: int) -> SparseDepth | np.ndarray | None:
        """Depth of the kind that `input_depth` names, such as LiDAR scans with the improved ground truth."""
        if self.input_depth in (True, self.ground_truth):
            return self.measured(index)
        return self.cached_depth(self.input_depth, index)

    def _read_depth(self, sample: SplitLine, kind: str | None) -> SparseDepth | np.ndarray | None:
        if kind is None or sample.side is None:
            return None
        if kind == "improved":
            return self._improved_depth(sample)
        scan = self.data_path / sample.folder / "velodyne_points" / "data" / f"{sample.frame:010d}.bin"
        if not scan.is_file():
            return None
        P_image_from_velodyne, size = self._velodyne_projection(sample)
        landed = velodyne_pixels(
            read_velodyne(scan),
            P_image_from_velodyne,
            *size,
            forward="camera" if kind == "velodyne_camera" else "velodyne",
            published_duplicates=kind == "velodyne_published",
        )
        return SparseDepth.of_pixels(*size, [landed], nearest=kind != "velodyne_published")

    def raw_content(self, index: int, kind: str | None = None) -> str:
        sample, kind = self.samples[index], kind or self.ground_truth
        if kind is None or sample.side is None:
            return ""
        if kind == "improved":
            path = self._improved_file(sample)
            return content([path]) if path else ""
        scan = self.data_path / sample.folder / "velodyne_points" / "data" / f"{sample.frame:010d}.bin"
        return content([scan], *self._velodyne_projection(sample)) if scan.is_file() else ""

    def _improved_depth(self, sample: SplitLine) -> np.ndarray | None:
        path = self._improved_file(sample)
        return read_depth_png(path)[None] if path else None

    def _improved_file(self, sample: SplitLine) -> Path | None:
        """The png merged into the raw tree, or in KITTI's own archive next to the dates."""
        drive = Path(sample.folder).name
        for folder in (sample.folder, f"train/{drive}", f"val/{drive}"):
            ground_truth = self.data_path / folder / "proj_depth" / "groundtruth"
            path = ground_truth / f"image_0{CAMERAS[sample.side]}" / f"{sample.frame:010d}.png"
            if path.is_file():
                return path
        return None

    def _velodyne_projection(self, sample: SplitLine) -> tuple[np.ndarray, tuple[int, int]]:
        """(3, 4) pixels from LiDAR points, and the map's (height, width): always that of camera 2."""
        key = _date(sample), sample.side
        if key not in self._projections:
            self._projections[key] = self._read_projection(*key)
        return self._projections[key]

    def _read_projection(self, date: str, side: str) -> tuple[np.ndarray, tuple[int, int]]:
        cameras = self._cam_to_cam(date)
        velodyne = CalibrationFile(self.data_path / date / "calib_velo_to_cam.txt")
        camera_from_velodyne, rectified_from_camera = np.eye(4), np.eye(4)
        camera_from_velodyne[:3, :3] = velodyne.matrix("R", 3, 3)
        camera_from_velodyne[:3, 3] = velodyne.matrix("T", 3)
        rectified_from_camera[:3, :3] = cameras.matrix("R_rect_00", 3, 3)
        P_image_from_rectified = cameras.matrix(f"P_rect_0{CAMERAS[side]}", 3, 4)
        width, height = cameras.matrix("S_rect_02", 2).astype(int).tolist()
        return P_image_from_rectified @ rectified_from_camera @ camera_from_velodyne, (height, width)

    def _cam_to_cam(self, date: str) -> CalibrationFile:
        if date not in self._calibration:
            path = self.data_path / date / "calib_cam_to_cam.txt"
            self._calibration[date] = CalibrationFile(
                path,
                "; --dataset.intrinsics fixed needs none: it is the matrix Monodepth2 uses for all drives",
            )
        return self._calibration[date]

    def _drive(self, folder: str) -> OxtsDrive:
        if folder not in self._drives:
            self._drives[folder] = OxtsDrive(self.data_path / folder, self.speed)
        return self._drives[folder]

    def _check_speed(self) -> None:
        """Look at the oxts of every drive now, so that missing files are found at the start."""
        frames: dict[str, set[int]] = {}
        for sample in self.samples:
            around = {sample.frame + frame for frame in self.frame_ids if frame != "s"}
            frames.setdefault(sample.folder, set()).update(around)
        speeds = []
        for folder, needed in frames.items():
            drive, needed = self._drive(folder), sorted(needed)
            drive.check_covers(needed)
            spread = needed[:: max(1, len(needed) // SPEEDS_LOOKED_AT)]
            speeds += [drive.record(frame).speed for frame in spread]
        check_speeds(np.array(speeds), f"{self.data_path}, oxts")

    def _check_calibration(self) -> None:
        """Read one sample's intrinsics for each date and side now, not at step 30,000."""
        first = {(_date(sample), sample.side): sample for sample in self.samples if sample.side}
        for sample in first.values():
            self.intrinsics(sample, 0, self.height, self.width)

    def _benchmark_image(self, sample: SplitLine, frame: Frame) -> Path:
        if frame != 0:
            raise InputError(f"{sample.source}: the benchmark's test images are single; frame_ids must be 0")
        folders = [f"{self.data_path}/{folder}/{sample.folder}" for folder in BENCHMARK_FOLDERS]
        images = [self.image(folder, f"{sample.frame:010d}") for folder in folders]
        return next((path for path in images if path.is_file()), images[0])


def read_velodyne(path: str | Path) -> np.ndarray:
    """A scan as (N, 4) float32: x forward, y left, z up in metres, and reflectance.

    Raises:
        InputError: the size is not a multiple of a point's 16 bytes.
    """
    return read_scan(path, 4)


def velodyne_pixels(
    points: np.ndarray,
    P_image_from_velodyne: np.ndarray,
    height: int,
    width: int,
    forward: str = "camera",
    published_duplicates: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of a LiDAR scan in an image; of several points in a pixel the nearest is to be kept.

    Args:
        points: (N, 4) x forward, y left, z up, metres; the rest is not read.
        P_image_from_velodyne: (3, 4), homogeneous pixels from LiDAR points.
        height, width: size of the map, pixels.
        forward: axis of depth: `camera`, the optical axis, or `velodyne`, the LiDAR's x, which the published
            Eigen ground truth uses.
        published_duplicates: find points that share a pixel as the published code does: its index is equal
            for the last pixel of a row and the first of the next. Points behind the camera are kept as well.

    Returns:
        Rows, columns and float64 metres, (K,) each. With `published_duplicates`, write them into a map in
        this order, which keeps the last point of a pixel.
    """
    if forward not in ("camera", "velodyne"):
        raise InputError(f"forward is 'camera' or 'velodyne', got '{forward}'")
    points = points.take(np.flatnonzero(points[:, 0] >= 0), 0)
    if not published_duplicates:
        roughly = _roughly_inside(points, P_image_from_velodyne, height, width)
        points = points.take(np.flatnonzero(roughly), 0)
    xyz = points[:, :3].T.astype(np.float64, order="C")
    image = P_image_from_velodyne[:, :3] @ xyz + P_image_from_velodyne[:, 3:]
    depth = image[2] if forward == "camera" else xyz[0]
    # KITTI's tools are MATLAB and count pixels from 1, hence the -1; all published numbers have it.
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = np.round(image[0] / image[2]) - 1, np.round(image[1] / image[2]) - 1
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    if not published_duplicates:
        inside &= image[2] > 0
    inside = np.flatnonzero(inside)
    u, v, depth = u[inside].astype(int), v[inside].astype(int), depth[inside]
    if published_duplicates:
        return _written_as_published(u, v, depth, width)
    return v, u, depth


def _roughly_inside(
    points: np.ndarray, P_image_from_velodyne: np.ndarray, height: int, width: int
) -> np.ndarray:
    """(N,) bool: points in front of the camera and at most two pixels outside of the image.

    In float32, which takes a third of the time; the exact test looks at the points that are left.
    """
    P = P_image_from_velodyne.astype(np.float32)
    x, y, z = P[:, :3] @ points[:, :3].T.astype(np.float32, copy=False) + P[:, 3:]
    return (z > 0) & (x > -2 * z) & (x < (width + 3) * z) & (y > -2 * z) & (y < (height + 3) * z)


def _written_as_published(
    u: np.ndarray, v: np.ndarray, depth: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write as the published code: later points overwrite; then shared indices get their smallest depth."""
    if not len(depth):
        return v, u, depth
    index = v * (width - 1) + u - 1
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-2))  # of the groups that share an index
    shared = np.diff(starts, append=len(order)) > 1
    first = order[starts[shared]]
    depth = np.concatenate([depth, np.minimum.reduceat(depth[order], starts)[shared]])
    return np.concatenate([v, v[first]]), np.concatenate([u, u[first]]), np.maximum(depth, 0)


def read_depth_png(path: str | Path) -> np.ndarray:
    """KITTI's 16-bit depth images as (h, w) float32 metres: value / 256, 0 where unknown.

    Raises:
        InputError: not readable, or not 16 bit.
    """
    return read_values(path, "depth").astype(np.float32) / 256


def _date(sample: SplitLine) -> str:
    return sample.folder.split("/")[0]


def _read_numbers(path: Path, count: int) -> np.ndarray:
    try:
        numbers = np.array([float(word) for word in path.read_text().split()])
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; --dataset.intrinsics fixed needs none") from None
    except ValueError as error:
        raise InputError(f"{path}: expected {count} numbers ({error})") from None
    if numbers.size != count:
        raise InputError(f"{path}: expected {count} numbers, got {numbers.size}")
    return numbers
