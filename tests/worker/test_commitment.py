"""Destinations are asked to commit to what they got, by PACS that report in every way, or do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select, update

from service.checks import Line, examine
from service.errors import SettingsError
from service.peers import Destination
from service.records import commitments
from service.records.database import utc_now
from service.records.tables import Commitment, Delivery
from service.settings import Settings, load_settings
from service.wire import commitment
from service.wire.listener import Listener
from tests.peers.committing import AE_TITLE, committing_pacs, report_to
from tests.peers.dcmtk import storescp
from tests.waiting import wait_until
from tests.worker.conftest import SmallNode
from tests.worker.test_delivery import SR, _analysed, _courier
from worker.commitment import Inquirer

EARLY = "2020-01-01 00:00:00.000000"


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For reports that do not come at once."""
    monkeypatch.setattr(commitment, "REPORT_SECONDS", 0.0)


@contextmanager
def _node(
    folder: Path, destination: str, *, count: int = 1, **settings: object
) -> Iterator[tuple[SmallNode, list[str]]]:
    """A node with results that have been sent to a PACS which is to commit to them."""
    asked = {"request_commitment_from": [destination], "dicom_host": "127.0.0.1", "dicom_port": 0}
    node, studies = _analysed(folder / "node", destination, count=count, **asked, **settings)
    _courier(node).drain()
    yield node, studies
    node.bell.close()


@contextmanager
def _listening(settings: Settings) -> Iterator[int]:
    listener = Listener(settings)
    listener.start()
    yield listener.port
    listener.stop()


def _ask(node: SmallNode) -> None:
    assert Inquirer(node.settings, node.records).drain()


def _make_due(node: SmallNode) -> None:
    with node.records.writing() as session:
        session.connection().exec_driver_sql(
            f"UPDATE delivery SET commitment_due_at = '{EARLY}' WHERE commitment_due_at IS NOT NULL"
        )


def _states(node: SmallNode, studies: list[str]) -> list[str]:
    return [delivery.state for study in studies for delivery in node.show(study).deliveries]


def _awaited(node: SmallNode) -> int:
    with node.records.reading() as session:
        return sum(one.count for one in commitments.awaited(session).values())


