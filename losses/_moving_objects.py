"""Moving-object mask: leaves out objects of movable classes in images where they do move.

Cars that drive break view synthesis, parked cars teach depth like houses. The labels of the sources, warped
into the target view by predicted depth and motion, tell which it is: where movable pixels end up on movable
pixels, nothing moves.

    IoU  = |M0 and M's| / |M0 or M's|       over both sources s; M movable pixels of the target, M' warped
    mask = 0 on  M0 or M'-1 or M'+1,  if IoU < threshold; 1 elsewhere and in images above it

The threshold begins at 0, where nothing is masked. After each epoch it becomes a quantile of that epoch's
IoU: the share of images that the next epoch masks (Klingner et al., Self-supervised monocular depth
estimation: solving the dynamic object problem by semantic guidance, ECCV 2020, section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from structures import Batch, Prediction
from utils import InputError, nearest_name

MOVABLE = tuple(range(11, 19))  # Cityscapes' train ids: person, rider, car, truck, bus, train, two-wheelers
LABELS = ("predicted", "files", "instances")
SCHEDULES = ("linear", "constant", "always")
CAPACITY = 65536  # images whose IoU is kept; later ones replace the earliest


class MovingObjects(nn.Module):
    """A weight of each pixel for photometric terms: 0 on moving objects, 1 elsewhere.

    The constructor documents the setting `moving_objects` of the terms that take it. The threshold and the
    IoU of the epoch so far are buffers: a resumed run goes on with them, and all processes hold the same.

    Args:
        labels: where movable pixels come from: `predicted` logits of target and sources; label `files`, the
            maps `labels` and `source_labels`; `instances`, the maps `instances` and `source_instances`,
            where every value above 0 is a movable object.
        classes: train ids that can move.
        schedule: `linear` masks a share of the images that falls evenly over the epochs after `from_epoch`,
            to none in the last; `constant` masks the `share` of images with the least IoU; `always` masks
            movable pixels of all images from `from_epoch` on and compares nothing.
        from_epoch: first epoch that measures IoU, counted from 0; masks of `linear` and `constant` begin in
            the next.
        share: share of images that `constant` masks.

    Raises:
        InputError: an unknown word, a share outside [0, 1], a class outside 0 to 254, a negative epoch.
    """

    threshold: Tensor
    observed: Tensor
    count: Tensor

    def __init__(
        self,
        labels: str = "predicted",
        classes: Sequence[int] = MOVABLE,
        schedule: str = "linear",
        from_epoch: int = 15,
        share: float = 0.1,
    ) -> None:
        super().__init__()
        for what, value, known in (("labels", labels, LABELS), ("schedule", schedule, SCHEDULES)):
            if value not in known:
                raise InputError(f"moving_objects has no {what} '{value}'{nearest_name(value, known)}")
        if not 0 <= share <= 1:
            raise InputError(f"moving_objects: share is in [0, 1], got {share}")
        if from_epoch < 0:
            raise InputError(f"moving_objects: from_epoch counts from 0, got {from_epoch}")
        if not classes or not set(classes) <= set(range(255)):
            raise InputError(f"moving_objects: classes are train ids of 0 to 254, got {list(classes)}")
        self.labels, self.schedule, self.from_epoch, self.share = labels, schedule, from_epoch, share
        self.epoch, self.num_epochs = 0, 1
        table = torch.zeros(256, dtype=torch.bool)
        table[list(classes)] = True
        self.register_buffer("movable", table, persistent=False)
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("observed", torch.full((CAPACITY,), torch.nan))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def needs(self) -> tuple[str, ...]:
        """Entries of the batch that `forward` reads."""
        if self.labels == "predicted":
            return ()
        name = "labels" if self.labels == "files" else "instances"
        return (f"maps.{name}",) if self.schedule == "always" else (f"maps.{name}", f"maps.source_{name}")

    @property
    def predicts(self) -> tuple[str, ...]:
        """Parts of the prediction that `forward` reads besides its grids."""
        if self.labels != "predicted":
            return ()
        return ("logits",) if self.schedule == "always" else ("logits", "sources.logits")

    @property
    def active(self) -> bool:
        """Whether this epoch measures IoU and masks; a method predicts labels only then."""
        return self.training and self.epoch >= self.from_epoch

    @torch.no_grad()
    def forward(self, batch: Batch, prediction: Prediction) -> Tensor:
        """The weight of each pixel.

        Returns:
            (B·N, 1, H, W), 0 on moving objects and 1 elsewhere; all 1 while not `active`.
        """
        if not self.active:
            return torch.ones_like(batch.images[0][:, :1])
        target = self.movable_target(batch, prediction)
        if self.schedule == "always":
            return 1 - target.float()
        warped = self.warp(self.movable_sources(batch, prediction), batch, prediction)
        iou = overlap(target, warped)
        self.observe(iou)
        return self.mask(target, warped, iou)

    def mask(self, target: Tensor, warped: Tensor, iou: Tensor) -> Tensor:
        """(B, 1, H, W) in {0, 1} from (B, 1, H, W) and (S, B, 1, H, W) bool and (B,); nan masks nothing."""
        moving = (iou < self.threshold)[:, None, None, None]
        return 1 - (moving & (target | warped.any(0))).float()

    def movable_target(self, batch: Batch, prediction: Prediction) -> Tensor:
        """(B·N, 1, H, W) bool."""
        if self.labels == "instances":
            return _map_of(batch, "instances") > 0
        if self.labels == "files":
            return self.movable[_map_of(batch, "labels").long()]
        return self._of_logits(prediction.logits)

    def movable_sources(self, batch: Batch, prediction: Prediction) -> Tensor:
        """(S, B·N, 1, H, W) bool of the sources in the order of the batch, without a stereo partner.

        A stereo partner shows the same instant, hence no motion.
        """
        video = _video(batch)
        if self.labels == "instances":
            return (_map_of(batch, "source_instances")[:, video] > 0).transpose(0, 1)[:, :, None]
        if self.labels == "files":
            return self.movable[_map_of(batch, "source_labels")[:, video].long()].transpose(0, 1)[:, :, None]
        return torch.stack([self._of_logits(prediction.sources[batch.sources[n]].logits) for n in video])

    def warp(self, movable: Tensor, batch: Batch, prediction: Prediction) -> Tensor:
        """The nearest pixel of each source, (S, B·N, 1, H, W) bool; arguments as `movable_sources`."""
        grids = prediction.grids[min(prediction.grids)]
        video = _video(batch)
        flat = torch.nan_to_num(grids[video].detach().flatten(0, 1).float())
        values = movable.flatten(0, 1).float()
        sampled = F.grid_sample(values, flat, mode="nearest", padding_mode="border", align_corners=True)
        return sampled.unflatten(0, (len(video), -1)) > 0.5

    def observe(self, iou: Tensor) -> None:
        """Keep the IoU (B,) of this step's images, those of all processes in the order of their ranks."""
        if dist.is_initialized() and dist.get_world_size() > 1:
            parts = [torch.empty_like(iou) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, iou.contiguous())
            iou = torch.cat(parts)
        places = (self.count + torch.arange(len(iou), device=iou.device)) % CAPACITY
        self.observed.index_copy_(0, places, iou)
        self.count += len(iou)

    def on_epoch_start(self, epoch: int, num_epochs: int) -> None:
        """Tell the epoch, counted from 0, and the number of epochs of the run."""
        self.epoch, self.num_epochs = epoch, num_epochs

    @torch.no_grad()
    def on_epoch_end(self) -> None:
        """Set the threshold for the next epoch and forget this epoch's IoU."""
        if self.epoch >= self.from_epoch and self.schedule != "always":
            values = self.observed[~self.observed.isnan()]
            quantile = self.quantile(self.epoch, self.num_epochs)
            self.threshold.copy_(torch.quantile(values, quantile) if len(values) else self.threshold)
        self.observed.fill_(torch.nan)
        self.count.zero_()

    def quantile(self, epoch: int, num_epochs: int) -> float:
        """The quantile of the IoU of `epoch` that is the next epoch's threshold, in [0, 1]."""
        if self.schedule == "constant":
            return self.share
        epochs = max(1, num_epochs - 1 - self.from_epoch)
        return min(1.0, max(0.0, 1 - (epoch + 1 - self.from_epoch) / epochs))

    def _of_logits(self, logits: Tensor | None) -> Tensor:
        if logits is None:
            raise InputError(
                "moving_objects reads predicted labels and the method predicts none; take --method sgdepth, "
                "or labels: files with --label_files.path"
            )
        return self.movable[logits.argmax(1, keepdim=True)]


def _map_of(batch: Batch, name: str) -> Tensor:
    """A map of the batch.

    Raises:
        InputError: there is none; the sentence names the section that gives it.
    """
    if name not in batch.maps:
        kind = " with instances: true" if name.endswith("instances") else ""
        raise InputError(f"moving_objects reads the map {name}; give --label_files.path{kind}")
    return batch.maps[name]


def _video(batch: Batch) -> list[int]:
    """Places of the video's frames among the sources.

    Raises:
        InputError: there are none.
    """
    video = [n for n, frame in enumerate(batch.sources) if frame != "s"]
    if not video:
        raise InputError(
            "moving_objects compares frames of a video and frame_ids has none; add -1 and 1 to --frame_ids"
        )
    return video


def overlap(target: Tensor, warped: Tensor) -> Tensor:
    """IoU of the movable pixels of each image, over all its sources.

    Args:
        target: (B, 1, H, W) bool.
        warped: (S, B, 1, H, W) bool.

    Returns:
        (B,) in [0, 1]; nan for an image without a movable pixel in any frame.
    """
    both = (target & warped).sum((0, 2, 3, 4))
    either = (target | warped).sum((0, 2, 3, 4))
    return both / either
