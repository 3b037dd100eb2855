"""A connection to PostgreSQL on which a server that is silent is not waited for."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, ClassVar

from psycopg import Connection, OperationalError


class ImpatientConnection(Connection[Any]):
    """Closes itself where an answer does not come in time: nothing else can be said on it then."""

    ANSWER_SECONDS: ClassVar[float] = 15.0

    def wait(self, gen: Any, *others: Any, **more: Any) -> Any:
        """What psycopg has every statement wait in."""
        return super().wait(self._in_time(gen), *others, **more)

    def _in_time(self, steps: Any) -> Generator[Any, Any, Any]:
        """psycopg's own steps: it goes to the next one ten times a second, also where nothing came."""
        deadline = time.monotonic() + self.ANSWER_SECONDS
        try:
            asks_for = next(steps)
            while True:
                came = yield asks_for
                if not came and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise OperationalError(f"no answer within {self.ANSWER_SECONDS:g} s")
                asks_for = steps.send(came)
        except StopIteration as end:
            return end.value
