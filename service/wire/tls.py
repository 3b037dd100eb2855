"""TLS for DICOM, in and out, by the BCP 195 profile (PS3.15 B.12; RFC 8996 and 9325).

TLS 1.3, and 1.2 with an ephemeral key and an AEAD cipher; nothing older. The entity has one certificate: it
shows it to who calls, and to whom it calls.
"""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from service.errors import SettingsError
from service.settings import Settings

log = logging.getLogger(__name__)

_TLS_1_2_SUITES: Final = "ECDHE+AESGCM"
"""The four of RFC 9325 4.2; those of TLS 1.3 are AEAD all."""

Signature = tuple[tuple[int, int, int] | None, ...]
_Context = TypeVar("_Context", bound=ssl.SSLContext)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are, in PEM files.

    Attributes:
        certificate: Ours, with whatever stands between it and its authority.
        authorities: Who calls us needs a certificate of theirs; None: it needs none.
    """

    certificate: Path
    key: Path
    authorities: Path | None

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """That of the settings, where they name one."""
        certificate, key = settings.dicom_tls_certificate, settings.dicom_tls_key
        if certificate is None or key is None:
            return None
        return cls(certificate, key, settings.dicom_tls_client_authorities)

    def acceptor_context(self) -> ssl.SSLContext:
        """What answers TLS.

        Raises:
            SettingsError: If a file is not what it should be.
        """
        context = _by_profile(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0  # of TLS 1.3: they would be said to peers that wait for nothing yet
        self.load_into(context)
        if self.authorities is not None:
            load_authorities(context, self.authorities, "dicom_tls_client_authorities")
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def load_into(self, context: ssl.SSLContext) -> None:
        """Has a context show our certificate.

        Raises:
            SettingsError: If it, or its key, cannot be read, or they do not belong together.
        """
        try:
            context.load_cert_chain(self.certificate, self.key, password=_refuse_password)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"dicom_tls_certificate {self.certificate} with dicom_tls_key {self.key}: {words(error)}"
            ) from None

    def signature(self) -> Signature:
        """Changes when a file does."""
        files = (self.certificate, self.key, self.authorities)
        return tuple(_signature(file) for file in files if file is not None)

    def valid_until(self) -> datetime:
        """When our certificate ends, told by a handshake with ourselves.

        Raises:
            SettingsError: If a file is not what it should be, or the certificate is not valid now.
        """
        acceptor = self.acceptor_context()
        acceptor.verify_mode = ssl.CERT_NONE
        requestor = trusting_ourselves(self)
        try:
            certificate = _shake_hands(requestor, acceptor)
        except ssl.SSLError as error:
            raise SettingsError(f"dicom_tls_certificate {self.certificate}: {words(error)}") from None
        return datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)


class AcceptorContext:
    """The context that answers TLS, made anew when a file of the identity has changed."""

    def __init__(self, identity: Identity) -> None:
        """Reads the files.

        Raises:
            SettingsError: If one is not what it should be.
        """
        self._identity = identity
        self._seen = identity.signature()
        self._context = identity.acceptor_context()
        self._lock = threading.Lock()

    def current(self) -> ssl.SSLContext:
        """The present one. Files that have become wrong are told once, and the old context stays."""
        with self._lock:
            signature = self._identity.signature()
            if signature != self._seen:
                self._seen = signature
                self._read_again()
            return self._context

    def _read_again(self) -> None:
        try:
            self._context = self._identity.acceptor_context()
        except SettingsError as error:
            log.error("the TLS files have changed and are wrong, those read before stay in use: %s", error)
        else:
            log.info("the TLS files have changed and were read again: %s", self._identity.certificate)


class RequestorContext(ssl.SSLContext):
    """A context for one call of ours that remembers why there was no TLS: pynetdicom does not tell.

    Attributes:
        failure: The last thing that went wrong on its connection.
    """

    failure: OSError | None = None

    @classmethod
    def by_profile(cls) -> Self:
        """One that trusts nobody yet."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.sslsocket_class = _Telling
        return _by_profile(context)


class _Telling(ssl.SSLSocket):
    """Tells its context of failures. In TLS 1.3 a certificate of ours that is refused shows when we read."""

    context: RequestorContext

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError as error:
            self.context.failure = error
            self.close()  # pynetdicom leaves that to the garbage collector
            # Of this one pynetdicom writes no traceback into the log.
            raise ConnectionAbortedError(words(error)) from None

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        try:
            return super().read(len, buffer)
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as error:
            self.context.failure = error
            self.close()
            return b"" if buffer is None else 0  # as if the peer had left, which it has


def requestor_context(settings: Settings) -> RequestorContext:
    """For calling a peer: it must have a certificate for its host's name, of an authority that we trust.

    Raises:
        SettingsError: If a file of ours is not what it should be.
    """
    context = RequestorContext.by_profile()
    if settings.dicom_tls_authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        load_authorities(context, settings.dicom_tls_authorities, "dicom_tls_authorities")
    if identity := Identity.of(settings):
        identity.load_into(context)
    return context


def requestor_signature(settings: Settings) -> Signature:
    """Changes when a file does that ``requestor_context`` reads."""
    files = (settings.dicom_tls_certificate, settings.dicom_tls_key, settings.dicom_tls_authorities)
    return tuple(_signature(file) for file in files if file is not None)


def trusting_ourselves(identity: Identity) -> RequestorContext:
    """For calling our own listener: our certificate and no other, whatever name it is for.

    Raises:
        SettingsError: If a file of ours is not what it should be.
    """
    context = RequestorContext.by_profile()
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    load_authorities(context, identity.certificate, "dicom_tls_certificate")
    identity.load_into(context)
    return context


def load_authorities(context: ssl.SSLContext, file: Path, setting: str) -> None:
    """Has a context trust the authorities in a PEM file.

    Raises:
        SettingsError: If there are none.
    """
    try:
        context.load_verify_locations(file)
    except OSError as error:
        raise SettingsError(f"{setting} {file}: {words(error)}") from None


def words(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]


def _by_profile(context: _Context) -> _Context:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS_1_2_SUITES)
    return context


def _refuse_password() -> str:
    """OpenSSL would ask for it on the terminal."""
    raise ValueError("the key is encrypted; a service needs one that is not")


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _shake_hands(requestor: ssl.SSLContext, acceptor: ssl.SSLContext) -> dict[str, Any]:
    """The acceptor's certificate, once the requestor has accepted it; both are in this process."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        requestor.wrap_bio(back, there, server_side=False),
        acceptor.wrap_bio(there, back, server_side=True),
    ]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return ends[0].getpeercert() or {}
