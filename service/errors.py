"""Errors of the node, split by what the caller should do next.

NodeError
├── SettingsError            the admin must change a setting; the process exits with code 2
│   └── NameTaken            what is to be named so is there already
├── TryAgain                 the same call may succeed later
│   ├── OutOfResources       disk or database would not take it just now
│   │   └── NoRoom           the disk is nearly full
│   ├── StillInWork          a study cannot be removed before what is under way has ended
│   ├── Busy                 another action on many studies is going on
│   ├── PeerUnavailable      a remote node did not answer, or asked to be tried later
│   │   └── NoTls            there is no TLS with it: a certificate, or how it speaks, must be put right
│   └── PeerFailed           a remote node answers, and could not do this one thing just now
└── NeverAgain               the same call will fail the same way
    ├── DatasetMismatch      the dataset is not what its association said
    ├── CannotUnderstand     the dataset cannot be read
    ├── TooLarge             an object, or its study, is larger than the node takes
    ├── BackupDamaged        a backup is not what its manifest says, or ends early
    ├── NotThere             what is named is not in the records
    ├── WrongState           what is named is past that, or not yet there
    ├── PeerRefused          a remote node refused for good
    │   ├── KindRefused      it takes no objects of this SOP class
    │   ├── NotSetUp         it is not set up for us, whatever we ask
    │   │   └── NotOffered   it answers no questions of ours
    │   └── TooManyMatches   it does not answer a question as wide as this one
    └── LeaseLost            another worker holds this piece of work now
"""

from __future__ import annotations

from typing import Final

from litegpt.errors import LiteGPTError


class NodeError(Exception):
    """Base of all errors that ``service`` raises on purpose."""


class SettingsError(NodeError):
    """A setting, or what it points to, is wrong; the message is one line for the admin."""


class NameTaken(SettingsError):
    """Another user, client or model has that name."""


class TryAgain(NodeError):
    """The same call may succeed later."""


class OutOfResources(TryAgain):
    """The archive or the records would not take it just now."""


class NoRoom(OutOfResources):
    """The archive's disk has less room than is to stay free."""


class StillInWork(TryAgain):
    """A study cannot be removed before what is under way has ended."""


class Busy(TryAgain):
    """Another action on many studies is going on, and there is one at a time."""


class PeerUnavailable(TryAgain):
    """A remote node did not answer, or asked to be tried later."""


class NoTls(PeerUnavailable):
    """There is no TLS with a remote node. An admin puts it right, and what is due then still goes."""


class PeerFailed(TryAgain):
    """A remote node answers, and could not do this one thing just now; others may go."""


class NeverAgain(NodeError):
    """The same call will fail the same way."""


class DatasetMismatch(NeverAgain):
    """The dataset's SOP Class or Instance UID is not the one its C-STORE command named."""


class CannotUnderstand(NeverAgain):
    """The dataset cannot be read, or lacks what identifies it."""


class TooLarge(NeverAgain):
    """The dataset, or its study with it, is larger than the node takes."""


class BackupDamaged(NeverAgain):
    """A backup is not what its manifest says, or ends early."""


class NotThere(NeverAgain):
    """What is named is not in the records."""


class WrongState(NeverAgain):
    """What is named is in a state in which that cannot be done."""


class PeerRefused(NeverAgain):
    """A remote node refused the object for good."""


class KindRefused(PeerRefused):
    """A remote node takes no objects of this SOP class; another kind of result may go."""


class NotSetUp(PeerRefused):
    """A remote node is not set up for us: nothing will go until an admin has changed that."""


class NotOffered(NotSetUp):
    """A remote node takes no presentation context for questions from us."""


class TooManyMatches(PeerRefused):
    """A remote node does not answer a question as wide as this one; a narrower one may go."""


class LeaseLost(NeverAgain):
    """Another worker holds this piece of work now; whatever was computed is dropped."""


_WITHOUT_QUOTES: Final = (NodeError, LiteGPTError, RuntimeError, MemoryError)
_WITH_QUOTES: Final = (NotImplementedError, RecursionError)


def in_words(error: BaseException) -> str:
    """What may be written down of any error, in a line: its kind, and its words where they quote nobody.

    A library's error over a value repeats the value, which may be a patient's name, and a database's the row.
    Of the system's own (``OSError``) the file is left out: imported ones are named as others please.
    """
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{kind}: {error.strerror}"
    if isinstance(error, _WITHOUT_QUOTES) and not isinstance(error, _WITH_QUOTES):
        return f"{kind}: {' '.join(str(error).split())}"
    return kind
