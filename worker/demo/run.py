"""The demonstration's course: start the node as a process, push, wait for every report, collect what came."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from service.errors import NodeError
from service.peers import Destination
from service.records import overview
from service.records.database import Records
from service.records.overview import StudyView
from service.settings import Settings, settings_without_sources
from service.supervised import STOP_SECONDS
from service.supervisor import running_port
from worker.demo.modality import OutgoingImage, SentImage, push
from worker.demo.pacs import ReceivedResult

NODE: Final = "LITEGPT"
"""The node's AE title in the demonstration."""

QUIET_SECONDS: Final = 1.0
START_SECONDS: Final = 60.0
STALLED_SECONDS: Final = 180.0
"""Without any progress for this long the demonstration gives up."""

_FINAL_OUTCOMES: Final = frozenset({"delivered", "refused", "failed", "not-applicable", "cancelled"})


@dataclass(frozen=True, slots=True)
class DemoStudy:
    """One study of the demonstration, from push to report.

    Attributes:
        seconds: From the node's answer to the study's last image until its last report was at the PACS;
            0 where that report came before the answer.
    """

    study_instance_uid: str
    sent: tuple[SentImage, ...]
    view: StudyView | None
    reports: tuple[Path, ...]
    seconds: float | None

    @property
    def is_delivered(self) -> bool:
        """Whether the node says so and the PACS holds the report."""
        return self.view is not None and self.view.outcome == "delivered" and bool(self.reports)


class PACS(Protocol):
    """What takes the results; for its ``with`` block it runs."""

    @property
    def destination(self) -> Destination:
        """How the node reaches it."""

    @property
    def results(self) -> Mapping[str, Sequence[ReceivedResult]]:
        """What came, by Study Instance UID."""

    def wait_for_change(self, seconds: float) -> None:
        """Returns when another result has come, or after ``seconds``."""


def demonstrate(
    images: Sequence[OutgoingImage],
    folder: Path,
    pacs: PACS,
    on_progress: Callable[[str, int, int], None],
) -> list[DemoStudy]:
    """Runs the demonstration.

    Args:
        images: What to push.
        folder: Where the node's data and its log go: ``node/``, ``node.log``.
        pacs: Where the results go; it runs.
        on_progress: Called with a step's name, how many are done, and how many there are.

    Raises:
        NodeError: If the node does not start, or nothing moves any more.
    """
    settings = settings_without_sources(
        data_dir=folder / "node",
        ae_title=NODE,
        dicom_port=0,
        dicom_host="127.0.0.1",
        web_port=None,
        quiet_seconds=QUIET_SECONDS,
        destinations=(str(pacs.destination),),
        sweep_interval_seconds=0.25,
        minimum_age_years=0,
    )
    with _node(settings, folder / "node.log") as node:
        sent = []
        for image in push(images, node, _as_modality(settings)):
            sent.append(image)
            on_progress("sent to the node", len(sent), len(images))
        return _wait(settings, pacs, sent, on_progress)


def _as_modality(settings: Settings) -> Settings:
    return settings.model_copy(update={"ae_title": "DEMOMODALITY"})


@contextmanager
def _node(settings: Settings, log: Path) -> Iterator[Destination]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli.main", "up"],
            env=os.environ | settings.as_environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            port = _wait_for_port(process, settings.data_dir, log)
            yield Destination(ae_title=settings.ae_title, host="127.0.0.1", port=port)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS + 5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], data_dir: Path, log: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        port = running_port(data_dir)
        if port is not None:
            return port
        time.sleep(0.05)
    raise NodeError(f"the node did not start; see {log}")


def _wait(
    settings: Settings,
    pacs: PACS,
    sent: Sequence[SentImage],
    on_progress: Callable[[str, int, int], None],
) -> list[DemoStudy]:
    uids = list(dict.fromkeys(image.image.study_instance_uid for image in sent if not image.complaint))
    records = Records.open(settings)
    done, moved_at = -1, time.monotonic()
    try:
        while True:
            views = {uid: _view(records, uid) for uid in uids}
            ended = sum(view.outcome in _FINAL_OUTCOMES for view in views.values())
            if ended != done:
                done, moved_at = ended, time.monotonic()
                on_progress("reports at the PACS", done, len(uids))
            if done == len(uids):
                return _collect(pacs, sent, views)
            if time.monotonic() - moved_at > STALLED_SECONDS:
                raise NodeError(f"nothing has moved for {STALLED_SECONDS:.0f} s; see {settings.data_dir}")
            pacs.wait_for_change(0.2)
    finally:
        records.close()


def _view(records: Records, uid: str) -> StudyView:
    with records.reading() as session:
        return overview.show_study(session, uid)


def _collect(pacs: PACS, sent: Sequence[SentImage], views: dict[str, StudyView]) -> list[DemoStudy]:
    studies = []
    for uid in dict.fromkeys(image.image.study_instance_uid for image in sent):
        images = tuple(image for image in sent if image.image.study_instance_uid == uid)
        results = pacs.results.get(uid, [])
        last_sent = max(image.at_seconds for image in images)
        last_came = max((result.at_seconds for result in results), default=None)
        studies.append(
            DemoStudy(
                study_instance_uid=uid,
                sent=images,
                view=views.get(uid),
                reports=tuple(result.path for result in results),
                seconds=None if last_came is None else max(0.0, last_came - last_sent),
            )
        )
    return studies
