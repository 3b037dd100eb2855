"""Making results beside the model: in a process of its own, as decoding is.

A report of one image is some 40 ms of Python, in which no other thread of the worker would get on with a
model. And an image that is drawn in a picture is decoded anew, which may end the process that does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from litegpt.isolation import Isolation, Limits
from service import logs
from service.archive import INCOMING_LEFTOVER_SECONDS, Archive
from service.peers import ResultKind
from service.records.claims import Claim
from service.records.conclusions import ImageOutcome, WrittenResult
from service.settings import Settings
from worker.results.making import ResultSettings, make_results

_SECONDS: Final = float(INCOMING_LEFTOVER_SECONDS)
"""For the results of one study, which may have hundreds of images to draw; until then none is a leftover."""


class Making:
    """The results of one worker. The process is started when it is needed, or before."""

    def __init__(self, settings: Settings, archive: Archive) -> None:
        """Args:
        settings: The node's; one that decodes its images itself makes its results itself.
        archive: Where the images are, and the results go.
        """
        self._settings, self._archive = ResultSettings.of(settings), archive
        processes = 0 if settings.decoding_processes == 0 else 1
        self._isolation = Isolation(
            processes,
            Limits(_SECONDS, settings.decoding_memory_bytes),
            partial(logs.configure, settings.log_level, settings.log_format),
        )

    def get_ready(self) -> None:
        """Starts the process, so that the first study does not wait for what it loads.

        Raises:
            Broken: If it does not live.
        """
        self._isolation.call(_get_ready)

    def make(
        self, claim: Claim, outcomes: Sequence[ImageOutcome], wanted: Sequence[ResultKind]
    ) -> list[WrittenResult]:
        """Makes the results of an analysis that are wanted, and writes them into the archive.

        Args:
            claim: The analysis.
            outcomes: What became of each of its images, in their order.
            wanted: Which kinds.

        Raises:
            OutOfResources: If the archive would not take a result, or not give an image.
            CannotReport: If the images cannot be reported on, or nothing that is wanted can be made of them.
            Broken: If the process did not survive it.
        """
        made = self._isolation.call(make_results, claim, outcomes, wanted, self._settings, self._archive)
        return [one.taken(self._archive, claim.study_instance_uid) for one in made]


def _get_ready() -> None:
    """By this time the process has loaded what this module does."""