def test_a_report_on_the_same_association_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitment, "REPORT_SECONDS", 30.0)
    with committing_pacs(at_once=True) as pacs, _node(tmp_path, pacs.destination, count=3) as (node, studies):
        assert _states(node, studies) == ["sent"] * 3
        _ask(node)
        assert _states(node, studies) == ["committed"] * 3
        wait_until(lambda: pacs.answers, 5, "answer to the report")
        (request,) = pacs.asked
        assert pacs.answers == [0]
        items = [
            (one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in request.ReferencedSOPSequence
        ]
        assert items == [(SR, uid) for uid in pacs.stored]
        assert str(request.TransactionUID).startswith("2.25.")
        assert node.show(studies[0]).outcome == "delivered"
        _ask(node)
        assert len(pacs.asked) == 1


def test_a_report_on_another_association_is_taken_by_the_listener(tmp_path: Path) -> None:
    with committing_pacs() as pacs, _node(tmp_path, pacs.destination) as (node, studies):
        _ask(node)
        assert (_states(node, studies), _awaited(node)) == (["sent"], 1)
        with _listening(node.settings) as port:
            kind, information = pacs.report()
            assert report_to(port, kind, information) == 0
            assert (_states(node, studies), _awaited(node)) == (["committed"], 0)
            assert report_to(port, kind, information) == 0  # it may come twice
        assert _states(node, studies) == ["committed"]


def test_reports_of_nothing_that_was_asked_are_refused(tmp_path: Path) -> None:
    with (
        committing_pacs() as pacs,
        _node(tmp_path, pacs.destination) as (node, studies),
        _listening(node.settings) as port,
    ):
        _ask(node)
        kind, information = pacs.report()
        assert report_to(port, kind, information, ae_title="SOMEBODY") == 0x0115
        assert report_to(port, kind, information, instance="1.2.3") == 0x0112
        assert report_to(port, 3, information) == 0x0113
        information.TransactionUID = "1.2.3.4"
        assert report_to(port, kind, information) == 0x0115
        del information.TransactionUID
        assert report_to(port, kind, information) == 0x0115
        assert _states(node, studies) == ["sent"]


def test_what_a_pacs_does_not_commit_to_is_sent_again_and_refused_in_the_end(tmp_path: Path) -> None:
    with (
        committing_pacs(failing=(0x0110, 0x0110, 0x0112)) as pacs,
        _node(tmp_path, pacs.destination) as (node, studies),
        _listening(node.settings) as port,
    ):
        for sent in (1, 2, 3):
            assert len(pacs.stored) == sent
            _ask(node)
            assert report_to(port, *pacs.report()) == 0
            if sent < node.settings.maximum_attempts:
                (delivery,) = node.show(studies[0]).deliveries
                words = f"{AE_TITLE} does not commit to it: processing failure (0110); sent again"
                assert (delivery.state, delivery.error) == ("due", words)
            _courier(node).drain()
        (delivery,) = node.show(studies[0]).deliveries
        words = f"{AE_TITLE} does not commit to it: no such object instance (0112), 3 times"
        assert (delivery.state, delivery.error) == ("refused", words)
        assert len(set(pacs.stored)) == 1


def test_a_failure_that_is_mended_by_sending_again_is_forgotten(tmp_path: Path) -> None:
    with (
        committing_pacs(failing=(0x0112, 0)) as pacs,
        _node(tmp_path, pacs.destination) as (node, studies),
        _listening(node.settings) as port,
    ):
        _ask(node)
        kind, information = pacs.report()
        report_to(port, kind, information)
        report_to(port, kind, information)  # the second is no second failure
        _courier(node).drain()
        _ask(node)
        report_to(port, *pacs.report())
        (delivery,) = node.show(studies[0]).deliveries
        assert (delivery.state, delivery.error, len(pacs.stored)) == ("committed", "", 2)


def test_a_pacs_that_never_reports_is_asked_again_and_a_late_report_counts(tmp_path: Path) -> None:
    with (
        committing_pacs() as pacs,
        _node(tmp_path, pacs.destination, commitment_timeout_seconds=1000) as (node, studies),
        _listening(node.settings) as port,
    ):
        waits = []
        for asked in (1, 2, 3):
            _ask(node)
            _ask(node)
            assert len(pacs.asked) == asked
            with node.records.reading() as session:
                row = session.scalars(select(Delivery)).one()
                assert row.commitment is not None and row.commitment_due_at is not None
                waits.append((row.commitment_due_at - row.commitment.asked_at).total_seconds())
            _make_due(node)
        assert waits == [1000, 2000, 4000]
        assert len({one.TransactionUID for one in pacs.asked}) == 3
        assert report_to(port, *pacs.report(0)) == 0
        assert _states(node, studies) == ["committed"]


def test_an_old_report_says_nothing_of_what_was_sent_since(tmp_path: Path) -> None:
    with (
        committing_pacs() as pacs,
        _node(tmp_path, pacs.destination) as (node, studies),
        _listening(node.settings) as port,
    ):
        _ask(node)
        with node.records.writing() as session:
            session.execute(update(Delivery).values(state="due", not_before=utc_now()))
        _courier(node).drain()
        _ask(node)
        assert report_to(port, *pacs.report(0)) == 0
        assert _states(node, studies) == ["sent"]
        assert report_to(port, *pacs.report(1)) == 0
        assert _states(node, studies) == ["committed"]


def test_many_objects_are_asked_for_in_few_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commitments, "OBJECTS_AT_ONCE", 3)
    with committing_pacs() as pacs, _node(tmp_path, pacs.destination, count=7) as (node, _):
        _ask(node)
        assert [len(one.ReferencedSOPSequence) for one in pacs.asked] == [3, 3, 1]


