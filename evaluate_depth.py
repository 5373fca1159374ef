"""Evaluate depth by a benchmark's protocol: a run, a published checkpoint, or predictions saved before.

    python evaluate_depth.py --run runs/monodepth2_kitti --data_path kitti_data
    python evaluate_depth.py --load_weights_folder mono_640x192 --data_path kitti_data --post_process
    python evaluate_depth.py --ext_disp_to_eval mono_640x192_eigen.npy --eval_mono --gt_path gt_depths.npz
    python evaluate_depth.py --run runs/monodepth2_kitti --kitti_path K --make3d_path M --nyuv2_path N

Size, decode range and dataset come from the checkpoint; the caps of the evaluation are the protocol's and
have nothing to do with the decode range. What was trained on video alone is aligned by each image's median,
what was trained on stereo pairs counts as metric. The cameras of a rig are evaluated both ways from the same
predictions: scale-ambiguous, each image aligned by its median, and scale-aware, as metres. The numbers are
printed under the protocol card and saved as results.json and per_image.csv.

Ground truth that has to be measured first, as from LiDAR scans, is exported by the first evaluation.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import io
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from checkpoints import load_ground_truth_npz
from datasets import DATASETS, build_dataset
from datasets.sequence import SequenceDataset
from datasets.splits import eigen_to_benchmark_ids, evaluated_part, load_split, split_names
from datasets.surround import SurroundDataset
from evaluation import (
    FLIP_WORDS,
    Result,
    check_ground_truth,
    compare,
    evaluate,
    evaluate_several,
    evaluate_several_disparities,
    gather,
    predict_disparities,
)
from methods import load_method
from metrics import CROPS, Protocol
from predictor import set_decode_range, stereo_scale, trained_on, trained_with_stereo
from tools._shards import torchrun_shard
from tools.export_gt_depth import export_at_first
from trainer import start_processes
from utils import (
    WORKERS,
    InputError,
    atomic_path,
    can_write,
    check_settings,
    data_root,
    read_yaml,
    run_main,
)

TOGETHER = ("kitti", "make3d", "nyuv2", "cityscapes", "ddad", "nuscenes", "kitti2015")  # in one call
KITTI_BENCHMARKS = ("eigen", "eigen_benchmark")  # whichever of these --kitti_path has the data of
BOTH_WAYS = {"scale-ambiguous": "median", "scale-aware": "none"}  # the alignments a rig is evaluated by
PROTOCOL_SETTINGS = (
    "cap_ground_truth",
    "resize",
    "align_corners",
    "median",
    "log10",
)  # that have no flag of their own
SAVED_OPTIONS = {"intrinsics": "fixed"}  # of saved predictions: images are counted, not looked at
FOR_TRAINING = ("ground_truth", "masks", "matches", "max_matches", "poses", "labels")  # settings of a dataset
BENCHMARK_SIZE = (352, 1216)  # height, width of every image of KITTI's depth benchmark
BENCHMARK_MAX_DEPTH = 80.0  # metres


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = build_parser().parse_args(argv)
    check_arguments(args)
    device = start_processes("cpu" if args.no_cuda else args.device)
    try:
        # Under torchrun every process evaluates its share, and the first one speaks.
        with contextlib.redirect_stdout(sys.stdout if is_first() else io.StringIO()):
            run_evaluation(args, device)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def run_evaluation(args: argparse.Namespace, device: torch.device) -> None:
    """What the command line asks for, on `device`."""
    model = args.run or args.load_weights_folder or args.pretrained_path
    method, options = load_method(model, device, args.checkpoint) if model else (None, SAVED_OPTIONS)
    options = {
        **options,
        **{name: getattr(args, name) for name in ("height", "width") if getattr(args, name)},
    }
    if args.min_depth or args.max_depth:
        set_decode_range(method, args.min_depth, args.max_depth)
    loading = {"batch_size": args.batch_size, "device": device, "workers": args.num_workers, "progress": True}
    places = {name: getattr(args, f"{name}_path") for name in TOGETHER if getattr(args, f"{name}_path")}
    if places:
        evaluate_together(args, method, options, places, loading)
    else:
        evaluate_one(args, method, options, loading)


def evaluate_together(
    args: argparse.Namespace,
    method: nn.Module,
    options: Mapping[str, Any],
    places: Mapping[str, str],
    loading: Mapping[str, Any],
) -> None:
    """Several datasets, each by its own protocol card; a summary comes last. All are opened first."""
    model = args.run or args.load_weights_folder or args.pretrained_path
    root = Path(args.output) if args.output else default_output(model, None, None).parent
    check_output(root)
    opened = [
        found for name, path in places.items() for found in open_benchmarks(args, method, options, name, path)
    ]
    summary: dict[str, Result] = {}
    for name, split, part, images in opened:
        export_at_first(images, args.num_workers)
        about = describe(name, split, part, options) | {"predictions": str(model)}
        protocols = choose_protocols(args, options, images)
        results = evaluate_shares(method, images, protocols, flip=args.post_process, about=about, **loading)
        folder = root / "_".join(Path(word).name for word in (name, split, part) if word)
        show(results, folder)
        print()
        for way, result in results.items():
            summary[" ".join(word for word in (about["split"], way) if word)] = result
    print(compare(summary))
    if any(result.protocol.log10 for result in summary.values()):
        print("rmse_log is in decimal logarithms where the protocol card says so")


def open_benchmarks(
    args: argparse.Namespace, method: nn.Module, options: Mapping[str, Any], name: str, path: str
) -> list[tuple[str, str | None, str | None, SequenceDataset]]:
    """What a dataset's folder can be evaluated on, as (name, split, part, images).

    A folder that brings lists of its own in `splits/`, as tools/make_synthetic.py writes them, is evaluated
    on these.

    Raises:
        InputError: nothing, with why.
    """
    own_lists = Path(path) / "splits"
    splits = [choose_split(name, options, str(own_lists) if own_lists.is_dir() else None)]
    if name == "kitti" and splits == [("eigen", "test")]:
        splits = [(split, "test") for split in KITTI_BENCHMARKS]
    opened, refused = [], []
    for split, part in splits:
        try:
            images = open_dataset(name, path, options, split, part, skip_missing=args.skip_missing)
            check_ground_truth(images)
        except InputError as error:
            refused.append((split, error))
            continue
        check_cameras(method, images, name)
        opened.append((name, split, part, images))
    if not opened:
        raise refused[0][1]
    for split, error in refused:
        print(f"{name} {split} is left out: {error}\n")
    return opened


def evaluate_one(
    args: argparse.Namespace, method: nn.Module | None, options: Mapping[str, Any], loading: Mapping[str, Any]
) -> None:
    """One dataset, or what was saved of it."""
    model, saved = args.run or args.load_weights_folder or args.pretrained_path, args.ext_disp_to_eval
    name = args.dataset or trained_on(options)[0]
    split, part = choose_split(name, options, args.eval_split)
    for_server = name == "kitti" and (split, part) == ("benchmark", "test")
    stereo, scale = known_scale(args, options)
    if for_server and not (stereo or args.pred_depth_scale_factor):
        raise InputError(
            "KITTI's benchmark evaluates metres and aligns nothing, but this depth is known up to one factor "
            "only: give --pred_depth_scale_factor (the ratio that --eval_split eigen prints)"
        )
    if saved and not (for_server or args.eval_mono or args.eval_stereo or args.disable_median_scaling):
        raise InputError(
            "saved predictions do not say how their model was trained: add --eval_mono, --eval_stereo or "
            "--disable_median_scaling"
        )

    ground_truth_file = args.gt_path if args.gt_path and Path(args.gt_path).is_file() else None
    images = None
    if model or not (
        ground_truth_file or for_server
    ):  # saved predictions and saved ground truth need no images
        gt_folder = None if ground_truth_file else args.gt_path
        images = open_dataset(
            name, args.data_path, options, split, part, gt_folder, args.skip_missing, args.ground_truth
        )
        check_cameras(method, images, name)
    ground_truth = SavedGroundTruth(ground_truth_file, name, split, part) if ground_truth_file else images

    output = Path(args.output or default_output(model or saved, split, part))
    check_output(output)
    disparities = None
    if torchrun_shard()[1] > 1 and (saved or args.save_pred_disps or ground_truth_file or for_server):
        raise InputError(
            "saved disparities and saved ground truth are evaluated by one process; leave torchrun out"
        )
    if saved:
        disparities = read_disparities(saved, args.eval_eigen_to_benchmark)
    elif args.save_pred_disps or ground_truth_file or for_server:
        path = output / f"disps_{Path(split or name).name}_split.npy"
        predicted = predict_disparities(method.predict_depth, images, flip=args.post_process, **loading)
        disparities = save_disparities(path, predicted, len(images) * images.cameras)
        print(f"disparities: {path}")
    if for_server:
        write_benchmark(output / "benchmark_predictions", disparities, scale)
        print(f"images for KITTI's server: {output / 'benchmark_predictions'}")
    if for_server or args.no_eval:
        return

    export_at_first(ground_truth, args.num_workers)
    protocols = choose_protocols(args, options, ground_truth)
    about = describe(name, split, part, options) | {"predictions": str(model or saved)}
    if disparities is None:
        results = evaluate_shares(
            method, ground_truth, protocols, flip=args.post_process, about=about, **loading
        )
    else:
        about["flip"] = "as saved" if saved else FLIP_WORDS[args.post_process]
        results = evaluate_several_disparities(disparities, ground_truth, protocols, about=about, **loading)
    show(results, output)


def evaluate_shares(
    method: nn.Module, images: SequenceDataset, protocols: Mapping[str, Protocol], **settings: Any
) -> dict[str, Result]:
    """`evaluate_several`; under torchrun each process predicts its share and all get the whole."""
    shard, shards = torchrun_shard()
    indices = range(shard - 1, len(images), shards) if shards > 1 else None
    results = evaluate_several(method.predict_depth, images, protocols, indices=indices, **settings)
    return {way: gather(result) for way, result in results.items()}


def is_first() -> bool:
    """Whether this process speaks and writes for all that torchrun has started."""
    return torchrun_shard()[0] == 1


def show(results: Mapping[str, Result], folder: Path) -> None:
    """Print each table and save it; those of several protocols in folders of their names."""
    if not is_first():
        return
    for way, result in results.items():
        print(f"{way}\n{result.table()}\n" if way else result.table())
        result.save(folder / way)
    files = f"{{{','.join(results)}}}/" if len(results) > 1 else ""
    print(f"\nsaved: {folder}/{files}results.json, per_image.csv")


def check_output(folder: Path) -> None:
    """Refuse a folder that cannot be written, before the first image is predicted."""
    if is_first() and not can_write(folder):
        raise InputError(f"{folder} cannot be written; give another folder with --output")


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before anything is read."""
    if args.eval_mono and args.eval_stereo:
        raise InputError("--eval_mono and --eval_stereo exclude each other; give the one it was trained as")
    if args.save_pred_disps and args.ext_disp_to_eval:
        raise InputError("--save_pred_disps saves a model's predictions, and --ext_disp_to_eval has none")
    if args.no_eval and not args.save_pred_disps:
        raise InputError("--no_eval without --save_pred_disps would do nothing")
    if args.eval_eigen_to_benchmark and not args.ext_disp_to_eval:
        raise InputError("--eval_eigen_to_benchmark picks among saved disparities; add --ext_disp_to_eval")
    if args.gt_path and args.gt_path.endswith(".npz") and not Path(args.gt_path).is_file():
        raise InputError(f"there is no file {args.gt_path}, which --gt_path names")
    together = [f"--{name}_path" for name in TOGETHER if getattr(args, f"{name}_path")]
    alone = ("data_path", "dataset", "eval_split", "gt_path", "ground_truth", "ext_disp_to_eval", "no_eval",
             "save_pred_disps")  # fmt: skip
    for name in alone:
        if together and getattr(args, name):
            raise InputError(
                f"--{name} is about one dataset: give --dataset and --data_path instead of "
                f"{' '.join(together)}"
            )
    if args.pred_depth_scale_factor is not None and args.pred_depth_scale_factor <= 0:
        raise InputError(f"--pred_depth_scale_factor must be above 0, got {args.pred_depth_scale_factor}")
    for name in ("batch_size", "num_workers"):
        if getattr(args, name) < (name == "batch_size"):
            raise InputError(f"--{name} cannot be {getattr(args, name)}")


