"""The file that a dataset is written into as it arrives, on a disk that may not take it.

pynetdicom writes it in the thread that reads the association, where an error would end that without a word.
Here the rest of such a dataset is read and dropped, so that its C-STORE is answered. And it removes the file
only of a C-STORE that it has answered: here, none stays that nobody will take.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from pynetdicom import dimse_messages
from pynetdicom.events import Event

_SUFFIX: Final = ".dcm"

_BEHIND_BYTES: Final = 1 << 19
"""Written and not on its way to the disk yet, at most."""

_START_WRITING: Final = 2
"""SYNC_FILE_RANGE_WRITE of Linux's sync_file_range(2): what is dirty is on its way then; nothing waits."""


def _sync_file_range() -> Any:
    """Of the C library, where it has it."""
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


_SYNC_FILE_RANGE: Final = _sync_file_range()


class Spool:
    """Stands in for the ``NamedTemporaryFile`` of a C-STORE request.

    Attributes:
        name: Its path; nothing is there any more once it has failed.
        failure: Why the disk did not take it.
    """

    def __init__(self, **_: object) -> None:
        """A new file in the folder of temporary files, if there can be one."""
        self.failure: OSError | None = None
        self._file: Any = None
        self._is_removed = False
        self._bytes = self._on_its_way_bytes = 0
        self.name = str(Path(tempfile.gettempdir(), f"{uuid.uuid4()}{_SUFFIX}"))
        try:
            descriptor, self.name = tempfile.mkstemp(suffix=_SUFFIX)
            self._file = os.fdopen(descriptor, "wb")
        except OSError as error:
            self.failure = error

    @classmethod
    def put_into_pynetdicom(cls) -> None:
        """Has every C-STORE request of this process written into one."""
        inner: Any = dimse_messages
        inner.NamedTemporaryFile = cls

    @property
    def file(self) -> Self:
        """What pynetdicom flushes."""
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Appends to the file, while it can be."""
        if self.failure is None:
            try:
                self._file.write(data)
            except OSError as error:
                self._drop(error)
            self._bytes += len(data)
            if self._bytes - self._on_its_way_bytes >= _BEHIND_BYTES:
                self.flush()

    def flush(self) -> None:
        """Hands to the system what was written, to be on its way to the disk when it is asked for there."""
        if self.failure is None:
            try:
                self._file.flush()
                self._start_writing()
            except OSError as error:
                self._drop(error)

    def close(self) -> None:
        """Closes the file; it stays where it is."""
        if self._file is not None:
            # What it still held could not be written before, either.
            with suppress(OSError):
                self._file.close()

    def remove(self) -> None:
        """Closes the file, and removes it if it still is where it was."""
        self.close()
        self._is_removed = True
        # Gone, or on a file system that has become read-only: one of the sweeper's leftovers.
        with suppress(OSError):
            Path(self.name).unlink()

    def __del__(self) -> None:
        """Nobody has it any more: a C-GET brought it, or pynetdicom has no use for its message."""
        if not self._is_removed:
            self.remove()

    def _start_writing(self) -> None:
        """Where the system can. The sync that is to come finds little to do, and tells what went wrong."""
        if _SYNC_FILE_RANGE is not None:
            size = self._bytes - self._on_its_way_bytes
            _SYNC_FILE_RANGE(self._file.fileno(), self._on_its_way_bytes, size, _START_WRITING)
        self._on_its_way_bytes = self._bytes

    def _drop(self, failure: OSError) -> None:
        """Makes room at once: on a full disk others wait for it."""
        self.failure = failure
        self.remove()


def drop_what_nobody_takes(association: Any) -> None:
    """Removes what an association has brought and will not go on with, when its connection has ended.

    That is a dataset that will not come to its end, and those of messages that wait for their turn: a peer
    may send the next before it is answered, and leave.
    """
    message, waiting = association.dimse.message, association.dimse.msg_queue
    spools = []
    if message is not None and message._data_set_file is not None:
        spools.append(message._data_set_file)
        message._data_set_file = None
    with waiting.mutex:
        spools += [spool for one in waiting.queue if (spool := _spool_of(one)) is not None]
        others = [one for one in waiting.queue if _spool_of(one) is None]
        waiting.queue.clear()
        waiting.queue.extend(others)
    for spool in spools:
        spool.remove()


def _spool_of(waiting: tuple[int | None, Any]) -> Spool | None:
    spool: Spool | None = getattr(waiting[1], "_dataset_file", None)
    return spool


def drop_at_the_end(event: Event) -> None:
    """The same; for ``EVT_CONN_CLOSE``."""
    drop_what_nobody_takes(event.assoc)
