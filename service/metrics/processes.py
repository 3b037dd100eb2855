"""What the listener and the workers count. What stands in the records is counted there (``records.tally``).

No label names a study or a patient; what a stranger can choose is cut to a fixed number of values.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from typing import Final, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from service.metrics.folder import FOLDER, choose_values

OTHER: Final = "other"
"""Stands for all values of a label beyond those that are told apart."""

CALLERS_TOLD: Final = 50
"""How many calling AE titles a process tells apart."""

REJECTIONS: Final = {
    (1, 1, 3): "calling AE title not recognized",
    (1, 1, 7): "called AE title not recognized",
    (1, 2, 1): "user not recognized",
    (2, 3, 2): "local limit exceeded",
}
"""Result, source and diagnostic of an A-ASSOCIATE-RJ in the words of PS3.8 9.3.4; of an unknown user
PS3.7 D.3.3.7 has the codes."""

LOW_DISK: Final = "low disk"
ARCHIVE_AWAY: Final = "archive away"
NO_TLS: Final = "no TLS"
"""Reasons of ours: there was no room; the archive was away, or read-only; and a peer did not speak TLS or not
as it must."""

STORE_STATUSES: Final = ("0000", "A700", "A701", "A900", "C000")


class Outcome(StrEnum):
    """How an attempt to deliver a result or an image ended; ``waiting``: for its study to be shown."""

    SENT = "sent"
    WAITING = "waiting"
    POSTPONED = "put off"
    REFUSED = "refused"
    REPLACED = "replaced"


_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_IMAGES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_Metric = TypeVar("_Metric", bound=Counter | Gauge | Histogram)


class StorageMetrics:
    """What is counted of the objects that come, sent to the listener or fetched by a C-GET."""

    def __init__(self) -> None:
        choose_values()
        self._answers = _prepared(
            Counter(
                "litegpt_c_store_answers",
                "C-STORE requests answered, by status (PS3.4 B.2.3).",
                ["status"],
                registry=None,
            ),
            STORE_STATUSES,
        )
        self._received = Counter(
            "litegpt_received_bytes", "Bytes of objects answered with Success.", registry=None
        )

    @classmethod
    def of_process(cls) -> StorageMetrics:
        """The one of this process: two of them would write over each other's counts, where a listener and a
        retriever run in one."""
        return _storage_metrics(os.environ.get(FOLDER, ""))

    def answered(self, status: int, size_bytes: int) -> None:
        """Counts a C-STORE that was answered with a status, and its bytes where that is Success."""
        text = f"{status:04X}"
        self._answers.labels(text if text in STORE_STATUSES else OTHER).inc()
        if status == 0:
            self._received.inc(size_bytes)


@cache
def _storage_metrics(_folder: str) -> StorageMetrics:
    return StorageMetrics()


class ListenerMetrics:
    """What the listener counts, and in ``storage`` what came to it."""

    def __init__(self) -> None:
        choose_values()
        self._accepted = Counter(
            "litegpt_associations_accepted",
            "Associations accepted, by calling AE title (the first 50 of a process, then other).",
            ["calling_ae_title"],
            registry=None,
        )
        self._rejected = _prepared(
            Counter(
                "litegpt_associations_rejected",
                "Associations rejected, by reason.",
                ["reason"],
                registry=None,
            ),
            [*REJECTIONS.values(), LOW_DISK, ARCHIVE_AWAY, NO_TLS, OTHER],
        )
        self.storage = StorageMetrics.of_process()
        self._callers: set[str] = set()

    def accepted(self, calling_ae_title: str) -> None:
        """Counts an association that was accepted."""
        self._accepted.labels(_one_of_the_first(calling_ae_title, self._callers, CALLERS_TOLD)).inc()

    def rejected(self, reason: str) -> None:
        """Counts one that was rejected, for one of the reasons above."""
        self._rejected.labels(reason).inc()


class RetrieverMetrics:
    """What a retriever counts, and in ``storage`` what it fetched itself."""

    def __init__(self, methods: Iterable[str]) -> None:
        """Args:
        methods: How images are retrieved.
        """
        choose_values()
        self._associations = _prepared(
            Counter(
                "litegpt_retrieval_associations",
                "Associations on which a study was retrieved, by C-MOVE or C-GET.",
                ["method"],
                registry=None,
            ),
            tuple(methods),
        )
        self.storage = StorageMetrics.of_process()

    def associated(self, method: str) -> None:
        """Counts an association that a PACS has taken."""
        self._associations.labels(method).inc()


class AnalysisMetrics:
    """What an analysis worker counts."""

    LOAD: Final = "load"
    READ: Final = "read"
    RESULTS: Final = "results"

    def __init__(self) -> None:
        choose_values()
        self._seconds = _prepared(
            Histogram(
                "litegpt_analysis_seconds",
                "Seconds to load an image, to read a batch, and to make the results of an analysis.",
                ["phase"],
                buckets=_SECONDS,
                registry=None,
            ),
            (self.LOAD, self.READ, self.RESULTS),
        )
        self._batch = Histogram(
            "litegpt_analysis_batch_images", "Images read in one batch.", buckets=_IMAGES, registry=None
        )
        self._not_read = Counter(
            "litegpt_images_not_read", "Images that could not be read or were not answered.", registry=None
        )
        self._gpu = _GpuMemory()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the seconds of the block to a phase, where it ends in order."""
        start = time.perf_counter()
        yield
        self._seconds.labels(name).observe(time.perf_counter() - start)

    def batch(self, images: int, not_read: int) -> None:
        """Counts a batch of so many images, of which some could not be read."""
        self._batch.observe(images)
        self._not_read.inc(not_read)

    def gpu_memory(self, used_bytes: int) -> None:
        """Says how much of the GPU's memory is in use."""
        self._gpu.set(used_bytes)


