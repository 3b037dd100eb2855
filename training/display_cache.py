"""Display images, decoded once: squares of 8 bits, kept on disk by what the file holds.

    FOLDER/display-v1-224/    the squares (``training.shards``)
    FOLDER/files.sqlite       which digest a file of this path, size and time had (``training.file_digests``)

A square is what ``Engine`` makes of the same radiograph before it normalises, to the bit. Its key is a
SHA-256 over the file's own and ``PIXELS_VERSION``: a file that changes gets another square, one that is only
moved keeps the one it has.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from litegpt.errors import RadiographError
from litegpt.squares import squashed
from training.datasets.pictures import read_image
from training.datasets.problems import Kind, Place, Problem
from training.decoding_pool import DecodingPool, ProcessDied
from training.file_digests import Stamp, add_digests, read_digests
from training.shard_writer import ShardWriter
from training.shards import RecordForm, Shards
from training.squares import Squares

PIXELS_VERSION: Final = 1
"""Of what becomes of a file's pixels on the way to a square. To be raised with every change of
``litegpt.radiograph``, ``grayscale`` and ``squares`` or ``training.datasets.pictures`` that changes any."""

DIGESTS_FILE: Final = "files.sqlite"

_COMMIT_SECONDS: Final = 5.0
"""So much work a killed run may lose."""

Progress = Callable[[int, int], None]
"""Told how many of how many files are done."""


@dataclass(frozen=True, slots=True)
class DisplayCache:
    """The squares of one size in a folder of caches. Making this object reads and writes nothing.

    Attributes:
        caches: Folder of all caches; made when something is put in.
        size: Side of the squares in pixels.
    """

    caches: Path
    size: int = 224

    @property
    def folder(self) -> Path:
        """Where the squares lie."""
        return self.caches / f"display-v{PIXELS_VERSION}-{self.size}"

    @property
    def form(self) -> RecordForm:
        """Of a square on disk."""
        return RecordForm("|u1", (self.size, self.size))

    def key(self, digest: bytes) -> bytes:
        """The key of the square of a file with this SHA-256."""
        text = f"litegpt display {PIXELS_VERSION} {self.size} ".encode()
        return hashlib.sha256(text + digest).digest()

    def find(self, files: Sequence[Path]) -> Squares:
        """The squares that are there already; the others are missing. No file is opened.

        Raises:
            ShardError: If the cache is damaged.
        """
        return self._squares(files, {})

    def fill(
        self,
        files: Sequence[Path],
        workers: int = 0,
        progress: Progress | None = None,
        *,
        verify: bool = False,
    ) -> Squares:
        """Decodes the files whose square is not there yet. What is done stays when it is broken off.

        Args:
            files: DICOM, PNG or JPEG; the same one may come more than once.
            workers: Processes that decode; 0 decodes in this one.
            progress: Told after each file.
            verify: Also read all squares that are there, and make damaged ones anew.

        Returns:
            A square for each file but those that cannot be read, which are told as missing.

        Raises:
            ShardError: If another process fills this cache, it is damaged, or the disk is full.
        """
        report = progress or (lambda done, total: None)
        wanted = list(dict.fromkeys(file.absolute() for file in files))
        shards = Shards(self.folder, self.form)
        damaged = frozenset(map(shards.key, shards.damaged())) if verify else frozenset()
        whole = {
            file
            for file, key in self._known_keys(wanted).items()
            if shards.number(key) is not None and key not in damaged
        }
        report(len(whole), len(wanted))
        problems: dict[Path, Problem] = {}
        if todo := [file for file in wanted if file not in whole]:
            job = _Decode(self, damaged, uuid.uuid4().hex)
            results = DecodingPool(job, workers).results(todo)
            with _Filling(self, damaged) as filling, closing(results):
                for count, (file, outcome) in enumerate(results, len(whole) + 1):
                    if isinstance(outcome, _Decoded):
                        filling.add(file, outcome)
                    else:
                        problems[file] = outcome if isinstance(outcome, Problem) else _died(file, outcome)
                    report(count, len(wanted))
        return self._squares(files, problems)

    def _squares(self, files: Sequence[Path], problems: Mapping[Path, Problem]) -> Squares:
        shards = Shards(self.folder, self.form)
        known = self._known_keys(file.absolute() for file in files)
        there = {
            file: key
            for file, key in known.items()
            if shards.number(key) is not None and file not in problems
        }
        missing = {
            place: problems.get(file.absolute()) or _unknown(file)
            for place, file in enumerate(files)
            if file.absolute() not in there
        }
        return Squares(files, shards, [there.get(file.absolute()) for file in files], missing, self.size)

    def _known_keys(self, files: Iterable[Path]) -> dict[Path, bytes]:
        """The keys of those files that have not changed since they were read."""
        digests = read_digests(self.caches / DIGESTS_FILE)
        keys: dict[Path, bytes] = {}
        for file in files:
            known = digests.get(file)
            if known and _stamp(file) == known[0]:
                keys[file] = self.key(known[1])
        return keys


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What a process found in a file; no square where there is one on disk."""

    stamp: Stamp
    digest: bytes
    square: NDArray[np.uint8] | None


