"""Planted leaks are found with their counts; clean lists give no alarm; the card tells."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from checkpoints import Checkpoint, export_weights, load_checkpoint
from datasets.frame_lists import FrameList, read_frames
from datasets.frame_names import ALL, Frame
from evaluation.audit import LINE, audit, card_lines, not_audited
from evaluation.choice import NO_NAME, ProtocolChoice, withhold_name
from evaluation.near_duplicates import hash_images, image_files, near_duplicates
from metrics import Protocol
from tests import runs
from utils import PROJECT, InputError

SPLITS = PROJECT.parent / "shared" / "splits"
needs_splits = pytest.mark.skipif(not SPLITS.is_dir(), reason="needs the lists in ../shared/splits")


def frames(*triples: tuple[str, str, int | str]) -> FrameList:
    return FrameList([Frame(*triple) for triple in triples], "drawn")


TEST = frames(("a", "l", 10), ("a", "l", 20), ("b", "l", 5))


def test_each_kind_of_leak_is_counted_under_its_heading():
    train = frames(("a", "l", 10), ("a", "r", 20), ("b", "l", 8), ("c", "l", 5))
    found = audit(train, TEST, within=3)
    assert found.same == [Frame("a", "l", 10)]
    assert found.other_camera == [Frame("a", "l", 20)]
    assert found.neighbours == [Frame("b", "l", 5)]
    assert found.shared_scenes == ["a", "b"]
    assert (len(found.same_scene), found.train_in_shared, found.test_scenes) == (3, 3, 2)
    assert found.words().startswith("OVERLAP: 1 of 3 evaluated frames trained on, 1 seen by the other camera")


def test_neighbour_is_at_most_k_frames_away():
    train = frames(("b", "r", 9))
    assert audit(train, TEST, within=4).neighbours == [Frame("b", "l", 5)]
    assert not audit(train, TEST, within=3).neighbours
    assert audit(train, TEST, within=3).overlaps  # the scene is shared


def test_whole_scene_in_training_holds_all_its_frames():
    found = audit(frames(("a", "", ALL)), TEST)
    assert found.same == [Frame("a", "l", 10), Frame("a", "l", 20)]


def test_token_is_found_without_its_scene():
    token = "3e8750f331d7499e9b5123e9eb70f2e2"
    found = audit(frames(("", "", token)), frames(("scene-0103", "", token)))
    assert found.same and found.unknown_scenes == 1


def test_same_number_in_another_scene_does_not_overlap():
    found = audit(frames(("c", "l", 10), ("d", "l", 5)), TEST)
    assert not found.overlaps
    assert found.words().startswith("no overlap (2 frames, hash ")


@needs_splits
@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("kitti/eigen_zhou/train_files.txt", "kitti/eigen/test_files.txt"),
        ("kitti/eigen_zhou/val_files.txt", "kitti/eigen/test_files.txt"),
        ("kitti/eigen_zhou/train_files.txt", "kitti/eigen_benchmark/test_files.txt"),
        ("kitti/eigen_full/train_files.txt", "kitti/eigen/test_files.txt"),
        ("kitti/benchmark/train_files.txt", "kitti/benchmark/val_files.txt"),
        ("kitti/odom/train_files.txt", "kitti/odom/test_files_09.txt"),
        ("kitti/odom/train_files.txt", "kitti/odom/test_files_10.txt"),
        ("cityscapes/train_files.txt", "cityscapes/test_files.txt"),
        ("ddad/train.txt", "ddad/val.txt"),
        ("nuscenes/train.txt", "nuscenes/val.txt"),
        ("kitti/eigen_zhou/train_files.txt", "make3d/test_files.txt"),
        ("kitti/eigen_zhou/train_files.txt", "nyuv2/test_files.txt"),
    ],
)
def test_published_pairs_give_no_false_alarm(train, test):
    assert not audit(read_frames(SPLITS / train), read_frames(SPLITS / test)).overlaps


@needs_splits
def test_leaking_list_is_reported_with_exact_counts():
    train = read_frames(SPLITS / "kitti/benchmark/train_files.txt")
    found = audit(train, read_frames(SPLITS / "kitti/eigen/test_files.txt"))
    assert (len(found.same), found.test) == (451, 697)
    assert (len(found.shared_scenes), found.test_scenes) == (21, 28)
    assert found.train_in_shared == 2 * 14_708  # each frame by both cameras


@needs_splits
def test_72084_lines_take_less_than_two_seconds():
    spent = []
    for _ in range(2):  # other programs share the caches of the processor
        started = time.process_time()
        train = read_frames(SPLITS / "kitti/benchmark/train_files.txt")
        assert len(train) == 72_084
        audit(train, read_frames(SPLITS / "kitti/eigen/test_files.txt"))
        spent.append(time.process_time() - started)
    assert min(spent) < 2


@needs_splits
def test_odometry_training_leaks_into_the_eigen_test():
    found = audit(
        read_frames(SPLITS / "kitti/odom/train_files.txt"), read_frames(SPLITS / "kitti/eigen/test_files.txt")
    )
    assert "2011_10_03_drive_0027" in found.shared_scenes  # sequence 00


# ---------------------------------------------------------------------------------------- images


def draw(path: Path, seed: int, size: tuple[int, int] = (160, 96), **save) -> str:
    """A smooth random image, the same for one seed at every size."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise).resize((640, 384), Image.Resampling.BICUBIC).resize(size).save(path, **save)
    return str(path)


