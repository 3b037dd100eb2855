"""What the API tells and does, to whom, and what stands in the audit. Against a real server process."""

from __future__ import annotations

import csv
import hashlib
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import CursorResult, select, update
from starlette.routing import Mount

from litegpt.radiograph import read_radiograph
from service.errors import PeerUnavailable
from service.models.changes import Admin
from service.models.roster import roster_of
from service.peers import Destination
from service.records import peers_seen, tokens, webhook_calls, workers
from service.records.attempts import Ended, note_call, note_delivery
from service.records.database import utc_now
from service.records.forwarding import forward
from service.records.peers_seen import Contact
from service.records.states import AnalysisState, AttemptOutcome, DeliveryState, PeerKind, Role
from service.records.tables import Analysis, ApiToken, Delivery, Instance, Study
from service.records.workers import Saying
from service.settings import load_settings
from service.web.app import create_app, create_metrics_app
from service.web.attempts import PER_ADDRESS
from service.web.problems import API
from tests.images import make_radiograph, with_other_pixels
from tests.models import model_copy
from tests.peers.scripted_archive import ScriptedArchive, scripted_archive
from tests.service.web.api_site import BOX, NAME, PATIENT_ID, ApiSite, api_site, told
from tests.service.web.site import DESTINATION, Client, site
from tests.waiting import wait_until

OF_THE_NODE = {"/health/live", "/health/ready", "/metrics"}
OPEN = {*OF_THE_NODE, "/sign-in", "/static/", f"{API}/openapi.json", f"{API}/docs"}
"""What strangers are answered."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    with api_site(tmp_path_factory.mktemp("api")) as running:
        yield running


def _routes(app: FastAPI, below: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of mounted applications too."""
    for route in app.routes:
        if isinstance(route, Mount):
            if isinstance(route.app, FastAPI):
                yield from _routes(route.app, below + route.path)
            else:
                yield "GET", f"{below}{route.path}/"
            continue
        # Newer versions of FastAPI keep a router that was included as it was.
        within = getattr(route, "effective_route_contexts", lambda: [route])  # noqa: B023
        for one in within():
            for method in one.methods:
                yield method, below + one.path


def test_no_route_answers_strangers(api: ApiSite) -> None:
    """Every route there is, by each of its methods, without a cookie or a token."""
    walked = sorted({(method, path) for method, path in _routes(create_app(load_settings()))})
    assert len(walked) > 40
    for method, path in walked:
        asked = path.replace("{uid}", api.read).replace("{job_id}", str(api.job)).replace("{name}", "rerun")
        for name in ("instance_id", "result_id", "image_id"):
            asked = asked.replace(f"{{{name}}}", "1")
        for name in ("work_id", "count_id", "step", "action"):
            asked = asked.replace(f"{{{name}}}", "x")
        assert "{" not in asked, f"the test does not know what {path} is given"
        answer = Client(api.site.port)._ask(method, asked, "", {})
        if path in OPEN:
            assert answer.status in {200, 403, 404, 503}, (method, path)
        elif path.startswith(API):
            assert answer.status == 401, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"] == "Bearer"
        else:
            sent_away = answer.status == 303 and answer.location.startswith("/sign-in")
            assert sent_away or answer.status in {401, 403}, (method, path, answer.status)
            assert api.read not in answer.text


def test_the_port_for_other_machines_has_nothing_but_metrics_and_health() -> None:
    paths = {path for _, path in _routes(create_metrics_app(load_settings()))}
    assert paths == OF_THE_NODE


def test_the_contract_is_open_and_names_nothing_of_this_node(api: ApiSite) -> None:
    client = Client(api.site.port)
    contract = told(client.get(f"{API}/openapi.json"))
    assert contract["openapi"].startswith("3.1")
    page = client.get(f"{API}/docs")
    assert page.status == 200
    for path, of_path in contract["paths"].items():
        assert f"{API}{path}" in page.text
        for operation in of_path.values():
            assert operation["security"] == [{"token": []}]
            assert {"401", "403", "422", "503"} <= set(operation["responses"])
    for secret in (DESTINATION, str(api.site.settings.data_dir), api.read, "READ"):
        assert secret not in json.dumps(contract)
        assert secret not in page.text
    for schema in contract["components"]["schemas"].values():
        for name, field in schema["properties"].items():
            assert field.get("description"), f"{schema['title']}.{name} says nothing of itself"


