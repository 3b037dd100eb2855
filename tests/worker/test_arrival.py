"""Results wait until a destination shows their study: Orthanc answers C-FIND, storescp does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, evt
from pynetdicom.events import Event
from sqlalchemy import select, update

from service.peers import Destination
from service.records.database import utc_now
from service.records.overview import DeliveryView
from service.records.tables import Delivery, Result
from service.selftest.marks import new_study_uid
from service.wire.query import FIND
from tests.images import make_radiograph
from tests.peers.dcmtk import storescp
from tests.peers.orthanc import Orthanc, orthanc
from tests.worker.conftest import SmallNode, small_node
from tests.worker.test_delivery import SR, _analyse, _courier
from worker.arrival import Arrivals
from worker.delivery import Courier

Answers = Callable[[Event], Iterator[tuple[int, Dataset | None]]]


def _node(folder: Path, to: str, *images: Dataset, **settings: object) -> SmallNode:
    """A node with results of these images, which wait up to a minute."""
    values = {"wait_for_study_seconds": 60, "retry_first_seconds": 3600, "retry_maximum_seconds": 3600}
    node = small_node(folder, destinations=[to], **(values | settings))
    node.take(*images)
    _analyse(node)
    return node


def _look_again(node: SmallNode) -> None:
    """Has all that waits looked at now."""
    with node.records.writing() as session:
        session.execute(update(Delivery).values(not_before=utc_now()))
    assert _courier(node).drain()


def _states(node: SmallNode, *images: Dataset) -> list[tuple[str, str]]:
    deliveries = [_delivery(node, image) for image in images]
    return [(one.state, one.error) for one in deliveries]


def _delivery(node: SmallNode, image: Dataset) -> DeliveryView:
    (one,) = node.show(str(image.StudyInstanceUID)).deliveries
    return one


def _reports(pacs: Orthanc) -> set[str]:
    found = pacs.instances({"Modality": "SR"})
    return {one["MainDicomTags"]["SOPInstanceUID"] for one in found}


def test_orthanc_gets_the_report_once_it_shows_the_study(tmp_path: Path) -> None:
    there, late = make_radiograph(), make_radiograph()
    with orthanc(tmp_path / "orthanc", DicomAlwaysAllowFind=True) as pacs:
        for name, image in (("there", there), ("late", late)):
            image.save_as(tmp_path / f"{name}.dcm", enforce_file_format=True)
        pacs.upload(tmp_path / "there.dcm")
        node = _node(tmp_path / "node", pacs.destination, there, late)
        assert _courier(node).drain()
        waits = ("due", "waits until ORTHANC shows the study")
        assert _states(node, there, late) == [("sent", ""), waits]
        _look_again(node)
        assert _states(node, late) == [waits]
        pacs.upload(tmp_path / "late.dcm")
        _look_again(node)
        assert _states(node, late) == [("sent", "")]
        assert len(_reports(pacs)) == 2
    with node.records.reading() as session:
        looks = list(session.execute(select(Delivery.attempt, Delivery.looks).order_by(Delivery.id)))
    assert looks == [(1, 0), (3, 2)]
    node.records.close()


def test_storescp_answers_no_questions_and_gets_the_report_at_once(tmp_path: Path) -> None:
    image = make_radiograph()
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node = _node(tmp_path / "node", pacs.destination, image)
        assert _courier(node).drain()
        assert len(pacs.files()) == 1
    assert _states(node, image) == [("sent", "")]
    node.records.close()


@contextmanager
def _asked(
    answers: Answers, *, takes_questions: bool = True, called: list[str] | None = None
) -> Iterator[tuple[str, list[str], list[int]]]:
    """A peer that answers C-FIND so: its address, the studies it was asked for, and the associations.

    ``called`` gets the class of reports for each association that proposes it, and nothing for others.
    """
    questions: list[str] = []
    associations: list[int] = []

    def on_find(event: Event) -> Iterator[tuple[int, Dataset | None]]:
        questions.append(str(event.identifier.StudyInstanceUID))
        associations.append(id(event.assoc))
        yield from answers(event)

    entity = AE(ae_title="PEER")
    entity.add_supported_context(SR)
    if takes_questions:
        entity.add_supported_context(FIND)

    def on_requested(event: Event) -> None:
        proposed = event.assoc.requestor.primitive.presentation_context_definition_list
        if called is not None:
            called.append(SR if SR in {str(one.abstract_syntax) for one in proposed} else "")

    handlers = [
        (evt.EVT_C_FIND, on_find),
        (evt.EVT_C_STORE, lambda _: 0),
        (evt.EVT_REQUESTED, on_requested),
    ]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)  # type: ignore[arg-type]
    assert server is not None
    try:
        port = server.server_address[1]
        yield str(Destination(ae_title="PEER", host="127.0.0.1", port=port)), questions, associations
    finally:
        server.shutdown()
        server.server_close()


def _nothing(_: Event) -> Iterator[tuple[int, Dataset | None]]:
    yield from ()


def _another(event: Event) -> Iterator[tuple[int, Dataset | None]]:
    """As some do that do not know the key: whatever they have."""
    answer = Dataset()
    answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", generate_uid()
    yield 0xFF00, answer


def _in_trouble(_: Event) -> Iterator[tuple[int, Dataset | None]]:
    yield 0xA700, None


def _does_not_understand(_: Event) -> Iterator[tuple[int, Dataset | None]]:
    yield 0xA900, None


@pytest.mark.parametrize("answers", [_nothing, _another, _in_trouble])
def test_it_waits_no_longer_than_it_is_told(
    answers: Answers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = make_radiograph()
    with _asked(answers) as (address, *_):
        node = _node(tmp_path / "node", address, image)
        _look_again(node)
        assert _delivery(node, image).error == "waits until PEER shows the study"
        with node.records.writing() as session:
            session.execute(update(Result).values(created_at=utc_now() - timedelta(seconds=61)))
        caplog.set_level(logging.WARNING)
        _look_again(node)
    assert _states(node, image) == [("sent", "")]
    (line,) = (one.getMessage() for one in caplog.records if "any longer" in one.getMessage())
    assert str(image.StudyInstanceUID) in line and address in line
    node.records.close()


def test_a_study_is_asked_for_once_a_round_on_one_association(tmp_path: Path) -> None:
    images = [make_radiograph() for _ in range(3)]
    with _asked(_nothing) as (address, questions, associations):
        node = _node(tmp_path / "node", f"{address}=sr+gsps+sc", *images)
        assert _courier(node).drain()
        assert sorted(questions) == sorted(str(image.StudyInstanceUID) for image in images)
        assert len(set(associations)) == 1
    node.records.close()


@pytest.mark.parametrize("takes_questions", [True, False], ids=["does-not-understand", "offers-none"])
def test_who_cannot_be_asked_is_sent_to_at_once(takes_questions: bool, tmp_path: Path) -> None:
    image = make_radiograph()
    with _asked(_does_not_understand, takes_questions=takes_questions) as (address, *_):
        node = _node(tmp_path / "node", address, image)
        assert _courier(node).drain()
    assert _states(node, image) == [("sent", "")]
    node.records.close()


def test_who_offers_no_questions_is_asked_again_after_some_minutes(tmp_path: Path) -> None:
    images, minutes = [make_radiograph() for _ in range(3)], [0.0]
    called: list[str] = []
    with _asked(_nothing, takes_questions=False, called=called) as (address, *_):
        node = _node(tmp_path / "node", address, *images, delivery_batch_size=1)
        arrivals = Arrivals(node.settings, clock=lambda: 60 * minutes[0])
        courier = Courier(node.settings, node.records, node.archive, arrivals)
        assert courier.drain()
        # In vain once, then one for each result.
        assert called == ["", SR, SR, SR]
        for later, more in ((4.9, [SR]), (5.1, ["", SR])):
            minutes[0], before = later, len(called)
            with node.records.writing() as session:
                row = session.scalars(select(Delivery).limit(1)).one()
                row.state, row.not_before = "due", utc_now()
            assert courier.drain()
            assert called[before:] == more
    node.records.close()


def test_a_self_test_does_not_wait(tmp_path: Path) -> None:
    image = make_radiograph(study_uid=new_study_uid(held=False))
    with _asked(_nothing) as (address, questions, _):
        node = _node(tmp_path / "node", address, image)
        assert _courier(node).drain()
        assert questions == []
    assert _states(node, image) == [("sent", "")]
    node.records.close()


# pynetdicom 3.0.4 leaves the socket of a failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_pauses_grow_and_end_with_the_wait_and_are_no_failures(tmp_path: Path) -> None:
    image = make_radiograph()
    with _asked(_nothing) as (address, *_):
        node = _node(tmp_path / "node", address, image, wait_for_study_seconds=300, retry_first_seconds=10)
        pauses = []
        for _ in range(7):
            with node.records.writing() as session:
                session.execute(update(Delivery).values(not_before=utc_now()))
            before = utc_now()
            assert _courier(node).drain()
            with node.records.reading() as session:
                pauses.append((session.scalars(select(Delivery.not_before)).one() - before).total_seconds())
        assert [round(pause) for pause in pauses] == [2, 4, 8, 16, 30, 30, 30]
        with node.records.writing() as session:
            session.execute(update(Result).values(created_at=utc_now() - timedelta(seconds=290)))
            session.execute(update(Delivery).values(not_before=utc_now()))
        before = utc_now()
        assert _courier(node).drain()
    with node.records.reading() as session:
        row = session.scalars(select(Delivery)).one()
    assert 5 < (row.not_before - before).total_seconds() <= 10
    # The first that is to send it fails: it waits as long as after any first failure.
    with node.records.writing() as session:
        session.execute(update(Result).values(created_at=utc_now() - timedelta(seconds=301)))
        session.execute(update(Delivery).values(not_before=utc_now()))
    before = utc_now()
    assert _courier(node).drain()
    with node.records.reading() as session:
        row = session.scalars(select(Delivery)).one()
    assert (row.attempt, row.looks, "does not answer" in row.error) == (9, 8, True)
    assert (row.not_before - before).total_seconds() <= 11
    node.records.close()
