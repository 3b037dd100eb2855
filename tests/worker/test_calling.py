"""An analysis is told to a real HTTP server: once, or until it is taken, refused or too old."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from sqlalchemy import select, update

from litegpt.boxes import Box
from litegpt.findings import Finding
from service import logs
from service.actions.action import Course
from service.actions.analysing import Cancel
from service.actions.purging import Limits, Purge
from service.actions.resending import Resend
from service.errors import LeaseLost, StillInWork
from service.records import analyses, conclusions, tally, webhook_calls
from service.records.conclusions import ImageOutcome
from service.records.database import utc_now
from service.records.dossier import dossier_of
from service.records.overview import CallView
from service.records.removal import remove_study
from service.records.retry import Retry
from service.records.selection import Selection
from service.records.tables import Analysis, WebhookCall
from tests.images import make_radiograph
from tests.ports import free_port
from tests.service.conftest import sent_to
from tests.service.receivers import SECRET, Receiver, receiver
from tests.worker.conftest import SmallNode, small_node
from worker.calling import Caller

MINUTE = timedelta(minutes=1)
FOUND = (
    Finding("Pneumothorax", 0.9375, Box(1.5, 2, 30, 40), 0.5),
    Finding("Edema", 0.25, reported=False),
    Finding("Cardiomegaly", 0.75),
)


def _node(folder: Path, **webhooks: dict[str, Any]) -> tuple[SmallNode, str]:
    """A node with one analysis that is done, and its study."""
    node = small_node(folder, webhooks=webhooks)
    image = make_radiograph(PatientName="Doe^Jane", PatientID="P-1", AccessionNumber="A-7")
    node.take(image)
    _finish(node)
    return node, str(image.StudyInstanceUID)


def _finish(node: SmallNode) -> None:
    with node.records.reading() as session:
        row = session.scalars(select(Analysis).order_by(Analysis.id.desc()).limit(1)).one()
    (claim,) = analyses.claim(
        node.records,
        model_id=row.model_id,
        model_version=row.model_version,
        limit=9,
        lease=MINUTE,
        retry=Retry(MINUTE, MINUTE, 3),
    )
    outcomes = [ImageOutcome(image.instance_id, FOUND) for image in claim.images]
    conclusions.finish(node.records, claim, outcomes, [], sent_to())


def _call(node: SmallNode, *names: str, analysis_id: int = 1) -> None:
    with node.records.writing() as session:
        for name in names:
            webhook_calls.call(session, analysis_id, name)


def _caller(node: SmallNode) -> Caller:
    return Caller(node.settings, node.records, node.archive)


def _calls(node: SmallNode, study: str) -> tuple[CallView, ...]:
    return node.show(study).calls


def _set(node: SmallNode, **values: object) -> None:
    with node.records.writing() as session:
        session.execute(update(WebhookCall).values(**values))


def test_it_is_told_what_was_reported_and_not_of_whom(tmp_path: Path) -> None:
    with receiver() as taken:
        node, study = _node(tmp_path / "node", radiology=taken.table())
        _call(node, "radiology")
        _call(node, "radiology")
        assert node.show(study).outcome == "delivering"
        assert _caller(node).drain()
        assert _caller(node).drain()
    (body,) = taken.bodies
    message = json.loads(body)
    view = node.show(study)
    image = view.images[0].sop_instance_uid
    assert message.pop("finished_at")
    assert message.pop("model") == dict(zip(("id", "version"), view.model.split(), strict=True))
    assert message == {
        "type": "analysis",
        "study_instance_uid": study,
        "accession_number": "A-7",
        "study_date": "20250102",
        "analysis_id": 1,
        "demonstration": True,
        "images": [{"sop_instance_uid": image, "not_read": None}],
        "findings": [
            {"label": "Pneumothorax", "score": 0.9375, "box": [1.5, 2, 30, 40], "sop_instance_uid": image},
            {"label": "Cardiomegaly", "score": 0.75, "box": None, "sop_instance_uid": image},
        ],
    }
    (call,) = view.calls
    assert (call.state, call.attempt, call.error, view.outcome) == ("sent", 1, "", "done")
    with node.records.reading() as session:
        row = session.scalars(select(WebhookCall)).one()
        assert f"webhook {row.webhook} told" in [one.what for one in dossier_of(session, study).timeline()]
        assert tally.stock(session).calls == {("radiology", "sent"): 1}
    assert row.body_digest == hashlib.sha256(body).hexdigest()
    node.records.close()


def test_who_the_patient_is_is_told_where_that_is_asked_for_by_the_newest_header(tmp_path: Path) -> None:
    with receiver() as taken:
        node, study = _node(tmp_path / "node", a=taken.table(tell_patient=True))
        with node.records.reading() as session:
            file = node.archive.absolute(dossier_of(session, study).images[0].view.path)
        corrected = deepcopy(pydicom.dcmread(file))
        corrected.PatientID = "P-2"
        node.take(corrected)
        _call(node, "a")
        assert _caller(node).drain()
        Purge(node.records, node.archive, "a test").run(Limits(received_before=utc_now() + MINUTE))
        assert Course(node.records, "a test").run(Resend(again=True), Selection()) == {"due again": 1}
        assert _caller(node).drain()
    first, second = map(json.loads, taken.bodies)
    assert first["patient"] == {"name": "Doe Jane", "id": "P-2"}
    assert second == {**first, "patient": None}
    node.records.close()


def test_it_is_tried_again_with_the_same_id_until_it_is_taken(tmp_path: Path) -> None:
    with receiver(503, 0, 204) as taken:
        node, study = _node(tmp_path / "node", a=taken.table())
        _call(node, "a")
        assert _caller(node).drain()
    assert len(set(taken.bodies)) == 1 and len(taken.bodies) == 3
    assert len({headers["webhook-id"] for headers in taken.headers}) == 1
    (call,) = _calls(node, study)
    assert (call.state, call.attempt, call.error) == ("sent", 3, "")
    attempts = [(one.attempt, one.outcome, one.said.split(" answered ")[-1]) for one in call.attempts or ()]
    assert attempts[0] == (1, "try-again", "503: not now") and attempts[-1] == (3, "sent", "204")
    assert len(attempts) == 3
    node.records.close()


def test_a_refusal_is_final_until_an_admin_says_otherwise(tmp_path: Path) -> None:
    with receiver(410, 204) as taken, receiver() as other:
        node, study = _node(tmp_path / "node", a=taken.table(), b=other.table())
        _call(node, "a", "b", "gone")
        assert _caller(node).drain()
        states = {call.webhook: (call.state, call.error) for call in _calls(node, study)}
        assert states == {
            "a": ("refused", f"{taken.url.removesuffix('/hook')} answered 410: refused"),
            "b": ("sent", ""),
            "gone": ("refused", "no webhook gone is set up"),
        }
        assert (len(taken.bodies), len(other.bodies)) == (1, 1)
        assert node.show(study).outcome == "refused"
        with node.records.reading() as session:
            reasons = [reason.what for reason in dossier_of(session, study).reasons]
        assert reasons[0].startswith("webhook a was not told: http://127.0.0.1:")
        done = Course(node.records, "a test").run(Resend(), Selection(studies=(study,)))
        assert done == {"due again": 2, "told already": 1}
        assert _caller(node).drain()
        assert len(taken.bodies) == 2
        course = Course(node.records, "a test")
        assert course.run(Cancel(), Selection(studies=(study,))) == {"cancelled": 1}
        assert node.show(study).outcome == "done"
    node.records.close()


def test_what_does_not_answer_for_days_is_given_up(tmp_path: Path) -> None:
    nobody = Receiver((), f"http://127.0.0.1:{free_port()}/hook")
    node = small_node(
        tmp_path / "node",
        webhooks={"a": nobody.table()},
        retry_first_seconds=3600,
        retry_maximum_seconds=3600,
    )
    image = make_radiograph()
    node.take(image)
    _finish(node)
    study = str(image.StudyInstanceUID)
    _call(node, "a")
    for days, state in ((0, "due"), (2.9, "due"), (3.1, "refused")):
        _set(node, not_before=utc_now(), created_at=utc_now() - timedelta(days=days))
        assert _caller(node).drain()
        (call,) = _calls(node, study)
        assert call.state == state
    assert call.error.startswith("given up after 3 days: http://127.0.0.1:") and call.attempt == 3
    node.records.close()


def test_what_is_superseded_cancelled_or_still_due(tmp_path: Path) -> None:
    with receiver() as taken:
        node, study = _node(tmp_path / "node", a=taken.table())
        _call(node, "a")
        everything = Limits(received_before=utc_now() + MINUTE)
        assert Purge(node.records, node.archive, "a test").run(everything).images == 0
        with pytest.raises(StillInWork, match="a webhook is due"):
            remove_study(node.records, node.archive, study)
        node.take(make_radiograph(study_uid=study))
        _finish(node)
        _call(node, "a", analysis_id=2)
        (claim,) = webhook_calls.claim(node.records, limit=9, lease=MINUTE)
        assert claim.analysis_id == 2
        assert Course(node.records, "a test").run(Cancel(), Selection()) == {"cancelled": 1}
        for write in (
            lambda: webhook_calls.begin(node.records, claim, "", MINUTE),
            lambda: webhook_calls.refused(node.records, claim, "no"),
        ):
            with pytest.raises(LeaseLost):
                write()
        assert _caller(node).drain()
        assert taken.bodies == []
    with node.records.reading() as session:
        rows = session.execute(select(WebhookCall.state, WebhookCall.error).order_by(WebhookCall.id)).all()
    assert rows == [("withdrawn", "superseded by a newer analysis"), ("withdrawn", "cancelled by an admin")]
    remove_study(node.records, node.archive, study)
    with node.records.reading() as session:
        assert session.scalars(select(WebhookCall)).all() == []
    node.records.close()


def test_a_fault_of_our_own_over_one_call_does_not_hold_the_others_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiver() as taken:
        node, study = _node(tmp_path / "node", a=taken.table(), b=taken.table())
        _call(node, "a", "b")

        def broken(webhook: Any, *_: object) -> int:
            if webhook.name == "a":
                raise KeyError("nobody has thought of this")
            return 204

        monkeypatch.setattr("worker.calling.post", broken)
        assert _caller(node).drain()
    states = [(call.state, call.error) for call in _calls(node, study)]
    assert states == [("refused", "a fault of the node: KeyError"), ("sent", "")]
    node.records.close()


def _tell_and_die(data_dir: Path, table: dict[str, Any]) -> None:
    """A worker that is killed when the receiver has answered, and before that is written down."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    webhook_calls.sent = die
    logging.disable()
    _caller(small_node(data_dir, webhooks={"a": table})).drain()


