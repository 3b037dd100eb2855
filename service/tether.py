"""``python -m service.tether PARENT COMMAND…``: becomes COMMAND, and ends when the process PARENT ends.

A node that is killed outright cannot stop its workers. On Linux the kernel does it in its place, as outright:
a worker of Celery that is asked to end (SIGTERM) while it starts may wait for ever. Elsewhere the command
just runs. Either way no harm is done, since leases keep the records right.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2): the signal to send when the parent ends; kept over execve(2)."""


def main() -> None:
    """Ties this process to its parent and becomes the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # It ended before the kernel knew of the tie, maybe before this process ran at all.
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
