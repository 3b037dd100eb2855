"""What the pages show, to whom, and what operators do with them. Against a real server process."""

from __future__ import annotations

import csv
import json
import re
import threading
from collections import Counter
from datetime import timedelta
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import insert, select, update

from litegpt.identity import read_identity
from litegpt.radiograph import read_radiograph
from service.actions.action import Tally
from service.actions.analysing import Retry
from service.errors import PeerRefused, TryAgain
from service.models.changes import Admin
from service.peers import Destination
from service.records import peers_seen, webhook_calls, workers
from service.records.attempts import Ended, note_delivery
from service.records.database import utc_now
from service.records.forwarding import forward
from service.records.journal import write_down
from service.records.peers_seen import Contact
from service.records.states import AnalysisState, AttemptOutcome, DeliveryState, PeerKind, Purpose, Role
from service.records.tables import Analysis, AnalysisImage, AuditEvent, Delivery, Instance, Result, Study
from service.records.workers import Saying
from service.records.worklist import Key
from service.settings import load_settings
from service.web.deeds import Deed
from service.web.filters import Filters, read_key, write_key
from service.web.pages.configuration import lines_of
from service.web.works import Works
from tests.images import make_radiograph, with_other_pixels
from tests.models import model_copy
from tests.service.receivers import SECRET
from tests.service.study_rows import ago
from tests.service.web.site import DESTINATION, Client, Site, finding, read_by_shadow, site, text_of
from tests.waiting import wait_until

NAME = "Verysecret^Patient"
BOX = (12.5, 20.0, 60.25, 99.0)


@pytest.fixture(scope="module")
def read_study(pages: Site) -> str:
    """One image that was read, another that was not to be; the result was refused."""
    image = make_radiograph(
        rows=120, columns=90, PatientName=NAME, PatientID="SECRET-ID", AccessionNumber="READ"
    )
    lateral = make_radiograph(
        study_uid=str(image.StudyInstanceUID), ViewPosition="LL", PatientName=NAME, AccessionNumber="READ"
    )
    uid = pages.take(image, lateral)
    below = finding("Edema", (0, 0, 5, 5), reported=False, score=0.25)
    pages.read(uid, finding("Cardiomegaly", BOX), below, finding("Pneumonia", None))
    return uid


def _failed(pages: Site, **attributes: Any) -> str:
    uid = pages.take(make_radiograph(**attributes))
    pages.read(uid, state=AnalysisState.FAILED)
    return uid


def _analysis(pages: Site, uid: str) -> Analysis:
    with pages.records.reading() as session:
        return session.scalars(select(Analysis).join(Study).where(Study.study_instance_uid == uid)).one()


def _images(pages: Site, uid: str) -> list[Instance]:
    with pages.records.reading() as session:
        rows = select(Instance).join(Study).where(Study.study_instance_uid == uid).order_by(Instance.id)
        return list(session.scalars(rows))


def test_a_study_is_shown_with_all_that_happened(pages: Site, read_study: str) -> None:
    answer = pages.client("viewer").get(f"/studies/{read_study}")
    assert answer.status == 200
    said = text_of(answer)
    for words in (
        "Study READ",
        "Demonstration model",
        "Cardiomegaly 0.88",
        "Edema below its threshold: in no report 0.25",
        "Pneumonia 0.88 whole image",
        "Not read: lateral view LL",
        "refused 0xA700: refused",
        "image received from MODALITY",
        "1 result refused by",
    ):
        assert words in said, words
    rects = re.findall(r'<rect class="box label-\d+( below)?"[^>]* x="([\d.]+)" y="([\d.]+)"', answer.text)
    assert sorted(rects) == [("", "12.5", "20.0"), (" below", "0.0", "0.0")]


def test_a_study_shows_what_its_destinations_commit_to(pages: Site) -> None:
    uid, to = pages.take(make_radiograph(AccessionNumber="COMMITTED")), "COMMITTING@127.0.0.1:104"
    pages.read(uid)

    def write(**values: object) -> str:
        with pages.records.writing() as session:
            of_study = select(Result.id).join(Analysis).join(Study).where(Study.study_instance_uid == uid)
            of_result = update(Delivery).where(Delivery.result_id.in_(of_study))
            session.execute(of_result.values(destination=to, error="", sent_at=utc_now(), **values))
        return text_of(pages.client("viewer").get(f"/studies/{uid}"))

    said = write(state=DeliveryState.SENT, commitment_due_at=utc_now(), commitment_asks=2)
    assert "not committed to yet, asked 2 ×" in said
    assert f"1 result not committed to by {to} yet, asked 2 times" in said
    said = write(state=DeliveryState.COMMITTED, commitment_due_at=None, committed_at=utc_now())
    assert "not committed to" not in said
    assert re.search(r"committed [\d-]+ [\d:]+.* committed to [\d-]+ [\d:]+", said)
    assert f"Comprehensive 3D SR committed to by {to}" in said


