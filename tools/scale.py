"""Fit the scale factor of a trained model, so that its depth is in metres.

    python tools/scale.py --run runs/walk --from speed --data_path walk
    python tools/scale.py --run runs/walk --from ground_truth --data_path walk
    python tools/scale.py --run runs/walk --distance "walk/0001.jpg 320 240 4.5" "walk/0100.jpg 300 200 12"
    python tools/scale.py --run runs/walk --from height --camera_height 1.5 --data_path walk
    python tools/scale.py --run runs/walk --from points --points lidar/ --data_path walk
    python tools/scale.py --run runs/walk --from stereo --second right/ --baseline 0.12 --data_path walk
    python tools/scale.py --run runs/walk --from gps --data_path walk

--from speed        compares speed x time with the translation that the pose network predicts; a folder has
                    the speed in speed.csv and times.txt
--from ground_truth compares measured depth, such as LiDAR points, with the predicted depth
--from height       compares the height of the camera with the predicted distance of the ground below it
--from points       compares measured points, such as a LiDAR's, with the predicted depth at their pixels
--from stereo       compares the depth of matches with a second, rectified camera with the predicted depth
--from gps          compares the distance between positions, gps.csv, with the predicted path
--distance          IMAGE X Y METRES: the depth of one pixel

The factor is the median over frames, with an interval of 95 %. The model is written with the factor into a
file of its own, metric.pt in the run folder, which every script reads with --pretrained_path; the run stays
as it is.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flags
from tools._options import new_parser, place
from utils import InputError, run_main

if TYPE_CHECKING:
    from datasets.sequence import SequenceDataset
    from predictor import Predictor


SOURCES = ("speed", "ground_truth", "height", "points", "stereo", "gps")
NEEDED = {"height": ("camera_height",), "points": ("points",), "stereo": ("second", "baseline")}
NAMES = {"height": "camera height", "ground_truth": "ground truth", "points": "measured points", "gps": "GPS"}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    flags.add_model_flags(parser, decode_range=False)
    add = parser.add_argument
    add("--from", dest="source", choices=SOURCES, help="measurement that fixes the scale")
    add(
        "--camera_height",
        type=flags.positive,
        metavar="METRES",
        help="height above the ground, of --from height",
    )
    add("--points", type=place, metavar="FOLDER", help="<frame>.npy, .txt or .bin: x y z, of --from points")
    add(
        "--camera_from_lidar",
        type=place,
        metavar="FILE",
        help="3x4 or 4x4 pose of the points' coordinates in the camera; else they are the camera's",
    )
    add(
        "--second", type=place, metavar="FOLDER", help="rectified images of a second camera, of --from stereo"
    )
    add("--baseline", type=flags.positive, metavar="METRES", help="distance of the two cameras")
    add("--distance", nargs="+", metavar='"IMAGE X Y METRES"', help="known depths of pixels, metres")
    add("--split", help="split of the dataset; else its default")
    add("--part", help="part of the split; else the dataset's default")
    add(
        "--samples",
        type=flags.at_least(1),
        default=200,
        metavar="N",
        help="frames that are used, evenly spread (default: 200)",
    )
    add("--out", type=place, metavar="FILE", help="file of the metric model (default: metric.pt in the run)")
    flags.add_dataset_flags(parser, default="folder")
    flags.add_device_flags(parser)
    given = flags.parse(parser, arguments)
    if bool(given.source) == bool(given.distance):
        raise InputError(f"give one measurement: --from {', --from '.join(SOURCES)} or --distance")
    for source, needed in NEEDED.items():
        for name in needed:
            value = getattr(given, name)
            if given.source == source and value is None:
                raise InputError(f"--from {source} needs --{name}")
            if given.source != source and value is not None:
                raise InputError(f"--{name} is for --from {source}; add it, or leave --{name} out")
            if isinstance(value, Path) and not value.is_dir():
                raise InputError(f"there is no folder {value}; give the one of --{name}")
    if given.camera_from_lidar and given.source != "points":
        raise InputError("--camera_from_lidar is for --from points; add it, or leave it out")
    if given.source and not given.data_path:
        raise InputError(f"--from {given.source} reads a dataset; add --data_path")
    return given


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    from tools._scale_estimates import fit_factor, from_distances

    distances = [_distance(text) for text in given.distance or ()]
    predictor = flags.open_predictor(given)
    if predictor.cameras > 1:
        raise InputError("a model of a rig has the scale of its extrinsics; give a model of one camera")
    source = given.source or "distance"
    estimates = from_distances(predictor, distances) if distances else _from_dataset(given, predictor)
    factor, low, high = fit_factor(estimates)
    if not (math.isfinite(factor) and factor > 0):
        raise InputError(f"the scale factor from {source} is {factor:g}; are the measurements in metres?")
    record = {"factor": factor, "low": low, "high": high, "source": NAMES.get(source, source)}
    out = _write(given, record)
    from methods.metric_scale import fit_in_words

    print(
        f"depth in metres = {factor:.4g} x depth of the network ({fit_in_words(record)}; n={len(estimates)})"
    )
    print(f"wrote {out}; --pretrained_path {out} predicts metres")


def _distance(text: str) -> Any:
    """The record of `IMAGE X Y METRES`."""
    from tools._scale_estimates import Distance

    path, *numbers = text.rsplit(maxsplit=3)
    try:
        x, y, metres = map(float, numbers)
    except ValueError:
        raise InputError(f'--distance takes "IMAGE X Y METRES", got "{text}"') from None
    if not (math.isfinite(x + y) and 0 < metres < math.inf):
        raise InputError(f'--distance: the depth is above 0 metres and the pixel finite, got "{text}"')
    return Distance(Path(path).expanduser(), x, y, metres)


def _from_dataset(given: argparse.Namespace, predictor: Predictor) -> list[float]:
    """An estimate of each frame of the dataset that the flags name."""
    import numpy as np

    from tools import _scale_geometry as geometry
    from tools._scale_estimates import from_ground_truth, from_speed

    dataset = _open(given, predictor)
    if given.source == "gps":
        return geometry.from_gps(predictor, dataset)
    count = min(given.samples, len(dataset))
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    data = predictor, dataset, indices
    if given.source == "height":
        return geometry.from_height(*data, given.camera_height)
    if given.source == "points":
        pose = geometry.read_matrix(given.camera_from_lidar) if given.camera_from_lidar else np.eye(4)
        return geometry.from_points(*data, given.points, pose)
    if given.source == "stereo":
        return geometry.from_stereo(*data, given.second, given.baseline)
    return (from_speed if given.source == "speed" else from_ground_truth)(*data)


def _open(given: argparse.Namespace, predictor: Predictor) -> SequenceDataset:
    from datasets import open_dataset

    settings = {"split": given.split, "part": given.part}
    settings = {key: value for key, value in settings.items() if value is not None} | given.dataset_settings
    if given.source == "speed":
        settings.setdefault("speed", True)
    if given.source == "gps":
        settings.setdefault("part", "all")
    section = {"name": given.dataset, **settings}
    options = {"dataset": section, "data_path": given.data_path, "skip_missing": given.skip_missing}
    size = {"height": predictor.height, "width": predictor.width, "resize": predictor.resize}
    return open_dataset(
        options, "inspect", frame_ids=(0, 1) if given.source in ("speed", "gps") else (0,), **size
    )


def _write(given: argparse.Namespace, record: dict[str, Any]) -> Path:
    """The model and its scale factor in a new file."""
    from checkpoints import Checkpoint, load_checkpoint, save_checkpoint

    path = flags.model_path(given)
    out = given.out or (path / "metric.pt" if path.is_dir() else path.with_name(f"{path.stem}_metric.pt"))
    read = load_checkpoint(path, which=given.checkpoint)
    options = {**read.options, **flags.network_size(given), "scale_factor": record}
    lists = (read.training or {}).get("training_data")
    save_checkpoint(
        out, Checkpoint(read.weights, options, training={"training_data": lists} if lists else None)
    )
    return out


if __name__ == "__main__":
    run_main(main)
