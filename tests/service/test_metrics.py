"""What a real node tells Prometheus, worked out by hand; and where its processes count."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pydicom
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, generate_uid

from litegpt.phantoms import phantom_files
from service.metrics.folder import CountedByProcesses
from service.metrics.processes import CALLERS_TOLD, OTHER, DeliveryMetrics, ListenerMetrics, Outcome
from tests.images import make_radiograph
from tests.node import BIN, Node, node_up
from tests.peers.dcmtk import dcmsend, echoscu, storescp
from tests.peers.radiographs import as_new_studies
from tests.ports import free_port, listens
from tests.processes import running
from tests.scrape import Scrape, ask, scrape, web_url
from tests.service.receivers import SECRET

ROOT = Path(__file__).resolve().parents[2]
NAME = "Verysecret"
_NEEDS_A_GPU = {"litegpt_gpu_memory_bytes"}
_NEEDS_WEEKS = {"litegpt_modality_silence_usual_seconds"}


@dataclass(frozen=True)
class Story:
    """A node that has had three phantoms, a lateral view and an image of rubbish, then lost its workers."""

    destination: str
    node: Node
    study_uids: set[str]
    before: Scrape
    findings: Counter[tuple[str, str]]
    archived_bytes: int
    after: Scrape
    log: str


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    phantoms = as_new_studies(phantom_files()[:4], folder)
    for path in phantoms:
        phantom = pydicom.dcmread(path)
        phantom.PatientName = f"{NAME}^Phantom"
        phantom.save_as(path)
    *first, late = phantoms
    others = [make_radiograph(PatientName=f"{NAME}^Lateral", ViewPosition="LL"), _rubbish()]
    for number, dataset in enumerate(others):
        path = folder / f"other{number}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        first.append(path)
    uids = [str(pydicom.dcmread(path).StudyInstanceUID) for path in (*first, late)]
    with (
        storescp(folder / "pacs", ae_title="PACS") as pacs,
        node_up(
            folder / "node",
            destinations=pacs.destination,
            web_port="0",
            metrics_port="0",
            log_format="json",
            log_level="DEBUG",
            calling_ae_titles="DCMSEND,ECHOSCU",
            webhooks=json.dumps({"radiology": {"url": "https://host.invalid/", "secret": SECRET}}),
        ) as node,
    ):
        assert echoscu(node.port).returncode == 0
        assert echoscu(node.port).returncode == 0
        assert echoscu(node.port, calling="STRANGER").returncode != 0
        assert {one.status for one in dcmsend(node.port, *first)} == {0}
        node.wait_for(set(uids[:3]), "delivered")
        node.wait_for({uids[3]}, "not-applicable")
        node.wait_for({uids[4]}, "failed")
        node.process.wait_until(lambda: len(pacs.datasets()) == 4, 60, "fourth report")
        url = web_url(node.data_dir, "metrics")
        before = _when(node, url, pacs.destination, 4)
        studies = node.studies().values()
        said = [found for study in studies for image in study.images for found in image.findings]
        findings = Counter((found.label, str(found.reported).lower()) for found in said)
        archived = sum(path.stat().st_size for path in (node.data_dir / "images").rglob("*.dcm"))
        _kill_workers(node)
        assert {one.status for one in dcmsend(node.port, late)} == {0}
        node.wait_for({uids[5]}, "delivered")
        after = _when(node, url, pacs.destination, 5)
        log = node.process.output()
        yield Story(pacs.destination, node, set(uids), before, findings, archived, after, log)


def _when(node: Node, url: str, destination: str, sent: int) -> Scrape:
    """The first scrape that knows of so many results sent: a worker counts a moment after it has written."""

    def right() -> Scrape | None:
        told = scrape(url)
        counted = told("litegpt_delivery_attempts_total", destination=destination, outcome="sent")
        return told if counted == sent else None

    found = node.process.wait_until(right, 30, "right count")
    assert found is not None
    return found


def _rubbish() -> pydicom.Dataset:
    """An eligible radiograph whose pixels cannot be decoded."""
    dataset = make_radiograph(PatientName=f"{NAME}^Rubbish")
    dataset.PixelData = encapsulate([b"no JPEG at all, but long enough to be looked at"])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return dataset


def _kill_workers(node: Node) -> None:
    """The analysis worker with its pool process, and the delivery worker: both come back."""
    workers = [p for p in node.process.descendants() if {"analysis", "delivery"} & set(p.cmdline())]
    assert len(workers) == 3
    for process in workers:
        process.kill()
    psutil.wait_procs(workers, timeout=10)


def test_studies_and_analyses_are_those_that_were_sent(story: Story) -> None:
    told = story.before
    assert told("litegpt_studies", state="complete") == 5
    assert told("litegpt_studies", state="receiving") == 0
    assert told("litegpt_analyses", state="done") == 3
    assert told("litegpt_analyses", state="not-applicable") == 1
    assert told("litegpt_analyses", state="failed") == told("litegpt_quarantined_studies") == 1
    assert told("litegpt_oldest_waiting_analysis_seconds") == 0
    assert told("litegpt_instances", state="stored") == 5
    assert told("litegpt_instance_bytes", state="stored") == story.archived_bytes


def test_findings_are_those_of_the_records(story: Story) -> None:
    told: Counter[tuple[str, str]] = Counter()
    for labels, number in story.before.all_of("litegpt_findings").items():
        named = dict(labels)
        assert (named["model"], named["version"]) == ("litegpt-phantom", "0.3.0")
        told[named["label"], named["reported"]] += int(number)
    assert told == story.findings
    assert told


def test_the_listener_counts_what_came_and_what_was_turned_away(story: Story) -> None:
    told = story.before
    assert told("litegpt_c_store_answers_total", status="0000") == 5
    assert sum(told.all_of("litegpt_c_store_answers_total").values()) == 5
    assert told("litegpt_received_bytes_total") == story.archived_bytes
    assert told("litegpt_associations_accepted_total", calling_ae_title="ECHOSCU") == 2
    reason = "calling AE title not recognized"
    assert told("litegpt_associations_rejected_total", reason=reason) == 1
    assert sum(told.all_of("litegpt_associations_rejected_total").values()) == 1
    assert "STRANGER" not in told.text


def test_the_workers_count_what_they_do(story: Story) -> None:
    told = story.before
    assert told("litegpt_analysis_seconds_count", phase="load") == 3
    assert told("litegpt_analysis_seconds_count", phase="results") == 4
    assert told("litegpt_analysis_batch_images_sum") == 4
    assert told("litegpt_images_not_read_total") == 1
    assert 1 <= told("litegpt_analysis_seconds_count", phase="read") <= 4
    to = story.destination
    assert told("litegpt_delivery_attempts_total", destination=to, outcome="sent") == 4
    assert sum(told.all_of("litegpt_delivery_attempts_total").values()) == 4
    assert 0 < told("litegpt_delivery_seconds_sum", destination=to) < 60
    assert told("litegpt_deliveries", destination=to, state="sent") == 4


def test_counters_go_on_where_a_killed_worker_left_them(story: Story) -> None:
    after = story.after
    assert after("litegpt_analysis_seconds_count", phase="results") == 5
    assert after("litegpt_analysis_batch_images_sum") == 5
    assert after("litegpt_delivery_attempts_total", destination=story.destination, outcome="sent") == 5
    assert after("litegpt_c_store_answers_total", status="0000") == 6
    counted = [name for name, kind in story.before.types.items() if kind in ("counter", "histogram")]
    checked = 0
    for key, value in story.before.samples.items():
        if key[0].startswith(tuple(counted)):
            assert story.after.samples[key] >= value, key
            checked += 1
    assert checked > 50


def test_the_killed_workers_took_up_no_more_files(story: Story) -> None:
    """The listener with the retriever, the analysis worker's pool process, the delivery worker."""
    assert len(list((story.node.data_dir / "metrics").glob("*.db"))) == 3 * 3