def test_a_cookie_opens_nothing(api: ApiSite) -> None:
    client = api.site.client("admin")
    assert client.get("/audit").status == 200
    assert client.get(f"{API}/overview").status == 401
    # And a token no page.
    assert Client(api.site.port).get("/studies", **api.bearer(Role.ADMIN)).status == 303


def test_without_any_token_the_api_is_closed_also_where_the_pages_are_open(tmp_path: Path) -> None:
    with site(tmp_path, roles=()) as empty:
        assert empty.client().get("/studies").status == 200
        for header in ({}, {"Authorization": "Bearer "}, {"Authorization": "Bearer x"}):
            assert empty.client().get(f"{API}/studies", **header).status == 401


@pytest.mark.parametrize(
    ("role", "path"),
    [
        (Role.VIEWER, "/audit"),
        (Role.OPERATOR, "/audit"),
        (Role.OPERATOR, "/settings"),
        (Role.VIEWER, "/works/x"),
    ],
)
def test_a_role_reads_no_more_than_it_may(api: ApiSite, role: Role, path: str) -> None:
    assert told(api.ask(path, role), 403)["detail"].startswith("That is for an ")


def test_a_viewer_does_nothing(api: ApiSite) -> None:
    for name in ("rerun", "retry", "resend", "force", "cancel"):
        told(api.do(f"/actions/{name}", Role.VIEWER, studies=[api.failed]), 403)
    for name in ("pause", "resume", "cancel", "retry"):
        told(api.do(f"/jobs/{api.job}/{name}", Role.VIEWER), 403)
    assert _analysis(api, api.failed).state == AnalysisState.FAILED


def test_a_token_ends(api: ApiSite) -> None:
    with api.site.records.writing() as session:
        expired, revoked = (tokens.add_token(session, name, Role.VIEWER, 1) for name in ("old", "lost"))
    bearers = [{"Authorization": f"Bearer {token}"} for token in (expired, revoked)]
    client = Client(api.site.port)
    assert [client.get(f"{API}/overview", **bearer).status for bearer in bearers] == [200, 200]
    with api.site.records.writing() as session:
        session.scalars(select(ApiToken).where(ApiToken.name == "old")).one().expires_at = utc_now()
        tokens.revoke_token(session, "lost")
    said = [told(client.get(f"{API}/overview", **bearer), 401)["detail"] for bearer in bearers]
    assert said == ["The token is expired.", "The token is revoked."]


def test_the_records_have_no_token_but_when_it_was_used(api: ApiSite) -> None:
    def used() -> Any:
        with api.site.records.reading() as session:
            return session.scalars(select(ApiToken).where(ApiToken.name == "client-viewer")).one()

    told(api.ask("/overview"))
    assert used().last_used_at is not None
    assert used().token_hash == hashlib.sha256(api.tokens[Role.VIEWER].encode()).hexdigest()
    assert api.tokens[Role.VIEWER].encode() not in (api.site.settings.data_dir / "node.sqlite").read_bytes()
    first = used().last_used_at
    told(api.ask("/overview"))
    assert used().last_used_at == first
    with api.site.records.writing() as session:
        row = session.scalars(select(ApiToken).where(ApiToken.name == "client-viewer")).one()
        row.last_used_at = first - timedelta(hours=1)
    told(api.ask("/overview"))
    assert used().last_used_at > first


def test_so_many_unknown_tokens_close_the_api_and_not_the_pages(tmp_path: Path) -> None:
    with site(tmp_path, roles=(Role.VIEWER,)) as guessed:
        with guessed.records.writing() as session:
            token = tokens.add_token(session, "mine", Role.VIEWER, 1)
            spent = tokens.add_token(session, "spent", Role.VIEWER, 1)
            tokens.revoke_token(session, "spent")

        def ask(token: str) -> int:
            return guessed.client().get(f"{API}/overview", Authorization=f"Bearer {token}").status

        # Whoever has had a token guesses nothing.
        assert {ask(spent) for _ in range(PER_ADDRESS + 1)} == {401}
        assert {ask(f"litegpt_{number}") for number in range(PER_ADDRESS)} == {401}
        answer = guessed.client().get(f"{API}/overview", Authorization=f"Bearer {token}")
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) == 900
        assert guessed.client().sign_in("viewer").status == 303


def _analysis(api: ApiSite, uid: str) -> Analysis:
    with api.site.records.reading() as session:
        rows = select(Analysis).join(Study).where(Study.study_instance_uid == uid).order_by(Analysis.id)
        return session.scalars(rows).all()[-1]


