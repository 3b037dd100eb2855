"""The sweeper completes studies, rings for what waits, and waits for a database that is away."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from service.errors import OutOfResources
from service.heartbeat import BEAT_IS_OLD_SECONDS, beat_file, is_beating
from service.models.changes import Admin
from service.records import webhook_calls
from service.records.states import AnalysisState
from service.records.tables import Analysis
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
    monkeypatch.setattr("service.sweeper.RING_AGAIN_SECONDS", 0)
    _receive(node)
    sweeper = Sweeper(node.settings)
    sweeper.sweep()
    sweeper.sweep()
    assert _bells(node) == 2


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
