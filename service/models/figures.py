"""What each model has read, counted from the records: work of some seconds where studies are very many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, distinct, func, select
from sqlalchemy.orm import Session

from litegpt.vocabulary import LABELS
from service.models.roster import KnownModel, Roster
from service.records.database import utc_now
from service.records.states import WAITING, AnalysisState
from service.records.tables import Analysis, AnalysisImage, Finding

_BY: Final = (Analysis.model_id, Analysis.model_version)
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What one version of a model has read, for patients and as a shadow.

    Attributes:
        id, version: Of the model.
        demonstration: Whether it is only a demonstration.
        known: What the node knows of it; ``None`` where it only has its analyses.
        studies: Studies that it has read.
        images: Images in them that it could read, each as often as it did.
        failed: Analyses in quarantine.
        waiting: Analyses that wait or run.
        reported: Findings that reached their threshold, by label.
    """

    id: str
    version: str
    demonstration: bool
    known: KnownModel | None
    studies: int = 0
    images: int = 0
    failed: int = 0
    waiting: int = 0
    reported: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Id and version, as a filter names it."""
        return f"{self.id} {self.version}"

    def per_hundred_images(self, label: str) -> float | None:
        """How many findings of a label it reports in a hundred images."""
        return 100 * self.reported.get(label, 0) / self.images if self.images else None


@dataclass(frozen=True, slots=True)
class FiguresByModel:
    """All of them at one moment: those that the node knows in its order, then the others by name."""

    at: datetime
    models: tuple[ModelFigures, ...]

    @property
    def labels(self) -> list[str]:
        """Those that any of them has reported, in the vocabulary's order."""
        there = {label for model in self.models for label in model.reported}
        order = {label: place for place, label in enumerate(LABELS)}
        return sorted(there, key=lambda label: (order.get(label, len(order)), label))


def figures_by_model(session: Session, roster: Roster) -> FiguresByModel:
    """Counts what each model has read."""
    known = {(model.identity.id, model.identity.version): model for model in roster.models}
    demonstrations = {key: model.identity.demonstration for key, model in known.items()}
    counts: dict[Key, dict[AnalysisState, int]] = defaultdict(dict)
    split = (*_BY, Analysis.state, Analysis.demonstration)
    for *key, state, demonstration, number in session.execute(select(*split, func.count()).group_by(*split)):
        by_state = counts[_key(key)]
        by_state[AnalysisState(state)] = by_state.get(AnalysisState(state), 0) + number
        demonstrations[_key(key)] = demonstrations.get(_key(key), False) or demonstration
    studies, images = _numbers(session, _studies()), _numbers(session, _images())
    reported: dict[Key, dict[str, int]] = defaultdict(dict)
    for *key, label, number in session.execute(_reported()):
        reported[_key(key)][label] = number
    models = tuple(
        ModelFigures(
            *key,
            demonstration=demonstrations[key],
            known=known.get(key),
            studies=studies.get(key, 0),
            images=images.get(key, 0),
            failed=counts[key].get(AnalysisState.FAILED, 0),
            waiting=sum(counts[key].get(state, 0) for state in WAITING),
            reported=reported[key],
        )
        for key in [*known, *sorted(set(counts) - set(known))]
    )
    return FiguresByModel(utc_now(), models)


def _key(columns: list[Any]) -> Key:
    return columns[0], columns[1]


def _numbers(session: Session, statement: Select[str, str, int]) -> dict[Key, int]:
    return {(row[0], row[1]): row[2] for row in session.execute(statement)}


def _studies() -> Select[str, str, int]:
    counted = select(*_BY, func.count(distinct(Analysis.study_id)))
    return counted.where(Analysis.state == AnalysisState.DONE).group_by(*_BY)


def _images() -> Select[str, str, int]:
    counted = select(*_BY, func.count()).join(AnalysisImage, AnalysisImage.analysis_id == Analysis.id)
    return counted.where(Analysis.state == AnalysisState.DONE, AnalysisImage.not_read == "").group_by(*_BY)


def _reported() -> Select[str, str, str, int]:
    counted = select(*_BY, Finding.label, func.count()).join(Analysis, Analysis.id == Finding.analysis_id)
    done = (Analysis.state == AnalysisState.DONE, Finding.reported)
    return counted.where(*done).group_by(*_BY, Finding.label)
