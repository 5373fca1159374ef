"""The contract between the trainer, evaluation and a method: networks, and the losses that train them.

    training     prediction = method(batch);   loss = sum of method.losses(batch, prediction)
    inference    prediction = method.predict(batch)

`forward` has two stages, so that augmented views (views/) can transform the output of the networks before any
geometry uses it: `run_networks` fills disparities, masks and motions, `add_geometry` fills the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from losses import LOSSES
from losses._pseudo_depth import RankOrder
from methods._cameras import CAMERA_RATE, LearnedCameras
from structures import Batch, Frame, Prediction
from utils import InputError, check_settings

_MAKES = {  # part of a prediction → the setting that makes it
    "masks": "add --predictive_mask",
    "extra.features": "--method featdepth predicts them",
    "extra.features.levels": "--method featdepth with --method.joint true predicts them",
    "extra.features.reconstructions": "--method featdepth with --method.joint true predicts them",
    "logits": "--method sgdepth predicts them",
    "companion.logits": "--method sgdepth predicts them",
    "extra.rectified": "--method sc_depth --method.version v2 predicts them",
}


class Method(nn.Module):
    """Networks and the loss terms that train them.

    Sub-networks are attributes named as in `models_to_load` (encoder, depth, pose_encoder, pose, ...); a
    checkpoint keys them by these names. Networks may run in bfloat16 (`precision`); their outputs, all
    geometry and all losses are float32.

    Attributes:
        precision: number format of the networks; the trainer sets bfloat16.
        cameras: number of synchronised cameras that are processed jointly; 1: any single image.
        epoch: the current epoch, from 0; terms with a later `from_epoch` are left out.
        defaults: option defaults that this method overrides.
        needs: batch entries that the method reads, in addition to those of its loss terms, such as
            "rig_from_camera" or "companion.maps.labels".
        provides: parts of a prediction that this method can make for its loss terms (`LossTerm.predicts`).
        only_for_training: sub-networks that inference does without; a checkpoint may lack them.
        camera: intrinsics that are learned; None if they are given.
        tasks: the tasks that a validation measures, of "depth" and "segmentation"; none for a stage of
            training that is validated only by its loss.
    """

    precision: torch.dtype = torch.float32
    cameras: int = 1
    epoch: int = 0
    defaults: ClassVar[dict[str, Any]] = {}
    needs: ClassVar[tuple[str, ...]] = ()
    provides: ClassVar[tuple[str, ...]] = ()
    only_for_training: ClassVar[tuple[str, ...]] = ("pose_encoder", "pose", "predictive_mask")
    camera: LearnedCameras | None
    tasks: tuple[str, ...] = ("depth",)

    def __init__(self) -> None:
        super().__init__()
        self.camera = None

    def forward(self, batch: Batch) -> Prediction:
        """Everything that the loss terms read, for a float Batch on the method's device."""
        prediction = self.run_networks(batch)
        self.add_geometry(batch, prediction)
        return prediction

    def run_networks(self, batch: Batch, plain: Prediction | None = None) -> Prediction:
        """First stage of `forward`: outputs of the networks, float32.

        Args:
            batch: images in [0, 1].
            plain: for an augmented view, the prediction of the untransformed batch. Its motions are used and
                no pose network runs; its `depths`, if any, are the scene that a PoseCNN's translation is
                scaled by.
        """
        raise NotImplementedError

    def add_geometry(self, batch: Batch, prediction: Prediction) -> None:
        """Second stage of `forward`: fill depths, poses, sampling grids and warped sources in place."""
        raise NotImplementedError

    def predict(self, batch: Batch) -> Prediction:
        """Inference on the targets of a batch.

        Args:
            batch: `images[0]` (B·N, 3, H, W) in [0, 1] at the network's size; intrinsics and maps if the
                method reads them.

        Returns:
            `disparities[0]` and `depths[0]` (B·N, 1, H, W); metres if the method is metric, else up to scale.
            A method with a segmentation head also fills `logits`.
        """
        raise NotImplementedError

    def predict_depth(self, images: Tensor, intrinsics: Tensor | None = None) -> Tensor:
        """Depth of images (B·N, 3, H, W) in [0, 1], without a Batch around them. See `predict`."""
        samples = torch.arange(images.shape[0] // self.cameras)  # len() would fix the batch of an export
        batch = Batch({0: images}, intrinsics, samples, cameras=self.cameras)
        return self.predict(batch).depths[0]

    def predict_pose(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Motion between two images.

        Args:
            earlier, later: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 4, 4), T_later_from_earlier, the translation in the unit of the depth.
        """
        raise NotImplementedError

    # Losses.

    def build_losses(
        self, defaults: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Build the loss terms: `loss_terms`, `loss_weights` and `loss_epochs` (first epoch), by name.

        Args:
            defaults: term → its default settings, `weight` among them.
            chosen: term → settings over the defaults; a weight of 0 removes a term. A term that is not among
                the defaults has a weight of 1. `from_epoch` is the first epoch (from 0) that a term acts in.

        Raises:
            InputError: an unknown term or setting; no term is left; a term reads a part of the prediction
                that this method does not make.
        """
        self.rank_order = RankOrder()
        self.loss_weights: dict[str, float] = {}
        self.loss_epochs: dict[str, int] = {}
        self.loss_terms = nn.ModuleDict()
        for name in [*defaults, *(name for name in chosen if name not in defaults)]:
            settings = {**defaults.get(name, {"weight": 1.0}), **(chosen.get(name) or {})}
            weight, from_epoch = float(settings.pop("weight", 1.0)), settings.pop("from_epoch", 0)
            term = LOSSES.get(name)
            check_settings(f"loss {name}", term, settings)
            if from_epoch < 0:
                raise InputError(f"losses.{name}.from_epoch must be 0 or more, got {from_epoch}")
            if weight:
                self.loss_weights[name], self.loss_epochs[name] = weight, int(from_epoch)
                self.loss_terms[name] = term(**settings)
                self._check_predicts(name, self.loss_terms[name])
        if not self.loss_terms:
            raise InputError(
                "all loss terms have a weight of 0; leave one at 1, such as --losses.photometric.weight 1"
            )

    def _check_predicts(self, name: str, term: nn.Module) -> None:
        for part in getattr(term, "predicts", ()):
            if part not in self.provides:
                made = ", ".join(self.provides) or "none of these"
                fix = _MAKES.get(part, f"leave the term out with --losses.{name}.weight 0")
                raise InputError(
                    f"losses.{name} reads {part} of the prediction, which the method "
                    f"{type(self).__name__} does not make here (it makes: {made}); {fix}"
                )

    def losses(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Weighted scalars by name; their sum is minimised. Terms with a later `from_epoch` are absent.

        A training that learns intrinsics adds `focal_length`, see `LearnedCameras.loss`.
        """
        with self.in_float32():
            if self.training and "pseudo_depth" in batch.maps:
                self.rank_order.add(batch, prediction)
            terms = {
                name: self.loss_weights[name] * term(batch, prediction)
                for name, term in self.loss_terms.items()
                if self.loss_epochs[name] <= self.epoch
            }
            if self.training and self.camera is not None:
                terms["focal_length"] = self.camera.loss()
            return terms

    def needed_entries(self) -> dict[str, str]:
        """Batch entry → who reads it, for `check_needs`."""
        needed = {entry: "the method" for entry in self.needs}
        for name, term in self.loss_terms.items():
            needed |= {entry: f"losses.{name}" for entry in getattr(term, "needs", ())}
        return needed

    def reads(self, part: str) -> bool:
        """True if a loss term reads this part of the prediction, such as "sources.depths"."""
        return any(part in getattr(term, "predicts", ()) for term in self.loss_terms.values())

    def reads_entry(self, entry: str) -> bool:
        """True if the method or a loss term reads this batch entry, such as "maps.pseudo_depth"."""
        return entry in self.needed_entries()

    @property
    def reads_intrinsics(self) -> bool:
        """True if `predict` needs the intrinsics of the images."""
        return False

    @property
    def fixes_metric_scale(self) -> bool:
        """True if a loss term fixes metric scale; `metric_scale.metric_scale` also knows stereo."""
        return any(getattr(term, "gives_metric_scale", False) for term in self.loss_terms.values())

    @property
    def depth_frames(self) -> tuple[Frame, ...]:
        """Frames whose depth is predicted in training: the target, and the sources if a term reads them."""
        frames: Sequence[Frame] = getattr(self, "frame_ids", (0,))
        return tuple(frames) if self.reads("sources.depths") else (0,)

    # Training.

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser; `lr_factor` of a group scales its learning rate."""
        learned = [] if self.camera is None else list(self.camera.parameters())
        others = [p for p in self.parameters() if p.requires_grad and all(p is not one for one in learned)]
        groups: list[dict[str, Any]] = [{"params": others}]
        if learned:  # a weight decay would pull them back to their start
            groups.append({"params": learned, "weight_decay": 0.0, "lr_factor": CAMERA_RATE})
        return groups

    def with_camera(self, batch: Batch) -> Batch:
        """The batch with the learned intrinsics, if they are learned. Called before it is augmented."""
        return batch if self.camera is None else self.camera(batch)

    def on_epoch_start(self, epoch: int, num_epochs: int) -> None:
        """Set the epoch, also of terms with a schedule.

        The trainer calls it before each epoch, and again when a run resumes within an epoch.
        """
        self.epoch = epoch
        for term in getattr(self, "loss_terms", {}).values():
            if hasattr(term, "on_epoch_start"):
                term.on_epoch_start(epoch, num_epochs)

    def diagnose(self, batch: Batch, prediction: Prediction) -> list[str]:
        """Sentences about a training that goes wrong, from the terms that look for it. Waits for the GPU."""
        terms = getattr(self, "loss_terms", {}).items()
        terms = [term for name, term in terms if self.loss_epochs[name] <= self.epoch]
        found = [term.diagnose(batch, prediction) for term in terms if hasattr(term, "diagnose")]
        return [sentence for sentence in found if sentence]

    def epoch_statistics(self) -> dict[str, Any]:
        """Numbers of this process's epoch that `on_epoch_end` needs from every process."""
        sums = self.rank_order.take()
        return {"rank_order": sums} if self.reads_entry("maps.pseudo_depth") else {}

    def on_epoch_end(self, epoch: int, gathered: Sequence[Mapping[str, Any]]) -> list[str]:
        """Called after each epoch.

        Args:
            epoch: the epoch that ended, from 0.
            gathered: `epoch_statistics` of every process. State that later epochs use lives in buffers, so
                that checkpoints hold it. A loss term may have `on_epoch_end()`.

        Returns:
            Sentences for the log.
        """
        for term in self.loss_terms.values():
            if hasattr(term, "on_epoch_end"):
                term.on_epoch_end()
        sentence = RankOrder.sentence(epoch, gathered)
        return [sentence] if sentence else []

    def log_images(self, batch: Batch, prediction: Prediction) -> dict[str, Tensor]:
        """Images for the logs: name → (B, 3 or 1, H, W) in [0, 1]."""
        return {}

    def log_clouds(self, batch: Batch, prediction: Prediction) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Point clouds for the logs: name → (K, 3) x forward, y left, z up, and (K, 3) uint8 RGB."""
        return {}

    def networks_autocast(self) -> torch.autocast:
        """The context that networks run in: lower precision if requested."""
        device = next(self.parameters()).device.type
        return torch.autocast(device, self.precision, enabled=self.precision != torch.float32)

    def in_float32(self) -> torch.autocast:
        """The context of geometry and losses: float32 even inside a caller's autocast."""
        return torch.autocast(next(self.parameters()).device.type, enabled=False)
