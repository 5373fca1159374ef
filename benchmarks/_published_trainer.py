"""Runs the trainer of a Monodepth2 checkout for some steps; benchmarks/trainer.py starts it there.

    python _published_trainer.py RECORD STEPS TRAIN_LIST VAL_LIST [flags of the published train.py]

It imports nothing of ours, since both programs have modules named options, trainer, networks and datasets.
Libraries have changed since 2019, so these names are given back before the import: PIL's ANTIALIAS, numpy's
int, and a ColorJitter.get_params that returns a function. The trainer's validation within a training calls
`next()` as a method, which iterators no longer have; it is left out.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


class Finished(Exception):
    """Enough steps were timed."""


def main() -> None:
    """Time the steps, and write the seconds of each as a JSON list."""
    record, steps, train_list, val_list = sys.argv[1:5]
    lists = {"train": train_list, "val": val_list}
    sys.path[0] = os.getcwd()
    restore_names()
    import options  # of the checkout
    import trainer  # of the checkout

    def lines_of(path: str) -> list[str]:
        part = "val" if "val" in Path(path).name else "train"
        return Path(lists[part]).read_text().splitlines()

    trainer.readlines = lines_of
    published = trainer.Trainer(options.MonodepthOptions().parser.parse_args(sys.argv[5:]))
    published.val = lambda: None
    times = [time.perf_counter()]
    step = published.model_optimizer.step

    def timed_step(*args: Any, **settings: Any) -> Any:
        result = step(*args, **settings)
        times.append(time.perf_counter())
        if len(times) > int(steps):
            raise Finished
        return result

    published.model_optimizer.step = timed_step
    with contextlib.suppress(Finished):
        published.train()
    Path(record).write_text(json.dumps([after - before for before, after in itertools.pairwise(times)]))


def restore_names() -> None:
    """Names that the published code uses and present libraries no longer have."""
    import numpy as np
    import PIL.Image
    from torchvision import transforms

    PIL.Image.ANTIALIAS = PIL.Image.LANCZOS
    np.int = int
    draw = transforms.ColorJitter.get_params

    def get_params(*ranges: Any) -> Any:
        order, *factors = draw(*ranges)
        names = ("brightness", "contrast", "saturation", "hue")
        adjust = [getattr(transforms.functional, f"adjust_{name}") for name in names]

        def jitter(image: Any) -> Any:
            for number in order:
                if factors[number] is not None:
                    image = adjust[number](image, factors[number])
            return image

        return jitter

    transforms.ColorJitter.get_params = staticmethod(get_params)


if __name__ == "__main__":
    main()
