"""Images in, depth out: what is written, how it hangs together, and what is refused."""

from __future__ import annotations

import functools
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import methods
from images import colourise
from layers import disparity_to_depth
from prediction import reading
from prediction.images import name_outputs
from predictor import as_images, find_images, load_predictor
from structures import Batch
from test_simple import main
from tests import goldens
from tests.plys import read_ply
from tests.tiny_models import save_published, save_run
from utils import PROJECT, InputError


@pytest.fixture(autouse=True)
def load_once(monkeypatch):
    """Reading a checkpoint is what takes the time here, and is tested where it belongs."""
    monkeypatch.setattr(methods, "load_method", load_method)


load_method = functools.cache(methods.load_method)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    return save_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def constant_run(tmp_path_factory) -> Path:
    """A network that answers disparity 0.25 wherever it looks."""
    return save_run(tmp_path_factory.mktemp("constant"), disparity=0.25)


def draw(path: Path, height: int = 50, width: int = 70) -> Path:
    """A smooth image that belongs to its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = goldens.image(path.stem, 1, height, width)[0].transpose(1, 2, 0)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(path)
    return path


def predict(*words: object) -> None:
    main([*map(str, words), "--device", "cpu"])


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_output_has_the_size_of_its_image(run, tmp_path, capsys):
    draw(tmp_path / "in/a.png", 50, 70)
    draw(tmp_path / "in/b.jpg", 130, 90)
    predict(
        "--image_path", tmp_path / "in", "--run", run, "--output", tmp_path / "out", "--save_npy", "--ply"
    )
    for stem, size in (("a", (50, 70)), ("b", (130, 90))):
        depth, disparity = (np.load(tmp_path / f"out/{stem}_{name}.npy") for name in ("depth", "disp"))
        assert depth.dtype == disparity.dtype == np.float32
        assert depth.shape == disparity.shape == size
        assert np.allclose(depth * disparity, 1)
        with Image.open(tmp_path / f"out/{stem}_disp.png") as coloured:
            assert np.array_equal(np.asarray(coloured), colourise(disparity))
    assert names(tmp_path / "out") == sorted(
        f"{stem}{ending}" for stem in "ab" for ending in ("_disp.png", "_depth.npy", "_disp.npy", ".ply")
    )
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"2 images: <name>_disp.png, <name>_depth.npy, <name>_disp.npy, <name>.ply in {tmp_path / 'out'}; "
        "depth is known up to scale (learned from video only)"
    )


def test_a_constant_disparity_is_a_flat_wall_at_its_depth(constant_run, tmp_path):
    path = draw(tmp_path / "a.png")
    predict("--image_path", path, "--run", constant_run, "--save_npy", "--ply", "--intrinsics", "80 80 30 20")
    expected = 1 / (1 / 100 + (1 / 0.1 - 1 / 100) * 0.25)
    assert np.allclose(np.load(tmp_path / "a_depth.npy"), expected, rtol=1e-5)
    header, points, colours = read_ply(tmp_path / "a.ply")
    assert "comment unit: up to scale" in header
    assert len(points) == 50 * 70
    assert np.allclose(points[:, 2], expected, rtol=1e-5)
    x, y = (np.rint(points[:, n] * 80 / points[:, 2] + c).astype(int) for n, c in ((0, 30), (1, 20)))
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image)[y, x], colours)


def test_stereo_pairs_make_metres_and_video_does_not(constant_run, tmp_path, capsys):
    stereo = save_run(tmp_path / "stereo", 0.25, frame_ids=[0, "s"], use_stereo=True)
    draw(tmp_path / "a.png")
    predict("--image_path", tmp_path / "a.png", "--run", constant_run, "--save_npy")
    relative = np.load(tmp_path / "a_depth.npy")
    predict("--image_path", tmp_path / "a.png", "--run", stereo, "--pred_metric_depth")
    assert np.allclose(np.load(tmp_path / "a_depth.npy"), 5.4 * relative)
    assert capsys.readouterr().out.endswith("depth is in metres\n")
    with pytest.raises(InputError, match="--pred_metric_depth needs a model with metric scale"):
        predict("--image_path", tmp_path / "a.png", "--run", constant_run, "--pred_metric_depth")


def test_a_published_folder_predicts_with_its_own_resizing(tmp_path):
    folder = save_published(tmp_path / "models/mono_640x192")
    draw(tmp_path / "a.png", 64, 96)
    predict("--image_path", tmp_path / "a.png", "--load_weights_folder", folder, "--save_npy")
    published = load_predictor(folder, "cpu")
    assert published.resize == "lanczos"
    image = (np.array(Image.open(tmp_path / "a.png")) / 255).astype(np.float32)
    batch = Batch({0: goldens.tensor(image.transpose(2, 0, 1)[None])}, None, torch.tensor([0]))
    disparity = published.method.predict(batch).disparities[0]
    expected = disparity_to_depth(disparity, 0.1, 100.0).detach().numpy()[0, 0]
    assert np.allclose(np.load(tmp_path / "a_depth.npy"), expected, rtol=1e-4)


def test_a_published_model_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_published(Path("models/mono_640x192"))
    draw(Path("a.png"))
    predict("--image_path", "a.png", "--model_name", "mono_640x192")
    assert Path("a_disp.png").is_file()
    with pytest.raises(InputError, match=r"no models/mono_640x19; did you mean 'mono_640x192'\?"):
        predict("--image_path", "a.png", "--model_name", "mono_640x19")


def test_a_second_run_does_not_predict_what_the_first_wrote(run, tmp_path):
    draw(tmp_path / "a.png")
    draw(tmp_path / "left_disp.png")  # ours only where there is a left.png
    for _ in range(2):
        predict("--image_path", tmp_path, "--run", run, "--ext", "jpg")
    assert names(tmp_path) == ["a.png", "a_disp.jpg", "left_disp.png", "left_disp_disp.jpg"]
    assert find_images(str(tmp_path / "a*")) == [tmp_path / "a.png"]
    with pytest.raises(InputError, match="there is no image at"):
        find_images(str(tmp_path / "a_*.jpg"))
    assert find_images(str(tmp_path / "a_disp.jpg")) == [tmp_path / "a_disp.jpg"]


def test_images_of_one_name_do_not_overwrite_each_other(run, tmp_path):
    for name in ("x/0.png", "y/0.png", "y/0.jpg"):
        draw(tmp_path / "in" / name)
    predict("--image_path", tmp_path / "in/*/*", "--run", run, "--output", tmp_path / "out")
    assert names(tmp_path / "out") == ["x/0_disp.png", "y/0.jpg_disp.png", "y/0.png_disp.png"]
    beside = name_outputs([Path("x/0.png"), Path("y/0.png")])
    assert beside == {Path("x/0.png"): Path("x/0"), Path("y/0.png"): Path("y/0")}


def test_a_frame_in_two_formats_is_predicted_once(tmp_path, capsys):
    for name in ("0.png", "0.jpg", "1.png"):
        draw(tmp_path / name)
    assert find_images(str(tmp_path)) == [tmp_path / "0.jpg", tmp_path / "1.png"]
    assert f"note: 1 images in {tmp_path} are left out" in capsys.readouterr().err
    assert find_images(str(tmp_path), "png") == [tmp_path / "0.png", tmp_path / "1.png"]


def test_every_output_lies_below_the_output_folder(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    images = [draw(tmp_path / name) for name in ("here/a.png", "there/b.png", "here/c.png", "here/c.jpg")]
    places = ["a.png", "../there/b.png", images[2], "../here/c.jpg"]
    predict("--image_path", *places, "--run", run, "--output", tmp_path / "out")
    found = ["here/a_disp.png", "here/c.jpg_disp.png", "here/c.png_disp.png", "there/b_disp.png"]
    assert names(tmp_path / "out") == found
    predict("--image_path", *places, "--run", run)
    assert f"in {tmp_path};" in capsys.readouterr().out
    predict("--image_path", "a.png", "c.png", "--run", run)
    assert "<name>_disp.png in .;" in capsys.readouterr().out


def test_a_tilde_that_the_shell_has_left_is_the_home_folder(run, tmp_path, monkeypatch):
    draw(tmp_path / "in/a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "in")
    predict("--image_path=~/in/a.png", "--run", run, "--output=~/out")
    assert names(tmp_path) == ["in/a.png", "out/a_disp.png"]


def test_the_batch_size_changes_nothing(run, tmp_path):
    for n in range(3):
        draw(tmp_path / f"in/{n}.png", 40 + n, 60)
    for size in (1, 3):
        predict("--image_path", tmp_path / "in", "--run", run, "--output", tmp_path / str(size), "--save_npy",
                "--batch_size", size)  # fmt: skip
    for n in range(3):
        one, three = (np.load(tmp_path / size / f"{n}_depth.npy") for size in "13")
        assert np.allclose(one, three, rtol=1e-4)


def test_a_damaged_image_is_named_and_the_others_are_done(run, tmp_path, capsys):
    draw(tmp_path / "a.png")
    draw(tmp_path / "c.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:400])
    with pytest.raises(SystemExit) as stopped:
        predict("--image_path", tmp_path, "--run", run, "--output", tmp_path / "out")
    assert stopped.value.code == 1
    assert names(tmp_path / "out") == ["a_disp.png", "c_disp.png"]
    said = capsys.readouterr()
    assert said.out.startswith("2 images: ")
    assert "1 of 3 images were left out" in said.err and "b.png cannot be read as an image" in said.err
    with pytest.raises(SystemExit):
        predict("--image_path", tmp_path / "b.png", "--run", run)
    assert not capsys.readouterr().out  # nothing was written, and nothing says so


def test_a_telephone_image_is_turned_upright(run, tmp_path):
    draw(tmp_path / "a.png", 50, 70)
    with Image.open(tmp_path / "a.png") as image:
        lying = image.getexif()
        lying[0x0112] = 6  # to be shown turned by a quarter
        image.save(tmp_path / "b.jpg", exif=lying)
    predict("--image_path", tmp_path / "b.jpg", "--run", run)
    with Image.open(tmp_path / "b_disp.png") as coloured:
        assert coloured.size == (50, 70)


def test_grey_of_16_bits_is_the_same_image_handed_over_or_turned(tmp_path):
    grey = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
    image = Image.fromarray(grey)
    lying = image.getexif()
    lying[0x0112] = 3  # to be shown upside down
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", exif=lying)
    (handed_over,) = as_images(image)
    assert np.array_equal(handed_over[0], grey >> 8)
    assert torch.equal(as_images(tmp_path / "a.png")[0], handed_over)
    assert torch.equal(as_images(tmp_path / "b.png")[0], handed_over.flip(1, 2))


def test_points_use_cam_txt_or_report_assumed_intrinsics(constant_run, tmp_path, capsys):
    draw(tmp_path / "a.png", 50, 70)
    arguments = ("--image_path", tmp_path / "a.png", "--run", constant_run, "--ply")
    predict(*arguments)
    assert "points assume a camera that sees 60 degrees along the longer side" in capsys.readouterr().out
    _, points, _ = read_ply(tmp_path / "a.ply")
    angle = np.degrees(np.arctan(np.ptp(points[:, 0]) * 70 / 69 / 2 / points[0, 2]))
    assert angle == pytest.approx(30, abs=1e-3)
    (tmp_path / "cam.txt").write_text("140 140 34.5 24.5\n", encoding="utf-8-sig")
    predict(*arguments)
    assert "assume" not in capsys.readouterr().out
    _, narrower, _ = read_ply(tmp_path / "a.ply")
    assert np.ptp(narrower[:, 0]) / np.ptp(points[:, 0]) == pytest.approx(60.62 / 140, rel=1e-3)
    (tmp_path / "cam.txt").write_text("140 140 134.5 24.5\n")
    with pytest.raises(SystemExit):
        predict(*arguments)
    assert "the principal point lies outside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--image_path", "*.gif", "--run", "RUN"], r"there is no image at \*\.gif"),
        (["--image_path", "a.png"], "no model was given: add one of --run, --load_weights_folder"),
        (["--image_path", "a.png", "--run", "RUN", "--model_name", "m"], "--run and --model_name name two"),
        (["--image_path", "a.png", "--run", "nowhere"], "there is no file or folder nowhere"),
        (["--image_path", "a.png", "--run", "RUN", "--ext", "xyz"], "cannot write 'xyz'; known endings"),
        (["--image_path", "a.png", "--run", "RUN", "--ply", "--intrinsics", "1 2 3"], r"expected 4 .* got 3"),
        (
            ["--image_path", "a.png", "--run", "RUN", "--intrinsics", "90 90 35 25"],
            "--intrinsics are for the points of --ply",
        ),
        (["--image_path", "a.png", "--run", "RUN", "--height", "100"], "must be a multiple of 32"),
        (["--image_path", "a.png", "--run", "RUN", "--batch_size", "0"], "--batch_size must be 1 or more"),
    ],
)
def test_contradictory_flags_are_refused(run, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png")
    with pytest.raises(InputError, match=sentence):
        predict(*(str(run) if word == "RUN" else word for word in words))
    assert names(tmp_path) == ["a.png"]


def test_guess_for_a_portrait_has_the_focal_length_of_its_lens(constant_run, tmp_path):
    for name, size in (("landscape", (48, 64)), ("portrait", (64, 48))):
        draw(tmp_path / f"{name}.png", *size)
        predict("--image_path", tmp_path / f"{name}.png", "--run", constant_run, "--ply")
    wide, high = (read_ply(tmp_path / f"{name}.ply")[1] for name in ("landscape", "portrait"))
    assert np.ptp(wide[:, 0]) == pytest.approx(np.ptp(high[:, 1]), rel=1e-4)


def test_points_use_the_intrinsics_of_the_training(tmp_path, capsys):
    dataset = {"name": "folder", "intrinsics": "140 140 34.5 24.5"}
    run = save_run(tmp_path / "run", disparity=0.25, dataset=dataset)
    draw(tmp_path / "a.png", 50, 70)
    predict("--image_path", tmp_path / "a.png", "--run", run, "--ply")
    assert "the points of 1 of the images use the intrinsics in the run's options" in capsys.readouterr().out
    _, points, _ = read_ply(tmp_path / "a.ply")
    assert np.ptp(points[:, 0]) / points[0, 2] == pytest.approx(69 / 140, rel=1e-4)
    draw(tmp_path / "b.png", 100, 300)  # another camera
    predict("--image_path", tmp_path / "b.png", "--run", run, "--ply")
    assert "have no intrinsics" in capsys.readouterr().out


@pytest.mark.parametrize("bits, factor", [(10, 64), (12, 16)])
def test_unscaled_values_in_16_bits_are_said(run, tmp_path, capsys, bits, factor):
    grey = np.linspace(0, 2**bits - 1, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    Image.fromarray(grey * factor).save(tmp_path / "b.png")
    predict("--image_path", tmp_path / "a.png", "--run", run)
    said = capsys.readouterr().err
    assert f"a.png holds {bits}-bit values in 16 bits" in said and f"multiply its values by {factor}" in said
    predict("--image_path", tmp_path / "b.png", "--run", run)
    assert "nearly black" not in capsys.readouterr().err


def test_dark_image_of_8_bits_is_not_said(run, tmp_path, capsys):
    Image.new("RGB", (64, 48), (9, 9, 9)).save(tmp_path / "a.png")
    predict("--image_path", tmp_path / "a.png", "--run", run)
    assert "nearly black" not in capsys.readouterr().err


def test_odd_files_do_not_end_the_folder(run, tmp_path, capsys):
    draw(tmp_path / "a.png")
    Image.new("P", (64, 48)).save(tmp_path / "gif.png", format="GIF")
    (tmp_path / "empty.jpg").write_bytes(b"")
    claim = bytearray((tmp_path / "a.png").read_bytes())
    claim[16:24] = struct.pack(">II", 100_000, 100_000)
    claim[29:33] = struct.pack(">I", zlib.crc32(claim[12:29]))
    (tmp_path / "huge.png").write_bytes(claim)
    with pytest.raises(SystemExit):
        predict("--image_path", tmp_path, "--run", run, "--output", tmp_path / "out")
    assert "a_disp.png" in names(tmp_path / "out")
    said = capsys.readouterr().err
    assert "huge.png" in said and "empty.jpg" in said


def test_decoder_that_raises_anything_is_one_sentence(tmp_path, monkeypatch):
    def decode(path):
        raise MemoryError

    monkeypatch.setattr(reading, "read_image", decode)
    assert "a.png cannot be read as an image (MemoryError)" in str(reading.read_or_reason(Path("a.png")))


def test_help_and_mistyped_flags_do_not_import_torch():
    for script in ("test_simple.py", "test_video.py"):
        for words in (["--help"], ["--no_such_flag"]):
            code = (
                f"import sys, runpy; sys.argv = [{script!r}, *{words!r}]\n"
                f"try: runpy.run_path({script!r}, run_name='__main__')\n"
                "except SystemExit: pass\n"
                "assert 'torch' not in sys.modules"
            )
            subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True)


def test_real_images_of_every_kind_go_through(shared_data, run, tmp_path):
    images = find_images(str(shared_data / "images"))
    predict("--image_path", shared_data / "images", "--run", run, "--output", tmp_path, "--ply")
    assert len(names(tmp_path)) == 2 * len(images) > 0
