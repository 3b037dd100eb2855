"""What the node does all the time and what people ask of it, as the calls that its own parts make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.years import DESTINATION, MODEL
from service.completion import Completion
from service.eligibility import Eligibility
from service.peers import Destination
from service.records import analyses, deliveries, figures, overview, reconciliation, worklist
from service.records.database import Records, utc_now
from service.records.retry import Retry
from service.records.selection import Selection
from service.records.standing import Question
from service.rules.rulebook import Rulebook
from service.settings import load_settings

_LEASE: Final = timedelta(minutes=2)
_RETRY: Final = Retry(first=timedelta(0), maximum=timedelta(0), maximum_attempts=5)
_PAGE: Final = "the list"


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that the node does.

    Attributes:
        name: What, for people.
        do: The node's own function.
        of_all: Whether it is meant to look at everything.
    """

    name: str
    do: Callable[[Records], object]
    of_all: bool = False


def work() -> list[Deed]:
    """What goes on all the time, and must cost the same however much is recorded."""
    destination = Destination.parse(DESTINATION)
    completion = _completion()
    return [
        Deed("claim four analyses", _claim),
        Deed("sweep: adopt what waits for a former model", completion.adopt_waiting),
        Deed("sweep: complete what is due", completion.complete_due),
        Deed("sweep: count what waits", _count),
        Deed("destinations with something due", deliveries.destinations_due),
        Deed(
            "claim fifty deliveries",
            lambda records: deliveries.claim(records, destination, limit=50, lease=_LEASE),
        ),
        Deed("write a delivery that was sent", _send),
    ]


def looks() -> list[Deed]:
    """What people ask."""
    day = utc_now() - timedelta(days=400)
    selections = {
        "first page": Selection(),
        "received on one day": Selection(since=day, until=day + timedelta(days=1)),
        "state failed": Selection(states=("failed",)),
        "state refused": Selection(states=("refused",)),
        "state delivering": Selection(states=("delivering",)),
        "state queued": Selection(states=("queued",)),
        "state delivered": Selection(states=("delivered",)),
        "a common finding": Selection(label="Cardiomegaly"),
        "a rare finding": Selection(label="Rib fracture"),
        "an accession number": Selection(studies=("A0000000500",)),
        "the beginning of a UID": Selection(studies=("1.2.826.0.1.3680043.10.4.0000000",)),
        "a study date": Selection(study_dates_from=f"{day:%Y%m%d}", study_dates_to=f"{day:%Y%m%d}"),
    }
    pages = [
        Deed(f"{_PAGE}: {name}", _reading(worklist.page_of, selection))
        for name, selection in selections.items()
    ]
    return [
        *pages,
        Deed("the command `studies`", _reading(overview.list_studies)),
        Deed("the overview: today", _reading(figures.today, utc_now() - timedelta(hours=12))),
        Deed("the overview: what waits", _reading(figures.queue)),
        Deed("the overview: destinations", _reading(figures.destinations, (DESTINATION,))),
        Deed("the overview: webhooks", _reading(figures.webhooks, ())),
        Deed("reconcile: the sums", _reading(reconciliation.sum_up, _question()), of_all=True),
        Deed(
            "reconcile: the oldest fifty that are stuck",
            _reading(lambda session: list(reconciliation.unsettled(session, _question(), 50))),
            of_all=True,
        ),
    ]


def _completion() -> Completion:
    settings = load_settings(data_dir=Path("/nonexistent"))
    return Completion(timedelta(0), timedelta(minutes=1), MODEL, Eligibility.of(settings), Rulebook(settings))


def _question() -> Question:
    return Question(utc_now(), timedelta(hours=1))


def _claim(records: Records) -> list[Any]:
    return analyses.claim(
        records, model_id=MODEL.id, model_version=MODEL.version, limit=4, lease=_LEASE, retry=_RETRY
    )


def _count(records: Records) -> None:
    with records.reading() as session:
        analyses.count_due(session)
        deliveries.count_due(session)


def _send(records: Records) -> None:
    (claim,) = deliveries.claim(records, Destination.parse(DESTINATION), limit=1, lease=_LEASE)
    deliveries.begin(records, claim, _LEASE)
    deliveries.sent(records, claim, "0x0000", 0.1)


def _reading(function: Callable[..., object], *arguments: object) -> Callable[[Records], object]:
    def ask(records: Records) -> object:
        with records.snapshot() as session:
            return function(session, *arguments)

    return ask
