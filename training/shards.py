"""A store on disk of many records of one form, found by key, that a killed writer cannot spoil.

    store.json     what a record is: dtype and shape, and how many lie in a shard
    index          an entry a record, in the order of the records; an entry counts once it is whole
    shard-00000    the records themselves, one after the other, as they are in memory
    lock           held by the one process that writes (``training.shard_writer``)

A record is written before its entry, so what a killed writer leaves behind is a tail that no entry speaks
of; it is ignored, and overwritten by the next writer. Any number of processes read meanwhile; each sees the
records that were there when it opened the store. Where a key was written twice, the later record counts.

An entry holds a CRC-32 of its record, which is compared when a process reads the record for the first time.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.errors import TrainingError

FORM_FILE: Final = "store.json"
INDEX_FILE: Final = "index"
LOCK_FILE: Final = "lock"

FORMAT: Final = "litegpt shards 1"

KEY_BYTES: Final = 32
"""Of a key: a SHA-256."""

REMEDY: Final = "fill the cache again and let it verify, or delete the folder"

ENTRY: Final = np.dtype([("key", f"V{KEY_BYTES}"), ("record_crc", "<u4"), ("entry_crc", "<u4")])


class ShardError(TrainingError):
    """A store is damaged, another kind of folder, or being written by another process."""

    def __init__(self, folder: Path, words: str) -> None:
        super().__init__(f"{folder}: {words}")


@dataclass(frozen=True, slots=True)
class RecordForm:
    """What every record of a store is.

    Attributes:
        dtype: NumPy's name of it, with byte order where there is one: ``|u1``, ``<f2``.
        shape: Of one record.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Layout:
    """The form of a store's records and how they lie in shards."""

    form: RecordForm
    records_per_shard: int

    def to_json(self) -> str:
        """For ``store.json``."""
        values = {
            "format": FORMAT,
            "dtype": self.form.dtype,
            "shape": list(self.form.shape),
            "records_per_shard": self.records_per_shard,
        }
        return json.dumps(values, indent=1) + "\n"


