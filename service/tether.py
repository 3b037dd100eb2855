"""``python -m service.tether COMMAND…``: becomes COMMAND, and ends when the process that started it ends.

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
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            # The parent ended before the kernel knew of the tie.
            sys.exit(1)
    command = sys.argv[1:]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
