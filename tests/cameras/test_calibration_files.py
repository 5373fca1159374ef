"""Camera files of COLMAP, nerfstudio, Kalibr and ROS: known pixels of known points, and refusals."""

import json
import math

import pytest
import torch
from PIL import Image

from cameras import (
    BrownConrady,
    DoubleSphere,
    KannalaBrandt,
    Pinhole,
    RaySurface,
    Unified,
    find_calibration,
    fitting_camera,
    read_calibration,
)
from datasets.folder import Folder
from notices import collect_notices
from prediction.images import find_intrinsics
from utils import InputError

POINT = 0.2, -0.1, 1.0
KALIBR = """
{name}:
  camera_model: {model}
  intrinsics: {intrinsics}
  distortion_model: {distortion}
  distortion_coeffs: {coefficients}
  resolution: [96, 64]
  rostopic: /{name}/image_raw
"""
ROS = """
image_width: 96
image_height: 64
camera_name: head
camera_matrix: {{rows: 3, cols: 3, data: [50., 0., 47.5, 0., 40., 31.5, 0., 0., 1.]}}
distortion_model: {model}
distortion_coefficients: {{rows: 1, cols: {count}, data: {coefficients}}}
rectification_matrix: {{rows: 3, cols: 3, data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]}}
"""


def pixel(camera) -> list[float]:
    """x and y of POINT."""
    pixels, seen = camera.project(torch.tensor(POINT).reshape(1, 3, 1))
    assert seen.all()
    return pixels.flatten().tolist()


def radial(*k: float) -> float:
    """The factor of Brown-Conrady at POINT, whose squared radius is 0.05."""
    return 1 + sum(value * 0.05**power for power, value in enumerate(k, 1))


def fisheye(*k: float) -> float:
    """The factor of Kannala-Brandt at POINT: theta's polynomial over the radius."""
    radius = math.sqrt(0.05)
    theta = math.atan(radius)
    return theta * (1 + sum(value * theta ** (2 * power) for power, value in enumerate(k, 1))) / radius


