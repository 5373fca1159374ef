"""Checkpoints: our own, and readers of published ones. Files are untrusted; none of their code runs.

A checkpoint holds the weights, keyed as a Method's `state_dict` (sub-network, then the published file's own
key: `encoder.encoder.conv1.weight`, `depth.decoder.0.conv.conv.weight`), the options that rebuild the
model, and the state of the training if it can be resumed.

    run folder           checkpoints/best.pt, last.pt, epoch_0007.pt, ... each of them complete
    <name>.pt            ours: weights, options, training
    <name>.safetensors   ours, for release: weights, options
    BDEdepth file        model19.pth, ckpt.pth
    Monodepth2 folder    encoder.pth, depth.pth [, pose_encoder.pth, pose.pth, predictive_mask.pth, adam.pth]
    SurroundDepth folder the same files, with the attention over cameras in depth.pth
    SGDepth folder       model.pth [, optim.pth, scheduler.pth, train.pth]
    SC-Depth file        epoch=99-val_loss=0.1411.ckpt; SC-SfMLearner: dispnet_*.pth.tar, exp_pose_*.pth.tar
    FeatDepth file       epoch_40.pth of the auto-encoder, of mono_fm or mono_fm_joint
    PackNet-SfM file     PackNet01_MR_selfsup_K.ckpt, or .pth.tar of its first release
    transformers folder  config.json, model.safetensors of Depth Anything or DPT

Names that wrappers added (`module.`, `_orig_mod.`, profilers) are removed first, and a state dict is found in
other nestings too; of a file that holds averaged weights as well (`ema`, `swa`), these are read. A file of a
related system, or one that is not a checkpoint, is refused in a sentence that says what it is.

A new layout is one file here with a `Layout` (`recognise` and `read`) and an entry in LAYOUTS; the first
layout that recognises the content reads it. Both functions get a file's content as plain values; a folder of
.pth files is one dict, file name to content.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from checkpoints import hub
from checkpoints._averages import with_averages
from checkpoints._folder import RunFolder
from checkpoints._loading import load_optimizer, load_weights
from checkpoints._networks import decoder_scales, resnet_layers
from checkpoints._own import (
    PARALLAX,
    epoch_files,
    epoch_path,
    export_weights,
    file_of_run,
    prune_checkpoints,
    save_checkpoint,
    update_link,
)
from checkpoints._random import random_state, restore_random_state
from checkpoints._reading import Folder, load_ground_truth_npz, read_file
from checkpoints._record import Checkpoint, Layout, first
from checkpoints._relatives import describe_file
from checkpoints._wrappers import alternatives, without_wrappers
from checkpoints.bdedepth import BDEDEPTH
from checkpoints.featdepth import FEATDEPTH
from checkpoints.hub import located, plain_weights
from checkpoints.monodepth2 import MONODEPTH2, PUBLISHED_NETWORKS, write_monodepth2_folder
from checkpoints.packnet import PACKNET, write_packnet
from checkpoints.sc_depth import SC_DEPTH
from checkpoints.sgdepth import SGDEPTH
from checkpoints.surround_depth import SURROUND_DEPTH
from checkpoints.transformers import TRANSFORMERS
from utils import InputError

__all__ = [
    "LAYOUTS",
    "Checkpoint",
    "Layout",
    "RunFolder",
    "decoder_scales",
    "epoch_files",
    "epoch_path",
    "export_weights",
    "load_checkpoint",
    "load_ground_truth_npz",
    "load_optimizer",
    "load_weights",
    "located",
    "plain_weights",
    "prune_checkpoints",
    "random_state",
    "read_file",
    "resnet_layers",
    "restore_random_state",
    "save_checkpoint",
    "to_resume",
    "update_link",
    "write_monodepth2_folder",
    "write_packnet",
]

# The first layout that recognises the content reads it.
LAYOUTS = [
    *(PARALLAX, SGDEPTH, FEATDEPTH, BDEDEPTH, PACKNET, SURROUND_DEPTH, SC_DEPTH, MONODEPTH2, TRANSFORMERS)
]


def load_checkpoint(path: str | Path, which: str = "best") -> Checkpoint:
    """Read a checkpoint of any known layout.

    Args:
        path: a run folder, one of its files, a release, a published folder or file; on the Hugging Face hub
            `hf://owner/name` (hub.py).
        which: checkpoint of a run folder: `"best"` (the last if there is no best) or `"last"`.

    Raises:
        InputError: an unknown layout, a missing or broken part, or a file that tries to run code.
    """
    path = hub.fetch(path) if hub.is_hub(path) else Path(path).expanduser()
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    if path.is_dir():
        path = file_of_run(path, which) or hub.model_file(path) or path
    content: Any = Folder(path) if path.is_dir() else read_file(path)
    if isinstance(content, Folder):
        candidates, counters = iter([content]), content.counters
    elif isinstance(content, Mapping) and PARALLAX.recognise(content):
        candidates, counters = iter([content]), []
    else:
        content, counters = without_wrappers(content)
        content = with_averages(content, path)
        candidates = alternatives(content) if isinstance(content, Mapping) else iter(())
    for candidate in candidates:
        for layout in LAYOUTS:
            if layout.recognise(candidate):
                checkpoint = layout.read(candidate, path)
                checkpoint.layout = layout.name
                checkpoint.ignored += counters
                return checkpoint
    raise InputError(_unrecognised(path, content))


def to_resume(path: str | Path) -> Checkpoint:
    """The last checkpoint of a run, or one of its files, with the state of the training.

    Raises:
        InputError: it has none, or it is not one of ours. If it is damaged, names another one.
    """
    path = Path(path).expanduser()
    try:
        path = (file_of_run(path, "last") or path) if path.is_dir() else path
        checkpoint = load_checkpoint(path)
    except InputError as error:
        others = [file for file in epoch_files(path.parent) if path.is_file() and not file.samefile(path)]
        if not others:
            raise
        raise InputError(f"{error}; --resume {others[-1]} continues from an earlier state") from None
    if "optimizer" not in (checkpoint.training or {}):
        held = "weights only" if checkpoint.layout == "parallax" else f"a checkpoint of {checkpoint.layout}"
        raise InputError(f"{path} holds {held} and cannot be resumed; --load_weights_folder starts from it")
    return checkpoint


def _unrecognised(path: Path, content: Any) -> str:
    known = "; ".join(f"{layout.name}: {layout.looks_like}" for layout in LAYOUTS)
    if path.is_dir():
        names = [item.name for item in sorted(path.iterdir())]
        held = f"the folder {path} holds {first(names, 8) or 'nothing'}"
    elif isinstance(content, Mapping):
        held = f"{path} holds the entries {first(map(str, content), 8) or '(none)'}"
        if path.stem in PUBLISHED_NETWORKS and path.suffix == ".pth":
            held += f" (one file of a Monodepth2 folder? then name the folder, {path.parent})"
    else:
        held = f"{path} holds a {type(content).__name__}"
    if not path.is_dir() and (kind := describe_file(content)):
        held += f" and looks like {kind}"
    return f"{held}, which is not a known layout ({known})"
