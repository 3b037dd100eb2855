"""How long a result takes: from a study's last image to its report at the PACS, beside the sum of its parts.

    python -m benchmarks.roundtrip [--node apart|embedded] [--studies 1 10 50] [--rounds 3] [--out FILE]

A real node (listener, sweeper, two Celery workers; PostgreSQL and Redis, or `litegpt-node up` on SQLite)
gets studies of one image and sends reports to dcmtk's storescp; the phantom model reads. Several studies are
sent at once, on up to ten associations. The quiet period is set apart: a study's time begins when it is over,
counted from the moment the last image was recorded, and ends when storescp has written the report. The parts
are measured alone in the same run, before the node starts: one after the other in one process, the model
loaded, studies one by one and four at once. Goals: one study takes no more than 1.2 times the sum of its
parts; N studies take, from the first one's time to the last report, no more than 1.2 times one study and
(N - 1) times the slowest part. Ctrl-C ends it and keeps what was measured.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom.uid import generate_uid
from sqlalchemy import select

from benchmarks import machine, markdown
from benchmarks.apart import RunningNode, node_apart, node_embedded
from benchmarks.parts import Parts
from litegpt.phantoms import phantom_files
from service.peers import Destination
from service.records.database import Records
from service.records.tables import Analysis, Delivery, Result, Study
from service.settings import settings_without_sources
from service.wire.sender import Sender, image_contexts
from tests.peers.dcmtk import Storescp, storescp
from tests.services.postgres import postgres_schema, started_server
from tests.waiting import wait_until

GOAL: Final = 1.2
_SENDERS: Final = 10
_WAIT_SECONDS: Final = 600
_NODES: Final = {"apart": node_apart, "embedded": node_embedded}
_SPLIT: Final = ("sweep", "bell and claim", "read and make", "bell and send")


@dataclass(frozen=True, slots=True)
class Way:
    """One study's way, in seconds.

    Attributes:
        due: When the quiet period was over, as seconds of the epoch.
        total: From then to the report at the PACS.
        since_reply: The same, counted from the listener's reply to the last image and the quiet period.
        split: Where they went, by what the records say.
    """

    due: float
    total: float
    since_reply: float
    split: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """So many studies at once, one round.

    Attributes:
        seconds: From the first one's time to the last report.
    """

    studies: int
    round: int
    load_average: float
    ways: Sequence[Way] = field(repr=False)

    @property
    def seconds(self) -> float:
        return max(way.due + way.total for way in self.ways) - min(way.due for way in self.ways)


def write_studies(folder: Path, count: int, first: int = 0) -> list[Path]:
    """Shipped radiographs in turn, from this one on, as studies of their own."""
    folder.mkdir(parents=True)
    shipped, paths = phantom_files(), []
    for number in range(first, first + count):
        dataset = pydicom.dcmread(shipped[number % len(shipped)])
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        paths.append(folder / f"{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def send(node: RunningNode, paths: Sequence[Path]) -> dict[str, float]:
    """Sends them at once; returns when each was answered, by its study's UID, as seconds of the epoch."""
    listener = Destination(ae_title=node.settings.ae_title, host="127.0.0.1", port=node.port)
    sender = Sender(node.settings)
    studies = {path: pydicom.dcmread(path, stop_before_pixels=True) for path in paths}

    def send_some(mine: Sequence[Path]) -> dict[str, float]:
        replied = {}
        forms = [(studies[path].SOPClassUID, studies[path].file_meta.TransferSyntaxUID) for path in mine]
        with sender.associate(listener, image_contexts(forms)) as connection:
            for path in mine:
                connection.store(path)
                replied[str(studies[path].StudyInstanceUID)] = time.time()
        return replied

    shares = [paths[start::_SENDERS] for start in range(min(_SENDERS, len(paths)))]
    with ThreadPoolExecutor(len(shares)) as pool:
        return {uid: at for replied in pool.map(send_some, shares) for uid, at in replied.items()}


