"""Whatever a dataset holds, it is taken or refused with a reason, and read or not, with one."""

from __future__ import annotations

import copy
import shutil
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from litegpt.errors import RadiographError
from litegpt.isolation import Broken, Isolation, Limits
from litegpt.radiograph import read_radiograph
from service.completion import Completion
from service.eligibility import Eligibility
from service.errors import NodeError
from service.records import overview
from service.records.intake import Receiver
from tests.fuzz import EXAMPLES
from tests.fuzz.elements import Element, damaged, elements_of, part10
from tests.images import DX, make_radiograph
from tests.worker.conftest import SmallNode, small_node

pytestmark = pytest.mark.timeout(300 + EXAMPLES)

CORPUS = [
    *sorted(Path(pydicom.__file__).parent.glob("data/*_files/*.dcm")),
    *sorted((Path(__file__).parent / "found").glob("*.dcm")),
]
"""pydicom's odd files, and what campaigns have found."""

SOUND = make_radiograph(rows=8, columns=6)
ELEMENTS = elements_of(SOUND)
COMPRESSED = {
    str(syntax): make_radiograph(rows=64, columns=48, transfer_syntax=syntax)
    for syntax in (JPEG2000Lossless, JPEGLSLossless, RLELossless)
}

quickly = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallNode]:
    node = small_node(tmp_path_factory.mktemp("fuzz"), minimum_age_years=0)
    yield node
    node.records.close()
    node.bell.close()


@pytest.fixture(scope="module")
def isolation() -> Iterator[Isolation]:
    isolation = Isolation(1, Limits(seconds=30, memory_bytes=1 << 30))
    yield isolation
    isolation.close()


def _come(node: SmallNode, path: Path) -> None:
    """What comes of a received file, through completion: only errors of the node's own."""
    try:
        Receiver(node.records, node.archive, Eligibility.of(node.settings)).take(path)
    except NodeError as error:
        assert "\n" not in str(error)
        path.unlink(missing_ok=True)
        return
    Completion.at_present(node.settings, node.records).complete_due(node.records)


def _read(path: Path) -> None:
    try:
        read_radiograph(path)
    except RadiographError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.name)
def test_the_files_that_are_known_to_be_odd(file: Path, node: SmallNode) -> None:
    _read(file)
    _come(node, Path(shutil.copy(file, node.archive.incoming / "corpus.part")))


@quickly
@given(content=damaged(ELEMENTS))
def test_a_damaged_dataset(content: bytes, node: SmallNode) -> None:
    path = part10(content, DX, SOUND.SOPInstanceUID, ExplicitVRLittleEndian, node.archive.incoming / "f.part")
    _read(path)
    _come(node, path)


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda one: f"{one.tag:08X}")
def test_a_sequence_in_an_element_s_place(element: Element, node: SmallNode) -> None:
    """With an item that cannot be written as text, for its VR is none. A campaign found one of these."""
    inner = Element(0x505C4952, b"MA", 4, b"1234").written()
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
    odd = replace(element, vr=b"SQ", value=item, length=len(item))
    content = b"".join((odd if one is element else one).written() for one in ELEMENTS)
    path = part10(content, DX, SOUND.SOPInstanceUID, ExplicitVRLittleEndian, node.archive.incoming / "f.part")
    _read(path)
    _come(node, path)


@st.composite
def _damaged_pixels(draw: st.DrawFn) -> pydicom.Dataset:
    """A compressed radiograph whose codestream is changed in a few places, or cut."""
    dataset = copy.deepcopy(COMPRESSED[draw(st.sampled_from(sorted(COMPRESSED)))])
    (frame,) = pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)
    stream = bytearray(frame)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(stream) - 1))
        stream[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(stream)])
    return dataset


@quickly
@given(dataset=_damaged_pixels())
def test_damaged_pixels(dataset: pydicom.Dataset, isolation: Isolation, node: SmallNode) -> None:
    path = node.archive.incoming / "pixels.part"
    dataset.save_as(path, enforce_file_format=True)
    try:
        isolation.call(read_radiograph, path)
    except (RadiographError, Broken) as error:
        assert "\n" not in str(error)


def test_what_was_taken_can_be_shown(node: SmallNode) -> None:
    """After all that came: the list and each study."""
    with node.records.reading() as session:
        views = overview.list_studies(session, 10_000)
    assert views
    for view in views:
        node.show(view.study_instance_uid)
