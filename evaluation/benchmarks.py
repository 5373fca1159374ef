"""A model on one benchmark or several: opened, evaluated, printed under its protocol card, saved.

    evaluate_model(model, where, how)         one Result, for a notebook or a table
    evaluate_one(...)                         one dataset, or saved predictions of it
    evaluate_together(...)                    several datasets, each by its own protocol, and a summary

Under torchrun each process evaluates its share and the first prints and saves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from checkpoints.hub import results_folder
from evaluation.baselines import training_mean_depth
from evaluation.choice import (
    NO_NAME,
    DatasetChoice,
    Model,
    Opened,
    ProtocolChoice,
    check_cameras,
    choose_and_describe,
    choose_scale,
    choose_split,
    open_images,
)
from evaluation.depth import FLIP_WORDS, check_ground_truth, evaluate, evaluate_all
from evaluation.details import DetailChoice
from evaluation.export import export_at_first
from evaluation.loop import Loading, Predict, predict_inverse_depths
from evaluation.result import Result, compare
from evaluation.saved import (
    SERVER_ROUNDINGS,
    SavedGroundTruth,
    SavedInverseDepths,
    read_inverse_depths,
    save_inverse_depths,
    write_server_images,
)
from methods.metric_scale import dataset_to_evaluate
from metrics import Protocol
from shards import is_first, torchrun_shard
from utils import InputError, can_write

KITTI_BENCHMARKS = ("eigen", "eigen_benchmark")  # --kitti_path evaluates those whose data are there


@dataclass(frozen=True)
class Files:
    """Files that one evaluation reads or writes in addition to the dataset.

    Attributes:
        inverse_depths: saved predictions to evaluate instead of a model; None for none.
        eigen_to_benchmark: take 652 of the 697 saved Eigen predictions.
        ground_truth: a published gt_depths.npz; None for the dataset's own ground truth.
        save: write the predictions to `disps_<split>_split.npy`.
        evaluate: False only predicts and saves.
        corruptions: kinds of image corruption to evaluate as well; empty for all, None for none.
        corruptions_reference: `corruptions.json` of the model that mCE is relative to; None for one constant
            depth.
        details: further errors of each image, and the files that they need; None for those by distance.
        server_rounding: rounding of the images for KITTI's server, `nearest` if not given, or `down`.
        latex: print a line of a LaTeX table as well.
    """

    inverse_depths: str | None = None
    eigen_to_benchmark: bool = False
    ground_truth: str | None = None
    save: bool = False
    evaluate: bool = True
    corruptions: Sequence[str] | None = None
    corruptions_reference: str | None = None
    details: DetailChoice | None = None
    server_rounding: str | None = None
    latex: bool = False


def evaluate_model(
    model: Model,
    where: DatasetChoice | None = None,
    how: ProtocolChoice | None = None,
    loading: Loading | None = None,
    output: str | Path | None = None,
    details: DetailChoice | None = None,
) -> Result:
    """Evaluate a method that is in memory by one protocol, for a benchmark or a notebook.

    Args:
        model: put into eval mode here.
        where: the dataset; None for that of the training.
        how: alignment and scale; None as it was trained. A rig is evaluated by one alignment here.
        loading: batch size, device, workers, flip averaging.
        output: folder for results.json and per_image.csv; None saves nothing.
        details: further errors of each image, such as those of moving pixels; None for those by distance.

    Raises:
        InputError: no such data, or no ground truth there.
    """
    where, how = where or DatasetChoice(), how or ProtocolChoice()
    name = where.name or dataset_to_evaluate(model.options)
    path = where.data_path or (model.options.get("data_path") if where.name is None else None)
    where = dataclasses.replace(where, data_path=path)
    opened = open_images(where, model, *choose_split(name, model.options, where.split))
    protocols, about = choose_and_describe(how, model, opened)
    of_rig = "scale-aware" if choose_scale(how, model)[0] else "scale-ambiguous"
    protocol = protocols[""] if "" in protocols else protocols[of_rig]
    model.method.eval()
    result = evaluate(model.predict, opened.images, {"": protocol}, loading, about, details)[""]
    if output is not None:
        result.save(output)
    return result


# ------------------------------------------------------------------------------------------ several datasets


def evaluate_together(
    model: Model,
    roots: Mapping[str, str],
    how: ProtocolChoice,
    loading: Loading,
    output: str | None = None,
    skip_missing: bool = False,
    latex: bool = False,
) -> None:
    """Several datasets, each by its own protocol; a summary comes last. All are opened first.

    Args:
        roots: dataset → its root folder.
        output: folder of the results; None for `<source>/evaluation`.
        latex: print a line of a LaTeX table for each as well.

    Raises:
        InputError: a dataset that cannot be evaluated, or an output folder that cannot be written.
    """
    root = Path(output) if output else default_output(model.source, None, None).parent
    check_output(root)
    datasets = [
        opened for name, path in roots.items() for opened in open_benchmarks(model, name, path, skip_missing)
    ]
    summary: dict[str, Result] = {}
    for opened in datasets:
        export_at_first(opened.images, loading.workers)
        protocols, about = choose_and_describe(how, model, opened)
        results = evaluate_shares(model.predict, opened, protocols, loading, about)
        words = (opened.name, opened.split, opened.part)
        show(results, root / "_".join(Path(word).name for word in words if word), latex)
        print()
        for name, result in results.items():
            leaks = " (training data overlap)" if result.protocol.name.startswith(NO_NAME) else ""
            summary[f"{opened.title} {name}".strip() + leaks] = result
    print(compare(summary))
    if any(result.protocol.log10 for result in summary.values()):
        print("rmse_log is in decimal logarithms where the protocol card says so")


def open_benchmarks(model: Model, name: str, path: str, skip_missing: bool = False) -> list[Opened]:
    """The parts of a dataset's folder that can be evaluated.

    If the folder has lists of its own in `splits/`, as tools/make_synthetic.py writes them, these are used.

    Raises:
        InputError: nothing in it can be evaluated, and why.
    """
    own_lists = Path(path) / "splits"
    splits = [choose_split(name, model.options, str(own_lists) if own_lists.is_dir() else None)]
    if name == "kitti" and splits == [("eigen", "test")]:
        splits = [(split, "test") for split in KITTI_BENCHMARKS]
    where = DatasetChoice(name, path, skip_missing=skip_missing)
    found, refused = [], []
    for split, part in splits:
        try:
            opened = open_images(where, model, split, part)
            check_ground_truth(opened.images)
        except InputError as error:
            refused.append((split, error))
            continue
        check_cameras(model.method, opened.images, name)
        found.append(opened)
    if not found:
        raise refused[0][1]
    for split, error in refused:
        print(f"{name} {split} is left out: {error}\n")
    return found


# ------------------------------------------------------------------------------- one dataset, or saved files


def evaluate_one(
    model: Model,
    where: DatasetChoice,
    how: ProtocolChoice,
    files: Files,
    loading: Loading,
    output: str | None = None,
) -> None:
    """One dataset, or saved predictions of it; KITTI's server split writes the server's images instead.

    Args:
        model: without a method if `files.inverse_depths` are evaluated.
        output: folder of the results; None for `<source>/evaluation/<split>`.

    Raises:
        InputError: flags that contradict each other, missing data, an output folder that cannot be written.
    """
    name = where.name or dataset_to_evaluate(model.options)
    split, part = choose_split(name, model.options, where.split)
    for_server = name == "kitti" and (split, part) == ("benchmark", "test")
    _check_scale(how, model, files, for_server)
    images = None  # saved predictions with saved ground truth need none
    if model.method is not None or not (files.ground_truth or for_server):
        images = open_images(where, model, split, part).images
        check_cameras(model.method, images, name)
    elif where.settings:
        raise InputError(f"--dataset.{next(iter(where.settings))} has no effect: no image is read here")
    ground_truth = SavedGroundTruth(files.ground_truth, name, split, part) if files.ground_truth else images
    folder = Path(output or default_output(model.source, split, part))
    check_output(folder)
    to_disk = files.save or bool(files.ground_truth) or for_server
    if torchrun_shard()[1] > 1 and (files.inverse_depths or to_disk):
        raise InputError(
            "saved disparities and saved ground truth are evaluated by one process; leave torchrun out"
        )
    saved, file = None, files.inverse_depths
    if file:
        saved = read_inverse_depths(file, files.eigen_to_benchmark)
    elif to_disk:
        file = folder / f"disps_{Path(split or name).name}_split.npy"
        predicted = predict_inverse_depths(model.predict, images, loading)
        saved = save_inverse_depths(file, predicted, len(images) * images.cameras)
        print(f"disparities: {file}")
    if for_server:
        _write_for_server(folder / "benchmark_predictions", saved, choose_scale(how, model)[1], files, file)
    if for_server or not files.evaluate:
        return
    export_at_first(ground_truth, loading.workers)
    opened = Opened(name, split, part, ground_truth)
    protocols, about = choose_and_describe(how, model, opened)
    if saved is None:
        mean_depth = training_mean_depth(model, opened)
        results = evaluate_shares(model.predict, opened, protocols, loading, about, files.details, mean_depth)
    else:
        results = _evaluate_saved(saved, opened, protocols, loading, about, files, file)
    show(results, folder, files.latex)
    if files.corruptions is not None:
        _show_corruptions(model, opened, results, files, loading, folder)


def _write_for_server(
    folder: Path, saved: np.ndarray, scale: float, files: Files, source: str | Path
) -> None:
    """The images for KITTI's server, and a line about their depth."""
    rounding = files.server_rounding or "nearest"
    write_server_images(folder, saved, scale, source, rounding)
    print(f"images for KITTI's server: {folder}")
    print(f"depth: {scale:.6g} / inverse depth, {SERVER_ROUNDINGS[rounding]}")


