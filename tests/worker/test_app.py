"""The ``celery`` command with the node's settings: what is wrong with them is one line, as everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("LITEGPT_FOO", "1", "unknown setting LITEGPT_FOO in the environment"),
        ("LITEGPT_BROKER_URL", "foo://x", "broker_url: must be redis://HOST:PORT/NUMBER or rediss://HOST"),
    ],
)
@pytest.mark.parametrize("command", [("worker", "--queues", "analysis"), ("inspect", "ping")])
def test_a_wrong_setting_ends_celery_with_one_line(
    command: tuple[str, ...], name: str, value: str, complaint: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker.app", *command],
        cwd=tmp_path,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith(f"litegpt-node worker: {complaint}")
    assert done.stderr.count("\n") == 1
