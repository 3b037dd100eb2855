"""Whom the node speaks with over DICOM, as the settings write them: destinations, and who may call."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Self

from pydantic import BaseModel, ConfigDict

_AE_TITLE = re.compile(r"[^\\\x00-\x1f\x7f-\U0010ffff]{1,16}")
"""PS3.5 6.2, VR AE: at most 16 characters of the default repertoire, no backslash, no control characters."""


TLS_SCHEME: Final = "dicoms://"
"""Stands before the address of a peer that is called by TLS."""

_DESTINATION = re.compile(
    rf"(?P<tls>{TLS_SCHEME})?"
    r"(?P<aet>[^@]+)@\[?(?P<host>[^@\]]+?)\]?:(?P<port>\d{1,5})(?:=(?P<kinds>.*))?"
)


class ResultKind(StrEnum):
    """What a destination may be sent of an analysis."""

    STRUCTURED_REPORT = "sr"
    PRESENTATION_STATE = "gsps"
    SECONDARY_CAPTURE = "sc"


DEFAULT_RESULTS: Final = (ResultKind.STRUCTURED_REPORT,)


class Destination(BaseModel):
    """A remote node that takes our results, written ``AET@HOST:PORT`` or ``AET@HOST:PORT=sr+sc``.

    Attributes:
        ae_title, host, port, tls: Its address, which is all that names it in the records.
        tls: Whether it is called by TLS, written ``dicoms://AET@HOST:PORT``.
        results: What it gets.
    """

    model_config = ConfigDict(frozen=True)

    ae_title: str
    host: str
    port: int
    tls: bool = False
    results: tuple[ResultKind, ...] = DEFAULT_RESULTS

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads ``AET@HOST:PORT`` (an IPv6 host in brackets), with the kinds of results after ``=``, and
        ``dicoms://`` before it where it is called by TLS.

        Raises:
            ValueError: If the text has another form.
        """
        match = _DESTINATION.fullmatch(text.strip())
        if not match or not 0 < int(match["port"]) < 65536:
            raise ValueError(f"a destination is written AET@HOST:PORT, not {text.strip()!r}")
        return cls(
            ae_title=ae_title(match["aet"]),
            host=match["host"],
            port=int(match["port"]),
            tls=match["tls"] is not None,
            results=DEFAULT_RESULTS if match["kinds"] is None else _result_kinds(match["kinds"]),
        )

    @property
    def address(self) -> str:
        """``AET@HOST:PORT`` or ``dicoms://AET@HOST:PORT``, by which the records know it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{TLS_SCHEME if self.tls else ''}{self.ae_title}@{host}:{self.port}"

    def __str__(self) -> str:
        return self.address if self.results == DEFAULT_RESULTS else f"{self.address}={'+'.join(self.results)}"


class Caller(BaseModel):
    """Who may call us, written ``AET``, ``AET@ADDRESS`` or ``AET@NETWORK/BITS``.

    Attributes:
        ae_title: Its application entity title.
        network: Where it has to call from; None is anywhere.
    """

    model_config = ConfigDict(frozen=True)

    ae_title: str
    network: IPv4Network | IPv6Network | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads it.

        Raises:
            ValueError: If the text has another form.
        """
        title, at, network = text.rpartition("@") if "@" in text else (text, "", "")
        try:
            return cls(ae_title=ae_title(title), network=ip_network(network.strip()) if at else None)
        except ValueError as error:
            why = f": {error}" if at else ""
            raise ValueError(
                f"a caller is written AET, AET@ADDRESS or AET@NETWORK/BITS, not {text.strip()!r}{why}"
            ) from None

    def admits(self, calling_ae_title: str, address: str) -> bool:
        """Whether somebody who calls from an address is this one."""
        if calling_ae_title != self.ae_title:
            return False
        return self.network is None or _plain(address) in self.network

    def __str__(self) -> str:
        return self.ae_title if self.network is None else f"{self.ae_title}@{self.network}"


def _plain(address: str) -> IPv4Address | IPv6Address:
    """An address; one of IPv4 also where an IPv6 socket tells it."""
    parsed = ip_address(address.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


def ae_title(text: str) -> str:
    """The text as an application entity title (PS3.5 6.2).

    Raises:
        ValueError: If it is empty, longer than 16 characters, or has characters an AE may not have.
    """
    title = text.strip(" ")
    if not title or not _AE_TITLE.fullmatch(title):
        raise ValueError(f"an AE title has 1 to 16 plain characters, not {text!r}")
    return title


def _result_kinds(text: str) -> tuple[ResultKind, ...]:
    try:
        return tuple(dict.fromkeys(ResultKind(kind) for kind in text.split("+")))
    except ValueError:
        known = ", ".join(ResultKind)
        raise ValueError(f"after = come kinds of results ({known}) joined by +, not {text!r}") from None


def result_kinds(destinations: Iterable[Destination]) -> tuple[ResultKind, ...]:
    """The kinds that some destination wants; without one, the default ones are made and kept."""
    wanted = {kind for destination in destinations for kind in destination.results}
    return tuple(kind for kind in ResultKind if kind in wanted) or DEFAULT_RESULTS
