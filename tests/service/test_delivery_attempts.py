"""Every attempt at a delivery is kept, in few rows; of one that lost its claim, nothing."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from service.actions.purging import Limits, Purge
from service.archive import Archive
from service.errors import LeaseLost
from service.peers import Destination
from service.records import deliveries, webhook_calls
from service.records.attempts import KEPT, Attempt
from service.records.database import Records, utc_now
from service.records.deliveries import DeliveryClaim
from service.records.dossier import dossier_of
from service.records.overview import list_studies, show_study
from service.records.removal import remove_study
from service.records.retry import Retry
from service.records.states import AnalysisState, AttemptOutcome, CallState, DeliveryState
from service.records.tables import Delivery, DeliveryAttempt, WebhookCall
from tests.service.study_rows import AnalysisRow, DeliveryRow, ImageRow, StudyRow, write

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)
RETRY = Retry(first=NOW, maximum=NOW, maximum_attempts=3)
PACS = Destination.parse("PACS@host:104")
AWAY = AttemptOutcome.NO_ASSOCIATION
WORKER = f"{socket.gethostname()}/{os.getpid()}"


def _study(records: Records, image: bool = False, calls: tuple[CallState, ...] = ()) -> str:
    """A study with one thing due, a result or an image."""
    due = (DeliveryRow(DeliveryState.DUE),)
    analysis = AnalysisRow(AnalysisState.DONE, () if image else due, calls=calls)
    with records.writing() as session:
        return write(session, StudyRow((analysis,), (ImageRow(forwards=due if image else ()),)))


def _claim(records: Records, lease: timedelta = MINUTE) -> DeliveryClaim:
    (claim,) = deliveries.claim(records, PACS, limit=9, lease=lease)
    return claim


def _attempts(records: Records, study: str) -> tuple[Attempt, ...]:
    with records.reading() as session:
        (delivery,) = show_study(session, study).deliveries
    assert delivery.attempts is not None
    return delivery.attempts


def _rows(records: Records) -> int:
    with records.reading() as session:
        return session.scalar(select(func.count()).select_from(DeliveryAttempt)) or 0


@pytest.mark.parametrize("image", [False, True], ids=["result", "image"])
def test_each_attempt_is_told_with_what_it_came_to(records: Records, image: bool) -> None:
    study, begun = _study(records, image), utc_now()
    deliveries.postpone(records, _claim(records), "PACS does\nnot answer", RETRY, 5.5, AWAY)
    deliveries.look_again(records, _claim(records), "waits until PACS shows the study", utc_now())
    deliveries.postpone(records, _claim(records), "answered A700: not now", RETRY, 0.25)
    deliveries.refused(records, _claim(records), "answered C000: refused", 0.5)
    with records.writing() as session:
        session.execute(update(Delivery).values(state=DeliveryState.DUE, not_before=utc_now()))
    deliveries.sent(records, _claim(records), "0000", 1.5)
    attempts = _attempts(records, study)
    assert [(one.attempt, one.outcome, one.said, one.seconds) for one in attempts] == [
        (1, "no-association", "PACS does not answer", 5.5),
        (2, "not-shown", "waits until PACS shows the study", None),
        (3, "try-again", "answered A700: not now", 0.25),
        (4, "refused", "answered C000: refused", 0.5),
        (5, "sent", "0000", 1.5),
    ]
    assert {(one.worker, one.count, one.first_at == one.last_at) for one in attempts} == {(WORKER, 1, True)}
    times = [one.first_at for one in attempts]
    assert begun <= times[0] and times == sorted(times) and times[-1] <= utc_now()


def test_a_destination_that_is_away_for_long_is_one_row(records: Records) -> None:
    study = _study(records)
    for seconds in range(1, 41):
        deliveries.postpone(records, _claim(records), "PACS does not answer", RETRY, seconds, AWAY)
    deliveries.sent(records, _claim(records), "0000", 1)
    away, sent = _attempts(records, study)
    assert (away.count, away.attempt, away.seconds) == (40, 40, 40)
    assert away.first_at < away.last_at <= sent.first_at
    assert (sent.count, sent.attempt) == (1, 41)


def test_failures_that_differ_are_kept_only_so_far(records: Records) -> None:
    study, other = _study(records), _study(records, image=True)
    for number in range(KEPT + 20):
        for claim in deliveries.claim(records, PACS, limit=9, lease=MINUTE):
            deliveries.postpone(records, claim, f"answered A7{number:02}", RETRY)
    for uid in (study, other):
        said = [one.said for one in _attempts(records, uid)]
        assert said == [f"answered A7{number:02}" for number in range(20, KEPT + 20)]


def test_what_was_sent_twice_is_told_twice(records: Records) -> None:
    study = _study(records)
    for _ in range(2):
        deliveries.sent(records, _claim(records), "0000", 1)
        with records.writing() as session:
            session.execute(update(Delivery).values(state=DeliveryState.DUE, not_before=utc_now()))
    assert [one.attempt for one in _attempts(records, study)] == [1, 2]


def test_nothing_is_told_of_an_attempt_that_lost_its_claim(records: Records) -> None:
    study = _study(records, calls=(CallState.DUE,))
    lost, _ = _claim(records, NOW), _claim(records)
    (lost_call,) = webhook_calls.claim(records, limit=9, lease=NOW)
    webhook_calls.claim(records, limit=9, lease=MINUTE)
    for write_ in (
        lambda: deliveries.sent(records, lost, "0000", 1),
        lambda: deliveries.refused(records, lost, "answered C000", 1),
        lambda: deliveries.postpone(records, lost, "not now", RETRY, 1),
        lambda: webhook_calls.sent(records, lost_call, "204", 1),
    ):
        with pytest.raises(LeaseLost):
            write_()
    assert _attempts(records, study) == ()
    assert _rows(records) == 0


def test_calls_of_webhooks_have_a_history_too(records: Records) -> None:
    study = _study(records, calls=(CallState.DUE,))
    for number in range(3):
        (claim,) = webhook_calls.claim(records, limit=9, lease=MINUTE)
        if number < 2:
            webhook_calls.postpone(records, claim, "alerts answered 503: not now", RETRY, 0.5)
    webhook_calls.sent(records, claim, "204", 0.25)
    with records.reading() as session:
        (call,) = show_study(session, study).calls
        whole = dossier_of(session, study)
    assert call.attempts is not None
    assert [(one.attempt, one.count, one.outcome, one.said) for one in call.attempts] == [
        (2, 2, "try-again", "alerts answered 503: not now"),
        (3, 1, "sent", "204"),
    ]
    assert whole.analyses[0].calls[0].attempts == call.attempts
    told = [moment.what for moment in whole.timeline()]
    assert "webhook hook-0 told" in told
    assert [one for one in told if "503" in one and one.startswith("webhook hook-0: try-again, 2 times")]


def test_a_list_of_studies_does_not_read_the_attempts(records: Records) -> None:
    _study(records)
    deliveries.refused(records, _claim(records), "answered C000")
    with records.reading() as session:
        assert list_studies(session)[0].deliveries[0].attempts is None


@pytest.mark.parametrize("image", [False, True], ids=["result", "image"])
def test_they_go_when_the_study_is_purged_or_removed(records: Records, archive: Archive, image: bool) -> None:
    purged = _study(records, image, calls=(CallState.SENT,))
    deliveries.sent(records, _claim(records), "0000", 1)
    with records.writing() as session:
        session.execute(update(WebhookCall).values(state=CallState.DUE, not_before=utc_now()))
    (call,) = webhook_calls.claim(records, limit=9, lease=MINUTE)
    webhook_calls.sent(records, call, "204", 1)
    stays = _study(records, image)
    deliveries.postpone(records, _claim(records), "not now", RETRY)
    assert _rows(records) == 3
    went = Purge(records, archive, "a test").run(Limits(received_before=utc_now()))
    assert went.studies == 1
    assert _attempts(records, purged) == ()
    with records.reading() as session:
        (delivery,) = show_study(session, purged).deliveries
    assert (delivery.state, delivery.attempt, delivery.sent_at is None) == ("sent", 1, False)
    assert len(_attempts(records, stays)) == 1 == _rows(records)
    deliveries.sent(records, _claim(records), "0000", 1)
    remove_study(records, archive, stays)
    assert _rows(records) == 0
