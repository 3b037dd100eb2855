"""What routes lean on: the settings and the records of the node that they show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request
from prometheus_client import CollectorRegistry

from service.models.figures import FiguresByModel
from service.records.database import Records
from service.settings import Settings
from service.web.by_model import kept_figures
from service.web.collectors import registry_of
from service.web.kept import Kept
from service.web.readiness import Readiness


@dataclass(frozen=True, slots=True)
class Node:
    """One application's view of the node, from its start to its end."""

    settings: Settings
    records: Records
    metrics: CollectorRegistry
    readiness: Readiness
    by_model: Kept[FiguresByModel]
    tells_why: bool
    """Whether ``/health/ready`` quotes errors, which name paths and hosts."""


def lifespan_of(
    settings: Settings, *, tells_why: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """An application's lifespan, which opens the records and closes them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        records = Records.open(settings)
        app.state.node = Node(
            settings,
            records,
            registry_of(settings, records),
            Readiness(settings),
            kept_figures(settings, records),
            tells_why,
        )
        try:
            yield
        finally:
            records.close()

    return lifespan


def _node_of(request: Request) -> Node:
    return cast("Node", request.app.state.node)


OfNode = Annotated[Node, Depends(_node_of)]
"""A route's parameter ``node: OfNode``."""
