"""The one process that adds records to a store of ``training.shards``."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from training.shards import (
    ENTRY,
    FORM_FILE,
    INDEX_FILE,
    KEY_BYTES,
    LOCK_FILE,
    Layout,
    RecordForm,
    ShardError,
    new_entry,
    read_entries,
    read_layout,
    shard_file,
)

SHARD_BYTES: Final = 256 * 2**20
"""Largest shard; a record that is larger has one of its own."""


class ShardWriter:
    """Adds records; what was added counts once ``commit`` has come back, or the ``with`` block has ended.

    A ``with`` block that an error or Ctrl-C ends keeps what was added before.
    """

    def __init__(self, folder: Path, form: RecordForm, *, shard_bytes: int = SHARD_BYTES) -> None:
        """Args:
            folder: Of the store; made where it is missing, as the folder above, for their owner alone.
            form: Of the records.
            shard_bytes: Largest shard of a new store.

        Raises:
            ShardError: If another process writes to it, it is no such store or damaged, or the disk refuses.
        """
        self.folder = folder
        self._form = form
        self._files: dict[str, int] = {}
        self._unsynced: set[int] = set()
        try:
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(exist_ok=True, mode=0o700)
            self._lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ShardError(folder, f"cannot be written: {error.strerror or error}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._layout = read_layout(folder, form) or self._begin(shard_bytes)
            found = read_entries(folder)  # (records,)
            self._entries = [entry.tobytes() for entry in found]
            self._keys = set(found["key"].tolist())
            self._committed = len(self._entries)
            os.ftruncate(self._open(INDEX_FILE), self._committed * ENTRY.itemsize)  # a torn tail goes
        except BaseException as error:
            self._close()
            if isinstance(error, BlockingIOError):
                raise ShardError(folder, "another process is writing to it; wait for it to end") from None
            if isinstance(error, OSError):
                raise ShardError(folder, f"cannot be written: {error.strerror or error}") from None
            raise

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, key: bytes, record: NDArray[Any]) -> None:
        """Adds a record; under a key that is there already it takes the other one's place.

        Raises:
            ShardError: If the disk is full or fails.
            ValueError: If key or record are not of the store's form.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes")
        if record.shape != self._form.shape or record.dtype != np.dtype(self._form.dtype):
            raise ValueError(f"a record of {record.shape} {record.dtype} in a store of {self._form}")
        whole = np.ascontiguousarray(record)
        number = len(self._entries)
        shard, place = divmod(number, self._layout.records_per_shard)
        try:
            file = self._open(shard_file(self.folder, shard).name)
            _write_all(file, whole.tobytes(), place * self._form.record_bytes)
        except OSError as error:
            raise ShardError(self.folder, f"cannot be written: {error.strerror or error}") from None
        self._entries.append(new_entry(key, whole, number))
        self._keys.add(key)

    def commit(self) -> None:
        """Makes what was added count: records first, entries when those are safe.

        Raises:
            ShardError: If the disk is full or fails.
        """
        # May be broken off at any point and called again: the same entries go to the same place.
        count = len(self._entries)
        if count == self._committed:
            return
        try:
            index = self._open(INDEX_FILE)
            for file in self._unsynced - {index}:
                os.fsync(file)
            added = b"".join(self._entries[self._committed : count])
            _write_all(index, added, self._committed * ENTRY.itemsize)
            os.fsync(index)
        except OSError as error:
            raise ShardError(self.folder, f"cannot be written: {error.strerror or error}") from None
        self._unsynced.clear()
        self._committed = count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.commit()
        finally:
            self._close()

    def _begin(self, shard_bytes: int) -> Layout:
        """Writes ``store.json``."""
        layout = Layout(self._form, max(1, shard_bytes // max(1, self._form.record_bytes)))
        part = self.folder / f"{FORM_FILE}.part"
        with part.open("w", encoding="utf-8") as opened:
            opened.write(layout.to_json())
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(self.folder / FORM_FILE)
        self._sync_folder()
        return layout

    def _open(self, name: str) -> int:
        """A descriptor of a file of the store, kept until the end; a new file's name is made safe."""
        if name not in self._files:
            is_new = not (self.folder / name).exists()
            self._files[name] = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o600)
            if is_new:
                self._sync_folder()
        self._unsynced.add(self._files[name])
        return self._files[name]

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _close(self) -> None:
        for file in (*self._files.values(), self._lock):
            os.close(file)
        self._files.clear()


def _write_all(file: int, content: bytes, offset: int) -> None:
    """``pwrite``, which may write less than it was given."""
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
