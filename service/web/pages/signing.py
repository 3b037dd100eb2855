"""Signing in and out."""

from __future__ import annotations

import logging
import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from service.passwords import is_password
from service.records import users
from service.records.journal import write_down
from service.settings import Settings
from service.web.node import Node, OfNode
from service.web.pages.footing import Footing, OfPages
from service.web.visitors import (
    AForm,
    AViewer,
    address_of,
    csrf_of,
    form_cookie,
    read_form,
    session_cookie,
)

log = logging.getLogger(__name__)
router = APIRouter()

_REFUSED = "Name and password do not go together."
_TOO_OFTEN = "Too many attempts. Wait a quarter of an hour."


@router.get("/sign-in")
def ask(request: Request, node: OfNode, pages: OfPages, next: str = "/") -> Response:
    """The page where a person signs in."""
    return _form_page(request, node, pages, next)


async def _sign_in_form(request: Request, node: OfNode) -> FormData:
    return await read_form(request, request.cookies.get(form_cookie(node.settings), ""))


@router.post("/sign-in")
def sign_in(
    request: Request, node: OfNode, pages: OfPages, form: Annotated[FormData, Depends(_sign_in_form)]
) -> Response:
    """Begins a session, where name and password go together."""
    name, password, then = (str(form.get(key, "")) for key in ("name", "password", "next"))
    address = address_of(request, node.settings)
    if not pages.attempts.take(name, address):
        log.warning("too many attempts to sign in, the last from %s", address)
        return _form_page(request, node, pages, then, _TOO_OFTEN, 429)
    token = _begin(node, name, password)
    if not token:
        # Without the name: what was typed there may be a password.
        log.warning("an attempt to sign in from %s failed", address)
        return _form_page(request, node, pages, then, _REFUSED, 401)
    pages.attempts.forgive(name, address)
    answer = RedirectResponse(_local(then), 303)
    _set_cookie(answer, node.settings, session_cookie(node.settings), token)
    answer.delete_cookie(form_cookie(node.settings), secure=node.settings.web_is_secure)
    return answer


@router.post("/sign-out")
def sign_out(request: Request, node: OfNode, visitor: AViewer, form: AForm) -> Response:
    """Ends the session."""
    name = session_cookie(node.settings)
    with node.records.writing() as session:
        users.end_session(session, request.cookies.get(name, ""))
        write_down(session, visitor.name, "sign out")
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(name, secure=node.settings.web_is_secure, httponly=True, samesite="lax")
    return answer


def _begin(node: Node, name: str, password: str) -> str:
    """A session's token; empty where name and password do not go together, after as long a time."""
    with node.records.reading() as session:
        user = users.find_user(session, name)
    known = user is not None and user.active
    if not is_password(password, user.password_hash if user is not None and known else None):
        return ""
    with node.records.writing() as session:
        user = users.get_user(session, name)
        write_down(session, user.name, "sign in")
        return users.begin_session(session, user)


def _form_page(
    request: Request, node: Node, pages: Footing, then: str, complaint: str = "", status: int = 200
) -> Response:
    name = form_cookie(node.settings)
    token = request.cookies.get(name) or secrets.token_urlsafe(32)
    values = {"csrf": csrf_of(token), "next": _local(then), "complaint": complaint}
    answer = pages.rendering.page(request, "sign_in.html", None, status, **values)
    _set_cookie(answer, node.settings, name, token)
    return answer


def _set_cookie(answer: Response, settings: Settings, name: str, token: str) -> None:
    answer.set_cookie(name, token, httponly=True, samesite="lax", secure=settings.web_is_secure, path="/")


def _local(address: str) -> str:
    """The address where it is one of ours; browsers read ``//host`` and ``/\\host`` as another site's."""
    ours = address.startswith("/") and address[1:2] not in ("/", "\\") and address.isprintable()
    return address if ours else "/"
