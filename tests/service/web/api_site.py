"""A node for the tests of its API: studies in several states, jobs, and a client of each role."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount

from service.records import retrieval_jobs, tokens
from service.records.database import utc_now
from service.records.states import AnalysisState, RetrievalState, Role
from service.records.tables import RetrievalStudy
from service.retrieval.filters import Filters
from service.web.api.application import openapi_of
from service.web.problems import API
from tests.images import make_radiograph
from tests.service.web.site import Answer, Client, Site, finding, site

NAME = "Verysecret^Patient"
PATIENT_ID = "SECRET-ID"
BOX = (12.5, 20.0, 60.25, 99.0)


@dataclass
class ApiSite:
    """The site, what is in its records, and a token for each role."""

    site: Site
    tokens: Mapping[Role, str]
    read: str
    failed: str
    waiting: str
    job: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.site.port}{API}"

    def ask(self, path: str, role: Role = Role.VIEWER, **headers: str) -> Answer:
        """GET by that role's client."""
        return Client(self.site.port).get(API + path, **self.bearer(role), **headers)

    def do(self, path: str, role: Role = Role.OPERATOR, **body: Any) -> Answer:
        """POST by that role's client."""
        client = Client(self.site.port)
        headers = {"Content-Type": "application/json", **self.bearer(role)}
        return client._ask("POST", API + path, json.dumps(body) if body else None, headers)

    def bearer(self, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[role]}"}


def contract_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI of the API that is mounted in an application."""
    (api,) = (route.app for route in app.routes if isinstance(route, Mount) and route.path == API)
    assert isinstance(api, FastAPI)
    return openapi_of(api)


def told(answer: Answer, status: int = 200) -> Any:
    """What an answer says, which has that status."""
    assert answer.status == status, answer.text
    return json.loads(answer.text)


@contextmanager
def api_site(folder: Path, **settings: str) -> Iterator[ApiSite]:
    """A web server until the block ends."""
    with site(folder, **settings) as running:
        with running.records.writing() as session:
            made = {role: tokens.add_token(session, f"client-{role}", role, 30) for role in Role}
            job = _job(session)
        named = {"PatientName": NAME, "PatientID": PATIENT_ID}
        image = make_radiograph(rows=120, columns=90, AccessionNumber="READ", **named)
        lateral = make_radiograph(study_uid=str(image.StudyInstanceUID), ViewPosition="LL", **named)
        read = running.take(image, lateral)
        below = finding("Edema", (0, 0, 5, 5), reported=False, score=0.25)
        running.read(read, finding("Cardiomegaly", BOX), below, finding("Pneumonia", None))
        failed = running.take(make_radiograph(AccessionNumber="FAILED", **named))
        running.read(failed, state=AnalysisState.FAILED)
        waiting = running.take(make_radiograph(AccessionNumber="WAITING", **named))
        yield ApiSite(running, made, read, failed, waiting, job)


def _job(session: Any) -> int:
    job = retrieval_jobs.make_job(
        session,
        source="PACS@127.0.0.1:104",
        filters=Filters(patient_id=PATIENT_ID, modalities=("DX",)).model_dump_json(),
        method="move",
        again=False,
        rate_per_hour=60,
        daily_window="20:00-06:00",
        now=utc_now(),
    )
    for number in range(3):
        row = RetrievalStudy(
            job_id=job, study_instance_uid=f"1.2.9.{number}", not_before=utc_now(), attempt=5
        )
        row.state, row.error = RetrievalState.FAILED, "no answer"
        session.add(row)
    return job
