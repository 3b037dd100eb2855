"""Actions on one study, or on all that a filter means: a rehearsal first, then the deed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from service.actions.action import Action
from service.actions.analysing import Cancel, Force, Rerun, Retry
from service.actions.deciding import KeepFirst, TakeLater
from service.actions.resending import Resend
from service.archive import Archive
from service.completion import Completion
from service.errors import NeverAgain, SettingsError
from service.records.states import Priority, Role
from service.web.deeds import Deed
from service.web.filters import Filters
from service.web.node import Node, OfNode, roster_of_node
from service.web.pages.footing import OfPages
from service.web.visitors import AForm, AnOperator, Visitor

router = APIRouter()

_AT_ONCE_SECONDS: Final = 1.0
"""What is done so soon needs no page that says it goes on."""

_OPTIONS: Final = ("priority", "by", "to", "again")
"""``by`` is a model that is to read; ``model`` is the one of the filters, that has read."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An action as it is offered: what it says it does, and its options."""

    name: str
    title: str
    does: str
    options: tuple[str, ...] = ()
    priority: str = ""
    in_conflict: bool = False
    """Whether it is offered only where there is a conflict."""


ACTIONS: Final = (
    Offer("rerun", "Re-run", "The active model reads them again, or another.", ("priority", "by"), "backlog"),
    Offer("retry", "Retry", "Takes them out of quarantine.", ("priority",), ""),
    Offer(
        "resend",
        "Resend",
        "Results that were refused are sent again.",
        ("priority", "to", "again"),
        "routine",
    ),
    Offer("force", "Complete now", "Without waiting for the quiet period."),
    Offer("cancel", "Cancel", "Ends what waits or runs, and what is due."),
    Offer(
        "keep-first",
        "Keep the first",
        "Ends conflicts: the image that came first stays, what came later under its UID is set aside.",
        in_conflict=True,
    ),
    Offer(
        "take-later",
        "Take the later",
        "Ends conflicts: what came last under a UID is the image, the others are set aside, "
        "and the study is read again.",
        in_conflict=True,
    ),
)


def offers(visitor: Visitor, in_conflict: bool) -> tuple[Offer, ...]:
    """What a visitor may do to studies, of which some may be in conflict."""
    if not visitor.may(Role.OPERATOR):
        return ()
    return tuple(offer for offer in ACTIONS if in_conflict or not offer.in_conflict)


@router.get("/actions/{name}")
def choose(request: Request, name: str, node: OfNode, pages: OfPages, visitor: AnOperator) -> Response:
    """Which action, on which studies, with which options; nothing is done yet."""
    filters = Filters.read(request.query_params)
    filters.selection(node.settings.zone)
    return pages.rendering.page(
        request,
        "action.html",
        visitor,
        offer=_offer(name),
        filters=filters,
        priorities=[str(priority) for priority in Priority],
        destinations=node.rulebook.rules().addresses,
        models=roster_of_node(node).readers if name == "rerun" else (),
    )


@router.post("/actions/{name}")
def act(name: str, node: OfNode, pages: OfPages, visitor: AnOperator, form: AForm) -> Response:
    """Begins a rehearsal, or the deed where ``step`` says ``do``."""
    filters = Filters.read(form)
    options = tuple((key, str(form[key])) for key in _OPTIONS if form.get(key))
    deed = Deed(
        who=visitor.name,
        action=_action(_offer(name), form, node, visitor.name),
        selection=filters.selection(node.settings.zone),
        asked=(*filters.given(), *options),
        rehearsal=form.get("step") != "do",
    )
    pages.deeds.begin(node.records, deed)
    deed.ended.wait(_AT_ONCE_SECONDS)
    return RedirectResponse(f"/works/{deed.id}", 303)


@router.get("/works/{work_id}")
def work(request: Request, work_id: str, pages: OfPages, visitor: AnOperator) -> Response:
    """How far it is, what came of it, and after a rehearsal the button that does it."""
    return _work_page(request, work_id, pages, visitor, "work.html")


@router.get("/works/{work_id}/now")
def work_now(request: Request, work_id: str, pages: OfPages, visitor: AnOperator) -> Response:
    """What changes on that page."""
    return _work_page(request, work_id, pages, visitor, "work_now.html")


def _work_page(
    request: Request, work_id: str, pages: OfPages, visitor: AnOperator, template: str
) -> Response:
    found = pages.deeds.find(work_id)
    if found is None:
        raise NeverAgain("That is long over, or the node was started anew since. The audit has it.")
    filters = Filters.read(dict(found.asked))
    return pages.rendering.page(
        request,
        template,
        visitor,
        work=found,
        offer=_offer(found.action.name),
        filters=filters,
        back=f"/studies/{filters.study}" if _is_one(filters) else f"/studies{filters.query()}",
    )


def _is_one(filters: Filters) -> bool:
    """Whether a single study is meant, by its UID."""
    return filters.given() == (("study", filters.study),) and "." in filters.study


def _offer(name: str) -> Offer:
    offer = next((offer for offer in ACTIONS if offer.name == name), None)
    if offer is None:
        raise NeverAgain("There is no such action.")
    return offer


def _action(offer: Offer, form: FormData, node: Node, who: str) -> Action:
    if offer.name == "retry":
        return Retry(_priority(form) if form.get("priority") else None)
    if offer.name == "cancel":
        return Cancel(who)
    if offer.name == "keep-first":
        return KeepFirst()
    if offer.name == "resend":
        to = node.destination(address) if (address := str(form.get("to") or "")) else None
        return Resend(to, bool(form.get("again")), _priority(form, offer.priority))
    completion = Completion.at_present(node.settings, node.records)
    if offer.name == "force":
        return Force(completion)
    if offer.name == "take-later":
        return TakeLater(completion, Archive(node.settings.data_dir))
    priority, by = _priority(form, offer.priority), str(form.get("by") or "")
    if not by:
        return Rerun(completion, priority)
    return Rerun.by(roster_of_node(node).reader_called(by), completion, priority)


def _priority(form: FormData, default: str = "") -> Priority:
    name = str(form.get("priority") or default)
    if name.upper() not in Priority.__members__:
        raise SettingsError(f"There is no priority {name}.")
    return Priority[name.upper()]
