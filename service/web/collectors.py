"""What ``/metrics`` tells: what the records hold, what the disk has left, what the processes have counted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service import heartbeat
from service.archive import Archive
from service.errors import OutOfResources
from service.metrics.folder import FOLDER, CountedByProcesses
from service.records import tally
from service.records.database import Records, utc_now
from service.records.silence import Silence
from service.records.tally import Flow, Stock
from service.rules.rulebook import Rulebook
from service.settings import Settings
from service.sweeper import PART
from service.web import gauges
from service.web.gauges import Names, gauge
from service.web.kept import Kept

FLOW_SECONDS: Final = 5.0
STOCK_SECONDS: Final = 60.0
"""For how long what was counted is told again."""

_MOST_OF_TIME: Final = 0.02
"""Part of the time that counting may take; of very many studies it is done less often."""

_PATIENCE_SECONDS: Final = 5.0
_PATIENCE_FOR_STOCK_SECONDS: Final = 0.7
"""How long a scrape waits for it; then it tells what was counted before."""


def registry_of(
    settings: Settings, records: Records, rulebook: Rulebook, heard: Kept[tuple[Silence, ...]]
) -> CollectorRegistry:
    """All that this process can tell; ``heard`` is what it keeps of who has been silent for how long."""
    registry = CollectorRegistry()
    registry.register(RecordsCollector(settings, records, rulebook))
    registry.register(SilenceCollector(heard))
    registry.register(_MachineCollector(settings))
    registry.register(_RulesCollector(rulebook))
    folder = os.environ.get(FOLDER)
    if folder:
        registry.register(CountedByProcesses(folder))
    return registry


class RecordsCollector(Collector):
    """What the records hold, counted by the database, a few seconds old at most, or a minute."""

    def __init__(self, settings: Settings, records: Records, rulebook: Rulebook) -> None:
        self._records = records
        self._rulebook = rulebook
        self._webhooks = settings.webhook_names
        self._flow = Kept("count of what moves", self._read_flow, FLOW_SECONDS, most_of_time=_MOST_OF_TIME)
        self._stock = Kept("count of the stock", self._read_stock, STOCK_SECONDS, most_of_time=_MOST_OF_TIME)

    def describe(self) -> Iterator[Metric]:
        """Nothing, which keeps the registry from asking the records at the start."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Asks the records; where they are away, that is told."""
        now = time.monotonic()
        self._flow.begin()
        self._stock.begin()
        answered = self._flow.is_answered_by(now + _PATIENCE_SECONDS)
        flow = self._flow.last if answered else None
        yield gauge("litegpt_records_up", "Whether the database answers.", float(flow is not None))
        if flow is None:
            return
        # The rules' file is looked at once a scrape, not once a label.
        names = Names(self._rulebook.rules().addresses, self._webhooks)
        yield from gauges.moving(flow, names, utc_now())
        self._stock.is_answered_by(now + _PATIENCE_FOR_STOCK_SECONDS)
        if self._stock.last is not None:
            yield from gauges.in_stock(self._stock.last, names)

    def _read_flow(self) -> Flow | None:
        try:
            with self._records.snapshot() as session:
                return tally.flow(session)
        except OutOfResources:
            return None

    def _read_stock(self) -> Stock | None:
        try:
            with self._records.snapshot() as session:
                return tally.stock(session)
        except OutOfResources:
            return None


class SilenceCollector(Collector):
    """For how long modalities have been silent, and for how long they were at this time of other weeks."""

    def __init__(self, heard: Kept[tuple[Silence, ...]]) -> None:
        self._heard = heard

    def describe(self) -> Iterator[Metric]:
        """Nothing, as above."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """What was looked up last."""
        now = utc_now()
        lasts = GaugeMetricFamily(
            "litegpt_modality_silence_seconds",
            "How long ago a modality has sent something, by its AE title; 50 of them at most.",
            labels=["calling_ae_title"],
        )
        usual = GaugeMetricFamily(
            "litegpt_modality_silence_usual_seconds",
            "Its longest silence at this time of the week, in the last 4 weeks that it sent.",
            labels=["calling_ae_title"],
        )
        for one in self._heard.within(_PATIENCE_FOR_STOCK_SECONDS) or ():
            lasts.add_metric([one.calling_ae_title], one.lasts(now).total_seconds())
            if one.usual is not None:
                usual.add_metric([one.calling_ae_title], one.usual.total_seconds())
        yield lasts
        yield usual


class _MachineCollector(Collector):
    """The archive's disk, and the sweeper's beat."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._archive = Archive(settings.data_dir)

    def collect(self) -> Iterator[Metric]:
        """Asks the file system."""
        try:
            free = self._archive.free_bytes()
        except OSError:
            return
        yield gauge("litegpt_archive_free_bytes", "Free bytes of the archive's disk.", free)
        yield gauge(
            "litegpt_archive_minimum_free_bytes",
            "Free bytes below which images are refused.",
            self._settings.minimum_free_bytes,
        )
        yield gauge(
            "litegpt_last_sweep_timestamp_seconds",
            "When a sweeper has last been round, in seconds since 1970; 0: never.",
            heartbeat.last_beat(self._settings.data_dir, PART),
        )


class _RulesCollector(Collector):
    """The hospital's own rules."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook

    def collect(self) -> Iterator[Metric]:
        """Looks at their file."""
        valid = float(not self._rulebook.complaint())
        yield gauge("litegpt_rules_valid", "Whether the rules are in force as their file has them.", valid)
