"""What routes lean on: the settings and the records of the node that they show."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final, cast

from fastapi import Depends, FastAPI, Request
from prometheus_client import CollectorRegistry

from litegpt.errors import ModelError
from service.errors import NotThere, SettingsError
from service.models.figures import FiguresByModel
from service.models.roster import Roster, roster_of
from service.peers import Destination
from service.records.database import Records, utc_now
from service.records.job_progress import Progress, progress_of
from service.records.silence import Silence, silences
from service.rules.rulebook import Rulebook
from service.settings import Settings
from service.web.by_model import kept_figures
from service.web.collectors import registry_of
from service.web.kept import Kept
from service.web.readiness import Readiness
from service.web.reckoning import Reckoned, reckoning

_PROGRESS_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 5.0
_MOST_OF_TIME: Final = 0.1
_FIGURES_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Node:
    """One application's view of the node, from its start to its end."""

    settings: Settings
    records: Records
    rulebook: Rulebook
    metrics: CollectorRegistry
    readiness: Readiness
    reckoning: Kept[Reckoned]
    job_progress: Kept[dict[int, Progress]]
    silences: Kept[tuple[Silence, ...]]
    by_model: Kept[FiguresByModel]
    tells_why: bool
    """Whether ``/health/ready`` quotes errors, which name paths and hosts."""

    def counted_by_model(self) -> FiguresByModel | None:
        """What each model has read: counted now, where that takes no time, else as it was counted before."""
        self.by_model.begin()
        self.by_model.is_answered_by(time.monotonic() + _FIGURES_SECONDS)
        return self.by_model.last

    def destination(self, address: str) -> Destination:
        """What the node delivers to at this address, ``AET@HOST:PORT``, by the present rules.

        Raises:
            NotThere: If there is none.
        """
        found = self.rulebook.rules().destination_called(address)
        if found is None:
            raise NotThere("That is no destination of this node.")
        return found


def lifespan_of(
    settings: Settings, *, tells_why: bool
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """An application's lifespan, which opens the records and closes them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        records, rulebook = Records.open(settings), Rulebook(settings)
        heard = _silences(settings, records)
        app.state.node = Node(
            settings,
            records,
            rulebook,
            metrics=registry_of(settings, records, rulebook, heard),
            readiness=Readiness(settings),
            reckoning=reckoning(records),
            job_progress=_job_progress(records),
            silences=heard,
            by_model=kept_figures(settings, records),
            tells_why=tells_why,
        )
        try:
            yield
        finally:
            records.close()

    return lifespan


def _job_progress(records: Records) -> Kept[dict[int, Progress]]:
    def ask() -> dict[int, Progress]:
        with records.snapshot() as session:
            return progress_of(session)

    return Kept(
        "count of the jobs' studies", ask, _PROGRESS_SECONDS, most_of_time=_MOST_OF_TIME, survives_errors=True
    )


def _silences(settings: Settings, records: Records) -> Kept[tuple[Silence, ...]]:
    def ask() -> tuple[Silence, ...]:
        with records.snapshot() as session:
            return silences(session, utc_now(), settings.zone)

    return Kept(
        "look for silent modalities", ask, _SILENCE_SECONDS, most_of_time=_MOST_OF_TIME, survives_errors=True
    )


def roster_of_node(node: Node) -> Roster:
    """The models as the records have them now.

    Raises:
        SettingsError: If there is only the settings' one, and it cannot be read.
    """
    with node.records.reading() as session:
        try:
            return roster_of(session, node.settings)
        except ModelError as error:
            raise SettingsError(f"The model of the settings cannot be read: {error}") from error


def node_of(request: Request) -> Node:
    """The node whose application a request came to."""
    return cast("Node", request.app.state.node)


OfNode = Annotated[Node, Depends(node_of)]
"""A route's parameter ``node: OfNode``."""
