"""Leak audit: does a training list overlap the evaluated frames?

    same frame      the evaluated image was trained on
    other camera    the other camera of the pair, at the same instant
    neighbour       another frame of the scene, at most k frames away
    same scene      any frame of the same drive, scene, city or folder

An evaluated frame counts under every heading that holds for it, except that a frame that was trained on does
not count as seen by the other camera. Published KITTI results have
leaked that way: a list of 71,634 lines in use since 2023 under the name of the 39,810 lines of Zhou et al.
holds 451 of the 697 test images of Eigen et al. The audit compares names (datasets/frame_names.py);
evaluation/near_duplicates.py compares images. Standard library only, so that the audit starts at once.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets.frame_lists import FrameList
from datasets.frame_names import ALL, Frame

NEIGHBOURS = 5  # frames on either side, half a second at KITTI's 10 Hz
NOT_RECORDED = "not recorded in this checkpoint; tools/audit_splits.py TRAIN TEST compares two lists"
LINE = "training data"  # the card's line
BLIND = "not audited"  # the card's line of what the audit cannot see


@dataclass
class Audit:
    """Overlap of two lists.

    Attributes:
        train, test: number of frames in the lists, repeated ones once.
        hash: hash of the training list, see `FrameList.hash`.
        within: largest distance of a neighbour, frames.
        same, other_camera, neighbours, same_scene: the evaluated frames that overlap, in the list's order.
        train_in_shared: training frames in scenes that are also evaluated.
        shared_scenes: scenes in both lists, sorted.
        test_scenes: number of evaluated scenes.
        unknown_scenes: frames of either list whose scene is unknown; only identical frames are found there.
    """

    train: int
    test: int
    hash: str
    within: int
    same: list[Frame] = field(default_factory=list)
    other_camera: list[Frame] = field(default_factory=list)
    neighbours: list[Frame] = field(default_factory=list)
    same_scene: list[Frame] = field(default_factory=list)
    train_in_shared: int = 0
    shared_scenes: list[str] = field(default_factory=list)
    test_scenes: int = 0
    unknown_scenes: int = 0

    @property
    def overlaps(self) -> bool:
        """True if any evaluated frame was found in the training list, or near one."""
        return bool(self.same or self.other_camera or self.neighbours or self.same_scene)

    def counts(self) -> dict[str, str]:
        """Heading -> count in words, for a report."""
        scenes = f"{len(self.shared_scenes):,} of {self.test_scenes:,} scenes"
        counts = {
            "same frame": f"{len(self.same):,} of {self.test:,} evaluated frames are training frames",
            "other camera": f"{len(self.other_camera):,} evaluated frames, at the same instant",
            "neighbours": f"{len(self.neighbours):,} evaluated frames have another training frame within "
            f"{self.within} frames",
            "same scene": f"{scenes} with {len(self.same_scene):,} evaluated and "
            f"{self.train_in_shared:,} training frames",
        }
        if not self.test_scenes:  # only tokens, so the two headings have no meaning
            counts["neighbours"] = counts["same scene"] = "unknown, since the evaluated frames name no scene"
        return counts

    def words(self) -> str:
        """One line for the protocol card: `no overlap (39,810 frames, hash 11741875e93e)`."""
        trained = f"({self.train:,} frames, hash {self.hash})"
        if not self.overlaps:
            return f"no overlap {trained}"
        found = [
            f"{len(self.same):,} of {self.test:,} evaluated frames trained on" if self.same else "",
            f"{len(self.other_camera):,} seen by the other camera" if self.other_camera else "",
            f"{len(self.neighbours):,} within {self.within} frames of one" if self.neighbours else "",
            f"{len(self.shared_scenes):,} of {self.test_scenes:,} scenes shared"
            if self.shared_scenes
            else "",
        ]
        return f"OVERLAP: {', '.join(filter(None, found))} {trained}"


def audit(train: FrameList, test: FrameList, within: int = NEIGHBOURS) -> Audit:
    """Compare a training list with the evaluated frames.

    Args:
        train: the training list.
        test: the evaluated frames.
        within: largest distance of a neighbour, frames.
    """
    trained, tested = dict.fromkeys(train.frames), dict.fromkeys(test.frames)
    index = _Index(trained)
    found = Audit(len(trained), len(tested), train.hash, within)
    for frame in tested:
        if index.holds(frame):
            found.same.append(frame)
        elif index.holds_other_camera(frame):
            found.other_camera.append(frame)
        if index.has_neighbour(frame, within):
            found.neighbours.append(frame)
        if frame.scene in index.scenes:
            found.same_scene.append(frame)
    scenes = {frame.scene for frame in tested if frame.scene}
    shared = scenes & index.scenes.keys()
    found.shared_scenes, found.test_scenes = sorted(shared), len(scenes)
    found.train_in_shared = sum(frame.scene in shared for frame in trained)
    found.unknown_scenes = sum(not frame.scene for frame in (*trained, *tested))
    return found


class _Index:
    """Training frames by scene, number and camera."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.scenes: dict[str, dict[int | str, set[str]]] = {}
        self.unique: set[int | str] = set()
        for frame in frames:
            if frame.unique:
                self.unique.add(frame.number)
            if frame.scene:
                self.scenes.setdefault(frame.scene, {}).setdefault(frame.number, set()).add(frame.camera)
        self.sorted = {
            scene: sorted(number for number in numbers if isinstance(number, int) and number != ALL)
            for scene, numbers in self.scenes.items()
        }

    def _cameras(self, frame: Frame) -> set[str]:
        """The cameras that a training frame of this instant was taken with."""
        numbers = self.scenes.get(frame.scene, {})
        return numbers.get(frame.number, set()) | numbers.get(ALL, set())

    def holds(self, frame: Frame) -> bool:
        if frame.unique and frame.number in self.unique:
            return True
        cameras = self._cameras(frame)
        # A line without a camera means all of them, on either side.
        return bool(cameras) and (not frame.camera or frame.camera in cameras or "" in cameras)

    def holds_other_camera(self, frame: Frame) -> bool:
        return bool(self._cameras(frame))

    def has_neighbour(self, frame: Frame, within: int) -> bool:
        """Whether another training frame of any camera is at most `within` frames away."""
        numbers, number = self.sorted.get(frame.scene, []), frame.number
        if not isinstance(number, int) or number == ALL:
            return False
        place = bisect.bisect_left(numbers, number - within)
        return any(
            other != number for other in numbers[place : bisect.bisect_right(numbers, number + within)]
        )


