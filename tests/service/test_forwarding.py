"""Which images are passed on, to whom, and that none is lost before it has arrived: on both databases."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from sqlalchemy import select, update

from service.actions.action import Course
from service.actions.analysing import Cancel
from service.actions.purging import Limits, Purge
from service.actions.resending import PURGED, Resend
from service.archive import Archive
from service.completion import Completion
from service.errors import SettingsError, StillInWork
from service.peers import Destination
from service.records import deliveries, tally
from service.records.database import Records, utc_now
from service.records.deliveries import DeliveryClaim
from service.records.dossier import dossier_of
from service.records.forwarding import CORRECTED_SINCE, Forwarding, forward
from service.records.intake import Receiver
from service.records.removal import remove_study
from service.records.selection import Selection
from service.records.states import Priority
from service.records.tables import Analysis, Delivery, Instance, Result, Study
from service.records.versions import Intake
from service.rules.explaining import explain
from service.rules.rulebook import Rulebook, Rules
from service.selftest.marks import new_study_uid
from service.settings import load_settings
from tests.images import DX_FOR_PROCESSING, make_radiograph
from tests.service.conftest import incoming

PACS = Destination(ae_title="PACS", host="host", port=104)
ARCHIVE = Destination(ae_title="ARCHIVE", host="host", port=105)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def passing_on(receiver: Receiver) -> Receiver:
    """A receiver that passes images on to two destinations."""
    return Receiver(
        receiver.records, receiver.archive, receiver.eligibility, Forwarding(lambda _: (PACS, ARCHIVE))
    )


def _take(receiver: Receiver, image: Dataset, calling: str = "CR1", **values: bool) -> Intake:
    return receiver.take(incoming(receiver.archive, image), calling_ae_title=calling, **values)


def _rows(records: Records) -> list[tuple[str, str, str]]:
    """SOP Instance UID, destination and state of each delivery of an image."""
    with records.reading() as session:
        rows = session.execute(
            select(Instance.sop_instance_uid, Delivery.destination, Delivery.state)
            .join(Instance, Instance.id == Delivery.instance_id)
            .order_by(Delivery.id)
        )
        return [(row[0], row[1], row[2]) for row in rows]


def _claims(records: Records, to: Destination = PACS) -> list[DeliveryClaim]:
    return deliveries.claim(records, to, limit=99, lease=MINUTE)


def test_every_object_goes_to_each_destination_whether_it_is_read_or_not(
    passing_on: Receiver, records: Records
) -> None:
    image, raw = make_radiograph(), make_radiograph(sop_class=DX_FOR_PROCESSING)
    for one in (image, raw):
        assert _take(passing_on, one) is Intake.STORED
        assert _take(passing_on, one) is Intake.DUPLICATE
    uids = [str(one.SOPInstanceUID) for one in (image, raw)]
    assert _rows(records) == [(uid, to.address, "due") for uid in uids for to in (ARCHIVE, PACS)]
    (claim, _) = _claims(records)
    with records.reading() as session:
        row = session.scalars(select(Instance).where(Instance.sop_instance_uid == uids[0])).one()
    assert (claim.is_image, claim.study_instance_uid) == (True, str(image.StudyInstanceUID))
    assert (claim.path, claim.digest) == (row.path, row.digest)
    assert (claim.sop_class_uid, claim.transfer_syntax_uid) == (
        str(image.SOPClassUID),
        str(image.file_meta.TransferSyntaxUID),
    )


def test_whoever_sent_it_does_not_get_it_back(passing_on: Receiver, records: Records) -> None:
    _take(passing_on, make_radiograph(), calling="PACS")
    assert [to for _, to, _ in _rows(records)] == [ARCHIVE.address]


RULES = """
forward_images_to = ["PACS@host:104"]

[[study_rules]]
name = "emergency"
calling_ae_title = "ER*"
modality = "DX"
forward_images_to = ["PACS@host:104", "ARCHIVE@host:105"]

