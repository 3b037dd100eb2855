"""Giving a name that nobody else has: also where two admins give it at one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.errors import NameTaken


@contextmanager
def new_name(session: Session, taken: str) -> Iterator[None]:
    """Writes what the block has added to the session.

    PostgreSQL lets two transactions look for a name that is not there; the one that is second to write it
    waits for the first, and is told at its end.

    Args:
        session: Of a writing transaction, which is over where this raises.
        taken: What is said where another transaction was first.

    Raises:
        NameTaken: If it was.
    """
    try:
        yield
        session.flush()
    except IntegrityError:
        raise NameTaken(taken) from None
