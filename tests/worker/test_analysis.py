"""Studies through the real model: what can be read is read, and nothing brings the rest down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage, JPEGLSLossless
from sqlalchemy import update

from litegpt.boxes import Box
from litegpt.engine import Read
from litegpt.findings import Finding, Reading
from litegpt.identity import read_identity
from litegpt.phantoms import phantom_files
from litegpt.squares import SquashedImage
from service.errors import OutOfResources
from service.metrics.processes import AnalysisMetrics
from service.peers import ResultKind
from service.records import analyses, conclusions, deliveries
from service.records.claims import Claim, ClaimedImage
from service.records.conclusions import ImageOutcome
from service.records.database import utc_now
from service.records.overview import StudyView
from service.records.retry import Retry
from service.records.states import AnalysisState
from service.records.tables import Analysis
from tests.images import SECONDARY_CAPTURE, make_radiograph
from tests.service.test_work import MINUTE
from tests.worker.conftest import SmallNode
from worker.analysis import Analyst
from worker.conclusions import Conclusions
from worker.results.making import MadeResult, make_again, make_results


def _analyst(node: SmallNode) -> Analyst:
    return Analyst(node.settings, node.records, node.archive, node.bell)


def _undecodable(**attributes: Any) -> Dataset:
    """A radiograph whose compressed pixel data are noise in a proper wrapping."""
    dataset = make_radiograph(transfer_syntax=JPEGLSLossless, **attributes)
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7 no image at all " * 4])
    return dataset


def _reports(node: SmallNode, view: StudyView) -> list[Dataset]:
    return [pydicom.dcmread(node.archive.absolute(delivery.path)) for delivery in view.deliveries]


def _deliver(node: SmallNode) -> str:
    """Sends the one result that is due; its SOP Instance UID."""
    (claim,) = deliveries.claim(node.records, node.settings.destinations[0], limit=9, lease=MINUTE)
    deliveries.sent(node.records, claim)
    return claim.sop_instance_uid


def _predecessors(report: Dataset) -> list[str]:
    (study,) = report.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    return [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence]


def test_a_study_is_read_reported_and_due_for_delivery(node: SmallNode) -> None:
    phantom = pydicom.dcmread(phantom_files()[0])
    node.take(phantom)
    _analyst(node).drain()
    view = node.show(phantom.StudyInstanceUID)
    assert (view.analysis_state, view.outcome, view.attempt) == ("done", "delivering", 1)
    assert view.images[0].findings
    (report,) = _reports(node, view)
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert report.StudyInstanceUID == phantom.StudyInstanceUID
    assert report.PatientID == phantom.PatientID
    for finding in view.images[0].findings:
        if finding.box:
            x_min, y_min, x_max, y_max = finding.box
            assert 0 <= x_min < x_max <= phantom.Columns
            assert 0 <= y_min < y_max <= phantom.Rows


def test_an_image_that_cannot_be_decoded_is_named_and_the_other_is_read(node: SmallNode) -> None:
    good = make_radiograph(rows=256, columns=200)
    bad = _undecodable(study_uid=good.StudyInstanceUID)
    node.take(good, bad)
    _analyst(node).drain()
    view = node.show(good.StudyInstanceUID)
    assert view.analysis_state == "done"
    by_uid = {image.sop_instance_uid: image for image in view.images}
    assert by_uid[good.SOPInstanceUID].findings and not by_uid[good.SOPInstanceUID].not_read
    assert by_uid[bad.SOPInstanceUID].not_read and not by_uid[bad.SOPInstanceUID].findings
    texts = [element.value for element in _reports(node, view)[0].iterall() if element.keyword == "TextValue"]
    assert any(text.startswith(f"Image {bad.SOPInstanceUID} was not read: ") for text in texts)


def test_images_that_are_not_meant_to_be_read_are_named_with_their_reason(node: SmallNode) -> None:
    """Those that were there; one that comes later is not, however late the report is made again."""
    frontal = make_radiograph()
    study = {"study_uid": frontal.StudyInstanceUID}
    lateral, late = make_radiograph(ViewPosition="LL", **study), make_radiograph(ViewPosition="RL", **study)
    picture = make_radiograph(sop_class=SECONDARY_CAPTURE, ImageType=["DERIVED", "SECONDARY"], **study)
    corrected = make_radiograph(sop_instance_uid=frontal.SOPInstanceUID, PatientID="NEW", **study)
    node.take(frontal, lateral, picture, corrected)
    _analyst(node).drain()
    node.take(late)
    (report,) = _reports(node, node.show(frontal.StudyInstanceUID))
    (again,) = make_again(
        conclusions.concluded(node.records, 1),
        ResultKind.STRUCTURED_REPORT,
        ComprehensiveSRStorage,
        node.settings,
        node.archive,
    )
    for said in (report, pydicom.dcmread(node.archive.absolute(again.path))):
        texts = [element.value for element in said.iterall() if element.keyword == "TextValue"]
        assert [text for text in texts if "was not read" in text] == [
            f"Image {lateral.SOPInstanceUID} was not read: lateral view LL"
        ]


def test_a_study_without_a_readable_image_is_quarantined_at_once_and_reported_as_not_read(
    node: SmallNode,
) -> None:
    bad = _undecodable()
    node.take(bad, make_radiograph(rows=64, columns=64))
    _analyst(node).drain()
    view = node.show(bad.StudyInstanceUID)
    assert (view.analysis_state, view.outcome, view.attempt) == ("failed", "failed", 1)
    (image,) = view.images
    assert view.error == image.not_read != ""
    assert [delivery.state for delivery in view.deliveries] == ["due"]
    (report,) = _reports(node, view)
    assert report.SeriesDescription.endswith("AI: not read")
    codes = [element.value for element in report.iterall() if element.keyword == "CodeValue"]
    texts = [element.value for element in report.iterall() if element.keyword == "TextValue"]
    assert "111245" in codes and "111242" not in codes
    assert [text for text in texts if text.startswith(f"Image {bad.SOPInstanceUID} was not read: ")]


def _try_again(node: SmallNode, engine: _Fake) -> None:
    """Has the quarantined analysis of the one study tried by an engine."""
    with node.records.writing() as session:
        session.execute(update(Analysis).values(state=AnalysisState.QUEUED, not_before=utc_now()))
    analyst = _analyst(node)
    analyst.engines.load = lambda _: engine
    analyst.drain()


def test_what_is_read_after_all_is_another_report_in_the_place_of_the_first(node: SmallNode) -> None:
    image = make_radiograph(rows=64)
    node.take(image)
    _try_again(node, _Stammering(rows=64))
    (report,) = _reports(node, node.show(image.StudyInstanceUID))
    _deliver(node)

    _try_again(node, _Stammering(rows=64))
    (unchanged,) = _reports(node, node.show(image.StudyInstanceUID))
    assert unchanged == report

    _try_again(node, _Stammering(rows=0))
    view = node.show(image.StudyInstanceUID)
    assert (view.analysis_state, view.error) == ("done", "")
    assert [(one.not_read, one.findings) for one in view.images] == [("", ())]
    first, second = _reports(node, view)
    assert first == report
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert second.SeriesInstanceUID != first.SeriesInstanceUID
    assert second.SeriesDescription.endswith("AI: no finding")
    assert _predecessors(second) == [first.SOPInstanceUID]


def test_what_cannot_even_be_reported_is_quarantined_with_both_reasons(node: SmallNode) -> None:
    image = make_radiograph(rows=64)
    node.take(image)
    (view,) = node.show(image.StudyInstanceUID).images
    node.archive.absolute(view.path).write_bytes(b"no DICOM")
    _analyst(node).drain()
    study = node.show(image.StudyInstanceUID)
    assert (study.analysis_state, study.attempt, study.deliveries) == ("failed", 1, ())
    assert "; and no report of that: " in study.error


def test_the_newest_header_names_the_patient(node: SmallNode) -> None:
    image = make_radiograph(PatientName="Before^Merge", PatientID="OLD")
    corrected = make_radiograph(
        study_uid=image.StudyInstanceUID,
        series_uid=image.SeriesInstanceUID,
        sop_instance_uid=image.SOPInstanceUID,
        PatientName="After^Merge",
        PatientID="NEW",
    )
    node.take(image, corrected)
    _analyst(node).drain()
    (report,) = _reports(node, node.show(image.StudyInstanceUID))
    assert (report.PatientName, report.PatientID) == ("After^Merge", "NEW")


def test_a_late_image_makes_a_report_that_names_the_one_delivered_before(node: SmallNode) -> None:
    first = make_radiograph()
    node.take(first)
    _analyst(node).drain()
    delivered = _deliver(node)
    node.take(make_radiograph(study_uid=first.StudyInstanceUID))
    _analyst(node).drain()
    (report,) = _reports(node, node.show(first.StudyInstanceUID))
    assert _predecessors(report) == [delivered]
    assert report.SOPInstanceUID != delivered


def test_the_bell_rings_once_a_batch_is_written(node: SmallNode, monkeypatch: pytest.MonkeyPatch) -> None:
    node.take(*(make_radiograph(rows=64) for _ in range(3)))
    messages = node.settings.data_dir / "broker" / "messages"
    heard: list[int] = []

    def make(*arguments: Any) -> list[MadeResult]:
        heard.append(len(list(messages.iterdir())))
        return make_results(*arguments)

    monkeypatch.setattr("worker.making.make_results", make)
    analyst = _analyst(node)
    analyst.engines.load = lambda _: _Explosive(rows=0)
    analyst.drain()
    assert heard == [0, 0, 0]
    assert len(list(messages.iterdir())) == 1


class _Fake:
    """An engine that loads as the real one does, and reads by ``read``."""

    square_sizes = (16,)

    def read(self, radiographs: Sequence[SquashedImage]) -> list[Reading]:
        raise NotImplementedError

    def read_ahead(
        self, images: Sequence[ClaimedImage], load: Callable[[ClaimedImage], SquashedImage]
    ) -> list[Read[ClaimedImage]]:
        readings = self.read([load(image) for image in images])
        return [Read(image, reading) for image, reading in zip(images, readings, strict=True)]


class _Explosive(_Fake):
    """A model that fails on any batch with an image of ``rows`` rows, as one out of memory would."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.batches: list[int] = []

    def read(self, radiographs: Sequence[SquashedImage]) -> list[Reading]:
        self.batches.append(len(radiographs))
        if any(radiograph.rows == self.rows for radiograph in radiographs):
            raise RuntimeError("out of memory")
        return [Reading(()) for _ in radiographs]