def _show_corruptions(
    model: Model,
    opened: Opened,
    clean: Mapping[str, Result],
    files: Files,
    loading: Loading,
    folder: Path,
) -> None:
    """Evaluate corrupted images by each protocol, and draw those of the first image."""
    from evaluation.corruptions import draw_grid, evaluate_corruptions  # imports OpenCV

    for name, result in clean.items():
        found = evaluate_corruptions(
            model.predict, opened.images, result.protocol, loading.shared(len(opened.images)), result,
            files.corruptions, files.corruptions_reference,
        )  # fmt: skip
        if is_first():
            print(f"\ncorrupted images {name}".rstrip() + f"\n{found.table()}")
            found.save(folder / name)
    if is_first():
        draw_grid(folder / "corruptions.png", opened.images[0].to("cpu").images[0][0], files.corruptions)
        print(f"\nsaved: {folder}/corruptions.json, corruptions.png")


def _check_scale(how: ProtocolChoice, model: Model, files: Files, for_server: bool) -> None:
    """Refuse depth up to scale for KITTI's server, rounding elsewhere, and saved depth of unknown scale."""
    if files.server_rounding and not for_server:
        raise InputError(
            "--server_rounding is about the images for KITTI's server; add --eval_split benchmark"
        )
    metric, _ = choose_scale(how, model)
    if for_server and not (metric or how.scale):
        raise InputError(
            "KITTI's benchmark evaluates metres and aligns nothing, but this depth is known up to scale "
            "only: give --pred_depth_scale_factor (the ratio that --eval_split eigen prints)"
        )
    if files.inverse_depths and not for_server and how.stereo is None and how.align:
        raise InputError(
            "saved predictions do not say how their model was trained: add --eval_mono, --eval_stereo or "
            "--disable_median_scaling"
        )


