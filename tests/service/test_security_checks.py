"""What `check` says of the ways in and out over the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.checks import Line, examine
from service.settings import load_settings
from tests.certificates import Authority, Certificate


def _lines(folder: Path, **values: object) -> dict[str, Line]:
    settings = load_settings(data_dir=folder / "node", web_port="", **values)
    return {line.name: line for line in examine(settings)}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("authorities") / "hospital")


def _tls(certificate: Certificate) -> dict[str, object]:
    return {
        "dicom_tls_port": 2762,
        "dicom_tls_certificate": certificate.file,
        "dicom_tls_key": certificate.key,
    }


def test_plain_dicom_that_others_reach_and_callers_that_are_not_known_are_marked(tmp_path: Path) -> None:
    lines = _lines(tmp_path)
    assert lines["settings"].fact == "AE title LITEGPT, port 11112"
    assert lines["plain DICOM"].warns and lines["plain DICOM"].complaint is None
    assert "port 11112 at 0.0.0.0 without TLS" in lines["plain DICOM"].fact
    assert lines["callers"].warns
    protected = _lines(tmp_path, dicom_host="127.0.0.1", calling_ae_titles="CT1")
    assert not {"plain DICOM", "callers", "DICOM TLS"} & set(protected)


def test_passwords_without_tls_are_told(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("ct1:$argon2id$v=19$m=8,t=1,p=1$YWJjZGVmZ2g$YWJjZGVmZ2g\n", encoding="utf-8")
    lines = _lines(tmp_path, dicom_users_file=users)
    assert "passwords of dicom_users_file, too" in lines["plain DICOM"].fact
    assert lines["DICOM users"].fact == f"1 in {users}"
    users.unlink()
    assert "cannot be read" in (_lines(tmp_path, dicom_users_file=users)["DICOM users"].complaint or "")


def test_by_tls_alone_there_is_nothing_to_mark(tmp_path: Path, hospital: Authority) -> None:
    tls = _tls(hospital.issue("node"))
    lines = _lines(tmp_path, dicom_port="", dicom_tls_client_authorities=hospital.file, **tls)
    assert lines["settings"].fact == "AE title LITEGPT, port 2762 by TLS"
    assert "plain DICOM" not in lines
    assert lines["DICOM TLS"].complaint is None
    assert lines["DICOM TLS"].fact.endswith("callers need one, too")
    both = _lines(tmp_path, **tls)
    assert both["settings"].fact == "AE title LITEGPT, port 11112 and port 2762 by TLS"
    assert both["DICOM TLS"].fact.endswith("callers need none")


def test_a_certificate_that_soon_ends_or_does_not_fit_is_complained_of(
    tmp_path: Path, hospital: Authority
) -> None:
    soon, other = hospital.issue("soon", days=20), hospital.issue("other")
    assert "ends in 19 days" in (_lines(tmp_path, **_tls(soon))["DICOM TLS"].complaint or "")
    mixed = _tls(Certificate(soon.file, other.key))
    assert "key values mismatch" in (_lines(tmp_path, **mixed)["DICOM TLS"].complaint or "")
    ended = hospital.issue("ended", days=-1)
    assert "certificate has expired" in (_lines(tmp_path, **_tls(ended))["DICOM TLS"].complaint or "")
    no_authorities = _lines(tmp_path, dicom_tls_authorities=tmp_path / "none.pem")
    assert "No such file" in (no_authorities["TLS authorities"].complaint or "")


def test_a_key_that_is_encrypted_is_told_and_not_asked_for(tmp_path: Path, hospital: Authority) -> None:
    import subprocess

    node = hospital.issue("node-encrypted")
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", node.key, "-aes256", "-passout", "pass:x", "-out", encrypted], check=True
    )
    line = _lines(tmp_path, **_tls(Certificate(node.file, encrypted)))["DICOM TLS"]
    assert "the key is encrypted; a service needs one that is not" in (line.complaint or "")