def evaluate_method(
    method: nn.Module,
    options: Mapping[str, Any],
    data_path: str | Path | None = None,
    *,
    dataset: str | None = None,
    split: str | None = None,
    stereo: bool | None = None,
    scale: float | None = None,
    flip: bool = False,
    batch_size: int = 16,
    workers: int = 4,
    device: torch.device | str = "cpu",
    progress: bool = True,
    output: str | Path | None = None,
) -> Result:
    """Evaluate a method that is in memory by one protocol, for a benchmark or a notebook.

    Args:
        method: on `device`; is put into eval mode.
        options: of its training: height, width, resize, dataset, split, use_stereo, ...
        data_path: the dataset's root; options' where not given.
        dataset: a file of datasets/; the one it was trained on where not given.
        split: a split, `<split>/<part>` or a folder of lists; see `choose_split`.
        stereo: depth is metric, times `scale`; as it was trained where not given.
        scale: what depth is multiplied by; `stereo_scale` or 1 where not given.
        flip: predict the mirror image too and join both.
        batch_size, workers, device, progress: as `evaluation.evaluate`.
        output: folder for results.json and per_image.csv.

    Raises:
        InputError: no such data, or no ground truth there.
    """
    name = dataset or trained_on(options)[0]
    split, part = choose_split(name, options, split)
    data = open_dataset(name, data_path or options.get("data_path"), options, split=split, part=part)
    stereo = trained_with_stereo(options) if stereo is None else stereo
    protocol = choose_protocol(
        data.protocol,
        alignment="none" if stereo else "median",
        scale=scale or (stereo_scale(options) if stereo else 1.0),
    )
    result = evaluate(
        method.eval().predict_depth,
        data,
        protocol,
        batch_size,
        device,
        flip,
        workers,
        progress,
        about=describe(name, split, part, options),
    )
    if output is not None:
        result.save(output)
    return result


