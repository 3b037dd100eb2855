"""The node's web server as a real process, what is in its records, and a browser without a screen."""

from __future__ import annotations

import http.client
import re
import ssl
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pydicom import Dataset
from sqlalchemy import select

from litegpt.identity import read_identity
from service.archive import Archive
from service.completion import Completion
from service.eligibility import Eligibility
from service.passwords import hash_password
from service.records import users
from service.records.database import Records, utc_now
from service.records.intake import Receiver
from service.records.migrate import migrate
from service.records.states import AnalysisState, DeliveryState, Purpose, Role
from service.records.tables import Analysis, AnalysisImage, Delivery, Finding, Result, Study
from service.settings import PREFIX, Settings, load_settings
from service.web.ports import PAGES, running_ports
from tests.archived import write_result
from tests.processes import Process, running
from tests.service.conftest import incoming

PASSWORD = "correct horse battery"
HASH = hash_password(PASSWORD)
DESTINATION = "PACS@127.0.0.1:104"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    set_cookies: list[str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def location(self) -> str:
        return self.headers.get("location", "")


@dataclass
class Client:
    """Keeps cookies and follows nothing."""

    port: int
    tls: ssl.SSLContext | None = None
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        return self._ask("POST", path, urlencode(form), headers)

    def csrf(self, path: str = "/") -> str:
        """What a form of that page carries."""
        found = re.search(r'name="csrf" value="(\w+)"', self.get(path).text)
        assert found, path
        return found[1]

    def sign_in(self, name: str, password: str = PASSWORD, then: str = "/", **headers: str) -> Answer:
        form = {"name": name, "password": password, "next": then, "csrf": self.csrf("/sign-in")}
        return self.post("/sign-in", form, **headers)

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        connection = (
            http.client.HTTPSConnection("localhost", self.port, context=self.tls, timeout=30)
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        )
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        set_cookies = answer.headers.get_all("set-cookie") or []
        for line in set_cookies:
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, set_cookies, content)


@dataclass
class Site:
    """A web server with its records and its archive."""

    settings: Settings
    records: Records
    process: Process
    port: int

    def client(self, name: str = "") -> Client:
        """A browser, with a user signed in where one is named."""
        client = Client(self.port)
        if name:
            assert client.sign_in(name).status == 303
        return client

    def add_user(self, name: str, role: Role) -> str:
        add_user(self.records, name, role)
        return name

    @property
    def archive(self) -> Archive:
        return Archive(self.settings.data_dir)

    def take(self, *images: Dataset) -> str:
        """Receives a study, and completes it; its UID."""
        receiver = Receiver(self.records, self.archive, Eligibility.of(self.settings))
        for image in images:
            receiver.take(incoming(self.archive, image), calling_ae_title="MODALITY")
        completion = Completion.of(self.settings, read_identity(self.settings.model))
        while completion.complete_due(self.records):
            pass
        return str(images[0].StudyInstanceUID)

    def read(self, uid: str, *findings: Finding, state: AnalysisState = AnalysisState.DONE) -> None:
        """Ends a study's analysis, in order with these findings of its first image and one result refused."""
        with self.records.writing() as session:
            analysis = session.scalars(
                select(Analysis).join(Study).where(Study.study_instance_uid == uid)
            ).one()
            analysis.state, analysis.attempt = state, 1
            analysis.started_at = analysis.finished_at = utc_now()
            if state is not AnalysisState.DONE:
                analysis.error = "the model broke off"
                return
            analysis.images[0].findings = list(findings)
            path = write_result(self.archive, b"report of " + uid.encode(), uid, f"{uid}.9")
            delivery = Delivery(
                destination=DESTINATION, state=DeliveryState.REFUSED, attempt=1, error="0xA700: refused"
            )
            delivery.not_before = utc_now()
            session.add(
                Result(
                    analysis=analysis,
                    kind="sr",
                    sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
                    sop_instance_uid=f"{uid}.9"[:64],
                    template_version="1",
                    path=path,
                    digest="",
                    created_at=utc_now(),
                    deliveries=[delivery],
                )
            )


def read_by_shadow(pages: Site, uid: str, version: str, *findings: Finding) -> int:
    """A shadow's analysis of a study's first image, done, with these findings and a result; its id."""
    with pages.records.writing() as session:
        study = session.scalars(select(Study).where(Study.study_instance_uid == uid)).one()
        former, now = study.analyses[-1], utc_now()
        times = {"created_at": now, "not_before": now, "started_at": now, "finished_at": now}
        row = Analysis(
            model_id=former.model_id,
            model_version=version,
            purpose=Purpose.SHADOW,
            counts=False,
            input_digest=str(len(study.analyses)),
            settings_digest="",
            demonstration=True,
            state=AnalysisState.DONE,
            **times,
        )
        row.images = [AnalysisImage(instance_id=former.images[0].instance_id, position=0)]
        row.images[0].findings = list(findings)
        study.analyses.append(row)
        session.flush()
        return row.id


def finding(label: str, box: tuple[float, float, float, float] | None, **more: object) -> Finding:
    """A row of its own, to be put at an image."""
    x_min, y_min, x_max, y_max = box or (None, None, None, None)
    row = Finding(label=label, score=0.875, x_min=x_min, y_min=y_min, x_max=x_max, y_max=y_max, position=0)
    for name, value in more.items():
        setattr(row, name, value)
    return row


def add_user(records: Records, name: str, role: Role) -> None:
    """A user with :data:`PASSWORD`."""
    with records.writing() as session:
        users.add_user(session, name, HASH, role)


def text_of(answer: Answer) -> str:
    """What a page says, without its marks."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


@contextmanager
def site(folder: Path, roles: tuple[Role, ...] = tuple(Role), **settings: str) -> Iterator[Site]:
    """A web server until the block ends, with a user of each role, named like it."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen: dict[str, Any] = {
        "data_dir": str(folder / "node"),
        "web_port": "0",
        "quiet_seconds": "0",
        **settings,
    }
    chosen.setdefault("destinations", DESTINATION)
    loaded = load_settings(**chosen)
    Archive(loaded.data_dir).prepare()
    records = Records.open(loaded)
    migrate(records.engine)
    for role in roles:
        add_user(records, role, role)
    environment = {PREFIX + name.upper(): value for name, value in chosen.items()}
    command = [sys.executable, "-m", "service.cli.main", "web"]
    with running(command, log=folder / "web.log", environment=environment) as process:
        port = process.wait_until(lambda: running_ports(loaded.data_dir).get(PAGES, 0), 60, "pages")
        yield Site(loaded, records, process, port)
    records.close()
