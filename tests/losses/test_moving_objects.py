"""Moving-object mask: published masks and thresholds, a parked and a driving car, helpful refusals."""

import numpy as np
import pytest
import torch

from losses._moving_objects import MovingObjects, overlap
from structures import Batch, Prediction
from tests import goldens, runs
from utils import PROJECT, InputError

PUBLISHED = tuple(range(11, 20))  # there, the untrained twentieth channel can move


def movable(golden, name):
    return MovingObjects(classes=PUBLISHED).movable[torch.from_numpy(golden[name]).long()][:, None]


@pytest.mark.parametrize("percent", [0, 50, 70, 90, 100])
def test_masks_are_the_published_ones(percent):
    golden = goldens.Golden("sgdepth_moving_mask")
    term = MovingObjects(classes=PUBLISHED)
    term.threshold.fill_(percent / 100)
    target = movable(golden, "segmentation")
    warped = torch.stack([movable(golden, "warped_m1"), movable(golden, "warped_1")])
    mask = term.mask(target, warped, overlap(target, warped))
    assert np.array_equal(mask[:, 0].numpy(), golden[f"moving_mask_{percent}"])


def test_overlaps_are_the_published_ones():
    golden = goldens.Golden("sgdepth_moving_mask")
    target = movable(golden, "segmentation")
    warped = torch.stack([movable(golden, "warped_m1"), movable(golden, "warped_1")])
    iou = overlap(target, warped)
    assert iou.isnan().sum() == 1  # one image has no movable pixel
    golden.close("iou_moving", iou[~iou.isnan()])
    golden.close("iou_non_moving", overlap(~target, ~warped))


@pytest.mark.parametrize("row, schedule", [(0, "constant"), (1, "linear")])
def test_thresholds_are_the_published_ones(row, schedule):
    golden = goldens.Golden("sgdepth_moving_mask")
    log = goldens.tensor(goldens.uniform("B/sgdepth_moving_mask/iou_log", (41,), 0.1, 0.95))
    thresholds = torch.zeros(5, 2)
    for column, values in enumerate((log[::2], log)):
        term = MovingObjects(schedule=schedule)
        for n, epoch in enumerate(range(14, 19)):
            term.on_epoch_start(epoch, 20)
            for iou in values.split(4):
                term.observe(iou)
            term.on_epoch_end()
            thresholds[n, column] = term.threshold
    golden_thresholds = torch.from_numpy(golden["thresholds"][row]).float()
    assert torch.allclose(thresholds, golden_thresholds, atol=2e-6)


def test_labels_are_warped_as_published():
    golden = goldens.Golden("sgdepth_warp")
    noise = goldens.uniform("B/sgdepth_warp/segmentation_1_noise", (2, 6, 8))
    moves = torch.from_numpy(np.floor(20 * noise).repeat(8, 1).repeat(8, 2))[:, None] > 10
    batch, prediction = scene(moves, moves, grids=torch.from_numpy(golden["sample_next_0"])[None])
    warped = MovingObjects().warp(moves[None], batch, prediction)
    expected = torch.from_numpy(golden["segmentation_next_ac1"]) > 10
    assert (warped[0, :, 0] != expected).sum() <= 2


def scene(target, source, grids=None):
    """A still camera; maps of labels 13 (car) where true and 0 (road) elsewhere."""
    height, width = target.shape[-2:]
    images = {frame: torch.zeros(len(target), 3, height, width) for frame in (0, 1)}
    maps = {"labels": 13 * target.byte(), "source_labels": 13 * source.byte()}
    batch = Batch(images, torch.eye(3)[None], torch.arange(len(target)), maps=maps)
    if grids is None:
        identity = torch.eye(2, 3)[None].repeat(len(target), 1, 1)
        grids = torch.nn.functional.affine_grid(identity, (len(target), 1, height, width), align_corners=True)
        grids = grids[None]
    return batch, Prediction({}, grids={0: grids})


def two_streets():
    """A parked car and one that drives on: half of its pixels stay."""
    target, source = torch.zeros(2, 1, 8, 24, dtype=torch.bool), torch.zeros(2, 1, 8, 24, dtype=torch.bool)
    target[:, :, 2:6, 4:12] = True
    source[0] = target[0]
    source[1, :, 2:6, 8:16] = True
    return target, source


def test_a_parked_car_is_kept_and_a_driving_one_masked():
    target, source = two_streets()
    term = MovingObjects(labels="files", from_epoch=0)
    term.on_epoch_start(0, 3)
    assert (term(*scene(target, source)) == 1).all()  # the first epoch only measures
    assert term.observed[:2].tolist() == pytest.approx([1.0, 1 / 3])
    term.on_epoch_end()
    assert term.threshold.item() == pytest.approx(2 / 3)  # the median of both
    term.on_epoch_start(1, 3)
    mask = term(*scene(target, source))
    assert (mask[0] == 1).all()
    assert torch.equal(mask[1] == 0, target[1] | source[1])


