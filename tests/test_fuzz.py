"""Damaged files: every reader returns a value or says in one sentence what is wrong; nothing else is raised.

`make fuzz` runs some minutes of new inputs. The tests run a fixed, short part of them, the same each time.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

hypothesis = pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from cameras import read_calibration, read_camera  # noqa: E402
from checkpoints import load_checkpoint, save_checkpoint  # noqa: E402
from checkpoints._record import Checkpoint  # noqa: E402
from datasets._kitti import CalibrationFile  # noqa: E402
from datasets._labels import load_label_table, read_label_image  # noqa: E402
from datasets._oxts import read_oxts, read_timestamps  # noqa: E402
from datasets.frame_lists import read_frames  # noqa: E402
from datasets.image_files import image_size, read_image  # noqa: E402
from datasets.splits import read_split_file  # noqa: E402
from intrinsics import parse_intrinsics  # noqa: E402
from options import parse, read_config  # noqa: E402
from trajectories import read_path  # noqa: E402
from utils import InputError, read_text  # noqa: E402

LONG = bool(os.environ.get("PARALLAX_FUZZ"))
settings.register_profile(
    "parallax",
    max_examples=int(os.environ.get("PARALLAX_FUZZ") or 40),
    derandomize=not LONG,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
EXAMPLES = settings.get_profile("parallax")
IMAGES = {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".tif": "TIFF", ".bmp": "BMP"}
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(repr),
    st.sampled_from(["0", "-1", "1e400", "nan", "inf", "010", "0x10", "1_000", "٣", "1,5", "12:30:15"]),
)


@st.composite
def damaged(draw, data: bytes) -> bytes:
    """The data with some bytes changed, cut out or inserted."""
    content = bytearray(data)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["change", "cut", "insert", "end"]))
        if kind == "change" and content:
            content[start] = draw(st.integers(0, 255))
        elif kind == "cut":
            del content[start : start + draw(st.integers(1, 64))]
        elif kind == "insert":
            content[start:start] = draw(st.binary(min_size=1, max_size=16))
        else:
            del content[start:]
    return bytes(content)


def text_of(*words: str) -> st.SearchStrategy[bytes]:
    """Lines of the words of a format, numbers and anything else."""
    word = st.one_of(*([st.sampled_from(words)] if words else []), NUMBERS, st.text(max_size=8))
    line = st.lists(word, max_size=14).map(" ".join)
    lines = st.lists(line, max_size=6).map("\n".join)
    return lines.map(lambda text: text.encode("utf-8", "surrogatepass"))


def only_sentences(read: Callable[[], object]) -> None:
    """Call a reader; an `InputError` of one line is an answer as well."""
    try:
        read()
    except InputError as error:
        assert str(error).strip()


def image_bytes(kind: str, mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def put(folder, name: str, data: bytes):
    path = folder / name
    path.write_bytes(data)
    return path


@EXAMPLES
@given(data=st.data())
def test_damaged_images(folder, data):
    kind = data.draw(st.sampled_from(sorted(IMAGES)))
    mode = data.draw(st.sampled_from(["RGB", "L"]))
    content = data.draw(damaged(image_bytes(IMAGES[kind], mode)))
    path = put(folder, f"image{data.draw(st.sampled_from(sorted(IMAGES)))}", content)
    for read in (read_image, image_size, read_label_image):
        only_sentences(lambda read=read: read(path))


LIST_WORDS = (
    "include",
    "without",
    "2011_09_26/2011_09_26_drive_0001_sync",
    "l",
    "r",
    "lr",
    "0-9",
    "7,8",
    "#",
)


@EXAMPLES
@given(content=text_of(*LIST_WORDS, "list.txt", "aachen", "9-0", "0-999999999999"))
def test_damaged_split_lists(folder, content):
    path = put(folder, "list.txt", content)
    for read in (read_split_file, read_frames):
        only_sentences(lambda read=read: read(path))


CALIBRATION = b"S_rect_02: 96 64\nR_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: 50 0 48 0 0 50 32 0 0 0 1 0\n"
CAMERA = b"model: brown_conrady\nfx: 50\nfy: 50\ncx: 48\ncy: 32\nwidth: 96\nheight: 64\nk: [0.1, 0.01]\n"
OXTS = b"49.0 8.4 112.8 0.03 0.02 -1.2 " + b" ".join([b"0.5"] * 24)


@EXAMPLES
@given(data=st.data())
def test_damaged_calibration(folder, data):
    def content(valid: bytes, *words: str) -> bytes:
        return data.draw(st.one_of(damaged(valid), text_of(*words)))

    path = put(folder, "calib.txt", content(CALIBRATION, "P_rect_02:", "R:", "T:"))
    only_sentences(lambda: CalibrationFile(path).matrix("P_rect_02", 3, 4))
    camera = put(folder, "camera.yaml", content(CAMERA, "model:", "fx:", "double_sphere", "[", "]"))
    only_sentences(lambda: read_camera(camera))
    numbers = put(folder, "cam.txt", content(b"50 0 48\n0 50 32\n0 0 1\n", "fx"))
    only_sentences(lambda: parse_intrinsics(read_text(numbers), "cam.txt"))
    oxts = put(folder, "oxts.txt", content(OXTS))
    only_sentences(lambda: read_oxts(oxts))
    times = put(folder, "timestamps.txt", content(b"2011-09-26 13:02:25.964389445\n" * 3, "2011-09-26"))
    only_sentences(lambda: read_timestamps(times))
    poses = put(folder, "poses.txt", content(b"1 0 0 0 0 1 0 0 0 0 1 0\n" * 3))
    only_sentences(lambda: read_path(poses))


OTHER_PROGRAMS = {
    "cameras.txt": b"# header\n1 OPENCV 96 64 50 50 48 32 0.1 0.01 0 0\n",
    "transforms.json": b'{"w": 96, "h": 64, "fl_x": 50, "cx": 48, "frames": [{"fl_y": 50, "k1": 0.1}]}',
    "camchain.yaml": b"cam0:\n  camera_model: omni\n  intrinsics: [1.5, 50, 50, 48, 32]\n"
    b"  distortion_model: radtan\n  distortion_coeffs: [0.1, 0, 0, 0]\n  resolution: [96, 64]\n",
    "camera_info.yaml": b"image_width: 96\nimage_height: 64\ncamera_matrix:\n"
    b"  data: [50, 0, 48, 0, 50, 32, 0, 0, 1]\ndistortion_model: plumb_bob\n"
    b"distortion_coefficients:\n  data: [0.1, 0, 0, 0, 0]\n",
}


@EXAMPLES
@given(data=st.data())
def test_damaged_camera_files_of_other_programs(folder, data):
    for name, valid in OTHER_PROGRAMS.items():
        path = put(folder, name, data.draw(damaged(valid)))
        only_sentences(lambda path=path: read_calibration(path))


@pytest.fixture(scope="module")
def checkpoints(folder):
    """Bytes of small files: suffix → content."""
    weights = {
        "encoder.encoder.conv1.weight": torch.zeros(4, 3, 3, 3),
        "num_batches_tracked": torch.tensor(1),
    }
    save_checkpoint(folder / "own.pt", Checkpoint(weights, {"method": {"name": "monodepth2"}, "scales": [0]}))
    torch.save({"state_dict": weights, "epoch": 3}, folder / "other.pth")
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
    return [(name, (folder / name).read_bytes()) for name in ("own.pt", "other.pth", "old.pth")]


@EXAMPLES
@given(data=st.data())
def test_damaged_checkpoints(folder, checkpoints, data):
    name, valid = data.draw(st.sampled_from(checkpoints))
    path = put(folder, f"damaged_{name}", data.draw(damaged(valid)))
    only_sentences(lambda: load_checkpoint(path))


CONFIG_WORDS = (
    *("height:", "width:", "scales:", "method:", "dataset:", "losses:", "augment:", "views:", "companion:"),
    *(
        "{name: kitti}",
        "{",
        "}",
        "[",
        "]",
        "&a",
        "*a",
        "!!python/object:os.system",
        "monodepth2",
        "null",
        "~",
    ),
    *(
        "learning_rate:",
        "frame_ids:",
        "[0, -1, 1]",
        "seed:",
        "depth_network:",
        "smoothness:",
        "weight:",
        "1e-4",
    ),
    *(
        "true",
        "- ",
        "? ",
        "| ",
        "'",
        "resize:",
        "lanczos",
        "data_path:",
        "num_layers:",
        "split:",
        "{weight: ",
    ),
)


@EXAMPLES
@given(content=text_of(*CONFIG_WORDS), suffix=st.sampled_from([".yaml", ".json", ".txt"]))
def test_damaged_configs(folder, content, suffix):
    path = put(folder, f"config{suffix}", content)
    only_sentences(lambda: read_config(path))
    only_sentences(lambda: parse(["--config", str(path)]))


OPTION_VALUES = st.one_of(
    NUMBERS,
    st.text(max_size=6),
    st.none(),
    st.booleans(),
    st.lists(st.integers(-3, 3), max_size=3),
    st.dictionaries(st.sampled_from(["name", "weight", "1", ""]), st.integers(-2, 2), max_size=2),
)
OPTION_NAMES = (
    *(
        "height",
        "width",
        "scales",
        "frame_ids",
        "method",
        "dataset",
        "losses",
        "augment",
        "views",
        "companion",
    ),
    *("seed", "num_layers", "encoder", "decoder", "resize", "min_depth", "learning_rate", "depth_network"),
    *("label_files", "decay_epochs", "data_path", "split", "optimizer", "model_name", "num_scales"),
)


@EXAMPLES
@given(values=st.dictionaries(st.sampled_from(OPTION_NAMES), OPTION_VALUES, max_size=4))
def test_odd_values_of_options(folder, values):
    path = put(folder, "values.json", json.dumps(values).encode())
    only_sentences(lambda: parse(["--config", str(path)]))


TABLE = (
    b"classes:\n- {name: road, colour: 128 64 128, moves: false}\n- {name: car, colour: 0 0 9, moves: true}\n"
)
TABLE_WORDS = (
    "classes:",
    "ids:",
    "cityscapes",
    "7: road",
    "road",
    "{",
    "}",
    "- {name: a, colour: 1 2 3, moves: true}",
)


@EXAMPLES
@given(content=st.one_of(damaged(TABLE + b"ids: {7: road, 26: car}\n"), text_of(*TABLE_WORDS)))
def test_damaged_label_tables(folder, content):
    path = put(folder, "labels.yaml", content)
    only_sentences(lambda: load_label_table(path))