def test_a_study_is_told_with_its_findings_and_where_its_results_went(api: ApiSite) -> None:
    study = told(api.ask(f"/studies/{api.read}"))
    assert (study["accession_number"], study["state"]) == ("READ", "refused")
    read, lateral = study["images"]
    assert lateral["reason"] == "lateral view LL"
    heart, below, whole = read["findings"]
    assert heart["label"] == "Cardiomegaly"
    assert tuple(heart["box"][edge] for edge in ("left", "top", "right", "bottom")) == BOX
    assert (below["reported"], whole["box"]) == (False, None)
    (delivery,) = study["analyses"][0]["results"][0]["deliveries"]
    assert (delivery["destination"], delivery["error"]) == (DESTINATION, "0xA700: refused")
    assert (delivery["attempts"], read["deliveries"], study["analyses"][0]["calls"]) == ([], [], [])
    assert study["reasons"][0]["what"].startswith("1 result refused by")
    assert "image received from MODALITY" in [moment["what"] for moment in study["timeline"]]
    assert study["patients"] is None


def test_a_picture_and_the_bytes_of_a_result(api: ApiSite) -> None:
    study = told(api.ask(f"/studies/{api.read}"))
    image, result = study["images"][0]["id"], study["analyses"][0]["results"][0]["id"]
    picture = api.ask(f"/studies/{api.read}/images/{image}/picture")
    assert (picture.status, picture.headers["content-type"]) == (200, "image/png")
    with api.site.records.reading() as session:
        row = session.get(Instance, image)
        assert row is not None
    expected = read_radiograph(api.site.archive.absolute(row.path)).pixels
    assert np.array_equal(np.asarray(Image.open(BytesIO(picture.body))), expected)
    sent = api.ask(f"/studies/{api.read}/results/{result}")
    assert (sent.headers["content-type"], sent.body) == (
        "application/dicom",
        b"report of " + api.read.encode(),
    )
    # The result of another study, and an image that is none.
    told(api.ask(f"/studies/{api.failed}/results/{result}"), 404)
    told(api.ask(f"/studies/{api.failed}/images/{image}/picture"), 404)
    events = told(api.ask("/audit", Role.ADMIN))["events"]
    (fetched,) = [event for event in events if event["action"] == "fetch result"]
    assert (fetched["who"], fetched["asked"]["studies"]) == ("token client-viewer", {"studies": [api.read]})


def test_nothing_names_a_patient(api: ApiSite) -> None:
    paths = ("/overview", "/studies", f"/studies/{api.read}", "/jobs", f"/jobs/{api.job}", "/audit")
    for path in (*paths, f"/jobs/{api.job}/failures", "/settings", "/reconciliation", "/readiness"):
        text = api.ask(path, Role.ADMIN).text
        assert "Verysecret" not in text, path
        assert PATIENT_ID not in text, path
    refused = api.ask(f"/studies/{api.read}?patient=true", Role.OPERATOR)
    assert "show_patients is off" in told(refused, 403)["detail"]


def test_a_patient_is_named_on_request_where_that_is_allowed(tmp_path: Path) -> None:
    with api_site(tmp_path, show_patients="true") as shown:
        path = f"/studies/{shown.read}"
        assert told(shown.ask(path, Role.OPERATOR))["patients"] is None
        told(shown.ask(f"{path}?patient=true", Role.VIEWER), 403)
        study = told(shown.ask(f"{path}?patient=true", Role.OPERATOR))
        assert study["patients"] == [{"name": NAME.replace("^", " "), "id": PATIENT_ID}]
        events = told(shown.ask("/audit", Role.ADMIN))["events"]
        assert [(one["who"], one["action"]) for one in events] == [("token client-operator", "show patient")]
        assert "Verysecret" not in json.dumps(events) + shown.site.process.output()


def test_filters_are_those_of_the_page(api: ApiSite) -> None:
    def listed(query: str) -> set[str]:
        return {study["accession_number"] for study in told(api.ask(f"/studies?{query}"))["studies"]}

    assert listed("label=Cardiomegaly&score=0.875") == listed(f"destination={DESTINATION}") == {"READ"}
    assert listed("label=Cardiomegaly&score=0.9") == listed("label=Edema") == listed("model=none") == set()
    assert listed("study=READ") == listed(f"study={api.read}") == {"READ"}
    assert listed("until=2020-01-01") == listed("study_until=2020-01-01") == set()
    assert {"READ", "FAILED"} <= listed("since=2020-01-01")
    for wrong in (
        "stat=failed",
        "state=lost",
        "label=Flu",
        "since=yesterday",
        "score=0.5",
        "score=2&label=Edema",
    ):
        told(api.ask(f"/studies?{wrong}"), 422)
    problem = told(api.ask("/studies?state=lost&since=SECRET"), 422)
    assert [one["where"] for one in problem["errors"]] == ["query.state", "query.since"]
    assert "SECRET" not in json.dumps(problem)


