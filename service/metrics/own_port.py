"""How a part of the node that runs alone, as in a container of its own, tells what it has counted.

The parts of ``litegpt-node up`` do not: the web server tells for all of them.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server

from service.metrics.folder import FOLDER, CountedByProcesses
from service.settings import Settings

log = logging.getLogger(__name__)

_PREFIX: Final = "litegpt-metrics-"


def count_alone(settings: Settings) -> None:
    """A folder of its own for this part and the processes that it will fork, gone when it ends.

    Not where ``metrics_port`` is unset, or another process tells what this one counts.
    """
    if settings.metrics_port is not None and FOLDER not in os.environ:
        folder = tempfile.mkdtemp(prefix=_PREFIX)
        atexit.register(_remove, folder, os.getpid())
        os.environ[FOLDER] = folder


def tell(settings: Settings) -> None:
    """Serves the folder's ``/metrics`` on ``metrics_port``, in a thread; a taken port is no reason to end."""
    folder = os.environ.get(FOLDER, "")
    if settings.metrics_port is None or not Path(folder).name.startswith(_PREFIX):
        return
    registry = CollectorRegistry()
    registry.register(CountedByProcesses(folder))
    host, port = settings.metrics_host, settings.metrics_port
    try:
        server, _ = start_http_server(port, host, registry)
        log.info("metrics on port %d", server.server_port)
    except OSError as error:
        log.error("no metrics: port %d on %s: %s", port, host, error.strerror)


def _remove(folder: str, maker: int) -> None:
    if os.getpid() == maker:
        shutil.rmtree(folder, ignore_errors=True)
