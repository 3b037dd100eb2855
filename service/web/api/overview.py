"""The node as a whole: today's numbers, what it stands on, and the sums of what was received."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from fastapi import APIRouter
from pydantic import Field

from service.attendance import attendance
from service.records import figures
from service.records.database import utc_now
from service.records.reconciliation import UnsettledStudy
from service.records.states import WAITING, AnalysisState
from service.web.api.callers import AdmittingRoute, AViewer
from service.web.api.problems import responses
from service.web.api.shapes import PriorityName, Reason, Shape
from service.web.node import OfNode
from service.web.pages.footing import AT_ONCE_SECONDS
from service.web.present import health, midnight
from service.web.reckoning import Reckoned

router = APIRouter(route_class=AdmittingRoute, tags=["overview"], responses=responses())


class QueueLine(Shape):
    """Analyses of one priority that wait or run."""

    priority: PriorityName = Field(description="Which.")
    queued: int = Field(description="How many wait.")
    running: int = Field(description="How many a worker has.")
    oldest: datetime = Field(description="When the oldest of both was asked for.")


class PeerLine(Shape):
    """Whether what the node sends to is up, as the last attempts have shown."""

    state: str = Field(description="`up`, `down` (nothing reaches it) or `nothing sent yet`.")
    down_since: datetime | None = Field(description="The first of the attempts in a row that failed.")
    last_success: datetime | None = Field(description="When it last took something.")
    last_failure: datetime | None = Field(description="When it last did not.")
    failure: str = Field(description="What went wrong then.")
    waiting: int = Field(description="How much is due.")
    oldest: datetime | None = Field(description="When the oldest of that was made.")
    refused: int = Field(description="How much it refused for good.")


def _of_peer(line: figures.DestinationLine | figures.WebhookLine) -> dict[str, Any]:
    seen = line.seen
    return {
        "state": seen.reach,
        "down_since": seen.down_since,
        "last_success": seen.last_success,
        "last_failure": seen.last_failure,
        "failure": seen.failure,
        "waiting": line.waiting,
        "oldest": line.oldest,
        "refused": line.refused,
    }


class DestinationLine(PeerLine):
    """What goes to one destination, results and images."""

    destination: str = Field(description="`AET@HOST:PORT`.")
    last_delivered: datetime | None = Field(description="When it last took one.")
    last_error: str = Field(description="At what was tried last of those that wait or were refused.")

    @classmethod
    def of(cls, line: figures.DestinationLine) -> Self:
        """As it was counted."""
        return cls(
            destination=line.destination,
            last_delivered=line.last_delivered,
            last_error=line.last_error,
            **_of_peer(line),
        )


class WebhookLine(PeerLine):
    """What one webhook is told."""

    webhook: str = Field(description="Its name in the settings.")

    @classmethod
    def of(cls, line: figures.WebhookLine) -> Self:
        """As it was counted."""
        return cls(webhook=line.webhook, **_of_peer(line))


class ProcessLine(Shape):
    """A process of the node that runs, or has died within a day."""

    part: str = Field(description="`analysis` or `delivery` (a worker), `sweeper` or `retriever`.")
    host: str = Field(description="Where it runs.")
    pid: int | None = Field(description="Its number there; only workers tell it.")
    state: str = Field(
        description="`idle`, `analysing`, `delivering`, `running`; `silent`: not heard for 30 s."
    )
    beaten_at: datetime = Field(description="When it was heard last.")
    started_at: datetime | None = Field(description="When a worker began.")
    model: str = Field(description="Models that an analysis worker has loaded; empty before the first.")
    device: str = Field(description="What it computes on.")
    in_hand: int = Field(description="How many analyses, or deliveries, it has.")
    busy_since: datetime | None = Field(description="Since when.")


class HealthLine(Shape):
    """One thing that the node stands on."""

    name: str = Field(description="Which.")
    ok: bool = Field(description="Whether it is in order.")
    says: str = Field(description="What there is to say of it.")


class Today(Shape):
    """Studies that were received since midnight at the hospital."""

    since: datetime = Field(description="That midnight.")
    received: int = Field(description="How many.")
    ended: int = Field(description="How many of them need no worker any more.")
    by_state: dict[str, int] = Field(
        description="By the state of their newest analysis; `receiving`: none yet."
    )


class Overview(Shape):
    """This moment."""

    today: Today = Field(description="Today's studies.")
    queue: list[QueueLine] = Field(description="What waits for a worker, the most urgent first.")
    destinations: list[DestinationLine] = Field(description="Where results and images go.")
    webhooks: list[WebhookLine] = Field(description="Who is told.")
    processes: list[ProcessLine] = Field(description="Workers, sweepers and retrievers.")


class Readiness(Shape):
    """Whether all is in order."""

    ready: bool = Field(description="Whether all lines are.")
    lines: list[HealthLine] = Field(description="One for each thing that the node stands on.")


class StandingSum(Shape):
    """How many studies are in a state."""

    verdict: str = Field(description="`settled`, `open` (on its way) or `stuck`.")
    state: str = Field(description="The state.")
    studies: int = Field(description="How many.")


class ImageSums(Shape):
    """Received objects by what became of them; `received` is the sum of all others."""

    received: int = Field(description="All of them.")
    analysed: int = Field(description="Read by their study's newest analysis.")
    not_read: int = Field(description="Given to it, but they could not be read.")
    waiting: int = Field(description="To be analysed.")
    failed: int = Field(description="Those of analyses in quarantine.")
    cancelled: int = Field(description="Those of analyses that were cancelled.")
    not_eligible: int = Field(description="Not to be analysed.")
    conflict: int = Field(description="Held: their UID had come with other pixels.")
    reasons: dict[str, int] = Field(description="Why those are not to be analysed.")


class DeliverySums(Shape):
    """Results made for one destination by what became of them; `made` is the sum of all others."""

    destination: str = Field(description="`AET@HOST:PORT`.")
    made: int = Field(description="All of them.")
    delivered: int = Field(description="It took them.")
    due: int = Field(description="They wait, or are tried again.")
    refused: int = Field(description="It refused them for good.")
    replaced: int = Field(description="It takes no such objects and got a simpler form.")
    withdrawn: int = Field(description="Superseded or cancelled before they were sent.")
    committed: int = Field(description="Delivered, and it commits to them.")
    uncommitted: int = Field(description="Delivered, and it has not answered yet whether it does.")


class Sums(Shape):
    """Received against analysed and delivered."""

    standings: list[StandingSum] = Field(description="Studies.")
    images: ImageSums = Field(description="Objects.")
    deliveries: list[DeliverySums] = Field(description="Results, by destination.")


class StuckStudy(Shape):
    """A study that moves no more by itself."""

    study_instance_uid: str = Field(description="Study Instance UID.")
    accession_number: str = Field(description="Accession number.")
    state: str = Field(description="Where it stands.")
    since: datetime = Field(description="Since when.")
    reasons: list[Reason] = Field(description="Why, and what to do.")

    @classmethod
    def of(cls, study: UnsettledStudy) -> Self:
        """As it was reckoned."""
        return cls.model_validate(study)


class Reconciliation(Shape):
    """What was reckoned last."""

    at: datetime | None = Field(description="Of which moment; null where the first one is not done yet.")
    sums: Sums | None = Field(description="Null where the first one is not done yet.")
    stuck: list[StuckStudy] = Field(description="The oldest of the studies that are stuck, 20 at most.")

    @classmethod
    def of(cls, reckoned: Reckoned | None) -> Self:
        """What there is."""
        if reckoned is None:
            return cls(at=None, sums=None, stuck=[])
        stuck = [StuckStudy.of(study) for study in reckoned.stuck]
        return cls(at=reckoned.at, sums=Sums.model_validate(reckoned.sums), stuck=stuck)


@router.get("/overview")
def overview(node: OfNode, caller: AViewer) -> Overview:
    """Today's numbers, the queue, the processes, and what the node sends to."""
    since = midnight(node.settings)
    with node.records.snapshot() as session:
        today = figures.today(session, since)
        queue = figures.queue(session)
        destinations = figures.destinations(session, node.rulebook.rules().addresses)
        webhooks = figures.webhooks(session, node.settings.webhook_names)
        processes = attendance(session, node.settings.data_dir, utc_now())
    ended = {state.value for state in AnalysisState} - set(WAITING)
    return Overview(
        today=Today(
            since=since,
            received=sum(today.values()),
            ended=sum(count for state, count in today.items() if state in ended),
            by_state=today,
        ),
        queue=[QueueLine.model_validate(line) for line in queue],
        destinations=[DestinationLine.of(line) for line in destinations],
        webhooks=[WebhookLine.of(line) for line in webhooks],
        processes=[ProcessLine.model_validate(line) for line in processes],
    )


@router.get("/readiness")
def readiness(node: OfNode, caller: AViewer) -> Readiness:
    """Whether what the node stands on is in order, with the reasons. 200 also where it is not."""
    lines = [HealthLine.model_validate(line) for line in health(node)]
    return Readiness(ready=all(line.ok for line in lines), lines=lines)


@router.get("/reconciliation")
def reconciliation(node: OfNode, caller: AViewer) -> Reconciliation:
    """Received = analysed = delivered, or what is missing. Reckoned beside the requests: see `at`."""
    return Reconciliation.of(node.reckoning.within(AT_ONCE_SECONDS))
