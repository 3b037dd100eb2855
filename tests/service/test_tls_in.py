"""TLS in: who is let in and who is not, with dcmtk's storescu and with strangers on plain sockets."""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from service.errors import NoTls, SettingsError
from service.settings import Settings, load_settings
from service.wire.listener import Listener, ourselves
from service.wire.sender import Sender
from tests.certificates import Authority, Certificate
from tests.images import make_radiograph
from tests.peers.dcmtk import Outcome, run_program
from tests.service.conftest import listening_node
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("process_settings")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of node and modalities."""
    return Authority.new(tmp_path_factory.mktemp("authorities") / "hospital")


@pytest.fixture(scope="module")
def node(hospital: Authority) -> Certificate:
    return hospital.issue("node")


@pytest.fixture(scope="module")
def modality(hospital: Authority) -> Certificate:
    return hospital.issue("modality")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Somebody with a certificate of another authority."""
    return Authority.new(tmp_path_factory.mktemp("authorities") / "elsewhere").issue("stranger")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.dcm"
    make_radiograph().save_as(path, enforce_file_format=True)
    return path


def _settings(folder: Path, certificate: Certificate, **values: object) -> Settings:
    defaults = {"dicom_host": "127.0.0.1", "dicom_port": "", "dicom_tls_port": 0, "minimum_free_bytes": 0}
    files = {"dicom_tls_certificate": certificate.file, "dicom_tls_key": certificate.key}
    return load_settings(data_dir=folder / "node", **{**defaults, **files, **values})


@contextmanager
def _listening(folder: Path, certificate: Certificate, **values: object) -> Iterator[Listener]:
    with listening_node(_settings(folder, certificate, **values)) as (listener, _):
        yield listener


def _storescu(
    listener: Listener, image: Path, hospital: Authority, modality: Certificate | None, calling: str = "CT1"
) -> Outcome:
    """dcmtk's, as a modality that trusts the hospital's authority alone."""
    ours = ["+tls", modality.key, modality.file] if modality else ["+tla"]
    return run_program(
        *("storescu", "-v", *ours, "+cf", hospital.file, "-xe", "-to", "20", "-aet", calling),
        *("127.0.0.1", str(listener.tls_port), image),
        package="dcmtk",
    )


def _connect(listener: Listener, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.tls_port), timeout=10, source_address=(source, 0))


def _stranger_context(certificate: Certificate | None = None) -> ssl.SSLContext:
    """Trusts anybody, and speaks whatever there is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    if certificate:
        context.load_cert_chain(certificate.file, certificate.key)
    return context


def _refusal(listener: Listener, context: ssl.SSLContext) -> str | None:
    """How the listener refuses TLS in this context; None where it does not."""
    with _connect(listener) as plain:
        try:
            with context.wrap_socket(plain) as connection:
                connection.settimeout(1)
                connection.recv(1)  # in TLS 1.3 a client's certificate is looked at after the handshake
                return "closed"
        except ssl.SSLError as error:
            return error.reason
        except TimeoutError:
            return None


def test_a_modality_with_a_certificate_stores_while_hundreds_are_silent(
    tmp_path: Path, hospital: Authority, node: Certificate, modality: Certificate, image: Path
) -> None:
    authorities = {"dicom_tls_client_authorities": hospital.file}
    with (
        _listening(tmp_path, node, maximum_associations=5, **authorities) as listener,
        ExitStack() as opened,
    ):
        for _ in range(200):
            opened.enter_context(_connect(listener))
        half_way = opened.enter_context(_connect(listener))
        half_way.sendall(_client_hello()[:50])
        threads = threading.active_count()
        sent = _storescu(listener, image, hospital, modality)
        assert sent.succeeded, sent.output
        assert "0x0000" in sent.output or "Success" in sent.output
        assert threading.active_count() <= threads + 2


def _client_hello() -> bytes:
    """What a client says first."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = _stranger_context().wrap_bio(back, there)
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    return there.read()


