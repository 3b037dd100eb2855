"""The retriever against a PACS that answers as it is told: failures, refusals, rate, window and pause."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydicom import Dataset
from sqlalchemy import select

from service.metrics.folder import FOLDER, CountedByProcesses
from service.peers import Destination
from service.records import retrieval_jobs
from service.records.retrieval_jobs import FailedStudy, JobView
from service.records.tables import Instance, RetrievalStudy
from service.retrieval.filters import Filters
from service.retrieval.finding import find
from service.retrieval.retriever import Retriever
from service.wire.listener import Listener, configure_process
from service.wire.query import FoundStudy, querying
from tests.images import CR, DX, make_radiograph
from tests.peers.scripted_archive import ScriptedArchive, scripted_archive
from tests.ports import free_port
from tests.scrape import Scrape
from tests.waiting import wait_until
from tests.worker.conftest import SmallNode, small_node

DAY = datetime(2025, 1, 2, tzinfo=UTC).date()
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


@dataclass
class Clock:
    """Stands still unless it is moved."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **times: float) -> None:
        self.now += timedelta(**times)


@dataclass
class Backlog:
    """A node, a PACS, and a retriever between them that works when it is told."""

    node: SmallNode
    archive: ScriptedArchive
    clock: Clock
    retriever: Retriever
    stop: threading.Event = field(default_factory=threading.Event)

    def job(self, method: str = "get", *, source: str = "", **values: object) -> int:
        asked = {"again": False, "rate_per_hour": 0.0, "daily_window": "", **values}
        with self.node.records.writing() as session:
            return retrieval_jobs.make_job(
                session,
                source=source or self.archive.destination,
                filters=Filters(since=DAY, until=DAY).model_dump_json(),
                method=method,
                now=self.clock(),
                **asked,  # type: ignore[arg-type]
            )

    def work(self) -> int:
        """Works as long as something is due; returns the number of steps."""
        steps = 0
        while self.retriever.work(self.stop):
            steps += 1
        return steps

    def view(self, job_id: int) -> JobView:
        with self.node.records.reading() as session:
            return retrieval_jobs.show_job(session, job_id)

    def counts(self, job_id: int) -> dict[str, int]:
        return {state: count for state, count in self.view(job_id).counts.items() if count}

    def failed(self, job_id: int) -> list[FailedStudy]:
        with self.node.records.reading() as session:
            return list(retrieval_jobs.failed_studies(session, job_id))

    def stored(self) -> list[str]:
        with self.node.records.reading() as session:
            return sorted(session.scalars(select(Instance.sop_instance_uid)))

    def find(self, **asked: object) -> list[FoundStudy]:
        with querying(self.node.settings, Destination.parse(self.archive.destination)) as query:
            return list(find(query, Filters(**asked)))  # type: ignore[arg-type]


