"""Ordering a job that retrieves old studies: counted first, which retrieves nothing, or made at once."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Path, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from service.eligibility import MODALITIES
from service.errors import NotThere, SettingsError, WrongState
from service.records import retrieval_jobs
from service.records.database import utc_now
from service.retrieval.order import LEAST_RATE, Order, read_filters, read_rate, read_source, read_window
from service.settings import Settings
from service.web.api.callers import AdmittingRoute, AnOperator, Caller
from service.web.api.choosing import Day, Words, maybe
from service.web.api.footing import Footing, OfAPI
from service.web.api.jobs import Job
from service.web.api.problems import responses
from service.web.counts import Count
from service.web.node import Node, OfNode
from service.web.problems import API
from service.wire.retrieval import Method

router = APIRouter(
    route_class=AdmittingRoute, prefix="/jobs", tags=["retrieval jobs"], responses=responses(400, 409, 413)
)

_AT_ONCE_SECONDS: Final = 1.0
"""What is counted so soon is answered at once."""

_MOST_NUMBERS: Final = 5_000
_HOUR: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]"

_LITERAL: Final = r"!-)+->@-\[\]-~\u00c0-\u024f"
"""What may stand in what a PACS is asked for as it stands: no ``*``, ``?`` or backslash (PS3.4 C.2.2.2)."""


def _of(length: int) -> Any:
    """A text that matches itself alone, of so many characters at most."""
    return Field(pattern=rf"^[{_LITERAL}]([ {_LITERAL}]{{0,{length - 2}}}[{_LITERAL}])?$")


_RATE: Final = {"anyOf": [{"const": 0}, {"type": "number", "minimum": LEAST_RATE, "maximum": 1e6}]}
Rate = Annotated[float, Field(le=1e6), AfterValidator(read_rate), WithJsonSchema(_RATE)]
_TITLE: Final = r"!-?A-\[\]-~"
_HOST: Final = r"([A-Za-z0-9.-]{1,200}|\[[0-9a-fA-F:]{2,39}\])"
_PORT: Final = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
Address = Annotated[str, Field(pattern=rf"^[{_TITLE}]([ {_TITLE}]{{0,14}}[{_TITLE}])?@{_HOST}:{_PORT}$")]


class Ordered(BaseModel):
    """Which studies, from where, and how."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "anyOf": [{"required": [name]} for name in ("since", "patient_id", "accession_numbers")],
            "dependentRequired": {"until": ["since"]},
        },
    )

    source: Address = Field(description="The PACS, `AET@HOST:PORT`.")
    since: Day = maybe("First Study Date. This, a patient or accession numbers must be given.")
    until: Day = maybe("Last Study Date, from `since` on; today, where only that is given.")
    modalities: list[Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]] = Field(
        list(MODALITIES), min_length=1, max_length=20, description="Of a study's series, one of them."
    )
    body_part: Words = maybe("In Body Part Examined; costs a question for each study.")
    patient_id: Annotated[str, _of(64)] = maybe("Patient ID: studies of this patient.")
    accession_numbers: list[Annotated[str, _of(16)]] = maybe(
        "One of these.", min_length=1, max_length=_MOST_NUMBERS
    )
    method: Literal["move", "get"] = Field("move", description="By C-MOVE to the node, or by C-GET.")
    again: bool = Field(False, description="Retrieve studies, too, that the node has already.")
    rate_per_hour: Rate = Field(0.0, description="Studies an hour at most; 0: no limit.")
    daily_window: Annotated[str, Field(pattern=rf"^{_HOUR}-{_HOUR}$")] = maybe(
        "`HH:MM-HH:MM`: only then, each day, in the node's time zone; from and to are not the same."
    )

    def order(self, settings: Settings) -> Order:
        """What becomes a job.

        Raises:
            SettingsError: If it asks for nothing, or for what cannot be asked for.
        """
        try:
            return Order(
                source=read_source(self.source),
                filters=read_filters(
                    utc_now().astimezone(settings.zone).date(),
                    *self._days(settings),
                    modalities=tuple(self.modalities),
                    body_part=self.body_part or "",
                    patient_id=self.patient_id or "",
                    accession_numbers=tuple(dict.fromkeys(self.accession_numbers or ())),
                ),
                method=Method(self.method),
                again=self.again,
                rate_per_hour=self.rate_per_hour,
                daily_window=read_window(self.daily_window or ""),
            )
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def _days(self, settings: Settings) -> tuple[date | None, date | None]:
        since, until = (date.fromisoformat(day) if day else None for day in (self.since, self.until))
        if since and until is None:
            until = max(since, utc_now().astimezone(settings.zone).date())
        return since, until


