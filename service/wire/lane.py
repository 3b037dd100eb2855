"""The short way of a C-STORE: from its command to its reply in the thread at the socket.

Of each PDU pynetdicom makes an object, a primitive, an event and a message, and the message goes to another
thread and its reply back. Here what every sender sends, a command in one fragment and then its dataset, is
read, written, taken and answered where it arrives. All else is left to pynetdicom, at any point: a message
that goes on in another way goes on there. What this leans on of pynetdicom's (the accepted contexts, the
message in its midst, the timer of silence) is that of the versions which ``wakeful`` was tested with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from service.received import FileMeta
from service.wire.pdu import IS_COMMAND, IS_LAST, Value
from service.wire.spool import Spool
from service.wire.storage import Arrived, titles
from service.wire.store_message import StoreRequest
from service.wire.transport import Transport

_LONGEST_REPLY_BYTES: Final = 512
"""A peer that takes less in a PDU is answered by pynetdicom."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """The command of a C-STORE, whose dataset is to follow."""

    request: StoreRequest
    command: bytes
    context_id: int


@dataclass(frozen=True, slots=True)
class _Coming:
    """A C-STORE whose dataset is on its way into a file."""

    begun: _Begun
    spool: Spool
    meta: FileMeta


class Lane:
    """One association's."""

    def __init__(self, association: Association, take: Callable[[Arrived], int]) -> None:
        """Args:
        association: Which a peer has opened.
        take: Takes what has come, and returns the status of the reply.
        """
        self._association: Any = association
        self._take = take
        self._coming: _Coming | None = None

    def pass_on(self, transport: Transport) -> bool:
        """Reads a PDU that has begun to come, if it belongs here; else it is left to be read.

        Called in the thread at the socket of an established association, where nothing else waits to be done.
        """
        if self._association.dimse.message is not None:
            return False  # pynetdicom is in the midst of one
        pdu = transport.read_pdu()
        values = pdu.values() if pdu is not None else []
        begun = self._coming.begun if self._coming is not None else self._command_in(values)
        fragments = values if self._coming is not None else values[1:]
        if begun is None or not values or not _go_on(fragments, begun.context_id):
            self._hand_over()
            if pdu is not None:
                transport.leave(pdu)
            return False
        coming = self._coming = self._coming or self._begin(begun, transport)
        for fragment in fragments:
            if transport.takes_note(fragment.content):
                coming.spool.write(fragment.content)
        if fragments and fragments[-1].is_last:
            self._coming = None
            self._answer(coming, transport)
        return True

    def drop(self) -> None:
        """Removes what was written of a dataset that will not come to its end."""
        if self._coming is not None:
            self._coming.spool.remove()
            self._coming = None

    def _command_in(self, values: Sequence[Value]) -> _Begun | None:
        """The first of these, if it is the command of a C-STORE that can go this way."""
        if not values or not (values[0].is_command and values[0].is_last):
            return None
        command, context_id = bytes(values[0].content), values[0].context_id
        request = StoreRequest.read(command)
        if request is None or self._sop_classes.get(context_id) != request.sop_class_uid:
            return None
        return _Begun(request, command, context_id)

    def _begin(self, begun: _Begun, transport: Transport) -> _Coming:
        spool, request = Spool(), begun.request
        syntax = str(self._association._accepted_cx[begun.context_id].transfer_syntax[0])
        beginning = request.file_begins_with(syntax)
        spool.write(beginning)
        transport.begins(len(begun.command))
        meta = FileMeta(request.sop_class_uid, request.sop_instance_uid, syntax, len(beginning))
        return _Coming(begun, spool, meta)

    def _answer(self, coming: _Coming, transport: Transport) -> None:
        coming.spool.flush()  # what the disk does not take is to be known before it is looked at
        coming.spool.close()
        path, request = Path(coming.spool.name), coming.begun.request
        calling, called = self._titles
        arrived = Arrived(
            path=path,
            failure=coming.spool.failure,
            digest=transport.ends().digest,
            meta=coming.meta,
            sop_class_uid=request.sop_class_uid,
            sop_instance_uid=request.sop_instance_uid,
            calling_ae_title=calling,
            called_ae_title=called,
            moved_for=request.moved_for,
        )
        silence = self._association.dul._idle_timer
        silence.stop()  # the peer waits for us now
        status = self._take(arrived)
        silence.restart()
        coming.spool.remove()
        transport.send(request.reply(coming.begun.context_id, status))

    def _hand_over(self) -> None:
        """Lets pynetdicom go on with the message."""
        coming, self._coming = self._coming, None
        if coming is None:
            return
        primitive: Any = P_DATA()
        command = bytes((IS_COMMAND | IS_LAST,)) + coming.begun.command
        primitive.presentation_data_value_list = [[coming.begun.context_id, command]]
        message: Any = DIMSEMessage()
        message.decode_msg(primitive, self._association)
        message._data_set_file.remove()
        message._data_set_file, message._data_set_path = coming.spool, Path(coming.spool.name)
        self._association.dimse.message = message

    @cached_property
    def _sop_classes(self) -> dict[int, str]:
        """Of each presentation context by which objects are stored."""
        if 0 < self._association.dimse.maximum_pdu_size < _LONGEST_REPLY_BYTES:
            return {}
        return {
            number: str(context.abstract_syntax)
            for number, context in self._association._accepted_cx.items()
            if uid_to_service_class(context.abstract_syntax) is StorageServiceClass
        }

    @cached_property
    def _titles(self) -> tuple[str, str]:
        return titles(self._association)


def _go_on(fragments: Sequence[Value], context_id: int) -> bool:
    """Whether these are fragments of a dataset of this context, of which the last one may be its last."""
    return not any(one.is_command or one.context_id != context_id for one in fragments) and not any(
        one.is_last for one in fragments[:-1]
    )
