"""How long a C-ECHO takes with its association: opened, asked, released, by a client that is only a socket.

    python -m benchmarks.echo [--echoes 200] [--rounds 3] [--out FILE]

The node's listener and its peers in turn, round after round; the median of each, and its ratio to dcmtk's
storescp in the same round. No process is started within what is measured.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.dimse_messages import C_ECHO_RQ
from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.pdu import A_ASSOCIATE_RQ, A_RELEASE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    A_RELEASE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from benchmarks import machine
from benchmarks.receivers import NODE, STORESCP, receivers
from tests.fuzz.upper_layer import read_pdu

GOAL_MS: Final = 5.0
_ACCEPTED, _DATA, _RELEASED = 2, 4, 6
"""PDU types (PS3.8 9.3.1)."""


def conversation() -> list[tuple[bytes, int]]:
    """What is sent, and the type of the PDU that answers it."""
    return [(_request(), _ACCEPTED), (_echo(), _DATA), (_release(), _RELEASED)]


def _request() -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = "BENCHMARK", "ANY"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16382
    implementation.implementation_class_uid = "1.2.3.4"
    primitive.user_information = [length, implementation]
    context = build_context(Verification, [ImplicitVRLittleEndian])
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def _echo() -> bytes:
    primitive = C_ECHO()
    primitive.MessageID, primitive.AffectedSOPClassUID = 1, Verification
    message = C_ECHO_RQ()
    message.primitive_to_message(primitive)
    (data,) = message.encode_msg(1, 16382)
    pdu = P_DATA_TF()
    pdu.from_primitive(data)
    return bytes(pdu.encode())


def _release() -> bytes:
    pdu = A_RELEASE_RQ()
    pdu.from_primitive(A_RELEASE())
    return bytes(pdu.encode())


def echo_seconds(port: int, said: Sequence[tuple[bytes, int]]) -> float:
    """One association from its first to its last byte.

    Raises:
        ConnectionError: If something else is answered.
    """
    start = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for request, expected in said:
            connection.sendall(request)
            came, _ = read_pdu(connection)
            if came != expected:
                raise ConnectionError(f"a PDU of type {came} in the place of {expected}")
    return time.perf_counter() - start


def main() -> None:
    """Runs the benchmark."""
    arguments = _arguments()
    said = conversation()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="echo-") as name:
        for number in range(arguments.rounds):
            for receiver in receivers():
                folder = Path(name) / "receiver"
                with receiver.receiving(folder) as (_, port):
                    echo_seconds(port, said)
                    times = [1000 * echo_seconds(port, said) for _ in range(arguments.echoes)]
                shutil.rmtree(folder)
                row = {"round": number, "receiver": receiver.name, "median_ms": statistics.median(times)}
                found.append({**row, "p99_ms": statistics.quantiles(times, n=100)[98]})
    print(_table(found), file=sys.stderr)
    own = statistics.median(row["median_ms"] for row in found if row["receiver"] == NODE.name)
    words = "reached" if own <= GOAL_MS else "NOT reached"
    print(f"at most {GOAL_MS:g} ms at the median {words}: {own:.2f}", file=sys.stderr)
    machine.report("echo", arguments.out, {"rounds": found})


def _table(found: Sequence[dict[str, Any]]) -> str:
    peer = {row["round"]: row["median_ms"] for row in found if row["receiver"] == STORESCP.name}
    lines = ["| receiver | median ms | 99th percentile ms | × storescp |", "| --- | --- | --- | --- |"]
    for name in dict.fromkeys(row["receiver"] for row in found):
        own = [row for row in found if row["receiver"] == name]
        median, high = (statistics.median(row[key] for row in own) for key in ("median_ms", "p99_ms"))
        ratios = [row["median_ms"] / peer[row["round"]] for row in own if row["round"] in peer]
        ratio = f"{statistics.median(ratios):.1f}" if ratios else ""
        lines.append(f"| {name} | {median:.2f} | {high:.2f} | {ratio} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--echoes", type=int, default=200, help="in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON goes here, else to standard output")
    return parser.parse_args()


if __name__ == "__main__":
    main()
