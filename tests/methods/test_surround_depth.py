"""SurroundDepth: the recorded poses, losses, gradients and training step, and own scenes."""

from typing import ClassVar

import numpy as np
import pytest
import torch

from layers import sampling_grid
from losses.spatial import Neighbours
from methods import check_needs
from methods._networks import Motion
from methods.surround_depth import SurroundDepth
from structures import Batch, Prediction
from tests.goldens import Golden, H, W, state_dict, tensor
from tests.networks.test_cross_view import published_depth
from utils import InputError

FOCAL_SCALE = 0.58 * W
RECORDED = [4 * H, 4 * W]  # the size the recorded matches speak of
SPATIAL = {"weight": 0.075, "published": True}
MATCHES = {"weight": 0.1, "published": RECORDED}
ROUGH = {**MATCHES, "threshold": 10.0}
JOINT = {"joint_pose": True}
# Settings of the recorded configurations; `mask` belongs to the data.
CONFIGS = {
    "nusc": {"max_depth": 80.0},
    "nusc_nofocal": {"max_depth": 80.0, "focal": False},
    "ddad": {"mask": True},
    "ddad_joint": {**JOINT, "mask": True},
    "ddad_scale": {**JOINT, "mask": True, "losses": {"spatial": SPATIAL}},
    "nusc_scale": {**JOINT, "max_depth": 80.0, "losses": {"spatial": {**SPATIAL, "weight": 0.06}}},
    "ddad_pretrain": {**JOINT, "mask": True, "losses": {"sfm_matches": MATCHES}},
    "nusc_pretrain": {**JOINT, "max_depth": 80.0, "losses": {"sfm_matches": ROUGH}},
    "nusc_pretrain_swapped": {
        **JOINT,
        "max_depth": 80.0,
        "losses": {"sfm_matches": {**ROUGH, "exchanged": True}},
    },
    "ddad_pretrain_s0": {**JOINT, "mask": True, "scales": (0,), "losses": {"sfm_matches": MATCHES}},
    "ddad_pretrain_s2": {**JOINT, "mask": True, "scales": (2,), "losses": {"sfm_matches": MATCHES}},
}
NAMES = {-1: "m1", 1: "p1"}
TINY = "timm/test_efficientnet"
SMALL = {"encoder": TINY, "pose_encoder": TINY, "heads": 4, "blocks": 1, "scales": (0,)}


@pytest.fixture(scope="module")
def golden():
    return Golden("surrounddepth_loss")


@pytest.fixture(scope="module")
def given(golden):
    return {name: tensor(value) for name, value in golden.inputs().items()}


class Recorded(SurroundDepth):
    """The recorded sources have intrinsics of their own, which no rig has: they go into the motion here,
    K T' = K_source T.
    """

    own: ClassVar[dict] = {}  # frame → (6, 4, 4) inv(K) K_source

    def pose_of(self, motion, batch):
        T = super().pose_of(motion, batch)
        return self.own[-1 if motion.invert else 1] @ T if self.own else T


def build(losses=None, **settings) -> Recorded:
    noiseless = {"photometric": {"noise": 0.0}, **(losses or {})}
    defaults = {"weights_init": "scratch", "max_depth": 200.0, "focal_scale": FOCAL_SCALE}
    method = Recorded(**{**defaults, "losses": noiseless, **settings})
    K = Golden("surrounddepth_loss")
    method.own = {f: tensor(np.linalg.inv(K["K_0"].astype(float)) @ K[f"K_{n}"]) for f, n in NAMES.items()}
    return method


def without_networks(**settings) -> SurroundDepth:
    return build(**{"encoder": TINY, "pose_encoder": TINY, "blocks": 0, **settings})


def recorded_matches(given) -> torch.Tensor:
    """(6, 95, 6) in the columns of a Batch: pixels at the network's size, padded with rows of zeros."""
    padded = torch.zeros(6, 95, 6)
    for camera in range(6):
        rows = given[f"match{camera}"].clone()
        rows[:, :2] = (rows[:, :2] + 0.5) / 4 - 0.5
        padded[camera, : len(rows)] = rows
    return padded


