"""Users at the command line and in the records; the audit's pages. On both databases where records matter."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from service.cli.main import application
from service.errors import NeverAgain, SettingsError
from service.passwords import hash_password, is_password
from service.records import journal, users
from service.records.database import Records, utc_now
from service.records.migrate import migrate
from service.records.states import Role
from service.records.tables import AuditEvent, User, WebSession
from service.settings import load_settings

HASH = hash_password("correct horse battery")


@pytest.fixture
def node(tmp_path: Path) -> Path:
    records = Records.open(load_settings(data_dir=tmp_path / "node"))
    migrate(records.engine)
    records.close()
    return tmp_path / "node"


def _run(node: Path, *arguments: str, typed: str = "") -> tuple[int, str]:
    ended = CliRunner().invoke(application(), ["user", *arguments, "--data-dir", str(node)], input=typed)
    return ended.exit_code, ended.output + str(ended.exception or "")


def _users(node: Path) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = json.loads(_run(node, "list", "--json")[1])
    return listed


def test_a_user_from_beginning_to_end(node: Path, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse battery\nanother line\n")
    assert _run(node, "list") == (0, "no users yet\n")
    assert _run(node, "add", "Anna", "--role", "operator", "--password-file", str(file))[0] == 0
    assert _users(node) == [{"name": "anna", "role": "operator", "active": True}]
    assert "there is a user anna" in _run(node, "add", "ANNA", "--password-file", str(file))[1]
    assert _run(node, "role", "anna", "admin")[0] == 0
    assert _users(node)[0]["role"] == "admin"
    records = Records.open(load_settings(data_dir=node))
    with records.reading() as session:
        assert is_password("correct horse battery", users.get_user(session, "anna").password_hash)
    records.close()
    code, said = _run(node, "remove", "anna")
    assert code == 0
    assert "without any user" in said
    assert _users(node) == []
    assert "no user is called anna" in _run(node, "remove", "anna")[1]


def test_a_password_is_asked_for_twice_and_is_no_option(node: Path) -> None:
    twice = "correct horse battery\ncorrect horse battery\n"
    code, said = _run(node, "add", "anna", typed=twice)
    assert code == 0
    assert "correct" not in said
    assert _run(node, "add", "bert", typed="correct horse battery\nsomething else here\n")[0] != 0
    assert [user["name"] for user in _users(node)] == ["anna"]
    assert "No such option" in _run(node, "add", "carl", "--password", "correct horse battery")[1]


@pytest.mark.parametrize("password", ["", "elevenchars", "x" * 1025])
def test_a_password_has_a_sensible_length(node: Path, tmp_path: Path, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password)
    assert "12 to 1024 characters" in _run(node, "add", "anna", "--password-file", str(file))[1]
    assert _users(node) == []


@pytest.mark.parametrize("name", ["", "a b", "Müller^Anna", "<script>", "x" * 65])
def test_a_name_is_a_plain_word(node: Path, name: str) -> None:
    assert "1 to 64" in _run(node, "add", name, typed="correct horse battery\n" * 2)[1]


def test_nobody_has_no_password() -> None:
    for password in ("nobody has this password", "", "A" * 32):
        assert not is_password(password, None)
    assert not is_password("correct horse battery", "no hash at all")
    assert is_password("correct horse battery", HASH)
    assert not is_password("Correct horse battery", HASH)


def test_sessions_that_are_over_are_removed(records: Records) -> None:
    with records.writing() as session:
        users.add_user(session, "anna", HASH, Role.VIEWER)
    with records.writing() as session:
        anna = users.get_user(session, "anna")
        tokens = [users.begin_session(session, anna) for _ in range(3)]
    with records.writing() as session:
        idle, over, _ = session.scalars(select(WebSession).order_by(WebSession.id))
        idle.last_seen_at = utc_now() - users.IDLE
        over.expires_at = utc_now() - timedelta(seconds=1)
    with records.reading() as session:
        alive = [users.session_of(session, token) is not None for token in tokens]
    assert alive == [False, False, True]
    with records.writing() as session:
        users.begin_session(session, users.get_user(session, "anna"))
    with records.reading() as session:
        assert session.scalar(select(func.count()).select_from(WebSession)) == 2
    with records.writing() as session:
        users.remove_user(session, "anna")
    with records.reading() as session:
        assert session.scalar(select(func.count()).select_from(WebSession)) == 0
        assert not users.there_are_users(session)
        assert session.scalars(select(User)).all() == []


def test_users_are_found_by_whole_names_only(records: Records) -> None:
    with records.writing() as session:
        users.add_user(session, "anna", HASH, Role.VIEWER)
        with pytest.raises(SettingsError):
            users.add_user(session, " ANNA", HASH, Role.VIEWER)
    with records.reading() as session:
        assert users.find_user(session, " Anna ") is not None
        for name in ("", "ann", "anna%", "an\x00na", "anna' OR '1'='1"):
            assert users.find_user(session, name) is None
        with pytest.raises(NeverAgain):
            users.get_user(session, "ann")


def test_the_audit_in_pages(records: Records) -> None:
    with records.writing() as session:
        for number in range(7):
            journal.write_down(session, "anna", f"deed {number}", studies={"studies": [f"1.2.{number}"]})
    with records.reading() as session:
        first = journal.events(session, limit=3)
        second = journal.events(session, before=first[-1].id, limit=3)
    assert [event.action for event in (*first, *second)] == [f"deed {number}" for number in range(6, 0, -1)]
    assert [event.action for event in journal.all_events(records, at_once=3)] == [
        f"deed {number}" for number in range(6, -1, -1)
    ]
    with records.reading() as session:
        of_study = journal.events_of_study(session, "1.2.3")
        assert [event.action for event in of_study] == ["deed 3"]
        assert journal.events_of_study(session, "1.2") == []
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == 7
