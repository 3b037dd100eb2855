"""What the API leans on beside the node itself; what it shares with the pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from service.web.attempts import Attempts
from service.web.counts import Counts
from service.web.deeds import Deed
from service.web.rendering import Rendering
from service.web.works import Works


@dataclass(frozen=True, slots=True)
class Footing:
    """From the application's start to its end.

    Attributes:
        rendering, deeds, counts: The pages': what is under way is so for both.
        attempts: With unknown tokens; a program that has a wrong one keeps no person from signing in.
    """

    rendering: Rendering
    deeds: Works[Deed]
    counts: Counts
    attempts: Attempts


def footing_of(request: Request) -> Footing:
    """What the API leans on that a request came to."""
    return cast("Footing", request.app.state.api)


OfAPI = Annotated[Footing, Depends(footing_of)]
"""A route's parameter ``api: OfAPI``."""
