"""What was received against what was analysed and delivered: verdicts by hand, on both databases."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import func, select, text, update

from service.records import overview
from service.records.database import Records
from service.records.migrate import migrate
from service.records.reconciliation import (
    REASONS_TOLD,
    DeliverySums,
    ImageSums,
    Sums,
    UnsettledStudy,
    sum_up,
    unsettled,
)
from service.records.standing import Question, Verdict
from service.records.states import AnalysisState, CallState, DeliveryState, InstanceState, StudyState
from service.records.tables import Base, Commitment, Delivery, Study
from service.settings import Settings, load_settings
from tests.service.study_rows import NOW, AnalysisRow, DeliveryRow, ImageRow, StudyRow, ago, write

HOUR = timedelta(hours=1)
SENT = DeliveryRow(DeliveryState.SENT)
DUE = DeliveryRow(DeliveryState.DUE)
REFUSED = DeliveryRow(DeliveryState.REFUSED, error="takes no reports")
DONE = AnalysisRow(AnalysisState.DONE, (SENT,))
CONFLICT = ImageRow("other pixels", InstanceState.CONFLICT)
RECEIVING = StudyState.RECEIVING


def _done(*deliveries: DeliveryRow) -> AnalysisRow:
    return AnalysisRow(AnalysisState.DONE, deliveries)


def _told(*calls: CallState) -> AnalysisRow:
    return AnalysisRow(AnalysisState.DONE, (SENT,), calls=calls)


def _in(state: AnalysisState, **values: object) -> AnalysisRow:
    return AnalysisRow(state, **values)  # type: ignore[arg-type]


def _ask(records: Records, **question: object) -> tuple[Sums, list[UnsettledStudy]]:
    asked = Question(**{"now": NOW, "older_than": HOUR, **question})  # type: ignore[arg-type]
    with records.snapshot() as session:
        return sum_up(session, asked), list(unsettled(session, asked))


def _write(records: Records, *rows: StudyRow) -> list[str]:
    with records.writing() as session:
        return [write(session, row) for row in rows]


WITHDRAWN = DeliveryRow(DeliveryState.WITHDRAWN)
OTHER_DUE = DeliveryRow(DeliveryState.DUE, "B@b:2")
REPLACED = DeliveryRow(DeliveryState.REPLACED)
UNCOMMITTED = DeliveryRow(DeliveryState.SENT, awaits_commitment=True)
CASES = {
    "all sent": (StudyRow((DONE,)), "settled", "delivered", 0),
    "committed": (StudyRow((_done(DeliveryRow(DeliveryState.COMMITTED)),)), "settled", "delivered", 0),
    "sent and not committed to": (StudyRow((_done(UNCOMMITTED, SENT),)), "open", "delivered", 1),
    "not committed to for long": (
        StudyRow((_done(UNCOMMITTED),), received_at=ago(days=2)),
        *("stuck", "delivered", 1),
    ),
    "former not committed to": (StudyRow((_done(UNCOMMITTED), DONE)), "open", "delivered", 1),
    "due again after it waited for commitment": (
        StudyRow((_done(DeliveryRow(DeliveryState.DUE, awaits_commitment=True)),)),
        *("open", "delivering", 1),
    ),
    "images not committed to": (
        StudyRow((_done(),), (ImageRow(forwards=(UNCOMMITTED,)),)),
        *("open", "done", 1),
    ),
    "no destination": (StudyRow((_done(),)), "settled", "done", 0),
    "nothing eligible": (
        StudyRow((_in(AnalysisState.NOT_APPLICABLE),), (ImageRow("a lateral view"),)),
        *("settled", "not-applicable", 0),
    ),
    "cancelled": (StudyRow((_in(AnalysisState.CANCELLED),)), "settled", "cancelled", 0),
    "replaced and its simpler form sent": (StudyRow((_done(REPLACED, SENT),)), "settled", "delivered", 0),
    "replaced and its simpler form due": (StudyRow((_done(REPLACED, DUE),)), "open", "delivering", 1),
    "former withdrawn, present sent": (StudyRow((_done(WITHDRAWN), DONE)), "settled", "delivered", 0),
    "former superseded": (StudyRow((_in(AnalysisState.SUPERSEDED), DONE)), "settled", "delivered", 0),
    "former failed": (StudyRow((_in(AnalysisState.FAILED), DONE)), "settled", "delivered", 0),
    "former refused": (StudyRow((_done(REFUSED), DONE)), "settled", "delivered", 0),
    "former of another model due": (StudyRow((_done(DUE), DONE)), "open", "delivering", 1),
    "former of another model queued": (StudyRow((_in(AnalysisState.QUEUED), DONE)), "open", "queued", 1),
    "receiving": (StudyRow(state=RECEIVING), "open", "receiving", 1),
    "receiving for long": (StudyRow(state=RECEIVING, received_at=ago(hours=2)), "stuck", "receiving", 1),
    "receiving just as long": (StudyRow(state=RECEIVING, received_at=ago(hours=1)), "open", "receiving", 1),
    "receiving again after failing": (
        StudyRow((_in(AnalysisState.FAILED),), state=RECEIVING),
        *("open", "receiving", 1),
    ),
    "receiving again after a refusal": (StudyRow((_done(REFUSED),), state=RECEIVING), "open", "receiving", 1),
    "receiving again while results are due for long": (
        StudyRow((_done(DeliveryRow(DeliveryState.DUE, made_at=ago(hours=2))),), state=RECEIVING),
        *("stuck", "receiving", 2),
    ),
    "queued": (StudyRow((_in(AnalysisState.QUEUED),)), "open", "queued", 1),
    "queued for long": (
        StudyRow((_in(AnalysisState.QUEUED),), received_at=ago(hours=3)),
        *("stuck", "queued", 1),
    ),
    "running": (StudyRow((_in(AnalysisState.RUNNING, attempt=1),)), "open", "running", 1),
    "complete without analysis": (StudyRow(), "open", "receiving", 1),
    "superseded by nothing": (StudyRow((_in(AnalysisState.SUPERSEDED),)), "open", "superseded", 1),
    "quarantined": (StudyRow((_in(AnalysisState.FAILED, error="no pixels"),)), "stuck", "failed", 1),
    "due": (StudyRow((_done(SENT, DUE),)), "open", "delivering", 1),
    "due for long": (StudyRow((_done(DUE),), received_at=ago(days=2)), "stuck", "delivering", 1),
    "refused": (StudyRow((_done(REFUSED, SENT),)), "stuck", "refused", 1),
    "refused and due": (StudyRow((_done(REFUSED, DUE),)), "stuck", "refused", 2),
    "images passed on": (StudyRow((DONE,), (ImageRow(forwards=(SENT,)),)), "settled", "delivered", 0),
    "images passed on and no destination of results": (
        StudyRow((_done(),), (ImageRow(forwards=(SENT,)),)),
        *("settled", "done", 0),
    ),
    "images due": (StudyRow((DONE,), (ImageRow(forwards=(SENT, OTHER_DUE)),)), "open", "delivering", 1),
    "images due for long": (
        StudyRow((_done(),), (ImageRow(received_at=ago(hours=2), forwards=(DUE,)),)),
        *("stuck", "delivering", 1),
    ),
    "images refused": (
        StudyRow((DONE,), (ImageRow(forwards=(REFUSED,)), ImageRow(forwards=(REFUSED,)))),
        *("stuck", "refused", 1),
    ),
    "images refused and a newer analysis": (
        StudyRow((DONE, DONE), (ImageRow(forwards=(REFUSED,)),)),
        *("stuck", "refused", 1),
    ),
    "images given up": (StudyRow((DONE,), (ImageRow(forwards=(WITHDRAWN,)),)), "settled", "delivered", 0),
    "nothing eligible, images due": (
        StudyRow((_in(AnalysisState.NOT_APPLICABLE),), (ImageRow("a lateral view", forwards=(DUE,)),)),
        *("open", "delivering", 1),
    ),
    "nothing eligible, images refused": (
        StudyRow((_in(AnalysisState.NOT_APPLICABLE),), (ImageRow("a lateral view", forwards=(REFUSED,)),)),
        *("stuck", "refused", 1),
    ),
    "nothing eligible, images passed on": (
        StudyRow((_in(AnalysisState.NOT_APPLICABLE),), (ImageRow("a lateral view", forwards=(SENT,)),)),
        *("settled", "not-applicable", 0),
    ),
    "images due while it receives": (
        StudyRow(images=(ImageRow(forwards=(DUE,)),), state=RECEIVING),
        *("open", "receiving", 2),
    ),
    "webhooks told": (StudyRow((_told(CallState.SENT, CallState.WITHDRAWN),)), "settled", "delivered", 0),
    "webhook due": (StudyRow((_told(CallState.SENT, CallState.DUE),)), "open", "delivering", 1),
    "webhook due for long": (
        StudyRow((_in(AnalysisState.DONE, calls=(CallState.DUE,), created_at=ago(hours=2)),)),
        *("stuck", "delivering", 1),
    ),
    "webhook refused": (StudyRow((_told(CallState.REFUSED),)), "stuck", "refused", 1),
    "former webhook refused": (StudyRow((_told(CallState.REFUSED), DONE)), "settled", "delivered", 0),
    "former webhook of another model due": (
        StudyRow((_told(CallState.DUE), DONE)),
        *("open", "delivering", 1),
    ),
    "conflict": (StudyRow((DONE,), (ImageRow(), CONFLICT)), "stuck", "conflict", 1),
    "conflict and receiving": (
        StudyRow(images=(ImageRow(), CONFLICT), state=RECEIVING),
        *("stuck", "conflict", 2),
    ),
}
"""A study, and its verdict, state, and number of reasons."""


def test_every_kind_of_study_gets_its_verdict(records: Records) -> None:
    uids = dict(zip(_write(records, *(case[0] for case in CASES.values())), CASES, strict=True))
    sums, listed = _ask(records)
    got = {uids[one.study_instance_uid]: (one.verdict, one.state, len(one.reasons)) for one in listed}
    expected = {name: case[1:] for name, case in CASES.items() if case[1] != "settled"}
    assert got == expected
    by_state = Counter(case[1:3] for case in CASES.values())
    assert {(row.verdict, row.state): row.studies for row in sums.standings} == by_state
    assert sums.studies() == len(CASES)


def test_a_study_is_listed_with_every_reason_since_when_and_what_to_do(records: Records) -> None:
    deliveries = (
        DeliveryRow(DeliveryState.REFUSED, "A@a:1", "takes no\nreports", ago(minutes=5)),
        DeliveryRow(DeliveryState.REFUSED, "A@a:1", "takes no\nreports", ago(minutes=7)),
        DeliveryRow(DeliveryState.DUE, "B@b:2", "does not answer", ago(minutes=6)),
        DeliveryRow(DeliveryState.DUE, "C@c:3", "", ago(minutes=4)),
        DeliveryRow(DeliveryState.SENT, "D@d:4"),
    )
    held = ImageRow("other pixels", InstanceState.CONFLICT, ago(minutes=2))
    row = StudyRow(
        (_done(*deliveries),), (ImageRow(), held), received_at=ago(minutes=9), accession_number="A-1"
    )
    (uid,) = _write(records, row)
    _, (study,) = _ask(records)
    assert (study.study_instance_uid, study.accession_number, study.since) == (uid, "A-1", ago(minutes=9))
    assert [(reason.what, reason.since) for reason in study.reasons] == [
        ("1 image held: the same SOP Instance UID had come with other pixels", ago(minutes=2)),
        ("2 results refused by A@a:1: takes no reports", ago(minutes=7)),
        ("1 result due at B@b:2, last error: does not answer", ago(minutes=6)),
        ("1 result due at C@c:3, not tried yet, or just now", ago(minutes=4)),
    ]
    remedies = [reason.remedy for reason in study.reasons]
    assert f"conflict take-later {uid}" in remedies[0]
    assert f"litegpt-node resend {uid}" in remedies[1]


def test_what_a_destination_has_not_committed_to_is_summed_and_told(records: Records) -> None:
    waits = replace(UNCOMMITTED, made_at=ago(minutes=3))
    committed = DeliveryRow(DeliveryState.COMMITTED)
    rows = (_done(waits, committed, committed, SENT),)
    _write(records, StudyRow(rows, (ImageRow(forwards=(waits,)),), received_at=ago(minutes=9)))
    sums, (study,) = _ask(records)
    assert [(one.objects, one.delivered, one.committed, one.uncommitted) for one in sums.deliveries] == [
        *(("results", 4, 2, 1), ("images", 1, 0, 1))
    ]
    to = "not committed to by PACS@host:104 yet, not asked yet, or just now"
    assert [(one.what, one.since) for one in study.reasons] == [
        (f"1 result {to}", ago(minutes=3)),
        (f"1 image {to}", ago(minutes=3)),
    ]
    with records.writing() as session:
        asked = Commitment(
            transaction_uid="2.25.1", destination="", asked_at=NOW, error="PACS@host:104\nis away"
        )
        session.add(asked)
        session.flush()
        session.execute(update(Delivery).values(commitment_id=asked.id, commitment_asks=3))
    (study,) = _ask(records)[1]
    words = "not committed to by PACS@host:104 yet, asked 3 times, last error: PACS@host:104 is away"
    assert study.reasons[0].what == f"1 result {words}"


def test_what_an_analysis_waits_for_is_told(records: Records) -> None:
    def waits(analysis: AnalysisRow) -> tuple[str, datetime]:
        (uid,) = _write(records, StudyRow((analysis,), received_at=ago(minutes=30)))
        (reason,) = next(one for one in _ask(records)[1] if one.study_instance_uid == uid).reasons
        return reason.what.split(" ", 2)[2], reason.since

    made = {"created_at": ago(minutes=20), "finished_at": ago(minutes=10)}
    queued, running, failed = AnalysisState.QUEUED, AnalysisState.RUNNING, AnalysisState.FAILED
    assert waits(_in(queued, **made)) == ("is queued", ago(minutes=20))
    put_back = _in(queued, attempt=2, error="the disk is full", **made)
    assert waits(put_back) == ("is queued after 2 attempts; last error: the disk is full", ago(minutes=20))
    assert waits(_in(running, attempt=1, **made)) == ("runs, attempt 1", ago(minutes=20))
    quarantined = _in(failed, attempt=5, error="the GPU\nis on fire", **made)
    told = ("is quarantined after 5 attempts: the GPU is on fire", ago(minutes=10))
    assert waits(quarantined) == told


def test_a_conflict_in_a_settled_study_is_as_old_as_itself(records: Records) -> None:
    held = ImageRow("other pixels", InstanceState.CONFLICT, ago(minutes=2))
    _write(records, StudyRow((DONE,), (ImageRow(), held), received_at=ago(days=9)))
    assert [study.since for study in _ask(records)[1]] == [ago(minutes=2)]


def test_the_oldest_is_listed_first_and_the_list_ends_where_asked(records: Records) -> None:
    rows = [StudyRow(state=RECEIVING, received_at=ago(minutes=minutes)) for minutes in (3, 70, 5)]
    young, oldest, old = _write(records, *rows)
    assert [study.study_instance_uid for study in _ask(records)[1]] == [oldest, old, young]
    question = Question(NOW, HOUR)
    with records.snapshot() as session:
        assert [one.study_instance_uid for one in unsettled(session, question, 1)] == [oldest]


def test_images_are_summed_by_what_became_of_them(records: Records) -> None:
    lateral, other = ImageRow("a lateral view"), ImageRow("not a radiograph")
    _write(
        records,
        StudyRow((DONE,), (ImageRow(), ImageRow(not_read="no pixels"), lateral, lateral, other)),
        StudyRow((_in(AnalysisState.DONE, images=1),), (ImageRow(), ImageRow()), state=RECEIVING),
        StudyRow((_in(AnalysisState.QUEUED),)),
        StudyRow((_in(AnalysisState.FAILED),), (ImageRow(), CONFLICT)),
        StudyRow((_in(AnalysisState.CANCELLED),)),
        StudyRow((_in(AnalysisState.DONE, images=1), DONE), (ImageRow(), ImageRow())),
    )
    assert _ask(records)[0].images == ImageSums(
        received=13,
        analysed=1 + 1 + 2,
        not_read=1,
        waiting=1 + 1,
        failed=1,
        cancelled=1,
        not_eligible=3,
        conflict=1,
        reasons={"a lateral view": 2, "not a radiograph": 1},
    )


def test_reasons_beyond_the_most_frequent_are_summed_up(records: Records) -> None:
    images = [ImageRow("frequent"), *(ImageRow(f"reason {number:03}") for number in range(REASONS_TOLD + 4))]
    _write(records, StudyRow((_in(AnalysisState.NOT_APPLICABLE),), (*images, ImageRow("frequent"))))
    reasons = _ask(records)[0].images.reasons
    assert len(reasons) == REASONS_TOLD + 1
    assert (next(iter(reasons)), reasons["frequent"], reasons["other reasons"]) == ("frequent", 2, 5)


def test_deliveries_are_summed_by_destination(records: Records) -> None:
    states = [*DeliveryState, DeliveryState.SENT]
    _write(
        records,
        StudyRow((_done(*(DeliveryRow(state, "A@a:1") for state in states)),)),
        StudyRow((_done(DeliveryRow(DeliveryState.SENT, "B@b:2")),)),
        StudyRow((DONE,), (ImageRow(forwards=(OTHER_DUE,)), ImageRow(forwards=(OTHER_DUE,)))),
    )
    assert _ask(records)[0].deliveries == (
        DeliverySums("A@a:1", made=7, delivered=3, due=1, refused=1, replaced=1, withdrawn=1, committed=1),
        DeliverySums("B@b:2", made=1, delivered=1, due=0, refused=0, replaced=0, withdrawn=0),
        DeliverySums("PACS@host:104", made=1, delivered=1, due=0, refused=0, replaced=0, withdrawn=0),
        DeliverySums(
            "B@b:2", made=2, delivered=0, due=2, refused=0, replaced=0, withdrawn=0, objects="images"
        ),
    )


def test_only_studies_of_the_time_asked_for_count(records: Records) -> None:
    stuck = _in(AnalysisState.FAILED)
    old, _middle, new = _write(
        records, *(StudyRow((DONE, stuck), received_at=ago(days=days)) for days in (3, 2, 1))
    )
    sums, listed = _ask(records, since=ago(days=2), until=ago(days=2))
    assert (sums.studies(), sums.images.received, sums.deliveries[0].made, len(listed)) == (1, 1, 1, 1)
    assert [one.study_instance_uid for one in _ask(records, until=ago(days=3))[1]] == [old]
    assert [one.study_instance_uid for one in _ask(records, since=ago(days=1))[1]] == [new]


def test_all_of_it_is_of_one_moment(records: Records, settings: Settings) -> None:
    """What another process commits in between is not seen, on PostgreSQL neither."""
    _write(records, StudyRow(state=RECEIVING))
    other = Records.open(settings)
    with records.snapshot() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 1
        with other.writing() as writing:
            write(writing, StudyRow(state=RECEIVING))
        assert session.scalar(select(func.count()).select_from(Study)) == 1
    with records.reading() as session:
        assert session.scalar(select(func.count()).select_from(Study)) == 2
    other.close()


# Weighted so that every verdict comes about in every way.
MINUTES = st.sampled_from([1, 5, 20, 59, 60, 61, 300]).map(lambda minutes: ago(minutes=minutes))
DELIVERIES = st.builds(
    DeliveryRow,
    st.sampled_from([*DeliveryState, *[DeliveryState.SENT] * 4, *[DeliveryState.DUE] * 2]),
    made_at=MINUTES,
    awaits_commitment=st.sampled_from([False, False, True]),
)
ANALYSES = st.builds(
    AnalysisRow,
    st.sampled_from([*AnalysisState, *[AnalysisState.DONE] * 8]),
    st.lists(DELIVERIES, max_size=3).map(tuple),
    created_at=MINUTES,
    calls=st.sampled_from([(), (), (), (), *((state,) for state in CallState)]),
)
FORWARDS = st.sampled_from(
    [(), (), (), (SENT,), (SENT,), (DUE,), (REFUSED,), (WITHDRAWN,), (SENT, OTHER_DUE), (UNCOMMITTED,)]
)
IMAGES = st.one_of(
    st.builds(ImageRow, st.sampled_from(["", "", "a lateral view"]), received_at=MINUTES, forwards=FORWARDS),
    st.sampled_from([ImageRow(), ImageRow(), ImageRow(not_read="no pixels"), CONFLICT]),
)
STUDIES = st.builds(
    StudyRow,
    st.lists(ANALYSES, max_size=3).map(tuple),
    st.lists(IMAGES, min_size=1, max_size=4).map(tuple),
    st.sampled_from([*StudyState, *[StudyState.COMPLETE] * 4]),
    MINUTES,
)


def _verdict(row: StudyRow) -> Verdict:
    """The rules once more, over one study's rows in Python."""
    newest = row.analyses[-1] if row.analyses else None
    complete = row.state == StudyState.COMPLETE
    due = [one.made_at for made in row.analyses for one in made.deliveries if one.state == DeliveryState.DUE]
    due += [analysis.created_at for analysis in row.analyses if CallState.DUE in analysis.calls]
    passed_on = [(image, one) for image in row.images for one in image.forwards]
    due += [image.received_at for image, one in passed_on if one.state == DeliveryState.DUE]
    sent = [one for made in row.analyses for one in made.deliveries] + [one for _, one in passed_on]
    awaiting = [one for one in sent if one.state == DeliveryState.SENT and one.awaits_commitment]
    due += [one.made_at for one in awaiting]
    working = {AnalysisState.QUEUED, AnalysisState.RUNNING}
    waiting = [analysis.created_at for analysis in row.analyses if analysis.state in working]
    if any(image.state == InstanceState.CONFLICT for image in row.images):
        return Verdict.STUCK
    if complete and newest and newest.state == AnalysisState.FAILED:
        return Verdict.STUCK
    if complete and newest and any(one.state == DeliveryState.REFUSED for one in newest.deliveries):
        return Verdict.STUCK
    if complete and newest and CallState.REFUSED in newest.calls:
        return Verdict.STUCK
    if complete and any(one.state == DeliveryState.REFUSED for _, one in passed_on):
        return Verdict.STUCK
    unanswered = newest is None or newest.state == AnalysisState.SUPERSEDED
    if complete and not unanswered and not due and not waiting:
        return Verdict.SETTLED
    return Verdict.STUCK if min([row.received_at, *due, *waiting]) < NOW - HOUR else Verdict.OPEN


