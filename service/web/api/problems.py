"""Errors of the API's routes as problem details, and how the OpenAPI tells of them."""

from __future__ import annotations

from typing import Any, Final, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from litegpt.errors import ModelError
from service.errors import NodeError, TryAgain
from service.web.api.callers import NoToken, TooManyAttempts
from service.web.problems import MEDIA_TYPE, Complaint, ProblemResponse
from service.web.statuses import status_of
from service.web.visitors import Forbidden

_RETRY_SECONDS: Final = "5"
_COMPLAINTS: Final = 20

_SAID: Final = {
    400: "The body cannot be read at all.",
    401: "No token, or none that opens anything.",
    403: "The token's role does not suffice, or the node does not do that.",
    404: "What is named is not there.",
    409: "Not now: another action is going on, or what is named is in another state.",
    413: "The request is too large.",
    422: "The request is wrong; `errors` says where.",
    429: "Too many unknown tokens came from this address.",
    503: "Not now: the records or the model are away, or the node takes too long.",
}

_SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer beside what it is there for: these, and what any of them may."""
    return {
        status: {"description": _SAID[status], "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        for status in sorted({401, 403, 422, 429, 503, *statuses})
    }


def tell_problems(api: FastAPI) -> None:
    """Has an application tell every error as a problem."""
    api.add_exception_handler(NoToken, _no_token)
    api.add_exception_handler(TooManyAttempts, _too_many)
    api.add_exception_handler(RequestValidationError, _wrong)
    for kind in (Forbidden, NodeError, ModelError):
        api.add_exception_handler(kind, _known)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _unknown)


def _no_token(_: Request, error: Exception) -> ProblemResponse:
    return ProblemResponse(401, str(error), headers={"WWW-Authenticate": "Bearer"})


def _too_many(_: Request, __: Exception) -> ProblemResponse:
    seconds = str(TooManyAttempts.retry_after_seconds)
    return ProblemResponse(429, "Wait a quarter of an hour.", headers={"Retry-After": seconds})


def _wrong(_: Request, error: Exception) -> ProblemResponse:
    wrong = cast("RequestValidationError", error).errors()[:_COMPLAINTS]
    # Without what was given, which may name a patient.
    errors = [Complaint(where=".".join(map(str, one["loc"])), what=str(one["msg"])) for one in wrong]
    return ProblemResponse(422, "; ".join(f"{one.where}: {one.what}" for one in errors[:3]), errors)


def _known(_: Request, error: Exception) -> ProblemResponse:
    soon = {"Retry-After": _RETRY_SECONDS} if isinstance(error, TryAgain) else None
    return ProblemResponse(status_of(error), str(error), headers=soon)


def _http(_: Request, error: Exception) -> ProblemResponse:
    known = cast("HTTPException", error)
    words = "There is nothing here." if known.status_code == 404 else str(known.detail)
    return ProblemResponse(known.status_code, words, headers=dict(known.headers or {}))


def _unknown(_: Request, __: Exception) -> ProblemResponse:
    # Whoever runs the server logs it.
    return ProblemResponse(500, "A fault of the node; its log tells more.")
