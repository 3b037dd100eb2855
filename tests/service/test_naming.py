"""One name, given by two admins at one moment: in two real transactions, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from service.errors import NameTaken
from service.models.changes import Admin
from service.passwords import hash_password
from service.records import tokens, users
from service.records.database import Records
from service.records.states import Role
from service.records.tables import ApiToken, Model, User
from service.settings import Settings
from tests.models import model_copy
from tests.waiting import wait_until

HASH = hash_password("correct horse battery")


def _user(session: Session, _: Settings, __: Path) -> None:
    users.add_user(session, "anna", HASH, Role.VIEWER)


def _token(session: Session, _: Settings, __: Path) -> None:
    tokens.add_token(session, "dashboard", Role.VIEWER, 1)


def _model(session: Session, settings: Settings, folder: Path) -> None:
    Admin(session, settings, "a test").add(str(folder))


@pytest.mark.parametrize(
    ("give", "words", "rows"),
    [
        (_user, "there is a user anna already", {User: 1}),
        (_token, "dashboard has a token already", {ApiToken: 1}),
        # The first that is added brings the settings' own with it.
        (_model, "somebody else has just added a model", {Model: 2}),
    ],
    ids=["user", "token", "model"],
)
def test_the_second_is_told_that_the_name_is_taken(
    give: Callable[[Session, Settings, Path], None],
    words: str,
    rows: dict[type[User | ApiToken | Model], int],
    records: Records,
    settings: Settings,
    tmp_path: Path,
) -> None:
    folder = model_copy(tmp_path / "second", "2")
    said: list[str] = []

    def second() -> None:
        try:
            with records.writing() as session:
                give(session, settings, folder)
            said.append("added")
        except NameTaken as error:
            said.append(str(error))

    other = threading.Thread(target=second)
    with records.writing() as session:
        give(session, settings, folder)
        session.flush()
        other.start()
        if records.engine.dialect.name == "postgresql":
            wait_until(lambda: _somebody_waits(records), 30, "the second transaction to wait for the first")
    other.join(30)
    # SQLite has one writer at a time: the second finds the very model that it wants to add.
    one_writer = records.engine.dialect.name == "sqlite" and give is _model
    assert said == ["added"] if one_writer else words in said[0]
    with records.reading() as session:
        for table, count in rows.items():
            assert len(session.scalars(select(table)).all()) == count


def _somebody_waits(records: Records) -> bool:
    with records.reading() as session:
        return bool(session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))
