"""Work in several processes: results in order, and a sentence for a worker that was killed."""

import functools
import os

import numpy  # noqa: F401  a spawned worker imports this file, and then numpy's thread pool
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from shards import shard_of
from utils import InputError
from workers import run_tasks


def power(base: int, exponent: int) -> int:
    return base**exponent


def die(task: int) -> None:
    os._exit(9)  # as the system kills what takes too much memory


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers):
    tasks = list(range(20))
    found = list(run_tasks(functools.partial(power, 2), tasks, workers, "fork"))
    assert found == [2**task for task in tasks]


def threads(task: int) -> int:
    return max(library["num_threads"] for library in threadpool_info())


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_worker_has_one_thread(start):
    with threadpool_limits(3):
        assert list(run_tasks(threads, [1, 2], 2, start)) == [1, 1]


def test_torchruns_processes_share_the_shard_that_is_given(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        which, shards = shard_of("2/4")
        found.append(set(range(100)[which - 1 :: shards]))
    assert set.union(*found) == set(range(100)[1::4]) and sum(map(len, found)) == 25


def test_a_worker_that_was_killed_is_told_of():
    with pytest.raises(InputError, match=r"a worker was killed, .* try fewer than --workers 2"):
        list(run_tasks(die, [1, 2], 2, "fork"))
