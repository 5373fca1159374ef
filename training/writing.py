"""The run folder while a run writes it: claimed, mirrored if that is wanted, and its log open."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from checkpoints import RunFolder
from logs import RunLog
from processes import Processes
from training.mirroring import LAST_WAIT, STOP_WAIT, Mirroring
from training.stopping import as_sentence
from utils import InputError


@contextlib.contextmanager
def written(
    folder: RunFolder,
    options: argparse.Namespace,
    settings: Mapping[str, Any],
    begin: tuple[int, int],
    processes: Processes,
    ended: Callable[[], bool],
) -> Iterator[RunLog]:
    """The log of a run, in its folder. Only the first process writes; a failure stops all of them.

    Args:
        folder: the run folder.
        options: options of the run; `checkpoint_mirror` and `model_name` are used.
        settings: options that the folder keeps.
        begin: last step of the run, and the step that it starts from.
        processes: those of the run.
        ended: whether the run has come to its end, when the block ends.

    Raises:
        InputError: the folder, its log or its mirror cannot be written.
    """
    with contextlib.ExitStack() as stack:
        error = None
        try:
            if processes.first:
                folder.claim()
                stack.callback(folder.release)
                if options.checkpoint_mirror:
                    mirroring = Mirroring(folder.path, options.checkpoint_mirror, options.model_name)
                    stack.callback(lambda: mirroring.close(LAST_WAIT if ended() else STOP_WAIT))
            log = stack.enter_context(RunLog(folder.path, settings, *begin, processes.first))
        except (OSError, InputError) as caught:
            error = as_sentence(caught, folder.path)
        if error := processes.first_error(error):
            raise error
        yield log
