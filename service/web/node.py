"""What routes lean on: the settings and the records of the node that they show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request
from prometheus_client import CollectorRegistry

from service.records.database import Records
from service.rules.rulebook import Rulebook
from service.settings import Settings
from service.web.collectors import registry_of
from service.web.readiness import Readiness


@dataclass(frozen=True, slots=True)
class Node:
    """One application's view of the node, from its start to its end."""

    settings: Settings
    records: Records
    rulebook: Rulebook
    metrics: CollectorRegistry
    readiness: Readiness
    tells_why: bool
    """Whether ``/health/ready`` quotes errors, which name paths and hosts."""


def lifespan_of(
    settings: Settings, *, tells_why: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """An application's lifespan, which opens the records and closes them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        records, rulebook = Records.open(settings), Rulebook(settings)
        metrics = registry_of(settings, records, rulebook)
        app.state.node = Node(settings, records, rulebook, metrics, Readiness(settings), tells_why)
        try:
            yield
        finally:
            records.close()

    return lifespan


def _node_of(request: Request) -> Node:
    return cast("Node", request.app.state.node)


OfNode = Annotated[Node, Depends(_node_of)]
"""A route's parameter ``node: OfNode``."""