def make_batch(golden, given, mask: bool, matches: bool = False) -> Batch:
    images = {0: given["frame_0"], -1: given["frame_m1"], 1: given["frame_p1"]}
    return Batch(
        images,
        tensor(golden["K_0"])[:, :3, :3],
        torch.arange(1),
        cameras=6,
        rig_from_camera=tensor(golden["pose_spatial"]),
        maps={"ego_mask": given["mask"][:, :1] <= 0} if mask else {},
        points={"matches": recorded_matches(given)} if matches else {},
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_the_published_ones(golden, given, name):
    settings = dict(CONFIGS[name])
    mask = settings.pop("mask", False)
    method = without_networks(**settings)
    batch = make_batch(golden, given, mask, "sfm_matches" in method.loss_terms)
    joint = "j" if method.joint_pose else ""
    keys = [f"{joint}{kind}_{frame}" for kind in ("aa", "tr") for frame in NAMES.values()]
    leaves = {key: given[key].clone().requires_grad_() for key in keys}
    leaves |= {f"disp{s}": given[f"disp{s}"].clone().requires_grad_() for s in method.scales}
    motions = {
        frame: Motion(leaves[f"{joint}aa_{name_}"][:, 0, 0], leaves[f"{joint}tr_{name_}"][:, 0, 0], frame < 0)
        for frame, name_ in NAMES.items()
    }
    prediction = Prediction({scale: leaves[f"disp{scale}"] for scale in method.scales})
    prediction.extra["motions"] = motions
    method.add_geometry(batch, prediction)
    total = sum(method.losses(batch, prediction).values())
    total.backward()

    golden.close(f"{name}.loss", total)
    per_scale = sum(
        method.loss_weights[key] * term.per_scale(batch, prediction)
        for key, term in method.loss_terms.items()
    )
    golden.close(f"{name}.per_scale", per_scale)
    for frame, name_ in NAMES.items():
        poses = torch.linalg.inv(method.own[frame]) @ prediction.T_source_from_target[frame]
        if f"{name}.cam_T_cam_{name_}" in golden.facts:
            golden.close(f"{name}.cam_T_cam_{name_}", poses)
        for kind in ("aa", "tr"):
            gradient = leaves[f"{joint}{kind}_{name_}"].grad
            golden.close(f"{name}.grad_{kind}_{name_}", gradient, relative=3e-3)
    gradients = Golden("surrounddepth_loss_grads")
    for scale in method.scales:
        if f"{name}.grad_disp{scale}" not in gradients.facts:
            continue
        # A sample on a pixel's border takes one side or the other by rounding, as in Monodepth2's.
        gradients.close(
            f"{name}.grad_disp{scale}",
            leaves[f"disp{scale}"].grad,
            relative=1e-4,
            percentile=True,
            outliers=0.01 * (1 + scale),
        )
    if f"{name}.depth_0" in golden.facts:
        golden.close(f"{name}.depth_0", prediction.depths[0])
    if f"{name}.warped_m1_0" in golden.facts:
        golden.close(f"{name}.warped_m1_0", prediction.warped[0][batch.sources.index(-1)])
    if f"{name}.automask_0" in golden.facts:
        automask = method.loss_terms["photometric"].maps(batch, prediction)[0][1][:, 0].numpy()
        expected = golden[f"{name}.automask_0"].astype(bool)
        if mask:  # masked pixels have the warped error there, and 0 here
            expected = expected & ~batch.maps["ego_mask"][:, 0].numpy()
        assert np.mean(automask != expected) < 0.01
    if any(key.startswith(f"{name}.match_loss") for key in golden.facts):
        losses, counts = method.loss_terms["sfm_matches"].per_camera(batch, prediction)
        for scale, of_cameras in zip(method.scales, losses):
            golden.close(f"{name}.match_loss_{scale}", of_cameras)
            golden.close(f"{name}.match_count_{scale}", counts)


@pytest.mark.parametrize("name", ["ddad_scale", "nusc_scale"])
def test_neighbours_are_resampled_as_published(golden, given, name):
    method = without_networks(max_depth=CONFIGS[name].get("max_depth", 200.0))
    batch = make_batch(golden, given, "mask" in CONFIGS[name])
    depth = method.depth_of(given["disp0"], batch)
    neighbours = Neighbours(batch)
    warped, seen = neighbours.warp(depth, in_front=False)
    T, K = neighbours.T_neighbour_from_camera, neighbours.source_intrinsics
    grid = sampling_grid(depth.repeat(2, 1, 1, 1), neighbours.intrinsics, T, K).clamp(-2, 2)
    for n, direction in enumerate(("m1", "p1")):
        golden.close(f"pose_spatial_{direction}", T[6 * n : 6 * n + 6])
        if f"{name}.sample_{direction}" in golden.facts:
            golden.close(f"{name}.sample_{direction}", grid[6 * n : 6 * n + 6], outliers=0.001)
    for direction, of_neighbour, valid in zip(("m1", "p1"), warped, seen):
        golden.close(f"{name}.warped_spatial_{direction}", of_neighbour, outliers=0.001)
        assert np.mean(valid.numpy() != golden[f"{name}.mask_spatial_{direction}"]) < 1e-3


@pytest.fixture(scope="module")
def recorded_method() -> Recorded:
    method = build(joint_pose=True, losses={"spatial": SPATIAL})
    for child in ("encoder", "depth", "pose_encoder", "pose"):
        weights = state_dict(f"surrounddepth_{child}_resnet34")
        weights = {key: value for key, value in weights.items() if ".fc." not in key}
        if child == "depth":
            weights = {published_depth(key): value for key, value in weights.items()}
        getattr(method, child).load_state_dict(weights)
    return method


@pytest.mark.parametrize("kind", ["joint", "single"])
def test_poses_of_vehicle_and_cameras_are_the_published_ones(recorded_method, kind):
    golden = Golden("surrounddepth_pose_resnet34")
    given = {key: tensor(value) for key, value in golden.inputs().items()}
    images = {0: given["frame_0"], -1: given["frame_m1"], 1: given["frame_p1"]}
    batch = Batch(images, torch.eye(3).expand(6, 3, 3), torch.arange(1), cameras=6)
    batch.rig_from_camera = tensor(golden["pose_spatial"])
    method = recorded_method
    method.joint_pose, own, method.own = kind == "joint", method.own, {}
    statistics = {key: value.clone() for key, value in method.pose_encoder.named_buffers()}
    with torch.no_grad():
        last = method.eval().pose_encoder(torch.cat([images[-1], images[0]], 1))[-1]
        golden.close("feat4", last)
        for prefix, mode in (("", False), ("train_", True)):
            method.train(mode)
            motions = method.predict_motions(images, {})
            for frame, name in NAMES.items():
                pair = [frame, 0] if frame < 0 else [0, frame]
                axis_angle, translation = method.run_pose_network(pair, images, {})
                golden.close(f"{prefix}{kind}_axisangle_{name}", axis_angle[:, :, None])
                golden.close(f"{prefix}{kind}_translation_{name}", translation[:, :, None])
                golden.close(f"{prefix}{kind}_cam_T_cam_{name}", method.pose_of(motions[frame], batch))
    method.joint_pose, method.own = True, own
    method.pose_encoder.load_state_dict(statistics, strict=False)


def test_a_whole_training_step_is_the_published_one(recorded_method, golden, given):
    step = Golden("surrounddepth_step_resnet34")
    method = recorded_method.train()
    batch = make_batch(golden, given, mask=True)
    prediction = method(batch)
    terms = method.losses(batch, prediction)
    total = sum(terms.values())
    total.backward()

    step.close("loss", total)
    per_scale = sum(
        method.loss_weights[key] * term.per_scale(batch, prediction)
        for key, term in method.loss_terms.items()
    )
    step.close("per_scale", per_scale)
    for frame, name in NAMES.items():
        poses = torch.linalg.inv(method.own[frame]) @ prediction.T_source_from_target[frame]
        step.close(f"cam_T_cam_{name}", poses)
    for scale, disparity in prediction.disparities.items():
        step.close(f"disp_{scale}", disparity)
    for child in ("encoder", "depth", "pose_encoder", "pose"):
        gradients = dict(getattr(method, child).named_parameters())
        rename = published_depth if child == "depth" else str
        norms = [gradients[rename(str(key))].grad.norm().item() for key in step[f"{child}.param_names"]]
        step.close(f"{child}.grad_norm", np.array(norms), relative=2e-2)
    assert [key for key, parameter in method.named_parameters() if parameter.grad is None] == []


def small(**settings) -> SurroundDepth:
    torch.manual_seed(0)
    return SurroundDepth(**{"weights_init": "scratch", "cameras": 2, **SMALL, **settings})


def rig(cameras: int = 2, size=(64, 96), frame_sets: int = 1, overlap: float = 40.0) -> Batch:
    """Cameras turned by `overlap` degrees from one to the next, half a metre from the vehicle's middle."""
    generator = torch.Generator().manual_seed(0)
    images = {f: torch.rand(frame_sets * cameras, 3, *size, generator=generator) for f in (0, -1, 1)}
    K = torch.tensor([[60.0, 0, (size[1] - 1) / 2], [0, 60.0, (size[0] - 1) / 2], [0, 0, 1]])
    places = torch.stack([looking(overlap * n) for n in range(cameras)])
    return Batch(
        images,
        K.repeat(frame_sets * cameras, 1, 1),
        torch.arange(frame_sets),
        cameras=cameras,
        rig_from_camera=places.repeat(frame_sets, 1, 1),
    )


def looking(degrees: float) -> torch.Tensor:
    """(4, 4) rig_from_camera, turned to the left by `degrees`."""
    turn = np.radians(degrees)
    yaw = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    place = np.eye(4)
    place[:3, :3] = yaw @ [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    place[:3, 3] = yaw @ [0.5, 0, 1.5]
    return torch.from_numpy(place).float()


def test_depth_grows_with_the_focal_length():
    method = small(focal_scale=60.0).eval()
    images, K = torch.rand(2, 3, 64, 96), rig().intrinsics
    longer = K * torch.tensor([[2.0], [2.0], [1.0]])
    with torch.no_grad():
        near, far = method.predict_depth(images, K), method.predict_depth(images, longer)
        plain = small(focal=False).eval().predict_depth(images)
    torch.testing.assert_close(far, 2 * near)
    torch.testing.assert_close(plain, near)


def test_a_joint_pose_moves_every_camera_with_the_vehicle():
    method = small(joint_pose=True)
    batch = rig(frame_sets=2)
    prediction = method(batch)
    T = prediction.T_source_from_target[1]
    vehicle = batch.rig_from_camera @ T @ batch.rig_from_camera.inverse()
    torch.testing.assert_close(vehicle[0::2], vehicle[1::2], atol=1e-5, rtol=0)  # both cameras of a frame set
    assert not torch.allclose(T[0], T[1])
    with torch.no_grad():
        assert method.eval().predict_pose(batch.images[0], batch.images[1]).shape == (2, 4, 4)
        assert small().eval().predict_pose(batch.images[0], batch.images[1]).shape == (4, 4, 4)


def test_pose_unit_is_in_metres():
    method, batch = small(joint_pose=True).eval(), rig()
    pair = batch.images[0], batch.images[1]
    with torch.no_grad():
        T, moved = method(batch).T_source_from_target[-1], method.predict_pose(*pair)
        method.pose_unit = 10.0
        T_of_ten, by_ten = method(batch).T_source_from_target[-1], method.predict_pose(*pair)
    torch.testing.assert_close(by_ten[:, :3, 3], 10 * moved[:, :3, 3])
    vehicle = [batch.rig_from_camera @ pose @ batch.rig_from_camera.inverse() for pose in (T, T_of_ten)]
    torch.testing.assert_close(vehicle[1][:, :3, 3], 10 * vehicle[0][:, :3, 3], atol=1e-4, rtol=1e-3)


def test_pose_unit_applies_to_a_posecnn(monkeypatch):
    moved = []

    def grid(depth, K, T, *others):
        moved.append(T[:, :3, 3].detach())
        return sampling_grid(depth, K, T)

    monkeypatch.setattr("methods.monodepth2.stacked_grid", grid)
    method, batch = small(pose_model_type="posecnn", scales=(0,)).eval(), rig()
    method(batch)
    method.pose_unit = 10.0
    method(batch)
    torch.testing.assert_close(moved[1], 10 * moved[0])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"blocks": 0},
        {"joint_pose": True, "losses": {"spatial": {"weight": 0.1}}},
        {"joint_pose": True, "pose_model_type": "shared", "focal": False},
        {"scales": (3,)},
    ],
)
def test_every_parameter_gets_a_gradient(settings):
    method, batch = small(**settings), rig(frame_sets=2)
    sum(method.losses(batch, method(batch)).values()).backward()
    trained = [(key, p) for key, p in method.named_parameters() if p.requires_grad]
    assert [key for key, parameter in trained if parameter.grad is None] == []


