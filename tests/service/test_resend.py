"""What was refused is due again on an admin's word, and nothing else is."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select

from service.actions.action import Course
from service.actions.resending import Resend
from service.archive import Archive
from service.completion import Completion
from service.peers import Destination
from service.records import analyses, conclusions, deliveries
from service.records.conclusions import ImageOutcome, WrittenResult
from service.records.database import Records
from service.records.intake import Receiver
from service.records.retry import Retry
from service.records.selection import Selection
from service.records.tables import Delivery
from tests.images import make_radiograph
from tests.service.conftest import MODEL, incoming, sent_to

MINUTE = timedelta(minutes=1)
RETRY = Retry(first=MINUTE, maximum=MINUTE, maximum_attempts=3)
PACS = Destination(ae_title="PACS", host="host", port=104)
ARCHIVE = Destination(ae_title="ARCHIVE", host="host", port=105)


def _finish_whatever_waits(records: Records, uid: str) -> None:
    for claim in analyses.claim(
        records, model_id=MODEL.id, model_version=MODEL.version, limit=9, lease=MINUTE, retry=RETRY
    ):
        result = WrittenResult("sr", "1.2.840.10008.5.1.4.1.1.88.34", uid, "1", f"results/{uid}", "0" * 64)
        outcomes = [ImageOutcome(image.instance_id) for image in claim.images]
        conclusions.finish(records, claim, outcomes, [result], sent_to(PACS, ARCHIVE))


def _refuse_at(records: Records, destination: Destination) -> None:
    for claim in deliveries.claim(records, destination, limit=9, lease=MINUTE):
        deliveries.refused(records, claim, "takes no reports")


def test_only_what_was_refused_of_the_newest_analysis_is_due_again(
    receiver: Receiver, archive: Archive, records: Records, completion: Completion
) -> None:
    first = make_radiograph()
    late = make_radiograph(study_uid=str(first.StudyInstanceUID))
    other = make_radiograph()
    for number, image in enumerate((first, late, other)):
        receiver.take(incoming(archive, image))
        completion.complete_due(records)
        _finish_whatever_waits(records, f"2.25.{number + 1}")
        _refuse_at(records, PACS)
    study = str(first.StudyInstanceUID)
    for sending in deliveries.claim(records, ARCHIVE, limit=9, lease=MINUTE):
        deliveries.sent(records, sending)

    resend, course = Resend(), Course(records, "a test")
    named = Selection(studies=(study,))
    assert course.run(resend, named) == {"due again": 1, "delivered already": 1}
    (again,) = deliveries.claim(records, PACS, limit=9, lease=MINUTE)
    assert (again.sop_instance_uid, again.attempt) == ("2.25.2", 2)
    deliveries.sent(records, again)
    with records.reading() as session:
        states = sorted(session.scalars(select(Delivery.state).where(Delivery.destination == str(PACS))))
    assert states == ["refused", "refused", "sent"]
    assert course.run(resend, named) == {"delivered already": 2}
