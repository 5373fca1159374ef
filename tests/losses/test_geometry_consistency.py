"""Geometry consistency under other methods than SC-Depth: it is finite, has a known value, and falls."""

import pytest
import torch

from losses.geometry_consistency import GeometryConsistency
from methods.monodepth2 import Monodepth2
from methods.packnet import PackNet
from methods.surround_depth import SurroundDepth
from structures import Batch
from tests.scdepth_goldens import predicted_pair

TINY = "timm/test_efficientnet"
SHARED = {"weights_init": "scratch", "encoder": TINY, "scales": (0,)}
METHODS = {
    "monodepth2": (Monodepth2, {"pose_encoder": TINY}),
    "packnet": (PackNet, {"pose_model_type": "posecnn"}),
    "surround_depth": (SurroundDepth, {"pose_encoder": TINY, "cameras": 2, "heads": 4, "blocks": 1}),
}


def scene(drawn_batch: Batch, rig: bool) -> Batch:
    """The drawn wall; of a rig, its two samples are two cameras side by side, half a metre apart."""
    if not rig:
        return drawn_batch
    places = torch.eye(4).repeat(2, 1, 1)
    places[1, 1, 3] = -0.5
    images = dict(drawn_batch.images)
    return Batch(images, drawn_batch.intrinsics, torch.arange(1), cameras=2, rig_from_camera=places)


@pytest.mark.parametrize("name", METHODS)
def test_the_term_trains_under_other_methods(name, drawn_batch):
    torch.manual_seed(0)
    method_class, settings = METHODS[name]
    method = method_class(**SHARED, **settings, losses={"geometry_consistency": {"weight": 1.0}}).train()
    batch = scene(drawn_batch, name == "surround_depth")
    optimizer = torch.optim.Adam(method.parameters(), 1e-3)
    history = []
    for step in range(10):
        terms = method.losses(batch, method(batch))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        if step == 0:
            missing = [key for key, p in method.named_parameters() if p.requires_grad and p.grad is None]
            assert not missing
        optimizer.step()
        assert all(term.isfinite() for term in terms.values())
        history.append(terms["geometry_consistency"].item())
    assert 0 < history[0] < 1 and sum(history[-3:]) / 3 < 0.8 * history[0], history


def test_each_camera_of_a_rig_is_compared_with_itself(drawn_batch):
    """Without motion, depths of 5 and 10 disagree by a third; the other camera's agree."""
    batch = scene(drawn_batch, rig=True)
    poses = {pair: torch.eye(4).repeat(2, 1, 1) for f in (-1, 1) for pair in ((f, 0), (0, f))}
    depths = {frame: torch.full((2, 1, 64, 96), 5.0) for frame in (0, -1, 1)}
    for frame in (-1, 1):
        depths[frame][1] = 10.0
    value = GeometryConsistency()(batch, predicted_pair(depths, poses))
    assert value.item() == pytest.approx((0 + 1 / 3) / 2, rel=1e-5)
    # Half of the disagreeing camera is its own vehicle.
    ego_mask = torch.zeros(2, 1, 64, 96, dtype=torch.bool)
    ego_mask[1, ..., 48:] = True
    batch.maps["ego_mask"] = ego_mask
    value = GeometryConsistency()(batch, predicted_pair(depths, poses))
    assert value.item() == pytest.approx(1 / 9, rel=0.05)
