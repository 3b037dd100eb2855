"""The socket of an association that a peer has opened: what the peer may take of our time and our memory.

pynetdicom waits for the rest of a PDU as long as it takes, and keeps all of it. So a peer that goes on by a
byte now and then would hold an association for good, and one that announces 4 GB would fill the memory.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import AssociationSocket

from service.received import Digest
from service.settings import Settings
from service.wire.digesting import Digester
from service.wire.pdu import IS_COMMAND, IS_LAST, P_DATA, Pdu
from service.wire.store_message import NO_DATASET

log = logging.getLogger(__name__)

SLOWEST_BYTES_PER_SECOND: Final = 1000
"""What a peer must send for the rest of a PDU to be waited for."""

_LARGEST_COMMAND_BYTES: Final = 1 << 20
"""Of anything but a dataset: an A-ASSOCIATE-RQ of 128 contexts has some 50 kB, a command less than one."""

_LARGEST_PDU_BYTES: Final = 16 << 20
"""Taken also where we announce less: some peers do not look."""

_HEADER_BYTES: Final = 6

_READ_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Limits:
    """What one association may take.

    Attributes:
        pdu_seconds: From a PDU's first byte to its last, and longer only as its bytes come at a pace.
        silent_seconds: How long it may not take what we send.
        association_seconds: How long it may last; 0 is for good. A message that has begun may end.
        dataset_bytes: The largest dataset.
        pdu_bytes: The longest PDU that we announce; 0 is any.
    """

    pdu_seconds: float
    silent_seconds: float
    association_seconds: float
    dataset_bytes: int
    pdu_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings."""
        return cls(
            settings.pdu_timeout_seconds,
            settings.network_timeout_seconds,
            settings.maximum_association_seconds,
            settings.maximum_dataset_bytes,
            settings.maximum_pdu_bytes,
        )

    def longest(self, pdu_type: int) -> int:
        """How long a PDU may be that is taken."""
        if pdu_type != P_DATA:
            return _LARGEST_COMMAND_BYTES
        most = self.pdu_bytes or self.dataset_bytes + _LARGEST_COMMAND_BYTES
        return max(most, _LARGEST_PDU_BYTES)


