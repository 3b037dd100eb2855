"""No patient and no secret in what a node says of itself, from the first byte on and whatever fails."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Final

import psutil
import pydicom
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from typer.testing import CliRunner

from litegpt.phantoms import phantom_files
from service.cli.main import application
from service.errors import NodeError, SettingsError
from service.passwords import hash_password
from service.records.database import Records
from service.records.tables import Base
from service.settings import load_settings
from tests.images import make_radiograph, with_other_pixels
from tests.node import BIN, Node, node_up
from tests.peers.dcmtk import storescp
from tests.peers.scripted_archive import ScriptedArchive, scripted_archive
from tests.scrape import ask, web_url
from tests.service.plain_rows import plain_rows
from tests.service.receivers import receiver

MARK: Final = "Zqx"
"""In every text that says who the patient is; nothing else on this machine has it."""

BORN: Final = "19031103"

PATIENT: Final = {
    "SpecificCharacterSet": "ISO_IR 192",
    "PatientName": f"{MARK}^Jürgen 'q' %s {{0}}",
    "PatientID": f"{MARK}/4711%d\"'",
    "IssuerOfPatientID": f"{MARK}issuer",
    "OtherPatientIDs": f"{MARK}other",
    "PatientBirthDate": BORN,
    "PatientBirthName": f"{MARK}^Née",
    "PatientAddress": f"{MARK} street 5",
    "PatientTelephoneNumbers": f"{MARK}0815",
    "PatientComments": f"{MARK}\r\ncomment",
    "AccessionNumber": f"{MARK}ACC<1>",
    "ReferringPhysicianName": f"{MARK}^Referring",
}

PASSWORD: Final = "Qzpassword of a modality"
WEBHOOK_SECRET: Final = "whsec_" + base64.b64encode(b"Qzwebhook secret of 24 bytes").decode()
DATABASE_PASSWORD: Final = "Qzdatabase"
BROKER_PASSWORD: Final = "Qzbroker"


def _of_patient(dataset: Dataset) -> Dataset:
    for keyword, value in PATIENT.items():
        setattr(dataset, keyword, value)
    return dataset


def _undecodable() -> Dataset:
    broken = make_radiograph()
    broken.file_meta.TransferSyntaxUID = JPEG2000Lossless
    broken.PixelData = encapsulate([MARK.encode() * 8])
    broken["PixelData"].is_undefined_length = True
    return _of_patient(broken)


def _send(node: Node, user: str, password: str, *datasets: Dataset) -> list[int]:
    """The statuses; none where the association was rejected."""
    entity = AE(ae_title="MODALITY")
    for dataset in datasets:
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = 2, user.encode()
    identity.secondary_field = password.encode()
    association = entity.associate("127.0.0.1", node.port, ext_neg=[identity])
    if not association.is_established:
        return []
    statuses = [int(association.send_c_store(dataset).Status) for dataset in datasets]
    association.release()
    return statuses


@contextmanager
def _refusing() -> Iterator[str]:
    """A destination that takes nothing, and says so with the patient's name."""

    def refuse(event: evt.Event) -> Dataset:
        answer = Dataset()
        answer.Status, answer.ErrorComment = 0xC000, f"not {MARK}"
        answer.OffendingElement = 0x00100010
        return answer

    entity = AE(ae_title="REFUSES")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), scu_role=None)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, refuse)])
    try:
        yield f"REFUSES@127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        server.shutdown()