def test_loss_falls_over_twenty_steps_on_one_scene(drawn_batch):
    """Two cameras side by side ahead of a wall, the vehicle stepping to the right."""
    spatial = {"spatial": {"weight": 0.1}}
    range_ = {"min_depth": 0.02, "max_depth": 20.0, "focal_scale": 60.0}
    method = small(joint_pose=True, losses=spatial, disable_automasking=True, **range_)
    batch = rig(overlap=0.0)
    batch.images, batch.intrinsics = drawn_batch.images, drawn_batch.intrinsics
    batch.images = {frame: image[:1].repeat(2, 1, 1, 1) for frame, image in batch.images.items()}
    optimizer = torch.optim.Adam(method.parameters(), 3e-4)
    history = []
    for _ in range(20):
        total = sum(method.losses(batch, method(batch)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert np.mean(history[-3:]) < 0.7 * history[0], history


def test_logged_images_have_the_layout_of_the_rig():
    method, batch = small(cameras=6, disable_automasking=True), rig(cameras=6, frame_sets=2, overlap=60.0)
    with torch.no_grad():
        shown = method.log_images(batch, method(batch))
    # Target, disparity and two warped sources above one another, three cameras by two.
    assert list(shown) == ["surround"]
    assert shown["surround"].shape == (2, 3, 2 * 4 * 64 + 4, 3 * 96 + 8)
    front_left = shown["surround"][0, :, 20:64, :96]
    assert torch.allclose(front_left, batch.images[0][1, :, 20:], atol=1 / 255)


def test_logged_images_have_the_targets_size_at_coarse_scales():
    method, batch = small(cameras=6, scales=(1, 2)), rig(cameras=6, overlap=60.0)
    with torch.no_grad():
        shown = method.log_images(batch, method(batch))["surround"]
    # Target, disparity, two warped sources and the automask.
    assert shown.shape == (1, 3, 2 * 5 * 64 + 4, 3 * 96 + 8)


def test_logged_cloud_shows_the_walls_around_the_vehicle():
    """Ahead a wall that is red, to the left a green one, both where a disparity of 0.5 puts them."""
    method = small(focal_scale=60.0, min_depth=5.0, max_depth=20.0, losses={"spatial": {"weight": 0.1}})
    batch = rig(frame_sets=2, overlap=90.0, size=(128, 192))
    batch.images[0] = torch.tensor([[1.0, 0, 0], [0, 1, 0]] * 2)[..., None, None].repeat(1, 1, 128, 192)
    batch.maps["ego_mask"] = torch.zeros(4, 1, 128, 192, dtype=torch.bool)
    batch.maps["ego_mask"][:, :, 64:] = True  # the vehicle, below the horizon
    disparity = torch.full((4, 1, 64, 96), 0.5, requires_grad=True)
    ((name, (points, colours)),) = method.log_clouds(batch, Prediction({0: disparity})).items()
    assert name == "cloud" and colours.dtype == np.uint8
    assert points.shape == colours.shape == (2 * 64 * 192, 3)
    red = colours[:, 0] == 255
    np.testing.assert_allclose(points[red, 0], 8.5, atol=1e-4)  # the camera is 0.5 m ahead, the wall 8 m
    np.testing.assert_allclose(points[~red, 1], 8.5, atol=1e-4)
    assert (points[:, 2] > 1.5).all()
    method.metric, batch.maps = False, {}
    points, _ = method.log_clouds(batch, Prediction({0: disparity}))["cloud"]
    assert len(points) == 30_000  # of 49 152
    batch.rig_from_camera = None
    assert method.log_clouds(batch, Prediction({0: disparity})) == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"joint_pose": True, "pose_model_type": "posecnn"}, "separate_resnet or shared.* got posecnn"),
        ({"joint_pose": True, "pose_model_input": "all"}, "got separate_resnet and all"),
        ({"focal_scale": 0.0}, "focal_scale must be above 0, got 0"),
        ({"heads": 5}, "5 heads do not divide"),
        ({"cameras": 0, "blocks": 0}, "cameras must be above 0, got 0"),
        ({"decoder": "grid_decoder"}, "5 features, those under a depth_decoder, got 6"),
    ],
)
def test_invalid_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        small(**settings)


def test_wrong_number_of_cameras_is_refused():
    method, batch = small(joint_pose=True), rig(cameras=3)
    with pytest.raises(InputError, match=r"reads 2 cameras .* the data has 3; --method.cameras 3"):
        method(batch)
    with pytest.raises(InputError, match="3 images are not whole frame sets of 2 cameras"):
        method.predict_depth(batch.images[0], batch.intrinsics)
    with pytest.raises(InputError, match="3 images are not whole frame sets of 2 cameras"):
        method.predict_pose(batch.images[0], batch.images[1])
    with pytest.raises(InputError, match="give the images' intrinsics"):
        method.predict_depth(batch.images[0][:2])
    batch = rig()
    batch.rig_from_camera = None
    with pytest.raises(InputError, match=r"the method needs rig_from_camera.*such as --dataset ddad"):
        check_needs(method.needed_entries(), batch)