def test_a_study_shows_where_its_images_go_and_which_webhooks_are_told(pages: Site) -> None:
    uid = pages.take(make_radiograph(AccessionNumber="PASSED-ON"))
    pages.read(uid)
    with pages.records.writing() as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
        forward(session, study, study.instances[0], [Destination.parse("VNA@vna.example:104")])
        webhook_calls.call(session, study.analyses[0].id, "radiology")
        session.flush()
        study.instances[0].deliveries[0].state = DeliveryState.REFUSED
        study.instances[0].deliveries[0].error = "takes none of the objects offered"
    said = text_of(pages.client("viewer").get(f"/studies/{uid}"))
    assert "passed on as it came VNA@vna.example:104 refused takes none of the objects offered" in said
    assert f"Webhook {_analysis_id(pages, uid)} radiology due" in said
    assert "Attempts:" not in said
    assert f"litegpt-node cancel {uid} gives it up" in said
    listed = pages.client("viewer").get("/studies?destination=VNA@vna.example:104")
    assert "PASSED-ON" in text_of(listed)


def test_each_attempt_at_a_delivery_is_told(pages: Site) -> None:
    uid = pages.take(make_radiograph())
    pages.read(uid)
    with pages.records.writing() as session:
        delivery = session.scalars(
            select(Delivery).join(Result).join(Analysis).join(Study).where(Study.study_instance_uid == uid)
        ).one()
        away = Ended(AttemptOutcome.NO_ASSOCIATION, "PACS <b>does</b> not answer", 5.25)
        for number in (1, 2, 3):
            note_delivery(session, delivery.id, number, away)
        note_delivery(session, delivery.id, 4, Ended(AttemptOutcome.SENT, "0000", 0.5))
    answer = pages.client("viewer").get(f"/studies/{uid}")
    said = text_of(answer)
    assert "Attempts: 4 No. When" in said
    away_line = r"3 ×, last 3 \S.* no-association PACS <b>does</b> not answer 5\.\d \S+/\d+ 4 "
    assert re.search(away_line, said), said
    assert re.search(r" sent 0000 0\.5 ", said)
    assert "no-association, 3 times since" in said.split("Timeline")[1]
    assert answer.text.count("<details") == 1


def _analysis_id(pages: Site, uid: str) -> int:
    with pages.records.reading() as session:
        return session.scalars(select(Analysis.id).join(Study).where(Study.study_instance_uid == uid)).one()


def test_what_a_header_says_is_never_markup(pages: Site) -> None:
    hostile = "<script>alert(1)</script>"
    uid = pages.take(make_radiograph(BodyPartExamined="<B>HAND", AccessionNumber="<i>A&B", ViewPosition="LL"))
    with pages.records.writing() as session:
        image = session.scalars(select(Instance).join(Study).where(Study.study_instance_uid == uid)).one()
        image.reason = hostile
    for path in (f"/studies/{uid}", "/studies", f"/studies?study={hostile}"):
        text = pages.client("admin").get(path).text
        assert hostile not in text
        assert "<i>A" not in text