def test_resized_and_recompressed_copies_are_found(tmp_path):
    pytest.importorskip("imagehash")
    train = [draw(tmp_path / f"train/{n}.png", n) for n in range(6)]
    copies = [
        draw(tmp_path / "test/a.jpg", 2, (80, 48), quality=30),
        draw(tmp_path / "test/b.jpg", 4, (320, 192)),
    ]
    others = [draw(tmp_path / f"test/other_{n}.png", 100 + n) for n in range(6)]
    pairs = near_duplicates(hash_images(train), hash_images(copies + others))
    assert {(pair.train, pair.test) for pair in pairs} == {(train[2], copies[0]), (train[4], copies[1])}


def test_images_of_kitti_lists_are_found_below_the_root(tmp_path):
    drive = "2011_09_26/2011_09_26_drive_0002_sync"
    path = draw(tmp_path / drive / "image_03/data/0000000069.png", 0)
    (tmp_path / "list.txt").write_text(f"{drive} 69 r\n")
    assert image_files(read_frames(tmp_path / "list.txt"), tmp_path) == [path]
    (tmp_path / "list.txt").write_text(f"{drive} 70 r\n")
    with pytest.raises(InputError, match="no image of '2011_09_26_drive_0002 70 r'"):
        image_files(read_frames(tmp_path / "list.txt"), tmp_path)


# ------------------------------------------------------------------------------------ checkpoint and card


def record(train: FrameList) -> dict:
    return {"dataset": "kitti", "frames": len(train), "hash": train.hash, "lines": train.pack()}


def test_card_says_no_overlap_overlap_or_not_recorded():
    clean, leaking = frames(("c", "l", 1)), frames(("a", "l", 10))
    lines, leaks = card_lines([record(clean)], TEST, {})
    assert lines == {LINE: f"no overlap (1 frames, hash {clean.hash})"} and not leaks
    lines, leaks = card_lines([record(clean), record(leaking)], TEST, {})
    assert "kitti: OVERLAP: 1 of 3" in lines[LINE] and leaks
    lines, leaks = card_lines(None, TEST, {"weights_init": "pretrained"})
    assert lines[LINE].startswith("not recorded") and not leaks
    assert lines["not audited"] == "ImageNet (pretrained encoder)"


def test_card_names_what_no_list_shows():
    seen = not_audited(
        {"dataset": {"name": "folder", "pseudo_depth": True}, "load_weights_folder": "runs/first/"}
    )
    assert seen == ["the data of the pseudo-depth teacher", "the training of first, unless it left a list"]


def test_leaking_evaluation_loses_the_benchmarks_name():
    protocols = {"": Protocol("KITTI (Eigen)", "drawn")}
    assert withhold_name(protocols, ProtocolChoice(), "kitti")[""].name.startswith(NO_NAME)
    assert withhold_name(protocols, ProtocolChoice(allow_overlap=True), "kitti") == protocols
    assert withhold_name(protocols, ProtocolChoice(), "folder") == protocols


def test_release_keeps_the_training_list(tmp_path):
    lists = [record(TEST)]
    export_weights(
        tmp_path / "r.safetensors",
        Checkpoint({"depth.w": torch.ones(1)}, {}, training={"training_data": lists}),
    )
    assert load_checkpoint(tmp_path / "r.safetensors").training == {"training_data": lists}


def test_training_stores_its_list_and_that_of_its_first_weights(tiny_kitti, tiny_folder, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    trainer = runs.train(runs.arguments(tiny_kitti, first, max_steps=1, num_val=1))
    (kept,) = runs.last(first).training["training_data"]
    assert kept["frames"] == len(trainer.train_set)
    assert kept["hash"] == FrameList.of_dataset(trainer.train_set).hash
    words = runs.arguments(tiny_folder, second, max_steps=1, num_val=1, load_weights_folder=first / "run")
    runs.train(words)
    records = runs.last(second).training["training_data"]
    assert [record["dataset"] for record in records] == ["folder", "kitti"]
    assert records[1] == kept
    assert str(tmp_path) not in str(records)
