"""PackNet-SfM's view synthesis, photometric and smoothness terms, as recorded."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from layers import edge_aware_gradient, sampling_grid, ssim_error
from losses.photometric import Photometric
from losses.smoothness import Smoothness
from structures import Batch, Prediction
from tests.goldens import Golden, image, tensor, uniform
from tests.packnet_poses import packnet_pose
from utils import InputError

H, W = 48, 64
# Case: number of scales, settings of the term, weight of smoothness, padding; whether scales shrink.
CASES = {
    "default": (4, {}, 1e-3, "zeros", False),
    "multires": (4, {}, 1e-3, "zeros", True),
    "no_automask": (4, {"automask": False}, 1e-3, "zeros", False),
    "mean": (4, {"automask": False, "reduction": "mean"}, 1e-3, "zeros", False),
    "border": (1, {}, 1e-3, "border", False),
    "clip": (4, {"automask": False, "reduction": "mean", "clip": 0.5}, 0.1, "zeros", True),
}


class Scene:
    """Inputs of a case, and the loss that the parts of this project give for them."""

    def __init__(self, case):
        self.scales, settings, weight, padding, shrink = CASES[case]
        golden = Golden(f"packnet_photometric_{case}")
        prefix = f"{'B1' if case == 'multires' else 'B'}/packnet_photometric_{case}"
        self.target = tensor(image(f"{prefix}/image", 2, H, W))
        self.sources = [
            0.7 * self.target + 0.3 * tensor(image(f"{prefix}/context_{j}", 2, H, W)) for j in (0, 1)
        ]
        sizes = [(H >> n, W >> n) if shrink else (H, W) for n in range(4)]
        self.inverse = [
            tensor(0.05 + 0.55 * image(f"{prefix}/inv_depth_{n}", 2, *size, 1)).requires_grad_()
            for n, size in enumerate(sizes)
        ]
        self.vectors = [
            tensor(uniform(f"{prefix}/vec_{j}", (2, 6), -0.08, 0.08)).requires_grad_() for j in (0, 1)
        ]
        self.K = tensor(golden["K"])
        self.photometric, self.smoothness, self.warped, self.targets = [], [], [], []
        for n in range(self.scales):
            self._add_scale(n, sizes[n], settings, padding)
        self.loss = torch.stack(self.photometric).mean() + weight * torch.stack(self.smoothness).mean()
        self.smooth = weight * torch.stack(self.smoothness).mean()
        self.golden = golden

    def _add_scale(self, n, size, settings, padding):
        target, *sources = (resized(view, size) for view in (self.target, *self.sources))
        K = self.K.clone()
        K[:, :2] *= size[1] / W
        K[:, :2, 2] = (self.K[:, :2, 2] + 0.5) * (size[1] / W) - 0.5
        depth = 1 / self.inverse[n].clamp(min=1e-6)
        warped = [
            F.grid_sample(
                source,
                sampling_grid(depth, K, packnet_pose(vector)),
                padding_mode=padding,
                align_corners=True,
            )
            for source, vector in zip(sources, self.vectors)
        ]
        batch = Batch({0: target, -1: sources[0], 1: sources[1]}, K, torch.arange(2))
        term = Photometric(noise=0.0, **settings)
        self.photometric.append(term(batch, Prediction({}, warped={0: torch.stack(warped)})))
        smooth = Smoothness()(batch, Prediction({0: self.inverse[n]}))
        self.smoothness.append(smooth / 2**n)
        self.warped.append(warped)
        self.targets.append(target)


def resized(view, size):
    return F.interpolate(view, size, mode="bilinear", align_corners=True)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_packnets(case):
    scene = Scene(case)
    scene.loss.backward()
    golden = scene.golden
    golden.close("loss", scene.loss[None])
    golden.close("smoothness_loss", scene.smooth)
    for n, inverse in enumerate(scene.inverse):
        if f"grad_inv_depth_{n}" in golden.arrays:
            golden.close(f"grad_inv_depth_{n}", inverse.grad, relative=1e-4, outliers=1e-3)
    for j, vector in enumerate(scene.vectors):
        golden.close(f"grad_vec_{j}", vector.grad, relative=1e-3)


def test_warped_images_and_their_errors_are_packnets():
    scene = Scene("default")
    golden, warped = scene.golden, scene.warped[0]
    golden.close("warped_0_0", warped[0], relative=1e-5)
    term = Photometric(noise=0.0, automask=False)
    for name, source in (("photometric_0_0", warped[0]), ("unwarped_0_0", scene.sources[0])):
        batch = Batch({0: scene.target, 1: scene.sources[0]}, scene.K, torch.arange(2))
        error, _ = term.maps(batch, Prediction({}, warped={0: source[None]}))[0]
        golden.close(name, error, relative=1e-5)


def test_coarse_images_are_packnets():
    scene = Scene("multires")
    for n in (1, 3):
        scene.golden.close(f"image_{n}", scene.targets[n], relative=4e-6)
        scene.golden.close(f"warped_0_{n}", scene.warped[n][0], relative=1e-5)


def test_ssim_is_packnets():
    golden = Golden("packnet_ssim")
    x = tensor(image("B/packnet_ssim/x", 2, H, W))
    y = tensor(0.5 * x.numpy() + np.float32(0.5) * image("B/packnet_ssim/y", 2, H, W))
    golden.close("distance", ssim_error(x, y))


def test_smoothness_is_packnets():
    golden = Golden("packnet_smoothness")
    target = tensor(image("B/packnet_smoothness/image", 2, H, W))
    inverse = [
        tensor(
            0.05 + 0.55 * image(f"B/packnet_smoothness/inv_depth_{n}", 2, H >> n, W >> n, 1)
        ).requires_grad_()
        for n in range(4)
    ]
    terms = []
    for n, values in enumerate(inverse):
        small = resized(target, values.shape[-2:])
        normalised = values / values.mean((2, 3), keepdim=True).clamp(min=1e-6)
        terms.append(edge_aware_gradient(normalised, small) / 2**n)
    loss = torch.stack(terms).mean()
    loss.backward()
    golden.close("smoothness_loss", loss)
    for n, values in enumerate(inverse):
        golden.close(f"grad_inv_depth_{n}", values.grad, relative=1e-4)
    batch = Batch({0: target}, torch.eye(3).repeat(2, 1, 1), torch.arange(2))
    same = Smoothness()(batch, Prediction({0: inverse[0]}))
    assert same.item() == pytest.approx(terms[0].item(), rel=1e-5)


def test_a_negative_clip_is_refused():
    with pytest.raises(InputError, match="clip must be at least 0"):
        Photometric(clip=-1)