def write(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


def colmap(folder, *rows: str):
    header = (
        "# Camera list with one line of data per camera:\n#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
    )
    return write(folder, "cameras.txt", header + "".join(f"{row}\n" for row in rows))


def nerfstudio(folder, **keys):
    content = {"w": 96, "h": 64, "fl_x": 50, "fl_y": 40, "cx": 48, "cy": 32, **keys}
    content = {key: value for key, value in content.items() if value is not None}
    return write(folder, "transforms.json", json.dumps(content))


def kalibr(model="pinhole", lens="", distortion="none", coefficients="[]", name="cam0"):
    values = {"intrinsics": f"[{lens}50, 40, 47.5, 31.5]", "model": model, "distortion": distortion}
    return KALIBR.format(name=name, coefficients=coefficients, **values)


def ros(folder, model="plumb_bob", coefficients="[0, 0, 0, 0, 0]"):
    text = ROS.format(model=model, coefficients=coefficients, count=coefficients.count(",") + 1)
    return write(folder, "camera_info.yaml", text)


@pytest.mark.parametrize(
    "row, kind, factor",
    [
        ("SIMPLE_PINHOLE 96 64 50 48 32", Pinhole, 1),
        ("SIMPLE_RADIAL 96 64 50 48 32 0.3", BrownConrady, radial(0.3)),
        ("RADIAL 96 64 50 48 32 0.3 -0.2", BrownConrady, radial(0.3, -0.2)),
        ("OPENCV 96 64 50 50 48 32 0.3 -0.2 0 0", BrownConrady, radial(0.3, -0.2)),
        ("FULL_OPENCV 96 64 50 50 48 32 0.3 -0.2 0 0 0.1 0 0 0", BrownConrady, radial(0.3, -0.2, 0.1)),
        ("SIMPLE_RADIAL_FISHEYE 96 64 50 48 32 0.3", KannalaBrandt, fisheye(0.3)),
        ("RADIAL_FISHEYE 96 64 50 48 32 0.3 -0.2", KannalaBrandt, fisheye(0.3, -0.2)),
        ("OPENCV_FISHEYE 96 64 50 50 48 32 0.3 -0.2 0.1 0", KannalaBrandt, fisheye(0.3, -0.2, 0.1)),
        ("OPENCV_FISHEYE 96 64 50 50 48 32 0 0 0 0", KannalaBrandt, fisheye()),
    ],
)
def test_colmap_models(row, kind, factor, tmp_path):
    camera, size = read_calibration(colmap(tmp_path, f"1 {row}"))
    assert type(camera) is kind and size == (64, 96)
    # (48, 32) of COLMAP is the middle of 96x64 pixels, which is (47.5, 31.5) here.
    assert pixel(camera) == pytest.approx([47.5 + 50 * 0.2 * factor, 31.5 - 50 * 0.1 * factor], abs=1e-4)


def test_colmap_focal_lengths_and_tangential_distortion(tmp_path):
    assert pixel(read_calibration(colmap(tmp_path, "1 PINHOLE 96 64 50 40 48 32"))[0]) == pytest.approx(
        [57.5, 27.5]
    )
    camera, _ = read_calibration(colmap(tmp_path, "1 OPENCV 96 64 50 40 48 32 0 0 0.01 0.02"))
    x = 0.2 + 2 * 0.01 * 0.2 * -0.1 + 0.02 * (0.05 + 2 * 0.04)
    y = -0.1 + 0.01 * (0.05 + 2 * 0.01) + 2 * 0.02 * 0.2 * -0.1
    assert pixel(camera) == pytest.approx([47.5 + 50 * x, 31.5 + 40 * y], abs=1e-4)


def test_equal_colmap_cameras_are_one(tmp_path):
    row = "SIMPLE_PINHOLE 96 64 50 48 32"
    assert isinstance(read_calibration(colmap(tmp_path, f"1 {row}", f"2 {row}"))[0], Pinhole)
    path = colmap(tmp_path, f"1 {row}", "2 SIMPLE_PINHOLE 96 64 51 48 32")
    with pytest.raises(InputError, match=r"cameras.txt holds 2 cameras that differ; run COLMAP with"):
        read_calibration(path)


@pytest.mark.parametrize(
    "keys, kind, factor",
    [
        ({}, Pinhole, 1),
        ({"k1": 0.3, "k2": -0.2, "p1": 0, "p2": 0}, BrownConrady, radial(0.3, -0.2)),
        ({"camera_model": "OPENCV", "k1": 0.3, "k3": 0.1}, BrownConrady, radial(0.3, 0, 0.1)),
        ({"camera_model": "OPENCV_FISHEYE", "k1": 0.3, "k4": 0.5}, KannalaBrandt, fisheye(0.3, 0, 0, 0.5)),
    ],
)
def test_nerfstudio_models(keys, kind, factor, tmp_path):
    camera, size = read_calibration(nerfstudio(tmp_path, **keys))
    assert type(camera) is kind and size == (64, 96)
    assert pixel(camera) == pytest.approx([47.5 + 50 * 0.2 * factor, 31.5 - 40 * 0.1 * factor], abs=1e-4)


def test_nerfstudio_angle_gives_the_focal_length(tmp_path):
    bare = {"fl_x": None, "fl_y": None, "cx": None, "cy": None, "camera_angle_x": math.pi / 2}
    camera, _ = read_calibration(nerfstudio(tmp_path, **bare))
    assert pixel(camera) == pytest.approx([47.5 + 48 * 0.2, 31.5 - 48 * 0.1], abs=1e-4)


def test_nerfstudio_intrinsics_of_frames_are_read_if_they_agree(tmp_path):
    frames = [{"fl_x": 50.0, "file_path": "a.png"}, {"fl_x": 50.0, "file_path": "b.png"}]
    assert pixel(read_calibration(nerfstudio(tmp_path, fl_x=None, frames=frames))[0])[0] == pytest.approx(
        57.5
    )
    frames[1]["fl_x"] = 60.0
    with pytest.raises(InputError, match="its frames have 2 values of fl_x"):
        read_calibration(nerfstudio(tmp_path, fl_x=None, frames=frames))


@pytest.mark.parametrize(
    "model, lens, distortion, coefficients, kind, factor",
    [
        ("pinhole", "", "none", "[]", Pinhole, 1),
        ("pinhole", "", "radtan", "[0.3, -0.2, 0, 0]", BrownConrady, radial(0.3, -0.2)),
        ("pinhole", "", "equidistant", "[0.3, -0.2, 0, 0]", KannalaBrandt, fisheye(0.3, -0.2)),
        ("omni", "0.9, ", "none", "[]", Unified, 1 / (1 + 0.9 * math.sqrt(1.05))),
        ("ds", "0, 0.5, ", "none", "[]", DoubleSphere, 1 / (0.5 * math.sqrt(1.05) + 0.5)),
    ],
)
def test_kalibr_models(model, lens, distortion, coefficients, kind, factor, tmp_path):
    text = kalibr(model, lens, distortion, coefficients)
    camera, size = read_calibration(write(tmp_path, "camchain.yaml", text))
    assert type(camera) is kind and size == (64, 96)
    assert pixel(camera) == pytest.approx([47.5 + 50 * 0.2 * factor, 31.5 - 40 * 0.1 * factor], abs=1e-4)


def test_kalibr_omni_with_distortion_becomes_a_ray_surface(tmp_path):
    text = kalibr("omni", "0.9, ", "radtan", "[-0.1, 0.02, 0.001, 0]")
    camera, _ = read_calibration(write(tmp_path, "camchain.yaml", text))
    assert isinstance(camera, RaySurface) and camera.size == (64, 96)
    # The point on the unified model's plane, bent by radtan, is the pixel.
    m = torch.tensor(POINT[:2]) / (1 + 0.9 * math.sqrt(1.05))
    r2 = float(m.square().sum())
    bent = m * (1 - 0.1 * r2 + 0.02 * r2 * r2)
    bent += 0.001 * torch.stack([2 * m[0] * m[1], r2 + 2 * m[1] ** 2])
    expected = [47.5 + 50 * float(bent[0]), 31.5 + 40 * float(bent[1])]
    assert pixel(camera) == pytest.approx(expected, abs=0.02)


def test_kalibr_camera_has_the_name_of_the_images_folder(tmp_path):
    chain = kalibr() + kalibr("omni", "0.9, ", name="cam1")
    path = write(tmp_path, "street-camchain.yaml", chain)
    with collect_notices() as said:
        assert isinstance(read_calibration(path, tmp_path / "cam1" / "data")[0], Unified)
        assert not said
        assert isinstance(read_calibration(path, tmp_path / "left")[0], Pinhole)
    assert "holds cam0, cam1; cam0 is used" in said[0]


@pytest.mark.parametrize(
    "model, coefficients, kind, factor",
    [
        ("plumb_bob", "[0, 0, 0, 0, 0]", Pinhole, 1),
        ("plumb_bob", "[0.3, -0.2, 0, 0, 0.1]", BrownConrady, radial(0.3, -0.2, 0.1)),
        (
            "rational_polynomial",
            "[0.3, -0.2, 0, 0, 0.1, 0.2, 0, 0]",
            BrownConrady,
            radial(0.3, -0.2, 0.1) / radial(0.2),
        ),
        ("fisheye", "[0.3, -0.2, 0, 0]", KannalaBrandt, fisheye(0.3, -0.2)),
        ("equidistant", "[0.3, -0.2, 0, 0]", KannalaBrandt, fisheye(0.3, -0.2)),
    ],
)
def test_ros_models(model, coefficients, kind, factor, tmp_path):
    camera, size = read_calibration(ros(tmp_path, model, coefficients))
    assert type(camera) is kind and size == (64, 96)
    assert pixel(camera) == pytest.approx([47.5 + 50 * 0.2 * factor, 31.5 - 40 * 0.1 * factor], abs=1e-4)


def test_printed_ros_message_is_read(tmp_path):
    text = "height: 64\nwidth: 96\ndistortion_model: plumb_bob\nd: [0.3, 0, 0, 0, 0]\n"
    text += "k: [50, 0, 47.5, 0, 40, 31.5, 0, 0, 1]\n"
    camera, _ = read_calibration(write(tmp_path, "camera_info.yaml", text))
    assert pixel(camera)[0] == pytest.approx(47.5 + 50 * 0.2 * radial(0.3), abs=1e-4)


@pytest.mark.parametrize(
    "name, text, sentence",
    [
        (
            "cameras.txt",
            "1 OPENVC 96 64 1 1 1 1",
            "COLMAP's model 'OPENVC' is not read; did you mean 'OPENCV'",
        ),
        ("cameras.txt", "1 PINHOLE 96 64 50 40 48", "PINHOLE takes 6 finite numbers"),
        ("cameras.txt", "1 PINHOLE 96.5 64 50 40 48 32", "whole numbers of pixels, got 96.5x64"),
        ("cameras.txt", "# nothing", "a row is a camera's number, MODEL WIDTH HEIGHT"),
        ("cameras.txt", "1 PINHOLE 96 64 0 40 48 32", "focal lengths must be positive, got 0 and 40"),
        ("transforms.json", "{", "is not JSON"),
        ("transforms.json", '{"w": 9, "h": 9}', "the key 'fl_x' is missing"),
        ("transforms.json", '{"fl_x": 9}', "the key 'w' is missing"),
        (
            "transforms.json",
            '{"camera_model": "EQUIRECTANGULAR"}',
            "camera_model 'EQUIRECTANGULAR' is not read",
        ),
        ("transforms.json", '{"w": 9, "h": 9, "fl_x": 9, "k4": 1}', "k4 is of a fisheye"),
        ("camchain.yaml", "cam0: {camera_model: pinhole}", "the key 'intrinsics' of cam0 is missing"),
        ("camchain.yaml", "cam0: {camera_model: eucm, intrinsics: []}", "camera_model 'eucm' is not read"),
        (
            "camchain.yaml",
            "cam0: {camera_model: pinhole, intrinsics: [5, 5, 5, 5], distortion_model: fov}",
            "distortion_model 'fov' is not read",
        ),
        (
            "camchain.yaml",
            KALIBR.format(
                name="cam0",
                model="ds",
                intrinsics="[0, 0.5, 50, 50, 48, 32]",
                distortion="radtan",
                coefficients="[1, 0, 0, 0]",
            ),
            "a camera 'ds' with the distortion 'radtan' is not read",
        ),
        ("camera_info.yaml", "camera_matrix: [1]", "the key 'image_width' is missing"),
        (
            "camera_info.yaml",
            ROS.format(model="plumb_bob", count=3, coefficients="[1, 2, 3]"),
            "4 or 5 or 8 coefficients, got 3",
        ),
        ("camera_info.yaml", "answer: 42", "is none of the camera files that are read"),
    ],
)
def test_invalid_file_of_another_program_is_refused(name, text, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        read_calibration(write(tmp_path, name, text))


def test_another_resolution_is_refused_with_the_numbers_to_type(tmp_path):
    path = colmap(tmp_path, "1 PINHOLE 192 128 100 80 96 64")
    with pytest.raises(
        InputError, match=r"is for images of 192x128 and these are 96x64; .*'50 40 47.5 31.5'"
    ):
        fitting_camera(path, 64, 96)
    path = colmap(tmp_path, "1 SIMPLE_RADIAL 192 128 100 96 64 0.3")
    lines = r"'model: brown_conrady', 'intrinsics: \[50, 50, 47.5, 31.5\]', 'distortion: \[0.3, 0, 0, 0\]'"
    with pytest.raises(InputError, match=lines):
        fitting_camera(path, 64, 96)
    with pytest.raises(InputError, match="another aspect ratio; were they cropped or turned"):
        fitting_camera(path, 96, 96)


# ------------------------------------------------------------------------------- where they are read


def draw_scene(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        Image.new("RGB", (96, 64), (9 * number,) * 3).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("place", ["root/walk", "root", "root/sparse/0"])
def test_folder_dataset_reads_colmap_camera(place, tmp_path):
    draw_scene(tmp_path / "root/walk")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    colmap(tmp_path / place, "1 SIMPLE_RADIAL 96 64 80 48 32 0.1")
    dataset = Folder(tmp_path / "root", height=64, width=96, part="all")
    camera = dataset[0].camera
    assert isinstance(camera, BrownConrady) and camera.distortion[0, 0].item() == pytest.approx(0.1)
    assert dataset[0].intrinsics[0].flatten().tolist() == [80, 0, 47.5, 0, 80, 31.5, 0, 0, 1]


def test_own_file_precedes_those_of_other_programs(tmp_path):
    draw_scene(tmp_path)
    colmap(tmp_path, "1 SIMPLE_RADIAL 96 64 80 48 32 0.1")
    (tmp_path / "cam.txt").write_text("70 70 47 31")
    dataset = Folder(tmp_path, height=64, width=96, part="all")
    assert dataset[0].camera is None and dataset[0].intrinsics[0, 0, 0] == 70


def test_folder_dataset_refuses_a_camera_of_another_size(tmp_path):
    draw_scene(tmp_path)
    nerfstudio(tmp_path, w=192, h=128, fl_x=100, fl_y=100, cx=96, cy=64)
    with pytest.raises(InputError, match=r"transforms.json is for images of 192x128 .*'50 50 47.5 31.5'"):
        Folder(tmp_path, height=64, width=96)


def test_prediction_reads_nerfstudio_file_above_the_images(tmp_path):
    image = draw_scene(tmp_path / "images") / "0.png"
    nerfstudio(tmp_path)
    K, source = find_intrinsics(image, 64, 96, None)
    assert source == "file" and K.flatten().tolist() == [50, 0, 47.5, 0, 40, 31.5, 0, 0, 1]


def test_prediction_says_that_distortion_is_not_applied(tmp_path):
    image = draw_scene(tmp_path) / "0.png"
    ros(tmp_path, coefficients="[0.3, 0, 0, 0, 0]")
    with collect_notices() as said:
        assert find_intrinsics(image, 64, 96, None)[0][0, 0] == 50
    assert "the distortion in" in said[0] and "is not applied here" in said[0]
    ros(tmp_path, "fisheye", "[0.3, 0, 0, 0]")
    with pytest.raises(InputError, match="a wide lens, which no pinhole replaces"):
        find_intrinsics(image, 64, 96, None)


def test_find_calibration_takes_the_nearest_folder(tmp_path):
    inner = tmp_path / "scene"
    inner.mkdir()
    assert find_calibration([inner, tmp_path]) is None
    nerfstudio(tmp_path)
    assert find_calibration([inner, tmp_path]) == tmp_path / "transforms.json"
    ros(inner)
    assert find_calibration([inner, tmp_path]) == inner / "camera_info.yaml"
