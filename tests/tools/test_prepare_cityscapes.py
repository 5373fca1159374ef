"""Preparing Cityscapes: as published where it is written as published, resumable, shared out, never mixed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import _cityscapes
from datasets.cityscapes import Cityscapes
from tools._cityscapes_frames import recordings
from tools.layouts._base import Plan as Drawn
from tools.make_synthetic import make
from tools.prepare_cityscapes import main
from utils import InputError

HEIGHT, WIDTH = 64, 128
SIZE = ["--width", str(WIDTH), "--height", str(HEIGHT), "--workers", "1"]


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    """Three recordings for training, one for testing, 7 frames each, 128 x 256."""
    root = tmp_path_factory.mktemp("prepare") / "city"
    make(Drawn("cityscapes", root, sequences=4, frames=7, height=128, width=256, seed=0, ext="png"))
    return root


@pytest.fixture
def copy(city, tmp_path) -> Path:
    """The same, to be broken."""
    return Path(shutil.copytree(city, tmp_path / "city"))


def prepare(city: Path, out: Path, *words: str) -> dict[str, bytes]:
    """Run the tool; every file below `out` by its path."""
    main(["--data_path", str(city), "--out", str(out), *SIZE, *words])
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def as_published(city: Path, name: str) -> np.ndarray:
    """The target and its neighbours two frames aside, each resized by Lanczos, cut, and stacked."""
    folder, number = name.rsplit("_", 1)
    frames = []
    for offset in (-2, 0, 2):
        path = city / f"leftImg8bit_sequence/train/aachen/{folder}_{int(number) + offset:06d}_leftImg8bit.png"
        small = Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        frames.append(np.array(small)[: int(0.75 * HEIGHT)])
    return np.concatenate(frames)


def test_triples_and_their_cameras_equal_the_published_ones(city, tmp_path):
    prepare(city, tmp_path / "out", "--layout", "triples")
    paths = sorted((tmp_path / "out/aachen").glob("*.png"))
    assert [path.stem for path in paths][:3] == [f"aachen_000000_{n:06d}" for n in (2, 3, 4)]
    assert len(paths) == 9
    for path in paths:
        assert np.array_equal(np.array(Image.open(path)), as_published(city, path.stem))
    camera = paths[0].with_name(f"{paths[0].stem}_cam.txt").read_text()
    fx, cx, fy, cy = 2262.52 / 16, 1096.98 / 16, 2265.3017905988554 / 16, 513.137 / 16
    assert camera == f"{fx:f},0.,{cx:f},0.,{fy:f},{cy:f},0.,0.,1."


def test_sequences_hold_each_frame_of_the_triples_once(city, tmp_path):
    prepare(city, tmp_path / "out", "--ext", "png")
    assert len(list((tmp_path / "out").glob("aachen/*/*.png"))) == 3 * 7
    middle = np.array(Image.open(tmp_path / "out/aachen/000001/000003.png"))
    assert np.array_equal(middle, np.split(as_published(city, "aachen_000001_000003"), 3)[1])


def test_frames_of_the_synthetic_lists_are_prepared(city, tmp_path):
    prepare(city, tmp_path / "prepared")
    for part in ("train", "val"):
        dataset = Cityscapes(
            tmp_path / "prepared", split=str(city / "splits"), part=part, height=64, width=96
        )
        assert dataset[len(dataset) - 1].images[0].shape == (1, 3, 64, 96)


def test_existing_files_are_kept_and_missing_ones_made_again(city, tmp_path, capsys):
    before = prepare(city, tmp_path / "out")
    assert "21 images were written now" in capsys.readouterr().out
    lost = [tmp_path / "out/aachen/000001/000004.jpg", tmp_path / "out/aachen/000002/cam.txt"]
    kept = tmp_path / "out/aachen/000000/000000.jpg"
    for path in lost:
        path.unlink()
    stamp = kept.stat().st_mtime_ns
    assert prepare(city, tmp_path / "out") == before
    assert "1 images were written now" in capsys.readouterr().out
    assert kept.stat().st_mtime_ns == stamp


def test_changed_source_is_prepared_again(copy, tmp_path, capsys):
    prepare(copy, tmp_path / "out")
    source = copy / "leftImg8bit_sequence/train/aachen/aachen_000001_000003_leftImg8bit.png"
    with Image.open(source) as image:
        size = image.size
    Image.new("RGB", size, (200, 0, 0)).save(source)
    camera = next((copy / "camera/train/aachen").glob("aachen_000002_*.json"))
    content = json.loads(camera.read_text())
    content["intrinsic"]["fx"] += 10
    camera.write_text(json.dumps(content))
    _cityscapes._read_camera_once.cache_clear()  # the tool is a new process
    before = (tmp_path / "out/aachen/000002/cam.txt").read_text()
    capsys.readouterr()
    prepare(copy, tmp_path / "out")
    assert "1 images were written now" in capsys.readouterr().out
    with Image.open(tmp_path / "out/aachen/000001/000003.jpg") as made:
        assert np.asarray(made)[..., 0].min() > 190
    assert (tmp_path / "out/aachen/000002/cam.txt").read_text() != before
    prepare(copy, tmp_path / "out")
    assert "0 images were written now" in capsys.readouterr().out


@pytest.mark.parametrize("layout, workers", [("sequences", "1"), ("triples", "2")])
def test_shards_and_processes_write_what_one_process_writes(city, tmp_path, layout, workers, monkeypatch):
    whole = prepare(city, tmp_path / "whole", "--layout", layout)
    prepare(city, tmp_path / "shards", "--layout", layout, "--shard", "1/2", "--workers", workers)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert prepare(city, tmp_path / "shards", "--layout", layout) == whole


def test_recordings_end_where_frames_are_missing(copy):
    folder = copy / "leftImg8bit_sequence/train/aachen"
    for number in (2, 3):
        (folder / f"aachen_000000_{number:06d}_leftImg8bit.png").unlink()
    (folder / "aachen_000001_000003_leftImg8bit.png").unlink()
    frames = [recording.frames for recording in recordings(copy, ["train"])]
    # Over a single missing frame its neighbours are still two apart.
    assert frames == [(0, 1), (4, 5, 6), (0, 1, 2, 4, 5, 6), (0, 1, 2, 3, 4, 5, 6)]


def test_a_triple_needs_all_three_frames(copy, tmp_path):
    (copy / "leftImg8bit_sequence/train/aachen/aachen_000001_000003_leftImg8bit.png").unlink()
    files = prepare(copy, tmp_path / "out", "--layout", "triples")
    names = [name for name in files if name.startswith("aachen/aachen_000001") and name.endswith(".png")]
    assert sorted(names) == ["aachen/aachen_000001_000002.png", "aachen/aachen_000001_000004.png"]


def cut_image(root):
    path = root / "leftImg8bit_sequence/train/aachen/aachen_000001_000003_leftImg8bit.png"
    path.write_bytes(path.read_bytes()[:2000])


def lose_cameras(root):
    shutil.rmtree(root / "camera")


def lose_sequences(root):
    shutil.rmtree(root / "leftImg8bit_sequence")


@pytest.mark.parametrize(
    "damage, words",
    [
        (cut_image, r"aachen_000001_000003_leftImg8bit\.png cannot be read as an image .*truncated"),
        (lose_cameras, "no camera file .*aachen_000000_.*unpack camera_trainvaltest.zip"),
        (lose_sequences, "no folder .*leftImg8bit_sequence/train; unpack leftImg8bit_sequence_trainvaltest"),
    ],
)
def test_broken_download_is_named_and_work_can_be_resumed(city, copy, tmp_path, damage, words):
    damage(copy)
    with pytest.raises(InputError, match=words):
        prepare(copy, tmp_path / "out")
    assert not list((tmp_path / "out").glob("**/*.part"))
    assert prepare(city, tmp_path / "out") == prepare(city, tmp_path / "fresh")


def test_an_output_that_cannot_be_written_is_named(city, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/out cannot be written: Not a directory"):
        prepare(city, tmp_path / "file/out")


def test_another_way_of_preparing_goes_to_another_folder(city, tmp_path):
    prepare(city, tmp_path / "out")
    with pytest.raises(
        InputError, match="was prepared with ext jpg; give the same settings, or another --out"
    ):
        prepare(city, tmp_path / "out", "--ext", "png")
    with pytest.raises(InputError, match="holds other folders already"):
        prepare(city, city)


@pytest.mark.parametrize(
    "words, answer",
    [
        (["--layout", "triples", "--ext", "jpg"], "published triples are png, got --ext jpg"),
        (["--top_rows", "1.5"], r"share of the rows from 0\.55 to 1, got 1\.5"),
        (["--width", "8"], "--width must be at least 32, got 8"),
        (["--stride", "0"], "--stride must be at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused_in_words(city, tmp_path, words, answer):
    with pytest.raises(InputError, match=answer):
        prepare(city, tmp_path / "out", *words)