def test_a_list_is_paged_by_key(tmp_path: Path) -> None:
    with api_site(tmp_path) as many:
        uids = [many.site.take(make_radiograph()) for _ in range(55)]
        first = told(many.ask("/studies?state=queued"))
        second = told(many.ask(f"/studies?state=queued&after={first['next']}"))
        seen = [study["study_instance_uid"] for page in (first, second) for study in page["studies"]]
        assert seen == [*reversed(uids), many.waiting]
        assert (len(first["studies"]), second["next"]) == (50, None)
        told(many.ask("/studies?after=20269999T000000.000000-1"), 404)


def test_an_action_on_named_studies(api: ApiSite) -> None:
    rehearsed = told(api.do("/actions/retry", studies=[api.failed, api.waiting], dry_run=True))
    assert rehearsed["outcome"] == {"queued": 1, "not in quarantine": 1}
    assert _analysis(api, api.failed).state == AnalysisState.FAILED
    done = told(api.do("/actions/retry", studies=[api.failed, api.waiting], priority="stat"))
    assert (done["state"], done["studies"], done["dry_run"]) == ("done", 2, False)
    row = _analysis(api, api.failed)
    assert (row.state, row.priority) == (AnalysisState.QUEUED, 0)
    assert told(api.ask(f"/works/{done['id']}", Role.OPERATOR)) == done
    newest = told(api.ask("/audit", Role.ADMIN))["events"][0]
    assert (newest["who"], newest["action"]) == ("token client-operator", "retry")
    assert newest["asked"] == {"studies": {"studies": [api.failed, api.waiting]}, "priority": "stat"}
    assert newest["outcome"] == {"queued": 1, "not in quarantine": 1}
    rows = list(csv.reader(StringIO(api.site.client("admin").get("/audit.csv").text)))
    assert ["token client-operator", "retry"] in [row[1:3] for row in rows]


def test_an_action_on_what_a_filter_means_and_on_all(api: ApiSite) -> None:
    assert told(api.do("/actions/cancel", studies={"state": "done"}, dry_run=True))["studies"] == 0
    uid = api.site.take(make_radiograph(AccessionNumber="MANY"))
    everything = told(api.do("/actions/force", studies="all", dry_run=True))
    with api.site.records.reading() as session:
        count = len(session.scalars(select(Study)).all())
    assert everything["outcome"] == {"complete already": count}
    assert told(api.do("/actions/cancel", studies=[uid]))["outcome"] == {"cancelled": 1}
    assert _analysis(api, uid).error == "cancelled by token client-operator"
    assert told(api.do("/actions/rerun", studies=[uid]))["outcome"] == {"queued": 1}
    sent = told(api.do("/actions/resend", studies={"state": "refused"}, to=DESTINATION))
    assert sent["outcome"] == {"due again": 1}
    with api.site.records.reading() as session:
        assert "due" in session.scalars(select(Delivery.state)).all()


def test_another_model_reads_where_it_is_named(tmp_path: Path) -> None:
    with api_site(tmp_path / "api") as api:
        with api.site.records.writing() as session:
            admin = Admin(session, api.site.settings, "a test")
            for version in ("2", "3", "4"):
                admin.add(str(model_copy(tmp_path / version, version)))
            admin.shadow("3", None)
            admin.retire("4")
        for model, priority in (("2", "stat"), ("litegpt-phantom 3", "backlog")):
            done = told(api.do("/actions/rerun", studies=[api.read], model=model, priority=priority))
            assert done["outcome"] == {"queued": 1}
        assert told(api.do("/actions/rerun", studies=[api.read], model=None))["outcome"] != {"queued": 1}
        with api.site.records.reading() as session:
            rows = select(Analysis).where(Analysis.purpose != "regular").order_by(Analysis.id)
            read_by = [(row.model_version, row.purpose, row.priority) for row in session.scalars(rows)]
        assert read_by == [("2", "named", 0), ("3", "shadow", 2)]
        asked = told(api.ask("/audit", Role.ADMIN))["events"][1]["asked"]
        assert (asked["model"], asked["shadow"]) == ("litegpt-phantom 3", True)
        retired = told(api.do("/actions/rerun", studies=[api.read], model="4"), 409)
        assert retired["detail"] == "litegpt-phantom 4 is retired: it reads nothing any more"
        unknown = told(api.do("/actions/rerun", studies=[api.read], model="5"), 404)
        assert unknown["detail"].startswith("no model is called '5'; there are: litegpt-phantom ")
        told(api.do("/actions/rerun", studies=[api.read], model=""), 422)


