"""Actions on studies, as at the command line and on the pages: one at a time, each in the audit."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from service.actions.action import Action
from service.actions.analysing import Cancel, Force, Rerun, Retry
from service.actions.deciding import KeepFirst, TakeLater
from service.actions.resending import Resend
from service.archive import Archive
from service.completion import Completion
from service.errors import NotThere, SettingsError, TryAgain, WrongState
from service.models.roster import KnownModel
from service.records.states import ModelState, Priority
from service.web.api.callers import AdmittingRoute, AnOperator, Caller
from service.web.api.choosing import Chosen, Words, selection_of
from service.web.api.footing import Footing, OfAPI
from service.web.api.problems import responses
from service.web.deeds import Deed
from service.web.node import Node, OfNode, roster_of_node
from service.web.problems import API

_AT_ONCE_SECONDS: Final = 1.0
"""What is done so soon is answered at once."""

PriorityChoice = Literal["stat", "routine", "backlog"]


class Progress(BaseModel):
    """An action that is under way, or what came of it."""

    id: str = Field(description="Names it at `/works`.")
    action: str = Field(description="Which.")
    who: str = Field(description="Who asked.")
    dry_run: bool = Field(description="Whether it changes nothing.")
    state: Literal["running", "done", "failed"] = Field(
        description="What was done before it failed stays done."
    )
    studies: int = Field(description="How many it has come past.")
    outcome: dict[str, int] | None = Field(
        description="How many studies (of `resend`: results) met which end; null until it is done."
    )
    error: str = Field(description="Why it failed.")

    @classmethod
    def of(cls, work: Deed) -> Self:
        """A work as it is now."""
        over = work.ended.is_set()
        return cls(
            id=work.id,
            action=work.action.name,
            who=work.who,
            dry_run=work.rehearsal,
            state="running" if not over else "failed" if work.error else "done",
            studies=work.studies,
            outcome=None if not over or work.tally is None else dict(work.tally),
            error=work.error if over else "",
        )


class Asked(BaseModel):
    """On which studies."""

    model_config = ConfigDict(extra="forbid", strict=True)

    studies: Chosen = Field(
        description='Study Instance UIDs, or conditions of which at least one is given, or "all".'
    )
    dry_run: bool = Field(False, description="Say what would come of it; change nothing.")


class AskedRerun(Asked):
    """How to re-run."""

    model: Words | None = Field(
        None,
        description="By which model of the node, its id and version, or a version that no other has; null: "
        "the active one. What a shadow reads is compared, and goes to nobody.",
    )
    priority: PriorityChoice = Field("backlog", description="How soon; today's patients are `routine`.")


class AskedRetry(Asked):
    """How to retry."""

    priority: PriorityChoice | None = Field(None, description="How soon, if not as soon as it was.")


class AskedResend(Asked):
    """How to send again."""

    to: Words | None = Field(None, description="Only to this destination of the node, `AET@HOST:PORT`.")
    again: bool = Field(False, description="What was delivered, too.")
    priority: PriorityChoice = Field("routine", description="How soon.")


_POLLED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": Progress,
        "description": "It takes longer: ask at `Location` until its state is another.",
        "headers": {"Location": {"schema": {"type": "string"}, "description": "Where the work is."}},
    }
}

router = APIRouter(route_class=AdmittingRoute, tags=["actions"], responses=responses(404))
_actions = APIRouter(
    route_class=AdmittingRoute, prefix="/actions", responses={**_POLLED, **responses(400, 404, 409, 413)}
)


@_actions.post("/rerun")
def rerun(asked: AskedRerun, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Progress:
    """Have the active model, or another, read studies again; what it has read as they are now stays."""
    model = _model(asked.model, node) if asked.model else None
    completion, priority = _completion(node), Priority[asked.priority.upper()]
    action = Rerun.by(model, completion, priority) if model else Rerun(completion, priority)
    return _begin(action, asked, response, node, api, caller)


@_actions.post("/retry")
def retry(asked: AskedRetry, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Progress:
    """Take studies out of quarantine and analyse them, with all attempts before them again."""
    action = Retry(Priority[asked.priority.upper()] if asked.priority else None)
    return _begin(action, asked, response, node, api, caller)


@_actions.post("/resend")
def resend(asked: AskedResend, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Progress:
    """Send results again that a destination refused."""
    to = node.destination(asked.to) if asked.to else None
    action = Resend(to, asked.again, Priority[asked.priority.upper()])
    return _begin(action, asked, response, node, api, caller)


@_actions.post("/force")
def force(asked: Asked, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Progress:
    """Complete studies now, without waiting for their quiet period."""
    return _begin(Force(_completion(node)), asked, response, node, api, caller)


@_actions.post("/cancel")
def cancel(asked: Asked, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Progress:
    """End what is under way: analyses that wait or run, and results that are due."""
    return _begin(Cancel(caller.who), asked, response, node, api, caller)


@_actions.post("/keep-first")
def keep_first(asked: Asked, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Progress:
    """End conflicts: the image that came first stays, what came later under its UID is set aside."""
    return _begin(KeepFirst(), asked, response, node, api, caller)


@_actions.post("/take-later")
def take_later(asked: Asked, response: Response, node: OfNode, api: OfAPI, caller: AnOperator) -> Progress:
    """End conflicts: what came last under a UID is the image, the others are set aside, and the study is read
    again."""
    action = TakeLater(_completion(node), Archive(node.settings.data_dir))
    return _begin(action, asked, response, node, api, caller)


router.include_router(_actions)


@router.get("/works/{work_id}")
def work(
    work_id: Annotated[str, Path(max_length=40, pattern=r"^[A-Za-z0-9_-]+$")], api: OfAPI, caller: AnOperator
) -> Progress:
    """How far an action is, or what came of it. Forgotten when the node stops; the audit keeps it."""
    found = api.deeds.find(work_id)
    if found is None:
        raise NotThere("That is long over, or the node was started anew since. The audit has it.")
    return Progress.of(found)


def _begin(
    action: Action, asked: Asked, response: Response, node: Node, api: Footing, caller: Caller
) -> Progress:
    begun = Deed(
        who=caller.who,
        action=action,
        selection=selection_of(asked.studies, node.records, node.settings.zone),
        asked=(),
        rehearsal=asked.dry_run,
    )
    api.deeds.begin(node.records, begun)
    if not begun.ended.wait(_AT_ONCE_SECONDS):
        response.status_code = 202
        response.headers["Location"] = f"{API}/works/{begun.id}"
    return Progress.of(begun)


def _completion(node: Node) -> Completion:
    try:
        return Completion.at_present(node.settings, node.records)
    except SettingsError as error:
        # The rules' file is wrong, and not what was asked.
        raise TryAgain(str(error)) from None


def _model(name: str, node: Node) -> KnownModel:
    roster = roster_of_node(node)
    try:
        model = roster.called(name)
    except SettingsError as error:
        raise NotThere(str(error)) from None
    if model.state is ModelState.RETIRED:
        raise WrongState(f"{model} is retired: it reads nothing any more")
    return model
