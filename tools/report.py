"""One HTML file about one or several runs, to be read, compared and mailed. It needs no network.

    python tools/report.py runs/walk
    python tools/report.py runs/first runs/second --data_path KITTI --out both.html
    python tools/report.py runs/walk --track

It shows the training curves; for each evaluation of depth a table with 95 % intervals by scene, the
comparison with the first run and the protocol cards; the IoU of each class and the confusion matrix of a
segmentation; trajectories from above with their errors; the best and worst images with error maps; the scale
along sequences; and a point cloud that turns. Evaluations are those that evaluate_depth.py,
evaluate_segmentation.py and evaluate_pose.py have left in the run folder. Images and clouds need the dataset
and a checkpoint; if one is missing, the page says which. --track adds the page to the run's page at Weights &
Biases, and its path to that of trackio.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flags
from sinks import REPORT, open_services
from tools._options import place
from utils import InputError, program, run_main

if TYPE_CHECKING:
    from tools._report.page import Shown
    from tools._report.reading import Run


def main(arguments: list[str] | None = None) -> None:
    """Read the runs, predict the images, write the page."""
    given = flags.parse(build_parser(), arguments)
    from tools._report.page import write_report
    from tools._report.reading import read_run

    names = _names(given.runs)
    runs = [read_run(folder, name) for folder, name in zip(given.runs, names)]
    if given.track:
        check_services(runs)
    shown = [show(run, given.data_path, flags.device_name(given)) for run in runs]
    for run, one in zip(runs, shown):
        for sentence in one.missing:
            print(f"{run.name}: {sentence}")
    out = given.out or given.runs[0] / REPORT
    write_report(out, runs, shown)
    print(f"report: {out}")
    for run in runs if given.track else ():
        for service in open_services(run.folder, run.options):
            service.report(out)
            service.close()


def check_services(runs: Sequence[Run]) -> None:
    """Refuse `--track` for a run that was logged to no service.

    Raises:
        InputError: names the run.
    """
    for run in runs:
        if not (run.options.get("wandb") or run.options.get("trackio")):
            raise InputError(
                f"{run.folder} was logged to no service; leave out --track, or train it with --wandb or "
                "--trackio"
            )


def build_parser() -> argparse.ArgumentParser:
    """The flags of the command line."""
    parser = flags.new_parser(program("report.py"), __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "runs",
        type=place,
        nargs="+",
        metavar="RUN",
        help="run folders, runs/<name>; the first is compared with",
    )
    add(
        "--out", type=place, metavar="FILE", help=f"page to write (default: {REPORT} in the first run folder)"
    )
    add(
        "--data_path",
        type=place,
        metavar="FOLDER",
        help="root of the dataset (default: that of the training)",
    )
    add("--track", **flags.SWITCH, help="add the page to the runs' pages at the services they were logged to")
    flags.add_device_flags(parser)
    return parser


def show(run: Run, data_path: Path | None, device: str) -> Shown:
    """Images and point cloud of a run's model; what cannot be shown is said in a sentence."""
    from devices import pick_device
    from evaluation.choice import Model
    from methods import load_method
    from predictor import Predictor
    from tools._report import images
    from tools._report.page import Shown

    shown = Shown(missing=list(run.missing))
    if not run.evaluations:
        shown.missing.append(
            "it has no evaluation of depth; type: "
            f"python evaluate_depth.py --run {run.folder} --data_path FOLDER"
        )
    try:
        model = Model(*load_method(run.folder, pick_device(device)), run.folder)
        predictor = Predictor(model.method, model.options)
    except InputError as error:
        shown.missing.append(f"no images and no point cloud: {error}")
        return shown
    opened = None
    for name, evaluation in run.evaluations.items():
        try:
            opened = images.open_evaluated(model, evaluation, data_path)
            shown.figures[name] = images.best_and_worst(model, evaluation, opened)
        except InputError as error:
            shown.missing.append(f"no images of {name}: {error}")
    try:
        opened = opened or images.validation_images(model, data_path)
        shown.cloud, shown.unit = images.cloud_of(predictor, opened), predictor.unit
    except InputError as error:
        shown.missing.append(f"no point cloud: {error}")
    return shown


def _names(folders: list[Path]) -> list[str]:
    """The folders' own names, or their paths if two share one."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


if __name__ == "__main__":
    run_main(main)