# ---------------------------------------------------------------------------------- what to evaluate, and how


def choose_split(
    name: str, options: Mapping[str, Any], wanted: str | None = None
) -> tuple[str | None, str | None]:
    """Split and part to evaluate on, None where the dataset has no such thing.

    `wanted` is a split, `<split>/<part>` or a folder of lists. Without it: the folder of lists the model was
    trained with; Eigen's 697 images for KITTI; elsewhere the split it was trained with or the dataset's
    default. Without a part: test, or val where there is no test.
    """
    trained_name, settings = trained_on(options)
    own = settings.get("split") or options.get("split") if name == trained_name else None
    taken = inspect.signature(DATASETS.get(name)).parameters
    if "split" not in taken and wanted is None:
        return None, "test" if "part" in taken else None
    if wanted is None:
        own_lists = own and Path(own).is_dir() and own not in split_names("kitti")
        wanted = "eigen" if name == "kitti" and not own_lists else own or taken["split"].default
    if wanted is None:
        return None, evaluated_part(name, None)
    match = re.fullmatch(r"(.+)/((?:train|val|test)(?:_\w+)?)", str(wanted))
    if match and not Path(wanted).is_dir():
        return match[1], match[2]
    return str(wanted), evaluated_part(name, str(wanted))


def open_dataset(
    name: str,
    data_path: str | Path | None,
    options: Mapping[str, Any],
    split: str | None = None,
    part: str | None = None,
    gt_path: str | Path | None = None,
    skip_missing: bool = False,
    ground_truth: str | None = None,
) -> SequenceDataset:
    """A dataset's single images, at the size and with the resizing the model was trained with.

    Settings of the training's own dataset, such as its baseline, hold where it is evaluated on the same one;
    but for the ground truth, which belongs to the split that is evaluated, and for what only losses look at.

    Raises:
        InputError: no such dataset or folder, or it does not take one of these settings.
    """
    trained_name, settings = trained_on(options)
    settings = {key: value for key, value in settings.items() if key not in FOR_TRAINING}
    chosen = {"split": split, "part": part, "gt_path": gt_path, "ground_truth": ground_truth}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    check_settings(f"dataset {name}", DATASETS.get(name), chosen)
    inherited = {key: options.get(key) for key in ("height", "width", "resize")}
    if name == trained_name:
        inherited["intrinsics"] = options.get("intrinsics")
    return build_dataset(
        {
            **inherited,
            "data_path": data_path or data_root() / name,
            "dataset": {"name": name, **(settings if name == trained_name else {})},
        },
        frame_ids=(0,),
        skip_missing=skip_missing,
        **chosen,
    )


