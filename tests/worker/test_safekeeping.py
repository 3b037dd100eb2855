"""The node commits to modalities: what is kept, what is said to be kept, and what a purge leaves alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.events import Event
from sqlalchemy import select, update

from service.actions.purging import Limits, Purge
from service.checks import Line, examine
from service.errors import SettingsError
from service.records.database import utc_now
from service.records.tables import Instance, SafekeepingRequest
from service.settings import load_settings
from service.wire.listener import Listener
from tests.images import CR, DX, make_radiograph
from tests.peers.committing import CLASS, INSTANCE
from tests.worker.conftest import SmallNode, small_node
from tests.worker.test_delivery import _analyse
from worker.safekeeping import Keeper


@dataclass
class Modality:
    """One that takes reports; ``statuses`` are its answers, the last one for good."""

    port: int = 0
    statuses: Sequence[int] = (0,)
    reports: list[tuple[int, Dataset]] = field(default_factory=list)

    def on_report(self, event: Event) -> tuple[int, None]:
        request: Any = event.request
        assert event.assoc.requestor.ae_title == "LITEGPT"
        self.reports.append((request.EventTypeID, event.event_information))
        return self.statuses[min(len(self.reports), len(self.statuses)) - 1], None

    def told(self) -> tuple[int, list[str], dict[str, int]]:
        """Event type, what is kept, and why the rest is not, by the last report."""
        kind, information = self.reports[-1]
        kept = [str(one.ReferencedSOPInstanceUID) for one in information.get("ReferencedSOPSequence", [])]
        failed = information.get("FailedSOPSequence", [])
        return kind, kept, {str(one.ReferencedSOPInstanceUID): one.FailureReason for one in failed}


@pytest.fixture
def modality() -> Iterator[Modality]:
    taken = Modality()
    entity = AE(ae_title="CT1")
    entity.add_supported_context(CLASS, scu_role=True, scp_role=True)
    handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, taken.on_report)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    taken.port = server.server_address[1]
    yield taken
    server.shutdown()
    server.server_close()


@contextmanager
def _node(folder: Path, modality: Modality, **values: object) -> Iterator[tuple[SmallNode, int]]:
    """A node that commits to a modality, and its port."""
    settings: dict[str, object] = {
        "dicom_host": "127.0.0.1",
        "dicom_port": 0,
        "commit_for_days": 30,
        "commitment_reports_to": [f"CT1@127.0.0.1:{modality.port}"],
    }
    node = small_node(folder / "node", **(settings | values))
    listener = Listener(node.settings)
    listener.start()
    yield node, listener.port
    listener.stop()
    node.records.close()
    node.bell.close()


def _request(*objects: tuple[str, str], transaction: str = "") -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction or generate_uid()
    request.ReferencedSOPSequence = []
    for sop_class, uid in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        request.ReferencedSOPSequence.append(item)
    return request


def _ask(
    port: int, request: Dataset, *, calling: str = "CT1", action: int = 1, instance: str = INSTANCE
) -> int:
    """Asks as a modality does; returns the status."""
    entity = AE(ae_title=calling)
    entity.add_requested_context(CLASS)
    association = entity.associate("127.0.0.1", port)
    assert association.is_established
    reply, _ = association.send_n_action(request, action, CLASS, instance)
    association.release()
    return int(reply.Status)


def _keep(node: SmallNode) -> None:
    assert Keeper(node.settings, node.records, node.archive).drain()


def _purgeable(node: SmallNode) -> int:
    limits = Limits(utc_now() + timedelta(days=1))
    return Purge(node.records, node.archive, "a test", dry_run=True).run(limits).studies


def test_a_modality_hears_what_is_kept_and_a_purge_leaves_that_alone(
    tmp_path: Path, modality: Modality
) -> None:
    with _node(tmp_path, modality) as (node, port):
        images = [make_radiograph() for _ in range(4)]
        node.take(*images)
        _analyse(node)
        kept, asked_wrongly, lost, _other = (str(image.SOPInstanceUID) for image in images)
        with node.records.reading() as session:
            path = session.scalars(select(Instance.path).where(Instance.sop_instance_uid == lost)).one()
        node.archive.absolute(path).unlink()
        assert _purgeable(node) == 4
        request = _request((DX, kept), (CR, asked_wrongly), (DX, lost), (DX, "1.2.3.4"))
        assert _ask(port, request) == 0
        _keep(node)
        _keep(node)
        assert modality.told() == (2, [kept], {asked_wrongly: 0x0119, lost: 0x0112, "1.2.3.4": 0x0112})
        assert modality.reports[0][1].TransactionUID == request.TransactionUID
        assert len(modality.reports) == 1
        assert _purgeable(node) == 3
        with node.records.writing() as session:
            (until,) = session.scalars(
                select(Instance.committed_until).where(Instance.sop_instance_uid == kept)
            )
            assert until is not None
            assert abs((until - utc_now()) - timedelta(days=30)) < timedelta(minutes=5)
            session.execute(update(Instance).values(committed_until=utc_now() - timedelta(seconds=1)))
        assert _purgeable(node) == 4


def test_a_purged_image_is_not_promised(tmp_path: Path, modality: Modality) -> None:
    with _node(tmp_path, modality) as (node, port):
        image = make_radiograph()
        node.take(image)
        _analyse(node)
        uid = str(image.SOPInstanceUID)
        Purge(node.records, node.archive, "a test").run(Limits(utc_now() + timedelta(days=1)))
        assert _ask(port, _request((DX, uid))) == 0
        _keep(node)
        assert modality.told() == (2, [], {uid: 0x0112})
        node.take(image)  # sent once more, it is there again
        assert _ask(port, _request((DX, uid))) == 0
        _keep(node)
        assert modality.told() == (1, [uid], {})


def test_a_report_is_brought_until_it_is_taken(tmp_path: Path, modality: Modality) -> None:
    modality.statuses = (0x0110, 0)
    with _node(tmp_path, modality) as (node, port):
        image = make_radiograph()
        node.take(image)
        request = _request((DX, str(image.SOPInstanceUID)))
        assert _ask(port, request) == 0
        _keep(node)  # which tries again at once here: there is no wait
        assert len(modality.reports) == 2
        assert _states(node) == [("sent", "")]
        assert _ask(port, request) == 0  # the same once more is answered once more
        _keep(node)
        assert (len(modality.reports), len(_states(node))) == (3, 1)


def test_a_modality_that_does_not_want_to_know_is_left_alone(tmp_path: Path, modality: Modality) -> None:
    modality.statuses = (0x0115,)
    with _node(tmp_path, modality) as (node, port):
        assert _ask(port, _request((DX, "1.2.3"))) == 0
        _keep(node)
        to = f"CT1@127.0.0.1:{modality.port}"
        assert _states(node) == [("refused", f"{to} answered a report with 0115")]


# pynetdicom 3.0.4 leaves the socket of a failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_modality_that_is_away_is_told_later_and_the_promise_holds(
    tmp_path: Path, modality: Modality
) -> None:
    away = {"retry_first_seconds": 3600, "retry_maximum_seconds": 3600}
    nowhere = replace(modality, port=1)
    with _node(tmp_path, nowhere, **away) as (node, port):
        image = make_radiograph()
        node.take(image)
        _analyse(node)
        assert _ask(port, _request((DX, str(image.SOPInstanceUID)))) == 0
        _keep(node)
        assert _states(node) == [("due", "CT1@127.0.0.1:1 does not answer")]
        assert _purgeable(node) == 0


def _states(node: SmallNode) -> list[tuple[str, str]]:
    with node.records.reading() as session:
        rows = session.scalars(select(SafekeepingRequest).order_by(SafekeepingRequest.id))
        return [(row.state, row.error) for row in rows]


def test_requests_that_are_none_or_of_strangers_are_refused(tmp_path: Path, modality: Modality) -> None:
    with _node(tmp_path, modality) as (node, port):
        request = _request((DX, "1.2.3"))
        assert _ask(port, request, calling="STRANGER") == 0x0124
        assert _ask(port, request, instance="1.2.3") == 0x0112
        assert _ask(port, request, action=2) == 0x0123
        assert _ask(port, _request()) == 0x0115
        assert _ask(port, _request((DX, ""))) == 0x0115
        many = _request(*((DX, f"1.2.{number}") for number in range(10_001)))
        assert _ask(port, many) == 0x0213
        assert _states(node) == []


def test_check_says_to_whom_the_node_commits(tmp_path: Path) -> None:
    def line(**values: object) -> Line:
        settings = load_settings(
            data_dir=tmp_path, web_port="", commit_for_days=30, commitment_reports_to="CT1@ct1:104", **values
        )
        return next(line for line in examine(settings) if line.name == "commitment to modalities")

    assert line().fact == "for 30 days, on request of CT1@ct1:104"
    assert line(calling_ae_titles="CT2").complaint == "calling_ae_titles leaves CT1 out"


def test_without_the_settings_nobody_may_ask(tmp_path: Path, modality: Modality) -> None:
    with pytest.raises(SettingsError, match="commit_for_days needs commitment_reports_to"):
        load_settings(commit_for_days=1)
    with _node(tmp_path, modality, commit_for_days=0) as (_, port):
        entity = AE(ae_title="CT1")
        entity.add_requested_context(CLASS)
        association = entity.associate("127.0.0.1", port)
        assert not association.is_established
