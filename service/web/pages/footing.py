"""What the pages share, and how an application gets them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from service.errors import NeverAgain, NodeError, SettingsError, TryAgain
from service.settings import Settings
from service.web.attempts import Attempts
from service.web.reckoning import Reckoning
from service.web.rendering import Rendering
from service.web.safeguards import Safeguards
from service.web.visitors import REFRESH_HEADER, Forbidden, NotSignedIn
from service.web.works import Works


@dataclass(frozen=True, slots=True)
class Footing:
    """What pages lean on beside the node itself, from the application's start to its end."""

    rendering: Rendering
    reckoning: Reckoning
    works: Works
    attempts: Attempts


def _footing(request: Request) -> Footing:
    return cast("Footing", request.app.state.pages)


OfPages = Annotated[Footing, Depends(_footing)]
"""A route's parameter ``pages: OfPages``."""


def add_pages(app: FastAPI, settings: Settings) -> None:
    """Gives an application the pages."""
    from service.web.pages import acting, audit, configuration, models, overview, signing, studies, study

    app.state.pages = Footing(Rendering(settings), Reckoning(), Works(), Attempts())
    for room in (signing, overview, studies, study, models, acting, audit, configuration):
        app.include_router(room.router)
    app.mount("/static", StaticFiles(directory=Path(str(files("service.web") / "static"))))
    app.add_middleware(Safeguards, https=settings.web_tls_certificate is not None)
    app.add_exception_handler(NotSignedIn, _to_sign_in)
    for kind in (Forbidden, NodeError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _tell)


def _to_sign_in(request: Request, _: Exception) -> Response:
    if request.method != "GET" or REFRESH_HEADER in request.headers:
        return PlainTextResponse("Sign in first.\n", 401)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/sign-in?{urlencode({'next': request.url.path + query})}", 303)


def _tell(request: Request, error: Exception) -> Response:
    """A page that says in a line why there is no other."""
    status, words = _status(error)
    if request.url.path.startswith("/health") or REFRESH_HEADER in request.headers:
        return PlainTextResponse(f"{words}\n", status)
    pages = _footing(request)
    return pages.rendering.page(request, "error.html", None, status, words=words)


def _status(error: Exception) -> tuple[int, str]:
    if isinstance(error, HTTPException):
        words = "There is no such page." if error.status_code == 404 else str(error.detail)
        return error.status_code, words
    if isinstance(error, TryAgain):
        return 503, str(error)
    if isinstance(error, RequestValidationError):
        return 404, "There is no such page."
    kinds = {Forbidden: 403, NeverAgain: 404, SettingsError: 422}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), 500), str(error)