class Counted(BaseModel):
    """What a job would retrieve, as far as it is counted."""

    id: str = Field(description="Names it at `/jobs/counts`.")
    state: Literal["running", "done", "failed"] = Field(description="Whether the PACS has answered all.")
    questions: int = Field(description="How many questions the PACS is asked; 0 before the first.")
    asked: int = Field(description="How many of them it has answered.")
    studies: int = Field(description="How many studies there are so far.")
    objects: int | None = Field(description="All of their objects; null where the PACS does not say.")
    here: int = Field(description="Of how many of these studies the node has something.")
    job: int | None = Field(description="The job that was made of it.")
    error: str = Field(description="Why it could not be counted.")

    @classmethod
    def of(cls, work: Count) -> Self:
        """A count as it is now."""
        over, seen = work.ended.is_set(), work.foreseen
        return cls(
            id=work.id,
            state="running" if not over else "failed" if work.error else "done",
            questions=seen.questions if seen else 0,
            asked=seen.asked if seen else 0,
            studies=seen.studies if seen else 0,
            objects=None if seen is None or seen.uncounted else seen.objects,
            here=seen.here if seen else 0,
            job=work.job_id,
            error=work.error if over else "",
        )


_LOCATION: Final = {"schema": {"type": "string"}, "description": "Where it is."}
_COUNTING: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": Counted,
        "description": "It takes longer: ask at `Location` until its state is another.",
        "headers": {"Location": _LOCATION},
    }
}
_MADE: Final[dict[int | str, dict[str, Any]]] = {
    201: {"description": "The job.", "headers": {"Location": _LOCATION}}
}

CountID = Annotated[str, Path(max_length=40, pattern=r"^[A-Za-z0-9_-]+$", description="A count's name.")]


@router.post("", status_code=201, responses=_MADE)
def order(ordered: Ordered, response: Response, node: OfNode, caller: AnOperator) -> Job:
    """Make a job that retrieves old studies; the PACS is not asked before the job is."""
    with node.records.writing() as session:
        job_id = ordered.order(node.settings).place(session, caller.who, utc_now())
    return _made(job_id, response, node)


@router.post("/counts", responses=_COUNTING)
def count(ordered: Ordered, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Counted:
    """Count what such a job would retrieve; nothing is retrieved. A client's former count is broken off."""
    begun = Count(who=caller.who, order=ordered.order(node.settings), asked=(), settings=node.settings)
    api.counts.begin(node.records, begun)
    if not begun.ended.wait(_AT_ONCE_SECONDS):
        response.status_code = 202
        response.headers["Location"] = f"{API}/jobs/counts/{begun.id}"
    return Counted.of(begun)


@router.get("/counts/{count_id}", responses=responses(404))
def counted(count_id: CountID, api: OfAPI, caller: AnOperator) -> Counted:
    """How far a count of this client is. Forgotten when the node stops."""
    return Counted.of(_find(count_id, api, caller))


@router.post("/counts/{count_id}", status_code=201, responses={**_MADE, **responses(404)})
def place(count_id: CountID, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Job:
    """Make the job that was counted, once however often it is asked; also while the PACS still answers."""
    found = _find(count_id, api, caller)
    if found.error and found.job_id is None:
        raise WrongState(f"No job was made: {found.error}")
    return _made(found.place(node.records), response, node)


def _find(count_id: str, api: Footing, caller: Caller) -> Count:
    found = api.counts.find_of(caller.who, count_id)
    if found is None:
        raise NotThere("That is long over, or the node was started anew since. No job was made.")
    return found


def _made(job_id: int, response: Response, node: Node) -> Job:
    response.headers["Location"] = f"{API}/jobs/{job_id}"
    with node.records.snapshot() as session:
        return Job.of(retrieval_jobs.show_job(session, job_id))
