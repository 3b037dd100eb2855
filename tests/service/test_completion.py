"""Studies complete by quiet, by the hard cap, or by force, and each completion makes one analysis or none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from service.actions.action import Course
from service.actions.analysing import Force
from service.archive import Archive
from service.completion import Completion, input_digest
from service.errors import NeverAgain
from service.records.database import Records, utc_now
from service.records.intake import Receiver
from service.records.selection import Selection
from service.records.states import AnalysisState, DeliveryState, StudyState
from service.records.tables import Analysis, AnalysisImage, Delivery, Instance, Result, Study
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.service.conftest import incoming

HOUR = timedelta(hours=1)


def _analyses(records: Records) -> list[Analysis]:
    with records.reading() as session:
        return list(session.scalars(select(Analysis).order_by(Analysis.id)))


def _received(records: Records, ago: timedelta, *, last: timedelta) -> None:
    """Moves every study's arrival into the past, instead of waiting."""
    with records.writing() as session:
        session.execute(
            update(Study).values(receiving_since=utc_now() - ago, last_eligible_at=utc_now() - last)
        )


def test_a_study_completes_after_its_quiet_period(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    patient = replace(completion, quiet=HOUR, maximum_receiving=10 * HOUR)
    receiver.take(incoming(archive, make_radiograph()))
    assert patient.complete_due(records) == 0
    _received(records, HOUR, last=HOUR + timedelta(seconds=1))
    assert patient.complete_due(records) == 1
    (analysis,) = _analyses(records)
    assert (analysis.state, analysis.model_id) == (AnalysisState.QUEUED, "litegpt-test")
    assert patient.complete_due(records) == 0


def test_a_study_that_never_falls_quiet_completes_at_the_cap(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    patient = replace(completion, quiet=HOUR, maximum_receiving=10 * HOUR)
    receiver.take(incoming(archive, make_radiograph()))
    _received(records, 10 * HOUR + timedelta(seconds=1), last=timedelta(0))
    assert patient.complete_due(records) == 1


def test_a_study_may_be_completed_by_force(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    patient = replace(completion, quiet=HOUR)
    dataset = make_radiograph()
    receiver.take(incoming(archive, dataset))
    course, force = Course(records, "a test"), Force(patient)
    assert course.run(force, Selection(studies=(dataset.StudyInstanceUID,))) == {"complete": 1}
    assert len(_analyses(records)) == 1
    assert course.run(force, Selection()) == {"complete already": 1}
    assert len(_analyses(records)) == 1
    with pytest.raises(NeverAgain, match=r"no study is called 1\.2\.3"):
        course.run(force, Selection(studies=("1.2.3",)))


def test_a_study_with_nothing_to_analyse_ends_not_applicable(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    dataset = make_radiograph(sop_class=DX_FOR_PROCESSING)
    receiver.take(incoming(archive, dataset))
    receiver.take(incoming(archive, make_radiograph(study_uid=dataset.StudyInstanceUID, ViewPosition="LL")))
    completion.complete_due(records)
    (analysis,) = _analyses(records)
    assert analysis.state == AnalysisState.NOT_APPLICABLE
    assert analysis.error == "nothing to analyse: for processing, not for presentation; lateral view LL"


def test_an_analysis_reads_the_eligible_images_and_no_others(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    frontal = make_radiograph()
    uid = frontal.StudyInstanceUID
    for dataset in (
        frontal,
        make_radiograph(study_uid=uid, ViewPosition="LL"),
        make_radiograph(study_uid=uid),
    ):
        receiver.take(incoming(archive, dataset))
    completion.complete_due(records)
    with records.reading() as session:
        read = session.scalars(select(Instance).join(AnalysisImage).order_by(AnalysisImage.position)).all()
    assert [instance.reason for instance in read] == ["", ""]
    assert read[0].sop_instance_uid == frontal.SOPInstanceUID


def test_a_late_image_makes_a_new_analysis_and_supersedes_the_waiting_one(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    first = make_radiograph()
    receiver.take(incoming(archive, first))
    completion.complete_due(records)
    receiver.take(incoming(archive, make_radiograph(study_uid=first.StudyInstanceUID)))
    completion.complete_due(records)
    assert [analysis.state for analysis in _analyses(records)] == [
        AnalysisState.SUPERSEDED,
        AnalysisState.QUEUED,
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (DeliveryState.DUE, DeliveryState.WITHDRAWN),
        (DeliveryState.SENT, DeliveryState.SENT),
        (DeliveryState.REFUSED, DeliveryState.REFUSED),
    ],
)
def test_a_late_image_withdraws_what_was_not_sent_yet(
    receiver: Receiver,
    records: Records,
    archive: Archive,
    completion: Completion,
    before: DeliveryState,
    after: DeliveryState,
) -> None:
    first = make_radiograph()
    receiver.take(incoming(archive, first))
    completion.complete_due(records)
    with records.writing() as session:
        analysis = session.scalars(select(Analysis)).one()
        analysis.state = AnalysisState.DONE
        delivery = Delivery(destination="PACS@host:104", state=before, not_before=utc_now())
        session.add(
            Result(
                analysis=analysis,
                kind="sr",
                sop_class_uid="1.2",
                sop_instance_uid="2.25.1",
                template_version="1",
                path="x",
                digest="",
                created_at=utc_now(),
                deliveries=[delivery],
            )
        )
    receiver.take(incoming(archive, make_radiograph(study_uid=first.StudyInstanceUID)))
    completion.complete_due(records)
    with records.reading() as session:
        assert session.scalars(select(Delivery)).one().state == after
    assert [analysis.state for analysis in _analyses(records)] == [AnalysisState.DONE, AnalysisState.QUEUED]


def test_completing_the_same_input_again_makes_no_second_analysis(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    receiver.take(incoming(archive, make_radiograph()))
    completion.complete_due(records)
    with records.writing() as session:
        session.execute(update(Study).values(state=StudyState.RECEIVING))
    completion.complete_due(records)
    assert len(_analyses(records)) == 1


def test_the_input_digest_does_not_depend_on_the_order_of_arrival() -> None:
    images = [Instance(sop_instance_uid=f"1.{n}", digest=f"{n}") for n in range(3)]
    assert input_digest(images) == input_digest(images[::-1])
    assert input_digest(images) != input_digest(images[:2])
