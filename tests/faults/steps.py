"""The named steps of a study's way from a modality to a PACS, and where in the code each of them is.

A seam is ``module:name`` of a function or method that the part calls there; the step is just before or just
after it. A seam that is not there any more fails the harness when a part starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

LISTENER: Final = "listener"
SWEEPER: Final = "sweeper"
ANALYSIS: Final = "analysis"
DELIVERY: Final = "delivery"

BEFORE: Final = "before"
AFTER: Final = "after"


@dataclass(frozen=True)
class Step:
    """One moment.

    Attributes:
        name: What has happened, what has not.
        part: Whose step it is.
        moment: On which side of the seam.
        seam: ``module:name``.
        counts: Whether a call is meant, by its arguments.
    """

    name: str
    part: str
    moment: str
    seam: str
    counts: Callable[[tuple[Any, ...]], bool] = lambda _: True

    @property
    def slug(self) -> str:
        """Its name as a file's."""
        return f"{self.part}-" + re.sub(r"\W+", "-", self.name)


def _is_study_folder(arguments: tuple[Any, ...]) -> bool:
    path: Path = arguments[0]
    return path.parent.parent.name in {"images", "results"}


STEPS: Final = (
    Step("received, not looked at", LISTENER, BEFORE, "service.records.intake:Receiver.take"),
    Step("looked at, not synced", LISTENER, BEFORE, "service.archive:Archive.take_image"),
    Step("synced, not renamed", LISTENER, BEFORE, "service.archive:_make_folder"),
    Step("renamed, folder not synced", LISTENER, BEFORE, "service.archive:sync", _is_study_folder),
    Step("in its place, not recorded", LISTENER, AFTER, "service.archive:Archive.take_image"),
    Step("recorded, not committed", LISTENER, AFTER, "service.records.intake:Receiver._write"),
    Step("committed, not answered", LISTENER, AFTER, "service.records.intake:Receiver.take"),
    Step("answered", LISTENER, AFTER, "service.wire.lane:Lane._answer"),
    Step("study due, not completed", SWEEPER, BEFORE, "service.completion:Completion.complete"),
    Step("completed, not committed", SWEEPER, AFTER, "service.completion:Completion.complete"),
    Step("completed, not rung for", SWEEPER, BEFORE, "service.queue:Bell.ring"),
    Step("rung for", SWEEPER, AFTER, "service.queue:Bell.ring"),
    Step("claimed, not read", ANALYSIS, BEFORE, "worker.analysis:Analyst._read"),
    Step("in mid-analysis", ANALYSIS, BEFORE, "worker.decoding:decoded"),
    Step("read, no results made", ANALYSIS, BEFORE, "worker.making:Making.make"),
    Step("result written, not renamed", ANALYSIS, BEFORE, "service.archive:_make_folder"),
    Step("result renamed, not recorded", ANALYSIS, BEFORE, "service.records.conclusions:finish_all"),
    Step("result recorded, not committed", ANALYSIS, BEFORE, "service.records.conclusions:_finding_rows"),
    Step("result committed, not rung for", ANALYSIS, AFTER, "service.records.conclusions:finish_all"),
    Step("delivery claimed, no association", DELIVERY, BEFORE, "worker.delivery:Courier._send_all"),
    Step("associated, not sent", DELIVERY, BEFORE, "service.wire.sender:Connection.store"),
    Step("sent, reply not read", DELIVERY, AFTER, "pynetdicom.dimse:DIMSEServiceProvider.send_msg"),
    Step("stored at the PACS, not recorded", DELIVERY, AFTER, "service.wire.sender:Connection.store"),
    Step("written down, not committed", DELIVERY, AFTER, "service.records.deliveries:write_while_held"),
    Step("delivered", DELIVERY, AFTER, "service.records.deliveries:sent"),
)
"""In the order in which a study comes through them."""
