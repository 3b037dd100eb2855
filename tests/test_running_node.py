"""What an admin asks a node that runs: a self-test through all of it, and a look at what it does."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pytest
from pydicom.uid import generate_uid

from litegpt.phantoms import phantom_files
from service.archive import Archive
from service.peers import Destination
from service.records.database import Records, utc_now
from service.selftest import course
from service.selftest.course import Ending, Phase, SelfTest, remove_leftovers
from service.settings import load_settings
from service.watch import look
from tests.node import BIN, Node, node_up
from tests.peers.dcmtk import Storescp, dcmsend, storescp
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

NAME = "Verysecret"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storescp]:
    with storescp(tmp_path_factory.mktemp("pacs") / "pacs", ae_title="PACS") as receiver:
        yield receiver


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: Storescp) -> Iterator[Node]:
    with node_up(tmp_path_factory.mktemp("node") / "node", destinations=pacs.destination) as running:
        yield running


def _selftest(node: Node, **asked: Any) -> tuple[str, dict[str, Phase]]:
    """A self-test within this process: the test study's UID, and its phases by name."""
    settings = load_settings(data_dir=node.data_dir)
    records = Records.open(settings)
    address = Destination(ae_title="LITEGPT", host="127.0.0.1", port=asked.pop("port", node.port))
    values = {"destinations": (), "deliver": True, "timeout_seconds": 60, **asked}
    test = SelfTest(settings, records, Archive(node.data_dir), address, **values)
    phases = {phase.name: phase for phase in test.run()}
    records.close()
    return test.study_instance_uid, phases


def _files(node: Node) -> list[Path]:
    folders = (node.data_dir / "images", node.data_dir / "results")
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def test_a_test_study_goes_through_the_node_to_the_pacs_and_is_removed(node: Node, pacs: Storescp) -> None:
    said = json.loads(_command(node, "selftest", "--json"))
    assert said["in_order"], said
    assert [phase["name"] for phase in said["phases"]] == [
        f"sent to LITEGPT@127.0.0.1:{node.port}",
        *("completed", "taken up", "analysed", "reported"),
        f"delivered to {pacs.destination}",
        "removed",
    ]
    assert {phase["ending"] for phase in said["phases"]} == {"ok"}
    assert said["phases"][3]["seconds"] > 0
    (report,) = pacs.datasets()
    assert (report.StudyInstanceUID, report.Modality) == (said["study_instance_uid"], "SR")
    assert (str(report.PatientName), report.PatientID) == ("SELFTEST^NOT A PATIENT", "LITEGPT-SELFTEST")
    assert node.studies() == {} and _files(node) == []


def test_without_delivery_nothing_reaches_the_pacs(node: Node, pacs: Storescp) -> None:
    before = pacs.store_requests()
    uid, phases = _selftest(node, deliver=False)
    assert [phase.ending for phase in phases.values()] == [*[Ending.OK] * 5, Ending.LEFT_OUT, Ending.OK]
    assert node.studies() == {} and _files(node) == []
    # A study that came after it is delivered, and it is not: so it never will be.
    later, _ = _selftest(node)
    assert pacs.store_requests() == before + 1
    assert uid != later and uid not in {report.StudyInstanceUID for report in pacs.datasets()}


def test_a_destination_that_the_node_does_not_have_is_missing(node: Node) -> None:
    uid, phases = _selftest(node, destinations=["OTHER@127.0.0.1:104"])
    missing = phases["delivered to OTHER@127.0.0.1:104"]
    assert missing.ending is Ending.MISSING and "no delivery was made" in missing.detail
    assert "removed" not in phases
    node.wait_for({uid}, "delivered")


