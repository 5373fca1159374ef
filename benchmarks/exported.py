"""Accuracy and processor time of exported files next to the model that they were made from.

    python tools/export.py --run RUN --to a.onnx
    python tools/export.py --run RUN --to a_int8.onnx --int8 --calibration IMAGES
    python -m benchmarks.exported --run RUN --files a.onnx a_int8.onnx --data_path DATA [--repeats 20]

All predict the same validation images under the dataset's protocol. Times are of one image at the network's
size with one thread, in processor time, which does not depend on other load; the median of the repetitions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets import open_dataset
from evaluation import Loading, Predict, compare, evaluate
from flags import at_least
from predictor import load_predictor
from structures import Batch, Prediction
from tools._export_onnx import open_session
from utils import InputError, run_main


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    torch.set_num_threads(1)
    predictor = load_predictor(given.run, "cpu")
    dataset = open_dataset(predictor.options, "evaluate", data_path=given.data_path, part=given.part)
    indices = np.linspace(0, len(dataset) - 1, min(given.samples, len(dataset))).round().astype(int)
    loading = Loading(batch_size=1, indices=indices.tolist())
    sessions = {file.name: open_session(file.read_bytes(), threads=1) for file in given.files}
    predictors = {"torch": predictor.method.predict}
    predictors |= {name: predict_with(session) for name, session in sessions.items()}
    results = {name: evaluate(one, dataset, loading=loading)[""] for name, one in predictors.items()}
    print(compare(results))
    sample = Batch.cat([dataset[int(indices[0])]]).to("cpu")
    print("\nprocessor time of one image, ms")
    for name, predict in predictors.items():
        print(f"  {name:<24}{1000 * processor_time(lambda p=predict: p(sample), given.repeats):8.1f}")


def predict_with(session: Any) -> Predict:
    """A predictor that runs an exported file.

    Raises:
        InputError: a file that is not of `tools/export.py` or reads more than images.
    """
    facts = session.get_modelmeta().custom_metadata_map
    names = [entry.name for entry in session.get_inputs()]
    if facts.get("quantity") != "depth" or names != ["image"]:
        raise InputError("this comparison needs files of tools/export.py with --output depth and one camera")
    scale = float(facts["metric_scale"])

    def predict(batch: Batch) -> Prediction:
        (depth,) = session.run(None, {"image": batch.images[0].numpy()})
        return Prediction({}, {0: torch.from_numpy(depth) / scale})

    return predict


@torch.no_grad()
def processor_time(work: Callable[[], object], repeats: int) -> float:
    """Median processor time, seconds, after two calls that are not counted."""
    found = []
    for number in range(repeats + 2):
        start = time.process_time()
        work()
        if number >= 2:
            found.append(time.process_time() - start)
    return float(np.median(found))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = argparse.ArgumentParser("benchmarks.exported", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--run", type=Path, required=True, help="the model that the files were made from")
    add("--files", type=Path, nargs="+", required=True, help="files of tools/export.py, .onnx")
    add("--data_path", type=Path, required=True, help="root of the dataset of the training")
    add("--part", default="val", help="part of the split (default: val)")
    add("--samples", type=at_least(1), default=200, help="images to evaluate, evenly spaced")
    add("--repeats", type=at_least(1), default=20, help="repetitions of each time")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
