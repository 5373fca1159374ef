"""Long preparations: tasks in several processes, results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from threadpoolctl import threadpool_limits

from utils import InputError

Task, Result = TypeVar("Task"), TypeVar("Result")

# One thread a worker. Read when a spawned worker starts.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, start: str = "spawn"
) -> Iterator[Result]:
    """`function(task)` for each task in order, in this process or in several.

    Args:
        function: each worker gets it once, so a `functools.partial` may carry a whole dataset.
        tasks: small, since they go through a pipe.
        workers: processes; never more than tasks.
        start: `spawn` or `fork`.

    Raises:
        InputError: a worker was killed, or `function` raised one.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        yield from map(function, tasks)
        return
    if start == "spawn":
        for name in ONE_THREAD:
            os.environ.setdefault(name, "1")
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context(start), initializer=_start_worker, initargs=(function,)
    )
    waiting: deque[Future] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(_work, task))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise InputError(
            f"a worker was killed, perhaps because memory ran out; try fewer than --workers {workers}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_function: Callable  # in a worker process


def _start_worker(function: Callable) -> None:
    global _function
    _function = function
    threadpool_limits(1)  # a forked worker's libraries have read the environment long ago
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends them in order
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _work(task: Task) -> Result:
    return _function(task)
