"""Photometric error: zero for equal images, known values for different ones."""

import pytest
import torch

from losses.photometric import Photometric
from structures import Batch, Prediction
from utils import InputError


def flat(value, count=1):
    return torch.full((count, 3, 8, 10), float(value))


def scene(target, *sources):
    frames = dict(zip((-1, 1), sources))
    return Batch({0: target, **frames}, torch.eye(3).expand(len(target), 3, 3), torch.arange(len(target)))


def warped(*sources):
    return Prediction({}, warped={0: torch.stack(sources)})


def l1(**settings):
    return Photometric(**{"ssim_weight": 0.0, "automask": False, "noise": 0.0, **settings})


def test_a_perfect_prediction_costs_nothing():
    target = torch.rand(2, 3, 8, 10)
    loss = Photometric(noise=0.0)(scene(target, torch.rand(2, 3, 8, 10)), warped(target))
    assert loss.abs() < 1e-6


def test_two_flat_images_differ_by_their_distance():
    loss = l1()(scene(flat(0.5), flat(0)), warped(flat(0.2)))
    assert loss.item() == pytest.approx(0.3)


def test_ssim_of_two_flat_images_has_its_closed_form():
    x, y, c1 = 0.5, 0.2, 0.01**2
    similarity = (2 * x * y + c1) / (x**2 + y**2 + c1)  # the variances are 0
    loss = l1(ssim_weight=1.0)(scene(flat(x), flat(0)), warped(flat(y)))
    assert loss.item() == pytest.approx((1 - similarity) / 2, abs=1e-4)


def test_only_the_minimum_ignores_an_occlusion_in_one_source():
    batch, prediction = scene(flat(0.5), flat(0), flat(0)), warped(flat(0.4), flat(0.9))
    assert l1()(batch, prediction).item() == pytest.approx(0.1)
    assert l1(reduction="mean")(batch, prediction).item() == pytest.approx(0.25)


def test_automasked_pixels_have_no_gradient():
    source = flat(0.5)
    source[..., 5:] = 0.0  # the left half stands still
    guess = flat(0.4).requires_grad_()
    loss = l1(automask=True)
    batch, prediction = scene(flat(0.5), source), warped(guess)
    _, automask = loss.maps(batch, prediction)[0]
    assert not automask[..., :5].any() and automask[..., 5:].all()
    loss(batch, prediction).backward()
    assert not guess.grad[..., :5].any() and (guess.grad[..., 5:] < 0).all()
    assert loss(batch, prediction).item() == pytest.approx(0.05)


def test_noise_breaks_ties_without_motion():
    torch.manual_seed(0)
    source = torch.rand(1, 3, 8, 10)
    batch, prediction = scene(flat(0.5), source), warped(source)
    helps = [loss.maps(batch, prediction)[0][1].float().mean() for loss in (l1(automask=True), Photometric())]
    assert helps[0] == 0 and 0.2 < helps[1] < 0.8


def test_scales_are_averaged():
    prediction = Prediction({}, warped={0: flat(0.4)[None], 1: flat(0.2)[None]})
    assert l1()(scene(flat(0.5), flat(0)), prediction).item() == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ssim_weight": 1.5}, r"ssim_weight must be in \[0, 1\], got 1.5"),
        ({"reduction": "max"}, "reduction over sources is 'min' or 'mean', got 'max'"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        Photometric(**settings)


def test_error_in_the_ego_mask_is_zero():
    visible = torch.ones(1, 1, 8, 10, dtype=torch.bool)
    visible[..., 6:, :] = False
    batch, guess = scene(flat(0.5), flat(0)), flat(0.4).requires_grad_()
    batch.maps = {"ego_mask": ~visible}
    loss = l1(automask=True)
    error, automask = loss.maps(batch, warped(guess))[0]
    assert not error[..., 6:, :].any() and not automask[..., 6:, :].any() and automask[..., :6, :].all()
    value = loss(batch, warped(guess))
    value.backward()
    assert value.item() == pytest.approx(0.1 * 6 / 8)
    assert not guess.grad[..., 6:, :].any()


def test_coarse_pixel_touching_the_ego_mask_is_invalid():
    visible = torch.ones(1, 1, 8, 10, dtype=torch.bool)
    visible[..., 5:, :] = False
    batch = scene(flat(0.5), flat(0))
    batch.maps = {"ego_mask": ~visible}
    error, _ = l1().maps(batch, Prediction({}, warped={1: torch.full((1, 1, 3, 4, 5), 0.4)}))[1]
    assert error[..., :2, :].all() and not error[..., 2:, :].any()


def test_moving_objects_cost_nothing_but_stay_in_the_mean():
    labels = torch.zeros(1, 1, 8, 10, dtype=torch.uint8)
    labels[..., :5] = 13  # a car in the left half
    batch = scene(flat(0.5), flat(0))
    batch.maps["labels"] = labels
    term = l1(moving_objects={"labels": "files", "schedule": "always", "from_epoch": 1})
    assert term(batch, warped(flat(0.2))).item() == pytest.approx(0.3)  # epoch 0
    term.moving_objects.on_epoch_start(1, 2)
    assert term(batch, warped(flat(0.2))).item() == pytest.approx(0.15)
    assert term.eval()(batch, warped(flat(0.2))).item() == pytest.approx(0.3)


def test_an_unknown_setting_of_moving_objects_is_refused():
    with pytest.raises(InputError, match="moving_objects has no setting 'epoch'"):
        Photometric(moving_objects={"epoch": 3})
