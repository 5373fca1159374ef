"""The order of the examination, and its result in words."""

from __future__ import annotations

import argparse
import dataclasses
import textwrap
from collections import Counter
from collections.abc import Sequence

from datasets import SequenceDataset
from tools._doctor import files, ground_truth, intrinsics, motion, rig, warp
from tools._doctor.opening import loose_images, open_dataset
from tools._doctor.reading import Figure, Finding, read_samples, spread


def examine(given: argparse.Namespace) -> tuple[list[Finding], SequenceDataset | None, Figure | None]:
    """All findings, the dataset if it opens, and some of its images."""
    findings, dataset, guessed = open_dataset(given)
    if dataset is None:
        return findings, None, loose_images(given.data_path)
    decoded, broken, count = files.decode(dataset, given.all_files, given.workers)
    findings += files.check_files(decoded, broken, count, given.all_files)
    findings += files.check_sizes(dataset, decoded) + files.check_looks(decoded)
    most = given.samples or max(2, 12 // dataset.cameras)
    samples, unread = read_samples(dataset, spread(len(dataset), most), given.workers)
    if not samples:
        return findings + unread, dataset, None
    findings += ground_truth.read_ground_truth(dataset, samples, given.all_files)
    few = [samples[n] for n in spread(len(samples), 3)]
    apart = motion.gap_pairs(dataset, few, given.workers)
    gaps = motion.measure_gaps(apart)
    findings += files.check_borders(dataset, samples)
    if not guessed:
        findings += intrinsics.check_intrinsics(dataset, samples)
    findings += motion.check_motion(dataset, samples, gaps)
    findings += motion.check_gap(dataset, apart, gaps)
    findings += intrinsics.check_focal(dataset, samples, apart.get(3, []) + apart.get(5, []), guessed)
    findings += warp.check_warp(dataset, samples, images=3 if dataset.cameras == 1 else 1)
    findings += rig.check_stereo(dataset, samples)
    findings += rig.check_rig(dataset, samples) + rig.check_masks(dataset, samples)
    findings += ground_truth.check_ground_truth(dataset, samples)
    return findings, dataset, files.image_grid(dataset, samples)


def facts_of(dataset: SequenceDataset | None) -> str:
    """Number of samples, cameras, frames and network size, in a line."""
    if dataset is None:
        return "it could not be opened"
    cameras = f", {dataset.cameras} cameras" if dataset.cameras > 1 else ""
    frames = " ".join(str(frame) for frame in dataset.frame_ids)
    size = f"{dataset.width}x{dataset.height}"
    return f"{plural(len(dataset), 'sample')}{cameras}, frames {frames}, network {size}"


def verdict_of(findings: Sequence[Finding], trains: bool = True) -> str:
    """Whether the data can be used, in a sentence.

    Args:
        findings: all of them.
        trains: the samples have source frames; without them, the sentence is about evaluation.
    """
    use = "trained on" if trains else "evaluated on"
    count = Counter(finding.level for finding in findings)
    problems, warnings = (plural(count[level], level) for level in ("problem", "warning"))
    if count["problem"]:
        return f"cannot be {use} yet: {problems}" + (f", {warnings}" if count["warning"] else "")
    why = "" if trains else "; training needs frames in addition to 0"
    return f"can be {use}" + (f", with {warnings}" if count["warning"] else "") + why


def plural(count: int, word: str) -> str:
    """`2 problems`, `1 problem`."""
    return f"{count} {word}" + ("s" if count != 1 else "")


def as_text(findings: Sequence[Finding], width: int = 110) -> str:
    """One aligned line per finding, wrapped if it is long.

    Good findings of several cameras become one line; the page shows all of them.
    """
    if not findings:
        return ""
    told = []
    fine = [finding for finding in findings if finding.level == "good"]
    for topic in dict.fromkeys(finding.topic for finding in fine):
        good = [finding for finding in fine if finding.topic == topic]
        rest = f" (and {len(good) - 1} more)" if len(good) > 1 else ""
        told.append(dataclasses.replace(good[0], text=good[0].text + rest))
    findings = [finding for finding in findings if finding.level != "good"] + told
    column = max(len(finding.topic) for finding in findings)
    lines = []
    for finding in findings:
        start = f"  {finding.level:<8} {finding.topic:<{column}}  "
        wrapped = textwrap.wrap(
            finding.text, width - len(start), break_long_words=False, break_on_hyphens=False
        )
        lines += [start + wrapped[0], *(" " * len(start) + line for line in wrapped[1:])]
    return "\n".join(lines)
