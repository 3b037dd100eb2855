"""A part of the node that has no port shows that it is alive by a file, one for each part and machine."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

BEAT_IS_OLD_SECONDS: Final = 30.0

_AHEAD_SECONDS: Final = 3600.0
"""A machine's clock may be ahead of ours; a beat of later than that was left before ours was set back."""


def beat_file(data_dir: Path, part: str, machine: str | None = None) -> Path:
    """Where a part of this machine leaves its beat; the folder may be shared by several."""
    return data_dir / f"{part}.{machine or socket.gethostname()}.beat"


def beat(data_dir: Path, part: str) -> None:
    """Leaves a beat, if the disk takes it: who has work that it can do without goes on, and is missed."""
    with suppress(OSError):
        beat_file(data_dir, part).write_text(f"{time.time()}\n", encoding="ascii")


def is_beating(data_dir: Path, part: str) -> bool:
    """Whether a part of this machine was alive lately."""
    return _is_fresh(beat_file(data_dir, part))


def is_beating_anywhere(data_dir: Path, part: str) -> bool:
    """Whether such a part of any machine that shares the folder was alive lately."""
    return any(map(_is_fresh, _files(data_dir, part)))


def rest(data_dir: Path, part: str) -> None:
    """A part of this machine has ended in order, and is not missed."""
    with suppress(OSError):
        beat_file(data_dir, part).unlink(missing_ok=True)


def beats(data_dir: Path, part: str) -> dict[str, float]:
    """When such a part was last alive, in seconds since 1970, by machine."""
    return {
        file.name.removeprefix(f"{part}.").removesuffix(".beat"): _beat_of(file)
        for file in sorted(_files(data_dir, part))
    }


def last_beat(data_dir: Path, part: str) -> float:
    """When such a part of any machine was last alive, in seconds since 1970; 0 where none ever was."""
    return max(map(_beat_of, _files(data_dir, part)), default=0.0)


def _files(data_dir: Path, part: str) -> list[Path]:
    return list(data_dir.glob(beat_file(data_dir, part, "*").name))


def _is_fresh(file: Path) -> bool:
    return -_AHEAD_SECONDS < time.time() - _beat_of(file) < BEAT_IS_OLD_SECONDS


def _beat_of(file: Path) -> float:
    with suppress(OSError, ValueError):
        return float(file.read_text(encoding="ascii"))
    return 0.0