class Transport(AssociationSocket):
    """pynetdicom's socket, within limits. What goes beyond them finds its connection ended.

    Datasets are digested as they pass.
    """

    def __init__(
        self,
        association: Association,
        connection: socket.socket,
        limits: Limits,
        digesting: ThreadPoolExecutor,
    ) -> None:
        super().__init__(association, client_socket=connection)
        self._digesting = digesting
        self._digester = Digester(digesting)
        self._whole: deque[Digester] = deque()
        self._digests: dict[Path, Digester] = {}
        self._limits = limits
        self._began = time.monotonic()
        self._pdu_began = 0.0
        self._within_pdu = False
        self._ahead: deque[bytearray] = deque()
        self._of_command = self._of_dataset = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Reads the next part of a PDU: its header, then its rest (as ``DULServiceProvider`` asks for them).

        Returns:
            Fewer bytes where the peer has left, or is not waited for any more.
        """
        if self._ahead:
            return self._ahead.popleft()
        if self._within_pdu:
            self._within_pdu = False
            return self._read(nr_bytes)
        self._pdu_began = time.monotonic()
        if self._has_lasted_too_long():
            return self._end(f"it has lasted {self._limits.association_seconds:g} s")
        header = self._read(nr_bytes)
        if len(header) == _HEADER_BYTES:
            length = int.from_bytes(header[2:], "big")
            if length > self._limits.longest(header[0]):
                return self._end(f"a PDU of {length} bytes was announced")
            self._within_pdu = 1 <= header[0] <= 7
        return header

    def read_pdu(self) -> Pdu | None:
        """Reads a PDU; ``None`` where the peer has left or sends what is none, which is left to be read."""
        header = self.recv(_HEADER_BYTES)
        if not self._within_pdu:
            self._ahead.append(header)
            return None
        return Pdu(header, self.recv(int.from_bytes(header[2:], "big")))

    def leave(self, pdu: Pdu) -> None:
        """Lets a PDU that was read be read again."""
        self._ahead.extend((pdu.header, pdu.body))

    def send(self, bytestream: bytes) -> None:
        """Sends a PDU, to a peer that takes it."""
        if self.socket is not None:
            self.socket.settimeout(self._limits.silent_seconds)
        super().send(bytestream)

    def close(self) -> None:
        """Ends the connection; pynetdicom leaves it open where the peer has ended it before."""
        connection = self.socket
        super().close()
        if connection is not None:
            connection.close()

    def measure(self, pdu: Any) -> None:
        """Takes note of a PDU before it is worked with: nothing is kept of a dataset beyond its limit.

        The part with which the limit is passed is kept, so that whoever takes the dataset sees that it is.
        """
        if not isinstance(pdu, P_DATA_TF):
            return
        for item in pdu.presentation_data_value_items:
            value = item.presentation_data_value
            if not value:
                continue
            control, size = value[0], len(value) - 1
            if control & IS_COMMAND:
                self._of_command += size
            elif not self.takes_note(memoryview(value)[1:]):
                item.presentation_data_value = value[:1]
            if control & IS_LAST and control & IS_COMMAND:
                # It says whether a dataset follows; where it does not, the next is a command, too.
                self._of_command = self._of_dataset = 0
            elif control & IS_LAST:
                self._whole.append(self.ends())
        if self._of_command > _LARGEST_COMMAND_BYTES:
            self._end("its command does not end")

    def begins(self, command_bytes: int) -> None:
        """Takes note of a command of so many bytes, which a dataset follows."""
        self._of_command, self._of_dataset = command_bytes, 0

    def ends(self) -> Digester:
        """Takes note of a dataset's end; whoever digests it is returned, and the next one has another."""
        digester, self._digester = self._digester, Digester(self._digesting)
        self._of_command = self._of_dataset = 0
        return digester

    def takes_note(self, part: memoryview) -> bool:
        """Of a part of a dataset; whether it is to be kept."""
        if self._of_dataset > self._limits.dataset_bytes:
            return False
        self._of_dataset += len(part)
        self._digester.update(part)
        return True

    def assign(self, message: Any) -> None:
        """Takes note of a message that is whole; if it has a dataset, that is the first of those waiting."""
        if message.command_set.CommandDataSetType == NO_DATASET or not self._whole:
            return
        digester = self._whole.popleft()
        if message._data_set_path is not None:
            self._digests[message._data_set_path] = digester

    def digest_of(self, file: Path) -> Digest | None:
        """That of the dataset that was received into a file; told once."""
        digester = self._digests.pop(file, None)
        return digester.digest() if digester is not None else None

    def _read(self, nr_bytes: int) -> bytearray:
        connection: Any = self.socket
        data = bytearray(nr_bytes)
        view, got = memoryview(data), 0
        try:
            while got < nr_bytes:
                deadline = self._pdu_began + self._limits.pdu_seconds + got / SLOWEST_BYTES_PER_SECOND
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                count = connection.recv_into(view[got : got + _READ_BYTES])
                got += count
                if count == 0:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError
        except TimeoutError:
            return self._end(f"a PDU was not complete after {self._limits.pdu_seconds:g} s")
        except OSError:
            return bytearray()
        finally:
            view.release()
        del data[got:]
        return data

    def _has_lasted_too_long(self) -> bool:
        """Also where it began to send what does not end."""
        most = self._limits.association_seconds
        lasted = time.monotonic() - self._began
        return 0 < most < (lasted if not self._of_command + self._of_dataset else lasted / 2)

    def _end(self, why: str) -> bytearray:
        """Ends the connection; pynetdicom takes nothing for a peer that has left."""
        peer = self.assoc.requestor.address_info
        log.warning("association of %s ended: %s", peer.address if peer else "somebody", why)
        with suppress(OSError, AttributeError):
            self.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
        return bytearray()


def measure(event: Event) -> None:
    """Has an association's socket take note of a PDU; for ``EVT_PDU_RECV``."""
    transport = event.assoc.dul.socket
    if isinstance(transport, Transport):
        transport.measure(event.pdu)


def assign(event: Event) -> None:
    """Has an association's socket take note of a message; for ``EVT_DIMSE_RECV``."""
    transport = event.assoc.dul.socket
    if isinstance(transport, Transport):
        transport.assign(event.message)


def digest_of(event: Event) -> Digest | None:
    """The digest of what a C-STORE brought, where it was taken as it came."""
    transport, file = event.assoc.dul.socket, event.dataset_path
    return transport.digest_of(file) if isinstance(transport, Transport) and file is not None else None
