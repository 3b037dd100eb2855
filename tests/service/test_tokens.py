"""Tokens of the API's clients, at the command line and in the records. On both databases."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from service.cli.main import application
from service.errors import NotThere, SettingsError
from service.records import journal, tokens
from service.records.database import Records, utc_now
from service.records.states import Role
from service.records.tables import ApiToken
from service.records.tokens import TokenState
from service.settings import Settings


def _run(settings: Settings, *arguments: str) -> Result:
    url = {"LITEGPT_DATABASE_URL": settings.database_url} if settings.database_url else {}
    command = ["token", *arguments, "--data-dir", str(settings.data_dir)]
    return CliRunner().invoke(application(), command, env={"COLUMNS": "200", **url})


def test_a_client_from_beginning_to_end(records: Records, settings: Settings) -> None:
    assert _run(settings, "list").stdout == "no tokens yet: the API is closed\n"
    added = _run(settings, "add", "Dashboard", "--role", "operator", "--days", "90")
    assert added.exit_code == 0
    token = added.stdout.removesuffix("\n")
    assert token.startswith("litegpt_") and len(token) >= 43 + len("litegpt_")  # 256 bits
    assert "not shown again" in added.stderr and token not in added.stderr
    with records.reading() as session:
        view = tokens.token_called(session, token)
        assert view is not None
        assert (view.name, view.role, view.state) == ("dashboard", Role.OPERATOR, TokenState.VALID)
        assert view.expires_at - view.created_at == timedelta(days=90)
    (row,) = json.loads(_run(settings, "list", "--json").stdout)
    assert (row["name"], row["role"], row["state"], row["last_used_at"]) == (
        *("dashboard", "operator", "valid"),
        None,
    )
    assert token not in _run(settings, "list").stdout
    again = _run(settings, "add", "dashboard")
    assert isinstance(again.exception, SettingsError) and "has a token already" in str(again.exception)
    assert _run(settings, "revoke", "DASHBOARD").exit_code == 0
    assert json.loads(_run(settings, "list", "--json").stdout)[0]["state"] == "revoked"
    assert isinstance(_run(settings, "revoke", "nobody").exception, NotThere)
    with records.reading() as session:
        said = [(event.action, dict(event.asked)) for event in journal.events(session)]
    assert said == [
        ("token revoke", {"token": "dashboard"}),
        ("token add", {"token": "dashboard", "role": "operator", "days": 90}),
    ]
    assert token not in str(said)


def test_a_client_gets_another_token_when_its_last_one_is_over(records: Records) -> None:
    with records.writing() as session:
        first = tokens.add_token(session, "dashboard", Role.ADMIN, 1)
    with records.writing() as session:
        session.scalars(select(ApiToken)).one().expires_at = utc_now()
    with records.writing() as session:
        second = tokens.add_token(session, "dashboard", Role.VIEWER, 1)
    with records.reading() as session:
        assert tokens.token_called(session, first) is None
        view = tokens.token_called(session, second)
        assert view is not None
        assert (view.role, view.state) == (Role.VIEWER, TokenState.VALID)
        assert len(tokens.list_tokens(session)) == 1


def test_a_revoked_token_stays_revoked_when_it_expires(records: Records) -> None:
    with records.writing() as session:
        token = tokens.add_token(session, "dashboard", Role.ADMIN, 1)
        tokens.revoke_token(session, "dashboard")
    with records.writing() as session:
        session.scalars(select(ApiToken)).one().expires_at = utc_now()
    with records.reading() as session:
        view = tokens.token_called(session, token)
        assert view is not None and view.state is TokenState.REVOKED


@pytest.mark.parametrize("name", ["", "a b", "Müller", "<script>", "x" * 65, "token\n"])
def test_a_client_has_a_plain_name(records: Records, name: str) -> None:
    with records.writing() as session:
        if name.strip() == "token":
            tokens.add_token(session, name, Role.VIEWER, 1)
            assert tokens.list_tokens(session)[0].name == "token"
        else:
            with pytest.raises(SettingsError, match="1 to 64"):
                tokens.add_token(session, name, Role.VIEWER, 1)


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_no_token_holds_for_ever(records: Records, settings: Settings, days: int) -> None:
    with records.writing() as session, pytest.raises(SettingsError, match="1 to 3650"):
        tokens.add_token(session, "dashboard", Role.VIEWER, days)
    assert _run(settings, "add", "dashboard", "--days", str(days)).exit_code == 2


def test_a_token_is_found_by_itself_alone(records: Records) -> None:
    with records.writing() as session:
        token = tokens.add_token(session, "dashboard", Role.VIEWER, 1)
    with records.reading() as session:
        kept = session.scalars(select(ApiToken.token_hash)).one()
        for other in ("", token[:-1], token + "x", token.upper(), kept, "%", "\x00", "ü"):
            assert tokens.token_called(session, other) is None
