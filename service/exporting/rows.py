"""The rows of an export: one for each finding, and one for each image without any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Executable, and_, func, or_, select

from service.records.database import Records
from service.records.selection import Selection
from service.records.standing import IN_EARNEST, newest_analyses
from service.records.tables import Analysis, AnalysisImage, Finding, Instance, Study

PAGE: Final = 100
"""Studies read at once; each is written before the next are read."""


class Row(NamedTuple):
    """A finding of an image, as one analysis read it; without a label, an image without findings.

    Its fields are the export's columns. Boxes are in pixels of the original matrix. What is not there is
    ``None``: of an image in no analysis, the model; of a diagnosis, the box. ``not_read`` says why an image
    could not be read, or was not to be. No patient's name or id is among them.
    """

    study_instance_uid: str
    accession_number: str
    study_date: date | None
    received_at: datetime
    sop_instance_uid: str
    analysis_id: int | None
    model_id: str | None
    model_version: str | None
    demonstration: bool | None
    label: str | None
    score: float | None
    x_min: float | None
    y_min: float | None
    x_max: float | None
    y_max: float | None
    box_score: float | None
    reported: bool | None
    not_read: str
    analysis_state: str | None


class Page(NamedTuple):
    """Rows of some studies."""

    studies: int
    rows: list[Row]


def pages(records: Records, selection: Selection, *, all_analyses: bool = False) -> Iterator[Page]:
    """The rows of the studies that are meant, in pages, each read in a transaction of its own.

    Args:
        records: Whose studies.
        selection: Which of them.
        all_analyses: What former analyses said, too, but no shadow's; else only each study's newest.

    Raises:
        NeverAgain: If a study that is named is not there.
        OutOfResources: If the database is away.
    """
    for study_ids in selection.pages(records, PAGE):
        with records.reading() as session:
            found = [_row(one) for one in session.execute(_query(study_ids, all_analyses))]
        yield Page(len(study_ids), found)


_COLUMNS: Final = (
    Study.study_instance_uid,
    Study.accession_number,
    Study.study_date,
    Instance.received_at,
    Instance.sop_instance_uid,
    Analysis.id.label("analysis_id"),
    Analysis.model_id,
    Analysis.model_version,
    Analysis.demonstration,
    Finding.label,
    Finding.score,
    Finding.x_min,
    Finding.y_min,
    Finding.x_max,
    Finding.y_max,
    Finding.box_score,
    Finding.reported,
    func.coalesce(AnalysisImage.not_read, Instance.reason).label("not_read"),
    Analysis.state.label("analysis_state"),
)
"""Of the fields of ``Row``, in their order."""


def _query(study_ids: Sequence[int], all_analyses: bool) -> Executable:
    newest = newest_analyses(study_ids)
    is_newest = Analysis.id == newest.c.id
    of_study = and_(Analysis.study_id == Study.id, IN_EARNEST)
    read = and_(AnalysisImage.analysis_id == Analysis.id, AnalysisImage.instance_id == Instance.id)
    found = and_(
        Finding.analysis_id == AnalysisImage.analysis_id, Finding.instance_id == AnalysisImage.instance_id
    )
    return (
        select(*_COLUMNS)
        .join(Instance, Instance.study_id == Study.id)
        .outerjoin(newest, newest.c.study_id == Study.id)
        .outerjoin(Analysis, of_study if all_analyses else and_(of_study, is_newest))
        .outerjoin(AnalysisImage, read)
        .outerjoin(Finding, found)
        # An image that was not to be read is told of once, beside the newest analysis.
        .where(
            Study.id.in_(study_ids),
            or_(AnalysisImage.analysis_id.is_not(None), newest.c.id.is_(None), is_newest),
        )
        .order_by(Study.id, Analysis.id, Instance.id, Finding.position, Finding.id)
    )


def _row(found: Any) -> Row:
    """``found`` has the row's fields in their order, as the records have them."""
    row = Row._make(found)
    return row._replace(study_date=_day(found.study_date))


def _day(text: str) -> date | None:
    """A Study Date (PS3.5 6.2, DA); devices write other things there, too."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError:
        return None