def test_evaluation_neither_masks_nor_measures():
    target, source = two_streets()
    term = MovingObjects(labels="files", from_epoch=0).eval()
    term.threshold.fill_(1.1)
    assert (term(*scene(target, source)) == 1).all() and term.count == 0


def test_always_masks_every_movable_pixel_of_the_target():
    target, source = two_streets()
    term = MovingObjects(labels="files", schedule="always", from_epoch=0)
    batch, prediction = scene(target, source)
    del batch.maps["source_labels"]
    assert torch.equal(term(batch, prediction) == 0, target)
    assert term.needs == ("maps.labels",)


def test_predicted_logits_and_instances_mask_like_files():
    target, source = two_streets()
    masks = []
    for labels in ("files", "predicted", "instances"):
        batch, prediction = scene(target, source)
        batch.maps |= {"instances": 7 * target.int(), "source_instances": 3 * source.int()}
        one_hot = [
            torch.zeros(2, 20, 8, 24).masked_fill(m & (torch.arange(20) == 13)[:, None, None], 5.0)
            for m in (target, source)
        ]
        for logits in one_hot:
            logits[:, 0] += 1
        prediction.logits = one_hot[0]
        prediction.sources = {1: Prediction({}, logits=one_hot[1])}
        term = MovingObjects(labels=labels, from_epoch=0)
        term.threshold.fill_(0.5)
        masks.append(term(batch, prediction))
    assert (masks[0] == 0).any()
    assert torch.equal(masks[0], masks[1]) and torch.equal(masks[0], masks[2])


def test_a_checkpoint_holds_threshold_and_measured_overlaps():
    target, source = two_streets()
    term = MovingObjects(labels="files", from_epoch=0)
    term.threshold.fill_(0.25)
    term(*scene(target, source))
    again = MovingObjects(labels="files", from_epoch=0)
    again.load_state_dict(term.state_dict())
    for one in (term, again):
        one.on_epoch_start(1, 4)
        one(*scene(target, source))
        one.on_epoch_end()
    assert again.threshold == term.threshold != 0.25


def test_the_last_epochs_neither_fail_nor_leave_the_range():
    term = MovingObjects(from_epoch=15)
    assert term.quantile(19, 20) == 0  # published: a percentile of -25
    assert MovingObjects(from_epoch=19).quantile(19, 20) == 0  # published: a division by zero


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"labels": "predicte"}, "did you mean 'predicted'"),
        ({"schedule": "never"}, "no schedule 'never'"),
        ({"share": 2.0}, "share is in \\[0, 1\\], got 2.0"),
        ({"classes": [300]}, "classes are train ids from 0 to 254"),
        ({"from_epoch": -1}, "counts from 0, got -1"),
    ],
)
def test_invalid_settings_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        MovingObjects(**settings)


def test_stereo_without_video_is_refused():
    target, source = two_streets()
    batch, prediction = scene(target, source)
    batch.images["s"] = batch.images.pop(1)
    with pytest.raises(InputError, match="add -1 and 1 to --frame_ids"):
        MovingObjects(labels="files", from_epoch=0)(batch, prediction)


SCRIPT = """
import torch, torch.distributed as dist
from losses._moving_objects import MovingObjects
dist.init_process_group("gloo")
term = MovingObjects(from_epoch=0, schedule="constant", share=0.5)
term.observe(torch.tensor([[0.1, 0.2], [0.3, float("nan")]])[dist.get_rank()])
kept = term.observed[:int(term.count)].tolist()
term.on_epoch_end()
shown = f"{[round(x, 3) for x in kept[:3]]} {len(kept)} {round(term.threshold.item(), 3)}"
print(f"rank {dist.get_rank()} {shown}\\n", end="", flush=True)  # one write, so that lines stay whole
dist.barrier(); dist.destroy_process_group()
"""


def test_all_processes_hold_the_overlaps_of_all(tmp_path):
    script = tmp_path / "observe.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n{SCRIPT}")
    launch = ("-m", "torch.distributed.run", "--nproc_per_node", 2, "--master_port", runs.free_port())
    output = runs.finish(runs.start(*launch, script))
    for rank in (0, 1):
        assert f"rank {rank} [0.1, 0.2, 0.3] 4 0.2" in output


@pytest.mark.parametrize(
    "labels, words",
    [
        ("predicted", "the method predicts none; use --method sgdepth, or labels: files"),
        ("files", r"reads the map labels; give --label_files\.path$"),
        ("instances", r"reads the map instances; give --label_files\.path with instances: true"),
    ],
)
def test_missing_labels_name_the_setting(labels, words):
    batch, prediction = scene(*two_streets())
    batch.maps.clear()
    with pytest.raises(InputError, match=words):
        MovingObjects(labels=labels, from_epoch=0)(batch, prediction)