def check_cameras(method: nn.Module | None, dataset: SequenceDataset, name: str) -> None:
    """Refuse a dataset that lacks cameras a model looks at together; a model of one camera takes any.

    Raises:
        InputError: both numbers of cameras.
    """
    cameras = getattr(method, "cameras", 1)
    if cameras not in (1, dataset.cameras):
        count = f"{dataset.cameras} cameras" if dataset.cameras > 1 else "one camera"
        raise InputError(
            f"this model looks at {cameras} cameras at once and {name} has {count} here; "
            f"evaluate it on a rig of {cameras}, such as --ddad_path or --nuscenes_path"
        )


def known_scale(args: argparse.Namespace, options: Mapping[str, Any]) -> tuple[bool, float]:
    """Whether depth counts as metric, and what it is multiplied by."""
    stereo = args.eval_stereo or (not args.eval_mono and trained_with_stereo(options))
    return stereo, args.pred_depth_scale_factor or (stereo_scale(options) if stereo else 1.0)


def choose_protocols(
    args: argparse.Namespace, options: Mapping[str, Any], dataset: SequenceDataset
) -> dict[str, Protocol]:
    """The dataset's protocol with what the flags say otherwise, by name.

    A rig is evaluated both ways, as SurroundDepth does, unless a flag tells one; everything else in one way,
    which has no name.
    """
    stereo, scale = known_scale(args, options)
    told = args.eval_mono or args.eval_stereo or args.disable_median_scaling
    ways = {"": "none" if stereo or args.disable_median_scaling else "median"}
    if isinstance(dataset, SurroundDataset) and not told:
        ways = BOTH_WAYS
    return {
        way: choose_protocol(
            dataset.protocol,
            alignment=alignment,
            scale=scale,
            crop=args.crop,
            min_depth=args.eval_min_depth,
            max_depth=args.eval_max_depth,
            **dict(args.protocol),
        )
        for way, alignment in ways.items()
    }


