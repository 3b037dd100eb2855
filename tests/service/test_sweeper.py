"""The sweeper completes studies, rings for what waits, and waits for a database that is away."""

from __future__ import annotations

import os
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from service.errors import OutOfResources, PeerUnavailable
from service.heartbeat import BEAT_IS_OLD_SECONDS, beat_file, is_beating
from service.models.changes import Admin
from service.records import deliveries, peers_seen, webhook_calls
from service.records.database import utc_now
from service.records.peers_seen import Contact
from service.records.states import AnalysisState, PeerKind
from service.records.tables import Analysis, Study
from service.sweeper import PART, Sweeper
from tests.images import make_radiograph
from tests.models import model_copy
from tests.ports import free_port
from tests.service.conftest import incoming
from tests.waiting import wait_until
from tests.worker.conftest import SmallNode, small_node


@pytest.fixture
def node(tmp_path: Path) -> SmallNode:
    return small_node(tmp_path / "node", sweep_interval_seconds=0.05)


def _bells(node: SmallNode) -> int:
    return len(list((node.settings.data_dir / "broker" / "messages").iterdir()))


def _receive(node: SmallNode) -> str:
    from service.eligibility import Eligibility
    from service.records.intake import Receiver

    dataset = make_radiograph()
    receiver = Receiver(node.records, node.archive, Eligibility.of(node.settings))
    receiver.take(incoming(node.archive, dataset))
    return str(dataset.StudyInstanceUID)


def test_a_round_completes_studies_and_rings_once_for_all_of_them(node: SmallNode) -> None:
    studies = [_receive(node) for _ in range(5)]
    sweeper = Sweeper(node.settings)
    sweeper.sweep()
    assert {node.show(study).outcome for study in studies} == {"queued"}
    assert _bells(node) == 1
    sweeper.sweep()
    assert _bells(node) == 1
    _receive(node)
    sweeper.sweep()
    assert _bells(node) == 2


def test_a_clock_that_was_set_back_delays_nothing(node: SmallNode) -> None:
    """What was written while the clock was a day ahead, and a destination that was down then."""
    putting_off, running = (_receive(node) for _ in range(2))
    sweeper, ahead = Sweeper(node.settings), utc_now() + timedelta(days=1)
    sweeper.sweep()
    waiting = _receive(node)
    with node.records.writing() as session:
        for study in session.scalars(select(Study)):
            if study.study_instance_uid == waiting:
                study.last_eligible_at = study.receiving_since = ahead
            else:
                analysis = study.analyses[0]
                analysis.not_before = ahead
                if study.study_instance_uid == running:
                    analysis.state, analysis.attempt = AnalysisState.RUNNING, 1
        away = Contact()
        away.failed(PeerUnavailable("PACS does not answer"))
        for seconds in (0, 60):
            peers_seen.note(
                session, PeerKind.DESTINATION, "PACS@host:104", away, ahead + timedelta(seconds=seconds)
            )
        assert peers_seen.resting(session, PeerKind.DESTINATION, ahead + timedelta(seconds=61))
        assert not peers_seen.resting(session, PeerKind.DESTINATION, utc_now())
    sweeper.sweep()
    assert node.show(waiting).outcome == "receiving"
    later = Sweeper(node.settings)
    later.sweep()
    assert {node.show(study).outcome for study in (waiting, putting_off)} == {"queued"}
    lease = timedelta(seconds=node.settings.analysis_lease_seconds)
    with node.records.reading() as session:
        due = {row.study.study_instance_uid: row.not_before for row in session.scalars(select(Analysis))}
    assert max(due[waiting], due[putting_off]) <= utc_now() < due[running] <= utc_now() + lease


def test_it_rings_for_a_study_in_the_place_of_one_that_was_taken_up(node: SmallNode) -> None:
    _receive(node)
    sweeper = Sweeper(node.settings)
    sweeper.sweep()
    assert _bells(node) == 1
    with node.records.writing() as session:
        (analysis,) = session.scalars(select(Analysis))
        analysis.state = AnalysisState.DONE
    _receive(node)
    sweeper.sweep()
    assert _bells(node) == 2


def test_a_study_is_completed_when_its_time_comes_however_long_the_interval(tmp_path: Path) -> None:
    node = small_node(tmp_path / "node", quiet_seconds=1, sweep_interval_seconds=3600)
    study = _receive(node)
    stop = threading.Event()
    sweeping = threading.Thread(target=Sweeper(node.settings).run, args=(stop,))
    sweeping.start()
    try:
        wait_until(lambda: node.show(study).outcome == "queued", 20, "completion")
    finally:
        stop.set()
        sweeping.join()


@pytest.mark.parametrize(("quiet", "cap"), [(30, 900), (600, 600)])
def test_the_next_round_comes_with_the_first_study_that_is_due(
    tmp_path: Path, quiet: float, cap: float
) -> None:
    node = small_node(
        tmp_path / "node",
        quiet_seconds=quiet,
        maximum_receiving_seconds=cap,
        sweep_interval_seconds=3600,
    )
    sweeper = Sweeper(node.settings)
    assert sweeper.sweep() == 3600
    for _ in range(2):
        _receive(node)
    with node.records.writing() as session:
        # The first is due by its last image in `quiet`, the second, whose images go on coming, by the cap.
        later, *_ = session.scalars(select(Study).order_by(Study.id.desc()))
        later.receiving_since -= timedelta(seconds=cap - 100)
    assert min(quiet, 100) - 10 < sweeper.sweep() <= min(quiet, 100)


