"""Views: the recorded crops, losses and gradients of the published system, and our own crop's geometry."""

import dataclasses
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datasets.augmentation import Augment
from layers import sampling_grid, scale_invariant_log_error, warp
from losses import LOSSES
from losses.depth_agreement import DepthAgreement
from methods import METHODS
from methods._networks import Motion
from methods.monodepth2 import Monodepth2
from structures import Batch, Prediction
from tests.goldens import Golden, H, W, tensor
from utils import PROJECT, InputError
from views import DRAWS, AugmentedViews, Views, with_views
from views.local_crop import LocalCrop
from views.patch_reshuffle import PatchReshuffle

BOTH = {"local_crop": True, "patch_reshuffle": True}
CONFIGS = {
    "full": BOTH,
    "local": {"local_crop": True},
    "reshuffle": {"patch_reshuffle": True},
    "base": {},
    "full_4scales": BOTH,
    "full_no_automask": BOTH,
    "full_stereo": BOTH,
}
NAMES = {-1: "m1", 1: "p1", "s": "s"}
PUBLISHED = {"local": "local", "reshuffled": "reshuffle"}  # names of the views
BASE = ("photometric", "smoothness")


def build(**settings) -> Monodepth2:
    return Monodepth2(
        **{
            "weights_init": "scratch",
            "scales": (0,),
            "encoder": "timm/test_efficientnet",
            "pose_encoder": "timm/test_efficientnet",
            **settings,
        }
    )


# Settings and values of the published code.


@pytest.mark.parametrize("case", range(3))
def test_crops_and_reshuffles_are_the_published_ones(case):
    golden = Golden("bdedepth_augment")
    inputs = golden.inputs()
    draws = torch.from_numpy(inputs[f"draws{case}"]).double()[None]
    crop = LocalCrop.draw(draws, (H, W), published=True)
    golden.close(f"d{case}.ratio_local", crop.zoom)
    for frame in ("0", "m1") if case == 0 else ("0",):
        native = tensor(inputs[f"pic_{frame}"]).permute(2, 0, 1)[None] / 255
        expected = golden[f"d{case}.color_local_{frame}_0"].astype(int)
        found = (crop.image(native)[0] * 255).round().numpy().astype(int)
        assert np.abs(found - expected).max() <= 1  # Pillow rounds between the axes
    corners = golden[f"d{case}.grid_corners"]  # x of the first and the last column, y too
    if case == 0:
        assert corners.tolist() == [
            *golden["d0.grid_local_row0"][[0, -1]],
            *golden["d0.grid_local_col0"][[0, -1]],
        ]
    middle = corners.reshape(2, 2).mean(1)
    assert np.allclose(third_column(crop, (0.5, 0.5)), [*-middle, (corners[1] - corners[0]) / 2], atol=1e-6)
    shuffle, image = PatchReshuffle.draw(draws, (H, W)), torch.from_numpy(golden["d0.color_0"])
    shown = shuffle.apply(image[None])
    assert np.array_equal(shown[0].numpy(), golden[f"d{case}.color_reshuffle"])
    assert torch.equal(shuffle.restore(shown)[0], image)
    assert np.array_equal([W, H] - np.array(shuffle.cuts[0]), golden[f"d{case}.split_xy"])


def third_column(crop: LocalCrop, focal: tuple[float, float]) -> np.ndarray:
    """The third column of the published Rc, the image of a step ahead; focal lengths over W and H."""
    K = torch.diag(torch.tensor([focal[0] * crop.size[1], focal[1] * crop.size[0], 1.0]))[None]
    ahead = torch.eye(4)[None].clone()
    ahead[:, 2, 3] = 1
    return crop.bend({1: ahead}, K)[1][0, :3, 3].numpy()


def test_the_published_crop_of_the_specs_example():
    scale = torch.tensor([[1024 / 640, 307 / 192]], dtype=torch.float64)
    corner = torch.tensor([[100.0, 40.0]], dtype=torch.float64)
    crop = LocalCrop((192, 640), torch.tensor([1.6], dtype=torch.float64), scale, corner, published=True)
    assert np.allclose(third_column(crop, (0.58, 1.92)), [0.1550544, 0.0297862, 0.6246334], atol=1e-6)
    _, inside = crop.restore(torch.zeros(1, 1, 192, 640), (192, 640))
    rows, columns = inside[0, 0].any(1).nonzero(), inside[0, 0].any(0).nonzero()
    assert [int(rows.min()), int(rows.max()) + 1] == [25, 25 + 120]
    assert [int(columns.min()), int(columns.max()) + 1] == [63, 63 + 400]


