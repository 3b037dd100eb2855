"""A received file, looked at before it is believed: whole, readable, and what its command said it was.

Pixel data is never decoded here, and its bytes are read only to digest them.
"""

from __future__ import annotations

import mmap
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_partial
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from litegpt.attributes import MALFORMED, UNDECODABLE
from service.archive import file_digest
from service.errors import CannotUnderstand, DatasetMismatch

_PIXEL_DATA: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_SEQUENCE_DELIMITER: Final = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UNREADABLE: Final = (*MALFORMED, InvalidDicomError)

_CHUNK_BYTES: Final = 1 << 20

MAXIMUM_INFLATED_BYTES: Final = 256 << 20
"""Largest dataset that may be deflated: four times the largest radiograph there is."""

_FILE_META_AT: Final = 132
"""Where the file meta information begins: after 128 bytes of preamble and "DICM" (PS3.10 7.1)."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Of a dataset's bytes, without the file meta information.

    Attributes:
        sha256: As hexadecimal text.
        size_bytes: Of what was digested.
    """

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReceivedObject:
    """What a received file is.

    Attributes:
        header: The dataset up to the pixel data.
        digest: SHA-256 of the dataset's bytes without the file meta information.
        has_pixels: Whether pixel data follow the header.
    """

    path: Path
    header: Dataset
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    digest: str
    size_bytes: int
    has_pixels: bool


