"""Who calls the API: by the token in ``Authorization``, and by nothing else; no cookie counts here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from service.errors import OutOfResources
from service.records import tokens
from service.records.states import Role
from service.records.tokens import TokenState, TokenView
from service.web.api.footing import Footing, footing_of
from service.web.attempts import WINDOW_SECONDS
from service.web.node import Node, node_of
from service.web.visitors import address_of, require_role

log = logging.getLogger(__name__)

_LONGEST: Final = 200

_BEARER: Final = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="What `litegpt-node token add` printed: `Authorization: Bearer litegpt_…`.",
)


class NoToken(Exception):
    """The request carries no token that opens anything; the message says what is wrong with it."""


class TooManyAttempts(Exception):
    """Too many unknown tokens came from this address."""

    retry_after_seconds: Final = int(WINDOW_SECONDS)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a client's name, and what it may do."""

    name: str
    role: Role

    @property
    def who(self) -> str:
        """The name that the audit has; no user can be called so, for the space in it."""
        return f"token {self.name}"


class AdmittingRoute(APIRoute):
    """Looks who calls before it reads what they say: of a stranger's body nothing is told, not even that it
    is none."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's, behind that look."""
        answer = super().get_route_handler()

        async def admitted(request: Request) -> Response:
            given = await _BEARER(request)
            request.state.caller = await run_in_threadpool(_admit, request, given)
            return await answer(request)

        return admitted


def _admit(request: Request, given: HTTPAuthorizationCredentials | None) -> Caller:
    if given is None:
        raise NoToken("Send a token: Authorization: Bearer ….")
    node, api = node_of(request), footing_of(request)
    found = _find(node, api, given.credentials, address_of(request, node.settings))
    if found.state is not TokenState.VALID:
        raise NoToken(f"The token is {found.state}.")
    if found.is_to_be_noted:
        # With a full disk the node can still be asked what is the matter.
        with suppress(OutOfResources), node.records.writing() as session:
            tokens.note_use(session, found)
    return Caller(found.name, found.role)


def _find(node: Node, api: Footing, token: str, address: str) -> TokenView:
    """Whose token it is. Only unknown ones are attempts: a client whose token has expired keeps asking."""
    if api.attempts.are_too_many(address):
        raise TooManyAttempts
    found = None
    if len(token) <= _LONGEST:
        with node.records.reading() as session:
            found = tokens.token_called(session, token)
    if found is None:
        api.attempts.note_failure(address)
        log.warning("an unknown token came from %s", address)
        raise NoToken("No client has this token.")
    return found


def _caller(request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]) -> Caller:
    return cast("Caller", request.state.caller)


def _with(role: Role) -> Callable[[Caller], Caller]:
    def look(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        require_role(caller.role, role)
        return caller

    return look


AViewer = Annotated[Caller, Depends(_with(Role.VIEWER))]
AnOperator = Annotated[Caller, Depends(_with(Role.OPERATOR))]
AnAdmin = Annotated[Caller, Depends(_with(Role.ADMIN))]
"""A route's parameter ``caller: AnAdmin``; others are turned away."""