def test_a_worker_that_is_killed_leaves_it_to_the_next_under_the_same_id(
    tmp_path: Path,
) -> None:
    with receiver() as taken:
        node, study = _node(tmp_path / "node", a=taken.table())
        _call(node, "a")
        worker = multiprocessing.get_context("spawn").Process(
            target=_tell_and_die, args=(tmp_path / "node", taken.table())
        )
        worker.start()
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
        assert _caller(node).drain()  # the lease has not ended
        assert (len(taken.bodies), _calls(node, study)[0].state) == (1, "due")
        _set(node, not_before=utc_now())
        assert _caller(node).drain()
    assert len(taken.bodies) == 2 and len(set(taken.bodies)) == 1
    assert len({headers["webhook-id"] for headers in taken.headers}) == 1
    assert (_calls(node, study)[0].state, _calls(node, study)[0].attempt) == ("sent", 2)
    node.records.close()


def test_no_name_of_a_patient_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in logs.LOUD:
        caplog.set_level(logging.WARNING, logger=name)
    caplog.set_level(logging.DEBUG)  # last: it is the handler's, too
    with receiver() as taken:
        node, study = _node(tmp_path / "node", a=taken.table(tell_patient=True))
        _call(node, "a")
        assert _caller(node).drain()
    assert f"study {study}: webhook a of analysis 1 told: 204" in caplog.text
    for secret in ("Doe", "P-1", SECRET[6:], "/hook"):
        assert secret not in caplog.text
    node.records.close()