# ------------------------------------------------------------------------------------------ protocol card


def audit_records(
    records: Iterable[Mapping[str, Any]], test: FrameList, within: int = NEIGHBOURS
) -> list[tuple[str, Audit]]:
    """(dataset, audit) for each record that `datasets.frame_lists.training_list` left in a checkpoint."""
    return [
        (record["dataset"], audit(FrameList.unpack(record["lines"], record["dataset"]), test, within))
        for record in records
    ]


def card_lines(
    records: Iterable[Mapping[str, Any]] | None, test: FrameList, options: Mapping[str, Any]
) -> tuple[dict[str, str], bool]:
    """The card's lines about training data, and whether the evaluation leaks.

    Args:
        records: records of the checkpoint; None if it holds none, as published ones do.
        test: the evaluated frames.
        options: options of the training.
    """
    blind = {BLIND: ", ".join(names)} if (names := not_audited(options)) else {}
    if not records:
        return {LINE: NOT_RECORDED, **blind}, False
    found = audit_records(records, test)
    several = len(found) > 1
    words = [f"{name}: {one.words()}" if several else one.words() for name, one in found]
    return {LINE: "; ".join(words), **blind}, any(one.overlaps for _, one in found)


def not_audited(options: Mapping[str, Any]) -> list[str]:
    """Training data that no list of frames shows, in words."""
    section = options.get("dataset")
    section = section if isinstance(section, Mapping) else {}
    seen = []
    if options.get("weights_init") == "pretrained":
        seen.append("ImageNet (pretrained encoder)")
    if section.get("pseudo_depth") or options.get("pseudo_depth_files"):
        seen.append("the data of the pseudo-depth teacher")
    if section.get("labels") and section.get("name") not in ("cityscapes", "label_folder"):
        seen.append("the data of the segmentation network that made the labels")
    if options.get("load_weights_folder"):
        seen.append(f"the training of {str(options['load_weights_folder']).rstrip('/').rpartition('/')[2]}, "
                    "unless it left a list")  # fmt: skip
    return seen