def _images(count: int) -> list[Dataset]:
    return [
        make_radiograph(
            sop_class=CR if number % 2 else DX,
            StudyDate="20250102",
            StudyTime=f"{number % 24:02d}3000",
            AccessionNumber=f"A{number}",
        )
        for number in range(count)
    ]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def backlog(tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> Backlog:
    return _backlog(tmp_path, stack, monkeypatch, _images(3))


def _backlog(
    folder: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, images: list[Dataset], **settings: object
) -> Backlog:
    node = small_node(
        folder / "node",
        minimum_free_bytes=0,
        dicom_host="127.0.0.1",
        dicom_port=0,
        retrieval_lease_seconds=30,
        **settings,
    )
    for name in ("STORE_RECV_CHUNKED_DATASET", "LOG_HANDLER_LEVEL", "LOG_REQUEST_IDENTIFIERS"):
        monkeypatch.setattr(f"pynetdicom._config.{name}", None)
    monkeypatch.setattr("tempfile.tempdir", None)
    configure_process(node.settings)
    clock = Clock()
    retriever = Retriever(node.settings, clock)
    archive = stack.enter_context(scripted_archive(ScriptedArchive(images)))
    stack.callback(node.records.close)
    stack.callback(node.bell.close)
    stack.callback(retriever.close)
    return Backlog(node, archive, clock, retriever)


@pytest.fixture
def listening(backlog: Backlog) -> Iterator[None]:
    listener = Listener(backlog.node.settings)
    listener.start()
    backlog.archive.to_port = listener.port
    yield
    listener.stop()


def _uids(backlog: Backlog) -> list[str]:
    return sorted(str(image.SOPInstanceUID) for image in backlog.archive.images)


@pytest.mark.parametrize("method", ["get", "move"])
def test_a_job_brings_every_image_once(backlog: Backlog, listening: None, method: str) -> None:
    job_id = backlog.job(method)
    backlog.work()
    assert backlog.view(job_id).state == "done"
    assert backlog.counts(job_id) == {"done": 3}
    assert backlog.stored() == _uids(backlog)
    assert len(backlog.archive.retrieved) == 3
    with backlog.node.records.reading() as session:
        assert set(session.scalars(select(Instance.calling_ae_title))) == {"SCRIPTED"}


def test_what_comes_is_counted_by_whichever_way(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a listener and a retriever in one process, as under ``up``."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setenv(FOLDER, str(folder))
    backlog = _backlog(tmp_path, stack, monkeypatch, _images(3))
    listener = Listener(backlog.node.settings)
    listener.start()
    stack.callback(listener.stop)
    backlog.archive.to_port = listener.port
    backlog.archive.images = backlog.archive.images[:2]
    backlog.job("get")
    backlog.work()
    backlog.archive.images = _images(4)
    backlog.job("move")
    backlog.work()
    registry = CollectorRegistry()
    registry.register(CountedByProcesses(str(folder)))
    told = Scrape(generate_latest(registry).decode())
    archived = list((backlog.node.settings.data_dir / "images").rglob("*.dcm"))
    assert told("litegpt_c_store_answers_total", status="0000") == len(archived) == 6
    assert told("litegpt_received_bytes_total") == sum(path.stat().st_size for path in archived)
    assert told("litegpt_retrieval_associations_total", method="get") == 2
    assert told("litegpt_retrieval_associations_total", method="move") == 4


def test_what_is_here_is_skipped_unless_asked_for_again(backlog: Backlog) -> None:
    backlog.job()
    backlog.work()
    second = backlog.job()
    backlog.work()
    assert backlog.counts(second) == {"skipped": 3}
    assert len(backlog.archive.retrieved) == 3
    third = backlog.job(again=True)
    backlog.work()
    assert backlog.counts(third) == {"done": 3}
    assert len(backlog.archive.retrieved) == 6
    assert backlog.stored() == _uids(backlog)


def test_only_series_that_are_read_are_retrieved(backlog: Backlog) -> None:
    first = backlog.archive.images[0]
    beside = {"study_uid": first.StudyInstanceUID, "StudyDate": "20250102"}
    backlog.archive.images = [
        first,
        make_radiograph(sop_class=CR, Modality="PR", **beside),
        make_radiograph(sop_class=CR, Modality="CT", StudyDate="20250102"),
    ]
    job_id = backlog.job()
    backlog.work()
    assert backlog.counts(job_id) == {"done": 1}
    assert backlog.stored() == [first.SOPInstanceUID]


def test_a_study_whose_images_do_not_all_come_is_tried_again_and_fails_in_the_end(backlog: Backlog) -> None:
    """The PACS says 0000 and sends nothing, as one does that has lost the files."""
    backlog.archive.images = backlog.archive.images[:1]
    backlog.archive.sends, backlog.archive.retrieve_status = False, 0x0000
    job_id = backlog.job()
    backlog.work()
    (failed,) = backlog.failed(job_id)
    assert failed.attempts == 3
    assert "0 of 1 images have come" in failed.error


@pytest.mark.parametrize(("status", "attempts"), [(0xB000, 3), (0xA702, 3), (0xC001, 3), (0xA900, 1)])
def test_a_status_says_whether_to_try_again(backlog: Backlog, status: int, attempts: int) -> None:
    backlog.archive.images = backlog.archive.images[:1]
    backlog.archive.sends, backlog.archive.retrieve_status = False, status
    job_id = backlog.job()
    backlog.work()
    (failed,) = backlog.failed(job_id)
    assert failed.attempts == attempts
    assert f"{status:04X}" in failed.error


def test_a_warning_is_no_failure_where_everything_came(backlog: Backlog) -> None:
    backlog.archive.retrieve_status = 0xB000
    job_id = backlog.job()
    backlog.work()
    assert backlog.counts(job_id) == {"done": 3}


def test_failed_studies_are_retrieved_once_the_pacs_can(backlog: Backlog) -> None:
    backlog.archive.sends, backlog.archive.retrieve_status = False, 0xA900
    job_id = backlog.job()
    backlog.work()
    assert backlog.counts(job_id) == {"failed": 3}
    backlog.archive.sends, backlog.archive.retrieve_status = True, None
    with backlog.node.records.writing() as session:
        assert retrieval_jobs.retry_failed(session, job_id, backlog.clock()) == 3
    backlog.work()
    assert backlog.counts(job_id) == {"done": 3}


@pytest.mark.parametrize("status", [0xA801, 0x0122, 0x0124])
def test_a_pacs_that_is_not_set_up_for_us_pauses_the_job(
    backlog: Backlog, listening: None, status: int
) -> None:
    backlog.archive.sends, backlog.archive.retrieve_status = False, status
    job_id = backlog.job("move")
    backlog.work()
    view = backlog.view(job_id)
    assert (view.state, backlog.counts(job_id)) == ("paused", {"waiting": 3})
    assert "C-MOVE to LITEGPT" in view.error and f"{status:04X}" in view.error
    assert len(backlog.archive.retrieved) == 1


# pynetdicom 3.0.4 leaves the socket of a failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pacs_that_is_away_is_waited_for(backlog: Backlog) -> None:
    nobody = f"PACS@127.0.0.1:{free_port()}"
    job_id = backlog.job(source=nobody)
    for _ in range(12):
        assert backlog.retriever.work(backlog.stop)
    view = backlog.view(job_id)
    assert view.state == "finding" and "does not answer" in view.error


def test_a_question_that_fails_is_asked_again(backlog: Backlog) -> None:
    backlog.archive.find_status = 0xC001
    job_id = backlog.job()
    assert backlog.retriever.work(backlog.stop)
    assert "C001" in backlog.view(job_id).error
    backlog.archive.find_status = None
    backlog.work()
    assert backlog.counts(job_id) == {"done": 3}


def test_a_question_that_is_refused_pauses_the_job(backlog: Backlog) -> None:
    backlog.archive.find_status = 0xA900
    job_id = backlog.job()
    backlog.work()
    assert backlog.view(job_id).state == "paused"
    assert "A900" in backlog.view(job_id).error


@pytest.mark.parametrize("too_many", [0xA700, 0xB000, 0xB001, 0xFE00])
def test_a_day_that_is_too_many_is_asked_for_by_the_hour(backlog: Backlog, too_many: int) -> None:
    backlog.archive.images = _images(24)
    backlog.archive.most, backlog.archive.too_many = 5, too_many
    found = backlog.find(since=DAY, until=DAY)
    assert sorted(one.accession_number for one in found) == sorted(f"A{number}" for number in range(24))


def test_an_hour_that_is_too_many_is_said(backlog: Backlog) -> None:
    backlog.archive.images = _images(48)
    backlog.archive.most = 0
    job_id = backlog.job()
    backlog.work()
    assert backlog.view(job_id).state == "paused"
    assert "A700" in backlog.view(job_id).error


@pytest.mark.parametrize(("character_set", "text"), [("ISO_IR 100", "Ä-1"), ("ISO_IR 144", "Ж-1")])
def test_answers_are_read_in_their_own_character_set(backlog: Backlog, character_set: str, text: str) -> None:
    backlog.archive.character_set = character_set
    backlog.archive.images = [make_radiograph(StudyDate="20250102", AccessionNumber=text)]
    (found,) = backlog.find(since=DAY, until=DAY)
    assert found.accession_number == text


def test_the_rate_keeps_studies_apart(backlog: Backlog) -> None:
    job_id = backlog.job(rate_per_hour=60.0)
    backlog.work()
    assert backlog.counts(job_id) == {"done": 1, "waiting": 2}
    backlog.clock.forward(seconds=59)
    assert backlog.work() == 0
    backlog.clock.forward(seconds=1)
    backlog.work()
    assert backlog.counts(job_id) == {"done": 2, "waiting": 1}


def test_what_is_skipped_costs_no_time(backlog: Backlog) -> None:
    backlog.job()
    backlog.work()
    job_id = backlog.job(rate_per_hour=1.0)
    backlog.work()
    assert backlog.counts(job_id) == {"skipped": 3}


def test_the_window_is_kept_by_the_hospitals_clock(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noon in UTC is 21:00 in Tokyo; the window closes there at 22:00."""
    backlog = _backlog(tmp_path, stack, monkeypatch, _images(3), time_zone="Asia/Tokyo")
    backlog.clock.forward(hours=-2)
    job_id = backlog.job(daily_window="20:30-22:00", rate_per_hour=2.0)
    assert backlog.work() == 0
    assert backlog.view(job_id).state == "finding"
    for hours, done in ((2, 1), (0.5, 2), (0.5, 2), (22, 2), (0.5, 3)):
        backlog.clock.forward(hours=hours)
        backlog.work()
        assert backlog.counts(job_id).get("done") == done


def test_below_the_watermark_nothing_is_asked_for(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = _backlog(tmp_path, stack, monkeypatch, _images(1))
    job_id = backlog.job()
    full = backlog.node.settings.model_copy(update={"minimum_free_bytes": 1 << 60})
    retriever = Retriever(full, backlog.clock)
    assert not retriever.work(backlog.stop) and not retriever.work(backlog.stop)
    retriever.close()
    assert caplog.text.count("retrieving waits") == 1
    assert not backlog.archive.asked
    backlog.work()
    assert backlog.counts(job_id) == {"done": 1}


def test_pause_resume_and_cancel(backlog: Backlog) -> None:
    job_id = backlog.job()
    for _ in range(2):  # the finding, and one study
        backlog.retriever.work(backlog.stop)
    with backlog.node.records.writing() as session:
        retrieval_jobs.pause(session, job_id)
    assert backlog.work() == 0
    with backlog.node.records.writing() as session:
        retrieval_jobs.resume(session, job_id, backlog.clock())
    backlog.retriever.work(backlog.stop)
    with backlog.node.records.writing() as session:
        retrieval_jobs.cancel(session, job_id, backlog.clock())
    assert backlog.work() == 0
    assert backlog.counts(job_id) == {"done": 2, "waiting": 1}
    assert len(backlog.stored()) == 2


def test_a_retriever_that_is_stopped_gives_its_study_back_at_once(backlog: Backlog) -> None:
    job_id = backlog.job()
    backlog.retriever.work(backlog.stop)
    asked, go_on = threading.Event(), threading.Event()

    def wait_to_be_asked(*_: object) -> Iterator[object]:
        yield 1
        asked.set()
        go_on.wait(30)
        yield 0xC000, Dataset()

    backlog.archive.script = wait_to_be_asked
    working = threading.Thread(target=backlog.retriever.work, args=(backlog.stop,))
    working.start()
    wait_until(asked.is_set, 20, "request")
    backlog.stop.set()
    working.join(10)
    go_on.set()
    assert not working.is_alive()
    assert backlog.counts(job_id) == {"waiting": 3}
    with backlog.node.records.reading() as session:
        assert set(session.scalars(select(RetrievalStudy.failures))) == {0}
    backlog.archive.script = None
    backlog.stop.clear()
    backlog.work()
    assert backlog.counts(job_id) == {"done": 3}
