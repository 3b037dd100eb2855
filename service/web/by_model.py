"""The figures of each model, counted beside the requests and kept for a while."""

from __future__ import annotations

from typing import Final

from service.models.figures import FiguresByModel, figures_by_model
from service.models.roster import roster_of
from service.records.database import Records
from service.settings import Settings
from service.web.kept import Kept

_FRESH_SECONDS: Final = 4.0
_MOST_OF_TIME: Final = 0.1
"""Part of the time that counting may take; of very many studies it is done less often."""


def kept_figures(settings: Settings, records: Records) -> Kept[FiguresByModel]:
    """What each model has read, as it was counted last."""

    def count() -> FiguresByModel:
        with records.snapshot() as session:
            return figures_by_model(session, roster_of(session, settings))

    return Kept("figures by model", count, _FRESH_SECONDS, most_of_time=_MOST_OF_TIME)
