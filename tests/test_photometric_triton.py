"""The Triton kernels give values and gradients of the readable form, in Triton's interpreter and on a GPU."""

import dataclasses
import importlib
import sys

import pytest
import torch
import torch.nn.functional as F

from layers import ssim_error
from methods.monodepth2 import Monodepth2
from structures import Prediction

pytest.importorskip("triton")


@pytest.fixture
def interpreted(monkeypatch):
    """The kernels' module, run by the interpreter on the CPU."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    name = "kernels.photometric_triton"
    monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module(name)
    sys.modules.pop(name, None)  # decorated for the interpreter


def readable(sources, grids, target, unwarped, weight, align_corners):
    """(error, where a warped source has it) by torch operations."""
    errors = []
    for source, grid in zip(sources, grids):
        warped = F.grid_sample(source, grid, padding_mode="border", align_corners=align_corners)
        absolute = (warped - target).abs().mean(1, keepdim=True)
        similarity = ssim_error(warped, target).mean(1, keepdim=True)
        errors.append(weight * similarity + (1 - weight) * absolute)
    least = torch.stack(errors).amin(0)
    if unwarped is None:
        return least, torch.ones_like(least, dtype=torch.bool)
    return torch.minimum(least, unwarped), least < unwarped


def scene(device="cpu", size=(11, 14)):
    """Sources of another size, grids that also leave them, a target, an unwarped error."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    theta = torch.eye(2, 3).expand(4, 2, 3) + 0.1 * (rand(4, 2, 3) - 0.5)
    grids = F.affine_grid(theta, (4, 3, *size), align_corners=True) + 0.02 * rand(4, *size, 2)
    sources = F.interpolate(rand(4, 3, 5, 6), (9, 12), mode="bilinear").unflatten(0, (2, 2))
    target = F.interpolate(rand(2, 3, 5, 6), size, mode="bilinear")
    parts = sources, grids.unflatten(0, (2, 2)), target, 0.2 * rand(2, 1, *size) + 0.1
    return [part.to(device) for part in parts]


def assert_equal_forms(module, parts, weight, align_corners, automask):
    sources, grids, target, unwarped = parts
    unwarped = unwarped if automask else None
    upstream = torch.linspace(0, 1, target[:, :1].numel(), device=target.device).view_as(target[:, :1])
    results = []
    for form in (module.least_error, readable):
        leaf = grids.clone().requires_grad_()
        error, warped = form(sources, leaf, target, unwarped, weight, align_corners)
        results.append((error.detach(), warped, *torch.autograd.grad(error, leaf, upstream)))
    (error, warped, gradient), (expected, expected_warped, expected_gradient) = results
    assert torch.allclose(error, expected, atol=1e-5)
    assert torch.equal(warped, expected_warped)
    assert 0 < warped.float().mean() < 1 or not automask
    assert (gradient - expected_gradient).abs().max() <= 1e-4 * expected_gradient.abs().max()


@pytest.mark.parametrize("weight, align_corners, automask", [(0.85, True, True), (1.0, False, False)])
def test_interpreted_kernels_equal_the_readable_form(interpreted, weight, align_corners, automask):
    assert_equal_forms(interpreted, scene(), weight, align_corners, automask)


def test_nan_grid_gives_nan_error(interpreted):
    sources, grids, target, unwarped = scene()
    grids[0, 0, 5, 5] = float("nan")
    error, _ = interpreted.least_error(sources, grids, target, unwarped, 0.85, True)
    assert error[0, 0, 5, 5].isnan() and not error[1].isnan().any()


@pytest.mark.gpu
@pytest.mark.parametrize("automask", [True, False])
def test_kernels_on_a_gpu_equal_the_readable_form(automask):
    module = importlib.import_module("kernels.photometric_triton")
    assert_equal_forms(module, scene("cuda", (96, 160)), 0.85, True, automask)


def test_loss_by_kernels_equals_the_loss_in_torch(interpreted, drawn_batch, monkeypatch):
    torch.manual_seed(0)
    method = Monodepth2(weights_init="scratch", pose_model_type="posecnn", scales=(0,))
    method.loss_terms["photometric"].noise = 0
    crop = drawn_batch.map(lambda x: x[..., :16, :16] if x.dim() == 4 else x)
    crop = dataclasses.replace(crop, images={f: i[:1] for f, i in crop.images.items()})
    disparity = torch.rand(1, 1, 16, 16)
    results = []
    for compiled in (True, False):
        monkeypatch.setattr("kernels.compiled_for_gpu", lambda device, compiled=compiled: compiled)
        leaf = disparity.clone().requires_grad_()
        prediction = Prediction({0: leaf})
        T = torch.eye(4)[None]
        T[:, 0, 3] = 0.05
        batch = dataclasses.replace(
            crop,
            intrinsics=crop.intrinsics[:1],
            index=crop.index[:1],
            T_source_from_target={-1: T, 1: T.inverse()},
        )
        method.add_geometry(batch, prediction)
        loss = method.loss_terms["photometric"](batch, prediction)
        results.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-6)
    assert (results[0][1] - results[1][1]).abs().max() <= 1e-3 * results[1][1].abs().max()
