"""Fetch a run from the mirror that `--checkpoint_mirror` keeps, or send what the mirror does not have yet.

python tools/mirror.py fetch s3://bucket/prefix/walk runs/walk
python tools/mirror.py send runs/walk s3://bucket/prefix/walk

After `fetch`, `run.py --model_name walk --resume auto` continues the run. An address that begins with s3://
needs the package s3fs: pip install -e ".[s3]".
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if not __package__:  # started as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools._options import new_parser, place
from utils import InputError, run_main


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    fetching = actions.add_parser("fetch", help="copy a mirror into a new run folder")
    fetching.add_argument("mirror", metavar="MIRROR", help="address of the run's mirror")
    fetching.add_argument("run", type=place, metavar="RUN", help="run folder that is made")
    sending = actions.add_parser("send", help="send what the mirror of a run does not have yet")
    sending.add_argument("run", type=place, metavar="RUN", help="run folder")
    sending.add_argument("mirror", metavar="MIRROR", help="address of the run's mirror")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    from checkpoints import RunFolder
    from storage import Storage, Unreachable
    from training.mirror import Mirror, fetch

    storage = Storage(given.mirror)
    try:
        if given.action == "fetch":
            names = fetch(storage, given.run)
            print(f"fetched {len(names)} files into {given.run}")
            return
        if not (given.run / "options.yaml").is_file():
            raise InputError(f"{given.run} is not a run folder: it has no options.yaml")
        RunFolder(given.run).check()  # a training sends by itself
        mirror = Mirror(given.run, storage)
        mirror.meet()
        names = mirror.missing()
        mirror.send_missing()
        print(f"sent {len(names)} files to {storage.url}")
    except Unreachable as error:
        raise InputError(f"{storage.url} does not answer ({error}); try again later") from None


if __name__ == "__main__":
    run_main(main)
