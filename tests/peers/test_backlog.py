"""A backlog at real archives, by the real commands: found, retrieved, killed in the middle, and gone on with.

Each study is retrieved once and analysed once, whatever was killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pydicom import Dataset
from sqlalchemy import select

from litegpt.identity import read_identity
from service.cli.main import main
from service.completion import Completion
from service.records.states import Priority
from service.records.tables import Analysis, Instance, RetrievalStudy, Study
from service.settings import Settings
from service.wire.listener import Listener, configure_process
from tests.images import CR, DX, make_radiograph
from tests.peers.dcmtk import dcmsend
from tests.peers.orthanc import orthanc
from tests.peers.query_retrieve import dcmqrscp
from tests.processes import Process, running
from tests.waiting import wait_until
from tests.worker.conftest import SmallNode, small_node

COMMAND = (sys.executable, "-m", "service.cli.main")
STUDIES = 30
LEASE_SECONDS = 2
ANYONE: dict[str, Any] = {
    "DicomAlwaysAllowFind": True,
    "DicomAlwaysAllowMove": True,
    "DicomAlwaysAllowGet": True,
}
"""An Orthanc that asks nobody who he is."""
RANGE = ("--since", "2025-01-01", "--until", "2025-01-10")


@dataclass
class Pacs:
    """An archive with a backlog."""

    destination: str
    images: list[Dataset]


def _backlog() -> list[Dataset]:
    """Studies of one and of two images over ten days; what is not read lies beside."""
    images = []
    for number in range(STUDIES):
        about: dict[str, Any] = {
            "StudyDate": f"202501{number % 10 + 1:02d}",
            "StudyTime": f"{number % 24:02d}3000",
            "AccessionNumber": f"A{number:03d}",
            "PatientID": f"P{number % 3}",
            "PatientName": "Verysecret^Name",
        }
        first = make_radiograph(sop_class=CR if number % 2 else DX, **about)
        images.append(first)
        if number % 5 == 0:
            images.append(make_radiograph(sop_class=DX, study_uid=first.StudyInstanceUID, **about))
    ct = make_radiograph(sop_class=CR, Modality="CT", StudyDate="20250105", AccessionNumber="CT-1")
    return [*images, ct]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallNode]:
    """A node's footing, with its listener in this process."""
    small = small_node(
        tmp_path / "node",
        minimum_free_bytes=0,
        dicom_host="127.0.0.1",
        dicom_port=0,
        retrieval_lease_seconds=LEASE_SECONDS,
        sweep_interval_seconds=0.1,
    )
    small.bell.close()
    for name in ("STORE_RECV_CHUNKED_DATASET", "LOG_HANDLER_LEVEL", "LOG_REQUEST_IDENTIFIERS"):
        monkeypatch.setattr(f"pynetdicom._config.{name}", None)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("service.logs.configure", lambda *_: None)
    configure_process(small.settings)
    yield small
    small.records.close()


@pytest.fixture
def port(node: SmallNode) -> Iterator[int]:
    """Of its listener."""
    listener = Listener(node.settings)
    listener.start()
    yield listener.port
    listener.stop()


def _files(images: list[Dataset], folder: Path) -> list[Path]:
    folder.mkdir()
    for number, image in enumerate(images):
        image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return sorted(folder.iterdir())


@pytest.fixture
def pacs(request: pytest.FixtureRequest, tmp_path: Path, port: int) -> Iterator[Pacs]:
    """Orthanc or dcmqrscp, which sends to the node if it knows it."""
    images = _backlog()
    files = _files(images, tmp_path / "images")
    name, knows_us = request.param if isinstance(request.param, tuple) else (request.param, True)
    if name == "orthanc":
        with orthanc(tmp_path / "orthanc", **ANYONE) as archive:
            for file in files:
                archive.upload(file)
            if knows_us:
                archive.add_modality("node", "LITEGPT", port)
            yield Pacs(archive.destination, images)
        return
    with dcmqrscp(tmp_path / "dcmqrscp", knows={"LITEGPT": port} if knows_us else {}) as qrscp:
        assert {one.status for one in dcmsend(qrscp.port, *files, called=qrscp.ae_title)} == {0}
        yield Pacs(qrscp.destination, images)