def test_what_has_not_come_in_time_is_named_and_goes_with_a_later_test(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [one for one in node.process.descendants() if "analysis" in one.cmdline()]
    stopped = [one for worker in workers for one in (worker, *worker.children(recursive=True))]
    for process in stopped:
        process.suspend()
    try:
        uid, phases = _selftest(node, timeout_seconds=0.5)
    finally:
        for process in reversed(stopped):
            process.resume()
    assert phases["analysed"].ending is Ending.MISSING and "queued" in phases["analysed"].detail
    assert "removed" not in phases
    node.wait_for({uid}, "delivered")
    records = Records.open(load_settings(data_dir=node.data_dir))
    assert remove_leftovers(records, Archive(node.data_dir)) == 0
    monkeypatch.setattr(course, "_LEFTOVER_AGE", timedelta(0))
    assert remove_leftovers(records, Archive(node.data_dir)) >= 1
    records.close()
    assert node.studies() == {} and _files(node) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom's open socket
def test_a_listener_that_is_not_there_is_named(node: Node) -> None:
    uid, phases = _selftest(node, port=free_port())
    (phase,) = phases.values()
    assert phase.ending is Ending.FAILED and "does not answer" in phase.detail and uid == ""


class Screen:
    """A command in a terminal of its own, 120 columns and 40 lines."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.terminal = terminal
        self.shown = ""

    def shows(self, pattern: str) -> bool:
        """Whether something like this has come on the screen so far; takes in what has come meanwhile."""
        while True:
            try:
                self.shown += os.read(self.terminal, 65536).decode(errors="replace")
            except (BlockingIOError, OSError):  # nothing new, or the program has ended
                break
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown)
        return re.search(pattern, plain) is not None


@contextmanager
def _screen(node: Node) -> Iterator[Screen]:
    terminal, of_program = pty.openpty()
    fcntl.ioctl(of_program, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    os.set_blocking(terminal, False)
    before = termios.tcgetattr(of_program)
    process = subprocess.Popen(
        [BIN / "litegpt-node", "watch", "--data-dir", node.data_dir],
        stdin=of_program,
        stdout=of_program,
        stderr=of_program,
        env={**os.environ, "TERM": "xterm"},
        cwd=node.data_dir,
        start_new_session=True,
    )
    try:
        yield Screen(process, terminal)
        assert termios.tcgetattr(of_program) == before
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(of_program)
        os.close(terminal)


def _radiograph(folder: Path) -> tuple[Path, str]:
    dataset = pydicom.dcmread(phantom_files()[0])
    dataset.PatientName = f"{NAME}^Patient"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.AccessionNumber = "WATCHED"
    dataset.save_as(folder / "one.dcm", enforce_file_format=True)
    return folder / "one.dcm", str(dataset.StudyInstanceUID)


def test_a_study_is_seen_to_come_in_and_to_be_delivered(node: Node, pacs: Storescp, tmp_path: Path) -> None:
    file, uid = _radiograph(tmp_path)
    with _screen(node) as screen:
        wait_until(lambda: screen.shows("sweeper runs"), 60, "first frame")
        assert not screen.shows("WATCHED")
        assert {one.status for one in dcmsend(node.port, file)} == {0}
        wait_until(lambda: screen.shows(r"WATCHED.*receiving"), 30, "study on the screen")
        wait_until(lambda: screen.shows(r"WATCHED.*delivered"), 60, "study delivered on the screen")
        assert screen.shows(rf"{pacs.destination} +up +[1-9]")
        os.write(screen.terminal, b"xq")
        assert screen.process.wait(20) == 0
    node.wait_for({uid}, "delivered")
    screen.shows("")
    assert NAME not in screen.shown


def test_ctrl_c_ends_it_in_order(node: Node) -> None:
    with _screen(node) as screen:
        wait_until(lambda: screen.shows("sweeper runs"), 60, "first frame")
        screen.process.send_signal(signal.SIGINT)
        assert screen.process.wait(60) == 0
    assert not psutil.pid_exists(screen.process.pid)


def test_one_frame_for_a_script_and_one_for_a_person(node: Node, pacs: Storescp, tmp_path: Path) -> None:
    before = _looked(node)
    file, uid = _radiograph(tmp_path)
    assert {one.status for one in dcmsend(node.port, file)} == {0}
    node.wait_for({uid}, "delivered")
    after = json.loads(_command(node, "watch", "--json"))
    minutes = after["rates"]["window_seconds"] / 60
    for what in ("received", "analysed", "delivered"):
        assert round((after["rates"][what] - before["rates"][what]) * minutes) == 1, what
    assert after["queue"] == {"receiving": 0, "waiting": 0, "running": 0, "oldest": None}
    assert after["sweeper_beats"] and after["free_bytes"] > 0
    assert [one["destination"] for one in after["destinations"]] == [pacs.destination]
    assert (after["studies"][0]["study_instance_uid"], after["studies"][0]["state"]) == (uid, "delivered")
    shown = _command(node, "watch", "--once")
    assert "WATCHED" in shown and "delivered" in shown and NAME not in shown


def _looked(node: Node) -> dict[str, Any]:
    settings = load_settings(data_dir=node.data_dir)
    records = Records.open(settings)
    with records.snapshot() as session:
        frame = look(session, settings, utc_now())
    records.close()
    return frame.as_json()


def _command(node: Node, *arguments: str) -> str:
    """What a command prints that is in order."""
    command = [BIN / "litegpt-node", *arguments, "--data-dir", node.data_dir]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=node.data_dir)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout
    return ended.stdout