def test_what_brings_a_batch_down_fails_alone(node: SmallNode) -> None:
    good = [make_radiograph(rows=64) for _ in range(3)]
    bad = make_radiograph(rows=65)
    node.take(*good[:2], bad, good[2])
    analyst = _analyst(node)
    engine = _Explosive(rows=65)
    analyst.engines.load = lambda _: engine
    analyst.drain()
    assert [node.show(image.StudyInstanceUID).analysis_state for image in good] == ["done"] * 3
    view = node.show(bad.StudyInstanceUID)
    assert (view.analysis_state, view.attempt) == ("failed", node.settings.maximum_attempts)
    assert view.error == "RuntimeError: out of memory"
    assert engine.batches == [4, 1, 1, 1, 1, 1, 1]


class _Stammering(_Fake):
    """A model whose numbers break down on images of ``rows`` rows."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def read(self, radiographs: Sequence[SquashedImage]) -> list[Reading]:
        failures = ["no numbers" if one.rows == self.rows else None for one in radiographs]
        return [Reading((), failure=failure) for failure in failures]


def test_an_image_the_model_fails_on_is_named_and_the_other_is_read(node: SmallNode) -> None:
    good = make_radiograph(rows=64)
    bad = make_radiograph(rows=65, study_uid=good.StudyInstanceUID)
    node.take(good, bad)
    analyst = _analyst(node)
    analyst.engines.load = lambda _: _Stammering(rows=65)
    analyst.drain()
    view = node.show(good.StudyInstanceUID)
    assert view.analysis_state == "done"
    assert {image.sop_instance_uid: image.not_read for image in view.images} == {
        good.SOPInstanceUID: "",
        bad.SOPInstanceUID: "no numbers",
    }


class _Cautious(_Fake):
    """A model whose second finding stays below its threshold."""

    def read(self, radiographs: Sequence[SquashedImage]) -> list[Reading]:
        findings = (
            Finding("Cardiomegaly", 0.8, Box(1, 2, 30, 40), 0.01),
            Finding("Edema", 0.1, Box(1, 2, 30, 40), 0.01, reported=False),
        )
        return [Reading(findings, calibrated=True) for _ in radiographs]


def test_a_finding_below_its_threshold_is_kept_and_not_reported(node: SmallNode) -> None:
    image = make_radiograph(rows=64, columns=64)
    node.take(image)
    analyst = _analyst(node)
    analyst.engines.load = lambda _: _Cautious()
    analyst.drain()
    view = node.show(image.StudyInstanceUID)
    kept = [(finding.label, finding.reported, finding.box_score) for finding in view.images[0].findings]
    assert kept == [("Cardiomegaly", True, 0.01), ("Edema", False, 0.01)]
    (report,) = _reports(node, view)
    assert "Cardiomegaly" in str(report) and "Edema" not in str(report)
    assert report.SeriesDescription.endswith("AI: 1 finding")


def test_an_archive_that_will_not_take_the_report_is_waited_for(node: SmallNode) -> None:
    image = make_radiograph()
    node.take(image)
    results = node.archive.root / "results"
    results.rmdir()
    results.touch()
    analyst = _analyst(node)
    analyst.engines.load = lambda _: _Explosive(rows=0)
    while (view := node.show(image.StudyInstanceUID)).attempt <= node.settings.maximum_attempts:
        analyst.drain(seconds=0.1)
        assert node.show(image.StudyInstanceUID).analysis_state == "queued"
    assert view.error.startswith("the archive: ")
    results.unlink()
    results.mkdir()
    analyst.drain()
    assert node.show(image.StudyInstanceUID).analysis_state == "done"


def test_a_worker_that_lost_its_lease_does_not_touch_the_result_of_another(node: SmallNode) -> None:
    """And what it still holds is written, though both are written together."""
    stolen, held = make_radiograph(), make_radiograph()
    node.take(stolen)
    conclusions = Conclusions(node.settings, node.records, node.archive, node.bell, AnalysisMetrics())

    def claim(lease: timedelta) -> Claim:
        model = read_identity(node.settings.model)
        (claimed,) = analyses.claim(
            node.records,
            model_id=model.id,
            model_version=model.version,
            limit=1,
            lease=lease,
            retry=Retry.of(node.settings),
        )
        return claimed

    def conclude(*claims: Claim) -> None:
        ids = [image.instance_id for claimed in claims for image in claimed.images]
        conclusions.conclude(claims, {number: ImageOutcome(number) for number in ids}, ())

    first, second = claim(timedelta(0)), claim(timedelta(0))
    conclude(second)
    (delivery,) = node.show(stolen.StudyInstanceUID).deliveries
    kept = node.archive.absolute(delivery.path).read_bytes()
    node.take(held)
    conclude(first, claim(MINUTE))
    view = node.show(stolen.StudyInstanceUID)
    assert (view.analysis_state, view.attempt, len(view.deliveries)) == ("done", 2, 1)
    assert node.archive.absolute(delivery.path).read_bytes() == kept
    assert node.show(held.StudyInstanceUID).analysis_state == "done"


def test_a_broker_that_is_away_does_not_undo_the_analysis(node: SmallNode, tmp_path: Path) -> None:
    image = make_radiograph()
    node.take(image)

    class Broken:
        def ring(self, queue: str) -> None:
            raise OutOfResources("no broker")

    analyst = Analyst(node.settings, node.records, node.archive, Broken())  # type: ignore[arg-type]
    analyst.engines.load = lambda _: _Explosive(rows=0)
    analyst.drain()
    assert node.show(image.StudyInstanceUID).outcome == "delivering"


def test_a_long_analysis_keeps_its_lease(tmp_path: Path) -> None:
    import time

    from tests.worker.conftest import small_node

    lease_seconds = 1.0
    node = small_node(tmp_path / "node", analysis_lease_seconds=lease_seconds)
    image = make_radiograph()
    node.take(image)
    others: list[int] = []

    class Slow(_Explosive):
        def read(self, radiographs: Sequence[SquashedImage]) -> list[Reading]:
            deadline = time.monotonic() + 4 * lease_seconds
            while time.monotonic() < deadline:
                with node.records.reading() as session:
                    others.append(analyses.count_due(session))
                time.sleep(0.02)
            return super().read(radiographs)

    analyst = _analyst(node)
    analyst.engines.load = lambda _: Slow(rows=0)
    analyst.drain()
    assert set(others) == {0}
    assert node.show(image.StudyInstanceUID).analysis_state == "done"
    node.records.close()
