"""A study of our own goes the whole way through a real node to a real receiver, and nothing of it stays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from service.archive import Archive
from service.completion import Completion
from service.errors import NeverAgain
from service.records import analyses, deliveries
from service.records.analyses import ImageOutcome, WrittenResult
from service.records.database import Records
from service.records.intake import Receiver
from service.records.removal import remove_study
from service.records.retry import Retry
from service.records.tables import Base, Study
from service.settings import Destination, load_settings
from tests.images import make_radiograph
from tests.node import BIN, Node, node_up
from tests.peers.dcmtk import Storescp, storescp
from tests.ports import free_port
from tests.service.conftest import MODEL, incoming

MINUTE = timedelta(minutes=1)
PACS = Destination(ae_title="PACS", host="host", port=104)


def _selftest(node: Node, destination: str, *options: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[object] = (BIN / "litegpt-node", "selftest", "--data-dir", node.data_dir, *options)
    settings = node.data_dir.parent / "node.toml"
    settings.write_text(f'destinations = ["{destination}"]\n', encoding="ascii")
    command = [str(word) for word in (*command, "--config", settings)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _left(node: Node) -> tuple[int, list[Path]]:
    records = Records.open(load_settings(data_dir=node.data_dir))
    with records.reading() as session:
        studies = session.scalar(select(func.count()).select_from(Study)) or 0
    records.close()
    archive = Archive(node.data_dir)
    return studies, [path for path in archive.root.rglob("*.dcm") if path.is_file()]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Storescp]]:
    """A node that delivers to a receiver."""
    folder = tmp_path_factory.mktemp("selftest")
    with (
        storescp(folder / "pacs", ae_title="PACS") as pacs,
        node_up(folder / "node", destinations=str(pacs.destination)) as node,
    ):
        yield node, pacs


def test_a_study_of_our_own_comes_through_and_nothing_of_it_stays(up: tuple[Node, Storescp]) -> None:
    node, pacs = up
    done = _selftest(node, str(pacs.destination), "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["in_order"]) == (0, True), done.stdout + done.stderr
    assert [phase["name"] for phase in told["phases"]] == [
        *("sent", "complete", "analysed", f"delivered to {pacs.destination}")
    ]
    (report,) = [one for one in pacs.datasets() if one.StudyInstanceUID == told["study"]]
    assert (report.PatientID, report.AccessionNumber) == ("LITEGPT-SELFTEST", "SELFTEST")
    assert _left(node) == (0, [])


def test_what_is_missing_is_said_in_words(up: tuple[Node, Storescp]) -> None:
    """To a destination that the node does not know nothing is delivered, however long one waits."""
    node, _ = up
    done = _selftest(node, f"OTHER@127.0.0.1:{free_port()}", "--timeout", "10")
    assert done.returncode == 1
    assert "no " in done.stdout and "delivered to OTHER@127.0.0.1" in done.stdout
    assert "not within 10 s: the study is " in done.stdout
    assert _left(node) == (0, [])


def test_a_node_that_does_not_listen_is_named(up: tuple[Node, Storescp]) -> None:
    node, pacs = up
    port = free_port()
    done = _selftest(node, str(pacs.destination), "--listener", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert f"sent  LITEGPT@127.0.0.1:{port}" in done.stdout


def _rows(records: Records) -> dict[str, int]:
    with records.reading() as session:
        tables = Base.metadata.sorted_tables
        return {table.name: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


def test_a_study_is_removed_whole_and_alone(
    receiver: Receiver, records: Records, archive: Archive, completion: Completion
) -> None:
    images = [make_radiograph(), make_radiograph()]
    for image in images:
        receiver.take(incoming(archive, image))
        completion.complete_due(records)
    retry = Retry(first=MINUTE, maximum=MINUTE, maximum_attempts=3)
    claims = analyses.claim(
        records, model_id=MODEL.id, model_version=MODEL.version, limit=9, lease=MINUTE, retry=retry
    )
    first, second = (str(image.StudyInstanceUID) for image in images)
    with pytest.raises(NeverAgain, match="under way"):
        remove_study(records, archive, first)
    for claim in claims:
        path = archive.write_result(b"a report", claim.study_instance_uid, f"2.25.{claim.analysis_id}")
        result = WrittenResult("sr", "1.2", f"2.25.{claim.analysis_id}", "1", path, "0" * 64)
        outcomes = [ImageOutcome(image.instance_id) for image in claim.images]
        analyses.finish(records, claim, outcomes, [result], [PACS])
    with pytest.raises(NeverAgain, match="under way"):
        remove_study(records, archive, first)
    for sending in deliveries.claim(records, PACS, limit=9, lease=MINUTE):
        deliveries.sent(records, sending)
    before = _rows(records)
    remove_study(records, archive, first)
    after = _rows(records)
    assert after == {table: count // 2 for table, count in before.items()}
    assert sum(before.values()) == 2 * sum(after.values()) == 12
    left = sorted(path.parent.name for path in archive.root.rglob("*.dcm"))
    assert left == [second, second]
    with pytest.raises(NeverAgain, match="no such study"):
        remove_study(records, archive, first)