@examples(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STUDIES, max_size=20))
def test_received_is_settled_and_open_and_stuck_and_none_of_these_is_left_out(
    records: Records, rows: list[StudyRow]
) -> None:
    with records.writing() as session:
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(text(f"DELETE FROM {table.name}"))
    verdicts = dict(zip(_write(records, *rows), map(_verdict, rows), strict=True))
    sums, listed = _ask(records)
    assert sums.studies() == len(rows)
    assert {one: sums.studies(one) for one in Verdict} == {
        one: list(verdicts.values()).count(one) for one in Verdict
    }
    assert {study.study_instance_uid: study.verdict for study in listed} == {
        uid: verdict for uid, verdict in verdicts.items() if verdict is not Verdict.SETTLED
    }
    assert all(study.reasons for study in listed)
    images = sums.images
    assert images.received == sum(len(row.images) for row in rows)
    fates = (images.analysed, images.not_read, images.waiting, images.failed, images.cancelled)
    assert images.received == sum(fates) + images.not_eligible + images.conflict
    made = [delivery for row in rows for analysis in row.analyses for delivery in analysis.deliveries]
    made += [delivery for row in rows for image in row.images for delivery in image.forwards]
    assert sum(row.made for row in sums.deliveries) == len(made)


def test_the_words_for_a_state_are_those_of_the_list_of_studies(records: Records) -> None:
    """Where there is no conflict and one analysis at most, ``studies`` and ``reconcile`` say the same."""
    cases = {
        name: case for name, case in CASES.items() if len(case[0].analyses) < 2 and "conflict" not in case[1:]
    }
    uids = dict(zip(_write(records, *(case[0] for case in cases.values())), cases, strict=True))
    with records.reading() as session:
        views = overview.list_studies(session)
    said = {uids[view.study_instance_uid]: view.outcome for view in views}
    assert said == {name: case[2] for name, case in cases.items()}


