"""Ray templates: the rays of a camera model, in a file that a ray surface reads back."""

import numpy as np
import pytest
import torch

from cameras import KannalaBrandt, RaySurface, read_camera, write_camera
from cameras._files import read_template
from tools.ray_template import main
from utils import InputError

CAMERA = KannalaBrandt(
    torch.tensor([[22.0, 0, 31.0], [0, 22.5, 24.0], [0, 0, 1]])[None],
    torch.tensor([[0.02, -0.004, 0.001, 0.0]]),
)


@pytest.fixture
def camera(tmp_path):
    write_camera(tmp_path / "camera.yaml", CAMERA)
    return tmp_path / "camera.yaml"


def run(camera, out, height=48, width=64, *more):
    main(["--camera", str(camera), "--height", str(height), "--width", str(width), "--out", str(out), *more])
    return np.load(out)


def test_it_holds_the_unit_rays_of_the_camera(camera, tmp_path):
    rays = run(camera, tmp_path / "rays.npy")
    assert rays.shape == (48, 64, 3) and rays.dtype == np.float32
    assert np.allclose(rays.reshape(-1, 3).T, CAMERA.rays(48, 64)[0].numpy(), atol=1e-6)


def test_native_resizes_the_camera_first(camera, tmp_path):
    rays = run(camera, tmp_path / "rays.npy", 24, 32, "--native", "48", "64")
    expected = CAMERA.resized((48, 64), (24, 32)).rays(24, 32)[0]
    assert np.allclose(rays.reshape(-1, 3).T, expected.numpy(), atol=1e-6)


def test_a_template_of_another_size_is_refused(camera, tmp_path):
    run(camera, tmp_path / "rays.npy")
    (tmp_path / "surface.yaml").write_text("model: ray_surface\nrays: rays.npy\n")
    with pytest.raises(InputError, match="has 64x48 rays and the image is 32x24"):
        run(tmp_path / "surface.yaml", tmp_path / "small.npy", 24, 32)
    resized = run(tmp_path / "surface.yaml", tmp_path / "small.npy", 24, 32, "--native", "48", "64")
    assert resized.shape == (24, 32, 3)


def test_the_published_layout_is_read_too(camera, tmp_path):
    rays = run(camera, tmp_path / "rays.npy")
    np.save(tmp_path / "published.npy", 2 * rays.transpose(2, 0, 1)[None])
    assert torch.allclose(
        read_template(tmp_path / "published.npy"), read_template(tmp_path / "rays.npy"), atol=1e-6
    )


def test_a_ray_surface_is_written_next_to_its_camera_file(tmp_path):
    surface = RaySurface.of(CAMERA.rays(48, 64).unflatten(2, (48, 64)))
    write_camera(tmp_path / "left.yaml", surface)
    assert (tmp_path / "left_rays.npy").is_file()
    assert torch.allclose(read_camera(tmp_path / "left.yaml").directions, surface.directions, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--height", "1"], "--height must be at least 2"),
        (["--native", "0", "5"], "--native must be at least 2 2"),
        (["--out", "rays.npz"], "--out is a .npy file"),
        (["--camera", "gone.yaml"], "there is no file gone.yaml"),
    ],
)
def test_invalid_input_is_refused(more, sentence, camera, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(camera, tmp_path / "rays.npy", 48, 64, *more)


def test_a_template_that_exists_is_kept(camera, tmp_path):
    run(camera, tmp_path / "rays.npy")
    with pytest.raises(InputError, match="--overwrite"):
        run(camera, tmp_path / "rays.npy")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [(np.zeros((4, 5)), r"holds an array of \(4, 5\)"), (np.full((4, 5, 3), np.nan), "not finite")],
)
def test_an_array_that_is_not_a_template_is_refused(array, sentence, tmp_path):
    np.save(tmp_path / "rays.npy", array)
    with pytest.raises(InputError, match=sentence):
        read_template(tmp_path / "rays.npy")
