"""What the pages share, and how an application gets them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, cast
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from litegpt.errors import ModelError
from service.errors import NodeError
from service.settings import Settings
from service.web.attempts import Attempts
from service.web.counts import Counts
from service.web.deeds import Deed
from service.web.problems import API, ProblemResponse
from service.web.rendering import Rendering
from service.web.safeguards import Safeguards
from service.web.statuses import status_of
from service.web.visitors import REFRESH_HEADER, Forbidden, NotSignedIn
from service.web.works import Works

AT_ONCE_SECONDS: Final = 0.15
"""How long a page waits for what is reckoned beside the requests."""

_COUNTS_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Footing:
    """What pages lean on beside the node itself, from the application's start to its end."""

    rendering: Rendering
    deeds: Works[Deed]
    counts: Counts
    attempts: Attempts


class _Static(StaticFiles):
    """Files that come with the node."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """None for a name that no file can have, as with a NUL: Starlette before 1.0 breaks off there."""
        try:
            return super().lookup_path(path)
        except ValueError:
            return "", None


def _footing(request: Request) -> Footing:
    return cast("Footing", request.app.state.pages)


OfPages = Annotated[Footing, Depends(_footing)]
"""A route's parameter ``pages: OfPages``."""


def add_pages(app: FastAPI, settings: Settings) -> Footing:
    """Gives an application the pages; what they lean on is returned."""
    from service.web.pages import (
        acting,
        audit,
        configuration,
        jobs,
        models,
        ordering,
        overview,
        people,
        signing,
        studies,
        study,
    )

    footing = Footing(Rendering(settings), Works(), Counts(_COUNTS_AT_ONCE), Attempts())
    app.state.pages = footing
    for room in (
        signing,
        overview,
        studies,
        study,
        acting,
        ordering,
        jobs,
        models,
        audit,
        people,
        configuration,
    ):
        app.include_router(room.router)
    app.mount("/static", _Static(directory=Path(str(files("service.web") / "static"))))
    app.add_middleware(Safeguards, https=settings.web_tls_certificate is not None)
    app.add_exception_handler(NotSignedIn, _to_sign_in)
    for kind in (Forbidden, NodeError, ModelError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _tell)
    return footing


def _to_sign_in(request: Request, _: Exception) -> Response:
    if request.method != "GET" or REFRESH_HEADER in request.headers:
        return PlainTextResponse("Sign in first.\n", 401)
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/sign-in?{urlencode({'next': request.url.path + query})}", 303)


def _tell(request: Request, error: Exception) -> Response:
    """A page that says in a line why there is no other."""
    status, words = _status(error)
    if request.url.path.startswith(f"{API}/"):
        # Of an address that does not even look like one of the API's.
        return ProblemResponse(status, words)
    if request.url.path.startswith("/health") or REFRESH_HEADER in request.headers:
        return PlainTextResponse(f"{words}\n", status)
    pages = _footing(request)
    return pages.rendering.page(request, "error.html", None, status, words=words)


def _status(error: Exception) -> tuple[int, str]:
    if isinstance(error, HTTPException):
        words = "There is no such page." if error.status_code == 404 else str(error.detail)
        return error.status_code, words
    if isinstance(error, RequestValidationError):
        return 404, "There is no such page."
    return status_of(error), str(error)
