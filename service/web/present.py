"""How the node is at this moment: when today began, and whether what it stands on is in order."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from datetime import time as time_of_day

from service.archive import Archive
from service.errors import NodeError
from service.heartbeat import last_beat
from service.records.database import utc_now
from service.settings import Settings
from service.sweeper import PART
from service.web.node import Node


@dataclass(frozen=True, slots=True)
class HealthLine:
    """One thing that the node stands on."""

    name: str
    ok: bool
    says: str


def midnight(settings: Settings) -> datetime:
    """When the present day began at the hospital."""
    day = utc_now().astimezone(settings.zone).date()
    return datetime.combine(day, time_of_day.min, settings.zone).astimezone(UTC)


def health(node: Node) -> list[HealthLine]:
    """A line for each thing that the node stands on; the disk by its numbers."""
    lines = []
    for line in node.readiness.latest():
        told = line.complaint or line.fact
        if line.name == "sweeper" and (beat := last_beat(node.settings.data_dir, PART)):
            told += f", last {max(0, round(time.time() - beat))} s ago"
        lines.append(HealthLine(line.name, line.complaint is None, told))
    lines.append(_disk(node.settings))
    return lines


def _disk(settings: Settings) -> HealthLine:
    try:
        free = Archive(settings.data_dir).free_bytes()
    except (OSError, NodeError) as error:
        return HealthLine("disk", False, getattr(error, "strerror", None) or str(error))
    least = settings.minimum_free_bytes
    says = f"{free / 1e9:,.1f} GB free; images are refused below {least / 1e9:g} GB"
    return HealthLine("disk", free >= least, says)
