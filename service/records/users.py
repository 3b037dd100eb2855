"""Users of the pages and the sessions of those who have signed in."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, exists, func, select
from sqlalchemy.orm import Session

from service.errors import NameTaken, NotThere, SettingsError
from service.records.database import utc_now
from service.records.naming import new_name
from service.records.states import Role
from service.records.tables import User, WebSession

IDLE: Final = timedelta(minutes=30)
"""A session that nobody has used for so long is over."""

LONGEST: Final = timedelta(hours=12)
"""The same for one that is used."""

_NOTED_EVERY: Final = timedelta(minutes=1)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class UserView:
    """A user as it is shown; ``last_seen_at`` is that of a session which is not over."""

    name: str
    role: Role
    active: bool
    created_at: datetime
    last_seen_at: datetime | None


def there_are_users(session: Session) -> bool:
    """Whether anybody may sign in at all, or could once."""
    return bool(session.scalar(select(exists().where(User.id.is_not(None)))))


def list_users(session: Session) -> list[UserView]:
    """All of them, by name."""
    seen = func.max(WebSession.last_seen_at)
    rows = session.execute(select(User, seen).outerjoin(WebSession).group_by(User.id).order_by(User.name))
    return [UserView(user.name, Role(user.role), user.active, user.created_at, at) for user, at in rows]


def add_user(session: Session, name: str, password_hash: str, role: Role) -> None:
    """Adds one.

    Raises:
        NameTaken: If there is such a user.
        SettingsError: If the name is none that a user can have.
    """
    name = _normal(name)
    taken = f"there is a user {name} already"
    if find_user(session, name):
        raise NameTaken(taken)
    with new_name(session, taken):
        session.add(
            User(name=name, password_hash=password_hash, role=role, active=True, created_at=utc_now())
        )


def find_user(session: Session, name: str) -> User | None:
    """The user of that name, in small or capital letters."""
    normal = name.strip().lower()
    if not _NAME.fullmatch(normal):
        return None
    return session.scalars(select(User).where(User.name == normal)).one_or_none()


def get_user(session: Session, name: str) -> User:
    """The user of that name.

    Raises:
        NotThere: If there is none.
    """
    user = find_user(session, name)
    if user is None:
        raise NotThere(f"no user is called {name}")
    return user


def sign_out_everywhere(session: Session, user: User) -> None:
    """Ends all of a user's sessions."""
    session.execute(delete(WebSession).where(WebSession.user_id == user.id))


def remove_user(session: Session, name: str) -> None:
    """Removes one, with all sessions.

    Raises:
        NotThere: If there is none.
    """
    user = get_user(session, name)
    sign_out_everywhere(session, user)
    session.delete(user)


def begin_session(session: Session, user: User) -> str:
    """A new session's token, of which only a hash is kept; sessions that are over are removed."""
    now, token = utc_now(), secrets.token_urlsafe(32)
    session.execute(
        delete(WebSession).where((WebSession.expires_at <= now) | (WebSession.last_seen_at <= now - IDLE))
    )
    session.add(
        WebSession(
            token_hash=_hash(token),
            user_id=user.id,
            created_at=now,
            last_seen_at=now,
            expires_at=now + LONGEST,
        )
    )
    return token


def session_of(session: Session, token: str) -> WebSession | None:
    """The session that a token names; ``None`` where it is over, or its user may not sign in any more."""
    now = utc_now()
    return session.scalars(
        select(WebSession)
        .join(WebSession.user)
        .where(
            WebSession.token_hash == _hash(token),
            WebSession.expires_at > now,
            WebSession.last_seen_at > now - IDLE,
            User.active,
        )
    ).one_or_none()


def is_to_be_noted(seen_at: datetime) -> bool:
    """Whether it is time to write down again that a session is used."""
    return utc_now() - seen_at >= _NOTED_EVERY


def note_use(session: Session, token: str) -> None:
    """Writes down that a session is used."""
    current = session_of(session, token)
    if current is not None:
        current.last_seen_at = utc_now()


def end_session(session: Session, token: str) -> None:
    """Ends one."""
    session.execute(delete(WebSession).where(WebSession.token_hash == _hash(token)))


def _normal(name: str) -> str:
    normal = name.strip().lower()
    if not _NAME.fullmatch(normal):
        raise SettingsError(f"a user's name has 1 to 64 letters, digits, or . _ @ -, not {name!r}")
    return normal


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