class _GpuMemory:
    """Made when it is first set: a node without a GPU does not say that it uses nothing of one."""

    def __init__(self) -> None:
        self._gauge: Gauge | None = None

    def set(self, used_bytes: int) -> None:
        self._gauge = self._gauge or Gauge(
            "litegpt_gpu_memory_bytes",
            "GPU memory in use after the last batch, by all programs.",
            registry=None,
            multiprocess_mode="mostrecent",
        )
        self._gauge.set(used_bytes)


class DeliveryMetrics:
    """What a delivery worker counts."""

    def __init__(self, destinations: Iterable[str]) -> None:
        """Args:
        destinations: ``AET@HOST:PORT`` of those that are configured; former ones are ``other``.
        """
        choose_values()
        self._destinations: set[str] = set()
        self._seconds = Histogram(
            "litegpt_delivery_seconds",
            "Seconds to send one result or image, answer included, by destination.",
            ["destination"],
            buckets=_SECONDS,
            registry=None,
        )
        self._outcomes = Counter(
            "litegpt_delivery_attempts",
            "Attempts to deliver a result or an image, by destination and outcome.",
            ["destination", "outcome"],
            registry=None,
        )
        self.know(destinations)

    def know(self, destinations: Iterable[str]) -> None:
        """Tells these by name from now on."""
        for destination in set(destinations) - self._destinations:
            self._destinations.add(destination)
            for outcome in Outcome:
                self._outcomes.labels(destination, outcome)

    @contextmanager
    def sending(self, destination: str) -> Iterator[None]:
        """Counts the seconds of the block, where it ends in order."""
        start = time.perf_counter()
        yield
        self._seconds.labels(self._told(destination)).observe(time.perf_counter() - start)

    def ended(self, destination: str, outcome: Outcome) -> None:
        """Counts an attempt."""
        self._outcomes.labels(self._told(destination), outcome).inc()

    def _told(self, destination: str) -> str:
        return destination if destination in self._destinations else OTHER


def _prepared(metric: _Metric, labels: Collection[str]) -> _Metric:
    """The metric with these values of its label at 0: what has not happened yet can be watched, too."""
    for label in labels:
        metric.labels(label)
    return metric


def _one_of_the_first(value: str, known: set[str], limit: int) -> str:
    if value not in known:
        if len(known) >= limit:
            return OTHER
        known.add(value)
    return value
