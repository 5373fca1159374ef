"""The options of a run: each stands here once, with its name, type, default, help and check.

Components have further settings (`--losses.smoothness.weight`), declared by their constructors. Flags of
other systems that mean one of these options are in `options/aliases.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from options.values import MEANING, boolean, frame_id, is_nothing, number, shown, text, whole
from utils import WORKERS, InputError, nearest_name

MOST_SEED = 2**62  # generators take 64 bits, and a run derives further seeds from this one


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: name of the flag; the same in configs.
        help: a phrase that can be understood without the lines around it.
        kind: reads one value from its text; see `options/values.py`.
        default: its value if it is not given. An option whose default is None accepts `none`.
        several: it takes several values.
        choices: the words it accepts.
        check: None for a possible value, otherwise what it must be in words, perhaps "; " and a hint.
        shown: the default in words, for one that depends on other options.
        metavar: the value's name in the help.
        of_call: it concerns one call of run.py and is not kept in the run folder.
    """

    name: str
    help: str
    kind: Callable[[Any], Any] = text
    default: Any = None
    several: bool = False
    choices: tuple[str, ...] = ()
    check: Callable[[Any], str | None] | None = None
    shown: str = ""
    metavar: str = ""
    of_call: bool = False

    def read(self, value: Any) -> Any:
        """A value of the option from text or from a config.

        Raises:
            ValueError: the message says what the value must be.
        """
        if not self.several:
            items = [value]
        elif not (items := list(value) if isinstance(value, (list, tuple)) else str(value).split()):
            raise ValueError("needs at least one value")
        if self.default is None and len(items) == 1 and is_nothing(items[0]):
            return None
        found = [self._read_one(item) for item in items]
        return found if self.several else found[0]

    def _read_one(self, value: Any) -> Any:
        if self.kind is text and is_nothing(value):
            raise ValueError(f"needs a value, got {shown(value)}")
        try:
            result = self.kind(value)
        except (ValueError, OverflowError):
            raise ValueError(f"must be {MEANING[self.kind]}, got {shown(value)}") from None
        if self.choices and result not in self.choices:
            guess = nearest_name(str(result), self.choices)
            words = f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
            raise ValueError(f"must be {words}, got {shown(value)}{guess.partition(' (')[0]}")
        return result

    def verify(self, value: Any) -> None:
        """Raise an `InputError` if `value` is not possible."""
        if value is None or self.check is None:
            return
        for item in value if self.several else [value]:
            if wrong := self.check(item):
                words, separator, hint = wrong.partition("; ")
                raise InputError(f"--{self.name} must be {words}, got {item}{separator}{hint}")


def at_least(least: float, most: float = math.inf) -> Callable[[Any], str | None]:
    """Check of a finite number that is not smaller than `least` nor larger than `most`."""
    words = f"at least {least}" if most == math.inf else f"{least} to {most}"
    return lambda value: None if least <= value <= most and value < math.inf else words


def above(least: float) -> Callable[[Any], str | None]:
    """Check of a finite number that is larger than `least`."""
    return lambda value: None if least < value < math.inf else f"above {least}"


def fraction(value: float) -> str | None:
    """Check of a number in [0, 1): None if it is, otherwise the condition in words."""
    return None if 0 <= value < 1 else "at least 0 and below 1"


def network_side(value: int) -> str | None:
    """Check of the network's height or width; decoders reflect borders, two rows at a 32nd of the size."""
    if value >= 64 and value % 32 == 0:
        return None
    return f"a multiple of 32 from 64 on; try {max(64, round(value / 32) * 32)}"


def run_name(value: str) -> str | None:
    """Check of the name of a run folder: None if it stays inside the folder of runs."""
    parts = PurePath(value).parts
    inside = bool(parts) and ".." not in parts and not PurePath(value).is_absolute()
    return None if inside else "a name inside --log_dir; try --model_name first"


def switch(name: str, words: str, **facts: Any) -> Option:
    """An option that is on if its flag is given."""
    return Option(name, words, boolean, False, **facts)


