"""A worker process is a row while it lives, and for a day when it has died; on both databases."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from service import heartbeat
from service.attendance import ProcessLine, attendance
from service.pulse import Pulse
from service.records import workers
from service.records.database import Records, utc_now
from service.records.migrate import migrate
from service.records.workers import Saying, WorkerLine
from service.settings import Settings, load_settings
from service.sweeper import Sweeper
from tests.waiting import wait_until

OFTEN = 0.05


def _there(records: Records) -> tuple[WorkerLine, ...]:
    with records.reading() as session:
        return workers.workers(session)


def _beat_and_hang(data_dir: Path, database_url: str | None) -> None:
    Pulse(load_settings(data_dir=data_dir, database_url=database_url), "analysis", OFTEN).begin()
    signal.pause()


def _killed(settings: Settings, records: Records) -> int:
    """The number of a worker that has beaten and was killed."""
    process = multiprocessing.get_context("spawn").Process(
        target=_beat_and_hang, args=(settings.data_dir, settings.database_url)
    )
    process.start()
    wait_until(lambda: _there(records), 60, "worker in the records")
    process.kill()
    process.join()
    assert process.pid is not None
    return process.pid


def test_a_worker_says_what_it_does_until_it_ends(settings: Settings, records: Records) -> None:
    pulse = Pulse(settings, "analysis", OFTEN)
    begun = utc_now()
    pulse.begin()
    (first,) = wait_until(lambda: _there(records), 30, "worker in the records")
    assert (first.part, first.host, first.pid) == ("analysis", socket.gethostname(), os.getpid())
    assert (first.model, first.device, first.in_hand, first.busy_since) == ("", "", 0, None)
    assert abs(first.started_at - begun) < timedelta(seconds=10)
    assert first.state(first.beaten_at) == "idle"

    pulse.has_loaded("model 1", "GPU")
    with pulse.busy(4):
        busy = wait_until(lambda: [one for one in _there(records) if one.in_hand], 30, "work in hand")[0]
        assert (busy.model, busy.device, busy.in_hand) == ("model 1", "GPU", 4)
        assert busy.busy_since is not None and busy.busy_since >= first.started_at
        assert busy.state(busy.beaten_at) == "analysing"
    later = wait_until(lambda: [one for one in _there(records) if not one.in_hand], 30, "idle again")[0]
    assert later.beaten_at > first.beaten_at and later.busy_since is None and later.model == "model 1"

    pulse.end()
    assert _there(records) == ()


def test_one_that_died_is_silent_until_another_takes_its_place(settings: Settings, records: Records) -> None:
    died = _killed(settings, records)
    (line,) = _there(records)
    assert line.pid == died
    assert not line.is_silent(line.beaten_at + timedelta(seconds=30))
    assert line.state(line.beaten_at + timedelta(seconds=31)) == "silent"
    # One on another host, and of another kind, are not of its business.
    with records.writing() as session:
        for part, host in (("analysis", "other"), ("delivery", line.host)):
            workers.beat(session, None, Saying(part, host, died, utc_now()), utc_now())
    pulse = Pulse(settings, "analysis", OFTEN)
    pulse.begin()
    wait_until(lambda: os.getpid() in {one.pid for one in _there(records)}, 30, "new worker")
    rows = {(one.part, one.host, one.pid) for one in _there(records)}
    mine = ("analysis", line.host, os.getpid())
    assert rows == {mine, ("analysis", "other", died), ("delivery", line.host, died)}
    pulse.end()


def test_a_worker_does_not_take_the_place_of_one_that_lives(settings: Settings, records: Records) -> None:
    with records.writing() as session:
        parent = Saying("analysis", socket.gethostname(), os.getppid(), utc_now())
        workers.beat(session, None, parent, utc_now() - timedelta(hours=1))
    pulse = Pulse(settings, "analysis", OFTEN)
    pulse.begin()
    wait_until(lambda: len(_there(records)) == 2, 30, "both workers")
    pulse.end()
    assert [one.pid for one in _there(records)] == [os.getppid()]


def test_a_row_that_is_gone_comes_back(settings: Settings, records: Records) -> None:
    """As where another container on a host of the same name has taken us for dead."""
    saying = Saying("delivery", "host", 7, utc_now())
    with records.writing() as session:
        row_id = workers.beat(session, None, saying, utc_now())
        assert workers.beat(session, row_id, saying, utc_now()) == row_id
        workers.leave(session, row_id)
        again = workers.beat(session, row_id, saying, utc_now())
        assert [one.pid for one in workers.workers(session)] == [7]
        assert workers.beat(session, again, saying, utc_now()) == again


def test_the_sweeper_drops_those_that_have_been_silent_for_a_day(
    settings: Settings, records: Records, archive: object
) -> None:
    with records.writing() as session:
        for pid, hours in ((1, 23.9), (2, 24.1)):
            at = utc_now() - timedelta(hours=hours)
            workers.beat(session, None, Saying("analysis", "host", pid, at), at)
    settings.data_dir.mkdir(exist_ok=True)
    sweeper = Sweeper(settings.model_copy(update={"broker_url": None}))
    sweeper._remove_leftovers()
    assert [one.pid for one in _there(records)] == [1]
    sweeper._records.close()
    sweeper._bell.close()


def test_records_that_are_away_are_told_of_once_and_a_worker_is_back_with_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = load_settings(data_dir=tmp_path / "node")
    records = Records.open(settings)  # whose tables are not made yet
    pulse = Pulse(settings, "analysis", 0.01)
    tries: list[int] = []
    beat, pulse._beat = pulse._beat, lambda *given: (tries.append(1), beat(*given))[1]  # type: ignore[method-assign]
    pulse.begin()
    wait_until(lambda: len(tries) > 10, 30, "some attempts")
    assert caplog.text.count("do not know that this worker is alive: the records: no such table") == 1
    migrate(records.engine)
    wait_until(lambda: _there(records), 30, "worker in the records")
    wait_until(lambda: "in the records again" in caplog.text, 30, "word of it")
    pulse.end()
    assert _there(records) == () and caplog.text.count("do not know") == 1
    records.close()
    assert [one.name for one in threading.enumerate() if one.name == "pulse"] == []


def test_all_processes_are_listed_workers_by_rows_and_the_others_by_their_beats(
    settings: Settings, records: Records
) -> None:
    settings.data_dir.mkdir(exist_ok=True)
    now = utc_now()
    with records.writing() as session:
        for part, pid, seconds in (("delivery", 3, 1), ("analysis", 2, 40), ("analysis", 1, 5)):
            at = now - timedelta(seconds=seconds)
            busy = Saying(part, "gpu.example", pid, at, "m 1", "GPU", in_hand=pid)
            workers.beat(session, None, busy, at)
    heartbeat.beat(settings.data_dir, "sweeper")
    for machine, seconds in (("a.b", 45), ("old", 90_000)):
        file = heartbeat.beat_file(settings.data_dir, "retriever", machine)
        file.write_text(f"{now.timestamp() - seconds}\n")

    def listed() -> list[tuple[str, str, int | None, str]]:
        with records.reading() as session:
            lines = attendance(session, settings.data_dir, now)
        assert all(isinstance(one, ProcessLine) for one in lines)
        return [(one.part, one.host, one.pid, one.state) for one in lines]

    assert listed() == [
        ("analysis", "gpu.example", 2, "silent"),
        ("analysis", "gpu.example", 1, "analysing"),
        ("delivery", "gpu.example", 3, "delivering"),
        ("sweeper", socket.gethostname(), None, "running"),
        ("retriever", "a.b", None, "silent"),
    ]
    heartbeat.rest(settings.data_dir, "sweeper")
    assert "sweeper" not in {one[0] for one in listed()}