[[study_rules]]
name = "portable"
station_name = "MOBILE"
forward_images_to = []
"""


def test_rules_say_of_each_image_where_it_goes_and_new_ones_hold_at_the_next(
    receiver: Receiver, records: Records, tmp_path: Path
) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    book = Rulebook(load_settings(file, data_dir=tmp_path / "node"))
    by_rules = Receiver(receiver.records, receiver.archive, receiver.eligibility, Forwarding.of(book))
    emergency, portable, ward = (make_radiograph(StationName=name) for name in ("", "MOBILE", "W3"))
    # A lateral of the same study, which is not read: each image goes by what it is itself.
    lateral = make_radiograph(study_uid=str(portable.StudyInstanceUID), ViewPosition="LL")
    for image, calling in ((emergency, "ER1"), (portable, "CR1"), (lateral, "CR1"), (ward, "CR1")):
        _take(by_rules, image, calling)
    # By C-MOVE that names no originator, say.
    _take(by_rules, make_radiograph(), "PACS")
    uids = [str(image.SOPInstanceUID) for image in (emergency, lateral, ward)]
    assert _rows(records) == [
        (uids[0], ARCHIVE.address, "due"),
        (uids[0], PACS.address, "due"),
        (uids[1], PACS.address, "due"),
        (uids[2], PACS.address, "due"),
    ]
    study = str(portable.StudyInstanceUID)
    with records.reading() as session:
        told = explain(session, book.rules(), study)
    assert [(one.forward_rule, one.forward_images_to) for one in told.images] == [
        ("portable", ()),
        ("default", (PACS.address,)),
    ]
    assert [(one.rule, one.decision) for one in told.study_rules][-1] == ("portable", "analysed")
    file.write_text(RULES.replace("MOBILE", "W3"))
    _take(by_rules, make_radiograph(StationName="W3"))
    _take(by_rules, again := make_radiograph(StationName="MOBILE"))
    assert _rows(records)[4:] == [(str(again.SOPInstanceUID), PACS.address, "due")]


def test_what_the_node_fetched_or_made_or_tries_itself_with_is_not_passed_on(
    passing_on: Receiver, records: Records, completion: Completion
) -> None:
    _take(passing_on, make_radiograph(), fetched=True)
    _take(passing_on, make_radiograph(study_uid=new_study_uid(held=False)))
    read = make_radiograph()
    completion.complete_due(records)
    ours = make_radiograph(study_uid=str(read.StudyInstanceUID))
    with records.writing() as session:
        analysis = session.scalars(select(Analysis).limit(1)).one()
        values = {"kind": "sc", "sop_class_uid": "1.2", "template_version": "1", "path": "x", "digest": ""}
        session.add(
            Result(
                analysis_id=analysis.id,
                sop_instance_uid=str(ours.SOPInstanceUID),
                created_at=utc_now(),
                **values,
            )
        )
    _take(passing_on, ours)
    assert _rows(records) == []
    _take(passing_on, read)
    assert len(_rows(records)) == 2


def test_a_conflict_is_held_back_and_a_corrected_header_goes_in_the_place_of_what_is_due(
    passing_on: Receiver, records: Records
) -> None:
    first = make_radiograph()
    uid = str(first.SOPInstanceUID)
    _take(passing_on, first)
    (claim,) = _claims(records)
    deliveries.sent(records, claim)
    corrected = deepcopy(first)
    corrected.PatientID = "MERGED"
    assert _take(passing_on, corrected) is Intake.CORRECTED_HEADER
    assert _rows(records) == [
        (uid, ARCHIVE.address, "withdrawn"),
        (uid, PACS.address, "sent"),
        (uid, ARCHIVE.address, "due"),
        (uid, PACS.address, "due"),
    ]
    assert (
        _take(
            passing_on,
            make_radiograph(sop_instance_uid=uid, study_uid=str(first.StudyInstanceUID), bits_stored=10),
        )
        is Intake.CONFLICT
    )
    assert len(_rows(records)) == 4
    with records.reading() as session:
        withdrawn = session.scalars(select(Delivery).where(Delivery.state == "withdrawn")).one()
    assert withdrawn.error == CORRECTED_SINCE
    # The older header must not come after the newer one.
    done = Course(records, "a test").run(Resend(), Selection())
    assert done == {"due already": 2, "delivered already": 1}


def test_a_correction_that_comes_from_a_destination_is_not_followed_by_what_it_corrects(
    passing_on: Receiver, records: Records
) -> None:
    first = make_radiograph()
    _take(passing_on, first)
    corrected = deepcopy(first)
    corrected.PatientID = "MERGED"
    assert _take(passing_on, corrected, calling="PACS") is Intake.CORRECTED_HEADER
    assert [(to, state) for _, to, state in _rows(records)] == [
        (ARCHIVE.address, "withdrawn"),
        (PACS.address, "withdrawn"),
        (ARCHIVE.address, "due"),
    ]


def test_it_has_the_priority_of_its_study(receiver: Receiver, records: Records) -> None:
    image = make_radiograph()
    receiver.take(incoming(receiver.archive, image), priority=Priority.STAT)
    with records.writing() as session:
        study, instance = session.scalars(select(Study)).one(), session.scalars(select(Instance)).one()
        assert forward(session, study, instance, [PACS]) == 1
        assert forward(session, study, instance, [PACS, ARCHIVE]) == 1
    with records.reading() as session:
        assert list(session.scalars(select(Delivery.priority))) == [Priority.STAT, Priority.STAT]


def test_no_image_is_purged_or_removed_before_it_has_been_passed_on(
    passing_on: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    image = make_radiograph(sop_class=DX_FOR_PROCESSING)  # not read, so that nothing else holds the study up
    study, named = str(image.StudyInstanceUID), Selection(studies=(str(image.StudyInstanceUID),))
    _take(passing_on, image)
    completion.complete_due(records)
    everything = Limits(received_before=utc_now() + MINUTE)

    def purged() -> int:
        return Purge(records, archive, "a test").run(everything).images

    assert purged() == 0
    with pytest.raises(StillInWork, match="an image of the study is due"):
        remove_study(records, archive, study)
    deliveries.sent(records, _claims(records)[0])
    deliveries.refused(records, _claims(records, ARCHIVE)[0], "no room")
    assert purged() == 0
    course = Course(records, "a test")
    assert course.run(Resend(to=ARCHIVE), named) == {"due again": 1}
    assert course.run(Cancel(), named) == {"cancelled": 1}
    assert [state for *_, state in _rows(records)] == ["withdrawn", "sent"]
    assert course.run(Cancel(), named) == {"nothing under way": 1}
    assert course.run(
        Resend(),
        named,
    ) == {"due again": 1, "delivered already": 1}
    deliveries.refused(records, _claims(records, ARCHIVE)[0], "still no room")
    assert course.run(Cancel(), named) == {"cancelled": 1}
    assert purged() == 1
    assert course.run(Resend(again=True), named) == {PURGED: 2}
    assert _take(passing_on, image) is Intake.STORED_AGAIN
    assert [state for *_, state in _rows(records)] == ["withdrawn", "sent"]
    remove_study(records, archive, study)
    assert _rows(records) == []


def test_pages_metrics_and_filters_know_of_it(
    passing_on: Receiver, records: Records, completion: Completion
) -> None:
    image = make_radiograph(sop_class=DX_FOR_PROCESSING)
    study = str(image.StudyInstanceUID)
    _take(passing_on, image)
    completion.complete_due(records)
    came = utc_now() - timedelta(hours=2)
    with records.writing() as session:
        session.execute(update(Instance).values(received_at=came))
    with records.reading() as session:
        flow = tally.flow(session)
    assert flow.oldest_due == {PACS.address: came, ARCHIVE.address: came}
    for destination, ids in ((PACS.address, 1), ("OTHER@host:1", 0)):
        assert len(list(Selection(destination=destination).pages(records))) == ids
    deliveries.sent(records, _claims(records)[0])
    with records.reading() as session:
        dossier = dossier_of(session, study)
    assert [one.state for one in dossier.images[0].deliveries] == ["due", "sent"]
    assert f"image passed on to {PACS.address}" in [moment.what for moment in dossier.timeline()]
    assert dossier.study.outcome == "delivering"
    (reason,) = dossier.reasons
    assert reason.what == f"1 image due at {ARCHIVE.address}, not tried yet, or just now"


def test_a_delivery_is_of_one_object(records: Records, receiver: Receiver) -> None:
    receiver.take(incoming(receiver.archive, make_radiograph()))
    with pytest.raises(Exception, match="one_object"), records.writing() as session:
        session.add(Delivery(destination=PACS.address, not_before=utc_now()))


def test_destinations_of_images_are_written_as_those_of_results_but_for_the_kinds() -> None:
    settings = load_settings(
        forward_images_to="A@a:1, B@b:2", destinations="B@b:2=sr+sc,C@c:3", database_url=""
    )
    assert Rules.read(settings).addresses == ("B@b:2", "C@c:3", "A@a:1")
    with pytest.raises(SettingsError, match="images alone are passed on"):
        load_settings(forward_images_to="A@a:1=sc")
