"""Effect of each part of BDEdepth on a synthetic world: the README's table.

    python -m benchmarks.bdedepth_table --out bench/bdedepth --steps 1000
    python -m benchmarks.bdedepth_table --out bench/views --start bench/bdedepth/Monodepth2_0 --steps 300

Renders a world in KITTI's layout, trains every row on it for the same number of steps from the same seed,
without ImageNet weights, evaluates it on held-out streets, and prints the table. An interrupted benchmark
continues where it was. The settings are chosen to learn in minutes (docs/performance.md). With `--start` the
rows are Monodepth2's network, fine-tuned from a run of it with and without the augmented views.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks._numbers import markdown
from benchmarks._runs import call, flags, step_seconds
from benchmarks.tables._spec import Column, Value
from devices import pick_device
from evaluation import Loading
from evaluation.benchmarks import evaluate_model
from evaluation.choice import DatasetChoice, Model
from methods import load_method
from utils import InputError, nearest_name, run_main

LOCAL, SHUFFLE = {"views.local_crop": "true", "views.detail": "2"}, {"views.patch_reshuffle": "true"}
COARSE_TO_FINE = {"scales": "0 1 2 3", "v1_multiscale": None}
GRID = {"decoder": "grid_decoder", "scales": "0"}
ROWS: dict[str, dict[str, Value]] = {  # name of a row → its options besides the common ones
    "Monodepth2": COARSE_TO_FINE,
    "grid decoder, one scale": GRID,
    "+ local crop": GRID | LOCAL,
    "+ patch reshuffle": GRID | SHUFFLE,
    "+ both (BDEdepth)": GRID | LOCAL | SHUFFLE,
    "+ both, HRNet18": GRID | LOCAL | SHUFFLE | {"encoder": "hrnet18"},
}
ROWS_FROM_START: dict[str, dict[str, Value]] = {
    "Monodepth2": COARSE_TO_FINE,
    "+ local crop": COARSE_TO_FINE | LOCAL,
    "+ patch reshuffle": COARSE_TO_FINE | SHUFFLE,
    "+ both": COARSE_TO_FINE | LOCAL | SHUFFLE,
}
COMMON = {
    "method": "monodepth2",
    "dataset": "kitti",
    "encoder": "resnet18",
    "pose_encoder": "resnet10t",
    "weights_init": "scratch",
    "min_depth": "0.02",
    "max_depth": "20",
    "learning_rate": "3e-4",
    "optimizer": "adamw",
    "weight_decay": "0.01",
    "scheduler": "cosine",
    "num_val": "1",
    "log_frequency": "100000",
    "keep_checkpoints": "1",
    "resume": "auto",
    "channels_last": None,
}
COLUMNS = {key: Column(key) for key in ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1")} | {
    "seconds": Column("s / step", digits=2)
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("bench/bdedepth"), help="folder for world and runs")
    parser.add_argument("--data_path", type=Path, help="folder of a rendered world; else <out>/data")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of each row")
    parser.add_argument("--batch_size", type=int, default=4, help="samples per step")
    parser.add_argument("--height", type=int, default=64, help="height of the network input, pixels")
    parser.add_argument("--width", type=int, default=192, help="width of the network input, pixels")
    parser.add_argument("--sequences", type=int, default=20, help="streets to render; a quarter is held out")
    parser.add_argument("--frames", type=int, default=16, help="frames of each street")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds to train each row with")
    parser.add_argument("--start", help="run of monodepth2 that every row starts from")
    parser.add_argument("--rows", nargs="+", help="names of the rows to train; else all")
    parser.add_argument("--workers", type=int, default=1, help="loader processes")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    args = parser.parse_args()
    known = ROWS_FROM_START if args.start else ROWS
    for name in args.rows or ():
        if name not in known:
            raise InputError(f"there is no row '{name}'{nearest_name(name, known)}")
    rows = {name: known[name] for name in args.rows or known}
    data = (args.data_path or args.out / "data").absolute()
    if not (data / "splits").is_dir():
        call("tools/make_synthetic.py", "--layout", "kitti", "--out", data, "--sequences", args.sequences,
             "--frames", args.frames)  # fmt: skip
    samples = sum(1 for line in (data / "splits/train_files.txt").read_text().splitlines() if line.strip())
    epochs = -(-args.steps // max(1, samples // args.batch_size))
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
    for seed in args.seeds:
        for name, own in rows.items():
            measured[name].append(train_and_evaluate(name, own, seed, epochs, data, args))
    rows_of_values = {
        name: {key: [run[key] for run in runs] for key in COLUMNS} for name, runs in measured.items()
    }
    print(f"\n{markdown(rows_of_values, COLUMNS)}")
    print(f"\n{samples} samples, {args.steps} steps of {args.batch_size}, {args.width}x{args.height}")


def train_and_evaluate(
    name: str, own: dict[str, Value], seed: int, epochs: int, data: Path, args: argparse.Namespace
) -> dict[str, float]:
    """Errors of one run on the test part, and the median `seconds` of its steps."""
    run = f"{''.join(c if c.isalnum() else '_' for c in name).strip('_')}_{seed}"
    options = {
        **COMMON,
        "data_path": data,
        "split": data / "splits",
        "log_dir": args.out.absolute(),
        "model_name": run,
        "height": args.height,
        "width": args.width,
        "batch_size": args.batch_size,
        "num_epochs": epochs,
        "max_steps": args.steps,
        "save_frequency": max(1, epochs // 4),
        "num_workers": args.workers,
        "device": args.device,
        "seed": seed,
        **({"load_weights_folder": args.start} if args.start else {}),
        **own,
    }
    print(f"\n{name}, seed {seed}", flush=True)
    call("run.py", *flags(options))
    device = pick_device(args.device)
    method, saved = load_method(args.out / run, device, which="last")
    where = DatasetChoice(data_path=data, split=f"{data / 'splits'}")
    result = evaluate_model(Model(method, saved), where, loading=Loading(device=device))
    seconds = step_seconds(args.out / run, args.batch_size)
    return {**result.mean, "seconds": seconds}


if __name__ == "__main__":
    run_main(main)