GROUPS: dict[str, list[Option]] = {
    "what to do": [
        Option("config", "config files to read; later ones win", several=True, default=(), metavar="FILE",
               shown="none", of_call=True),
        switch("eval_only",
               "evaluate the run or --load_weights_folder instead of training; evaluate_depth.py has more "
               "options", of_call=True),
        switch("list", "print the names of methods, networks, losses, datasets, splits and configs",
               of_call=True),
        switch("dry_run", "check and build everything, measure a step, print time and memory, train nothing",
               of_call=True),
        Option("resume", "continue a run from a checkpoint; auto (or no value): its last one if there is one",
               text, "never", metavar="auto|never|FILE", of_call=True),
    ],
    "folders": [
        Option("data_path", "root folder of the dataset", metavar="FOLDER",
               shown="$PARALLAX_DATA/<dataset>, else data/<dataset>"),
        Option("log_dir", "folder in which run folders are created", text, "runs", metavar="FOLDER"),
        Option("model_name", "name of the run folder", metavar="NAME", check=run_name,
               shown="that of the first config, else of the method"),
        Option("load_weights_folder", "run folder or published checkpoint whose weights training starts from",
               metavar="PATH"),
        Option("models_to_load", "sub-networks whose weights are loaded, such as encoder depth", several=True,
               metavar="NAME", shown="all of the model's"),
    ],
    "data": [
        Option("dataset", "dataset to train on, a file of datasets/", text, "kitti", metavar="NAME"),
        Option("split", "list of training frames: a split's name or a folder of lists", metavar="NAME",
               shown="the dataset's own"),
        Option("height", "height of the network's input in pixels, a multiple of 32", whole,
               check=network_side, metavar="PIXELS", shown="the dataset's, mostly 192"),
        Option("width", "width of the network's input in pixels, a multiple of 32", whole, check=network_side,
               metavar="PIXELS", shown="the dataset's, mostly 640"),
        Option("frame_ids",
               "frames of a sample: 0 is the target, the others are sources; s is the stereo partner",
               frame_id, (0, -1, 1), several=True, metavar="FRAME"),
        switch("use_stereo", "add the stereo partner to the source frames"),
        Option("resize", "filter that resizes images to the network's size; published: lanczos or bilinear",
               text, "bicubic", choices=("bicubic", "lanczos", "bilinear")),
        switch("skip_missing", "leave out samples whose images are not all there"),
        Option("packed", "folder of packed images to read in place of the files (tools/pack_dataset.py)",
               metavar="FOLDER"),
        Option("num_workers", "data loader processes for each training process", whole, WORKERS,
               check=at_least(0), metavar="N"),
    ],
    "model": [
        Option("method", "training method, a file of methods/", text, "monodepth2", metavar="NAME"),
        Option("num_layers", "layers of the ResNet encoders: 18, 34, 50, 101 or 152", whole, metavar="N",
               shown="the method's own, 18 or 34"),
        Option("encoder", "depth encoder: resnet18, hrnet18, a file of networks/ or any timm model",
               metavar="NAME", shown="the method's own"),
        Option("pose_encoder", "pose encoder: resnet18, a file of networks/ or any timm model",
               metavar="NAME", shown="the depth encoder if it is a ResNet, else resnet18"),
        Option("decoder", "depth decoder, a file of networks/ such as grid_decoder", text, "depth_decoder",
               metavar="NAME"),
        Option("weights_init", "initial weights of the encoders: pretrained on ImageNet, or random (scratch)",
               text, "pretrained", choices=("pretrained", "scratch")),
        Option("scales", "resolution levels at which the loss is computed; 0 is the finest", whole,
               (0, 1, 2, 3), several=True, check=at_least(0, 4), metavar="SCALE"),
        Option("min_depth", "nearest depth the network can predict, in metres (disparity 1)", number, 0.1,
               metavar="METRES"),
        Option("max_depth", "farthest depth the network can predict, in metres (disparity 0)", number, 100.0,
               metavar="METRES"),
        Option("pose_model_type",
               "pose network: separate_resnet, shared (with depth), posecnn, or a file of networks/", text,
               "separate_resnet", metavar="NAME"),
        Option("pose_model_input",
               "images given to the pose network together: pairs of frames, or all frames", text, "pairs",
               choices=("pairs", "all")),
    ],
    "loss": [
        Option("disparity_smoothness", "weight of the smoothness loss", number, 0.001, check=at_least(0),
               metavar="WEIGHT"),
        switch("v1_multiscale", "compare warped images at each scale's own size, not at full size"),
        switch("avg_reprojection",
               "average the photometric error over sources instead of taking the minimum"),
        switch("disable_automasking", "keep pixels that look the same in the unwarped source (no automask)"),
        switch("predictive_mask", "predict a weight for each source pixel; needs --disable_automasking"),
        switch("no_ssim", "use the absolute difference without SSIM as photometric error"),
    ],
    "optimisation": [
        Option("batch_size", "samples per process and step", whole, 12, check=at_least(1), metavar="N"),
        Option("accumulate", "batches summed into one step; batch norm sees one batch at a time",
               whole, 1, check=at_least(1), metavar="N"),
        Option("ema", "decay of the averaged weights that are evaluated and saved, such as 0.999",
               number, check=fraction, metavar="DECAY", shown="no average"),
        Option("optimizer", "optimiser of all parameters", choices=("adam", "adamw", "sgd"),
               shown="adamw with --weight_decay, adam without"),
        Option("learning_rate", "initial learning rate", number, 0.0001, check=above(0), metavar="RATE"),
        Option("weight_decay", "weight decay of adamw and sgd", number, 0.0, check=at_least(0),
               metavar="RATE"),
        Option("beta1", "decay rate of the gradient's running mean in adam and adamw", number, 0.9,
               check=fraction, metavar="RATE"),
        Option("beta2", "decay rate of the squared gradient's running mean in adam and adamw", number, 0.999,
               check=fraction, metavar="RATE"),
        Option("momentum", "momentum of sgd", number, 0.9, check=fraction, metavar="RATE"),
        Option("num_epochs", "number of passes over the training samples", whole, 20, check=at_least(1),
               metavar="N"),
        Option("steps_per_epoch", "training steps of one epoch", whole, check=at_least(1), metavar="N",
               shown="one pass over the samples"),
        switch("sample_with_replacement", "draw each training sample independently of the others"),
        Option("max_steps", "stop after N steps; the learning rate still follows --num_epochs", whole,
               check=at_least(1), metavar="N"),
        Option("scheduler", "schedule of the learning rate", text, "step",
               choices=("step", "cosine", "constant")),
        Option("scheduler_step_size", "epochs between drops of the learning rate (step schedule)", whole, 15,
               check=at_least(1), metavar="N"),
        Option("decay_epochs", "epochs after which the learning rate drops, such as 26 36 (step schedule)",
               whole, several=True, check=at_least(0), metavar="N", shown="every --scheduler_step_size"),
        Option("scheduler_gamma", "factor of the learning rate at each drop (step schedule)", number, 0.1,
               check=above(0), metavar="FACTOR"),
        Option("warmup_steps", "steps over which the learning rate grows linearly at the start", whole, 0,
               check=at_least(0), metavar="N"),
        Option("min_learning_rate", "learning rate at the end of the cosine schedule", number, 0.0,
               check=at_least(0), metavar="RATE"),
        Option("clip_grad_norm", "largest norm of the gradient; a longer gradient is scaled down", number,
               check=above(0), metavar="NORM", shown="no limit"),
    ],
    "machine": [
        Option("device", "device that trains: auto, cpu, cuda or cuda:N", text, "auto", metavar="DEVICE"),
        switch("no_cuda", "train on the CPU, as --device cpu (Monodepth2's flag)", of_call=True),
        Option("precision", "number format inside the networks; auto takes bfloat16 with channels_last "
               "if the device has it and a probe of a few steps finds it faster", text, "auto",
               choices=("auto", "float32", "bfloat16")),
        switch("compile", "compile the networks with torch.compile"),
        switch("channels_last", "use the channels-last memory layout in the networks"),
        Option("kernels", "compiled kernels of the photometric error: auto where they can be built, off for "
               "torch operations only, with equal values", text, "auto", choices=("auto", "off")),
        switch("gradient_checkpointing", "recompute activations of PackNet or HRNet in the backward pass, "
               "which needs less memory and more time"),
        switch("sync_batchnorm", "compute batch-norm statistics over all GPUs together"),
        Option("seed", "seed of initial weights, sample order and augmentation", whole, 0,
               check=at_least(0, MOST_SEED), metavar="N"),
        switch("deterministic",
               "refuse operations whose results vary between runs; on a GPU this includes the gradient of "
               "every warp (grid_sample, by torch's documentation; not tried), so training stops there"),
        Option("local_rank", "", whole, metavar="N", of_call=True),
    ],
    "logs and checkpoints": [
        Option("log_frequency", "steps between images and between scalars, which are means over these steps",
               whole, 250, check=at_least(1), metavar="N"),
        Option("wandb", "log to Weights & Biases as well; offline writes <run>/wandb for `wandb sync`",
               choices=("online", "offline")),
        switch("trackio", "log to trackio as well, a local dashboard"),
        Option("save_frequency", "epochs between validations and checkpoints", whole, 1, check=at_least(1),
               metavar="N"),
        Option("keep_checkpoints", "number of epoch checkpoints kept besides last and best; 0 keeps all",
               whole, 5, check=at_least(0), metavar="N"),
        Option("keep_best", "number of epoch checkpoints kept for the best values of --monitor, besides "
               "--keep_checkpoints", whole, 0, check=at_least(0), metavar="N"),
        Option("checkpoint_mirror", "storage of a copy of the run folder: s3://BUCKET/PREFIX or a path",
               metavar="ADDRESS", shown="none"),
        Option("monitor", "validation metric that selects best.pt: abs_rel, a1, mean_iou, loss, ...",
               metavar="METRIC", shown="the goal of the dataset's protocol"),
        Option("num_val", "number of validation samples, evenly spaced; 0 takes all", whole, 500,
               check=at_least(0), metavar="N"),
    ],
}  # fmt: skip
OPTIONS: dict[str, Option] = {option.name: option for group in GROUPS.values() for option in group}
SECTIONS = (
    "method", "depth_network", "dataset", "joined", "companion", "label_files", "pseudo_depth_files",
    "augment", "views", "losses",
)  # fmt: skip
CHOOSING = ("method", "depth_network", "dataset", "companion")  # sections with a `name`, or a bare name
NAMED = ("method", "dataset")  # those that are options too, so that they always have a name


def default_of(option: Option) -> Any:
    """The default as a run has it: a list for several values."""
    several = option.several and option.default is not None
    return list(option.default) if several else option.default
