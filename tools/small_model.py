"""Train the small model that is shipped in models/synthetic_small, from nothing but this checkout.

    python tools/small_model.py --out small --seeds 0 1 2

Renders streets and rooms, trains configs/synthetic_small.yaml once for each seed, and writes the run with
the lowest validation abs_rel as models/synthetic_small/model.safetensors, float16 and at most 4 MB. Finished
steps are not repeated. docs/small-model.md says what the model is good for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools._options import new_parser, place
from tools._steps import step
from utils import PROJECT, InputError, run_main

CONFIG = "configs/synthetic_small.yaml"
WORLD = ["--layout", "folder", "--scenes", "mixed", "--frames", 3, "--height", 128, "--width", 192]
SHIPPED = PROJECT / "models/synthetic_small/model.safetensors"
LARGEST = 4_000_000  # bytes


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = parse(arguments)
    data = given.out / "data"
    if not (data / "gallery.png").is_file():
        world = [*WORLD, "--ext", "jpg", "--seed", 1, "--sequences", given.sequences, "--out", data]
        step("Streets and rooms", ["tools/make_synthetic.py", *world, "--overwrite"])
    for seed in given.seeds:
        step(
            f"Training with seed {seed}",
            ["run.py", "--config", CONFIG, "--data_path", data, "--log_dir", given.out, "--seed", seed]
            + ["--model_name", f"seed_{seed}", "--resume", "auto", *given.run_options],
        )
    print(ship([given.out / f"seed_{seed}" for seed in given.seeds], given.to))


def ship(runs: Sequence[Path], to: Path) -> str:
    """Write the best of several runs in float16; returns a sentence with the abs_rel of each.

    Raises:
        InputError: a run without validation, or a file that would be larger than 4 MB.
    """
    from checkpoints import load_checkpoint
    from checkpoints._own import export_weights

    checkpoints = {run: load_checkpoint(run) for run in runs}
    errors = {}
    for run, checkpoint in checkpoints.items():
        best = (checkpoint.training or {}).get("best")
        if not best:
            raise InputError(f"{run} was not validated; remove it and start again")
        errors[run] = float(best["value"])
    best_run = min(runs, key=errors.__getitem__)
    weights = checkpoints[best_run].weights
    if (size := sum(2 * value.numel() for value in weights.values())) > LARGEST:
        raise InputError(f"the network takes {size / 1e6:.1f} MB in float16, and at most 4 are shipped")
    export_weights(to, checkpoints[best_run], half=True)
    words = ", ".join(f"{run.name} {error:.3f}" for run, error in errors.items())
    return f"validation abs_rel: {words}; wrote {best_run.name} to {to} ({to.stat().st_size / 1e6:.1f} MB)"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The flags of the command line."""
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--out", type=place, default=Path("small"), help="folder for data and runs (default: small)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds that are compared (default: 0 1 2)")
    add("--sequences", type=int, default=480, help="streets and rooms to render (default: 480)")
    add("--to", type=place, default=SHIPPED, help="file of the best one (default: the shipped one)")
    add("--run_options", nargs=argparse.REMAINDER, default=[], help="all that follows goes to run.py")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_main(main)
