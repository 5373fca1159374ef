"""Moving-object mask: leaves out objects of movable classes in images in which they move.

Moving cars break view synthesis; parked cars are as good for training as houses. The mask warps the labels
of the sources into the target view by predicted depth and motion. If movable pixels fall on movable pixels
of the target, the objects are static.

    IoU  = |M0 and M's| / |M0 or M's|       over both sources s; M movable pixels of the target, M' warped
    mask = 0 on  M0 or M'-1 or M'+1,  if IoU < threshold; 1 elsewhere and in images above it

The threshold starts at 0, which masks nothing. After each epoch it becomes a quantile of that epoch's IoU;
the quantile is the share of images that the next epoch masks (Klingner et al., Self-supervised monocular
depth estimation: solving the dynamic object problem by semantic guidance, ECCV 2020, section 3.3).
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
CAPACITY = 65536  # number of kept IoU values; later ones replace the earliest


class MovingObjects(nn.Module):
    """A weight of each pixel for photometric terms: 0 on moving objects, 1 elsewhere.

    The constructor documents the setting `moving_objects` of these terms. The threshold and the IoU of the
    epoch so far are buffers: a resumed run continues with them, and they are equal in all processes.

    Args:
        labels: source of movable pixels: `predicted`, logits of target and sources; `files`, the maps
            `labels` and `source_labels`; `instances`, the maps `instances` and `source_instances`, in which
            every value above 0 is a movable object.
        classes: train ids that can move.
        schedule: `linear` masks a share of the images that falls linearly over the epochs after `from_epoch`,
            to 0 in the last; `constant` masks the `share` of images with the lowest IoU; `always` masks
            movable pixels of all images from `from_epoch` on and computes no IoU.
        from_epoch: first epoch that measures IoU, counted from 0; `linear` and `constant` mask from the next
            epoch on.
        share: share of images that `constant` masks.

    Raises:
        InputError: unknown `labels` or `schedule`, a share outside [0, 1], a class outside 0 to 254, a
            negative epoch.
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
            raise InputError(f"moving_objects: classes are train ids from 0 to 254, got {list(classes)}")
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
        """Parts of the prediction that `forward` reads in addition to its grids."""
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
        """(B, 1, H, W) in {0, 1} from target (B, 1, H, W), warped (S, B, 1, H, W) and IoU (B,).

        An IoU of nan masks nothing.
        """
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

        A stereo partner has the same timestamp, so it shows no motion.
        """
        video = _video(batch)
        if self.labels == "instances":
            return (_map_of(batch, "source_instances")[:, video] > 0).transpose(0, 1)[:, :, None]
        if self.labels == "files":
            return self.movable[_map_of(batch, "source_labels")[:, video].long()].transpose(0, 1)[:, :, None]
        return torch.stack([self._of_logits(prediction.sources[batch.sources[n]].logits) for n in video])

    def warp(self, movable: Tensor, batch: Batch, prediction: Prediction) -> Tensor:
        """Warp `movable` (S, B·N, 1, H, W) bool into the target view, by nearest neighbour; same shape."""
        grids = prediction.grids[min(prediction.grids)]
        video = _video(batch)
        flat = torch.nan_to_num(grids[video].detach().flatten(0, 1).float())
        values = movable.flatten(0, 1).float()
        sampled = F.grid_sample(values, flat, mode="nearest", padding_mode="border", align_corners=True)
        return sampled.unflatten(0, (len(video), -1)) > 0.5

    def observe(self, iou: Tensor) -> None:
        """Store the IoU (B,) of this step's images, from all processes in the order of their ranks."""
        if dist.is_initialized() and dist.get_world_size() > 1:
            parts = [torch.empty_like(iou) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, iou.contiguous())
            iou = torch.cat(parts)
        indices = (self.count + torch.arange(len(iou), device=iou.device)) % CAPACITY
        self.observed.index_copy_(0, indices, iou)
        self.count += len(iou)

    def on_epoch_start(self, epoch: int, num_epochs: int) -> None:
        """Store the epoch, counted from 0, and the number of epochs of the run."""
        self.epoch, self.num_epochs = epoch, num_epochs

    @torch.no_grad()
    def on_epoch_end(self) -> None:
        """Set the threshold for the next epoch and clear this epoch's IoU."""
        if self.epoch >= self.from_epoch and self.schedule != "always":
            values = self.observed[~self.observed.isnan()]
            quantile = self.quantile(self.epoch, self.num_epochs)
            self.threshold.copy_(torch.quantile(values, quantile) if len(values) else self.threshold)
        self.observed.fill_(torch.nan)
        self.count.zero_()

    def quantile(self, epoch: int, num_epochs: int) -> float:
        """Quantile in [0, 1] of the IoU of `epoch` that becomes the next epoch's threshold."""
        if self.schedule == "constant":
            return self.share
        epochs = max(1, num_epochs - 1 - self.from_epoch)
        return min(1.0, max(0.0, 1 - (epoch + 1 - self.from_epoch) / epochs))

    def _of_logits(self, logits: Tensor | None) -> Tensor:
        if logits is None:
            raise InputError(
                "moving_objects reads predicted labels and the method predicts none; use --method sgdepth, "
                "or labels: files with --label_files.path"
            )
        return self.movable[logits.argmax(1, keepdim=True)]


def _map_of(batch: Batch, name: str) -> Tensor:
    """A map of the batch.

    Raises:
        InputError: the batch has no such map; the message names the setting that provides it.
    """
    if name not in batch.maps:
        kind = " with instances: true" if name.endswith("instances") else ""
        raise InputError(f"moving_objects reads the map {name}; give --label_files.path{kind}")
    return batch.maps[name]


def _video(batch: Batch) -> list[int]:
    """Indices of the video's frames among the sources.

    Raises:
        InputError: no source is a frame of the video.
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
