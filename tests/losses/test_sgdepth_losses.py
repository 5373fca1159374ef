"""SGDepth's depth loss: published values and gradients, by our photometric and smoothness terms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from layers import disparity_to_depth, pose_matrix, sample, sampling_grid
from losses.photometric import Photometric
from losses.smoothness import Smoothness
from structures import Batch, Prediction
from tests import goldens

CASES = {  # case → prefix of its inputs, settings of the photometric term
    "default": ("B2", {}),
    "avg": ("B", {"reduction": "mean"}),
    "no_automask": ("B", {"automask": False, "reduction": "mean"}),
    "moving_mask": ("B1", {"moving_objects": {"labels": "files", "schedule": "always", "from_epoch": 0}}),
}
FRAMES = {1: "1", -1: "m1"}


class Scene:
    """The inputs of a case: images, disparities and motions as leaves of the graph."""

    def __init__(self, case):
        self.golden = goldens.Golden(f"sgdepth_depth_loss_{case}")
        self.path = f"{CASES[case][0]}/sgdepth_depth_loss_{case}"
        target = self.image("color_0", 48, 64)
        images = {f: 0.7 * target + 0.3 * self.image(f"color_{name}", 48, 64) for f, name in FRAMES.items()}
        self.disparities = {
            s: goldens.tensor(0.02 + 0.23 * self.image(f"disp_{s}", 48 >> s, 64 >> s, 1)).requires_grad_()
            for s in range(4)
        }
        self.motions = {
            f: [
                goldens.tensor(self.noise(f"{what}_{name}", (2, 1, 1, 3), low, high)).requires_grad_()
                for what, low, high in (("axisangle", -0.05, 0.05), ("translation", -0.06, 0.06))
            ]
            for f, name in FRAMES.items()
        }
        maps = {}
        if case == "moving_mask":
            keep = self.noise("moving_noise", (2, 6, 8), 0, 1) > 0.3
            labels = np.where(keep, 0, 13).repeat(8, 1).repeat(8, 2).astype(np.uint8)
            maps["labels"] = torch.from_numpy(labels)[:, None]
        K = torch.from_numpy(self.golden["K"])
        images = {f: goldens.tensor(image) for f, image in {0: target, **images}.items()}
        self.batch = Batch(images, K, torch.arange(2), maps=maps)

    def image(self, name, height, width, channels=3):
        return goldens.image(f"{self.path}/{name}", 2, height, width, channels)

    def noise(self, name, shape, low, high):
        return goldens.uniform(f"{self.path}/{name}", shape, low, high)

    def prediction(self, align_corners):
        warped = {}
        for scale, disparity in self.disparities.items():
            full = F.interpolate(disparity, (48, 64), mode="bilinear", align_corners=False)
            depth = disparity_to_depth(full, 0.1, 100.0)
            sources = []
            for frame, (axis_angle, translation) in self.motions.items():
                T = pose_matrix(axis_angle[:, 0, 0], translation[:, 0, 0], frame < 0)
                grid = sampling_grid(depth, self.batch.intrinsics, T)
                sources.append(sample(self.batch.images[frame], grid, align_corners))
            warped[scale] = torch.stack(sources)
        return Prediction(self.disparities, warped=warped)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("convention", ["ac1", "ac0"])
def test_loss_and_gradients_are_the_published_ones(case, convention):
    scene = Scene(case)
    golden, prediction = scene.golden, scene.prediction(convention == "ac1")
    smooth = 1e-3 * Smoothness(image_resize="bilinear").per_scale(scene.batch, prediction)
    photometric = Photometric(noise=0.0, **CASES[case][1]).per_scale(scene.batch, prediction)
    for scale in range(4):
        golden.close(f"disp_smth_loss_{scale}_{convention}", smooth[scale])
        golden.close(f"loss_{scale}_{convention}", (photometric + smooth)[scale])
    loss = (photometric + smooth).mean()
    golden.close(f"loss_depth_{convention}", loss)
    loss.backward()
    # Rounding, which depends on the processor, may change the automask of one pixel. It takes part in four
    # pixels of a coarser disparity, and in the sums over all pixels.
    moved = 0
    for scale, disparity in scene.disparities.items():
        name = f"grad_disp_{scale}_{convention}"
        outliers = golden.share_beyond(name, disparity.grad)
        moved += outliers > 1e-3
        golden.close(name, disparity.grad, outliers=max(1e-3, 4 / disparity.numel()))
    assert moved <= 1
    for frame, name in {1: "next", -1: "prev"}.items():
        # A sum over all pixels, in another order than the published one.
        for what, leaf in zip(("axisangle", "translation"), scene.motions[frame]):
            golden.close(f"grad_{what}_{name}_{convention}", leaf.grad, relative=0.1 if moved else 1e-5)
