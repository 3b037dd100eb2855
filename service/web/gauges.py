"""What the records hold, as gauges for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from service.metrics.processes import OTHER
from service.records.peers_seen import Seen
from service.records.states import AnalysisState, CallState, DeliveryState, InstanceState, StudyState
from service.records.tally import Flow, Stock
from service.records.workers import WorkerLine


@dataclass(frozen=True, slots=True)
class Names:
    """The destinations and webhooks that are set up now; all others are one."""

    destinations: tuple[str, ...]
    webhooks: tuple[str, ...]

    def destination(self, name: str) -> str:
        """What a destination is called."""
        return name if name in self.destinations else OTHER

    def webhook(self, name: str) -> str:
        """What a webhook is called."""
        return name if name in self.webhooks else OTHER


def gauge(name: str, words: str, value: float) -> Metric:
    """A gauge without labels."""
    return GaugeMetricFamily(name, words, value)


def _labelled(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _by_state(name: str, words: str, states: Iterable[str], counts: Mapping[str, int]) -> Metric:
    return _labelled(name, words, "state", {state: counts.get(state, 0) for state in states})


def moving(flow: Flow, names: Names, now: datetime) -> Iterator[Metric]:
    """Of what moves."""
    yield _by_state("litegpt_studies", "Studies, by state.", StudyState, flow.studies)
    yield _by_state(
        "litegpt_analyses", "Analyses, by state, without a shadow's.", AnalysisState, flow.analyses
    )
    yield _by_state(
        "litegpt_shadow_analyses",
        "Analyses by a shadow model, by state.",
        AnalysisState,
        flow.shadow_analyses,
    )
    yield gauge(
        "litegpt_quarantined_studies", "Studies whose newest analysis has failed for good.", flow.quarantined
    )
    waits = (now - flow.oldest_waiting).total_seconds() if flow.oldest_waiting else 0.0
    yield gauge(
        "litegpt_oldest_waiting_analysis_seconds",
        "Age of the oldest analysis that waits or runs; 0: there is none.",
        max(0.0, waits),
    )
    yield from _outgoing(flow, names, now)
    yield _last_beats(flow.workers)


def _outgoing(flow: Flow, names: Names, now: datetime) -> Iterator[Metric]:
    yield _labelled(
        "litegpt_oldest_undelivered_seconds",
        "Age of the oldest result or image that is due, by destination; 0: there is none.",
        "destination",
        _ages(names.destinations, names.destination, flow.oldest_due, now),
    )
    yield _labelled(
        "litegpt_uncommitted",
        "Results and images that wait for their destination to commit to them, by destination.",
        "destination",
        _uncommitted(flow, names),
    )
    oldest = {name: awaited.oldest for name, awaited in flow.uncommitted.items()}
    yield _labelled(
        "litegpt_oldest_uncommitted_seconds",
        "How long ago the oldest of these was sent, by destination; 0: there is none.",
        "destination",
        _ages(names.destinations, names.destination, oldest, now),
    )
    yield _labelled(
        "litegpt_oldest_webhook_call_seconds",
        "Age of the oldest call that is due, by webhook; 0: there is none.",
        "webhook",
        _ages(names.webhooks, names.webhook, flow.oldest_call, now),
    )
    yield _labelled(
        "litegpt_destination_up",
        "0: nothing has reached the destination since its last attempts began to fail.",
        "destination",
        _up(names.destinations, flow.destinations),
    )
    yield _labelled(
        "litegpt_webhook_up",
        "0: nothing has reached the webhook since its last attempts began to fail.",
        "webhook",
        _up(names.webhooks, flow.webhooks),
    )


def _uncommitted(flow: Flow, names: Names) -> dict[str, float]:
    waiting = dict.fromkeys(names.destinations, 0.0)
    for name, awaited in flow.uncommitted.items():
        told = names.destination(name)
        waiting[told] = waiting.get(told, 0.0) + awaited.count
    return waiting


def _ages(
    always: Iterable[str], told: Callable[[str], str], oldest: Mapping[str, datetime], now: datetime
) -> dict[str, float]:
    """In seconds; of several with one name the oldest counts."""
    ages = dict.fromkeys(always, 0.0)
    for name, since in oldest.items():
        ages[told(name)] = max(ages.get(told(name), 0.0), (now - since).total_seconds())
    return ages


def _up(names: Iterable[str], seen: Mapping[str, Seen]) -> dict[str, float]:
    """Of those that are set up alone: nobody waits for the others."""
    return {name: float(seen.get(name, Seen()).down_since is None) for name in names}


def _last_beats(workers: Iterable[WorkerLine]) -> Metric:
    """By part and host that of the worker which has been silent for the longest."""
    beats: dict[tuple[str, str], float] = {}
    for one in workers:
        of, at = (one.part, one.host), one.beaten_at.timestamp()
        beats[of] = min(at, beats.get(of, at))
    family = GaugeMetricFamily(
        "litegpt_worker_last_beat_timestamp_seconds",
        "When a worker was last heard, in seconds since 1970; of several on a host, the one silent longest.",
        labels=["part", "host"],
    )
    for labels, at in beats.items():
        family.add_metric(labels, at)
    return family


def in_stock(stock: Stock, names: Names) -> Iterator[Metric]:
    """Of what has come together."""
    objects = {state: one.objects for state, one in stock.stored.items()}
    yield _by_state("litegpt_instances", "Objects in the archive, by state.", InstanceState, objects)
    sizes = {state: one.size_bytes for state, one in stock.stored.items()}
    yield _by_state(
        "litegpt_instance_bytes", "Bytes of the objects in the archive, by state.", InstanceState, sizes
    )
    yield _by_peer_and_state(
        GaugeMetricFamily(
            "litegpt_deliveries",
            "Results and images, by destination and state of their delivery.",
            labels=["destination", "state"],
        ),
        [(to, state.value) for to in names.destinations for state in DeliveryState],
        [((names.destination(to), state), number) for (to, state), number in stock.deliveries.items()],
    )
    yield _by_peer_and_state(
        GaugeMetricFamily(
            "litegpt_webhook_calls", "Calls of webhooks, by webhook and state.", labels=["webhook", "state"]
        ),
        [(name, state.value) for name in names.webhooks for state in CallState],
        [((names.webhook(name), state), number) for (name, state), number in stock.calls.items()],
    )
    findings = GaugeMetricFamily(
        "litegpt_findings",
        "Findings in the records, by model, label, and whether results tell them.",
        labels=["model", "version", "label", "reported"],
    )
    for of in stock.findings:
        labels = [of.model_id, of.model_version, of.label, str(bool(of.reported)).lower()]
        findings.add_metric(labels, of.findings)
    yield findings


def _by_peer_and_state(
    family: GaugeMetricFamily,
    always: Iterable[tuple[str, str]],
    counted: Iterable[tuple[tuple[str, str], int]],
) -> Metric:
    """What is counted, summed where several have one name; 0 of what might be and is not."""
    counts = dict.fromkeys(always, 0)
    for labels, number in counted:
        counts[labels] = counts.get(labels, 0) + number
    for labels, number in counts.items():
        family.add_metric(labels, number)
    return family
