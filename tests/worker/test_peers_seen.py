"""Whether a destination or webhook is up, as real attempts at real peers show it."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from service.errors import CannotUnderstand, OutOfResources, PeerRefused, PeerUnavailable
from service.records import figures, peers_seen, webhook_calls
from service.records.database import Records, utc_now
from service.records.figures import DestinationLine, WebhookLine
from service.records.peers_seen import Contact, Reach, Seen
from service.records.states import PeerKind
from service.records.tables import Delivery, PeerSeen, WebhookCall
from tests.images import make_radiograph
from tests.peers.dcmtk import storescp
from tests.ports import free_port
from tests.service.receivers import receiver
from tests.service.test_sender import _peer as peer
from tests.worker.conftest import SmallNode, small_node
from tests.worker.test_calling import _finish
from tests.worker.test_delivery import LONG_WAITS, SR, _analyse, _courier
from tests.worker.test_forwarded_images import _node as passing_on
from tests.worker.test_forwarded_images import _take as take
from worker.calling import Caller

# pynetdicom 3.0.4 leaves the socket of a failed connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _destination(node: SmallNode) -> DestinationLine:
    with node.records.reading() as session:
        (line,) = figures.destinations(session, tuple(to.address for to in node.settings.destinations))
    return line


def _webhook(node: SmallNode) -> WebhookLine:
    with node.records.reading() as session:
        (line,) = figures.webhooks(session, node.settings.webhook_names)
    return line


def _due_again(node: SmallNode) -> None:
    with node.records.writing() as session:
        session.execute(update(Delivery).values(not_before=utc_now()))
        session.execute(update(WebhookCall).values(not_before=utc_now()))


def _read(node: SmallNode) -> None:
    node.take(make_radiograph())
    _analyse(node)


def test_a_destination_goes_down_at_the_first_failure_and_comes_up_with_what_it_takes(tmp_path: Path) -> None:
    port = free_port()
    node = small_node(tmp_path / "node", destinations=[f"PACS@127.0.0.1:{port}"], **LONG_WAITS)
    assert _destination(node).seen == Seen()
    assert _destination(node).seen.reach == "nothing sent yet"
    before = utc_now()
    _read(node)
    _read(node)
    _courier(node).drain()
    line = _destination(node)
    assert (line.waiting, line.seen.reach, line.seen.last_success) == (2, Reach.DOWN, None)
    assert "does not answer" in line.seen.failure
    assert line.oldest is not None and before < line.oldest < utc_now()
    down_since = line.seen.down_since
    assert down_since == line.seen.last_failure and down_since is not None and down_since > line.oldest

    _due_again(node)
    _courier(node).drain()
    seen = _destination(node).seen
    assert seen.down_since == down_since and seen.last_failure is not None and seen.last_failure > down_since

    _due_again(node)
    with storescp(tmp_path / "pacs", ae_title="PACS", port=port):
        _courier(node).drain()
    line = _destination(node)
    assert (line.waiting, line.oldest, line.seen.reach, line.seen.down_since) == (0, None, Reach.UP, None)
    assert line.seen.last_success is not None and line.seen.last_success >= (line.last_delivered or utc_now())
    assert line.seen.last_failure == seen.last_failure
    node.records.close()


def test_one_that_refuses_an_object_is_up_and_one_that_rejects_us_is_down(tmp_path: Path) -> None:
    with peer(0xC000, sop_class=SR) as refusing:
        node = small_node(tmp_path / "refused", destinations=[str(refusing)])
        _read(node)
        _courier(node).drain()
        line = _destination(node)
        assert (line.refused, line.seen.reach, line.seen.last_success) == (1, Reach.UP, None)
        assert "answered C000: refused" in line.seen.failure
        node.records.close()
    with storescp(tmp_path / "pacs", ae_title="PACS", options=["--refuse"]) as rejecting:
        node = small_node(tmp_path / "rejected", destinations=[rejecting.destination])
        _read(node)
        _courier(node).drain()
        line = _destination(node)
        assert line.seen.reach is Reach.DOWN and "rejects our association" in line.seen.failure
        node.records.close()


def test_an_image_that_is_passed_on_tells_the_same_of_its_destination(tmp_path: Path) -> None:
    node = passing_on(tmp_path / "node", f"ARCHIVE@127.0.0.1:{free_port()}", **LONG_WAITS)
    (to,) = node.settings.forward_images_to
    take(node, make_radiograph())
    _courier(node).drain()
    with node.records.reading() as session:
        (line,) = figures.destinations(session, (to.address,))
    assert (line.destination, line.waiting, line.seen.reach) == (to.address, 1, Reach.DOWN)
    assert line.oldest is not None and line.oldest <= utc_now()
    node.records.close()


def test_a_webhook_is_up_while_it_answers(tmp_path: Path) -> None:
    with receiver(0, 204, 410) as taken:
        node = small_node(tmp_path / "node", webhooks={"a": taken.table()}, **LONG_WAITS)
        caller = Caller(node.settings, node.records, node.archive)
        node.take(make_radiograph())
        _finish(node)
        assert _webhook(node).seen.reach is Reach.UNKNOWN
        with node.records.writing() as session:
            webhook_calls.call(session, 1, "a")
        caller.drain()
        line = _webhook(node)
        assert (line.waiting, line.refused, line.seen.reach) == (1, 0, Reach.DOWN)
        assert line.oldest is not None and line.oldest <= utc_now()
        _due_again(node)
        caller.drain()
        line = _webhook(node)
        assert (line.waiting, line.oldest, line.seen.reach) == (0, None, Reach.UP)
        node.take(make_radiograph())
        _finish(node)
        with node.records.writing() as session:
            webhook_calls.call(session, 2, "a")
        caller.drain()
        line = _webhook(node)
        assert (line.refused, line.seen.reach) == (1, Reach.UP)
        assert line.seen.failure.endswith("answered 410: refused")
    node.records.close()


def _noted(records: Records, contact: Contact, at: datetime) -> Seen:
    with records.writing() as session:
        peers_seen.note(session, PeerKind.DESTINATION, "PACS@host:104", contact, at)
    with records.reading() as session:
        return peers_seen.seen(session, PeerKind.DESTINATION).get("PACS@host:104", Seen())


def test_what_one_association_says(node: SmallNode) -> None:
    begun = utc_now()
    at = [begun + timedelta(minutes=number) for number in range(6)]
    away, refusal = PeerUnavailable("away"), PeerRefused("no")

    ours = Contact()
    ours.failed(OutOfResources("our disk"))
    ours.failed(CannotUnderstand("our file"))
    assert not ours and _noted(node.records, ours, at[0]) == Seen()

    broken = Contact()
    broken.succeeded()
    broken.failed(away)  # it took some, and then it was gone: the next association shows what it is
    assert _noted(node.records, broken, at[1]) == Seen(at[1], at[1], "away", None)

    gone = Contact()
    gone.failed(refusal)
    gone.failed(away)
    assert _noted(node.records, gone, at[2]) == Seen(at[1], at[2], "away", at[2])
    assert _noted(node.records, gone, at[3]) == Seen(at[1], at[3], "away", at[2])

    refused = Contact()
    refused.failed(away)
    refused.failed(refusal)
    assert _noted(node.records, refused, at[4]) == Seen(at[1], at[4], "no", None)
    took = Contact()
    took.succeeded()
    assert _noted(node.records, took, at[5]) == Seen(at[5], at[4], "no", None)


def _down(node: SmallNode, for_seconds: float, last_seconds_ago: float) -> None:
    """Has the one that is down have been so for a while."""
    last = utc_now() - timedelta(seconds=last_seconds_ago)
    with node.records.writing() as session:
        since = last - timedelta(seconds=for_seconds)
        session.execute(
            update(PeerSeen)
            .where(PeerSeen.down_since.is_not(None))
            .values(down_since=since, last_failure_at=last)
        )


def test_one_that_stays_down_is_left_alone_for_a_while_and_delays_nobody(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs, socket.create_server(("127.0.0.1", 0)) as dead:
        dead.settimeout(0)  # connections come as far as the kernel; nobody ever answers
        away = f"AWAY@127.0.0.1:{dead.getsockname()[1]}"
        node = small_node(tmp_path / "node", destinations=[away, pacs.destination], acse_timeout_seconds=1)
        for studies, (for_seconds, last_ago), calls in (
            (1, (5, 0), 1),  # nothing is known of it yet
            (2, (300, 0), 1),  # it has just gone down
            (3, (300, 61), 0),  # it has been down for long, and was tried a moment ago
            (4, (300, 0), 1),  # a minute later
        ):
            _read(node)
            _due_again(node)
            _courier(node).drain(0.5)
            assert pacs.store_requests() == studies
            assert _calls(dead) == calls, (studies, calls)
            _down(node, for_seconds, last_ago)
        node.records.close()


def _calls(server: socket.socket) -> int:
    """How many connections have come, since it was last asked."""
    count = 0
    while True:
        try:
            server.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize(
    ("down_seconds", "rest_seconds"), [(0, None), (10, None), (11, 1), (40, 30), (70, 60), (7200, 60)]
)
def test_the_longer_it_is_down_the_longer_it_is_left_alone(
    down_seconds: float, rest_seconds: float | None
) -> None:
    last = utc_now()
    peer_seen = Seen(None, last, "does not answer", last - timedelta(seconds=down_seconds))
    rest = None if peer_seen.rests_until is None else (peer_seen.rests_until - last).total_seconds()
    assert rest == rest_seconds
    assert Seen(last, last, "refused", None).rests_until is None
