"""A PACS that refuses for long is tried again and again, gets everything once, and delays no other.

``LITEGPT_TEST_REFUSAL_SECONDS=1000`` has it refuse for so long, under the waits that a hospital has
(docs/reliability.md).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from litegpt.phantoms import phantom_files
from service.records.attempts import KEPT
from service.records.peers_seen import LONGEST_REST
from tests.faults.moody_pacs import REFUSING, Mood, MoodyPacs, moody_pacs
from tests.node import Node, node_up
from tests.peers.dcmtk import Storescp, dcmsend, storescp
from tests.peers.radiographs import as_new_studies, study_uids
from tests.waiting import wait_until

VARIABLE = "LITEGPT_TEST_REFUSAL_SECONDS"
SECONDS = float(os.environ.get(VARIABLE, "6"))
WAITS = {} if VARIABLE in os.environ else {"retry_first_seconds": "0.2", "retry_maximum_seconds": "1"}
REST_SECONDS = LONGEST_REST.total_seconds()
"""For so long a PACS that has been down is left alone between tries; a slow machine comes to it."""

LONGEST_WAIT_SECONDS = (1.0 if WAITS else 900.0) + REST_SECONDS

STUDIES = 6
MET_SECONDS = 120.0 + REST_SECONDS
"""After this it has met the node in a mood."""

ELSEWHERE_SECONDS = 45.0
"""After this a result has come to the other PACS, whose worker shares two cores with all tests."""

pytestmark = pytest.mark.timeout(120 + SECONDS + STUDIES * MET_SECONDS + LONGEST_WAIT_SECONDS)

_DELIVERIES = """
    SELECT r.sop_instance_uid AS uid, r.created_at AS made, d.state, d.destination, d.sent_at AS sent,
           d.attempt AS tries, (SELECT count(*) FROM delivery_attempt WHERE delivery_id = d.id) AS told
    FROM delivery d JOIN result r ON r.id = d.result_id
"""


def test_it_gets_everything_once_and_delays_no_other(tmp_path: Path) -> None:
    files = as_new_studies(phantom_files()[:STUDIES], tmp_path / "images")
    with storescp(tmp_path / "good", ae_title="GOOD") as good, moody_pacs() as moody:
        settings = {"destinations": f"{moody.destination},{good.destination}", **_waits()}
        with node_up(tmp_path / "node", **settings) as node:
            _refuse_while_studies_come(node, moody, files)
            refused = _deliveries(node)
            moody.turn(Mood.TAKES)
            node.wait_for(study_uids(files), "delivered", LONGEST_WAIT_SECONDS + 60)
            sent = _deliveries(node)
    _tell(moody, good, sent)
    to_moody = [row for row in sent if row["destination"] == moody.destination]
    to_good = [row for row in sent if row["destination"] == good.destination]
    assert moody.stored == {row["uid"]: 1 for row in to_moody} and len(to_moody) == STUDIES
    assert good.store_requests() == len(to_good) == STUDIES
    assert {row["state"] for row in refused if row["destination"] == moody.destination} == {"due"}
    assert all(moody.refused[mood] for mood in (Mood.OUT_OF_RESOURCES, Mood.REJECTS))
    assert max(row["tries"] for row in to_moody) > len(REFUSING)
    assert max(row["told"] for row in to_moody) <= min(KEPT, 2 * STUDIES + 1)
    assert max(map(_seconds, to_good)) < ELSEWHERE_SECONDS


def _waits() -> dict[str, str]:
    # The hospital's own are the settings' defaults, which a test's node else shortens.
    return WAITS or {"retry_first_seconds": "10"}


def _refuse_while_studies_come(node: Node, moody: MoodyPacs, files: list[Path]) -> None:
    """All moods in turn, each more than once and until it was met; with each turn a study comes."""
    for file, mood in zip(files, cycle(REFUSING), strict=False):
        moody.turn(mood)
        begun, before = time.monotonic(), (_tries(node, moody), moody.refused[mood])
        assert {one.status for one in dcmsend(node.port, file)} == {0}
        wait_until(partial(_met, node, moody, mood, before), MET_SECONDS, f"try at a PACS that {mood}")
        time.sleep(max(0.0, begun + SECONDS / STUDIES - time.monotonic()))


def _tries(node: Node, moody: MoodyPacs) -> int:
    return sum(row["tries"] for row in _deliveries(node) if row["destination"] == moody.destination)


def _met(node: Node, moody: MoodyPacs, mood: Mood, before: tuple[int, int]) -> bool:
    """Whether the node has met this mood since; what refuses connections does not see them."""
    tries, refused = before
    return _tries(node, moody) > tries and (mood is Mood.AWAY or moody.refused[mood] > refused)


def _deliveries(node: Node) -> list[Mapping[str, Any]]:
    with node.records() as records, records.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(_DELIVERIES)).mappings()]


def _seconds(row: Mapping[str, Any]) -> float:
    """From when a result was made to when it had arrived; SQLite gives times as text."""
    made, sent = (
        time.mktime(time.strptime(str(row[name])[:19], "%Y-%m-%d %H:%M:%S")) for name in ("made", "sent")
    )
    return sent - made


def _tell(moody: MoodyPacs, good: Storescp, sent: list[Mapping[str, Any]]) -> None:
    """What came of it, for the table in docs/reliability.md (``pytest -s``)."""
    print(f"\nrefused for {SECONDS:g} s: {dict(moody.refused)}")
    for to in (good.destination, moody.destination):
        rows = [row for row in sent if row["destination"] == to]
        seconds, tries, told = ([get(row) for row in rows] for get in (_seconds, _tries_of, _told_of))
        print(f"{to}: there after {seconds} s, tries {tries}, rows of them {told}")


def _tries_of(row: Mapping[str, Any]) -> Any:
    return row["tries"]


def _told_of(row: Mapping[str, Any]) -> Any:
    return row["told"]
