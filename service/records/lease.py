"""Writing what somebody claimed: only while the claim is still theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import CursorResult, Update
from sqlalchemy.orm import Session

from service.errors import LeaseLost


def write_while_held(
    session: Session, change: Update, lost: str, values: Mapping[str, object] | None = None
) -> None:
    """Makes a change to one row, whose conditions say that the claim still holds.

    Args:
        session: Where.
        change: The change.
        lost: What is said where the claim does not hold.
        values: Of the change's parameters.

    Raises:
        LeaseLost: If it does not.
    """
    if cast("CursorResult[Any]", session.execute(change, values)).rowcount != 1:
        raise LeaseLost(lost)