def test_a_picture_is_the_radiograph_as_a_viewer_shows_it(pages: Site, read_study: str) -> None:
    client, (image, _) = pages.client("viewer"), _images(pages, read_study)
    answer = client.get(f"/studies/{read_study}/images/{image.id}.png")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    expected = read_radiograph(pages.archive.absolute(image.path)).pixels
    assert np.array_equal(np.asarray(Image.open(BytesIO(answer.body))), expected)
    assert answer.headers["cache-control"] == "private, no-cache"
    again = client.get(f"/studies/{read_study}/images/{image.id}.png", If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    stale = client.get(f"/studies/{read_study}/images/{image.id}.png", If_None_Match='"other"')
    assert stale.status == 200
    stranger = pages.client().get(
        f"/studies/{read_study}/images/{image.id}.png", If_None_Match=answer.headers["etag"]
    )
    assert stranger.status == 303


def test_a_large_image_is_made_smaller_in_proportion(pages: Site) -> None:
    uid = pages.take(make_radiograph(rows=3000, columns=600))
    (image,) = _images(pages, uid)
    answer = pages.client("viewer").get(f"/studies/{uid}/images/{image.id}.png")
    assert Image.open(BytesIO(answer.body)).size == (320, 1600)


def test_a_file_that_is_gone_or_is_another_study_s(pages: Site, read_study: str) -> None:
    client, uid = pages.client("viewer"), pages.take(make_radiograph(AccessionNumber="GONE"))
    (image,) = _images(pages, uid)
    assert client.get(f"/studies/{read_study}/images/{image.id}.png").status == 404
    for wrong in ("0", "-1", "x", str(2**64), "../../secret"):
        assert client.get(f"/studies/{uid}/images/{wrong}.png").status == 404
    pages.archive.absolute(image.path).unlink()
    assert client.get(f"/studies/{uid}/images/{image.id}.png").status == 404
    assert "the file is not there, or cannot be read" in text_of(client.get(f"/studies/{uid}"))


def test_a_purged_study_keeps_its_findings(pages: Site) -> None:
    image = make_radiograph(AccessionNumber="PURGED")
    lateral = make_radiograph(study_uid=str(image.StudyInstanceUID), ViewPosition="LL")
    client, uid = pages.client("viewer"), pages.take(image, lateral)
    pages.read(uid, finding("Cardiomegaly", BOX))
    with pages.records.writing() as session:
        of_study = select(Result).join(Analysis).join(Study).where(Study.study_instance_uid == uid)
        for row in (
            *session.scalars(of_study),
            *session.scalars(select(Instance).join(Study).where(Study.study_instance_uid == uid)),
        ):
            row.purged_at, row.path = ago(days=1), ""
    answer = client.get(f"/studies/{uid}")
    said = text_of(answer)
    assert "Purged 2026-03-09 12:00:00: what was found in it is kept. Show Finding" in said, said
    assert "Cardiomegaly 0.88 12, 20" in said and "lateral view LL" in said
    assert ".dcm" not in answer.text and ".png" not in answer.text
    assert client.get(f"/studies/{uid}/images/{_images(pages, uid)[0].id}.png").status == 404


def test_a_result_is_what_was_sent(pages: Site, read_study: str) -> None:
    client = pages.client("viewer")
    text = client.get(f"/studies/{read_study}").text
    (path,) = set(re.findall(r'href="(/studies/[\d.]+/results/\d+\.dcm)"', text))
    answer = client.get(path)
    assert answer.body == b"report of " + read_study.encode()
    assert answer.headers["content-type"] == "application/dicom"
    assert "attachment" in answer.headers["content-disposition"]
    assert client.get(path.replace(read_study, "1.2.3")).status == 404


def test_no_page_names_a_patient(pages: Site, read_study: str) -> None:
    client = pages.client("admin")
    for path in ("/", "/studies", f"/studies/{read_study}", f"/studies/{read_study}/now", "/audit"):
        text = client.get(path).text
        assert "Verysecret" not in text
        assert "SECRET-ID" not in text
    answer = client.post(f"/studies/{read_study}/patient", {"csrf": client.csrf()})
    assert answer.status == 403
    assert "Verysecret" not in answer.text


def test_a_patient_is_named_on_request_where_that_is_allowed(tmp_path: Path) -> None:
    with site(tmp_path, show_patients="true") as shown:
        uid = shown.take(make_radiograph(PatientName=NAME, PatientID="SECRET-ID"))
        operator, viewer = shown.client("operator"), shown.client("viewer")
        assert "Verysecret" not in operator.get(f"/studies/{uid}").text
        answer = operator.post(f"/studies/{uid}/patient", {"csrf": operator.csrf()})
        assert "Verysecret Patient (SECRET-ID)" in text_of(answer)
        title = re.search(r"<title>(.*?)</title>", answer.text)
        assert title and "Verysecret" not in title[1]
        assert operator.post(f"/studies/{uid}/patient", {"csrf": "0"}).status == 403
        assert viewer.post(f"/studies/{uid}/patient", {"csrf": viewer.csrf()}).status == 403
        audit = text_of(shown.client("admin").get("/audit"))
        assert audit.count("operator show patient") == 1
        assert uid in audit
        assert "Verysecret" not in audit
        assert "Verysecret" not in shown.process.output()


def test_filters_live_in_the_address(pages: Site, read_study: str) -> None:
    client = pages.client("viewer")
    _failed(pages, AccessionNumber="BROKEN")

    def listed(query: str) -> set[str]:
        answer = client.get(f"/studies?{query}")
        assert answer.status == 200
        return set(re.findall(r"READ|BROKEN", answer.text.partition("<tbody>")[2]))

    assert listed("") == {"READ", "BROKEN"}
    assert listed("state=failed") == {"BROKEN"}
    assert listed("study=READ") == listed(f"study={read_study}") == {"READ"}
    assert listed("label=Cardiomegaly") == listed("label=Cardiomegaly&score=0.875") == {"READ"}
    assert listed("label=Cardiomegaly&score=0.9") == listed("label=Edema") == set()
    assert listed(f"destination={DESTINATION}&state=refused") == {"READ"}
    assert listed("until=2020-01-01") == listed("study_until=2020-01-01") == listed("model=none") == set()
    assert listed("since=2020-01-01&study_since=2020-01-01&model=0.3.0") == {"READ", "BROKEN"}


@pytest.mark.parametrize(
    "query",
    [
        *("state=lost", "label=Flu", "since=yesterday", "since=9999-99-99", "score=2&label=Edema"),
        *("after=x-1", "after=20260101T000000.0-99999999999999999999"),
        *("study=%00", "model=a%0ab", f"study={'1' * 500}"),
    ],
)
def test_a_wrong_filter_is_answered_in_a_line(pages: Site, query: str) -> None:
    answer = pages.client("viewer").get(f"/studies?{query}")
    assert answer.status == 422
    assert "Not possible" in text_of(answer)


@pytest.mark.parametrize("path", ["/studies/1.2.3", "/studies/x", "/studies/1.2%00", "/nothing", "/works/x"])
def test_what_is_not_there(pages: Site, path: str) -> None:
    answer = pages.client("operator").get(path)
    assert answer.status == 404
    assert "Not possible" in text_of(answer)


def test_the_overview_tells_what_is_stuck_and_what_to_do(pages: Site, read_study: str) -> None:
    uid, client = _failed(pages, AccessionNumber="STUCK"), pages.client("viewer")

    def overview() -> str:
        said = text_of(client.get("/overview/now", X_Refresh="1"))
        return said if "STUCK" in said else ""

    said = wait_until(overview, 60, "study among the stuck ones")
    for words in ("is quarantined after 1 attempt: the model broke off", f"litegpt-node resend {read_study}"):
        assert words in said
    with pages.records.reading() as session:
        states = Counter(session.scalars(select(Delivery.state).where(Delivery.destination == DESTINATION)))
    oldest = r"( \d+ (s|min))+" if states["due"] else ""
    counts = rf"results {states['due']}{oldest} {states['refused']} never"
    assert re.search(rf"{DESTINATION} nothing sent yet {counts} 0xA700: refused", said)
    assert "sweeper not in order no sweeper has been round lately" in said
    assert "model in order litegpt-phantom" in said
    assert f"/studies/{uid}" in client.get("/").text


def test_the_overview_tells_who_works_and_what_is_down(tmp_path: Path) -> None:
    now, old = utc_now(), "FORMER@127.0.0.1:104"
    webhooks = json.dumps({"radiology": {"url": "https://host.invalid/", "secret": SECRET}})
    with site(tmp_path, (Role.VIEWER,), webhooks=webhooks, forward_images_to=DESTINATION) as there:
        client = there.client("viewer")
        said = text_of(client.get("/"))
        assert "None: what waits is neither analysed nor delivered." in said and "Down" not in said
        assert f"{DESTINATION} nothing sent yet results, images 0 0 never" in said
        assert "radiology nothing sent yet 0 0 never" in said
        busy = Saying("analysis", "gpu1", 7, now, "m 1", "H100", in_hand=4, busy_since=now)
        dead = Saying("analysis", "gpu2", 8, now, "m <1>")
        away = Contact()
        away.turned_away(PeerRefused("<PACS> rejects us"))
        uid = there.take(make_radiograph())
        there.read(uid)
        with there.records.writing() as session:
            workers.beat(session, None, busy, now)
            workers.beat(session, None, dead, now - timedelta(minutes=5))
            for kind, name in ((PeerKind.DESTINATION, DESTINATION), (PeerKind.WEBHOOK, "radiology")):
                peers_seen.note(session, kind, name, away, now - timedelta(hours=1))
            webhook_calls.call(session, 1, "radiology")
            session.execute(update(Delivery).values(state=DeliveryState.DUE, destination=old))
        said = text_of(client.get("/overview/now", X_Refresh="1"))
    assert "Down 2 Silent processes 1" in said
    assert re.search(r"analysis worker analysing 4 for \d+ s \d+ s ago m 1 H100 gpu1 7 \d+ s", said)
    assert re.search(r"analysis worker silent 5 min \d+ s ago m <1> gpu2 8 ", said)
    since = f"{now - timedelta(hours=1):%Y-%m-%d %H:%M:%S}"
    assert f"{DESTINATION} down since {since} results, images 0 0 never <PACS> rejects us" in said
    assert re.search(rf"{old} nothing sent yet nothing new 1 \d+ s 0 never 0xA700", said)
    assert re.search(rf"radiology down since {since} 1 \d+ s 0 never <PACS> rejects us", said)


def test_the_overview_tells_who_is_silent(pages: Site) -> None:
    """A modality that sent every ten minutes for five weeks, until six hours ago."""
    now = utc_now()
    uid = pages.take(make_radiograph())
    with pages.records.writing() as session:
        study_id = session.scalars(select(Study.id).where(Study.study_instance_uid == uid)).one()
        ages = range(6 * 60, 5 * 7 * 24 * 60, 10)
        session.execute(
            insert(Instance),
            [
                {
                    "study_id": study_id,
                    "sop_instance_uid": f"1.9.{age}",
                    "digest": "",
                    "path": "",
                    "sop_class_uid": "1",
                    "series_instance_uid": "1",
                    "transfer_syntax_uid": "1",
                    "size_bytes": 1,
                    "eligible": False,
                    "reason": "none",
                    "calling_ae_title": "QUIET",
                    "received_at": now - timedelta(minutes=age),
                }
                for age in ages
            ],
        )
    client = pages.client("viewer")

    def overview() -> str:
        said = text_of(client.get("/overview/now", X_Refresh="1"))
        return said if "QUIET" in said else ""

    said = wait_until(overview, 60, "modality")
    assert "Silent modalities 1" in said
    assert re.search(r"QUIET silent for longer than usual 6 h 0 min up to 10 min 0 s in 4 weeks", said), said
    assert re.search(r"MODALITY new \d+ s not known yet", said), said


def test_viewers_have_no_buttons_and_are_refused(pages: Site, read_study: str) -> None:
    viewer = pages.client("viewer")
    for path in ("/studies", f"/studies/{read_study}", "/"):
        assert "/actions/" not in viewer.get(path).text
    assert 'href="/audit"' not in viewer.get("/").text
    before = _analysis(pages, read_study).state
    for path in ("/actions/rerun", "/actions/cancel", "/works/x", "/audit", "/audit.csv"):
        assert viewer.get(path).status == 403
    form = {"csrf": viewer.csrf(), "study": read_study, "step": "do"}
    for action in ("rerun", "retry", "resend", "force", "cancel"):
        assert viewer.post(f"/actions/{action}", form).status == 403
    assert _analysis(pages, read_study).state == before
    operator = pages.client("operator")
    assert f"/actions/retry?study={read_study}" in operator.get(f"/studies/{read_study}").text
    assert operator.get("/audit").status == 403


def _act(client: Client, name: str, step: str, **form: str) -> str:
    """What is said once it is over."""
    answer = client.post(f"/actions/{name}", {"csrf": client.csrf(), "step": step, **form})
    assert answer.status == 303, text_of(answer)

    def said() -> str:
        said = text_of(client.get(answer.location))
        return said if "What would come of it" in said or "Done" in said or "Back" in said else ""

    return wait_until(said, 60, "end of the work")


def test_a_study_is_retried_after_a_rehearsal(pages: Site) -> None:
    uid, client = _failed(pages), pages.client("operator")
    said = _act(client, "retry", "look", study=uid)
    assert "What would come of it 1 queued" in said
    assert _analysis(pages, uid).state == AnalysisState.FAILED
    assert "Done 1 queued" in _act(client, "retry", "do", study=uid, priority="stat")
    row = _analysis(pages, uid)
    assert (row.state, row.priority) == (AnalysisState.QUEUED, 0)
    with pages.records.reading() as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    assert (event.who, event.action) == ("operator", "retry")
    assert json.loads(event.asked) == {"studies": {"studies": [uid]}, "priority": "stat"}
    assert "operator: retry: 1 queued" in text_of(client.get(f"/studies/{uid}"))


def test_a_conflict_is_ended_on_the_study_s_page(pages: Site, read_study: str) -> None:
    first = make_radiograph(AccessionNumber="CONFLICT")
    uid = pages.take(first, with_other_pixels(first))
    viewer, client = pages.client("viewer"), pages.client("operator")
    page = client.get(f"/studies/{uid}")
    for name in ("keep-first", "take-later"):
        assert f"/actions/{name}?study={uid}" in page.text
        assert f"/actions/{name}" not in viewer.get(f"/studies/{uid}").text
        assert f"/actions/{name}" not in client.get(f"/studies/{read_study}").text
        assert viewer.get(f"/actions/{name}?study={uid}").status == 403
        form = {"csrf": viewer.csrf(), "study": uid, "step": "do"}
        assert viewer.post(f"/actions/{name}", form).status == 403
        assert client.post(f"/actions/{name}", {"study": uid, "step": "do"}).status == 403
    assert "In conflict" in text_of(page)
    assert "/actions/take-later?state=conflict" in client.get("/studies?state=conflict").text
    said = _act(client, "take-later", "look", study=uid)
    assert "1 the later taken: the study is read again" in said
    assert [image.state for image in _images(pages, uid)] == ["stored", "conflict"]
    assert "Done 1 the later taken" in _act(client, "take-later", "do", study=uid)
    assert [(image.state, image.eligible) for image in _images(pages, uid)] == [
        ("stored", False),
        ("stored", True),
    ]
    said = text_of(client.get(f"/studies/{uid}"))
    assert "set aside: a later one under its UID was taken" in said and "In conflict" not in said
    assert "take-later by operator" in said


def test_what_was_posted_is_posted_again_after_the_rehearsal(pages: Site) -> None:
    uid, client = _failed(pages), pages.client("operator")
    form = {"csrf": client.csrf(), "study": uid, "state": "failed", "priority": "backlog", "step": "look"}
    page = client.get(client.post("/actions/retry", form).location).text
    repeated = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    assert {name: repeated[name] for name in ("study", "state", "priority")} == {
        "study": uid,
        "state": "failed",
        "priority": "backlog",
    }
    assert client.post("/actions/retry", repeated | {"step": "do"}).status == 303
    wait_until(lambda: _analysis(pages, uid).state == AnalysisState.QUEUED, 30, "retry")
    assert _analysis(pages, uid).priority == 2


def test_other_actions_on_a_selection(pages: Site, read_study: str) -> None:
    client = pages.client("operator")
    uid = pages.take(make_radiograph(AccessionNumber="MANY-1"))
    assert "1 cancelled" in _act(client, "cancel", "do", state="queued", study=uid)
    assert _analysis(pages, uid).error == "cancelled by operator"
    assert "1 queued" in _act(client, "rerun", "do", study=uid)
    assert "1 complete already" in _act(client, "force", "do", study=uid)
    assert "1 due again" in _act(client, "resend", "do", study=read_study, to=DESTINATION)
    with pages.records.reading() as session:
        assert DeliveryState.DUE in session.scalars(select(Delivery.state)).all()
    assert "no study is called 1.2.3.4" in _act(client, "retry", "look", study="1.2.3.4")
    for wrong in ({"priority": "now"}, {"state": "lost"}):
        assert client.post("/actions/rerun", {"csrf": client.csrf(), **wrong}).status == 422
    assert client.post("/actions/resend", {"csrf": client.csrf(), "to": "X@y:1"}).status == 404
    assert client.post("/actions/delete", {"csrf": client.csrf()}).status == 404


def test_one_work_at_a_time(pages: Site) -> None:
    """In this process, with an action that ends when the test says."""
    go_on = threading.Event()

    class Slow(Retry):
        def apply(self, session: object, study_ids: object) -> Tally:
            go_on.wait(30)
            return Tally({"queued": 1})

    pages.take(make_radiograph())
    works = Works[Deed]()

    def work(who: str) -> Deed:
        everything = Filters().selection(pages.settings.zone)
        return Deed(who=who, action=Slow(), selection=everything, asked=(), rehearsal=True)

    first, second = work("anna"), work("bert")
    works.begin(pages.records, first)
    with pytest.raises(TryAgain, match="anna has another retry going on"):
        works.begin(pages.records, second)
    go_on.set()
    assert first.ended.wait(30)
    assert works.find(first.id) is first
    works.begin(pages.records, second)
    assert second.ended.wait(30)


def test_the_audit_as_a_table(pages: Site) -> None:
    with pages.records.writing() as session:
        write_down(session, "=cmd()", "deed", note='a "quoted", word')
    answer = pages.client("admin").get("/audit.csv")
    rows = list(csv.reader(StringIO(answer.text)))
    assert rows[0] == ["at", "who", "action", "asked", "outcome"]
    assert ["'=cmd()", "deed", '{"note": "a \\"quoted\\", word"}', "{}"] in [row[1:] for row in rows]
    assert "attachment" in answer.headers["content-disposition"]


def test_the_settings_hide_what_is_secret(pages: Site) -> None:
    settings = load_settings(
        database_url="postgresql+psycopg://litegpt:verysecret@db/litegpt?password=verysecret",
        broker_url="redis://:verysecret@redis:6379/0",
        quiet_seconds=5,
    )
    lines = {line.name: line for line in lines_of(settings)}
    assert "verysecret" not in str(lines)
    assert lines["database_url"].value.startswith("postgresql+psycopg://litegpt:***@db/litegpt")
    assert (lines["quiet_seconds"].value, lines["quiet_seconds"].default) == ("5.0", False)
    assert (lines["show_patients"].value, lines["show_patients"].default) == ("false", True)
    assert "quiet_seconds" in text_of(pages.client("viewer").get("/settings"))


def test_the_models_with_what_each_has_read(pages: Site, read_study: str, tmp_path: Path) -> None:
    active = read_identity("phantom").version
    with pages.records.writing() as session:
        admin = Admin(session, pages.settings, "a test")
        admin.add(str(model_copy(tmp_path / "second", "2")))
        admin.shadow("2", Destination.parse("TEST@127.0.0.1:2"))
        study = session.scalars(select(Study).where(Study.study_instance_uid == read_study)).one()
        former = study.analyses[-1]
        values = {"input_digest": "", "settings_digest": "", "demonstration": True, "state": "done"}
        times = {"created_at": ago(), "not_before": ago(), "started_at": ago(), "finished_at": ago()}
        for version, purpose in (("2", Purpose.SHADOW), ("0.1", Purpose.REGULAR)):
            by = Analysis(model_id=former.model_id, model_version=version, purpose=purpose, **values, **times)
            by.counts = False
            by.images = [AnalysisImage(instance_id=former.images[0].instance_id, position=0)]
            by.images[0].findings = [finding("COPD", None), finding("COPD", None, position=1)]
            study.analyses.append(by)
    client = pages.client("viewer")

    def counted() -> str:
        said = text_of(client.get("/models"))
        return said if "0.1, demonstration, not one of the node's now" in said else ""

    said = wait_until(counted, 30, "the figures of the models")
    name = "litegpt-phantom"
    assert f"{name} {active}, demonstration active" in said
    assert f"{name} 2, demonstration shadow" in said and "go to the test destination TEST@127.0.0.1:2" in said
    assert f"{name} 2, demonstration, shadow 1 1 0 0" in said
    # The last by the page's order: active, shadow, and the one that only the records know.
    assert re.search(r"COPD 0 0\.0 2 200\.0 2 200\.0", said)
    link = re.search(rf'href="(/studies\?model={name}%20{active})"', client.get("/models").text)
    assert link and "READ" in text_of(client.get(link[1]))
    assert "READ" not in text_of(client.get(f"/studies?model={name}%202"))
    study_page = text_of(client.get(f"/studies/{read_study}"))
    assert f"{name} 2, demonstration, shadow done" in study_page
    assert f"asked for, {name} 2 as a shadow" in study_page


def test_what_a_shadow_found_stands_apart_and_decides_nothing(pages: Site) -> None:
    uid = pages.take(make_radiograph(AccessionNumber="COMPARED"))
    pages.read(uid, finding("Cardiomegaly", BOX))
    client = pages.client("viewer")
    version = re.search(r'data-version="([^"]*)"', client.get(f"/studies/{uid}/now").text)
    alone = client.get(f"/studies/{uid}").text
    assert "Read by a shadow" not in alone
    for number, label in (("9", "Edema"), ("9", "Atelectasis"), ("10", "COPD")):
        below = finding("Pneumonia", None, reported=False, score=0.125, position=1)
        last = read_by_shadow(pages, uid, number, finding(label, (1, 2, 30, 40)), below)
    answer = client.get(f"/studies/{uid}")
    said = text_of(answer)
    # The newest of each, with what it would report; and apart from what counts.
    headings = re.findall(r"Read by a shadow, litegpt-phantom (\d+), demonstration: (\w+)", said)
    assert headings == [("10", "COPD"), ("9", "Atelectasis")]
    assert "For comparison alone: the study is not judged by what a shadow finds" in said
    assert f"Analysis {last}, ended" in said and "Edema" not in said
    assert "Pneumonia below its threshold 0.12" in said
    of_images, _, of_shadows = answer.text.partition('<details class="panel shadow">')
    assert re.findall(r"<rect class=.box.*?<title>(\w+)", of_images) == ["Cardiomegaly"]
    assert re.findall(r"<rect class=.box.*?<title>(\w+)", of_shadows) == ["COPD", "Atelectasis"]
    row = text_of(client.get("/studies?study=COMPARED")).partition("COMPARED")[2]
    assert "Cardiomegaly" in row and "Atelectasis" not in row.partition("Not a medical")[0]
    # A page that is open is told to load anew.
    newer = re.search(r'data-version="([^"]*)"', client.get(f"/studies/{uid}/now").text)
    assert version and newer and version[1] != newer[1]


def test_another_model_than_the_active_one_is_asked_by_name(tmp_path: Path) -> None:
    with site(tmp_path / "site", roles=(Role.OPERATOR,)) as pages:
        client, uid = pages.client("operator"), pages.take(make_radiograph())
        pages.read(uid)
        assert 'name="by"' not in client.get(f"/actions/rerun?study={uid}").text
        with pages.records.writing() as session:
            admin = Admin(session, pages.settings, "a test")
            for version in ("2", "3", "4"):
                admin.add(str(model_copy(tmp_path / version, version)))
            admin.shadow("3", None)
            admin.retire("4")
        active, asked = str(read_identity("phantom").version), client.get(f"/actions/rerun?study={uid}").text
        offered = re.findall(r'<option value="([^"]*)">([^<]+)', asked)
        assert offered == [
            ("", f"litegpt-phantom {active}, the active model"),
            ("litegpt-phantom 3", "litegpt-phantom 3, the shadow: for comparison alone"),
            ("litegpt-phantom 2", "litegpt-phantom 2"),
        ]
        said = _act(client, "rerun", "look", study=uid, by="litegpt-phantom 2")
        assert "Read by litegpt-phantom 2 What would come of it 1 queued" in said
        assert f"Read by litegpt-phantom {active} " in _act(client, "rerun", "look", study=uid)
        _act(client, "rerun", "do", study=uid, by="2", priority="stat")
        _act(client, "rerun", "do", study=uid, by="litegpt-phantom 3")
        for wrong, words in (("4", "litegpt-phantom 4 is retired"), ("5", "no model is called '5'")):
            answer = client.post("/actions/rerun", {"csrf": client.csrf(), "study": uid, "by": wrong})
            assert (answer.status, words in text_of(answer)) == (422, True)
        with pages.records.reading() as session:
            rows = session.scalars(select(Analysis).order_by(Analysis.id))
            read_by = [(row.model_version, row.purpose, row.priority) for row in rows]
        assert read_by == [(active, "regular", 1), ("2", "named", 0), ("3", "shadow", 2)]


def test_images_and_results_are_sent_again_to_a_destination_of_theirs(tmp_path: Path) -> None:
    with site(tmp_path, roles=(Role.OPERATOR,), forward_images_to="VNA@vna.example:104") as pages:
        client, uid = pages.client("operator"), pages.take(make_radiograph())
        pages.read(uid)
        page = client.get(f"/actions/resend?study={uid}").text
        assert "<option>VNA@vna.example:104" in page and "<option selected>routine" in page
        # Where only images go, no results go.
        assert "Nothing that fits" in _act(client, "resend", "look", study=uid, to="VNA@vna.example:104")
        assert "Done 1 due again" in _act(client, "resend", "do", study=uid, to=DESTINATION, priority="stat")
        with pages.records.reading() as session:
            assert session.scalars(select(Delivery.priority)).one() == 0


def test_an_address_brings_the_same_filters_back() -> None:
    filters = Filters(study="A&B=1", state="failed", label="Nodule/Mass", destination=DESTINATION)
    assert Filters.read(dict(parse_qsl(filters.query()[1:]))) == filters
    key = Key(ago(seconds=1.000001), 17)
    assert read_key(write_key(key)) == key


def test_each_role_may_do_what_those_before_it_may() -> None:
    viewer, operator, admin = Role
    assert admin.includes(viewer) and admin.includes(operator) and operator.includes(viewer)
    assert not viewer.includes(operator) and not operator.includes(admin)
