"""Results go on the association that stands; one that the PACS has ended costs nothing but another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.events import Event

from service import queue
from service.peers import Destination
from service.settings import load_settings
from service.supervisor import worker_command
from service.wire.sender import configure_process
from service.wire.standing import StandingAssociations
from tests.certificates import Authority
from tests.images import make_radiograph
from tests.peers.dcmtk import Storescp, storescp
from tests.peers.orthanc import orthanc
from tests.ports import free_port
from tests.processes import running
from tests.waiting import wait_until
from tests.worker.conftest import SmallNode, small_node
from tests.worker.test_analysis import _Explosive
from worker.analysis import Analyst
from worker.delivery import Courier

SR = "1.2.840.10008.5.1.4.1.1.88.34"
LONG = 30
"""Seconds for which an association is kept: a test ends before."""


def _associations(pacs: Storescp) -> int:
    return pacs.process.output().count("Association Acknowledged")


def _releases(pacs: Storescp) -> int:
    return pacs.process.output().count("Association Release")


def _node(folder: Path, destination: str, **settings: object) -> SmallNode:
    kept = {"keep_association_seconds": LONG, "network_timeout_seconds": 2 * LONG}
    return small_node(folder, destinations=[destination], **kept, **settings)


def _one_more(node: SmallNode) -> str:
    """A study is analysed, its report due."""
    image = make_radiograph()
    node.take(image)
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    analyst.engines.load = lambda _: _Explosive(rows=0)
    analyst.drain()
    return str(image.StudyInstanceUID)


def _courier(node: SmallNode) -> Courier:
    configure_process()
    return Courier(node.settings, node.records, node.archive)


def test_results_of_many_rounds_go_on_one_association(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination)
        courier = _courier(node)
        studies = []
        for _ in range(5):
            studies.append(_one_more(node))
            courier.drain()
        assert _associations(pacs) == 1 and _releases(pacs) == 0
        assert {str(dataset.StudyInstanceUID) for dataset in pacs.datasets()} == set(studies)
        courier.close()
        wait_until(lambda: _releases(pacs) == 1, 20, "release")
    node.records.close()


def test_orthanc_takes_them_on_one_association_too(tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc") as archive:
        node = _node(tmp_path / "node", archive.destination)
        courier = _courier(node)
        studies = []
        for _ in range(2):
            studies.append(_one_more(node))
            courier.drain()
        assert {node.show(study).outcome for study in studies} == {"delivered"}
        courier.close()
    node.records.close()


def test_one_that_is_not_used_is_released(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = small_node(tmp_path / "node", destinations=[pacs.destination], keep_association_seconds=0.2)
        _one_more(node)
        courier = _courier(node)
        courier.drain()
        wait_until(lambda: _releases(pacs) == 1, 20, "release")
        _one_more(node)
        courier.drain()
        assert _associations(pacs) == 2
        courier.close()
    node.records.close()


def test_where_none_is_kept_it_is_released_at_once(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = small_node(tmp_path / "node", destinations=[pacs.destination])
        courier = _courier(node)
        for number in range(2):
            _one_more(node)
            courier.drain()
            wait_until(lambda: _releases(pacs) == number + 1, 20, "release")  # noqa: B023
    node.records.close()


def test_a_pacs_that_was_restarted_gets_the_next_result_at_the_first_attempt(tmp_path: Path) -> None:
    port = free_port()
    node = _node(tmp_path / "node", f"PACS@127.0.0.1:{port}")
    courier = _courier(node)
    with storescp(tmp_path / "before", ae_title="PACS", port=port) as pacs:
        _one_more(node)
        courier.drain()
        _end_associations(pacs)
    with storescp(tmp_path / "after", ae_title="PACS", port=port) as pacs:
        study = _one_more(node)
        courier.drain()
        assert [str(dataset.StudyInstanceUID) for dataset in pacs.datasets()] == [study]
        assert _associations(pacs) == 1
        courier.close()
    (delivery,) = node.show(study).deliveries
    assert [(one.attempt, one.outcome) for one in delivery.attempts or ()] == [(1, "sent")]
    node.records.close()


def _end_associations(pacs: Storescp) -> None:
    """storescp has a process for each."""
    for child in pacs.process.descendants():
        child.kill()
        child.wait(10)


class _Leaving:
    """A PACS that aborts its association at chosen C-STOREs, without an answer, and counts what comes."""

    def __init__(self, *at: int) -> None:
        self.requests = self.associations = 0
        self._at = at
        entity = AE(ae_title="PACS")
        entity.add_supported_context(SR)
        handlers = [(evt.EVT_C_STORE, self._answer), (evt.EVT_ACCEPTED, self._count)]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self.destination = f"PACS@127.0.0.1:{self._server.server_address[1]}"

    def _count(self, _: Event) -> None:
        self.associations += 1

    def _answer(self, event: Event) -> int:
        self.requests += 1
        if self.requests in self._at:
            event.assoc.abort()
        return 0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def leaves_at_the_second() -> Iterator[_Leaving]:
    pacs = _Leaving(2)
    yield pacs
    pacs.close()


def test_one_that_ends_while_the_next_result_is_sent_costs_one_more_sending(
    tmp_path: Path, leaves_at_the_second: _Leaving
) -> None:
    pacs = leaves_at_the_second
    node = _node(tmp_path / "node", pacs.destination)
    courier = _courier(node)
    studies = []
    for _ in range(2):
        studies.append(_one_more(node))
        courier.drain()
    assert (pacs.requests, pacs.associations) == (3, 2)
    for study in studies:
        (delivery,) = node.show(study).deliveries
        assert [(one.attempt, one.outcome) for one in delivery.attempts or ()] == [(1, "sent")]
    courier.close()
    node.records.close()


def test_a_new_one_that_is_lost_is_a_failure_and_so_is_one_that_has_answered(tmp_path: Path) -> None:
    pacs = _Leaving(1, 4)
    node = _node(tmp_path / "node", pacs.destination, retry_first_seconds=3600, retry_maximum_seconds=3600)
    courier = _courier(node)
    first = _one_more(node)
    courier.drain()
    assert (pacs.requests, pacs.associations) == (1, 1)
    assert node.show(first).outcome == "delivering"
    _one_more(node)
    courier.drain()
    both = [_one_more(node) for _ in range(2)]
    courier.drain()  # of two on the kept one, the second is lost after the first was answered
    assert (pacs.requests, pacs.associations) == (4, 2)
    assert [node.show(study).outcome for study in both] == ["delivered", "delivering"]
    courier.close()
    pacs.close()
    node.records.close()


def test_what_a_kept_one_was_not_opened_for_goes_on_another_that_serves_both(tmp_path: Path) -> None:
    gsps = "1.2.840.10008.5.1.4.1.1.11.1"
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination)
        lines = StandingAssociations(node.settings)
        destination = Destination.parse(pacs.destination)
        for sop_classes in ([SR], [gsps], [SR], [SR, gsps]):
            with lines.associate(destination, [(one, [ImplicitVRLittleEndian]) for one in sop_classes]):
                pass
        assert _associations(pacs) == 2
        lines.close()
    node.records.close()


def test_two_at_once_have_one_each_and_one_is_kept(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination)
        lines = StandingAssociations(node.settings)
        destination = Destination.parse(pacs.destination)
        contexts = [(SR, [ImplicitVRLittleEndian])]
        with lines.associate(destination, contexts), lines.associate(destination, contexts):
            assert _associations(pacs) == 2
        wait_until(lambda: _releases(pacs) == 1, 20, "release of one")
        lines.close()
        wait_until(lambda: _releases(pacs) == 2, 20, "release of both")
    node.records.close()


def test_certificates_that_change_mean_another_association(tmp_path: Path) -> None:
    hospital = Authority.new(tmp_path / "hospital")
    pacs_own, ours = hospital.issue("pacs"), hospital.issue("node")
    options = ["+tls", str(pacs_own.key), str(pacs_own.file), "+cf", str(hospital.file)]
    with storescp(tmp_path / "pacs", ae_title="PACS", options=options) as pacs:
        settings = load_settings(
            keep_association_seconds=20,
            dicom_tls_certificate=ours.file,
            dicom_tls_key=ours.key,
            dicom_tls_authorities=hospital.file,
        )
        lines = StandingAssociations(settings)
        destination = Destination.parse(f"dicoms://{pacs.destination}")
        for changes, associations in ((False, 1), (False, 1), (True, 2), (False, 2)):
            if changes:
                ours.file.touch()
            with lines.associate(destination, [(SR, [ImplicitVRLittleEndian])]):
                assert _associations(pacs) == associations
        lines.close()


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_a_worker_that_ends_releases_what_it_keeps(tmp_path: Path, pool: str) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination)
        study = _one_more(node)  # and its bell
        with running(
            worker_command(queue.DELIVERY, pool, "INFO"),
            log=tmp_path / "worker.log",
            environment=node.settings.as_environment(),
            folder=tmp_path,
        ) as worker:
            worker.wait_until(lambda: node.show(study).outcome == "delivered", 60, "delivery")
            assert _releases(pacs) == 0
        wait_until(lambda: _releases(pacs) == 1, 20, "release")
    node.records.close()
