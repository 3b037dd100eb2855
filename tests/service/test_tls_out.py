"""TLS out: dcmtk's storescp as a PACS that wants certificates, and what is said where there is no TLS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from service import checks
from service.errors import NoTls, PeerUnavailable
from service.peers import DEFAULT_RESULTS, Destination, ResultKind
from service.settings import Settings, load_settings
from service.wire.query import querying
from service.wire.sender import Sender, result_contexts
from tests.certificates import Authority, Certificate
from tests.images import DX, make_radiograph
from tests.peers.dcmtk import Storescp, storescp
from tests.ports import free_port


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of node and PACS."""
    return Authority.new(tmp_path_factory.mktemp("authorities") / "hospital")


@pytest.fixture(scope="module")
def node(hospital: Authority) -> Certificate:
    return hospital.issue("node", hosts="DNS:node.hospital")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.new(tmp_path_factory.mktemp("authorities") / "elsewhere")


@contextmanager
def _pacs(
    folder: Path, certificate: Certificate, authority: Authority, options: Sequence[str] = ()
) -> Iterator[Storescp]:
    """A PACS that takes what has a certificate of an authority."""
    with storescp(
        folder / "pacs",
        ae_title="PACS",
        options=["+tls", str(certificate.key), str(certificate.file), "+cf", str(authority.file), *options],
    ) as pacs:
        yield pacs


def _settings(authority: Authority, certificate: Certificate | None) -> Settings:
    files = (
        {"dicom_tls_certificate": certificate.file, "dicom_tls_key": certificate.key} if certificate else {}
    )
    return load_settings(ae_title="US", acse_timeout_seconds=5, dicom_tls_authorities=authority.file, **files)


def _store(settings: Settings, port: int, folder: Path) -> str:
    path = folder / "image.dcm"
    image = make_radiograph()
    image.save_as(path, enforce_file_format=True)
    to = Destination.parse(f"dicoms://PACS@127.0.0.1:{port}")
    with Sender(settings).associate(to, result_contexts([DX])) as connection:
        connection.store(path)
    return str(image.SOPInstanceUID)


def test_results_go_by_tls_with_certificates_on_both_sides(
    tmp_path: Path, hospital: Authority, node: Certificate
) -> None:
    settings = _settings(hospital, node)
    with _pacs(tmp_path, hospital.issue("pacs"), hospital) as pacs:
        uid = _store(settings, pacs.port, tmp_path)
        assert [str(one.SOPInstanceUID) for one in pacs.datasets()] == [uid]
        to = Destination.parse(f"dicoms://PACS@127.0.0.1:{pacs.port}=sr+sc")
        assert checks.echo(settings, to) == "answers C-ECHO"


def test_a_pacs_with_another_name_or_another_authority_gets_nothing(
    tmp_path: Path, hospital: Authority, elsewhere: Authority, node: Certificate
) -> None:
    with _pacs(tmp_path, hospital.issue("other", hosts="DNS:other.hospital"), hospital) as pacs:
        with pytest.raises(NoTls) as caught:
            _store(_settings(hospital, node), pacs.port, tmp_path)
        assert str(caught.value) == (
            f"dicoms://PACS@127.0.0.1:{pacs.port}: no TLS: its certificate is not accepted: "
            "IP address mismatch, certificate is not valid for '127.0.0.1'"
        )
        with pytest.raises(
            NoTls, match=r"its certificate is not accepted: self-signed certificate in certificate"
        ):
            _store(_settings(elsewhere, node), pacs.port, tmp_path)
        assert pacs.files() == []


def test_a_pacs_that_does_not_accept_our_certificate_is_tried_again(
    tmp_path: Path, hospital: Authority, elsewhere: Authority
) -> None:
    with _pacs(tmp_path, hospital.issue("pacs"), hospital) as pacs:
        with pytest.raises(NoTls, match=r"no TLS: .*certificate required|no TLS: .*handshake failure"):
            _store(_settings(hospital, None), pacs.port, tmp_path)
        with pytest.raises(NoTls, match=r"no TLS: .*unknown ca"):
            _store(_settings(hospital, elsewhere.issue("us")), pacs.port, tmp_path)
    assert issubclass(NoTls, PeerUnavailable)


def test_a_pacs_that_speaks_no_tls_is_said_to(tmp_path: Path, hospital: Authority, node: Certificate) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs, pytest.raises(NoTls, match="no TLS: "):
        _store(_settings(hospital, node), pacs.port, tmp_path)


def test_wrong_files_of_ours_are_told_with_the_destination(tmp_path: Path, hospital: Authority) -> None:
    wrong = Certificate(hospital.file, hospital.issue("ours").key)
    with pytest.raises(NoTls, match=r"dicoms://PACS@127.0.0.1:1: no TLS: dicom_tls_certificate .*mismatch"):
        _store(_settings(hospital, wrong), 1, tmp_path)


# pynetdicom 3.0.4 leaves the socket of a failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nobody_there_is_no_matter_of_tls(tmp_path: Path, hospital: Authority, node: Certificate) -> None:
    with pytest.raises(PeerUnavailable, match="does not answer") as caught:
        _store(_settings(hospital, node), free_port(), tmp_path)
    assert not isinstance(caught.value, NoTls)


def test_a_query_goes_by_tls(hospital: Authority, node: Certificate) -> None:
    import ssl

    from pynetdicom import evt
    from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND

    certificate = hospital.issue("archive")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(hospital.file))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate.file, certificate.key)
    archive = AE(ae_title="PACS")
    archive.add_supported_context(FIND, ExplicitVRLittleEndian)
    handlers = [(evt.EVT_C_FIND, lambda _: iter(()))]
    server = archive.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=handlers)
    assert server is not None
    try:
        to = Destination.parse(f"dicoms://PACS@127.0.0.1:{server.server_address[1]}")
        with querying(_settings(hospital, node), to) as query:
            assert query.shows("1.2.3") is False
    finally:
        server.shutdown()
        server.server_close()


def test_the_address_of_a_destination_says_whether_by_tls() -> None:
    to = Destination.parse("dicoms://PACS@[fe80::1]:2762=sr+sc")
    assert (to.tls, to.ae_title, to.host, to.port) == (True, "PACS", "fe80::1", 2762)
    assert to.results == (ResultKind.STRUCTURED_REPORT, ResultKind.SECONDARY_CAPTURE)
    assert to.address == "dicoms://PACS@[fe80::1]:2762" and Destination.parse(str(to)) == to
    plain = Destination.parse("PACS@[fe80::1]:2762")
    assert not plain.tls and plain.results == DEFAULT_RESULTS and plain.address != to.address
    with pytest.raises(ValueError, match="a destination is written"):
        Destination.parse("dicom://PACS@host:104/")
