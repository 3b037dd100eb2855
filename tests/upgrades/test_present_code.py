"""Today's code on rows of the first schema and of each release: commands, pages, claims, backup."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from service.archive import Archive
from service.peers import Destination
from service.records import deliveries
from service.records.migrate import migrate
from service.web.app import create_app
from tests.service.web.site import HASH, PASSWORD
from tests.upgrades.conftest import Database
from tests.upgrades.rows import HELD, OPEN, PACS, READ, SECOND, rows_of
from tests.upgrades.test_rows import RELEASES, node_command

PAGES = ("/", "/studies", f"/studies/{READ}", f"/studies/{HELD}", "/jobs", "/models", "/settings")


@pytest.fixture(params=["0001", *RELEASES])
def schema(request: pytest.FixtureRequest, database: Database) -> str:
    """Which schema the database came from; it is at the present one now."""
    schema = str(request.param)
    database.make(schema, rows_of(schema))
    migrate(database.records.engine)
    Archive(database.settings.data_dir).prepare()
    return schema


def _run(database: Database, *arguments: str | Path) -> str:
    done = node_command(database, *arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.output


def test_studies_stand_where_they_stood(database: Database, schema: str) -> None:
    told = json.loads(_run(database, "studies", "--json"))
    outcomes = {study["study_instance_uid"]: study["outcome"] for study in told}
    # From 0011 on the reading that waits is a shadow's: what counts is the one before it.
    read = "queued" if schema < "0011" else "delivering"
    assert outcomes == {READ: read, OPEN: "receiving", HELD: "failed"}
    assert ("Nodule/Mass" in _run(database, "show", READ)) == (read == "delivering")


def test_actions_and_retention_go_on(database: Database, schema: str) -> None:
    assert "1" in _run(database, "rerun", READ, "--dry-run")
    _run(database, "purge", "--older-than", "1d", "--dry-run")
    _run(database, "rerun", HELD)
    with database.records.engine.connect() as connection:
        newest = "SELECT state, purpose FROM analysis WHERE study_id = 3 ORDER BY id DESC LIMIT 1"
        assert connection.execute(text(newest)).one() == ("queued", "regular")
    backed_up = node_command(database, "backup", database.settings.data_dir.parent / "backup.tar")
    # There is no archive here: five images and two results are missing, but for what is known to be purged.
    missing = 7 if schema < "0007" else 5
    assert f"{missing} files that the records name are missing" in backed_up.output


def test_what_was_due_is_claimed(database: Database, schema: str) -> None:
    due = deliveries.destinations_due(database.records)
    assert {str(one) for one in due} == ({SECOND} if schema < "0012" else {SECOND, PACS})
    (claim,) = deliveries.claim(
        database.records, Destination.parse(SECOND), limit=5, lease=timedelta(minutes=1)
    )
    assert (claim.delivery_id, claim.failures) == (2, 5)  # this attempt included


def test_the_pages_are_there(database: Database, schema: str) -> None:
    with TestClient(create_app(database.settings), base_url="http://127.0.0.1") as browser:
        browser.follow_redirects = False
        if schema >= "0006":
            _sign_in(browser, database)
        for page in PAGES:
            answer = browser.get(page)
            assert answer.status_code == 200, (page, answer.text)
        assert all(uid in browser.get("/studies").text for uid in (READ, OPEN, HELD))


def _sign_in(browser: TestClient, database: Database) -> None:
    """As ann, who is an admin since then; her password's hash is a literal that fits none."""
    with database.records.engine.begin() as connection:
        connection.execute(text("UPDATE web_user SET password_hash = :hash WHERE id = 1"), {"hash": HASH})
    form = browser.get("/sign-in").text
    csrf = re.findall(r'name="csrf" value="(\w+)"', form)[0]
    answer = browser.post("/sign-in", data={"name": "ann", "password": PASSWORD, "next": "/", "csrf": csrf})
    assert answer.status_code == 303, answer.text
