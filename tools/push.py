"""Publish a model on the Hugging Face hub, with a card that is made from its run.

    python tools/push.py runs/walk owner/name --licence cc-by-4.0
    python tools/push.py runs/walk owner/name --private --image street.jpg
    python tools/push.py runs/walk owner/name --to FOLDER         the same files, without network

The repository gets `model.safetensors` (weights, options and training lists, without paths of this machine),
`README.md`, the card, and `example.jpg`: an image and its depth. The card says unit, data, hours of training,
licence, and for each evaluation in the run folder its protocol, numbers and the audit of the training list.
Then `hf://owner/name` names the model wherever a run can be named. Log in with `hf auth login`, or set
HF_TOKEN.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import flags
from tools._options import place
from utils import run_main


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    given = flags.parse(build_parser(), arguments)
    from checkpoints import hub
    from tools._model_card import write_release

    repository = hub.parse(f"hf://{given.repository.removeprefix('hf://')}").repository
    if given.to is not None:
        written = write_release(given.to, given.run, repository, given.checkpoint, given.licence, given.image)
        print(f"wrote {', '.join(written)} to {given.to}; nothing was sent")
        return
    with tempfile.TemporaryDirectory() as folder:
        write_release(Path(folder), given.run, repository, given.checkpoint, given.licence, given.image)
        send(Path(folder), repository, given.private, f"Model of the run {given.run.resolve().name}")
    print(f"sent to {repository}; python test_simple.py --image_path IMAGE --run hf://{repository}")


def send(folder: Path, repository: str, private: bool, message: str) -> None:
    """Upload a folder as one commit.

    Raises:
        InputError: no rights, no network, or a name that the hub does not take.
    """
    from huggingface_hub import HfApi

    from checkpoints import hub

    api = HfApi(endpoint=hub.endpoint())
    with hub.explained(repository, f"hf://{repository} cannot be written"):
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)


def build_parser() -> argparse.ArgumentParser:
    """The parser of the flags."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = flags.new_parser("tools/push.py", __doc__, formatter_class=as_written)
    add = parser.add_argument
    add("run", type=place, metavar="RUN", help="run folder, or a checkpoint that is read")
    add("repository", metavar="OWNER/NAME", help="repository on the hub; it is created if it does not exist")
    add("--checkpoint", default="best", choices=("best", "last"), help="checkpoint of a run folder")
    add(
        "--licence", metavar="NAME", help="licence of the weights, such as cc-by-4.0; else the card says none"
    )
    add(
        "--image",
        type=place,
        metavar="FILE",
        help="image of the card, shown with its depth; else a validation image, if the dataset is there",
    )
    add("--private", **flags.SWITCH, help="create the repository for its owner only")
    add("--to", type=place, metavar="FOLDER", help="write the files into a folder instead of sending them")
    return parser


if __name__ == "__main__":
    run_main(main)
