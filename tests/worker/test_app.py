"""The ``celery`` command: what is wrong with its settings is one line, and the records know its processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import queue
from service.records import workers
from service.records.database import Records
from service.settings import Settings, load_settings
from tests.worker.celery_worker import PARTS, celery_worker


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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    loaded = load_settings(data_dir=tmp_path / "node")
    queue.prepare_broker(loaded)
    return loaded


@pytest.mark.parametrize(("part", "pool"), PARTS)
def test_a_worker_is_in_the_records_from_its_start_to_its_end(
    settings: Settings, tmp_path: Path, part: str, pool: str
) -> None:
    records = Records.open(settings)

    def there() -> list[tuple[str, int]]:
        with records.reading() as session:
            return [(one.part, one.pid) for one in workers.workers(session)]

    def model() -> str:
        with records.reading() as session:
            return workers.workers(session)[0].model

    with celery_worker(settings, part, pool, tmp_path) as worker:
        ((named, pid),) = worker.wait_until(there, 60, "worker in the records")
        works = [worker.pid] if pool == "solo" else [one.pid for one in worker.descendants()]
        assert named == part and pid in works
        if part == queue.ANALYSIS:
            worker.wait_until(model, 60, "model loaded before the first study")
    assert there() == []
    records.close()