def _command(node: Node, *arguments: str) -> str:
    done = subprocess.run(
        [BIN / "litegpt-node", *arguments, "--data-dir", node.data_dir],
        cwd=node.data_dir.parent,
        env={**os.environ, "LITEGPT_LOG_LEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.stdout + done.stderr


def _rows(node: Node) -> str:
    """All rows, without what may say which study it is, or is a password's hash."""
    tables = [table.name for table in Base.metadata.sorted_tables]
    rows = plain_rows(f"sqlite:///{node.data_dir / 'node.sqlite'}", tables)
    allowed = {"accession_number", "filters"}
    kept = [
        {name: value for name, value in row.items() if name not in allowed}
        for found in rows.values()
        for row in found
    ]
    return repr(kept)


def _messages(node: Node) -> Iterator[str]:
    """What the broker was given, with what is packed within."""
    for path in (node.data_dir / "broker").rglob("*.msg"):
        text = path.read_text()
        yield text
        yield base64.b64decode(json.loads(text)["body"]).decode()


def test_nothing_that_a_node_says_names_a_patient_or_a_secret(tmp_path: Path) -> None:
    good = _of_patient(pydicom.dcmread(phantom_files()[0]))
    lateral = _of_patient(make_radiograph(ViewPosition="LL"))
    lateral.PatientBirthDate = f"{MARK}date"
    conflicting = with_other_pixels(good, **PATIENT)
    broken, fetched = _undecodable(), _of_patient(make_radiograph(StudyDate="20240101"))
    users = tmp_path / "users"
    users.write_text(f"modality:{hash_password(PASSWORD)}\n")
    rules = tmp_path / "rules.toml"
    with (
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
        _refusing() as refuses,
        receiver(500) as hook,
        scripted_archive(ScriptedArchive([fetched])) as archive,
        _rules(rules, [pacs.destination, refuses]),
        node_up(
            tmp_path / "node",
            rules_file=str(rules),
            webhooks=json.dumps({"ris": hook.table(secret=WEBHOOK_SECRET)}),
            dicom_users_file=str(users),
            web_port="0",
            log_level="DEBUG",
        ) as node,
    ):
        assert _send(node, "modality", PASSWORD, good, lateral, broken) == [0, 0, 0]
        assert _send(node, f"{MARK}user", f"{PASSWORD}!", good) == []
        said = [_command(node, "retrieve", "--from", archive.destination, "--since", "2024-01-01", "--get")]
        studies = {str(one.StudyInstanceUID) for one in (good, fetched)}
        node.wait_for(studies, "refused", timeout_seconds=300)
        node.wait_for({str(broken.StudyInstanceUID)}, "failed")
        assert _send(node, "modality", PASSWORD, conflicting) == [0]
        said += _messages(node)
        node.process.wait_until(lambda: "'conflict'" in _rows(node), 60, "conflict")
        assert all(MARK in str(report.PatientName) for report in pacs.datasets())
        node.process.wait_until(lambda: hook.bodies, 120, "webhook called")
        said += [_command(node, "check"), _rows(node), *_messages(node)]
        said += [
            ask(f"{web_url(node.data_dir)}/{page}")[1] for page in ("metrics", "settings", "health/ready")
        ]
        mine = [psutil.Process(node.process.pid), *node.process.descendants()]
        said += [repr(process.cmdline()) for process in mine]
    log = (tmp_path / "node" / "node.log").read_text()
    assert str(good.StudyInstanceUID) in log and "C000" in log and "DEBUG" in log
    for text in (log, *said):
        for mark in (MARK.lower(), BORN, "qzpassword", WEBHOOK_SECRET.lower(), "qzwebhook"):
            assert mark not in text.lower(), _around(text, mark)


@contextmanager
def _rules(file: Path, destinations: Sequence[str]) -> Iterator[None]:
    """Results go everywhere, and the webhook is told."""
    named = {"name": '"everything"', "destinations": json.dumps(destinations), "webhooks": '["ris"]'}
    lines = [f"{key} = {value}" for key, value in named.items()]
    file.write_text("\n".join(["[[result_rules]]", *lines]) + "\n")
    yield


def _around(text: str, mark: str) -> str:
    at = text.lower().index(mark)
    return text[max(0, at - 300) : at + 300]


@pytest.mark.parametrize(
    "settings",
    [
        {"database_url": f"postgresql+psycopg://u:{DATABASE_PASSWORD}@127.0.0.1:1/db"},
        {"database_url": f"postgresql+psycopg://u:a@b:{DATABASE_PASSWORD}@/db"},
        {"database_url": f"postgresql+psycopg://u:x@127.0.0.1:{DATABASE_PASSWORD}/db"},
        {"database_url": f"nosuch://u:{DATABASE_PASSWORD}@127.0.0.1/db"},
        {"broker_url": f"redis://:{BROKER_PASSWORD}@127.0.0.1:1/0"},
        {"broker_url": f"redis//:{BROKER_PASSWORD}@127.0.0.1"},
        {"webhooks": json.dumps({"ris": {"url": "ftp://x", "secret": WEBHOOK_SECRET}})},
        {"webhooks": json.dumps({"ris": {"url": "http://127.0.0.1", "secret": WEBHOOK_SECRET[:20]}})},
        {"webhooks": f"{WEBHOOK_SECRET} is no JSON"},
    ],
)
def test_check_tells_no_secret(
    tmp_path: Path,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in {**settings, "log_level": "DEBUG", "dicom_port": "0"}.items():
        monkeypatch.setenv(f"LITEGPT_{name.upper()}", value)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(application(), ["check", "--data-dir", str(tmp_path / "node")])
    said = f"{done.output} {done.exception!r} {capfd.readouterr()}"
    assert done.exit_code and isinstance(done.exception, (NodeError, SystemExit)), said
    assert "qz" not in said.lower() and WEBHOOK_SECRET[:20] not in said, said


def test_settings_hide_their_secrets(tmp_path: Path) -> None:
    settings = load_settings(
        data_dir=tmp_path,
        database_url=f"postgresql+psycopg://u:{DATABASE_PASSWORD}@127.0.0.1:1/db",
        broker_url=f"redis://:{BROKER_PASSWORD}@127.0.0.1:1/0",
        webhooks={"ris": {"url": "http://127.0.0.1/Qzpath", "secret": WEBHOOK_SECRET}},
    )
    assert "Qz" not in repr(settings) and WEBHOOK_SECRET not in repr(settings)
    with pytest.raises(SettingsError) as error:
        Records.open(deepcopy(settings).model_copy(update={"database_url": "postgresql://u:p@h:Qzport/d"}))
    assert "Qz" not in str(error.value)
