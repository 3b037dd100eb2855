"""Clients of the API and their tokens, of which the records keep a hash."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import NameTaken, NotThere, SettingsError
from service.records.database import utc_now
from service.records.naming import new_name
from service.records.states import Role
from service.records.tables import ApiToken

LONGEST_DAYS: Final = 3650

_PREFIX: Final = "litegpt_"
"""By which a token that lies about, as in a log or a repository, is known for what it is."""

_NOTED_EVERY: Final = timedelta(hours=1)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


class TokenState(StrEnum):
    """Whether a token opens anything."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class TokenView:
    """A client's token as it is shown; ``last_used_at`` is up to an hour late."""

    id: int
    name: str
    role: Role
    state: TokenState
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None

    @property
    def is_to_be_noted(self) -> bool:
        """Whether it is time to write down again that it is used."""
        return self.last_used_at is None or utc_now() - self.last_used_at >= _NOTED_EVERY


def add_token(session: Session, name: str, role: Role, days: int) -> str:
    """A new token, for a new client or one whose last token is over; it is told here and never again.

    Raises:
        NameTaken: If the client's token still holds.
        SettingsError: If the name is none that a client can have, or the token would hold for too long.
    """
    name = name.strip().lower()
    if not _NAME.fullmatch(name):
        raise SettingsError(f"a client's name has 1 to 64 letters, digits, or . _ @ -, not {name!r}")
    if not 1 <= days <= LONGEST_DAYS:
        raise SettingsError(f"a token holds for 1 to {LONGEST_DAYS} days, not {days}")
    row = session.scalars(select(ApiToken).where(ApiToken.name == name).with_for_update()).one_or_none()
    taken = f"{name} has a token already: revoke it first, or take another name"
    if row is not None and _view(row).state is TokenState.VALID:
        raise NameTaken(taken)
    now, token = utc_now(), _PREFIX + secrets.token_urlsafe(32)
    row = row or ApiToken(name=name)
    row.role, row.token_hash = role, _hash(token)
    row.created_at, row.expires_at = now, now + timedelta(days=days)
    row.last_used_at = row.revoked_at = None
    with new_name(session, taken):
        session.add(row)
    return token


def list_tokens(session: Session) -> list[TokenView]:
    """All of them, by their clients' names."""
    return [_view(row) for row in session.scalars(select(ApiToken).order_by(ApiToken.name))]


def revoke_token(session: Session, name: str) -> None:
    """Ends a client's token at once; one that is over already stays as it is.

    Raises:
        NotThere: If there is no such client.
    """
    row = session.scalars(select(ApiToken).where(ApiToken.name == name.strip().lower())).one_or_none()
    if row is None:
        raise NotThere(f"no token is called {name}")
    row.revoked_at = row.revoked_at or utc_now()


def token_called(session: Session, token: str) -> TokenView | None:
    """Whose token it is; ``None`` where it is nobody's. Look at its state."""
    row = session.scalars(select(ApiToken).where(ApiToken.token_hash == _hash(token))).one_or_none()
    return None if row is None else _view(row)


def note_use(session: Session, token: TokenView) -> None:
    """Writes down that a token is used."""
    row = session.get(ApiToken, token.id)
    if row is not None:
        row.last_used_at = utc_now()


def _view(row: ApiToken) -> TokenView:
    state = TokenState.EXPIRED if row.expires_at <= utc_now() else TokenState.VALID
    return TokenView(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        state=TokenState.REVOKED if row.revoked_at else state,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