@dataclass
class Ended:
    """What a command said, and how it ended."""

    returncode: int
    stdout: str
    stderr: str


def _command(node: SmallNode, *arguments: str) -> Ended:
    """A command as ``main`` runs it, in this process: to start Python takes longer than any of them."""
    out, err = StringIO(), StringIO()
    with (
        patch.dict(os.environ, _environment(node.settings)),
        patch.object(sys, "argv", ["litegpt-node", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def _environment(settings: Settings) -> dict[str, str]:
    return {**os.environ, **settings.as_environment(), "COLUMNS": "200"}


def _said(node: SmallNode, *arguments: str, code: int = 0) -> str:
    ended = _command(node, *arguments)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


@contextmanager
def _retriever(node: SmallNode, log: Path) -> Iterator[Process]:
    with running(
        [*COMMAND, "retriever"], log=log, environment=node.settings.as_environment(), folder=log.parent
    ) as process:
        yield process


def _states(node: SmallNode) -> Counter[str]:
    with node.records.reading() as session:
        return Counter(session.scalars(select(RetrievalStudy.state)))


def _read_ones(pacs: Pacs) -> list[Dataset]:
    return [image for image in pacs.images if image.Modality in ("CR", "DX")]


def _each_once(node: SmallNode, pacs: Pacs) -> None:
    """Every image is there once, and every study has one analysis, of all of its images."""
    Completion.of(node.settings, read_identity(node.settings.model)).complete_due(node.records)
    expected = Counter(str(image.StudyInstanceUID) for image in _read_ones(pacs))
    with node.records.reading() as session:
        stored = list(session.scalars(select(Instance.sop_instance_uid)))
        analyses = session.scalars(select(Analysis)).all()
        read = {analysis.study.study_instance_uid: len(analysis.images) for analysis in analyses}
    assert Counter(stored) == Counter(str(image.SOPInstanceUID) for image in _read_ones(pacs))
    assert len(analyses) == STUDIES
    assert read == expected
    assert {analysis.priority for analysis in analyses} == {Priority.BACKLOG}


@pytest.mark.parametrize(
    ("pacs", "how"),
    [("orthanc", ()), ("dcmqrscp", ("--get",))],
    indirect=["pacs"],
    ids=["orthanc-move", "dcmqrscp-get"],
)
def test_a_retriever_killed_in_the_middle_is_gone_on_with(
    node: SmallNode, pacs: Pacs, how: tuple[str, ...], tmp_path: Path
) -> None:
    _said(node, "retrieve", "--from", pacs.destination, *RANGE, *how)
    with _retriever(node, tmp_path / "first.log") as first:
        first.wait_until(lambda: _states(node)["done"] >= STUDIES // 4, 60, "some studies retrieved")
        first.popen.send_signal(signal.SIGKILL)
        first.popen.wait(10)
    assert 0 < _states(node)["done"] < STUDIES
    with _retriever(node, tmp_path / "second.log") as second:
        second.wait_until(lambda: _states(node)["done"] == STUDIES, 60, "end of the job")
    assert _states(node) == {"done": STUDIES}
    with node.records.reading() as session:
        attempts = Counter(session.scalars(select(RetrievalStudy.attempt)))
        assert set(session.scalars(select(Study.accession_number))) >= {"A000", f"A{STUDIES - 1:03d}"}
    assert attempts[1] >= STUDIES - 1 and set(attempts) <= {1, 2}
    _each_once(node, pacs)
    log = (tmp_path / "first.log").read_text() + (tmp_path / "second.log").read_text()
    assert "Verysecret" not in log and str(pacs.images[0].StudyInstanceUID) in log


@pytest.mark.parametrize("pacs", ["orthanc", "dcmqrscp"], indirect=True)
def test_the_commands_from_finding_to_the_end(node: SmallNode, pacs: Pacs, tmp_path: Path) -> None:
    source = ("--from", pacs.destination)
    found = json.loads(_said(node, "find", *source, *RANGE, "--json"))
    by_accession = {one["accession_number"]: one for one in found["studies"]}
    assert found["count"] == len(found["studies"]) == len(by_accession) == STUDIES
    for accession, one in by_accession.items():
        of_study = {image.Modality for image in pacs.images if image.AccessionNumber == accession}
        assert set(one["modalities"]) == of_study
    cr = json.loads(_said(node, "find", *source, *RANGE, "--modality", "CR", "--json"))
    assert {one["accession_number"] for one in cr["studies"]} == {
        f"A{number:03d}" for number in range(STUDIES) if number % 2
    }
    day = _said(node, "find", *source, "--since", "2025-01-05", "--until", "2025-01-05", "--modality", "CT")
    assert "CT-1" in day and "1 study at" in day and "Verysecret" not in day
    of_patient = json.loads(_said(node, "find", *source, "--patient-id", "P1", "--json"))
    assert of_patient["count"] == STUDIES // 3
    table = tmp_path / "trial.csv"
    table.write_text("subject;accession\n1;A001\n2;A002\n3;NOWHERE\n")
    chosen = ("--accessions", f"{table}:accession")
    assert f"2 studies at {pacs.destination}" in _said(node, "find", *source, *chosen)
    assert "2 studies" in _said(node, "retrieve", *source, *chosen, "--dry-run")
    assert "no jobs yet" in _said(node, "jobs")
    with _retriever(node, tmp_path / "retriever.log"):
        said = _said(node, "retrieve", *source, *chosen, "--wait")
        assert "2 done" in said and "not found 1 accession number: NOWHERE" in said
        said = _said(node, "retrieve", *source, *chosen, "--get", "--wait")
        assert "2 skipped" in said
    (second, first) = json.loads(_said(node, "jobs", "--json"))
    assert (first["counts"]["done"], second["counts"]["skipped"]) == (2, 2)
    assert (first["method"], second["method"]) == ("move", "get")
    shown = json.loads(_said(node, "job", "1", "--json"))
    assert (shown["not_found"], shown["failures"]) == (["NOWHERE"], [])


def test_body_parts_are_told_apart_where_the_pacs_tells_them(tmp_path: Path, node: SmallNode) -> None:
    """dcmqrscp does not tell them, and so excludes nothing."""
    images = [make_radiograph(StudyDate="20250102", BodyPartExamined=part) for part in ("CHEST", "HAND")]
    files = _files(images, tmp_path / "images")
    asks = (*RANGE, "--body-part", "chest", "--json")
    with (
        orthanc(tmp_path / "orthanc", **ANYONE) as tells,
        dcmqrscp(tmp_path / "dcmqrscp", knows={}) as silent,
    ):
        for file in files:
            tells.upload(file)
        dcmsend(silent.port, *files, called=silent.ae_title)
        (chest,) = json.loads(_said(node, "find", "--from", tells.destination, *asks))["studies"]
        all_of_them = json.loads(_said(node, "find", "--from", silent.destination, *asks))
    assert chest["study_instance_uid"] == images[0].StudyInstanceUID
    assert all_of_them["count"] == 2


def test_an_archive_that_limits_its_answers_tells_all_by_the_hour(tmp_path: Path, node: SmallNode) -> None:
    images = [
        make_radiograph(StudyDate="20250102", StudyTime=f"{hour:02d}1500", AccessionNumber=f"A{hour}")
        for hour in (0, 7, 8, 9, 23)
    ]
    with orthanc(tmp_path / "orthanc", LimitFindResults=2, **ANYONE) as archive:
        for file in _files(images, tmp_path / "images"):
            archive.upload(file)
        found = json.loads(_said(node, "find", "--from", archive.destination, *RANGE, "--json"))
    assert {one["accession_number"] for one in found["studies"]} == {"A0", "A7", "A8", "A9", "A23"}


def test_accession_numbers_are_read_in_the_archives_character_set(tmp_path: Path, node: SmallNode) -> None:
    image = make_radiograph(StudyDate="20250102", AccessionNumber="Ж-1")
    with orthanc(tmp_path / "orthanc", DefaultEncoding="Cyrillic", **ANYONE) as archive:
        for file in _files([image], tmp_path / "images"):
            archive.upload(file)
        (found,) = json.loads(_said(node, "find", "--from", archive.destination, *RANGE, "--json"))["studies"]
    assert found["accession_number"] == "Ж-1"


def test_an_archive_that_answers_us_nothing_is_said_at_once(tmp_path: Path, node: SmallNode) -> None:
    with orthanc(tmp_path / "orthanc") as archive:
        ended = _command(node, "retrieve", "--from", archive.destination, *RANGE)
    assert ended.returncode == 1
    assert "answers no C-FIND of ours" in ended.stderr
    assert "no jobs yet" in _said(node, "jobs")


UNKNOWN = [("orthanc", False), ("dcmqrscp", False)]


@pytest.mark.parametrize("pacs", UNKNOWN, indirect=True, ids=["orthanc", "dcmqrscp"])
def test_an_archive_that_does_not_know_us_pauses_the_job(node: SmallNode, pacs: Pacs, tmp_path: Path) -> None:
    with _retriever(node, tmp_path / "retriever.log"):
        said = _said(node, "retrieve", "--from", pacs.destination, *RANGE, "--wait", code=1)
    assert "paused" in said.splitlines()[1] and "C-MOVE to LITEGPT" in said
    assert _states(node)["done"] == 0


def test_ctrl_c_leaves_the_job_to_the_retriever(node: SmallNode, tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc", **ANYONE) as archive:
        archive.upload(_files([make_radiograph(StudyDate="20250102")], tmp_path / "images")[0])
        arguments = ("retrieve", "--from", archive.destination, *RANGE, "--get", "--wait")
        waiting = subprocess.Popen(
            [*COMMAND, *arguments], env=_environment(node.settings), stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: "finding" in _said(node, "jobs"), 30, "job")
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=30)
        assert waiting.returncode == 130
        assert "No retriever runs now" in said and "job 1 stays" in said
        assert "pause" in _said(node, "job", "1", "--pause")
        assert "job 1: resume" in _said(node, "job", "1", "--resume")
        with _retriever(node, tmp_path / "retriever.log") as process:
            process.wait_until(lambda: _states(node)["done"], 30, "study")
            assert _said(node, "health", "retriever") == ""
    _said(node, "health", "retriever", code=1)  # it has ended, and said so
    _said(node, "job", "1", "--cancel", code=1)
    _said(node, "job", "2", code=1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--from", "PACS@127.0.0.1:1", "--since", "2025-01-01"), 1, "does not answer"),
        (("--from", "nobody", "--since", "2025-01-01"), 2, "AET@HOST:PORT"),
        (("--from", "PACS@127.0.0.1:1"), 2, "say which studies"),
        (("--from", "PACS@127.0.0.1:1", "--accession-number", "A*"), 2, "as it stands"),
        (("--from", "PACS@127.0.0.1:1", "--accessions", "nowhere.csv:x"), 2, "No such file"),
        (("--from", "PACS@127.0.0.1:1", "--patient-id", "P1", "--window", "8-9"), 2, "20:00-06:00"),
    ],
)
def test_what_cannot_be_asked_is_said_at_once_and_makes_no_job(
    node: SmallNode, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    ended = _command(node, "retrieve", *arguments)
    assert ended.returncode == code
    assert complaint in " ".join(ended.stderr.split())
    assert "no jobs yet" in _said(node, "jobs")
