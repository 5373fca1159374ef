"""KITTI raw: drives through Karlsruhe, a rectified stereo pair and a LiDAR (Geiger et al. 2013).

    <root>/<date>/<drive>_sync/image_02/data/0000000005.jpg     left camera, image_03 the right; or .png
    <root>/<date>/<drive>_sync/velodyne_points/data/0000000005.bin
    <root>/<date>/<drive>_sync/proj_depth/groundtruth/image_02/0000000005.png     improved ground truth
    <root>/<date>/calib_cam_to_cam.txt, calib_velo_to_cam.txt

Depth is known where a LiDAR point lands: `velodyne` is one scan, as in the Eigen evaluation, `improved` is
KITTI's own accumulation of eleven scans checked against stereo (Uhrig et al. 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets import DATASETS
from datasets._ground_truth import Exportable, KnownDepth, check_ground_truth, read_scan, read_values
from datasets._kitti import CAMERAS, CalibrationFile, KittiImages, fixed_intrinsics
from datasets._sequence import resize_intrinsics
from datasets._splits import SplitLine, load_split
from metrics import Protocol
from structures import Frame
from utils import InputError

# What `ground_truth` may be, and how a protocol card words it.
GROUND_TRUTHS = {
    "velodyne": "one LiDAR scan, LiDAR's forward axis as depth (the published Eigen numbers)",
    "velodyne_camera": "one LiDAR scan, depth along the camera's optical axis",
    "velodyne_published": "one LiDAR scan, LiDAR's forward axis as depth, published duplicate handling",
    "improved": "KITTI depth annotations (improved ground truth)",
}
IMPROVED_SPLITS = ("eigen_benchmark", "benchmark")

# Where the images of the depth benchmark's test set, which belong to no drive, lie in KITTI's archive.
BENCHMARK_FOLDERS = ("depth_selection/test_depth_prediction_anonymous", ".")


@DATASETS.register
class Kitti(Exportable, KittiImages):
    """KITTI raw with the splits eigen_zhou, eigen_full, benchmark (training) and eigen, eigen_benchmark.

    Args:
        data_path: the folder that holds the dates.
        split: a name under `splits/kitti`, or a folder with lists of your own in the published form
            (`train_files.txt`, ... of lines `<date>/<drive>_sync <frame> <l or r>`).
        part: train, val or test.
        frame_ids: 0 and the sources: offsets in frames, "s" the other camera.
        height: network input height, pixels, a multiple of 32.
        width: network input width, pixels, a multiple of 32.
        resize: `bicubic`, `lanczos` or `bilinear`.
        skip_missing: leave out samples that lack an image.
        intrinsics: `calibration`, the rectified matrix of the drive's date, or `fixed`, the matrix that
            Monodepth2 uses for all of KITTI.
        baseline: distance of the stereo cameras. The published 0.1 makes learned depths metres / 5.4,
            0.54 makes them metres.
        ground_truth: `velodyne`, `velodyne_camera`, `velodyne_published`, `improved`, None for no depth,
            or `auto`: improved for the benchmark splits, velodyne for the others.
        gt_path: folder of exported ground truth; `<data_path>/gt_depths` where not given.
    """

    def __init__(
        self,
        data_path: str | Path,
        split: str = "eigen_zhou",
        part: str = "train",
        frame_ids: Sequence[Frame] = (0, -1, 1),
        height: int = 192,
        width: int = 640,
        resize: str = "bicubic",
        skip_missing: bool = False,
        intrinsics: str = "calibration",
        baseline: float = 0.1,
        ground_truth: str | None = "auto",
        gt_path: str | Path | None = None,
    ) -> None:
        if ground_truth == "auto":
            ground_truth = "improved" if str(split) in IMPROVED_SPLITS else "velodyne"
        check_ground_truth(ground_truth, GROUND_TRUTHS)
        self.ground_truth = ground_truth
        self._calibration: dict[str, CalibrationFile] = {}
        lines = load_split("kitti", str(split), part)
        super().__init__(
            data_path, lines, intrinsics, baseline, frame_ids, height, width, resize, skip_missing
        )
        self.find_exported(gt_path, split, part)
        if not self.fixed_intrinsics:
            self._check_calibration()

    @property
    def protocol(self) -> Protocol:
        """Eigen's rules for LiDAR scans; the improved ground truth counts whole, without crop or cap."""
        words = GROUND_TRUTHS.get(self.ground_truth, "none")
        if self.ground_truth == "improved":
            return Protocol("KITTI improved", words, max_depth=80.0, cap_ground_truth=False, crop="none")
        return Protocol("KITTI Eigen", words, max_depth=80.0, cap_ground_truth=True, crop="garg")

    def paths(self, line: SplitLine, frame: Frame) -> list[Path]:
        if line.side is None:
            return [self._benchmark_image(line, frame)]
        camera = CAMERAS[self.side_of(line, frame)]
        number = line.frame + (0 if frame == "s" else frame)
        return [self.image(f"{self.data_path}/{line.folder}/image_0{camera}/data", f"{number:010d}")]

    def intrinsics(self, line: SplitLine, camera: int, height: int, width: int) -> np.ndarray:
        """Of the rectified camera; they follow where the images on disk were made smaller."""
        if self.fixed_intrinsics:
            return fixed_intrinsics(height, width)
        if line.side is None:
            image = self._benchmark_image(line, 0)
            path = image.parent.parent / "intrinsics" / f"{image.stem}.txt"
            return _read_numbers(path, 9).reshape(3, 3)
        calibration = self._cam_to_cam(_date(line))
        P = calibration.matrix(f"P_rect_0{CAMERAS[line.side]}", 3, 4)
        native_width, native_height = calibration.matrix(f"S_rect_0{CAMERAS[line.side]}", 2).astype(int)
        return resize_intrinsics(P[:, :3], (native_height, native_width), (height, width))

    def known_depth(self, index: int) -> KnownDepth | np.ndarray | None:
        line = self.lines[index]
        if self.ground_truth is None or line.side is None:
            return None
        if self.ground_truth == "improved":
            return self._improved_depth(line)
        scan = self.data_path / line.folder / "velodyne_points" / "data" / f"{line.frame:010d}.bin"
        if not scan.is_file():
            return None
        P_image_from_velodyne, size = self._velodyne_projection(line)
        landed = velodyne_pixels(
            read_velodyne(scan),
            P_image_from_velodyne,
            *size,
            forward="camera" if self.ground_truth == "velodyne_camera" else "velodyne",
            published_duplicates=self.ground_truth == "velodyne_published",
        )
        return KnownDepth.of_pixels(*size, [landed])

    def _improved_depth(self, line: SplitLine) -> np.ndarray | None:
        """From the png merged into the raw tree, or from KITTI's own archive beside the dates."""
        drive = Path(line.folder).name
        for folder in (line.folder, f"train/{drive}", f"val/{drive}"):
            ground_truth = self.data_path / folder / "proj_depth" / "groundtruth"
            path = ground_truth / f"image_0{CAMERAS[line.side]}" / f"{line.frame:010d}.png"
            if path.is_file():
                return read_depth_png(path)[None]
        return None

    def _velodyne_projection(self, line: SplitLine) -> tuple[np.ndarray, tuple[int, int]]:
        """(3, 4) pixels from LiDAR points, and the map's (height, width): always that of camera 2."""
        cameras = self._cam_to_cam(_date(line))
        velodyne = CalibrationFile(self.data_path / _date(line) / "calib_velo_to_cam.txt")
        camera_from_velodyne, rectified_from_camera = np.eye(4), np.eye(4)
        camera_from_velodyne[:3, :3] = velodyne.matrix("R", 3, 3)
        camera_from_velodyne[:3, 3] = velodyne.matrix("T", 3)
        rectified_from_camera[:3, :3] = cameras.matrix("R_rect_00", 3, 3)
        P_image_from_rectified = cameras.matrix(f"P_rect_0{CAMERAS[line.side]}", 3, 4)
        width, height = cameras.matrix("S_rect_02", 2).astype(int).tolist()
        return P_image_from_rectified @ rectified_from_camera @ camera_from_velodyne, (height, width)

    def _cam_to_cam(self, date: str) -> CalibrationFile:
        if date not in self._calibration:
            path = self.data_path / date / "calib_cam_to_cam.txt"
            self._calibration[date] = CalibrationFile(
                path, "; intrinsics=fixed trains without, with the matrix Monodepth2 uses for all drives"
            )
        return self._calibration[date]

    def _check_calibration(self) -> None:
        """Read one sample's intrinsics for each date and side now, not at step 30,000."""
        for line in {(_date(line), line.side): line for line in self.lines if line.side}.values():
            self.intrinsics(line, 0, self.height, self.width)

    def _benchmark_image(self, line: SplitLine, frame: Frame) -> Path:
        if frame != 0:
            raise InputError(f"{line.source}: the benchmark's test images are single; frame_ids must be 0")
        folders = [f"{self.data_path}/{folder}/{line.folder}" for folder in BENCHMARK_FOLDERS]
        images = [self.image(folder, f"{line.frame:010d}") for folder in folders]
        return next((path for path in images if path.is_file()), images[0])


