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
from service.metrics.processes import OTHER
from service.records import tally
from service.records.database import Records, utc_now
from service.records.silence import Silence
from service.records.states import AnalysisState, CallState, DeliveryState, InstanceState, StudyState
from service.records.tally import Flow, Stock
from service.rules.rulebook import Rulebook
from service.settings import Settings
from service.sweeper import PART
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
        self._webhooks = [webhook.name for webhook in settings.webhooks]
        self._flow = Kept("count of what moves", self._read_flow, FLOW_SECONDS, most_of_time=_MOST_OF_TIME)
        self._stock = Kept("count of the stock", self._read_stock, STOCK_SECONDS, most_of_time=_MOST_OF_TIME)

    def _configured(self) -> tuple[str, ...]:
        return self._rulebook.rules().addresses

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
        yield _gauge("litegpt_records_up", "Whether the database answers.", float(flow is not None))
        if flow is None:
            return
        yield from self._moving(flow)
        self._stock.is_answered_by(now + _PATIENCE_FOR_STOCK_SECONDS)
        if self._stock.last is not None:
            yield from self._in_stock(self._stock.last)

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

    def _moving(self, flow: Flow) -> Iterator[Metric]:
        now = utc_now()
        studies = GaugeMetricFamily("litegpt_studies", "Studies, by state.", labels=["state"])
        for study_state in StudyState:
            studies.add_metric([study_state], flow.studies.get(study_state, 0))
        yield studies
        analyses = GaugeMetricFamily(
            "litegpt_analyses", "Analyses, by state, without a shadow's.", labels=["state"]
        )
        for analysis_state in AnalysisState:
            analyses.add_metric([analysis_state], flow.analyses.get(analysis_state, 0))
        yield analyses
        shadow = GaugeMetricFamily(
            "litegpt_shadow_analyses", "Analyses by a shadow model, by state.", labels=["state"]
        )
        for analysis_state in AnalysisState:
            shadow.add_metric([analysis_state], flow.shadow_analyses.get(analysis_state, 0))
        yield shadow
        yield _gauge(
            "litegpt_quarantined_studies",
            "Studies whose newest analysis has failed for good.",
            flow.quarantined,
        )
        waits = (now - flow.oldest_waiting).total_seconds() if flow.oldest_waiting else 0.0
        yield _gauge(
            "litegpt_oldest_waiting_analysis_seconds",
            "Age of the oldest analysis that waits or runs; 0: there is none.",
            max(0.0, waits),
        )
        ages = dict.fromkeys([*self._configured(), *map(self._told, flow.oldest_due)], 0.0)
        for destination, since in flow.oldest_due.items():
            told = self._told(destination)
            ages[told] = max(ages[told], (now - since).total_seconds())
        undelivered = GaugeMetricFamily(
            "litegpt_oldest_undelivered_seconds",
            "Age of the oldest result or image that is due, by destination; 0: there is none.",
            labels=["destination"],
        )
        for destination, age in ages.items():
            undelivered.add_metric([destination], age)
        yield undelivered
        waiting = dict.fromkeys([*self._configured(), *map(self._told, flow.uncommitted)], 0)
        for destination, number in flow.uncommitted.items():
            waiting[self._told(destination)] += number
        uncommitted = GaugeMetricFamily(
            "litegpt_uncommitted",
            "Results and images that wait for their destination to commit to them, by destination.",
            labels=["destination"],
        )
        for destination, number in waiting.items():
            uncommitted.add_metric([destination], number)
        yield uncommitted

    def _in_stock(self, stock: Stock) -> Iterator[Metric]:
        objects = GaugeMetricFamily(
            "litegpt_instances", "Objects in the archive, by state.", labels=["state"]
        )
        size = GaugeMetricFamily(
            "litegpt_instance_bytes", "Bytes of the objects in the archive, by state.", labels=["state"]
        )
        for state in InstanceState:
            stored = stock.stored.get(state)
            objects.add_metric([state], stored.objects if stored else 0)
            size.add_metric([state], stored.size_bytes if stored else 0)
        yield objects
        yield size
        yield self._deliveries(stock)
        yield self._calls(stock)
        findings = GaugeMetricFamily(
            "litegpt_findings",
            "Findings in the records, by model, label, and whether results tell them.",
            labels=["model", "version", "label", "reported"],
        )
        for of in stock.findings:
            labels = [of.model_id, of.model_version, of.label, str(bool(of.reported)).lower()]
            findings.add_metric(labels, of.findings)
        yield findings

    def _deliveries(self, stock: Stock) -> Metric:
        counts = {(to, state.value): 0 for to in self._configured() for state in DeliveryState}
        for (destination, state), number in stock.deliveries.items():
            told = self._told(destination), state
            counts[told] = counts.get(told, 0) + number
        deliveries = GaugeMetricFamily(
            "litegpt_deliveries",
            "Results and images, by destination and state of their delivery.",
            labels=["destination", "state"],
        )
        for labels, number in counts.items():
            deliveries.add_metric(labels, number)
        return deliveries

    def _calls(self, stock: Stock) -> Metric:
        counts = {(name, state.value): 0 for name in self._webhooks for state in CallState}
        for (name, state), number in stock.calls.items():
            told = name if name in self._webhooks else OTHER, state
            counts[told] = counts.get(told, 0) + number
        calls = GaugeMetricFamily(
            "litegpt_webhook_calls", "Calls of webhooks, by webhook and state.", labels=["webhook", "state"]
        )
        for labels, number in counts.items():
            calls.add_metric(labels, number)
        return calls

    def _told(self, destination: str) -> str:
        return destination if destination in self._configured() else OTHER


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
        yield _gauge("litegpt_archive_free_bytes", "Free bytes of the archive's disk.", free)
        yield _gauge(
            "litegpt_archive_minimum_free_bytes",
            "Free bytes below which images are refused.",
            self._settings.minimum_free_bytes,
        )
        yield _gauge(
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
        yield _gauge("litegpt_rules_valid", "Whether the rules are in force as their file has them.", valid)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value)