def _command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service.cli.main", "reconcile", *arguments],
        cwd=folder,
        env={**os.environ, **environment, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Records]:
    """The records of a node in ``tmp_path``, as the command finds them by itself."""
    records = Records.open(load_settings(data_dir=tmp_path / "node-data"))
    migrate(records.engine)
    yield records
    records.close()


def _real_ago(**times: float) -> datetime:
    return datetime.now(UTC) - timedelta(**times)


def test_the_exit_code_says_whether_something_is_stuck(node: Records, tmp_path: Path) -> None:
    assert _command(tmp_path).returncode == 0
    _write(node, StudyRow((DONE,), received_at=_real_ago(days=3)))
    assert _command(tmp_path).returncode == 0
    (uid,) = _write(node, StudyRow(state=RECEIVING, received_at=_real_ago(hours=2)))
    done = _command(tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith("1 stuck\n")
    done = _command(tmp_path, "--older-than", "3h")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "in order")
    assert [_command(tmp_path, "--older-than", limit).returncode for limit in ("115m", "7000s", "1d")] == [
        1,
        1,
        0,
    ]
    with node.writing() as session:
        refused = _done(REFUSED)
        session.execute(update(Study).values(state=StudyState.COMPLETE))
        write(session, StudyRow((refused,), received_at=_real_ago(seconds=0)))
    assert _command(tmp_path, "--older-than", "9d").returncode == 1
    assert uid in _command(tmp_path, "--older-than", "9d").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--older-than", "1 hour"),
        ("--older-than", "h"),
        ("--older-than", "-1h"),
        ("--older-than", "999999d"),
        ("--since", "yesterday"),
        ("--until", "2026-02-30"),
        ("--sinse", "2026-02-03"),
        ("--data-dir", "nowhere"),
    ],
)
def test_wrong_arguments_are_exit_code_2(arguments: tuple[str, ...], node: Records, tmp_path: Path) -> None:
    done = _command(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr and "Traceback" not in done.stderr


def test_days_are_those_of_the_hospital(node: Records, tmp_path: Path) -> None:
    """10 March in Tokyo lasts from 15:00 UTC on the 9th to 15:00 UTC on the 10th."""
    times = ("2026-03-09T14:59:59", "2026-03-09T15:00:00", "2026-03-10T14:59:59", "2026-03-10T15:00:00")
    uids = _write(
        node,
        *(StudyRow(state=RECEIVING, received_at=datetime.fromisoformat(f"{when}+00:00")) for when in times),
    )
    day = ("--since", "2026-03-10", "--until", "2026-03-10", "--json")
    done = json.loads(_command(tmp_path, *day, LITEGPT_TIME_ZONE="Asia/Tokyo").stdout)
    assert [study["study_instance_uid"] for study in done["unsettled"]] == uids[1:3]
    assert done["studies"]["received"] == 2


def test_a_person_sees_sums_and_the_oldest_studies(node: Records, tmp_path: Path) -> None:
    _write(
        node,
        StudyRow((DONE,), (ImageRow(), ImageRow("HAND[/L]"))),
        *(
            StudyRow(
                (_done(REFUSED),),
                received_at=_real_ago(days=1, hours=2, minutes=n),
                accession_number=f"A[/{n}]",
            )
            for n in range(22)
        ),
    )
    done = _command(tmp_path)
    lines = [line.split() for line in done.stdout.splitlines()]
    for words in (
        ["received", "23"],
        ["settled", "1"],
        ["delivered", "1"],
        ["open", "0"],
        ["stuck", "22"],
        ["refused", "22"],
        ["received", "24"],
        ["analysed", "23"],
        ["HAND[/L]", "1"],
        ["PACS@host:104", "results", "23", "1", "0", "22", "0", "0"],
        ["and", "2", "more:", "--all", "lists", "them"],
    ):
        assert words in lines, done.stdout
    listed = [line for line in lines if line and line[0] == "stuck" and len(line) > 2]
    assert [line[2:4] for line in listed] == [[f"A[/{n}]", "refused"] for n in range(21, 1, -1)]
    assert listed[0][4:] == ["1", "d", "2", "h"]
    assert (
        "1 result refused by PACS@host:104: takes no reports; since 2026-03-10 12:00 UTC; set" in done.stdout
    )
    every = _command(tmp_path, "--all")
    assert every.stdout.count("1 result refused") == 22 and "--all" not in every.stdout
    assert every.returncode == 1


def test_json_is_one_object_of_a_stable_form(node: Records, tmp_path: Path) -> None:
    empty = json.loads(_command(tmp_path, "--json").stdout)
    assert (empty["in_order"], empty["unsettled"], empty["studies"]["received"]) == (True, [], 0)
    _write(node, StudyRow((DONE,)), *(StudyRow((_done(REFUSED),), received_at=_real_ago(hours=5)),) * 21)
    done = _command(tmp_path, "--json", "--since", "2020-01-01", "--older-than", "30m")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert list(told) == [
        *("at", "older_than_seconds", "since", "until", "in_order"),
        *("studies", "images", "deliveries", "not_listed", "unsettled"),
    ]
    assert told["older_than_seconds"] == 1800
    assert (told["since"], told["until"]) == ("2020-01-01T00:00:00+00:00", None)
    assert (told["in_order"], told["not_listed"], len(told["unsettled"])) == (False, 1, 20)
    assert told["studies"] == {
        "received": 22,
        "settled": 1,
        "open": 0,
        "stuck": 21,
        "states": [
            {"verdict": "settled", "state": "delivered", "studies": 1},
            {"verdict": "stuck", "state": "refused", "studies": 21},
        ],
    }
    assert told["images"] == {
        "received": 22,
        "analysed": 22,
        "not_read": 0,
        "waiting": 0,
        "failed": 0,
        "cancelled": 0,
        "not_eligible": 0,
        "conflict": 0,
        "reasons": {},
    }
    assert told["deliveries"] == [
        {
            "destination": "PACS@host:104",
            "made": 22,
            "delivered": 1,
            "due": 0,
            "refused": 21,
            "replaced": 0,
            "withdrawn": 0,
            "objects": "results",
            "committed": 0,
            "uncommitted": 0,
        }
    ]
    study = told["unsettled"][0]
    assert list(study) == [
        *("study_instance_uid", "accession_number", "verdict", "state", "since", "age_seconds", "reasons")
    ]
    assert (study["verdict"], study["state"], study["age_seconds"] // 60) == ("stuck", "refused", 300)
    assert list(study["reasons"][0]) == ["what", "since", "remedy"]
    assert len(json.loads(_command(tmp_path, "--json", "--all").stdout)["unsettled"]) == 21
