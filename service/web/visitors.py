"""Who asks for a page: by the session that the browser's cookie names, and what they may do.

Every form carries a token that only a page of ours can know: it is derived from the cookie, which no script
and no other site can read.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.datastructures import FormData

from service.records import users
from service.records.states import Role
from service.settings import Settings
from service.web.admission import is_open
from service.web.node import OfNode

CSRF_FIELD: Final = "csrf"
REFRESH_HEADER: Final = "x-refresh"
"""Marks what a page asks for by itself: that is no use of the session by a person."""


class NotSignedIn(Exception):
    """The page is for users."""


class Forbidden(Exception):
    """The user may not do that; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks.

    Attributes:
        name: The user's; empty where there are no users and the browser is on this machine.
        role: What they may do.
        csrf: What their forms carry.
    """

    name: str
    role: Role
    csrf: str

    def may(self, role: Role | str) -> bool:
        """Whether they may do what ``role`` may."""
        return self.role.includes(Role(role))


def session_cookie(settings: Settings) -> str:
    """The cookie's name. With ``__Host-`` no other host or path can set it, but that needs HTTPS."""
    return f"{'__Host-' if settings.web_is_secure else ''}litegpt-session"


def form_cookie(settings: Settings) -> str:
    """The same for the form by which a person signs in, who has no session yet."""
    return f"{'__Host-' if settings.web_is_secure else ''}litegpt-form"


def csrf_of(token: str) -> str:
    """What forms carry for the holder of a cookie's token."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


def address_of(request: Request, settings: Settings) -> str:
    """Where a request comes from; behind a proxy, what that proxy itself has written last."""
    forwarded = request.headers.getlist("x-forwarded-for")
    if settings.web_behind_proxy and forwarded:
        return forwarded[-1].rpartition(",")[2].strip()
    return request.client.host if request.client else ""


def _visitor(request: Request, node: OfNode) -> Visitor:
    token = request.cookies.get(session_cookie(node.settings), "")
    with node.records.reading() as session:
        current = users.session_of(session, token) if token else None
        if current is None:
            if is_open(node.settings) and not users.there_are_users(session):
                return Visitor("", Role.VIEWER, "")
            raise NotSignedIn
        visitor = Visitor(current.user.name, Role(current.user.role), csrf_of(token))
    if REFRESH_HEADER not in request.headers and users.is_to_be_noted(current.last_seen_at):
        with node.records.writing() as session:
            users.note_use(session, token)
    return visitor


def require_role(held: Role, needed: Role) -> None:
    """Looks whether who holds one role may do what another may.

    Raises:
        Forbidden: If not.
    """
    if not held.includes(needed):
        raise Forbidden(f"That is for an {needed}.")


def _with(role: Role) -> Callable[[Visitor], Visitor]:
    def look(visitor: Annotated[Visitor, Depends(_visitor)]) -> Visitor:
        require_role(visitor.role, role)
        return visitor

    return look


def require_same_site(request: Request) -> None:
    """Looks at what browsers say of where a form was sent from.

    Raises:
        Forbidden: If that was another site.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("The form came from another site.")


async def read_form(request: Request, token: str) -> FormData:
    """A form that carries what belongs to a cookie's token.

    Raises:
        Forbidden: If it does not, or came from another site.
    """
    require_same_site(request)
    form = await request.form(max_files=0, max_fields=100)
    given = form.get(CSRF_FIELD)
    if (
        not token
        or not isinstance(given, str)
        or not hmac.compare_digest(given.encode(), csrf_of(token).encode())
    ):
        raise Forbidden("The form is too old. Go back, load the page again, and repeat.")
    return form


async def _form(request: Request, node: OfNode) -> FormData:
    return await read_form(request, request.cookies.get(session_cookie(node.settings), ""))


AViewer = Annotated[Visitor, Depends(_with(Role.VIEWER))]
AnOperator = Annotated[Visitor, Depends(_with(Role.OPERATOR))]
AnAdmin = Annotated[Visitor, Depends(_with(Role.ADMIN))]
"""A route's parameter ``visitor: AnAdmin``; others are turned away."""

AForm = Annotated[FormData, Depends(_form)]
"""A route's parameter ``form: AForm``, beside its visitor's: what a page of ours posted."""
