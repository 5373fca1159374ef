"""Choices for a recording of one's own: `parallax train walk.mp4` and `parallax predict walk.mp4`.

Training needs a dataset, intrinsics, a size of the network and a name. Prediction needs a model, and images
and videos have a script each. Every choice is printed as flags, and a typed flag takes precedence.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flags
from datasets.sizes import fitting_size
from datasets.video import VIDEOS, is_video
from utils import InputError, import_own

RUNS = "runs"  # where run.py puts runs if not told otherwise
PIXELS = 192 * 320  # of the network's input: trains on a CPU as well


def train(given: Sequence[str], rest: Sequence[str]) -> tuple[str, list[str]]:
    """Module and flags of a training.

    Args:
        given: the words before the first flag: nothing, a recording or, with `--dataset` or `--config`, the
            root of a dataset.
        rest: the flags that were typed.

    Raises:
        InputError: several inputs, one that does not exist, or a mistyped flag.
    """
    if not given or {"-h", "--help"} & set(rest):
        return "run", [*given, *rest]
    if len(given) > 1:
        raise InputError(
            f"parallax train takes one input, got {' and '.join(given)}; put them into one folder"
        )
    from options.command_line import read_command_line

    path, typed = Path(given[0]).expanduser(), read_command_line(rest)
    if not path.exists():
        raise InputError(f"there is no video or folder {path}")
    section = typed.get("dataset", {})
    dataset = section if isinstance(section, str) else section.get("name")
    if dataset or "config" in typed:
        return "run", ["--data_path", str(path), *rest]
    name = typed.get("model_name") or (path.stem if path.is_file() else path.resolve().name)
    chosen = {"dataset": "folder", "data_path": path, "model_name": name}
    run = Path(typed.get("log_dir", RUNS)).expanduser() / name
    if typed.get("resume", "never") == "never" or not (run / "options.yaml").exists():
        chosen |= {"dataset.intrinsics": "guess"} | _network_size(path, typed)
    typed_names = {name for name in typed if name != "dataset"} | {f"dataset.{key}" for key in section}
    own = [name for name in chosen if name not in typed_names]
    added = [word for name in own for word in (f"--{name}", str(chosen[name]))]
    print(f"parallax train {shlex.join([*added, *rest])}", file=sys.stderr)
    return "run", [*added, *rest]


def _network_size(path: Path, typed: dict[str, Any]) -> dict[str, int]:
    """Height and width that fit the recording's images, unless one of them was typed."""
    if "height" in typed or "width" in typed:
        return {}
    height, width = _image_size(path)
    width, height = fitting_size(width, height, PIXELS)
    return {"height": height, "width": width}


def _image_size(path: Path) -> tuple[int, int]:
    """(height, width) of a video's first frame, or of a folder's first image.

    Raises:
        InputError: there is no image, or it cannot be read.
    """
    from datasets.image_files import image_size  # imports torch
    from datasets.scenes import find_scenes, images_in
    from prediction.frames import open_video

    if path.suffix.lower() in VIDEOS and path.is_file():
        frame = next(open_video(path).images, None)
        if isinstance(frame, InputError):
            raise frame
        if frame is None:
            raise InputError(f"{path} has no frame that can be read")
        return tuple(frame.shape[-2:])
    folder = next(iter(find_scenes(path)[1].values()))  # extracts a recording of ROS
    return image_size(folder / images_in(folder)[0])


def predict(given: Sequence[str], rest: Sequence[str]) -> tuple[str, list[str]]:
    """Module and flags of a prediction: of a video if the input or `--output` is one, else of images.

    Args:
        given: the words before the first flag.
        rest: the flags that were typed; without a model, it is the run with the input's name, else the
            newest in `runs`.

    Raises:
        InputError: a mistyped flag, or no model.
    """
    if not given and {"-h", "--help"} & set(rest):
        print("# of a video\n")
        import_own("test_video").build_parser().print_help()
        print("\n# of images\n")
        return "test_simple", ["--help"]
    module = "test_video" if _is_video(given, rest) else "test_simple"
    words = ["--image_path", *given, *rest] if given else list(rest)
    args = flags.parse(import_own(module).build_parser(), words)
    if not any(getattr(args, name) for name in args.model_flags):
        run = _own_run(args.image_path)
        print(f"the model is {run}; --run names another", file=sys.stderr)
        words += ["--run", str(run)]
    return module, words


def live(given: Sequence[str], rest: Sequence[str]) -> tuple[str, list[str]]:
    """Module and flags of `parallax live SOURCE`; without a model, the newest run is taken.

    Args:
        given: the words before the first flag.
        rest: the flags that were typed.

    Raises:
        InputError: several sources, a mistyped flag, or no model.
    """
    if len(given) > 1:
        raise InputError(f"parallax live takes one source, got {' and '.join(given)}")
    words = ["--source", *given, *rest] if given else list(rest)
    if not given or {"-h", "--help"} & set(rest):
        return "tools.live", words
    args = import_own("tools.live").parse(words)
    if not any(getattr(args, name) for name in args.model_flags):
        run = _own_run([args.source])
        print(f"the model is {run}; --run names another", file=sys.stderr)
        words += ["--run", str(run)]
    return "tools.live", words


def _is_video(given: Sequence[str], rest: Sequence[str]) -> bool:
    parser = flags.Parser(add_help=False)
    parser.add_argument("--output", default="")
    output, _ = parser.parse_known_args(rest)
    if Path(output.output).suffix.lower() in {*VIDEOS, ".gif"}:
        return True
    return bool(given) and is_video(Path(given[0]).expanduser())


def _own_run(inputs: Sequence[str] | None) -> Path:
    """The run that has the name of the input, else the newest.

    Raises:
        InputError: there is no run.
    """
    saved = sorted(Path(RUNS).glob("*/checkpoints/*.pt"), key=lambda file: file.stat().st_mtime)
    runs = [file.parents[1] for file in saved]
    names = {Path(path).stem for path in inputs or ()}
    if not runs:
        raise InputError(
            f"no model was given, and {RUNS}/ holds no run: train one, parallax train walk.mp4, or name one "
            "with --run"
        )
    return next((run for run in runs if run.name in names), runs[-1])
