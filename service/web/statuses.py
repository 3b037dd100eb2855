"""Which error is answered by which HTTP status: one table, for the pages and the API."""

from __future__ import annotations

from typing import Final

from litegpt.errors import ModelError
from service.errors import Busy, NameTaken, NeverAgain, NodeError, SettingsError, TryAgain, WrongState
from service.web.visitors import Forbidden

STATUSES: Final[dict[type[Exception], int]] = {
    Forbidden: 403,
    NeverAgain: 404,
    Busy: 409,
    WrongState: 409,
    NameTaken: 409,
    SettingsError: 422,
    NodeError: 500,
    # The model is a setting, but not one that whoever asks has given.
    ModelError: 503,
    TryAgain: 503,
}


def status_of(error: Exception) -> int:
    """The status for an error: of its own kind, else of the nearest that is in the table."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)
