"""One job for many files, in processes beside this one, some of which a damaged file may kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Done = TypeVar("Done")

_AHEAD: Final = 4
"""Items for each process that wait, or are done, before they are asked for."""


class ProcessDied(Exception):
    """The process that worked on an item came to its end: a decoder crashed, or memory ran out."""


class DecodingPool(Generic[Item, Done]):
    """Does one job for many items, in their order.

    Processes are started afresh, not forked: they inherit neither threads nor locks. A script that uses them
    needs the usual ``if __name__ == "__main__":``.
    """

    def __init__(self, job: Callable[[Item], Done], workers: int) -> None:
        """Args:
        job: What to do with an item; it and the items are pickled.
        workers: Processes; 0 does the work in this one, where a crash is the end.
        """
        self._job = job
        self._workers = workers

    def results(self, items: Iterable[Item]) -> Generator[tuple[Item, Done | ProcessDied]]:
        """What became of each item, in order. To be closed where not all is taken.

        Raises:
            Exception: Whatever the job raises.
        """
        if not self._workers:
            for item in items:
                yield item, self._job(item)
            return
        waiting: deque[tuple[Item, Future[Done]]] = deque()
        pool = _new_pool(self._workers)
        try:
            for item in items:
                try:
                    waiting.append((item, pool.submit(self._job, item)))
                except BrokenProcessPool:
                    pool.shutdown()
                    pool = _new_pool(self._workers)
                    waiting.append((item, pool.submit(self._job, item)))
                if len(waiting) > _AHEAD * self._workers:
                    yield self._outcome(*waiting.popleft())
            while waiting:
                yield self._outcome(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _outcome(self, item: Item, future: Future[Done]) -> tuple[Item, Done | ProcessDied]:
        try:
            return item, future.result()
        except BrokenProcessPool:
            # One death breaks the pool for all that waited; each alone shows who caused it.
            with _new_pool(1) as alone:
                try:
                    return item, alone.submit(self._job, item).result()
                except BrokenProcessPool:
                    return item, ProcessDied("the decoder crashed, or there was no memory")


def _new_pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    """In a new process: Ctrl-C is the parent's affair, and the parent's end is the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