class Shards:
    """The records of a store, as they were when it was opened.

    Files are mapped when a record of theirs is first read; a copy sent to another process maps its own.
    """

    def __init__(self, folder: Path, form: RecordForm) -> None:
        """Args:
            folder: Of the store; one that does not exist holds nothing.
            form: Which the records must have.

        Raises:
            ShardError: If it is no store, one of another form, or its index is damaged.
        """
        self.folder = folder
        layout = read_layout(folder, form)
        self._layout = layout
        self._entries = read_entries(folder) if layout else np.empty(0, ENTRY)  # (records,)
        self._numbers: dict[bytes, int] | None = None
        self._maps: dict[int, NDArray[Any]] = {}
        self._checked = np.zeros(len(self._entries), dtype=bool)  # (records,)

    def __len__(self) -> int:
        return len(self._entries)

    def __getstate__(self) -> dict[str, Any]:
        """Without the maps: NumPy would send the files' contents."""
        return {**self.__dict__, "_maps": {}, "_numbers": None}

    def number(self, key: bytes) -> int | None:
        """Where the record of a key is, for ``self[number]``; None where there is none."""
        if self._numbers is None:
            self._numbers = {found: number for number, found in enumerate(self._entries["key"].tolist())}
        return self._numbers.get(key)

    def __getitem__(self, number: int) -> NDArray[Any]:
        """A record, read-only and not copied: pages of the file, shape that of the form.

        Raises:
            ShardError: If it is not what was written.
            IndexError: If there is none of this number.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} of {len(self)}")
        record = self._record(number)
        if not self._checked[number]:
            if not self._is_whole(number, record):
                raise ShardError(self.folder, f"record {number} is damaged; {REMEDY}")
            self._checked[number] = True
        return record

    def damaged(self) -> Iterator[int]:
        """Reads every record that counts, and yields the numbers of those that are not what was written."""
        keys = self._entries["key"].tolist()
        for number in sorted({key: number for number, key in enumerate(keys)}.values()):
            try:
                whole = self._is_whole(number, self._record(number))
            except ShardError:
                whole = False
            if not whole:
                yield number

    def key(self, number: int) -> bytes:
        """The key of a record."""
        return bytes(self._entries["key"][number].tobytes())

    def _is_whole(self, number: int, record: NDArray[Any]) -> bool:
        return zlib.crc32(record.data) == int(self._entries["record_crc"][number])

    def _record(self, number: int) -> NDArray[Any]:
        if self._layout is None:
            raise IndexError(f"{self.folder} holds nothing")
        shard, place = divmod(number, self._layout.records_per_shard)
        if shard not in self._maps:
            self._maps[shard] = self._map(shard, self._layout)
        record: NDArray[Any] = self._maps[shard][place]
        return record

    def _map(self, shard: int, layout: Layout) -> NDArray[Any]:
        """(records of the shard, *shape of the form)."""
        first = shard * layout.records_per_shard
        count = min(layout.records_per_shard, len(self) - first)
        file = shard_file(self.folder, shard)
        try:
            mapped = np.memmap(file, layout.form.dtype, "r", shape=(count, *layout.form.shape))
        except (OSError, ValueError) as error:  # ValueError: shorter than that
            raise ShardError(self.folder, f"{file.name} cannot be read ({error}); {REMEDY}") from None
        return np.asarray(mapped)


def shard_file(folder: Path, shard: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{shard:05d}"


def read_layout(folder: Path, form: RecordForm) -> Layout | None:
    """What ``store.json`` says; None where there is none yet.

    Raises:
        ShardError: If it is not ours, of another form, or its folder has other things in it.
    """
    file = folder / FORM_FILE
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values["format"] != FORMAT:
            raise ShardError(folder, f"holds {values['format']!r}, which this version cannot read")
        found = RecordForm(str(values["dtype"]), tuple(int(side) for side in values["shape"]))
        layout = Layout(found, int(values["records_per_shard"]))
    except FileNotFoundError:
        return None if _is_new(folder) else read_layout(folder, form)
    except OSError as error:
        raise ShardError(folder, f"cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise ShardError(folder, f"{FORM_FILE} is damaged; delete the folder") from None
    if found != form or layout.records_per_shard < 1:
        raise ShardError(
            folder, f"holds {_words(found)}, not {_words(form)}; delete it, or name another folder"
        )
    return layout


def _is_new(folder: Path) -> bool:
    """Whether nothing is there yet; False where a writer has begun a moment ago."""
    try:
        names = {file.name for file in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise ShardError(folder, f"cannot be read: {error.strerror or error}") from None
    if FORM_FILE in names:
        return False
    # What a writer killed at the very beginning leaves is no reason to refuse.
    if strangers := sorted(names - {LOCK_FILE, f"{FORM_FILE}.part"}):
        raise ShardError(folder, f"is no cache of ours: it has {strangers[0]!r}, and no {FORM_FILE}")
    return True


def _words(form: RecordForm) -> str:
    return f"records of {' × '.join(map(str, form.shape))} {np.dtype(form.dtype).name}"


def new_entry(key: bytes, record: NDArray[Any], number: int) -> bytes:
    """The index's entry of a record."""
    body = key + zlib.crc32(record.data).to_bytes(4, "little")
    return body + zlib.crc32(body, number).to_bytes(4, "little")


def read_entries(folder: Path) -> NDArray[np.void]:
    """The whole entries of the index, (records,) ``ENTRY``; a torn tail is left out.

    Raises:
        ShardError: If an entry is damaged that whole ones follow: no writer leaves that behind.
    """
    try:
        raw = (folder / INDEX_FILE).read_bytes()
    except FileNotFoundError:
        return np.empty(0, ENTRY)
    except OSError as error:
        raise ShardError(folder, f"{INDEX_FILE} cannot be read: {error.strerror or error}") from None
    whole = [_entry_is_whole(raw, number) for number in range(len(raw) // ENTRY.itemsize)]
    count = whole.index(False) if False in whole else len(whole)
    if any(whole[count:]):
        raise ShardError(folder, f"{INDEX_FILE} is damaged at entry {count}; delete the folder")
    return np.frombuffer(raw, ENTRY, count)


def _entry_is_whole(raw: bytes, number: int) -> bool:
    start = number * ENTRY.itemsize
    body, crc = (
        raw[start : start + ENTRY.itemsize - 4],
        raw[start + ENTRY.itemsize - 4 : start + ENTRY.itemsize],
    )
    return zlib.crc32(body, number) == int.from_bytes(crc, "little")
