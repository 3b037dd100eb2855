"""Users of the pages, for admins: who there is, and adding, changing and removing one."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from service.errors import SettingsError
from service.passwords import LONGEST, SHORTEST, hash_password
from service.records import tokens, users
from service.records.journal import write_down
from service.records.states import Role
from service.records.tables import User
from service.web.node import OfNode
from service.web.pages.footing import OfPages
from service.web.visitors import AForm, AnAdmin, Forbidden, Visitor

router = APIRouter(prefix="/users")

Name = Annotated[str, Path(max_length=64)]

_ROLES: Final = tuple(Role)
_LENGTHS: Final = {"shortest": SHORTEST, "longest": LONGEST}


@router.get("")
def people(request: Request, node: OfNode, pages: OfPages, visitor: AnAdmin) -> Response:
    """All of them, and the clients of the API."""
    with node.records.reading() as session:
        listed, clients = users.list_users(session), tokens.list_tokens(session)
    return pages.rendering.page(
        request, "users.html", visitor, users=listed, tokens=clients, roles=_ROLES, **_LENGTHS
    )


@router.post("")
def add(node: OfNode, visitor: AnAdmin, form: AForm) -> Response:
    """Adds one."""
    name, role, password_hash = _text(form, "name"), _role(form), _new_hash(form)
    with node.records.writing() as session:
        users.add_user(session, name, password_hash, role)
        write_down(session, visitor.name, "user add", user=name.strip().lower(), role=role)
    return _back()


@router.get("/{name}")
def person(request: Request, name: Name, node: OfNode, pages: OfPages, visitor: AnAdmin) -> Response:
    """One, with what can be done."""
    with node.records.reading() as session:
        user = users.get_user(session, name)
    own = user.name == visitor.name
    return pages.rendering.page(request, "user.html", visitor, user=user, own=own, roles=_ROLES, **_LENGTHS)


@router.post("/{name}/role")
def change_role(name: Name, node: OfNode, visitor: AnAdmin, form: AForm) -> Response:
    """Gives one another role."""
    role = _role(form)
    with node.records.writing() as session:
        user = _other(session, name, visitor)
        user.role = role
        write_down(session, visitor.name, "user role", user=user.name, role=role)
    return _back()


@router.post("/{name}/password")
def change_password(name: Name, node: OfNode, visitor: AnAdmin, form: AForm) -> Response:
    """Gives one another password; wherever they are signed in, that ends."""
    password_hash = _new_hash(form)
    with node.records.writing() as session:
        user = users.get_user(session, name)
        user.password_hash = password_hash
        users.sign_out_everywhere(session, user)
        write_down(session, visitor.name, "user password", user=user.name)
    return _back()


@router.post("/{name}/remove")
def remove(name: Name, node: OfNode, visitor: AnAdmin, form: AForm) -> Response:
    """Removes one; wherever they are signed in, that ends."""
    if not form.get("sure"):
        raise SettingsError("Say that you are sure.")
    with node.records.writing() as session:
        user = _other(session, name, visitor)
        users.remove_user(session, user.name)
        write_down(session, visitor.name, "user remove", user=user.name)
    return _back()


def _other(session: Session, name: str, visitor: Visitor) -> User:
    """A user who is not the visitor: so there is an admin left, whatever is done here.

    Raises:
        Forbidden: If it is.
        NotThere: If there is none.
    """
    user = users.get_user(session, name)
    if user.name == visitor.name:
        raise Forbidden("That is yourself: another admin, or the command line, can do it.")
    return user


def _text(form: FormData, key: str) -> str:
    value = form.get(key)
    return value if isinstance(value, str) else ""


def _role(form: FormData) -> Role:
    name = _text(form, "role")
    if name not in _ROLES:
        raise SettingsError("There is no such role.")
    return Role(name)


def _new_hash(form: FormData) -> str:
    password = _text(form, "password")
    if password != _text(form, "again"):
        raise SettingsError("The two passwords are not the same.")
    return hash_password(password)


def _back() -> Response:
    return RedirectResponse("/users", 303)
