"""What durability costs on this disk: the syncs of an image, without anything else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_PAGE: Final = bytes(4096)


def sync_seconds(folder: Path, files: Sequence[Path], at_once: int) -> float:
    """Seconds of the syncs for files that are written and renamed by so many threads at once.

    Each image costs three: its file, the folder that it is renamed into, and a page of the database's log.
    Writing and renaming itself is not counted.
    """
    at_once = max(1, at_once)
    folder.mkdir(parents=True)

    def take(share: int) -> float:
        seconds = 0.0
        with (folder / f"{share}.log").open("ab", buffering=0) as log:
            for file in files[share::at_once]:
                target = folder / f"{share}-{file.name}"
                target.write_bytes(file.read_bytes())
                seconds += _timed_sync(target)
                target = target.rename(folder / f"{share}-{file.name}.dcm")
                seconds += _timed_sync(folder)
                log.write(_PAGE)
                seconds += _timed(lambda: os.fsync(log.fileno()))
        return seconds

    with ThreadPoolExecutor(at_once) as threads:
        return max(threads.map(take, range(at_once)))


def _timed_sync(path: Path) -> float:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return _timed(lambda: os.fsync(descriptor))
    finally:
        os.close(descriptor)


def _timed(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