def ways(node: RunningNode, pacs: Storescp, replied: Mapping[str, float]) -> list[Way]:
    """Each study's way, once all reports have come and the records say so."""
    records = Records.open(node.settings)

    def rows() -> list[tuple[Study, Analysis, Result]]:
        found = (
            select(Study, Analysis, Result)
            .join(Analysis, Analysis.study_id == Study.id)
            .join(Result, Result.analysis_id == Analysis.id)
            .join(Delivery, Delivery.result_id == Result.id)
            .where(Study.study_instance_uid.in_(replied), Delivery.state == "sent")
        )
        with records.reading() as session:
            have = [(study, analysis, result) for study, analysis, result in session.execute(found).all()]
        return have if len(have) == len(replied) else []

    quiet = node.settings.quiet_seconds
    try:
        # It is not asked for while it can be on its way: that would take the node's time.
        time.sleep(quiet)
        have = wait_until(rows, _WAIT_SECONDS, "all reports sent")
    finally:
        records.close()
    arrived = {
        str(pydicom.dcmread(path).SOPInstanceUID): path.stat().st_mtime_ns / 1e9 for path in pacs.files()
    }
    return [
        _way(study, analysis, arrived[result.sop_instance_uid], replied, quiet)
        for study, analysis, result in have
    ]


def _way(study: Study, analysis: Analysis, at: float, replied: Mapping[str, float], quiet: float) -> Way:
    due = study.last_eligible_at.timestamp() + quiet
    moments = (study.completed_at, analysis.started_at, analysis.finished_at)
    marks = [due, *(_epoch(moment) for moment in moments), at]
    split = {name: marks[n + 1] - marks[n] for n, name in enumerate(_SPLIT)}
    return Way(due, at - due, at - replied[study.study_instance_uid] - quiet, split)


def _epoch(moment: datetime | None) -> float:
    if moment is None:
        raise LookupError("a report was sent of an analysis that has not ended")
    return moment.timestamp()


def parts_alone(folder: Path, node: str, destination: str) -> dict[str, Mapping[str, float]]:
    """Seconds a study of each part, studies one by one and four at once."""
    alone: dict[str, Mapping[str, float]] = {}
    with _database(node) as database:
        settings = settings_without_sources(
            data_dir=folder / "data", database_url=database, destinations=destination, quiet_seconds=0
        )
        parts = Parts(settings)
        try:
            for at_once in (1, 4):
                # Each radiograph twice, beside the first batch, which warms up.
                count = at_once + 2 * len(phantom_files())
                files = write_studies(folder / "data" / "incoming" / f"batches-of-{at_once}", count)
                alone[str(at_once)] = parts.measure(files, at_once)
        finally:
            parts.close()
    return alone


@contextmanager
def _database(node: str) -> Iterator[str | None]:
    if node == "embedded":
        yield None
        return
    with started_server() as server, postgres_schema(server) as url:
        yield url


def run(
    node: RunningNode, pacs: Storescp, counts: Sequence[int], rounds: int, folder: Path
) -> Iterator[Sample]:
    """Measures one number of studies after the other; what comes first warms the node up and is not told.

    One study at once is measured with each of the shipped radiographs, as the parts are: of one there is more
    to say than of another.
    """
    for number in range(-1, rounds):
        for count in counts if number >= 0 else [4]:
            for first in range(len(phantom_files()) if count == 1 else 1):
                paths = write_studies(folder / "sent", count, first)
                sample = Sample(count, number, machine.load_average(), ways(node, pacs, send(node, paths)))
                shutil.rmtree(folder / "sent")
                if number >= 0:
                    yield sample