def test_the_scale_invariant_error_is_the_published_one():
    golden = Golden("bdedepth_silog")
    inputs = {name: tensor(value) for name, value in golden.inputs().items()}
    golden.close("silog", scale_invariant_log_error(inputs["pred"], inputs["target"]))
    golden.close("silog_masked", scale_invariant_log_error(inputs["pred"], inputs["target"], inputs["mask"]))


@pytest.fixture(scope="module")
def golden():
    return Golden("bdedepth_loss")


@pytest.fixture(scope="module")
def given(golden):
    return {name: tensor(value) for name, value in golden.inputs().items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_the_published_ones(golden, given, name, monkeypatch):
    frames = (0, -1, 1, "s") if name == "full_stereo" else (0, -1, 1)
    method = build(
        frame_ids=frames,
        scales=range(4) if name == "full_4scales" else (0,),
        disable_automasking=name == "full_no_automask",
        losses={"photometric": {"noise": 0.0}},
    )
    model = with_views(method, {**CONFIGS[name], "published_camera": True})
    K = torch.from_numpy(golden["K"])[:3, :3].expand(2, 3, 3)
    poses = {"s": torch.from_numpy(golden["stereo_T"])} if "s" in frames else {}
    draws = given["draws"].double()
    batch, cropped = (
        Batch({f: given[f"frame{kind}_{NAMES.get(f, f)}"] for f in frames}, K, torch.arange(2), poses)
        for kind in ("", "L")
    )
    batch.extra["draws"] = draws
    leaves = {
        key: given[key].clone().requires_grad_()
        for key in given
        if key[:2] in ("aa", "tr") or (key[:5] == "disp_" and int(key[-1]) in method.scales)
    }
    motions = {
        f: Motion(leaves[f"aa_{NAMES[f]}"][:, 0, 0], leaves[f"tr_{NAMES[f]}"][:, 0, 0], f < 0)
        for f in (-1, 1)
    }

    def given_maps(view: str) -> Prediction:
        return Prediction({scale: leaves[f"disp_{view}{scale}"] for scale in method.scales})

    # The recorded crops are images of their own, and the recorded disparities no network's.
    crop = LocalCrop.draw(draws, (H, W), published=True)
    monkeypatch.setattr(LocalCrop, "apply", lambda self, batch, frames: dataclasses.replace(cropped))
    shown = [view for view in ("local", "reshuffle") if CONFIGS[name].get(_setting(view))]
    answers = iter(["ori", *shown])
    monkeypatch.setattr(method, "predict_disparities", lambda *_: given_maps(next(answers)))
    monkeypatch.setattr(method, "predict_motions", lambda *_: motions)
    prediction = model.train()(batch)
    terms = model.losses(batch, prediction)
    total = torch.stack(list(terms.values())).sum()
    total.backward()

    golden.close(f"{name}.loss", total)
    golden.close(f"{name}.loss_base", terms["photometric"] + terms["smoothness"])
    looks = {"ori": (batch, prediction)}
    looks |= {PUBLISHED[view]: look for view, look in prediction.extra.get("views", {}).items()}
    for view, look in looks.items():
        parts = [method.loss_weights[term] * method.loss_terms[term](*look) for term in BASE]
        # The spread is of one pair of runs, and the views' differ by ten; rounding is 4e-6 of the loss.
        golden.close(f"{name}.loss_base_{view}", sum(parts), relative=1e-5)
    if CONFIGS[name]:
        golden.close(f"{name}.loss_dc", terms["depth_agreement"] / 0.07)
        for view, agreement in prediction.extra["agreement"].items():
            alone = Prediction({}, extra={"agreement": {view: agreement}})
            golden.close(f"{name}.loss_dc_{PUBLISHED[view]}", DepthAgreement()(batch, alone))
        assert torch.equal(crop.zoom.float(), torch.from_numpy(golden["ratio_local"])[:, 0])
    for leaf in leaves:
        if leaf[:2] in ("aa", "tr"):
            golden.close(f"{name}.grad_{leaf}", leaves[leaf].grad, relative=3e-3)
    gradients = Golden("bdedepth_loss_grads")
    for leaf, value in leaves.items():
        key = f"{name}.grad_{leaf.removeprefix('disp_')}"
        if key in gradients.facts:
            # As in Monodepth2's: an element of scale s collects 4**s pixels that may jump.
            outliers = 0.01 * (1 + int(leaf[-1]))
            gradients.close(key, value.grad, relative=1e-4, percentile=True, outliers=outliers)
    if name == "full":
        for view, look in looks.items():
            automask = method.loss_terms["photometric"].maps(*look)[0][1]
            key = "full.automask" if view == "ori" else f"full.automask_{view}"
            assert np.sum(automask[:, 0].numpy() != golden[key]) <= 1 + 10 * golden.facts[key]["spread"]
        views = prediction.extra["views"]
        golden.close("full.restored_0", views["reshuffled"][1].disparities[0])
        golden.close("full.warped_local_m1", views["local"][1].warped[0][0])
        golden.close("full.warped_reshuffle_p1", views["reshuffled"][1].warped[0][1])


def _setting(view: str) -> str:
    return {"local": "local_crop", "reshuffle": "patch_reshuffle"}[view]


# Our own crop.


def slanted(height=64, width=96, f=70.0):
    """A slanted plane, its texture, and its image from a camera 0.3 m to the right."""
    torch.manual_seed(0)
    K = torch.tensor([[[f, 0, 50.0], [0, f + 5, 28.0], [0, 0, 1]]])
    y, x = torch.meshgrid(torch.arange(height) - 28.0, torch.arange(width) - 50.0, indexing="ij")
    depth = (4 / (1 - 0.4 * x / f + 0.3 * y / (f + 5)))[None, None]
    target = F.interpolate(torch.rand(1, 3, 10, 14), (height, width), mode="bicubic").clamp(0, 1)
    T = torch.eye(4)[None].clone()
    T[:, :3, 3] = torch.tensor([0.3, 0.02, -0.1])
    return K, depth, target, T


def test_a_crop_seen_by_its_own_camera_shows_the_same_points():
    """The crop of the depth, with the crop's intrinsics and the same motion, warps the crop of a source into
    the crop of the target, without further parameters.
    """
    K, depth, image, T = slanted()
    resampled = warp(image, depth, K, T)  # the target if `image` is the source
    batch = Batch({0: resampled, 1: image}, K, torch.arange(1), {1: T})
    crop = LocalCrop.draw(torch.tensor([[0.6, 0.3, 0.7, 0, 0]], dtype=torch.float64), (64, 96))
    cropped = crop.apply(batch)
    depth_of_crop = 1 / crop.image((1 / depth).clamp(0, 1))
    found = warp(cropped.images[1], depth_of_crop, cropped.intrinsics, T)
    inner = (..., slice(6, -6), slice(16, -16))
    assert (found - cropped.images[0])[inner].abs().mean() < 0.004
    wrong = warp(cropped.images[1], depth_of_crop, K, T)
    assert (wrong - cropped.images[0])[inner].abs().mean() > 0.05


def test_camera_of_a_crop_projects_points_to_their_crop_pixels():
    K = torch.tensor([[[70.0, 0, 50.0], [0, 75.0, 28.0], [0, 0, 1]]])
    points = torch.tensor([[[50.3, 31.8, 12.0]]])
    batch = Batch({0: torch.rand(1, 3, 64, 96)}, K, torch.arange(1), points={"m": points})
    draws = torch.tensor([[0.6, 0.3, 0.7, 0, 0]], dtype=torch.float64)
    cropped = LocalCrop.draw(draws, (64, 96)).apply(batch)
    ray = torch.linalg.solve(K[0], torch.tensor([50.3, 31.8, 1.0]))
    assert torch.allclose((cropped.intrinsics[0] @ ray)[:2], cropped.points["m"][0, 0, :2], atol=1e-4)


def test_restoring_inverts_cropping():
    ramp = torch.linspace(0.1, 0.9, 96).expand(2, 1, 64, 96) * torch.linspace(0.5, 1, 64)[:, None]
    draws = torch.rand(2, DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    crop = LocalCrop.draw(draws, (64, 96))
    restored, inside = crop.restore(crop.image(ramp), (64, 96))
    assert torch.allclose(restored[inside], ramp[inside], atol=4e-3)
    shares = inside.float().mean((1, 2, 3)) * crop.zoom.float() ** 2
    assert torch.allclose(shares, torch.ones(2), atol=0.05)  # the window is 1 / r of each side


def test_points_and_maps_follow_the_image():
    image = torch.zeros(1, 3, 64, 96)
    image[..., 30, 40] = 1
    labels = (image[:, :1] * 7).byte()
    points = torch.tensor([[[40.0, 30.0, 12.0], [2.0, 60.0, 9.0], [0.0, 0.0, 0.0]]])
    batch = Batch(
        {0: image}, torch.eye(3)[None], torch.arange(1), maps={"labels": labels}, points={"m": points}
    )
    draws = torch.tensor([[1.0, 0.4, 0.5, 0, 0]], dtype=torch.float64)
    cropped = LocalCrop.draw(draws, (64, 96)).apply(batch)
    x, y, depth = cropped.points["m"][0, 0].tolist()
    bright = cropped.images[0][0, 0]
    row, column = divmod(int(bright.argmax()), 96)
    assert abs(x - column) <= 1 and abs(y - row) <= 1 and depth == 12
    assert cropped.maps["labels"][0, 0, row, column] == 7 and cropped.maps["labels"].dtype == torch.uint8
    assert cropped.points["m"][0, 1:].tolist() == [[0, 0, 0], [0, 0, 0]]  # outside, and padding
    assert cropped.intrinsics[0, 0, 0] == cropped.intrinsics[0, 1, 1] == 2


def test_crop_of_a_detailed_image_keeps_fine_texture():
    torch.manual_seed(0)
    fine = F.interpolate(torch.rand(1, 3, 64, 96), (128, 192), mode="bicubic").clamp(0, 1)
    small = F.interpolate(fine, (64, 96), mode="bicubic", antialias=True).clamp(0, 1)
    K = torch.tensor([[[60.0, 0, 47.5], [0, 60.0, 31.5], [0, 0, 1]]])
    batch = Batch({0: small}, K, torch.arange(1))
    larger = dataclasses.replace(batch, detailed=Batch({0: fine}, K, torch.arange(1)))
    batch, larger = (Augment(flip=1, jitter=1, seed=1)(b, epoch=0) for b in (batch, larger))
    crop = LocalCrop.draw(batch.extra["draws"], (64, 96))
    plain, detailed = crop.apply(batch), crop.apply(larger)
    assert torch.equal(plain.intrinsics, detailed.intrinsics) and detailed.detailed is None

    def texture(image):
        return image.diff(dim=-1).abs().mean()

    for found, coarse in ((detailed.images[0], plain.images[0]), (detailed.augmented[0], plain.augmented[0])):
        assert texture(found) > 1.2 * texture(coarse)
        again = F.avg_pool2d(found, 4) - F.avg_pool2d(coarse, 4)  # the same window and colours otherwise
        assert again[..., 1:-1, 1:-1].abs().mean() < 0.03


def test_consistent_depth_of_crop_and_image_costs_nothing():
    """Disparity of the crop is that of things r times as near; with the zoom known they agree."""
    K, depth, image, _ = slanted()
    method = build(min_depth=1.0, max_depth=50.0)
    batch = Batch({0: image}, K, torch.arange(1), extra={"draws": torch.full((1, DRAWS), 0.5)})
    crop = LocalCrop.draw(batch.extra["draws"].double(), (64, 96))
    cropped = crop.apply(batch)

    def disparity(of):  # the sigmoid output that means this depth
        return (1 / of - 1 / 50) / (1 - 1 / 50)

    zoomed = crop.image((1 / depth).clamp(0, 1)) * crop.zoom.float()
    restored, inside = crop.restore(disparity(1 / zoomed), (64, 96))
    found = method.depth_of(restored, cropped)
    assert scale_invariant_log_error(found, depth, inside) < 1e-5


def test_crop_has_the_motion_of_its_image(monkeypatch):
    """A PoseCNN's translation is scaled by the mean inverse depth of the image, not of the window."""
    K, depth, image, _ = slanted()
    moved = []

    def grid(depth, K, T, *others):
        moved.append((depth.mean().item(), T.detach()))
        return sampling_grid(depth, K, T)

    monkeypatch.setattr("methods.monodepth2.stacked_grid", grid)
    method = build(pose_model_type="posecnn", pose_encoder=None, scales=(0,))
    model = with_views(method, {"local_crop": True})
    images = {frame: image + 0.01 * frame for frame in (0, -1, 1)}
    batch = Batch(images, K, torch.arange(1), extra={"draws": torch.full((1, DRAWS), 0.9)})
    model.train()(batch)
    (depth, T), (depth_of_crop, T_of_crop) = moved
    assert abs(depth_of_crop / depth - 1) > 0.1
    assert torch.equal(T, T_of_crop)


# In training.


def test_views_are_only_for_training_and_losses_are_averaged(drawn_batch):
    method = build()
    model = with_views(method, BOTH)
    batch = Augment(seed=3)(drawn_batch, epoch=1)
    prediction = model.train()(batch)
    assert list(prediction.extra["views"]) == ["local", "reshuffled"]
    noiseless = method.loss_terms["smoothness"]
    looks = [(batch, prediction), *prediction.extra["views"].values()]
    mean = sum(noiseless(*look) for look in looks) / 3
    terms = model.losses(batch, prediction)
    assert torch.allclose(terms["smoothness"], 1e-3 * mean)
    assert terms["depth_agreement"] > 0
    images = model.log_images(batch, prediction)
    assert {"local_target", "local_disparity", "reshuffled_disparity"} <= set(images)
    torch.stack(list(terms.values())).sum().backward()
    assert [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None] == []

    plain = model.eval()(batch)
    assert "views" not in plain.extra
    assert model.losses(batch, plain)["depth_agreement"] == 0
    assert method.state_dict().keys() == {key.removeprefix("method.") for key in model.state_dict()}


def test_draws_of_a_sample_do_not_depend_on_its_batch(drawn_batch):
    augment = Augment(seed=5)
    whole = augment(drawn_batch, epoch=2).extra["draws"]
    second = Batch({0: drawn_batch.images[0][1:]}, drawn_batch.intrinsics[1:], drawn_batch.index[1:])
    assert torch.equal(augment(second, epoch=2).extra["draws"][0], whole[1])
    assert not torch.equal(augment(second, epoch=3).extra["draws"][0], whole[1])


def test_the_loss_falls_with_both_views(drawn_batch):
    torch.manual_seed(0)
    method = build(pose_model_type="posecnn", pose_encoder=None, min_depth=0.5, max_depth=20.0)
    model = with_views(method, BOTH).train()
    optimizer = torch.optim.Adam(method.parameters(), 1e-3)
    batch = Augment(flip=0, jitter=0)(drawn_batch, epoch=0)
    losses = []
    for _ in range(8):
        total = sum(model.losses(batch, model(batch)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert all(map(math.isfinite, losses)) and losses[-1] < 0.95 * losses[0]


def test_views_of_a_rig_keep_the_cameras_together(drawn_batch):
    """Six cameras, folded: one draw for a frame set, intrinsics of each, extrinsics as they were."""
    images = {frame: image.repeat(6, 1, 1, 1)[:12] for frame, image in drawn_batch.images.items()}
    longer = torch.arange(12).view(-1, 1, 1) * torch.diag(torch.tensor([1.0, 1, 0]))
    K = drawn_batch.intrinsics[:1].repeat(12, 1, 1) + longer  # the lenses differ
    visible = torch.ones(12, 1, 64, 96, dtype=torch.bool)
    visible[..., 50:, :] = False
    batch = Batch(
        images,
        K,
        torch.arange(2),
        cameras=6,
        rig_from_camera=torch.eye(4).repeat(12, 1, 1),
        maps={"ego_mask": ~visible},
    )
    batch = Augment()(batch, epoch=0)
    model = with_views(build(), BOTH).train()
    prediction = model(batch)
    view, seen = prediction.extra["views"]["local"]
    zoom = batch.per_camera(view.extra["zoom"])
    assert torch.equal(zoom, zoom[:, :1].expand(2, 6)) and zoom[0, 0] != zoom[1, 0]
    assert torch.allclose(view.intrinsics[:, 0, 0], batch.intrinsics[:, 0, 0] * view.extra["zoom"])
    assert view.maps["ego_mask"].shape == visible.shape and view.maps["ego_mask"].dtype == torch.bool
    assert torch.equal(view.rig_from_camera, batch.rig_from_camera)
    assert seen.depths[0].shape == (12, 1, 64, 96)
    terms = model.losses(batch, prediction)
    assert all(torch.isfinite(term) for term in terms.values())


def test_surround_depth_learns_from_views_too(drawn_batch):
    """Its losses between neighbours read the crops with each image's own camera."""
    images = {frame: image[:1].repeat(3, 1, 1, 1) for frame, image in drawn_batch.images.items()}
    rig = torch.eye(4).repeat(3, 1, 1)
    rig[:, 0, 3] = torch.tensor([0.0, 0.2, 0.4])
    K = drawn_batch.intrinsics[:1].repeat(3, 1, 1)
    batch = Augment()(Batch(images, K, torch.arange(1), cameras=3, rig_from_camera=rig), epoch=0)
    method = METHODS.get("surround_depth")(
        cameras=3,
        blocks=0,
        encoder="timm/test_efficientnet",
        pose_encoder="timm/test_efficientnet",
        weights_init="scratch",
        joint_pose=True,
        scales=(0,),
        losses={"spatial": {"weight": 0.1}},
    )
    model = with_views(method, BOTH)
    prediction = model.train()(batch)
    terms = model.losses(batch, prediction)
    assert set(terms) == {"photometric", "smoothness", "spatial", "depth_agreement"}
    view, seen = prediction.extra["views"]["local"]
    plain = method.depth_of(seen.disparities[0], batch)
    assert torch.allclose(seen.depths[0], plain * view.extra["zoom"][:, None, None, None])
    sum(terms.values()).backward()


def test_depth_scaled_by_the_focal_length_is_not_zoomed_twice(drawn_batch):
    """A method whose depth is multiplied by fx has the crop's longer fx already."""

    class ByFocal(Monodepth2):
        def depth_of(self, disparity, batch):
            return 1 / (0.01 + disparity) * batch.intrinsics[:, 0, 0, None, None, None] / 60

    method = ByFocal(
        weights_init="scratch",
        scales=(0,),
        encoder="timm/test_efficientnet",
        pose_model_type="posecnn",
    )
    method.predict_disparities = lambda *_: Prediction({0: torch.full((2, 1, 64, 96), 0.1)})
    batch = Augment(jitter=0)(drawn_batch, epoch=0)
    prediction = with_views(method, {"local_crop": True}).train()(batch)
    view, seen = prediction.extra["views"]["local"]
    assert torch.allclose(seen.depths[0][:, 0, 0, 0], view.extra["zoom"] / 0.11)


def test_term_without_views_is_zero(drawn_batch):
    assert DepthAgreement()(drawn_batch, Prediction({})) == 0
    assert "depth_agreement" not in build().loss_terms


def test_invalid_views_are_refused():
    with pytest.raises(InputError, match=r"need 1 <= smallest_zoom <= largest_zoom, got 0\.5 and 2\.0"):
        Views(smallest_zoom=0.5)
    with pytest.raises(InputError, match=r"views\.detail must be a whole number of at least 1, got 0"):
        Views(detail=0)
    with pytest.raises(InputError, match="views has no setting 'local_crops'; did you mean 'local_crop'"):
        with_views(build(), {"local_crops": True})
    with pytest.raises(InputError, match="published_camera bends the poses of a ResNet"):
        with_views(build(pose_model_type="posecnn"), {"local_crop": True, "published_camera": True})
    with pytest.raises(InputError, match=r"compares augmented views; add --views\.local_crop"):
        with_views(build(), {}, {"depth_agreement": {"weight": 0.1}})


class SourceDepths(torch.nn.Module):
    """A loss term that reads the depth of the source frames."""

    predicts = ("sources.depths", "sources.T_target_from_source")

    def forward(self, batch, prediction):
        difference = [
            (source.depths[0].log() - prediction.depths[0].log()).abs().mean()
            for source in prediction.sources.values()
        ]
        assert all(0 in source.T_source_from_target for source in prediction.sources.values())
        return torch.stack(difference).mean()


def test_views_carry_the_depths_of_the_source_frames(drawn_batch, monkeypatch):
    monkeypatch.setitem(LOSSES._classes, "probe_source_depths", SourceDepths)
    method = build(losses={"probe_source_depths": {"weight": 0.1}})
    model = with_views(method, BOTH).train()
    batch = Augment(seed=1)(drawn_batch, epoch=0)
    prediction = model(batch)
    for _, seen in prediction.extra["views"].values():
        assert list(seen.sources) == [-1, 1]
        assert seen.sources[1].depths[0].shape == (2, 1, 64, 96)
    terms = model.losses(batch, prediction)
    assert terms["probe_source_depths"] > 0
    # The reshuffled view shows the network other pixels, and its maps come back at the image's.
    torch.testing.assert_close(
        prediction.extra["views"]["reshuffled"][1].T_source_from_target[1], prediction.T_source_from_target[1]
    )


def test_the_wrapper_has_all_that_the_trainer_calls():
    source = (PROJECT / "trainer.py").read_text() + (PROJECT / "validation.py").read_text()
    called = set(re.findall(r"\bmodel\.(\w+)\(", source))
    assert {"losses", "log_images"} <= called
    assert [name for name in called if not hasattr(AugmentedViews, name)] == []
