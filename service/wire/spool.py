"""The file that a dataset is written into as it arrives, on a disk that may not take it.

pynetdicom writes it in the thread that reads the association, where an error would end that without a word.
Here the rest of such a dataset is read and dropped, so that its C-STORE is answered.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from pynetdicom import dimse_messages

_SUFFIX: Final = ".dcm"


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

    def flush(self) -> None:
        """Hands to the system what was written."""
        if self.failure is None:
            try:
                self._file.flush()
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
        # Gone, or on a file system that has become read-only: one of the sweeper's leftovers.
        with suppress(OSError):
            Path(self.name).unlink()

    def __del__(self) -> None:
        """pynetdicom closes what a listener gets, and leaves what a C-GET brings to Python."""
        self.close()

    def _drop(self, failure: OSError) -> None:
        """Makes room at once: on a full disk others wait for it."""
        self.failure = failure
        self.remove()
