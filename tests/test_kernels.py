"""Compiled kernels give the values of the torch form, and are left out where they cannot be built."""

import pytest
import torch

import kernels
from kernels import photometric_cpu
from layers import ssim_error
from photometric_error import PhotometricTarget, mean_ssim_error

needs_compiler = pytest.mark.skipif(photometric_cpu.library() is None, reason="no C++ compiler here")


@pytest.fixture(autouse=True)
def _kernels_stay_allowed():
    yield
    kernels.allow(True)
    photometric_cpu.library.cache_clear()


def both_forms(images, target, weight, epsilon):
    """(error, gradient) of the compiled and of the torch form."""
    upstream = torch.rand(*images.shape[:2], 1, *images.shape[3:])
    results = []
    for allowed in (True, False):
        kernels.allow(allowed)
        error = PhotometricTarget(target, weight, epsilon).error(images)
        results.append((error.detach(), *torch.autograd.grad(error, images, upstream)))
    return results


@needs_compiler
@pytest.mark.parametrize("weight, epsilon", [(0.85, 0.0), (1.0, 0.0), (0.0, 0.0), (0.85, 1e-6)])
@pytest.mark.parametrize("height, width", [(50, 40), (3, 5), (2, 2)])  # three bands; no inner rows
def test_compiled_error_equals_torch_form(weight, epsilon, height, width):
    torch.manual_seed(0)
    target = torch.rand(2, 3, height, width)
    images = (target + 0.1 * torch.randn(2, 2, 3, height, width)).clamp(0, 1).requires_grad_()
    for ours, theirs in zip(*both_forms(images, target, weight, epsilon)):
        assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@needs_compiler
@pytest.mark.parametrize("radius", photometric_cpu.RADII)
@pytest.mark.parametrize("height, width", [(50, 40), (7, 9), (4, 4)])
def test_compiled_ssim_and_gradients_equal_readable_form(radius, height, width):
    torch.manual_seed(0)
    target = torch.rand(2, 2, 3, height, width, requires_grad=True)
    images = (target.detach() + 0.1 * torch.randn_like(target)).requires_grad_()
    upstream = torch.rand(2, 2, 1, height, width)
    compiled = mean_ssim_error(images, target, radius)
    readable = ssim_error(images, target, radius).mean(2, keepdim=True)
    assert torch.allclose(compiled, readable, atol=2e-6)
    for ours, theirs in zip(
        *(torch.autograd.grad(error, (images, target), upstream) for error in (compiled, readable))
    ):
        assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


@needs_compiler
def test_compiled_error_reads_any_memory_layout():
    torch.manual_seed(0)
    target = torch.rand(2, 3, 20, 24).contiguous(memory_format=torch.channels_last)
    images = torch.rand(1, 2, 20, 24, 3).movedim(-1, 2).requires_grad_()
    for ours, theirs in zip(*both_forms(images, target, 0.85, 0.0)):
        assert torch.allclose(ours, theirs, atol=1e-6)


@needs_compiler
def test_compiled_error_of_equal_images_is_zero():
    image = torch.rand(2, 3, 30, 33)
    assert PhotometricTarget(image).error(image[None]).max() == 0


@needs_compiler
def test_compiled_error_keeps_nan():
    image = torch.rand(1, 3, 30, 33)
    broken = image[None].clone()
    broken[0, 0, 1, 10, 10] = float("nan")
    error = PhotometricTarget(image).error(broken)
    assert error[0, 0, 0, 9:12, 9:12].isnan().all()
    assert error.isnan().sum() == 9


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_machine_without_compiler_uses_torch(monkeypatch, tmp_path, compiler):
    photometric_cpu.library.cache_clear()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("CXX", compiler)
    if compiler == "no-such-compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
    assert not kernels.compiled_for_cpu()
    image = torch.rand(1, 3, 8, 8)
    assert PhotometricTarget(image).error(image[None]).max() == 0


def test_kernels_can_be_switched_off():
    kernels.allow(False)
    assert not kernels.compiled_for_cpu()