@pytest.mark.parametrize(
    "studies",
    [
        [],
        {},
        "",
        "some",
        None,
        ["1.2", ""],
        {"label": ""},
        {"model": " "},
        {"score": 0.5},
        {"study": "1"},
        [1],
    ],
)
def test_what_says_nothing_never_means_all(api: ApiSite, studies: object) -> None:
    before = told(api.ask("/audit", Role.ADMIN))["events"][0]["id"]
    told(api.do("/actions/cancel", studies=studies), 422)
    assert told(api.ask("/audit", Role.ADMIN))["events"][0]["id"] == before


def test_a_study_is_meant_by_its_whole_uid(api: ApiSite) -> None:
    told(api.do("/actions/cancel", studies=[api.read[:-1]]), 404)
    problem = told(api.do("/actions/cancel", studies=[api.read, "1.2.3", "1.2.4"]), 404)
    assert problem["detail"] == "There is no study 1.2.3, nor 1 others that are named."
    told(api.do("/actions/resend", studies=[api.read], to="OTHER@127.0.0.1:104"), 404)


def test_what_takes_long_is_asked_for_again_and_another_is_told_to_wait(api: ApiSite) -> None:
    """The database is held by a writer of ours meanwhile."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with api.site.records.writing():
            held.set()
            go_on.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(30)
        answer = api.do("/actions/retry", studies=[api.failed])
        begun = told(answer, 202)
        assert (begun["state"], begun["outcome"]) == ("running", None)
        busy = api.do("/actions/retry", studies=[api.failed])
        assert "token client-operator has another retry going on" in told(busy, 409)["detail"]
        assert "retry-after" in busy.headers
    finally:
        go_on.set()
        holder.join()

    def over() -> Any:
        now = told(api.ask(answer.location.removeprefix(API), Role.OPERATOR))
        return now if now["state"] != "running" else None

    assert wait_until(over, 30, "end of the work")["state"] == "done"


def test_a_job_is_steered(api: ApiSite) -> None:
    job = told(api.ask(f"/jobs/{api.job}"))
    assert job["asks_for"]["of_one_patient"] is True
    assert (job["studies"], job["counts"]["failed"], job["state"]) == (3, 3, "finding")
    assert [one["id"] for one in told(api.ask("/jobs"))["jobs"]] == [api.job]
    assert told(api.ask(f"/jobs?before={api.job}"))["jobs"] == []
    failures = told(api.ask(f"/jobs/{api.job}/failures"))["failures"]
    assert [one["study_instance_uid"] for one in failures] == ["1.2.9.0", "1.2.9.1", "1.2.9.2"]
    assert told(api.do(f"/jobs/{api.job}/pause"))["state"] == "paused"
    assert told(api.do(f"/jobs/{api.job}/resume"))["state"] == "finding"
    assert told(api.do(f"/jobs/{api.job}/retry"))["counts"]["waiting"] == 3
    assert told(api.do(f"/jobs/{api.job}/cancel"))["state"] == "cancelled"
    assert told(api.do(f"/jobs/{api.job}/resume"), 409)["detail"] == f"job {api.job} is cancelled"
    told(api.do("/jobs/77/pause"), 404)
    events = told(api.ask("/audit", Role.ADMIN))["events"]
    assert [event["action"] for event in events[:4]] == ["job cancel", "job retry", "job resume", "job pause"]


@pytest.fixture(scope="module")
def pacs() -> Iterator[ScriptedArchive]:
    """Three studies of 2 January 2025."""
    images = [make_radiograph(StudyDate="20250102", AccessionNumber=f"OLD{number}") for number in range(3)]
    with scripted_archive(ScriptedArchive(images)) as archive:
        yield archive


JANUARY = {"since": "2025-01-01", "until": "2025-01-03"}


def test_a_job_is_counted_and_then_made_once(api: ApiSite, pacs: ScriptedArchive) -> None:
    def jobs() -> int:
        return len(told(api.ask("/jobs"))["jobs"])

    before = jobs()
    begun = api.do("/jobs/counts", source=pacs.destination, patient_id="", **JANUARY)
    assert told(begun, 422)["errors"][0]["where"] == "body.patient_id"
    begun = told(api.do("/jobs/counts", source=pacs.destination, **JANUARY), 200)

    def counted() -> Any:
        now = told(api.ask(f"/jobs/counts/{begun['id']}", Role.OPERATOR))
        return now if now["state"] != "running" else None

    count = wait_until(counted, 30, "the count")
    assert {name: count[name] for name in ("state", "questions", "asked", "studies", "here", "job")} == {
        "state": "done",
        "questions": 3,
        "asked": 3,
        "studies": 3,
        "here": 0,
        "job": None,
    }
    assert jobs() == before
    # Whoever has not asked does not see it.
    told(api.ask(f"/jobs/counts/{begun['id']}", Role.ADMIN), 404)
    made = [api.do(f"/jobs/counts/{begun['id']}") for _ in range(2)]
    first, second = (told(one, 201) for one in made)
    assert first["id"] == second["id"] and jobs() == before + 1
    assert made[0].headers["location"] == f"{API}/jobs/{first['id']}"
    assert (first["source"], first["state"], first["asks_for"]["since"]) == (
        pacs.destination,
        "finding",
        "2025-01-01",
    )
    event = told(api.ask("/audit", Role.ADMIN))["events"][0]
    assert (event["who"], event["action"]) == ("token client-operator", "retrieve")


def test_a_job_is_made_at_once(api: ApiSite) -> None:
    how = {"method": "get", "again": True, "rate_per_hour": 0.5, "daily_window": "20:00-06:00"}
    asked = {"source": "PACS@127.0.0.1:1", "patient_id": PATIENT_ID, "accession_numbers": ["A1", "A1", "A2"]}
    made = told(api.do("/jobs", **asked, **how), 201)
    assert {name: made[name] for name in how} == how
    assert made["asks_for"]["accession_numbers"] == 2 and made["asks_for"]["of_one_patient"]
    assert PATIENT_ID not in api.ask("/audit", Role.ADMIN).text
    told(api.do(f"/jobs/{made['id']}/cancel"))
    # The first day is in the time to come, and the last one is left out.
    told(api.do("/jobs", source="PACS@127.0.0.1:1", since="2999-01-01"), 201)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"until": "2025-01-31"},
        {"since": "2025-02-01", "until": "2025-01-01"},
        {"since": "2025-01-01", "source": "PACS"},
        {"since": "2025-01-01", "source": "PACS@127.0.0.1:104=sc"},
        {"since": "2025-01-01", "source": "PACS@127.0.0.1:70000"},
        {"since": "2025-01-01", "rate_per_hour": 1e-9},
        {"since": "2025-01-01", "rate_per_hour": -1},
        {"since": "2025-01-01", "daily_window": "06:00-06:00"},
        {"since": "2025-01-01", "modalities": []},
        {"accession_numbers": ["A*"]},
        {"accession_numbers": []},
        {"patient_id": " "},
        {"since": "2025-01-01", "patient": "X"},
    ],
)
def test_a_wrong_order_makes_no_job(api: ApiSite, asked: dict[str, Any]) -> None:
    before = told(api.ask("/jobs"))["jobs"][0]["id"]
    for path in ("/jobs", "/jobs/counts"):
        told(api.do(path, **{"source": "PACS@127.0.0.1:1", **asked}), 422)
    assert told(api.ask("/jobs"))["jobs"][0]["id"] == before


def test_a_pacs_that_does_not_answer_is_told_and_no_job_made_of_it(api: ApiSite) -> None:
    asked = {"source": "PACS@127.0.0.1:1", **JANUARY}
    told(api.do("/jobs/counts", Role.VIEWER, **asked), 403)
    told(api.do("/jobs", Role.VIEWER, **asked), 403)
    count = told(api.do("/jobs/counts", **asked))
    assert count["state"] == "failed" and "does not answer" in count["error"]
    assert "does not answer" in told(api.do(f"/jobs/counts/{count['id']}"), 409)["detail"]


def test_an_image_s_file_is_given_where_patients_are_shown(api: ApiSite, tmp_path: Path) -> None:
    image = told(api.ask(f"/studies/{api.read}"))["images"][0]["id"]
    refused = told(api.ask(f"/studies/{api.read}/images/{image}/file", Role.ADMIN), 403)
    assert "show_patients is off" in refused["detail"]
    with api_site(tmp_path, show_patients="true") as shown:
        image = told(shown.ask(f"/studies/{shown.read}"))["images"][0]["id"]
        path = f"/studies/{shown.read}/images/{image}/file"
        told(shown.ask(path, Role.VIEWER), 403)
        sent = shown.ask(path, Role.OPERATOR)
        with shown.site.records.reading() as session:
            row = session.get_one(Instance, image)
        kept = shown.site.archive.absolute(row.path)
        assert (sent.status, sent.headers["content-type"]) == (200, "application/dicom")
        assert sent.body == kept.read_bytes()
        assert f"{row.sop_instance_uid}.dcm" in sent.headers["content-disposition"]
        told(shown.ask(f"/studies/{shown.failed}/images/{image}/file", Role.OPERATOR), 404)
        (event,) = told(shown.ask("/audit", Role.ADMIN))["events"]
        assert (event["who"], event["action"]) == ("token client-operator", "fetch image")
        assert event["asked"] == {"studies": {"studies": [shown.read]}, "image": image}
        kept.unlink()
        told(shown.ask(path, Role.OPERATOR), 404)


@pytest.mark.parametrize("body", ["{", "[" * 100_000, "\xff", '{"studies": 1}'])
def test_a_stranger_s_body_is_not_even_looked_at(api: ApiSite, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    for given in ({}, {"Authorization": "Bearer litegpt_x"}):
        answer = Client(api.site.port)._ask("POST", f"{API}/actions/cancel", body, headers | given)
        assert told(answer, 401)["status"] == 401


def test_models_are_told_by_the_names_that_a_rerun_takes(api: ApiSite, tmp_path: Path) -> None:
    with api.site.records.writing() as session:
        Admin(session, api.site.settings, "a test").add(str(model_copy(tmp_path / "listed", "listed")))

    def counted() -> Any:
        answer = told(api.ask("/models"))
        return answer if answer["counted_at"] else None

    models = {line["model"]: line for line in wait_until(counted, 30, "the count")["models"]}
    with api.site.records.reading() as session:
        active, *_ = roster_of(session, api.site.settings).models
    assert models[str(active)]["state"] == "active" and models[str(active)]["demonstration"]
    assert models[str(active)]["read"]["studies"] >= 1
    assert models["litegpt-phantom listed"]["state"] == "available"
    told(api.do("/actions/rerun", studies=[api.read], model="litegpt-phantom listed", dry_run=True))


def test_the_node_as_a_whole(api: ApiSite) -> None:
    now, away = utc_now(), Contact()
    away.failed(PeerUnavailable("no answer"))
    with api.site.records.writing() as session:
        refused = {"state": DeliveryState.REFUSED, "error": "0xA700: refused"}
        there = update(Delivery).where(Delivery.destination == DESTINATION)
        deliveries = cast("CursorResult[Any]", session.execute(there.values(refused))).rowcount
        peers_seen.note(session, PeerKind.DESTINATION, DESTINATION, away, now)
        workers.beat(session, None, Saying("analysis", "gpu1", 7, now, "m 1", "H100", 2, now), now)
    overview = told(api.ask("/overview"))
    assert overview["today"]["received"] >= 3
    (destination,) = overview["destinations"]
    at = now.isoformat().replace("+00:00", "Z")
    assert destination == {
        "destination": DESTINATION,
        "state": "down",
        "down_since": at,
        "last_success": None,
        "last_failure": at,
        "failure": "no answer",
        "waiting": 0,
        "oldest": None,
        "refused": deliveries,
        "last_delivered": None,
        "last_error": "0xA700: refused",
    }
    assert overview["webhooks"] == []
    (process,) = overview["processes"]
    assert process == {
        "part": "analysis",
        "host": "gpu1",
        "pid": 7,
        "state": "analysing",
        "beaten_at": at,
        "started_at": at,
        "model": "m 1",
        "device": "H100",
        "in_hand": 2,
        "busy_since": at,
    }

    def readiness() -> dict[str, bool]:
        """With the database, which on a busy machine may not answer the first look at once."""
        answer = told(api.ask("/readiness"))
        lines = {line["name"]: line["ok"] for line in answer["lines"]} | {"ready": answer["ready"]}
        return lines if lines["database"] else {}

    lines = wait_until(readiness, 60, "answer of the database")
    assert (lines["sweeper"], lines["ready"]) == (False, False)
    settings = told(api.ask("/settings", Role.ADMIN))["settings"]
    assert {"name", "variable", "value", "default", "meaning"} == set(settings[0])
    sums = wait_until(lambda: told(api.ask("/reconciliation"))["sums"], 60, "first reckoning")
    assert sums["images"]["received"] >= 4


@pytest.mark.parametrize("path", ["/", "/nothing", "/studies/", "/a%0Ab", "/studies/x", "/actions/delete"])
def test_what_is_not_there_is_a_problem_too(api: ApiSite, path: str) -> None:
    answer = api.ask(path)
    assert answer.status in {404, 405, 422}
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.text)["status"] == answer.status


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/jobs", "GET, POST"), ("/jobs/counts/x", "GET, POST"), ("/jobs/1/pause", "POST"), ("/docs", "GET")],
)
def test_a_wrong_method_is_told_the_right_ones(api: ApiSite, path: str, methods: str) -> None:
    answer = Client(api.site.port)._ask("DELETE", API + path, None, {})
    assert (answer.status, answer.headers["allow"]) == (405, methods)


def test_a_body_that_is_too_large_or_none_at_all(api: ApiSite) -> None:
    client, headers = Client(api.site.port), {"Content-Type": "application/json", **api.bearer(Role.OPERATOR)}
    for body, status in (("x" * (1 << 20) + "x", 413), ("{", 422), ("[" * 100_000, 400)):
        answer = client._ask("POST", f"{API}/actions/cancel", body, headers)
        assert told(answer, status)["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_the_rules_are_told_and_a_wrong_file_is_no_fault_of_who_asks(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[study_rules]]\nname = "ward"\npriority = "stat"\ncalling_ae_title = "ER"\n')
    with api_site(tmp_path, rules_file=str(file)) as ruled:
        told_now = told(ruled.ask("/settings", Role.ADMIN))
        assert [rule["name"] for rule in told_now["study_rules"]] == ["ward", "default"]
        assert told_now["rules_complaint"] == ""
        file.write_text("[[study_rules]]\nname = 1\n")
        assert "line 2" in told(ruled.ask("/settings", Role.ADMIN))["rules_complaint"]
        answer = ruled.do("/actions/rerun", studies=[ruled.failed])
        assert "line 2" in told(answer, 503)["detail"]
        assert answer.headers["retry-after"] == "5"


def test_a_study_is_told_with_each_attempt_at_its_deliveries(api: ApiSite) -> None:
    uid = api.site.take(make_radiograph())
    api.site.read(uid)
    with api.site.records.writing() as session:
        (study,) = session.scalars(select(Study).where(Study.study_instance_uid == uid))
        forward(session, study, study.instances[0], [Destination.parse("VNA@vna.example:104")])
        webhook_calls.call(session, study.analyses[0].id, "radiology")
        session.flush()
        (image,), (result,) = study.instances[0].deliveries, study.analyses[0].results[0].deliveries
        for delivery in (image, result):
            note_delivery(session, delivery.id, 1, Ended(AttemptOutcome.REFUSED, "answered C000", 0.5))
        note_call(session, study.analyses[0].calls[0].id, 1, Ended(AttemptOutcome.SENT, "204", 0.25))
    answer = told(api.ask(f"/studies/{uid}"))
    analysis = answer["analyses"][0]
    everything = (answer["images"][0]["deliveries"], analysis["results"][0]["deliveries"], analysis["calls"])
    ((image_attempt,),), ((result_attempt,),), ((call_attempt,),) = (
        [row["attempts"] for row in rows] for rows in everything
    )
    for attempt in (image_attempt, result_attempt):
        assert (attempt["outcome"], attempt["said"], attempt["seconds"]) == ("refused", "answered C000", 0.5)
    assert (call_attempt["outcome"], call_attempt["said"], call_attempt["count"]) == ("sent", "204", 1)


def test_a_conflict_is_ended(api: ApiSite) -> None:
    first = make_radiograph()
    uid = api.site.take(first, with_other_pixels(first))
    for name in ("keep-first", "take-later"):
        told(api.do(f"/actions/{name}", Role.VIEWER, studies=[uid]), 403)
    rehearsed = told(api.do("/actions/take-later", studies=[uid], dry_run=True))
    assert rehearsed["outcome"] == {"the later taken: the study is read again": 1}
    assert told(api.do("/actions/keep-first", studies=[uid]))["outcome"] == {"the first kept": 1}
    states = [(image["state"], image["reason"]) for image in told(api.ask(f"/studies/{uid}"))["images"]]
    assert states == [("stored", ""), ("stored", "set aside: the first to come under its UID was kept")]