def test_nothing_names_a_patient_or_a_study(story: Story) -> None:
    for text in (story.before.text, story.after.text):
        assert NAME not in text
        assert [uid for uid in story.study_uids if uid in text] == []
    assert NAME not in story.log


def test_a_json_log_has_an_object_a_line(story: Story) -> None:
    """Of all but what Celery prints by itself: a warning to root, and its good-bye."""
    lines = [line for line in story.log.splitlines() if line.strip()]
    events = [json.loads(line) for line in lines if line.startswith("{")]
    assert all({"time", "level", "logger", "message"} <= event.keys() for event in events)
    theirs = re.compile(r"worker: |.*SecurityWarning|absolutely not|Please specify|User information|  _warn")
    assert [line for line in lines if not line.startswith("{") and not theirs.match(line)] == []
    assert {event["study"] for event in events if "study" in event} == story.study_uids
    done = [event for event in events if re.search(r"analysis \d+ done", event["message"])]
    assert len({event["analysis"] for event in done}) == 4
    assert any(event["message"].startswith("LiteGPT node LITEGPT") for event in events)


# ------------------------------------------------- what is written about the metrics, against the metrics


def _is_told(name: str, told: Scrape) -> bool:
    return name in told.names or name in _NEEDS_A_GPU | _NEEDS_WEEKS


def test_alerts_and_dashboard_ask_for_metrics_that_are_told(story: Story) -> None:
    for file in ("prometheus/alerts.yml", "grafana/litegpt-node.json"):
        text = (ROOT / "deploy" / file).read_text()
        asked = set(re.findall(r"\blitegpt_\w+", text))
        assert len(asked) > 5
        assert [name for name in sorted(asked) if not _is_told(name, story.after)] == [], file