def choose_protocol(
    protocol: Protocol,
    *,
    alignment: str | None = None,
    scale: float | None = None,
    crop: str | None = None,
    min_depth: float | None = None,
    max_depth: float | None = None,
    **more: Any,
) -> Protocol:
    """A dataset's protocol with what was asked otherwise; the card shows it."""
    wanted = {
        "alignment": alignment,
        "scale": scale,
        "crop": crop,
        "min_depth": min_depth,
        "max_depth": max_depth,
    } | more
    return dataclasses.replace(protocol, **{key: value for key, value in wanted.items() if value is not None})


def describe(name: str, split: str | None, part: str | None, options: Mapping[str, Any]) -> dict[str, str]:
    """The lines of the protocol card that are not the protocol's."""
    about = {"split": " ".join([name, "/".join(Path(word).name for word in (split, part) if word)]).strip()}
    if "height" in options:
        trained = "stereo pairs" if trained_with_stereo(options) else "video"
        about["trained on"] = f"{trained}, {options['width']} x {options['height']}"
    return about


def default_output(source: str | Path, split: str | None, part: str | None) -> Path:
    """Beside what was evaluated: <folder>/evaluation/<split>_<part>."""
    source = Path(source)
    folder = source if source.is_dir() else source.parent / source.stem
    return folder / "evaluation" / ("_".join(Path(word).name for word in (split, part) if word) or "all")


# ------------------------------------------------------------------------- saved predictions and ground truth


