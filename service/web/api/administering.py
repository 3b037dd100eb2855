"""For admins: the audit, and the settings without what is secret in them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from service.records import journal
from service.web.api.callers import AdmittingRoute, AnAdmin
from service.web.api.paging import Before
from service.web.api.problems import responses
from service.web.api.shapes import AuditEvent, Shape
from service.web.node import OfNode
from service.web.pages.configuration import lines_of

router = APIRouter(route_class=AdmittingRoute, tags=["administration"], responses=responses())

_ROWS: Final = 100


class EventPage(BaseModel):
    """A page of the audit, newest first."""

    events: list[AuditEvent] = Field(description=f"At most {_ROWS}.")
    next: int | None = Field(description="Give this as `before` for the next page; null at the end.")


class Setting(Shape):
    """One setting, as this process sees it."""

    name: str = Field(description="As `node.toml` has it.")
    variable: str = Field(description="As the environment has it.")
    value: str = Field(description="As it would be written; passwords in it are masked.")
    default: bool = Field(description="Whether that is the default.")
    meaning: str = Field(description="What it is for.")


class Rule(Shape):
    """One of the hospital's rules; the first that holds wins."""

    name: str = Field(description="Its name; `default` stands last.")
    decision: str = Field(description="What is done, in words.")
    conditions: str = Field(description="If what, in words; empty where nothing is asked.")


class SettingList(BaseModel):
    """All of them, and the rules."""

    settings: list[Setting] = Field(description="In the order of the documentation.")
    study_rules: list[Rule] = Field(description="Which studies are read, and how soon.")
    result_rules: list[Rule] = Field(description="Where results go.")
    rules_complaint: str = Field(description="Why their file is not in force as it is; empty where it is.")


@router.get("/audit")
def audit(
    node: OfNode,
    caller: AnAdmin,
    page: Annotated[Before, Query()],
) -> EventPage:
    """A page of the audit: who did what, of which studies."""
    with node.records.reading() as session:
        events = journal.events(session, page.before, _ROWS + 1)
    following = events[_ROWS - 1].id if len(events) > _ROWS else None
    return EventPage(events=[AuditEvent.model_validate(event) for event in events[:_ROWS]], next=following)


@router.get("/settings")
def settings(node: OfNode, caller: AnAdmin) -> SettingList:
    """The settings as this process sees them, and the rules that are in force."""
    rules = node.rulebook.rules()
    return SettingList(
        settings=[Setting.model_validate(line) for line in lines_of(node.settings)],
        study_rules=[Rule.model_validate(rule) for rule in rules.study],
        result_rules=[Rule.model_validate(rule) for rule in rules.result],
        rules_complaint=node.rulebook.complaint(),
    )