def test_labels_that_alerts_and_dashboard_ask_for_are_told(story: Story) -> None:
    told = {(name, label, value) for name, labels in story.after.samples for label, value in labels}
    for file in ("prometheus/alerts.yml", "grafana/litegpt-node.json"):
        text = (ROOT / "deploy" / file).read_text().replace('\\"', '"')
        for name, label, values in re.findall(r'\b(litegpt_\w+)\{(\w+)=~?"([^"]+)"\}', text):
            for value in values.split("|"):
                below = name == "litegpt_findings"  # no finding of these few phantoms need lie below
                assert (name, label, value) in told or below, f"{file}: {name} {label}={value}"


def test_the_document_s_table_is_that_of_the_metrics(story: Story) -> None:
    rows = re.findall(
        r"^\| `(litegpt_\w+)` \| (\w+) \| ([^|]*)\|", (ROOT / "docs" / "monitoring.md").read_text(), re.M
    )
    written = {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert len(written) == len(rows)
    told: dict[str, tuple[str, frozenset[str]]] = {}
    for family, kind in story.after.types.items():
        samples = [family + end for end in ("", "_total", "_count")]
        labels = {label for (name, named) in story.after.samples if name in samples for label, _ in named}
        told[f"{family}_total" if kind == "counter" else family] = (kind, frozenset(labels))
    for name in _NEEDS_A_GPU:
        told.setdefault(name, ("gauge", frozenset()))
    for name in _NEEDS_WEEKS:
        told[name] = (told[name][0], frozenset({"calling_ae_title"}))
    assert written == told


# --------------------------------------------------------------------------------- where processes count


def test_callers_beyond_the_first_are_one() -> None:
    metrics = ListenerMetrics()
    for number in range(CALLERS_TOLD + 10):
        metrics.accepted(f"CALLER{number}")
        metrics.accepted("CALLER0")
    (family,) = metrics._accepted.collect()
    counts = {
        sample.labels["calling_ae_title"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert len(counts) == CALLERS_TOLD + 1
    assert counts[OTHER] == 10
    assert counts["CALLER0"] == CALLERS_TOLD + 11


def test_destinations_that_are_not_configured_are_one() -> None:
    metrics = DeliveryMetrics(["PACS@host:104"])
    for destination in ("PACS@host:104", "FORMER@host:104", "OLDER@host:104"):
        metrics.ended(destination, Outcome.SENT)
    (family,) = metrics._outcomes.collect()
    sent = {
        sample.labels["destination"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["outcome"] == Outcome.SENT
    }
    assert sent == {"PACS@host:104": 1, OTHER: 2}


_COUNT = """
import os, sys
from service.metrics.processes import StorageMetrics
metrics = StorageMetrics()
metrics.answered(0, 10)
child = os.fork()
if child == 0:
    metrics.answered(0, 100)
    os._exit(0)
os.waitpid(child, 0)
metrics.answered(0, 1000)
print("counted", flush=True)
sys.stdin.readline()
"""


def _counted(folder: Path) -> float:
    registry = CollectorRegistry()
    registry.register(CountedByProcesses(str(folder)))
    return Scrape(generate_latest(registry).decode())("litegpt_received_bytes_total")


def _counter(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _COUNT],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "counted\n"
    return process


def test_processes_at_once_count_apart_and_later_ones_go_on(tmp_path: Path) -> None:
    at_once = [_counter(tmp_path) for _ in range(2)]
    assert _counted(tmp_path) == 2 * 1110
    for process in at_once:
        process.kill()
        process.communicate()
    files = set(tmp_path.iterdir())
    again = _counter(tmp_path)
    assert _counted(tmp_path) == 3 * 1110
    again.communicate("\n")
    assert set(tmp_path.iterdir()) == files
    assert all(path.stat().st_blocks > 0 for path in files if path.suffix == ".db")


def test_a_folder_that_cannot_be_used_stops_nobody(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _COUNT],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "nowhere")},
        capture_output=True,
        input="\n",
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (0, "counted\n")
    assert "counts for itself alone" in ended.stderr


def test_a_listener_that_runs_alone_tells_its_own(tmp_path: Path) -> None:
    dicom_port, metrics_port = free_port(), free_port()
    environment = {
        "LITEGPT_DATA_DIR": str(tmp_path / "data"),
        "LITEGPT_DICOM_PORT": str(dicom_port),
        "LITEGPT_METRICS_PORT": str(metrics_port),
        "TMPDIR": str(tmp_path),
    }
    subprocess.run([BIN / "litegpt-node", "migrate"], env={**os.environ, **environment}, check=True)
    log = tmp_path / "log"
    with running([BIN / "litegpt-node", "listen"], log=log, environment=environment) as process:
        process.wait_until(lambda: listens(metrics_port) and listens(dicom_port), 30, "listener")
        assert echoscu(dicom_port).returncode == 0
        told = scrape(f"http://127.0.0.1:{metrics_port}")
        assert told("litegpt_associations_accepted_total", calling_ae_title="ECHOSCU") == 1
        assert ask(f"http://127.0.0.1:{metrics_port}/metrics")[0] == 200
    assert list(tmp_path.glob("litegpt-metrics-*")) == []
