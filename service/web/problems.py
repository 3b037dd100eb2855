"""What went wrong, as the API says it: RFC 9457's problem details; a line of text for all others."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

API: Final = "/api/v1"
"""Where the API stands."""

MEDIA_TYPE: Final = "application/problem+json"


_TYPE: Final = "about:blank"


class Complaint(BaseModel):
    """One thing that is wrong in a request."""

    where: str = Field(description="Where it stands, such as `query.state` or `body.studies`.")
    what: str = Field(description="What is wrong, without what was given.")


class Problem(BaseModel):
    """Problem details (RFC 9457)."""

    type: str = Field(description="Always `about:blank`: the status says which kind it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, in a line, for people.")
    errors: list[Complaint] = Field([], description="With 422: what is wrong in the request, one by one.")


class ProblemResponse(Response):
    """An answer that tells of a problem."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[Complaint] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        title = HTTPStatus(status).phrase
        problem = Problem(type=_TYPE, title=title, status=status, detail=detail, errors=errors or [])
        super().__init__(problem.model_dump_json(), status, headers)


def refusal(scope: Scope, status: int, words: str) -> Response:
    """The answer to a request that no route will see, in the form that its asker reads."""
    if scope["path"].startswith(f"{API}/"):
        return ProblemResponse(status, words)
    return PlainTextResponse(f"{words}\n", status)