class SavedGroundTruth:
    """The ground truth of a published `gt_depths.npz`, in the order of its split: no images are needed.

    Raises:
        InputError: the dataset is not KITTI, the file cannot be read, or its count of maps is not that of the
            split's samples.
    """

    cameras, camera_names = 1, ()

    def __init__(self, path: str | Path, name: str, split: str, part: str) -> None:
        if name != "kitti":
            raise InputError(
                f"{path} is read as the published ground truth of KITTI, and this is {name}: leave --gt_path "
                "out, or give the folder of exported ground truth"
            )
        self.maps = load_ground_truth_npz(path)
        self.lines = load_split(name, split, part)
        if len(self.maps) != len(self.lines):
            raise InputError(
                f"{path} holds {len(self.maps)} depth maps, but {split}/{part} has {len(self.lines)} samples"
            )
        improved = split == "eigen_benchmark"
        self.protocol = Protocol(
            "KITTI improved" if improved else "KITTI Eigen",
            f"{Path(path).name}, exported before",
            cap_ground_truth=not improved,
            crop="none" if improved else "garg",
        )

    def __len__(self) -> int:
        return len(self.maps)

    def depth(self, index: int) -> np.ndarray:
        """(1, h, w) metres, 0 where unknown."""
        return self.maps[index][None]

    def name(self, index: int) -> str:
        """Folder, frame and side."""
        line = self.lines[index]
        return f"{line.folder} {line.frame} {line.side or ''}".rstrip()


def read_disparities(path: str | Path, eigen_to_benchmark: bool = False) -> np.ndarray:
    """Saved (N, h, w) inverse depths, as published for --ext_disp_to_eval; a memory map.

    Args:
        path: a .npy file.
        eigen_to_benchmark: take the 652 of the 697 Eigen images that have improved ground truth.

    Raises:
        InputError: no such file, not an array, or not 697 of them.
    """
    try:
        disparities = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path} is no .npy array of disparities ({error})") from None
    if eigen_to_benchmark:
        ids = eigen_to_benchmark_ids()
        if len(disparities) <= ids[-1]:
            raise InputError(
                f"--eval_eigen_to_benchmark picks {len(ids)} of the 697 Eigen predictions, "
                f"but {path} holds {len(disparities)}"
            )
        return disparities[ids]
    return disparities


def save_disparities(path: str | Path, disparities: Iterable[Tensor], count: int) -> np.ndarray:
    """Write (N, H, W) float32 as they come, whatever memory there is; returns a memory map of the file."""
    with atomic_path(path) as temporary:
        array, filled = None, 0
        for batch in disparities:
            if array is None:
                shape = (count, *batch.shape[1:])
                array = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            array[filled : filled + len(batch)] = batch.cpu().numpy()
            filled += len(batch)
        array.flush()
    return np.load(path, mmap_mode="r")


def write_benchmark(folder: str | Path, disparities: np.ndarray, scale: float) -> None:
    """The images that KITTI's depth benchmark takes: <folder>/0000000000.png, ..., metres x 256, 16 bit.

    Disparity is resized to 1216 x 352, depth is `scale` / disparity, up to 80 m, rounded to the nearest
    1 / 256 m; 0 would mean that there is no prediction.
    """
    folder = Path(folder)
    for index, disparity in enumerate(disparities):
        resized = F.interpolate(
            torch.from_numpy(np.array(disparity, np.float32))[None, None],
            BENCHMARK_SIZE,
            mode="bilinear",
            align_corners=False,
        )
        depth = (scale / resized[0, 0]).clamp(1 / 256, BENCHMARK_MAX_DEPTH)
        with atomic_path(folder / f"{index:010d}.png") as path:
            Image.fromarray((depth * 256).round().numpy().astype(np.uint16)).save(path, format="PNG")


