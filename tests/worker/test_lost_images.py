"""Images that the archive has lost, or that were damaged, while their study is analysed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from litegpt.findings import Reading
from litegpt.radiograph import Radiograph
from tests.images import make_radiograph
from tests.worker.conftest import SmallNode, small_node
from tests.worker.test_analysis import _Fake as FakeEngine
from worker.analysis import Analyst


class _Spoiling(FakeEngine):
    """A model under which the files of the archive change, once it has the pixels."""

    def __init__(self, spoil: Callable[[], object]) -> None:
        self.spoil = spoil

    def read(self, radiographs: Sequence[Radiograph]) -> list[Reading]:
        self.spoil()
        return [Reading(()) for _ in radiographs]


def _analyse_while(node: SmallNode, spoil: Callable[[], object]) -> None:
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    analyst.engines.load = lambda _: _Spoiling(spoil)
    assert analyst.drain()


def _file(node: SmallNode, image: Dataset) -> Path:
    (view,) = [
        each
        for each in node.show(image.StudyInstanceUID).images
        if each.sop_instance_uid == image.SOPInstanceUID and not each.reason
    ]
    return node.archive.absolute(view.path)


@pytest.fixture
def wanting(tmp_path: Path) -> Iterator[Callable[[str], SmallNode]]:
    """Makes a node whose one destination wants these kinds."""
    made: list[SmallNode] = []

    def make(kinds: str) -> SmallNode:
        made.append(small_node(tmp_path / "node", destinations=[f"PACS@127.0.0.1:1={kinds}"]))
        return made[-1]

    yield make
    for small in made:
        small.records.close()
        small.bell.close()


def test_an_image_damaged_after_it_was_read_costs_its_picture_alone(
    wanting: Callable[[str], SmallNode],
) -> None:
    node = wanting("sr+gsps+sc")
    good = make_radiograph()
    bad = make_radiograph(study_uid=good.StudyInstanceUID)
    node.take(good, bad)
    file = _file(node, bad)
    _analyse_while(node, lambda: file.write_bytes(file.read_bytes()[:-100]))
    view = node.show(good.StudyInstanceUID)
    assert (view.analysis_state, view.attempt) == ("done", 1)
    report, *others = [pydicom.dcmread(node.archive.absolute(delivery.path)) for delivery in view.deliveries]
    library = [str(item.ReferencedSOPInstanceUID) for item in _referenced(report)]
    assert set(library) == {good.SOPInstanceUID, bad.SOPInstanceUID}
    assert sorted(str(one.Modality) for one in others) == ["OT", "PR"]
    for one in others:
        assert bad.SOPInstanceUID not in str(one)


def _referenced(report: Dataset) -> list[Dataset]:
    """What the report's evidence names."""
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    return [item for series in study.ReferencedSeriesSequence for item in series.ReferencedSOPSequence]


def test_an_image_gone_after_it_was_read_costs_its_picture_alone_where_its_header_is_kept(
    wanting: Callable[[str], SmallNode],
) -> None:
    node = wanting("sr+sc")
    image = make_radiograph()
    corrected = deepcopy(image)
    corrected.PatientName = "After^Merge"
    node.take(image, corrected)
    _analyse_while(node, _file(node, image).unlink)
    view = node.show(image.StudyInstanceUID)
    assert (view.analysis_state, view.attempt) == ("done", 1)
    (report,) = [pydicom.dcmread(node.archive.absolute(delivery.path)) for delivery in view.deliveries]
    assert (report.Modality, report.PatientName) == ("SR", "After^Merge")


@pytest.mark.parametrize(
    ("kinds", "spoil", "words"),
    [
        ("sr+sc", Path.unlink, "is gone from the archive"),
        ("sr", Path.unlink, "is gone from the archive"),
        ("sr", lambda file: file.write_bytes(b"no image at all"), "is missing DICOM File Meta Information"),
        ("sc", lambda file: file.write_bytes(file.read_bytes()[:-100]), "cannot be decoded"),
    ],
    ids=["gone", "gone-report-alone", "not-dicom", "damaged-picture-alone"],
)
def test_where_no_result_can_be_made_the_analysis_fails_at_once_with_its_reason(
    kinds: str, spoil: Callable[[Path], object], words: str, wanting: Callable[[str], SmallNode]
) -> None:
    node = wanting(kinds)
    image, other = make_radiograph(), make_radiograph()
    node.take(image, other)
    file = _file(node, image)
    _analyse_while(node, lambda: file.exists() and spoil(file))
    view = node.show(image.StudyInstanceUID)
    assert (view.analysis_state, view.attempt, view.deliveries) == ("failed", 1, ())
    assert view.error.startswith(file.name) and words in view.error and "\n" not in view.error
    assert node.show(other.StudyInstanceUID).analysis_state == "done"


def test_an_image_gone_before_it_was_read_is_tried_again_and_then_fails(node: SmallNode) -> None:
    image, other = make_radiograph(), make_radiograph()
    node.take(image, other)
    _file(node, image).unlink()
    _analyse_while(node, lambda: None)
    view = node.show(image.StudyInstanceUID)
    assert (view.analysis_state, view.attempt) == ("failed", node.settings.maximum_attempts)
    assert "No such file" in view.error
    assert node.show(other.StudyInstanceUID).analysis_state == "done"
