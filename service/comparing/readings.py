"""What two models said of the same images, as the records have it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, NamedTuple

from sqlalchemy import Executable, and_, or_, select

from litegpt.boxes import Box
from service.errors import SettingsError
from service.records.database import Records
from service.records.selection import Selection
from service.records.states import AnalysisState
from service.records.tables import Analysis, AnalysisImage, Finding, Study

PAGE: Final = 200
"""Studies read at once."""


@dataclass(frozen=True, slots=True)
class ReadingModel:
    """A model that analyses in the records are by.

    Attributes:
        id: Name of the model.
        version: Version of its weights.
        demonstration: Whether it is only a demonstration.
    """

    id: str
    version: str
    demonstration: bool

    def __str__(self) -> str:
        return f"{self.id} {self.version}"


@dataclass(slots=True)
class Opinion:
    """What a model says of a label in one image.

    Attributes:
        score: The highest of its findings of it, reported or not.
        reported: Whether one of them is.
        boxes: Of those that are.
    """

    score: float
    reported: bool = False
    boxes: list[Box] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """One more finding of the label."""
        self.score = max(self.score, finding.score)
        self.reported |= finding.reported
        if finding.reported and finding.corners is not None:
            self.boxes.append(Box(*finding.corners))


Opinions = dict[str, Opinion]
"""Of one image, by label."""


class StudyReadings(NamedTuple):
    """The images of a study that both models read: what the first says of each, and what the second does."""

    study_id: int
    study_instance_uid: str
    accession_number: str
    images: list[tuple[Opinions, Opinions]]


def models_named(records: Records, names: Sequence[str]) -> list[ReadingModel]:
    """The models that are called so: by id and version, or by a version that no other model has.

    Raises:
        SettingsError: If one of them has no analysis in the records, or a version is that of several models.
    """
    with records.reading() as session:
        rows = session.execute(
            select(Analysis.model_id, Analysis.model_version, Analysis.demonstration)
            .distinct()
            # Of a model that was both, "demonstration" is the word that stays.
            .order_by(Analysis.model_id, Analysis.model_version, Analysis.demonstration)
        )
        known = {(row[0], row[1]): ReadingModel(*row) for row in rows}
    return [_named(name, list(known.values())) for name in names]


def _named(name: str, known: Sequence[ReadingModel]) -> ReadingModel:
    meant = [model for model in known if name == str(model)] or [
        model for model in known if name == model.version
    ]
    if len(meant) != 1:
        there = ", ".join(map(str, meant or known)) or "none"
        raise SettingsError(
            f"{'more than one' if meant else 'no'} model is called {name!r}; there are: {there}"
        )
    return meant[0]


def pages(
    records: Records, selection: Selection, first: ReadingModel, second: ReadingModel
) -> Iterator[tuple[int, list[StudyReadings]]]:
    """How many studies a page has, and those of them with images that both models read.

    Where one model read an image more than once, its newest analysis counts.

    Raises:
        OutOfResources: If the database is away.
    """
    for study_ids in selection.pages(records, PAGE):
        with records.reading() as session:
            page = _gathered(session.execute(_query(study_ids, first, second)), first)
        yield len(study_ids), page


def _query(study_ids: Sequence[int], *models: ReadingModel) -> Executable:
    by_either = or_(
        *(and_(Analysis.model_id == one.id, Analysis.model_version == one.version) for one in models)
    )
    found = and_(
        Finding.analysis_id == AnalysisImage.analysis_id, Finding.instance_id == AnalysisImage.instance_id
    )
    return (
        select(Study, Analysis, AnalysisImage.instance_id, Finding)
        .join(Analysis, Analysis.study_id == Study.id)
        .join(AnalysisImage, AnalysisImage.analysis_id == Analysis.id)
        .outerjoin(Finding, found)
        .where(
            Study.id.in_(study_ids),
            Analysis.state == AnalysisState.DONE,
            AnalysisImage.not_read == "",
            by_either,
        )
        .order_by(Study.id, AnalysisImage.instance_id, Analysis.id, Finding.position)
    )


def _gathered(rows: Iterable[Any], first: ReadingModel) -> list[StudyReadings]:
    """Of rows by study and, within it, by image."""
    gathered = []
    for study, of_study in groupby(rows, key=lambda row: row[0]):
        by_image = groupby(of_study, key=lambda row: row[2])
        images = [pair for _, of_image in by_image if (pair := _pair(of_image, first)) is not None]
        if images:
            gathered.append(StudyReadings(study.id, study.study_instance_uid, study.accession_number, images))
    return gathered


def _pair(rows: Iterable[Any], first: ReadingModel) -> tuple[Opinions, Opinions] | None:
    """What both said of one image; of each model the last of the analyses, which come oldest first."""
    newest: dict[bool, Opinions] = {}
    for analysis, of_analysis in groupby(rows, key=lambda row: row[1]):
        opinions: Opinions = {}
        for *_, finding in of_analysis:
            if finding is not None:
                opinions.setdefault(finding.label, Opinion(finding.score)).add(finding)
        newest[(analysis.model_id, analysis.model_version) == (first.id, first.version)] = opinions
    return (newest[True], newest[False]) if len(newest) == 2 else None