def _evaluate_saved(
    saved: np.ndarray,
    opened: Opened,
    protocols: Mapping[str, Protocol],
    loading: Loading,
    about: Mapping[str, str],
    files: Files,
    file: str | Path,
) -> dict[str, Result]:
    flip = "as saved" if files.inverse_depths else FLIP_WORDS[loading.flip]
    loading = dataclasses.replace(loading, flip=False)  # what was saved is averaged already, or never
    predict = SavedInverseDepths(saved, opened.images, file)
    about = {**about, "flip": flip}
    return evaluate(predict, opened.images, protocols, loading, about, files.details)


# ---------------------------------------------------------------------------------- processes, output, tables


def evaluate_shares(
    predict: Predict,
    opened: Opened,
    protocols: Mapping[str, Protocol],
    loading: Loading,
    about: Mapping[str, str],
    details: DetailChoice | None = None,
    mean_depth: Tensor | None = None,
) -> dict[str, Result]:
    """`evaluate`; under torchrun each process predicts its share and all get the whole."""
    loading = loading.shared(len(opened.images))
    return evaluate_all(predict, opened.images, protocols, loading, about, details, mean_depth)


def show(results: Mapping[str, Result], folder: Path, latex: bool = False) -> None:
    """Print each table and save it; those of several protocols in folders of their names."""
    if not is_first():
        return
    for name, result in results.items():
        print(f"{name}\n{result.table()}\n" if name else result.table())
        if latex:
            print(f"\n{result.latex()}")
        result.save(folder / name)
    names = f"{{{','.join(results)}}}/" if len(results) > 1 else ""
    print(f"\nsaved: {folder}/{names}results.json, per_image.csv")


def check_output(folder: Path) -> None:
    """Refuse a folder that cannot be written, before the first image is predicted."""
    if is_first() and not can_write(folder):
        raise InputError(f"{folder} cannot be written; give another folder with --output")


def default_output(source: str | Path, split: str | None, part: str | None) -> Path:
    """Folder next to the evaluated model or predictions: <folder>/evaluation/<split>_<part>."""
    return (
        results_folder(source)
        / "evaluation"
        / ("_".join(Path(word).name for word in (split, part) if word) or "all")
    )
