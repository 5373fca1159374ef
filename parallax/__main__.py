"""The command `parallax`, also as `python -m parallax`; on several GPUs `torchrun ... -m parallax train`."""

from __future__ import annotations

import sys

from parallax import CHECKOUT


def main() -> None:
    """The command line; a mistake is one sentence and exit status 2."""
    if CHECKOUT is not None:  # as Python does for `python run.py`
        sys.path.insert(0, str(CHECKOUT))
    from parallax.commands import run
    from utils import run_main

    run_main(run)


if __name__ == "__main__":
    main()
