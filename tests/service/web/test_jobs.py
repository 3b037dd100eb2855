"""The pages of backlog jobs: ordered by a form after a count at a PACS, watched, and steered by operators."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select

from service import heartbeat
from service.records import retrieval_jobs
from service.records.database import utc_now
from service.records.states import JobState, RetrievalState
from service.records.tables import AuditEvent, RetrievalJob, RetrievalStudy
from service.retrieval.filters import Filters
from service.retrieval.retriever import PART
from service.settings import load_settings
from service.web.pages.ordering import read_order
from tests.images import make_radiograph
from tests.peers.scripted_archive import ScriptedArchive, scripted_archive
from tests.service.web.site import Client, Site, text_of
from tests.waiting import wait_until

SECRET = "SECRET-ID"


@pytest.fixture(scope="module")
def pacs() -> Iterator[ScriptedArchive]:
    """Three studies of 2 January 2025, of one object each."""
    images = [
        make_radiograph(StudyDate="20250102", StudyTime="103000", AccessionNumber=f"OLD{number}")
        for number in range(3)
    ]
    with scripted_archive(ScriptedArchive(images)) as archive:
        yield archive


def make_job(pages: Site, **asked: Any) -> int:
    filters = Filters(**(asked or {"since": "2025-01-01", "until": "2025-01-31"}))
    with pages.records.writing() as session:
        return retrieval_jobs.make_job(
            session,
            source="PACS@10.0.0.9:104",
            filters=filters.model_dump_json(),
            method="move",
            again=False,
            rate_per_hour=120,
            daily_window="",
            now=utc_now(),
        )


def fill_job(pages: Site, job_id: int, studies: int, failed: int) -> None:
    """Everything has been found; half an hour ago, and since then the second half of it has ended."""
    now = utc_now()
    rows: list[dict[str, Any]] = [
        {
            "job_id": job_id,
            "study_instance_uid": f"1.2.{job_id}.{number}",
            "accession_number": f"A{number}",
            "state": RetrievalState.FAILED if number < failed else RetrievalState.DONE,
            "attempt": 3,
            "not_before": now,
            "images_expected": 2,
            "images_come": 1 if number < failed else 2,
            "error": "the PACS says <no>" if number < failed else "",
            "finished_at": now - timedelta(minutes=5 if number % 2 else 25),
        }
        for number in range(studies)
    ]
    waiting = dict.fromkeys(("attempt", "images_expected", "images_come"), 0) | {
        "state": RetrievalState.WAITING,
        "accession_number": "",
        "error": "",
        "finished_at": None,
    }
    rows += [rows[0] | waiting | {"study_instance_uid": f"1.3.{job_id}.{n}"} for n in range(studies)]
    with pages.records.writing() as session:
        job = session.get_one(RetrievalJob, job_id)
        job.state, job.found_at = JobState.RUNNING, now - timedelta(minutes=30)
        session.execute(insert(RetrievalStudy), rows)


def _job(pages: Site, job_id: int) -> RetrievalJob:
    with pages.records.reading() as session:
        return session.get_one(RetrievalJob, job_id)


def _last_event(pages: Site) -> tuple[str, str, dict[str, Any]]:
    with pages.records.reading() as session:
        event = session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc())).first()
    assert event is not None
    return event.who, event.action, json.loads(event.asked)


def _says(client: Client, path: str, words: str) -> str:
    """What a page says once it says that: counts are a second old at most."""

    def said() -> str:
        text = text_of(client.get(path, X_Refresh="1"))
        return text if re.search(words, text) else ""

    return wait_until(said, 30, words)


def _order(client: Client, pacs: ScriptedArchive, **asked: str) -> str:
    """Where a form of the new job leads to."""
    form = {"csrf": client.csrf("/jobs/new"), "source": pacs.destination, **asked}
    answer = client.post("/jobs/new", form)
    assert answer.status == 303, text_of(answer)
    return answer.location


def test_a_job_is_made_after_its_studies_were_counted(pages: Site, pacs: ScriptedArchive) -> None:
    client = pages.client("operator")
    location = _order(
        client,
        pacs,
        since="2025-01-01",
        until="2025-01-03",
        modality="cr, dx",
        method="get",
        rate="30",
        window="20:00-6:00",
    )
    said = _says(client, location, "3 studies[^.]*; of 0 of them the node has something")
    assert "2025-01-01 to 2025-01-03, CR/DX By C-GET" in said
    with pages.records.reading() as session:
        before = len(session.scalars(select(RetrievalJob.id)).all())
    made = [client.post(location, {"csrf": client.csrf(location), "step": "do"}).location for _ in range(2)]
    # Who presses the button twice has one job.
    assert made[0] == made[1]
    job = _job(pages, int(made[0].rpartition("/")[2]))
    with pages.records.reading() as session:
        assert len(session.scalars(select(RetrievalJob.id)).all()) == before + 1
    assert (job.source, job.method, job.rate_per_hour) == (pacs.destination, "get", 30)
    assert (job.daily_window, job.state, job.again) == ("20:00-06:00", "finding", False)
    filters = Filters.model_validate_json(job.filters)
    assert (filters.question_count, filters.modalities) == (3, ("CR", "DX"))
    who, action, asked = _last_event(pages)
    assert (who, action, asked["from"], asked["by"]) == ("operator", "retrieve", pacs.destination, "C-GET")
    assert asked["studies"]["since"] == "2025-01-01"


def test_a_patient_s_id_is_told_to_nobody_else(pages: Site, pacs: ScriptedArchive) -> None:
    operator, admin = pages.client("operator"), pages.client("admin")
    location = _order(operator, pacs, patient_id=SECRET)
    _says(operator, location, "studies")
    assert SECRET not in location + operator.get(location).text
    assert admin.get(location).status == 404
    form = operator.post(location, {"csrf": operator.csrf(location), "step": "change"})
    assert f'value="{SECRET}"' in form.text
    location = _order(operator, pacs, patient_id=SECRET)
    job = operator.post(location, {"csrf": operator.csrf(location), "step": "do"}).location
    for path in ("/jobs", "/jobs/now", job, f"{job}/now", "/audit", "/audit.csv"):
        text = admin.get(path).text
        assert SECRET not in text, path
    assert "one patient" in text_of(operator.get(job))


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"since": "2025-01-01", "source": "PACS"}, "a PACS is written AET@HOST:PORT"),
        ({}, "say which studies"),
        ({"since": "2025-02-01", "until": "2025-01-01"}, "is after"),
        ({"since": "1.2.2025"}, "A day is written 2026-01-31"),
        ({"since": "2025-01-01", "window": "20-6"}, "a window is written"),
        ({"since": "2025-01-01", "rate": "nan"}, "A rate is a number"),
        ({"since": "2025-01-01", "rate": "-1"}, "A rate is a number"),
        ({"since": "2025-01-01", "method": "wado"}, "by C-MOVE or by C-GET"),
        ({"since": "2025-01-01", "modality": "x*"}, "a modality is written like CR"),
        ({"accessions": "A1\nA*"}, "asked for as it stands"),
        ({"accessions": "\n".join(map(str, range(5001)))}, "5,001 accession numbers are too many"),
        ({"patient_id": "1" * 201}, "too long for patient id"),
    ],
)
def test_a_wrong_form_comes_back_with_a_line(
    pages: Site, pacs: ScriptedArchive, asked: dict[str, str], complaint: str
) -> None:
    client = pages.client("operator")
    form = {"csrf": client.csrf("/jobs/new"), "source": pacs.destination, "body_part": "CH<EST", **asked}
    answer = client.post("/jobs/new", form)
    assert (answer.status, complaint in text_of(answer)) == (422, True), text_of(answer)
    assert 'value="CH&lt;EST"' in answer.text


def test_accession_numbers_are_read_in_any_list() -> None:
    asked = dict.fromkeys(("since", "until", "modality", "body_part", "patient_id", "method"), "")
    asked |= {"source": "PACS@host:104", "accessions": "A 1, A2\r\nA2;\n A3 ", "rate": "", "window": ""}
    order = read_order(asked | {"again": "1"}, load_settings())
    assert order.filters.accession_numbers == ("A 1", "A2", "A3")
    assert (order.method, order.again, order.filters.since) == ("move", True, None)


def test_a_pacs_that_does_not_answer_makes_no_job(pages: Site) -> None:
    client, nobody = pages.client("operator"), ScriptedArchive([], port=1)
    location = _order(client, nobody, since="2025-01-01")
    said = _says(client, location, "127.0.0.1:1")
    assert "Make the job" not in said
    answer = client.post(location, {"csrf": client.csrf(location), "step": "do"})
    assert (answer.status, "No job was made" in text_of(answer)) == (404, True)


def test_a_pacs_that_is_slow_holds_nobody_up(pages: Site, pacs: ScriptedArchive, monkeypatch: Any) -> None:
    go_on, answers = threading.Event(), pacs.on_find

    def slow(self: ScriptedArchive, event: Any) -> Iterator[Any]:
        go_on.wait(30)
        yield from answers(event)

    with monkeypatch.context() as patched:
        patched.setattr(ScriptedArchive, "on_find", slow)
        with scripted_archive(ScriptedArchive(pacs.images)) as late:
            client = pages.client("operator")
            location = _order(client, late, since="2025-01-02", until="2025-01-02", modality="DX")
            said = text_of(client.get(location))
            assert "0 studies so far" in said and "0 of 1 questions are answered" in said, said
            assert pages.client("viewer").get("/").status == 200
            job = client.post(location, {"csrf": client.csrf(location), "step": "do"})
            assert (job.status, client.get(job.location).status) == (303, 200)
            go_on.set()
            _says(client, location, "It is job")


def test_a_job_is_steered_by_operators_alone(pages: Site) -> None:
    job_id = make_job(pages)
    operator, viewer = pages.client("operator"), pages.client("viewer")
    assert text_of(viewer.get(f"/jobs/{job_id}")).count("Pause") == 0
    assert viewer.get("/jobs/new").status == 403
    for step in ("pause", "resume", "cancel", "retry"):
        assert viewer.post(f"/jobs/{job_id}/{step}", {"csrf": viewer.csrf()}).status == 403
        assert operator.post(f"/jobs/{job_id}/{step}", {"csrf": "0"}).status == 403
    assert _job(pages, job_id).state == "finding"

    def act(step: str) -> str:
        answer = operator.post(f"/jobs/{job_id}/{step}", {"csrf": operator.csrf()})
        assert (answer.status, answer.location) == (303, f"/jobs/{job_id}")
        assert _last_event(pages) == ("operator", f"job {step}", {"job": job_id})
        return _job(pages, job_id).state

    assert act("pause") == "paused"
    assert "Resume" in operator.get(f"/jobs/{job_id}").text
    assert act("resume") == "finding"
    assert act("cancel") == "cancelled"
    assert "csrf" not in operator.get(f"/jobs/{job_id}/now").text
    assert operator.post(f"/jobs/{job_id}/pause", {"csrf": operator.csrf()}).status == 409
    assert operator.post(f"/jobs/{job_id}/explode", {"csrf": operator.csrf()}).status == 404
    assert operator.get("/jobs/999999").status == operator.get("/jobs/x").status == 404


def test_progress_is_what_the_records_say(pages: Site) -> None:
    job_id = make_job(pages)
    fill_job(pages, job_id, studies=120, failed=60)
    client = pages.client("operator")
    said = _says(client, f"/jobs/{job_id}/now", "Found 240")
    # Of 120 that ended, 60 within a quarter of an hour: 240 an hour; 120 are open.
    for words in (
        *("Retrieved 60", "Skipped 0", "Failed 60", "Open 120", "Images here 180 of 240"),
        *("Studies an hour, of late 240", "Time left at that rate 30 min 0 s", "120 of 240"),
    ):
        assert words in said, (words, said)
    assert "the PACS says &lt;no&gt;" in client.get(f"/jobs/{job_id}").text
    assert "No retriever runs" in said
    heartbeat.beat(pages.settings.data_dir, PART)
    assert "No retriever runs" not in text_of(client.get(f"/jobs/{job_id}/now"))
    listed = text_of(client.get("/jobs/now"))
    assert f"{job_id} running PACS@10.0.0.9:104 2025-01-01 to 2025-01-31, CR/DX/RG 240 60 0 60 120" in listed
    # All failed ones, each once, in two pages.
    numbers, page = [], client.get(f"/jobs/{job_id}").text
    while True:
        numbers += re.findall(r">1\.2\.\d+\.(\d+)<", page)
        more = re.search(r'href="(/jobs/\d+\?after=\d+)"', page)
        if more is None:
            break
        page = client.get(more[1]).text
    assert numbers == [str(number) for number in range(60)]
    assert client.post(f"/jobs/{job_id}/retry", {"csrf": client.csrf()}).status == 303
    assert "Failed 0" in _says(client, f"/jobs/{job_id}/now", "Open 180")


def test_what_a_job_waits_for_is_said(pages: Site) -> None:
    job_id, client = make_job(pages), pages.client("viewer")
    closed = utc_now() + timedelta(hours=2)
    with pages.records.writing() as session:
        job = session.get_one(RetrievalJob, job_id)
        job.daily_window = f"{closed:%H:%M}-{closed + timedelta(hours=1):%H:%M}"
    assert f"waits for {closed:%H:%M}" in text_of(client.get("/jobs"))
    with pages.records.writing() as session:
        job = session.get_one(RetrievalJob, job_id)
        job.daily_window, job.error = "", "PACS@10.0.0.9:104 does not answer"
    assert "does not answer; next try" in text_of(client.get(f"/jobs/{job_id}"))


def test_numbers_without_a_study_are_named(pages: Site) -> None:
    job_id, client = make_job(pages, accession_numbers=("A1", "LOST")), pages.client("viewer")
    assert "LOST" not in text_of(client.get(f"/jobs/{job_id}"))
    fill_job(pages, job_id, studies=2, failed=0)
    said = text_of(client.get(f"/jobs/{job_id}"))
    assert "Accession numbers without a study at PACS@10.0.0.9:104 LOST" in said


def test_the_list_is_paged(pages: Site) -> None:
    made, client = [make_job(pages) for _ in range(30)], pages.client("viewer")
    listed: list[int] = []
    page = client.get("/jobs").text
    while True:
        listed += [int(number) for number in re.findall(r'href="/jobs/(\d+)" aria-label', page)]
        older = re.search(r'rel="next" href="(/jobs\?before=\d+)"', page)
        if older is None:
            break
        page = client.get(older[1]).text
        assert f'data-refresh="{older[1].replace("/jobs?", "/jobs/now?")}"' in page
    with pages.records.reading() as session:
        every = list(session.scalars(select(RetrievalJob.id).order_by(RetrievalJob.id.desc())))
    assert listed == every
    assert listed[:30] == made[::-1]
