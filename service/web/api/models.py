"""The models of the node, and what each of them has read."""

from __future__ import annotations

from datetime import datetime
from typing import Self

from fastapi import APIRouter
from pydantic import Field

from service.models.figures import ModelFigures
from service.models.roster import KnownModel
from service.web.api.callers import AdmittingRoute, AViewer
from service.web.api.problems import responses
from service.web.api.shapes import Shape
from service.web.node import OfNode, roster_of_node

router = APIRouter(route_class=AdmittingRoute, tags=["overview"], responses=responses())


class HasRead(Shape):
    """What one model has read, for patients and as a shadow."""

    studies: int = Field(description="Studies that it has read.")
    images: int = Field(description="Images in them that it could read, each as often as it did.")
    waiting: int = Field(description="Analyses that wait or run.")
    failed: int = Field(description="Analyses in quarantine.")
    reported: dict[str, int] = Field(description="Findings that reached their threshold, by label.")


class ModelLine(Shape):
    """A model that the node knows, or knew."""

    model: str = Field(description="Id and version, as `rerun` takes it.")
    state: str = Field(description="`active`, `shadow`, `available`, `retired`; `gone`: it once read.")
    demonstration: bool = Field(description="Whether it is only a demonstration, not for clinical use.")
    added_at: datetime | None = Field(description="When it was added; none of the settings' model.")
    activated_at: datetime | None = Field(description="Since when it is what it is.")
    read: HasRead | None = Field(description="None until it has been counted.")

    @classmethod
    def of(cls, model: KnownModel, figures: ModelFigures | None) -> Self:
        """One that the node knows."""
        return cls(
            model=str(model),
            state=model.state,
            demonstration=model.identity.demonstration,
            added_at=model.added_at,
            activated_at=model.activated_at,
            read=HasRead.model_validate(figures, from_attributes=True) if figures else None,
        )

    @classmethod
    def of_former(cls, figures: ModelFigures) -> Self:
        """One of which the node has no more than what it has read."""
        return cls(
            model=figures.name,
            state="gone",
            demonstration=figures.demonstration,
            added_at=None,
            activated_at=None,
            read=HasRead.model_validate(figures, from_attributes=True),
        )


class Models(Shape):
    """All of them."""

    models: list[ModelLine] = Field(description="The active one first, then the shadow, then the others.")
    counted_at: datetime | None = Field(description="When what they have read was counted; work of a while.")


@router.get("/models")
def models(node: OfNode, caller: AViewer) -> Models:
    """Which models there are, and what each of them has read."""
    roster = roster_of_node(node)
    counted = node.counted_by_model()
    read = {one.name: one for one in counted.models} if counted else {}
    lines = [ModelLine.of(model, read.pop(str(model), None)) for model in roster.models]
    lines += map(ModelLine.of_former, read.values())
    return Models(models=lines, counted_at=counted.at if counted else None)
