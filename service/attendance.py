"""Which processes of the node are there: workers by their rows, sweepers and retrievers by their beats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from service import heartbeat, sweeper
from service.records import workers
from service.records.workers import FORGOTTEN_AFTER, SILENT, SILENT_AFTER, WorkerLine
from service.retrieval import retriever

_BEATING: Final = (sweeper.PART, retriever.PART)


@dataclass(frozen=True, slots=True)
class ProcessLine:
    """One process.

    Attributes:
        part: ``analysis`` or ``delivery`` (a worker), ``sweeper`` or ``retriever``.
        host, pid: Where it runs; only workers tell their number.
        state: ``idle``, ``analysing``, ``delivering``, ``running``, or ``silent``.
        model, device: What an analysis worker has loaded, and on what it computes.
        in_hand: How many analyses, or deliveries, a worker has.
        busy_since: Since when it has had them.
        started_at: When a worker began.
        beaten_at: When it was heard last.
    """

    part: str
    host: str
    pid: int | None
    state: str
    beaten_at: datetime
    model: str = ""
    device: str = ""
    in_hand: int = 0
    busy_since: datetime | None = None
    started_at: datetime | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it should have been heard since."""
        return self.state == SILENT


def attendance(session: Session, data_dir: Path, now: datetime) -> tuple[ProcessLine, ...]:
    """All that are there, and those that died within a day; workers first."""
    lines = [_of_worker(line, now) for line in workers.workers(session)]
    for part in _BEATING:
        for host, seconds in heartbeat.beats(data_dir, part).items():
            at = datetime.fromtimestamp(seconds, UTC)
            if now - at < FORGOTTEN_AFTER:
                state = SILENT if now - at > SILENT_AFTER else "running"
                lines.append(ProcessLine(part, host, None, state, at))
    return tuple(lines)


def _of_worker(line: WorkerLine, now: datetime) -> ProcessLine:
    return ProcessLine(
        part=line.part,
        host=line.host,
        pid=line.pid,
        state=line.state(now),
        beaten_at=line.beaten_at,
        model=line.model,
        device=line.device,
        in_hand=line.in_hand,
        busy_since=line.busy_since,
        started_at=line.started_at,
    )