def read_velodyne(path: str | Path) -> np.ndarray:
    """A scan as (N, 4) float32: x forward, y left, z up in metres, and reflectance.

    Raises:
        InputError: the size is no multiple of a point's 16 bytes.
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
    """Where a LiDAR scan lands in an image; where several points meet in a pixel the nearest counts.

    Args:
        points: (N, 3 or more) x forward, y left, z up, metres.
        P_image_from_velodyne: (3, 4), homogeneous pixels from LiDAR points.
        height, width: of the map, pixels.
        forward: what depth is: `camera`, along the optical axis, or `velodyne`, the LiDAR's x, with which
            the published Eigen ground truth was written.
        published_duplicates: find points that share a pixel as the published code does, with an index that
            takes the last pixel of a row and the first of the next for one. Also keeps what it does with
            points behind the camera.

    Returns:
        Rows, columns and float64 metres, (K,) each, in the order in which to write them into a map: of those
        that share a pixel the last is the one that counts.
    """
    if forward not in ("camera", "velodyne"):
        raise InputError(f"forward is 'camera' or 'velodyne', got '{forward}'")
    xyz = np.ascontiguousarray(points[np.flatnonzero(points[:, 0] >= 0), :3].T, np.float64)
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
    farthest_first = np.argsort(-depth, kind="stable")
    return v[farthest_first], u[farthest_first], depth[farthest_first]


def _written_as_published(
    u: np.ndarray, v: np.ndarray, depth: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Later points overwrite; then the first point of each shared index gets the smallest of its depths."""
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


def _date(line: SplitLine) -> str:
    return line.folder.split("/")[0]


def _read_numbers(path: Path, count: int) -> np.ndarray:
    try:
        numbers = np.array([float(word) for word in path.read_text().split()])
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; intrinsics=fixed does without") from None
    except ValueError as error:
        raise InputError(f"{path}: expected {count} numbers ({error})") from None
    if numbers.size != count:
        raise InputError(f"{path}: expected {count} numbers, got {numbers.size}")
    return numbers