def test_a_pacs_that_offers_no_commitment_keeps_what_was_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
        _node(tmp_path, pacs.destination) as (node, studies),
    ):
        inquirer = Inquirer(node.settings, node.records)
        for _ in range(2):
            assert inquirer.drain()
            assert (_states(node, studies), _awaited(node)) == (["sent"], 0)
            with node.records.writing() as session:
                session.execute(update(Delivery).values(commitment_due_at=utc_now()))
    (line,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert line.startswith(f"{pacs.destination} offers no storage commitment")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pacs_that_is_away_or_busy_is_asked_again(tmp_path: Path) -> None:
    waits = {"retry_first_seconds": 3600, "retry_maximum_seconds": 3600}
    with (
        committing_pacs(status=0x0110) as pacs,
        _node(tmp_path, pacs.destination, **waits) as (node, studies),
    ):
        _ask(node)
        assert len(pacs.asked) == 1
        _make_due(node)
        pacs.status = 0
        _ask(node)
        assert len(pacs.asked) == 2
        assert _errors(node) == [f"{pacs.destination} answered a request for commitment with 0110", ""]
        _make_due(node)
    _ask(node)
    assert _errors(node)[2] == f"{pacs.destination} does not answer"
    assert (_states(node, studies), _awaited(node)) == (["sent"], 1)


def _errors(node: SmallNode) -> list[str]:
    with node.records.reading() as session:
        return list(session.scalars(select(Commitment.error).order_by(Commitment.id)))


def test_a_destination_that_is_no_longer_to_be_asked_is_left(tmp_path: Path) -> None:
    with committing_pacs() as pacs, _node(tmp_path, pacs.destination) as (node, studies):
        changed = node.settings.model_copy(update={"request_commitment_from": ()})
        assert Inquirer(changed, node.records).drain()
        assert (_states(node, studies), _awaited(node), pacs.asked) == (["sent"], 0, [])


_WORKER = """
import sys
from service.records.database import Records
from service.settings import load_settings
from worker.commitment import Inquirer

settings = load_settings()
Inquirer(settings, Records.open(settings)).drain()
"""


def test_a_worker_that_is_killed_while_it_asks_loses_nothing(tmp_path: Path) -> None:
    """The PACS has understood, the worker has no answer yet; what the PACS then reports still counts."""
    with (
        committing_pacs() as pacs,
        _node(tmp_path, pacs.destination, commitment_timeout_seconds=1) as (node, studies),
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", _WORKER], env={**os.environ, **node.settings.as_environment()}
        )
        pacs.on_action = process.kill
        assert process.wait(60) == -signal.SIGKILL
        pacs.on_action = lambda: None
        wait_until(lambda: pacs.asked, 5, "request")
        to = Destination.parse(pacs.destination)
        wait_until(lambda: to in commitments.destinations_due(node.records), 10, "second question being due")
        _ask(node)
        assert len(pacs.asked) == 2
        with _listening(node.settings) as port:
            assert report_to(port, *pacs.report(0)) == 0
        assert _states(node, studies) == ["committed"]


def test_check_says_whether_a_destination_commits(tmp_path: Path) -> None:
    with committing_pacs() as pacs, storescp(tmp_path / "plain", ae_title="PACS") as plain:
        both = [pacs.destination, plain.destination]
        asked = {"destinations": both, "request_commitment_from": [*both, "NOBODY@127.0.0.1:1"]}
        lines = _checked(tmp_path, **asked)
        assert lines[pacs.destination].fact == "offers storage commitment"
        assert lines[plain.destination].complaint == f"{plain.destination} takes none of the objects offered"
        assert "it is no destination" in (lines["NOBODY@127.0.0.1:1"].complaint or "")
        lines = _checked(tmp_path, calling_ae_titles="CT1", **asked)
        assert "calling_ae_titles leaves it out" in (lines[pacs.destination].complaint or "")


def test_check_knows_a_destination_that_gets_images_by_a_rule_alone(tmp_path: Path) -> None:
    with committing_pacs() as pacs:
        rules = tmp_path / "rules.toml"
        rules.write_text(f"[[study_rules]]\nname = 'on'\nforward_images_to = ['{pacs.destination}']\n")
        lines = _checked(tmp_path, rules_file=rules, request_commitment_from=[pacs.destination])
        assert lines[pacs.destination].fact == "offers storage commitment"


def _checked(folder: Path, **values: object) -> dict[str, Line]:
    settings = load_settings(data_dir=folder / "node", web_port="", **values)
    lines = {line.name: line for line in examine(settings)}
    begin = "commitment by "
    return {name.removeprefix(begin): line for name, line in lines.items() if name.startswith(begin)}


def test_the_setting_takes_addresses_alone() -> None:
    assert load_settings(request_commitment_from="A@a:1,A@a:1").commitment_addresses == {"A@a:1"}
    with pytest.raises(
        SettingsError, match=r"request_commitment_from: A@a:1=sc: .* leave out what follows ="
    ):
        load_settings(request_commitment_from="A@a:1=sc")


def test_without_the_setting_nobody_is_asked_and_the_listener_takes_no_reports(tmp_path: Path) -> None:
    with committing_pacs() as pacs:
        node, studies = _analysed(tmp_path / "node", pacs.destination)
        _courier(node).drain()
        _ask(node)
        assert (_states(node, studies), _awaited(node), pacs.asked) == (["sent"], 0, [])
        node.records.close()
