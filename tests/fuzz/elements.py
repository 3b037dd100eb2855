"""Datasets as lists of elements, written without pydicom, so that any of them may be wrong in its own way."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element

LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"})
"""VRs with a length of 32 bits in explicit VR (PS3.5 7.1.2)."""

_VRS = st.sampled_from([b"UI", b"SQ", b"OW", b"US", b"PN", b"DA", b"IS", b"DS", b"AS", b"UN", b"??", b"\0\0"])
_TAGS = st.sampled_from(
    [
        *(0x00080005, 0x00080016, 0x00080018, 0x00101010, 0x0020000D, 0x0020000E),
        *(0x00280010, 0x00280011, 0x7FE00010),
    ]
)
_TEXTS = st.sampled_from(
    [
        b"",
        b"\x1b[31mred\x1b[0m",
        b"=cmd|' /C calc'!A0",
        b"<script>alert(1)</script>",
        b"a\r\nSet-Cookie: b",
        b"\\" * 8,
        b"\x1b$B\x1b(J\xff",
        b"1e999",
        b"999999999999999999999",
        b"NaN",
        b"20261332",
        b"1.2." * 20,
        b"../" * 10,
        b"\0" * 16,
        "Ω≈ç√".encode(),
    ]
)


@dataclass(frozen=True)
class Element:
    """One element in explicit VR little endian, its length stated apart from its value."""

    tag: int
    vr: bytes
    length: int
    value: bytes

    def written(self) -> bytes:
        """Its bytes."""
        head = struct.pack("<HH2s", self.tag >> 16, self.tag & 0xFFFF, self.vr)
        if self.vr in LONG:
            return head + struct.pack("<HI", 0, self.length & 0xFFFFFFFF) + self.value
        return head + struct.pack("<H", self.length & 0xFFFF) + self.value


def elements_of(dataset: pydicom.Dataset) -> list[Element]:
    """The elements of a dataset that is in explicit VR little endian."""
    elements = []
    for element in dataset:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element)
        content = buffer.getvalue()
        vr = content[4:6]
        value = content[12:] if vr in LONG else content[8:]
        elements.append(Element(int(element.tag), vr, len(value), value))
    return elements


@st.composite
def damaged(draw: DrawFn, elements: list[Element]) -> bytes:
    """The bytes of a dataset with up to four things wrong in it."""
    now = list(elements)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(now) - 1))
        now[place : place + 1] = draw(_changes(now[place]))
    content = b"".join(element.written() for element in now)
    if draw(st.booleans()):
        return content
    cut = draw(st.integers(0, len(content)))
    return content[:cut] + draw(st.binary(max_size=12)) + content[cut:][draw(st.integers(0, 12)) :]


def _changes(element: Element) -> SearchStrategy[list[Element]]:
    lengths = st.sampled_from([0, 1, 7, 0xFFFF, 0xFFFFFFFF]) | st.integers(0, 300)
    values = _TEXTS | st.binary(max_size=40)
    return st.one_of(
        st.just([]),
        st.just([element, element]),
        lengths.map(lambda length: [replace(element, length=length)]),
        _VRS.map(lambda vr: [replace(element, vr=vr)]),
        _TAGS.map(lambda tag: [replace(element, tag=tag)]),
        values.map(lambda value: [replace(element, value=value, length=len(value))]),
        st.builds(lambda tag, vr, value: [Element(tag, vr, len(value), value), element], _TAGS, _VRS, values),
        st.integers(1, 60).map(lambda depth: [_nested(depth), element]),
    )


def _nested(depth: int) -> Element:
    """A sequence in a sequence in a sequence."""
    content = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
        content = Element(0x00081140, b"SQ", len(item), item).written()
    return Element(0x00081140, b"SQ", len(content), content)


def part10(dataset: bytes, sop_class: str, sop_instance: str, syntax: str, file: Path) -> Path:
    """A file with these dataset bytes, as a listener writes what it receives."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, sop_instance
    meta.TransferSyntaxUID, meta.FileMetaInformationVersion = syntax, b"\0\1"
    meta.ImplementationClassUID = "1.2.3"
    buffer = DicomBytesIO()
    pydicom.filewriter.write_file_meta_info(buffer, meta)
    file.write_bytes(b"\0" * 128 + b"DICM" + buffer.getvalue() + dataset)
    return file
