"""Writing what somebody claimed: only while the claim is still theirs."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, Update
from sqlalchemy.orm import Session

from service.errors import LeaseLost


def write_while_held(session: Session, change: Update, lost: str) -> None:
    """Makes a change to one row, whose conditions say that the claim still holds.

    Raises:
        LeaseLost: With these words, if they do not.
    """
    if cast("CursorResult[Any]", session.execute(change)).rowcount != 1:
        raise LeaseLost(lost)