@pytest.mark.parametrize("said", ["nothing", "a half", "one handshake and nothing more"])
def test_who_does_not_go_on_is_sent_away(
    tmp_path: Path, node: Certificate, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with _listening(tmp_path, node, acse_timeout_seconds=0.5) as listener, ExitStack() as opened:
        connection = opened.enter_context(_connect(listener))
        if said == "a half":
            connection.sendall(_client_hello()[:50])
        elif said != "nothing":
            connection = opened.enter_context(_stranger_context().wrap_socket(connection))
        connection.settimeout(10)
        assert connection.recv(1) == b""
        assert "sent away because they said nothing: 1, of late 127.0.0.1" in caplog.text


def test_only_certificates_of_the_authority_are_let_in_where_there_is_one(
    tmp_path: Path,
    hospital: Authority,
    node: Certificate,
    modality: Certificate,
    stranger: Certificate,
    image: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with _listening(tmp_path, node, dicom_tls_client_authorities=hospital.file) as listener:
        assert _refusal(listener, _stranger_context(modality)) is None
        assert _refusal(listener, _stranger_context()) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        assert _refusal(listener, _stranger_context(stranger)) == "TLSV1_ALERT_UNKNOWN_CA"
        assert not _storescu(listener, image, hospital, None).succeeded
        assert not _storescu(listener, image, hospital, stranger).succeeded
        assert _storescu(listener, image, hospital, modality).succeeded
    assert "refused because of TLS: 1, of late 127.0.0.1: peer did not return a certificate" in caplog.text


def test_without_an_authority_a_modality_needs_no_certificate(
    tmp_path: Path, hospital: Authority, node: Certificate, image: Path
) -> None:
    with _listening(tmp_path, node) as listener:
        assert _storescu(listener, image, hospital, None).succeeded


def test_what_the_profile_does_not_have_is_refused(tmp_path: Path, node: Certificate) -> None:
    with _listening(tmp_path, node) as listener:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = _stranger_context()
            context.minimum_version = context.maximum_version = version
            assert _refusal(listener, context) is None
        old = _stranger_context()
        with pytest.deprecated_call():
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        assert _refusal(listener, old) == "TLSV1_ALERT_PROTOCOL_VERSION"
        for suite in ("ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"):
            weak = _stranger_context()
            weak.maximum_version = ssl.TLSVersion.TLSv1_2
            weak.set_ciphers(suite)
            assert _refusal(listener, weak) == "SSLV3_ALERT_HANDSHAKE_FAILURE"


def test_plain_dicom_is_refused_on_the_port_of_tls(tmp_path: Path, node: Certificate, image: Path) -> None:
    with _listening(tmp_path, node, acse_timeout_seconds=2) as listener:
        plain = run_program(
            *("storescu", "-to", "5", "-xe", "127.0.0.1", str(listener.tls_port), image), package="dcmtk"
        )
        assert not plain.succeeded


def test_callers_and_addresses_are_limited_as_without_tls(
    tmp_path: Path, hospital: Authority, node: Certificate, image: Path
) -> None:
    """One address has as many associations by both ports together."""
    both = {"dicom_port": 0, "maximum_associations_per_address": 2, "calling_ae_titles": "CT1@127.0.0.1"}
    with _listening(tmp_path, node, **both) as listener, ExitStack() as opened:
        assert "Calling AE Title" in _storescu(listener, image, hospital, None, calling="CT2").output
        assert _storescu(listener, image, hospital, None).succeeded
        wait_until(lambda: not listener._tls.active_associations, 10, "end of the association")
        for _ in range(2):
            slow = opened.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=10))
            slow.sendall(b"\x01\x00")
        wait_until(
            lambda: "Local Limit" in _storescu(listener, image, hospital, None).output, 20, "rejection by TLS"
        )


def test_a_new_certificate_is_used_without_a_restart_and_a_wrong_one_is_not(
    tmp_path: Path, hospital: Authority, node: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    used = Certificate(tmp_path / "used.pem", tmp_path / "used.key")
    _replace(used, node)
    with _listening(tmp_path, used) as listener:
        first = _certificate_of(listener)
        used.file.write_text("no certificate at all", encoding="ascii")
        assert _certificate_of(listener) == first == _certificate_of(listener)
        assert caplog.text.count("the TLS files have changed and are wrong") == 1
        other = hospital.issue("another")
        shutil.copy(other.file, used.file)  # half of it: the key is the old one
        assert _certificate_of(listener) == first
        _replace(used, other)
        assert _certificate_of(listener) == ssl.PEM_cert_to_DER_cert(other.file.read_text("ascii")) != first
    assert "the TLS files have changed and were read again" in caplog.text


def _replace(used: Certificate, by: Certificate) -> None:
    shutil.copy(by.file, used.file)
    shutil.copy(by.key, used.key)


def _certificate_of(listener: Listener) -> bytes | None:
    with _connect(listener) as plain, _stranger_context().wrap_socket(plain) as connection:
        return connection.getpeercert(binary_form=True)


def test_a_listener_does_not_start_with_files_that_are_wrong(
    tmp_path: Path, node: Certificate, modality: Certificate
) -> None:
    mixed = Certificate(node.file, modality.key)
    with pytest.raises(SettingsError, match=r"dicom_tls_certificate .*: key values mismatch"):
        Listener(_settings(tmp_path, mixed)).start()
    with pytest.raises(SettingsError, match=r"dicom_tls_client_authorities .*: No such file"):
        Listener(_settings(tmp_path, node, dicom_tls_client_authorities=tmp_path / "none")).start()
    with pytest.raises(SettingsError, match="dicom_tls_port needs dicom_tls_certificate and dicom_tls_key"):
        load_settings(dicom_tls_port=2762)
    with pytest.raises(SettingsError, match="dicom_port or dicom_tls_port must be set"):
        load_settings(dicom_port="")


def test_the_node_knows_itself_by_its_certificate_alone(
    tmp_path: Path, node: Certificate, stranger: Certificate
) -> None:
    settings = _settings(tmp_path, node)
    with listening_node(settings) as (listener, _):
        us = ourselves(settings, listener.tls_port, tls=True)
        Sender(settings, to_ourselves=True).echo(us)
        another = _settings(tmp_path, stranger)
        with pytest.raises(NoTls, match="its certificate is not accepted"):
            Sender(another, to_ourselves=True).echo(us)