class _Filling:
    """The cache while it is filled; what was added is kept however the ``with`` block ends."""

    def __init__(self, cache: DisplayCache, damaged: frozenset[bytes]) -> None:
        self._cache = cache
        self._writer = ShardWriter(cache.folder, cache.form)
        self._to_replace = set(damaged)
        self._found: list[tuple[Path, Stamp, bytes]] = []
        self._saved = time.monotonic()

    def add(self, file: Path, decoded: _Decoded) -> None:
        key = self._cache.key(decoded.digest)
        if decoded.square is not None and (key not in self._writer or key in self._to_replace):
            self._writer.append(key, decoded.square)
            self._to_replace.discard(key)
        self._found.append((file, decoded.stamp, decoded.digest))
        if time.monotonic() - self._saved > _COMMIT_SECONDS:
            self._save()

    def _save(self) -> None:
        self._writer.commit()
        add_digests(self._cache.caches / DIGESTS_FILE, self._found)
        self._found.clear()
        self._saved = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._writer:
            self._save()


@dataclass(frozen=True, slots=True)
class _Decode:
    """The job of the processes: from a file to its square.

    Attributes:
        cache: Which has some squares already.
        damaged: Keys of those that do not count.
        filling: Another for each time that the cache is filled.
    """

    cache: DisplayCache
    damaged: frozenset[bytes]
    filling: str

    def __call__(self, file: Path) -> _Decoded | Problem:
        try:
            with file.open("rb") as opened:
                stamp = Stamp.of(os.fstat(opened.fileno()))
                digest = hashlib.file_digest(opened, "sha256").digest()
            key = self.cache.key(digest)
            shards = _shards(self.cache, self.filling)
            if key not in self.damaged and shards.number(key) is not None:
                return _Decoded(stamp, digest, None)
            return _Decoded(stamp, digest, squashed(read_image(file).pixels, self.cache.size))
        except FileNotFoundError:
            return Problem(Kind.MISSING_IMAGE, Place(file), "", "no such file")
        except RadiographError as error:
            return Problem(Kind.UNREADABLE_IMAGE, Place(file), "", str(error))
        except OSError as error:
            return Problem(
                Kind.UNREADABLE_IMAGE, Place(file), "", f"cannot be read: {error.strerror or error}"
            )


@lru_cache(maxsize=1)
def _shards(cache: DisplayCache, filling: str) -> Shards:
    """What was in the cache when a process first looked, in each time of filling."""
    return Shards(cache.folder, cache.form)


def _stamp(file: Path) -> Stamp | None:
    try:
        return Stamp.of(file.stat())
    except OSError:
        return None


def _died(file: Path, death: ProcessDied) -> Problem:
    return Problem(Kind.UNREADABLE_IMAGE, Place(file), "", str(death))


def _unknown(file: Path) -> Problem:
    return Problem(Kind.UNREADABLE_IMAGE, Place(file), "", "not in the cache")