def build_parser() -> argparse.ArgumentParser:
    """Flags keep the names users of Monodepth2 know."""
    parser = argparse.ArgumentParser(
        "evaluate_depth.py", description="Evaluate depth by a benchmark's protocol.", allow_abbrev=False
    )
    switch = {"action": "store_true"}
    folder, file = ({"type": os.path.expanduser, "metavar": kind} for kind in ("FOLDER", "FILE"))

    group = parser.add_argument_group("what is evaluated").add_mutually_exclusive_group(required=True)
    group.add_argument("--run", **folder, help="a run folder of ours")
    group.add_argument("--load_weights_folder", **folder, help="a published checkpoint folder, or a run")
    group.add_argument("--pretrained_path", **file, help="a checkpoint of a single file")
    group.add_argument("--ext_disp_to_eval", **file, help="saved disparities, .npy of N x h x w")

    group = parser.add_argument_group("by what: any of these, each by its own protocol")
    for name in TOGETHER:
        benchmarks = f": {' and '.join(KITTI_BENCHMARKS)}" if name == "kitti" else ""
        group.add_argument(f"--{name}_path", **folder, help=f"root of {name}{benchmarks}")

    group = parser.add_argument_group("by what: one dataset")
    group.add_argument("--data_path", **folder, help="root of the dataset; else data/<dataset>")
    group.add_argument("--dataset", help="a file of datasets/; else the one the model was trained on")
    group.add_argument(
        "--eval_split",
        type=os.path.expanduser,
        metavar="SPLIT[/PART]",
        help="eigen, eigen_benchmark, any split, a folder of lists; benchmark: images for KITTI's server",
    )
    group.add_argument(
        "--gt_path",
        type=os.path.expanduser,
        help="a published gt_depths.npz, or the folder of our exported ground truth",
    )
    group.add_argument("--ground_truth", help="another than the split's own: velodyne_camera, improved, ...")
    group.add_argument("--skip_missing", **switch, help="leave out samples that lack an image")

    group = parser.add_argument_group("how")
    group.add_argument("--eval_mono", **switch, help="align each image by its median; else as it was trained")
    group.add_argument("--eval_stereo", **switch, help="metric: depth x 5.4 / (baseline / 0.1), no alignment")
    group.add_argument("--disable_median_scaling", **switch, help="no alignment")
    group.add_argument(
        "--pred_depth_scale_factor", type=float, metavar="X", help="what depth is multiplied by"
    )
    group.add_argument("--post_process", **switch, help="predict the mirror image too and join both")
    group.add_argument("--crop", choices=sorted(CROPS), help="else the protocol's own")
    group.add_argument(
        "--eval_min_depth", type=float, metavar="M", help="metres, cap of ground truth and prediction"
    )
    group.add_argument(
        "--eval_max_depth", type=float, metavar="M", help="metres, cap of ground truth and prediction"
    )
    for name in ("--backbone", "--num_layers"):
        group.add_argument(name, help="accepted and not needed: the checkpoint tells")
    for name in ("--height", "--width"):
        group.add_argument(name, type=int, metavar="PIXELS", help="network input; else the checkpoint's")
    group.add_argument(
        "--min_depth", type=float, metavar="M", help="decode range, where a checkpoint lacks it"
    )
    group.add_argument(
        "--max_depth", type=float, metavar="M", help="decode range, where a checkpoint lacks it"
    )
    group.add_argument(
        "--protocol",
        action="extend",
        nargs="+",
        type=protocol_setting,
        default=[],
        metavar="KEY=VALUE",
        help="other settings of it; BDEdepth's KITTI numbers: align_corners=true median=lower",
    )
    group.add_argument("--eval_eigen_to_benchmark", **switch, help="652 of 697 saved Eigen disparities")

    group = parser.add_argument_group("what is left")
    group.add_argument("--output", **folder, help="else evaluation/<split> beside what is evaluated")
    group.add_argument("--save_pred_disps", **switch, help="write disps_<split>_split.npy")
    group.add_argument("--no_eval", **switch, help="predict and save only")

    group = parser.add_argument_group("machine")
    group.add_argument("--checkpoint", default="best", choices=("best", "last"), help="of a run")
    group.add_argument("--batch_size", type=int, default=16)
    group.add_argument("--num_workers", type=int, default=WORKERS)
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    group.add_argument("--no_cuda", **switch, help="the published way to write --device cpu")
    return parser


def protocol_setting(text: str) -> tuple[str, Any]:
    """`median=lower` as ("median", "lower")."""
    key, equals, value = text.partition("=")
    if not equals or key not in PROTOCOL_SETTINGS:
        raise argparse.ArgumentTypeError(
            f"KEY=VALUE with KEY one of {', '.join(PROTOCOL_SETTINGS)}, got '{text}'"
        )
    return key, read_yaml(value)


if __name__ == "__main__":
    run_main(main)
