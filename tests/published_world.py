"""Small drawn data under the names that docs/coming-from.md gives to data."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from datasets._cityscapes_labels import LABEL_IDS
from datasets.splits import load_split
from tests.datasets.test_testing_tree import draw
from tests.worlds import Worlds
from tools import prepare_cityscapes, sift_matches

EVALUATED = 2  # images of each published list that the drawn KITTI has


class World:
    """Data by name, each made when it is first used.

    Args:
        root: an empty folder.
        worlds: the synthetic worlds of the session.
        recordings: name → drawn data of the session that are copied.
    """

    def __init__(self, root: Path, worlds: Worlds, **recordings: Path) -> None:
        self.root, self.worlds, self.recordings = root, worlds, recordings

    def get(self, name: str) -> Path:
        """The folder or file of a name, such as KITTI."""
        place = self.root / name
        if not place.exists():
            getattr(self, name.lower())(place)
        return place

    def kitti(self, root: Path) -> None:
        shutil.copytree(self.recordings["KITTI"], root)
        drive = sorted(root.glob("2011_09_26/*_sync"))[0]
        for split in ("eigen", "eigen_benchmark"):
            for number, line in enumerate(load_split("kitti", split, "test")[:EVALUATED]):
                copy_frame(drive, number, root / line.folder, line.frame)
        tested = root / "depth_selection/test_depth_prediction_anonymous/image"
        tested.mkdir(parents=True)
        for number in range(EVALUATED):
            shutil.copy(drive / f"image_02/data/{number:010d}.png", tested)

    def kitti_odometry(self, root: Path) -> None:
        self.worlds.copy(root, "kitti_odom", sequences=11, frames=3)

    def kitti2015(self, root: Path) -> None:
        self.worlds.copy(root, "kitti2015", sequences=1, frames=3)

    def kitti_semantic(self, root: Path) -> None:
        ids = np.zeros(256, np.uint8)
        ids[: len(LABEL_IDS)] = LABEL_IDS
        drive = sorted(self.get("KITTI").glob("2011_09_26/*_sync"))[0]
        for folder in ("image_2", "semantic"):
            (root / "training" / folder).mkdir(parents=True)
        for number in range(EVALUATED):
            frame, name = f"{number:010d}.png", f"{number:06d}_10.png"
            shutil.copy(drive / "image_02/data" / frame, root / "training/image_2" / name)
            labels = np.asarray(Image.open(drive / "semantics/image_02" / frame))
            Image.fromarray(ids[labels]).save(root / "training/semantic" / name)

    def cityscapes(self, root: Path) -> None:
        self.worlds.copy(root, "cityscapes", sequences=3, frames=5, height=96, width=160)
        for tested in list(root.glob("*/test")):  # the recording that is held out validates as well
            shutil.copytree(tested, tested.with_name("val"))

    def cityscapes_small(self, root: Path) -> None:
        size = ["--width", "160", "--height", "96"]
        prepare_cityscapes.main(
            ["--data_path", str(self.get("CITYSCAPES")), "--out", str(root), "--workers", "1", *size]
        )
        for recording in root.glob("*/0*"):  # the published lists begin with the frames 2 and 9
            for number in range(5, 26):
                shutil.copy(recording / f"{number % 5:06d}.jpg", recording / f"{number:06d}.jpg")

    def ddad(self, root: Path) -> None:
        shutil.copytree(self.recordings["DDAD"], root)
        rig = ["--dataset", "ddad", "--data_path", str(root), "--set", "masks=true"]
        sift_matches.main([*rig, "--workers", "1", "--report", "0"])

    def nuscenes(self, root: Path) -> None:
        self.worlds.copy(root, "nuscenes", sequences=2, frames=4)
        rig = ["--dataset", "nuscenes", "--data_path", str(root)]
        sift_matches.main([*rig, "--workers", "1", "--report", "0"])

    def nyuv2(self, root: Path) -> None:
        self.worlds.copy(root, "nyuv2", sequences=4, frames=23)  # neighbours are ten frames apart

    def make3d(self, root: Path) -> None:
        self.worlds.copy(root, "make3d", sequences=1, frames=3)

    def scenes(self, root: Path) -> None:
        self.worlds.copy(root, "folder", sequences=2, frames=23)
        for scene in root.glob("training/scene_*"):
            shutil.copytree(scene / "depth", scene / "leres_depth")
            (scene / "frame_index.txt").write_text("".join(f"{frame}\n" for frame in range(23)))

    def omnicam(self, root: Path) -> None:
        self.worlds.copy(root.with_name("fisheye"), "folder", sequences=1, frames=6, camera="fisheye")
        (scene,) = root.with_name("fisheye").glob("training/scene_*")
        scene.rename(root)
        assert (root / "camera.yaml").is_file()

    def testing(self, root: Path) -> None:
        draw(root, "kitti", masks=True)

    def images(self, root: Path) -> None:
        root.mkdir()
        for path in sorted(self.recordings["IMAGES"].iterdir())[:3]:
            shutil.copy(path, root)
        shutil.copy(self.recordings["IMAGES"] / "cam.txt", root)

    def image(self, path: Path) -> None:
        shutil.copy(sorted(self.recordings["IMAGES"].glob("*.png"))[0], path)

    def depths(self, root: Path) -> None:
        """Depth maps as SC-Depth writes them, one for each image of TESTING."""
        root.mkdir()
        for number in range(2):
            np.save(root / f"{number:04d}.npy", np.full((24, 32), 3.0 + number, np.float32))

    def eigen_depths(self, root: Path) -> None:
        """Depth maps for `evaluate_depth_maps.py`, one for each image of `eigen` that is there."""
        root.mkdir()
        drawn = self.get("KITTI")
        lines = load_split("kitti", "eigen", "test")
        images = [drawn / line.folder / f"image_02/data/{line.frame:010d}.png" for line in lines]
        for number in range(sum(image.exists() for image in images)):
            depth = np.linspace(2, 40, 32 * 48, dtype=np.float32).reshape(32, 48)
            np.savez(root / f"{number:010d}_depth.npz", depth=depth, intrinsics=np.eye(3))


def copy_frame(drive: Path, number: int, to: Path, frame: int) -> None:
    """A frame of a drawn drive under another drive and number, with scan and ground truth."""
    for kind, ending in (
        ("image_02/data", "png"),
        ("image_03/data", "png"),
        ("velodyne_points/data", "bin"),
        ("proj_depth/groundtruth/image_02", "png"),
    ):
        place = to / kind / f"{frame:010d}.{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(drive / kind / f"{number:010d}.{ending}", place)