def reckon(samples: Sequence[Sample], alone: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row for each number of studies: what it took, what its parts take, and their ratio."""
    one = statistics.median([sample.seconds for sample in samples if sample.studies == 1] or [0.0])
    parts, slowest = sum(alone["1"].values()), max(alone["4"], key=alone["4"].__getitem__)
    found = []
    for count in dict.fromkeys(sample.studies for sample in samples):
        own = [sample for sample in samples if sample.studies == count]
        seconds = statistics.median(sample.seconds for sample in own)
        limit = parts if count == 1 else one + (count - 1) * alone["4"][slowest]
        took = sorted(way.total for sample in own for way in sample.ways)
        split = {
            name: statistics.median(way.split[name] for sample in own for way in sample.ways)
            for name in _SPLIT
        }
        found.append(
            {
                "studies": count,
                "ratio": round(seconds / limit, 3),
                "goal": GOAL,
                "met": seconds <= GOAL * limit,
                "seconds": round(seconds, 4),
                "limit_seconds": round(limit, 4),
                "slowest_part": slowest,
                "of_a_study": {
                    "median": round(statistics.median(took), 4),
                    "p99": round(took[min(len(took) - 1, int(0.99 * len(took)))], 4),
                    "most": round(took[-1], 4),
                    "measured": len(took),
                },
                "split": {name: round(value, 4) for name, value in split.items()},
            }
        )
    return found


def table(rows: Sequence[Mapping[str, Any]], alone: Mapping[str, Mapping[str, float]]) -> str:
    """Ratios first, for people; milliseconds."""
    columns = ("studies", "× limit", "goal", "all", "limit", "a study: median", "p99", *_SPLIT)
    of_all = []
    for row in rows:
        took = row["of_a_study"]
        cells = [
            row["studies"],
            f"{row['ratio']:.2f}",
            f"{row['goal']} {'reached' if row['met'] else 'NOT reached'}",
            *(_ms(value) for value in (row["seconds"], row["limit_seconds"], took["median"], took["p99"])),
            *(_ms(row["split"][name]) for name in _SPLIT),
        ]
        of_all.append(cells)
    of_parts = [
        (f"{at_once} at once", *(_ms(value) for value in (*parts.values(), sum(parts.values()))))
        for at_once, parts in alone.items()
    ]
    head = ("a study's parts alone", *alone["1"], "sum")
    return f"{markdown.table(columns, of_all)}\n\n{markdown.table(head, of_parts)}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f}" if seconds >= 0.0095 else f"{1000 * seconds:.1f}"


def main() -> None:
    """Runs the benchmark."""
    arguments = _arguments()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="roundtrip-", dir=arguments.folder) as name:
        folder = Path(name)
        with storescp(folder / "pacs", ae_title="PACS") as pacs:
            alone = parts_alone(folder / "alone", arguments.node, pacs.destination)
            print("parts measured", file=sys.stderr)
        chosen = {"quiet_seconds": str(arguments.quiet_seconds), **_chosen(arguments.set)}
        try:
            with (
                storescp(folder / "pacs-of-node", ae_title="PACS") as pacs,
                _NODES[arguments.node](folder / "node", destinations=pacs.destination, **chosen) as node,
            ):
                for sample in run(node, pacs, arguments.studies, arguments.rounds, folder):
                    samples.append(sample)
                    now = f"round {sample.round + 1}: {sample.studies} studies {sample.seconds:.3f} s"
                    print(f"\r{now:60}", end="", file=sys.stderr)
        except KeyboardInterrupt:
            print("\nended early", file=sys.stderr)
    rows = reckon(samples, alone)
    print("\n" + table(rows, alone), file=sys.stderr)
    result = {
        "node": arguments.node,
        "rows": rows,
        "parts_alone": alone,
        "samples": [{"seconds": sample.seconds, **asdict(sample)} for sample in samples],
    }
    machine.report("roundtrip", arguments.out, result)


def _chosen(pairs: Sequence[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in pairs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--node", choices=_NODES, default="apart")
    parser.add_argument("--studies", type=int, nargs="+", default=[1, 10, 50], metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quiet-seconds", type=float, default=3.0, help="longer than sending takes")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="other settings")
    parser.add_argument("--folder", type=Path, help="where images are written and received")
    parser.add_argument("--out", type=Path, help="JSON goes here, else to standard output")
    return parser.parse_args()


if __name__ == "__main__":
    main()