@dataclass(frozen=True, slots=True)
class FileMeta:
    """The file meta information of a Part 10 file; texts are empty where it does not say.

    Attributes:
        dataset_offset: Where the dataset begins, in bytes. It is found by reading the elements: a file that
            did not come by C-STORE may lack the group length, or state a wrong one.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_offset: int

    @classmethod
    def read(cls, file: BinaryIO) -> FileMeta:
        """Reads it, wherever ``file`` stands.

        Raises:
            CannotUnderstand: If it cannot be read.
        """
        file.seek(_FILE_META_AT)
        try:
            meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_after_group_2)
            return cls(
                sop_class_uid=str(meta.get("MediaStorageSOPClassUID", "")),
                sop_instance_uid=str(meta.get("MediaStorageSOPInstanceUID", "")),
                transfer_syntax_uid=str(meta.get("TransferSyntaxUID", "")),
                dataset_offset=file.tell(),
            )
        except (*_UNREADABLE, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the file system's own; pydicom raises plain OSErrors over content
            raise CannotUnderstand(f"the file meta information cannot be read: {error}") from error


def _after_group_2(tag: int, _vr: str | None, _length: int) -> bool:
    return tag >> 16 != 2


def examine(
    path: Path,
    sop_class_uid: str | None = None,
    sop_instance_uid: str | None = None,
    digest: Callable[[], Digest | None] | None = None,
    meta: FileMeta | None = None,
) -> ReceivedObject:
    """Reads what identifies a received Part 10 file, and checks that the file is whole.

    Args:
        path: A file with preamble and file meta information.
        sop_class_uid: The class that the C-STORE command named; ``None`` where there was no command.
        sop_instance_uid: The instance that it named, likewise.
        digest: Gives the dataset's digest, from whoever takes it while the file is written; it is asked for
            last, since that may not be done yet. It is believed if it is of as many bytes as the dataset has;
            otherwise, and where there is none, the file is read here.
        meta: Its file meta information, from whoever has written it; otherwise that is read here.

    Raises:
        CannotUnderstand: If the dataset cannot be read to its end, or lacks a valid identifying UID.
        DatasetMismatch: If it is not the object that the command named (PS3.4 B.2.3, A9xx).
    """
    meta, header, has_pixels = _read_header(path, meta)
    uids = {
        keyword: _uid(header, keyword)
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    }
    _require_same("SOP Class UID", uids["SOPClassUID"], sop_class_uid)
    _require_same("SOP Instance UID", uids["SOPInstanceUID"], sop_instance_uid)
    size_bytes = path.stat().st_size
    taken = digest() if digest is not None else None
    if taken is None or taken.size_bytes != size_bytes - meta.dataset_offset:
        taken = Digest(file_digest(path, meta.dataset_offset), size_bytes - meta.dataset_offset)
    return ReceivedObject(
        path=path,
        header=header,
        sop_class_uid=uids["SOPClassUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        transfer_syntax_uid=meta.transfer_syntax_uid,
        digest=taken.sha256,
        size_bytes=size_bytes,
        has_pixels=has_pixels,
    )


def dataset_offset(path: Path) -> int:
    """Where the dataset of a Part 10 file begins, in bytes.

    Raises:
        CannotUnderstand: If the file meta information cannot be read.
    """
    with path.open("rb") as file:
        return FileMeta.read(file).dataset_offset


class _PixelsAhead:
    """A ``stop_when`` for pydicom that remembers the length of the pixel data it stopped at."""

    def __init__(self) -> None:
        self.length: int | None = None

    def __call__(self, tag: int, vr: str | None, length: int) -> bool:
        if tag not in _PIXEL_DATA:
            return False
        self.length = length
        return True


def _read_header(path: Path, meta: FileMeta | None) -> tuple[FileMeta, Dataset, bool]:
    """The file meta information, the dataset up to the pixel data, and whether there are any."""
    pixels = _PixelsAhead()
    with path.open("rb") as opened, _mapped(opened) as file:
        if meta is None:
            meta = FileMeta.read(file)
        file.seek(meta.dataset_offset)
        syntax = UID(meta.transfer_syntax_uid)
        if not syntax:
            raise CannotUnderstand("the file does not say its transfer syntax")
        if not syntax.is_transfer_syntax:
            raise CannotUnderstand(f"the transfer syntax is unknown: {syntax[:80]!r}")
        deflated = syntax == DeflatedExplicitVRLittleEndian
        if deflated:
            _require_modest_inflation(file)
        header = _dataset(file, syntax, pixels)
        _require_sound_elements(header, syntax)
        if pixels.length is not None and not deflated:
            _require_whole_pixels(file, pixels.length)
    if not header:
        raise CannotUnderstand("the dataset is empty")
    return meta, header, pixels.length is not None


def _mapped(file: BinaryIO) -> Any:
    """The file's bytes, to be read as a file is, without a system call for each of pydicom's small steps."""
    if os.fstat(file.fileno()).st_size == 0:
        raise CannotUnderstand("the file is empty")
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _require_modest_inflation(file: BinaryIO) -> None:
    """pydicom inflates a deflated dataset whole, and a small file may hold a very large one."""
    inflater, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
    try:
        while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(_CHUNK_BYTES)):
            inflated += len(inflater.decompress(chunk, _CHUNK_BYTES))
            if inflated > MAXIMUM_INFLATED_BYTES:
                raise CannotUnderstand("the deflated dataset is too large")
    except zlib.error as error:
        raise CannotUnderstand(f"the deflated dataset is damaged: {error}") from error


def _dataset(file: BinaryIO, syntax: UID, stop_when: Callable[[int, str | None, int], bool]) -> Any:
    """``file`` stands where the dataset begins."""
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            file.seek(0)
            return read_partial(file, stop_when=stop_when)
        return read_dataset(file, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=stop_when)
    except zlib.error as error:
        raise CannotUnderstand(f"the deflated dataset ends early or is damaged: {error}") from error
    except RecursionError as error:
        raise CannotUnderstand("the dataset's sequences are nested too deep") from error
    except (*_UNREADABLE, OSError) as error:
        raise CannotUnderstand(f"the dataset cannot be read: {error}") from error


def _require_sound_elements(header: Dataset, agreed: UID) -> None:
    """Every element whole, and in the transfer syntax that was agreed: pydicom reads on where one is not."""
    raw: Any
    for raw in header.values():  # as they were read: going over the Dataset itself would decode each element
        if not isinstance(raw, RawDataElement):
            continue
        if raw.is_implicit_VR != agreed.is_implicit_VR:
            raise CannotUnderstand(f"the dataset is not in its transfer syntax, {agreed.name}")
        if raw.length != _UNDEFINED_LENGTH and len(raw.value or b"") != raw.length:
            raise CannotUnderstand(f"the dataset ends early, within {raw.tag}")


def _require_whole_pixels(content: Any, length: int) -> None:
    """``content`` stands at the pixel data element; 12 bytes of element header are the most there can be."""
    start = content.tell()
    if length == _UNDEFINED_LENGTH:
        whole = content.rfind(_SEQUENCE_DELIMITER, start) != -1
    else:
        explicit = content[start + 4 : start + 6] in (b"OB", b"OW", b"OF", b"OD", b"UN")
        whole = start + (12 if explicit else 8) + length <= len(content)
    if not whole:
        raise CannotUnderstand("the dataset ends early, within the pixel data")


def _uid(header: Dataset, keyword: str) -> str:
    try:
        value = header.get(keyword)
        uid = "" if value is None else str(value)
    except UNDECODABLE as error:
        raise CannotUnderstand(f"{keyword} cannot be read: {error}") from error
    if not uid:
        raise CannotUnderstand(f"the dataset has no {keyword}")
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise CannotUnderstand(f"{keyword} is no UID, but {len(uid)} characters")
    return uid


def _require_same(what: str, found: str, named: str | None) -> None:
    if named is not None and found != named:
        raise DatasetMismatch(f"{what} is {found}, but the command named {named}")
