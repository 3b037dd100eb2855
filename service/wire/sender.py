"""The sender: one association to one destination, many objects on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from service.archive import file_digest
from service.errors import CannotUnderstand, KindRefused, OutOfResources, PeerRefused, PeerUnavailable
from service.peers import Destination
from service.received import FileMeta
from service.settings import Settings
from service.wire import statuses
from service.wire.association import Contexts, answered, associated, status_in
from service.wire.timers import count_on_the_monotonic_clock


def configure_process() -> None:
    """Sets what pynetdicom keeps per process: what is sent by its path goes as the bytes of the file.

    Called once, in ``main``, before anything is forwarded.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True
    count_on_the_monotonic_clock()


class Sender:
    """Opens associations as our application entity."""

    def __init__(self, settings: Settings, *, to_ourselves: bool = False) -> None:
        """Args:
        settings: Our AE title, time-outs and TLS.
        to_ourselves: Whether it calls our own listener alone: by TLS, the peer's certificate is ours.
        """
        self._settings = settings
        self._to_ourselves = to_ourselves

    @contextmanager
    def associate(self, destination: Destination, contexts: Contexts) -> Iterator[Connection]:
        """An association for objects of these (SOP class, transfer syntaxes).

        Raises:
            PeerUnavailable: If the destination does not answer, or rejects for now.
            KindRefused: If it takes none of these SOP classes.
            PeerRefused: If it rejects us for good (A-ASSOCIATE-RJ, rejected-permanent).
        """
        with associated(
            self._settings, destination, contexts, to_ourselves=self._to_ourselves
        ) as association:
            yield Connection(association, destination)

    def echo(self, destination: Destination) -> None:
        """Asks whether a destination answers (C-ECHO).

        Raises:
            PeerUnavailable: If it does not.
            PeerRefused: If it does not want us.
        """
        with self.associate(destination, [(Verification, [ImplicitVRLittleEndian])]) as connection:
            connection.echo()


class Connection:
    """An established association."""

    def __init__(
        self,
        association: Association,
        destination: Destination,
        open_again: Callable[[], Association] | None = None,
    ) -> None:
        """Args:
        association: The association.
        destination: With whom.
        open_again: Opens another one, where this one was kept and may have ended: until the first reply.
        """
        self._association = association
        self._destination = destination
        self._open_again = open_again

    def store(self, path: Path) -> int:
        """Sends one Part 10 file.

        Returns:
            The status: Success, or a warning (PS3.4 B.2.3).

        Raises:
            OutOfResources: If the file cannot be read just now.
            CannotUnderstand: If it is no DICOM file.
            PeerUnavailable: If the peer is gone, or refuses for now: the same object may be sent again.
            KindRefused: If the peer takes no object of this SOP class.
            PeerRefused: If the peer will not take this object.
        """
        self._require_association()
        dataset = _readable(path)
        try:
            reply = self._send(dataset)
        except ValueError as error:
            # pynetdicom: no accepted presentation context fits the object.
            raise KindRefused(f"{self._destination} does not take {dataset.SOPClassUID.name}") from error
        except RuntimeError as error:
            raise PeerUnavailable(f"{self._destination}: {error}") from error
        return self._raise_for(answered(self._destination, reply))

    def forward(self, path: Path, digest: str) -> int:
        """Sends the dataset of a Part 10 file as it is, to the byte and in its own transfer syntax.

        Args:
            path: The file; its file meta information says what it is.
            digest: SHA-256 of the dataset: what has been damaged since it came is not passed on.

        Returns:
            The status: Success, or a warning (PS3.4 B.2.3).

        Raises:
            OutOfResources: If the file cannot be read just now.
            CannotUnderstand: If it is not what came.
            PeerUnavailable: If the peer is gone, or refuses for now: the same object may be sent again.
            PeerRefused: If the peer will not take this object, or none in this transfer syntax.
        """
        if not _config.STORE_SEND_CHUNKED_DATASET:
            raise RuntimeError("configure_process was not called: the file would be read and encoded anew")
        self._require_association()
        meta = _whole(path, digest)
        try:
            reply = self._send(path)
        except ValueError as error:
            what = f"{UID(meta.sop_class_uid).name} in {UID(meta.transfer_syntax_uid).name}"
            raise PeerRefused(
                f"{self._destination} does not take {what}, and images go as they came"
            ) from error
        except AttributeError as error:
            raise CannotUnderstand(f"{path.name} does not say what it is") from error
        except OSError as error:
            raise OutOfResources(f"{path.name} cannot be read: {error.strerror}") from error
        except RuntimeError as error:
            raise PeerUnavailable(f"{self._destination}: {error}") from error
        return self._raise_for(answered(self._destination, reply))

    def _require_association(self) -> None:
        if self._association.is_established:
            return
        if self._open_again is None:
            raise PeerUnavailable(f"{self._destination}: the association is gone")
        self._take_another(self._open_again)

    def _take_another(self, open_again: Callable[[], Association]) -> None:
        self._open_again = None
        self._association = open_again()

    def _send(self, what: Dataset | Path) -> Dataset:
        """Sends a C-STORE, and once more where a kept association ended before it was answered.

        A peer that kept silent for all of the time-out is not waited for again.
        """
        begun = time.monotonic()
        try:
            reply = self._association.send_c_store(what)
        except RuntimeError:  # it has ended since it was looked at
            if self._open_again is None:
                raise
            reply = Dataset()
        in_time = time.monotonic() - begun < (self._association.dimse_timeout or inf)
        if status_in(reply) is None and in_time and self._open_again is not None:
            self._take_another(self._open_again)
            reply = self._association.send_c_store(what)
        self._open_again = None
        return reply

    def echo(self) -> None:
        """Sends a C-ECHO.

        Raises:
            PeerUnavailable: If no Success comes back.
        """
        try:
            reply = self._association.send_c_echo()
        except RuntimeError as error:
            raise PeerUnavailable(f"{self._destination}: {error}") from error
        status = answered(self._destination, reply)
        if status != statuses.SUCCESS:
            raise PeerUnavailable(f"{self._destination}: {status:04X}")

    def _raise_for(self, status: int) -> int:
        if statuses.is_accepted(status):
            return status
        if statuses.is_transient(status):
            raise PeerUnavailable(f"{self._destination} answered {status:04X}: not now")
        if status == statuses.SOP_CLASS_NOT_SUPPORTED:
            raise KindRefused(f"{self._destination} answered {status:04X}: refused, as all of its kind")
        raise PeerRefused(f"{self._destination} answered {status:04X}: refused")


def result_contexts(sop_classes: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Presentation contexts for our own objects; pynetdicom converts between the two encodings if it must."""
    return [(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian]) for uid in dict.fromkeys(sop_classes)]


def image_contexts(images: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Presentation contexts for images of these SOP classes and transfer syntaxes, each offered alone."""
    return [(sop_class, [syntax]) for sop_class, syntax in dict.fromkeys(images)]


def _whole(path: Path, digest: str) -> FileMeta:
    """The file meta information of a file whose dataset has that digest."""
    try:
        with path.open("rb") as file:
            meta = FileMeta.read(file)
        if file_digest(path, meta.dataset_offset) == digest:
            return meta
    except OSError as error:
        raise OutOfResources(f"{path.name} cannot be read: {error.strerror}") from error
    raise CannotUnderstand(f"{path.name} is damaged: it is not what came")


def _readable(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except OSError as error:
        raise OutOfResources(f"{path.name} cannot be read: {error.strerror}") from error
    except InvalidDicomError as error:
        raise CannotUnderstand(f"{path.name} is no DICOM file") from error