def test_studies_that_cannot_be_completed_keep_no_sweeper_awake(tmp_path: Path) -> None:
    node = small_node(tmp_path / "node", model=str(tmp_path / "model"), sweep_interval_seconds=3600)
    _receive(node)
    assert Sweeper(node.settings).sweep() == 3600


def test_it_rings_for_a_webhook_that_is_to_be_told(node: SmallNode) -> None:
    study = _receive(node)
    sweeper = Sweeper(node.settings)
    sweeper.sweep()
    with node.records.writing() as session:
        (analysis,) = session.scalars(select(Analysis))
        analysis.state = AnalysisState.DONE
        webhook_calls.call(session, analysis.id, "radiology")
    sweeper.sweep()
    assert node.show(study).outcome == "delivering"
    assert _bells(node) == 2


def test_while_work_waits_the_bell_rings_again(node: SmallNode, monkeypatch: pytest.MonkeyPatch) -> None:
    _receive(node)
    sweeper = Sweeper(node.settings)
    sweeper.sweep()
    monkeypatch.setattr("service.sweeper.RING_AGAIN_SECONDS", 0)
    sweeper.sweep()
    assert _bells(node) == 2


def test_studies_that_are_complete_wait_for_no_other_look(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    _receive(node)

    def away(_: object) -> int:
        raise OutOfResources("the records are away")

    monkeypatch.setattr(deliveries, "count_due", away)
    with pytest.raises(OutOfResources):
        Sweeper(node.settings).sweep()
    assert _bells(node) == 1


def test_nothing_to_do_rings_no_bell(node: SmallNode) -> None:
    Sweeper(node.settings).sweep()
    assert _bells(node) == 0


def test_a_round_leaves_a_beat(node: SmallNode) -> None:
    assert not is_beating(node.settings.data_dir, PART)
    Sweeper(node.settings).sweep()
    assert is_beating(node.settings.data_dir, PART)
    beat_file(node.settings.data_dir, PART).write_text(f"{time.time() - BEAT_IS_OLD_SECONDS - 1}\n")
    assert not is_beating(node.settings.data_dir, PART)


def test_a_sweeper_whose_broker_is_away_still_beats_and_completes(tmp_path: Path) -> None:
    node = small_node(tmp_path / "node", broker_url=f"redis://127.0.0.1:{free_port()}/0")
    study = _receive(node)
    with pytest.raises(OutOfResources):
        Sweeper(node.settings).sweep()
    assert node.show(study).outcome == "queued"
    assert is_beating(node.settings.data_dir, PART)


def test_work_that_waits_for_a_former_model_goes_to_the_present_one(node: SmallNode) -> None:
    study = _receive(node)
    Sweeper(node.settings).sweep()
    with node.records.writing() as session:
        session.connection().exec_driver_sql("UPDATE analysis SET model_version = 'former'")
    Sweeper(node.settings).sweep()
    assert not node.show(study).model.endswith("former")
    assert node.show(study).outcome == "queued"


def test_leftovers_of_broken_transfers_are_removed(node: SmallNode) -> None:
    leftover = node.archive.incoming / "tmpabc.dcm"
    leftover.touch()
    os.utime(leftover, (0, 0))
    Sweeper(node.settings).sweep()
    assert not leftover.exists()


def test_a_database_that_is_away_is_waited_for(node: SmallNode, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    sweeping = threading.Thread(target=Sweeper(node.settings).run, args=(stop,))
    with node.records.writing() as session:
        session.connection().exec_driver_sql("ALTER TABLE study RENAME TO elsewhere")
    sweeping.start()
    try:
        wait_until(lambda: "sweep put off" in caplog.text, 20, "complaint")
        with node.records.writing() as session:
            session.connection().exec_driver_sql("ALTER TABLE elsewhere RENAME TO study")
        study = _receive(node)
        wait_until(lambda: node.show(study).outcome == "queued", 20, "completion")
    finally:
        stop.set()
        sweeping.join()


def test_without_its_model_a_study_waits_and_is_completed_once_it_is_there(tmp_path: Path) -> None:
    node = small_node(tmp_path / "node", model=str(tmp_path / "model"))
    study = _receive(node)
    sweeper = Sweeper(node.settings)
    sweeper.sweep()
    assert node.show(study).outcome == "receiving"
    assert is_beating(node.settings.data_dir, PART)
    model_copy(tmp_path / "model", "7")
    sweeper.sweep()
    assert node.show(study).outcome == "queued"
    assert node.show(study).model == "litegpt-phantom 7"


def test_the_next_round_knows_the_model_that_was_activated(node: SmallNode, tmp_path: Path) -> None:
    first = _receive(node)
    sweeper = Sweeper(node.settings)
    sweeper.sweep()
    with node.records.writing() as session:
        admin = Admin(session, node.settings, "a test")
        admin.add(str(model_copy(tmp_path / "second", "2")))
        admin.activate("2")
    second = _receive(node)
    sweeper.sweep()
    assert {node.show(study).model for study in (first, second)} == {"litegpt-phantom 2"}
