"""Exported findings, read back by Python's csv and by pyarrow, against rows by hand, on both databases."""

from __future__ import annotations

import csv
import io
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from pydicom.uid import UID
from typer.testing import CliRunner, Result

from service.cli.main import application
from service.errors import OutOfResources, SettingsError
from service.exporting import files, rows
from service.exporting.files import CommaSeparated, require_format, whole_file
from service.exporting.pseudonyms import KEY_FILE, Pseudonyms
from service.exporting.rows import Row
from service.records.database import Records
from service.records.journal import events
from service.records.migrate import migrate
from service.records.selection import Selection
from service.records.states import AnalysisState, StudyState
from service.settings import Settings, load_settings
from tests.dependencies import blocker
from tests.service.study_rows import NOW, AnalysisRow, FindingRow, ImageRow, StudyRow, write

DONE = AnalysisState.DONE
MASS = FindingRow("Nodule/Mass", 0.1 + 0.2, (-1.5, 2, 30.25, 40), 0.125)
COPD = FindingRow("COPD", 0.0625, reported=False)
FORMER = AnalysisRow(DONE, model_version="0", images=1, findings=((FindingRow("Edema", 1.0),),))
NEWEST = AnalysisRow(DONE, model_id="=model", model_version="2.10", findings=((MASS, COPD), (), ()))
READ = StudyRow(
    (FORMER, NEWEST),
    (
        ImageRow(uid="1.2.777.1", received_at=NOW),
        ImageRow(uid="1.2.777.2", received_at=NOW - timedelta(microseconds=1)),
        ImageRow(uid="1.2.777.3", not_read='cannot decode "x",\n=/data/1.2.777.3'),
        ImageRow(uid="1.2.777.4", reason="lateral view LL-1"),
    ),
    accession_number="=HYPERLINK(1)",
    study_date="20240131",
)
RECEIVING = StudyRow(
    (), (ImageRow(uid="1.2.888.1"),), StudyState.RECEIVING, accession_number="0012/7", study_date="January"
)

COMMON = {
    "study_instance_uid": "1.2.777",
    "accession_number": "'=HYPERLINK(1)",
    "study_date": "2024-01-31",
    "received_at": "2026-03-10T12:00:00+00:00",
    "model_id": "'=model",
    "model_version": "2.10",
    "demonstration": "true",
    "analysis_state": "done",
}
BOX = {"x_min": "-1.5", "y_min": "2.0", "x_max": "30.25", "y_max": "40.0", "box_score": "0.125"}
EXPECTED: list[dict[str, str]] = [
    {
        **COMMON,
        "sop_instance_uid": "1.2.777.1",
        "label": "Nodule/Mass",
        "score": "0.30000000000000004",
        **BOX,
        "reported": "true",
    },
    {
        **COMMON,
        "sop_instance_uid": "1.2.777.1",
        "label": "COPD",
        "score": "0.0625",
        "reported": "false",
    },
    {
        **COMMON,
        "sop_instance_uid": "1.2.777.2",
        "received_at": "2026-03-10T11:59:59.999999+00:00",
    },
    {**COMMON, "sop_instance_uid": "1.2.777.3", "not_read": 'cannot decode "x",\n=/data/1.2.777.3'},
    {**COMMON, "sop_instance_uid": "1.2.777.4", "not_read": "lateral view LL-1"},
    {
        "study_instance_uid": "1.2.888",
        "accession_number": "0012/7",
        "received_at": "2026-03-10T12:00:00+00:00",
        "sop_instance_uid": "1.2.888.1",
    },
]
"""Of ``READ`` and ``RECEIVING`` in CSV, as one would write it by hand; what is not named is empty."""

THE_FORMER: dict[str, str] = {
    **COMMON,
    "sop_instance_uid": "1.2.777.1",
    "model_id": "model",
    "model_version": "0",
    "label": "Edema",
    "score": "1.0",
    "reported": "true",
}
COLUMNS = [
    *("study_instance_uid", "accession_number", "study_date", "received_at", "sop_instance_uid"),
    *("analysis_id", "model_id", "model_version", "demonstration", "label", "score"),
    *("x_min", "y_min", "x_max", "y_max", "box_score", "reported", "not_read", "analysis_state"),
]
READERS: dict[str, Any] = {
    "score": float,
    **dict.fromkeys(BOX, float),
    "demonstration": lambda text: text == "true",
    "reported": lambda text: text == "true",
    "study_date": date.fromisoformat,
    "received_at": datetime.fromisoformat,
}


@pytest.fixture
def filled(records: Records) -> Records:
    with records.writing() as session:
        write(session, READ, "1.2.777")
        write(session, RECEIVING, "1.2.888")
    return records


def _export(settings: Settings, *arguments: str | Path) -> Result:
    """In this process, so that it is quick."""
    url = {"LITEGPT_DATABASE_URL": settings.database_url} if settings.database_url else {}
    command = ["export", "--data-dir", settings.data_dir, *arguments]
    return CliRunner().invoke(application(), [*map(str, command)], env={"COLUMNS": "200", **url})


def _read_csv(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content, newline="")))


def _without_analysis(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The numbers of analyses are the database's own."""
    return [{key: value for key, value in row.items() if key != "analysis_id"} for row in found]


def _whole(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: row.get(name, "") for name in COLUMNS if name != "analysis_id"} for row in rows]


def _typed(row: dict[str, str]) -> dict[str, Any]:
    """What Parquet has for a row of CSV: types, nulls, and texts without an apostrophe."""
    texts = {"accession_number", "not_read"}
    return {
        name: READERS[name](text) if text and name in READERS else text.removeprefix("'") or None
        for name, text in row.items()
    } | {name: row[name].removeprefix("'") for name in texts}


def test_csv_is_read_back_as_it_was_written_by_hand(filled: Records, settings: Settings) -> None:
    done = _export(settings, "--all")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split(",") == COLUMNS
    found = _read_csv(done.stdout)
    assert _without_analysis(found) == _whole(EXPECTED)
    assert len({row["analysis_id"] for row in found}) == 2
    assert [bool(row["analysis_id"]) for row in found] == [True] * 5 + [False]


def test_parquet_is_the_same_with_types(filled: Records, settings: Settings, tmp_path: Path) -> None:
    target = tmp_path / "findings.parquet"
    done = _export(settings, "--all", "-o", target)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"export: 6 rows of 2 studies in {target}\n"
    table = pyarrow.parquet.read_table(target)
    assert table.column_names == COLUMNS
    assert _without_analysis(table.to_pylist()) == [_typed(row) for row in _whole(EXPECTED)]


def test_former_analyses_are_told_where_asked_for(filled: Records, settings: Settings) -> None:
    """Each reads its own images; an image that was not to be read is told of once."""
    found = _read_csv(_export(settings, "--all", "--all-analyses").stdout)
    assert _without_analysis(found) == _whole([THE_FORMER, *EXPECTED])
    assert len({row["analysis_id"] for row in found}) == 3


def test_filters_choose_studies(filled: Records, settings: Settings) -> None:
    found = _read_csv(_export(settings, "--label", "nodule/mass", "--minimum-score", "0.3").stdout)
    assert _without_analysis(found) == _whole(EXPECTED[:5])
    assert _read_csv(_export(settings, "--label", "COPD").stdout) == []
    assert _without_analysis(_read_csv(_export(settings, "0012/7").stdout)) == _whole(EXPECTED[5:])


def test_pages_leave_nothing_out_and_repeat_nothing(records: Records, monkeypatch: Any) -> None:
    monkeypatch.setattr(rows, "PAGE", 3)
    with records.writing() as session:
        uids = [write(session, StudyRow((FORMER,))) for _ in range(7)]
    pages = list(rows.pages(records, Selection()))
    assert [page.studies for page in pages] == [3, 3, 1]
    assert [row.study_instance_uid for page in pages for row in page.rows] == uids


ROW = Row(
    "1.2.777",
    "A-1",
    study_date=date(2024, 1, 31),
    received_at=datetime(2026, 3, 10, 12, tzinfo=UTC),
    sop_instance_uid="1.2.777.1",
    analysis_id=7,
    model_id="model",
    model_version="1",
    demonstration=True,
    label="Edema",
    score=0.5,
    x_min=None,
    y_min=None,
    x_max=None,
    y_max=None,
    box_score=None,
    reported=True,
    not_read="",
    analysis_state="done",
)


def _as_csv(row: Row) -> str:
    file = io.StringIO(newline="")
    CommaSeparated(file).write([row])
    return file.getvalue().partition("\r\n")[2]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "-", "\n=1"])
def test_a_text_does_not_become_a_formula(text: str) -> None:
    (cells,) = csv.reader(io.StringIO(_as_csv(ROW._replace(accession_number=text, label=text)), newline=""))
    assert cells[COLUMNS.index("accession_number")] == cells[COLUMNS.index("label")] == f"'{text}"


@pytest.mark.parametrize("text", ["A=1", "1-1", "a@b", "0012", "'x", "", 'é, "ü"\n'])
def test_other_texts_and_numbers_stay_as_they_are(text: str) -> None:
    row = ROW._replace(accession_number=text, x_min=-1e-9, score=-0.5)
    (cells,) = csv.reader(io.StringIO(_as_csv(row), newline=""))
    assert cells[COLUMNS.index("accession_number")] == text
    assert float(cells[COLUMNS.index("x_min")]) == -1e-9
    assert cells[COLUMNS.index("score")] == "-0.5"


def test_parquet_is_written_by_row_groups(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(files, "ROW_GROUP", 10)
    with whole_file(tmp_path / "x.parquet") as table:
        for number in range(7):
            table.write([ROW._replace(analysis_id=10 * number + one) for one in range(5)])
    written = pyarrow.parquet.ParquetFile(tmp_path / "x.parquet")
    groups = [written.metadata.row_group(group).num_rows for group in range(written.num_row_groups)]
    assert groups == [10, 10, 10, 5]
    ids = written.read(["analysis_id"]).column(0).to_pylist()
    assert ids == [10 * number + one for number in range(7) for one in range(5)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"findings{suffix}"
    target.write_text("of yesterday")
    for error in (KeyboardInterrupt(), OutOfResources("the records are away")):
        with pytest.raises(type(error)), whole_file(target) as table:
            table.write([ROW] * 3)
            raise error
        assert [path.name for path in tmp_path.iterdir()] == [target.name]
        assert target.read_text() == "of yesterday"
    with whole_file(target) as table:
        table.write([ROW])
        assert target.read_text() == "of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert b"of yesterday" not in target.read_bytes()


ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from service.errors import OutOfResources
from service.exporting.files import whole_file
from tests.service.test_export import ROW

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for target in sys.argv[1:]:
    try:
        with whole_file(Path(target)) as table:
            table.write([ROW._replace(label=str(number)) for number in range(50_000)])
    except OutOfResources as error:
        print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files is what a full disk is to a program: a write that fails."""
    targets = [tmp_path / f"x{suffix}" for suffix in (".csv", ".parquet")]
    command = [sys.executable, "-c", ON_A_FULL_DISK, *map(str, targets)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = [f"{target} cannot be written: File too large" for target in targets]
    assert (ended.stdout.splitlines(), ended.stderr) == (said, "")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def empty_node(tmp_path: Path) -> Iterator[Settings]:
    settings = load_settings(data_dir=tmp_path / "node")
    records = Records.open(settings)
    migrate(records.engine)
    records.close()
    yield settings


def test_what_cannot_be_written_is_said_in_one_line(empty_node: Settings, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for target, complaint in (
        ("x.xlsx", "x.xlsx is none of .csv, .parquet"),
        ("missing/x.csv", f"there is no folder {tmp_path}/missing"),
        ("folder.csv", "folder.csv is a folder"),
    ):
        with pytest.raises(SettingsError, match=re.escape(complaint)):
            require_format(tmp_path / target)
    for arguments, complaint in (
        ((), "which studies? name them, filter, or say --all"),
        (("--all", "-o", tmp_path / "x"), f"{tmp_path}/x is none of .csv, .parquet"),
    ):
        with pytest.raises(SettingsError, match=re.escape(complaint)):
            raise _export(empty_node, *arguments).exception or AssertionError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "node"]


def test_nothing_that_fits_is_a_line_of_names(empty_node: Settings) -> None:
    nothing = _export(empty_node, "--all")
    assert (nothing.exit_code, nothing.stdout_bytes.decode()) == (0, ",".join(COLUMNS) + "\r\n")


def test_parquet_without_pyarrow_is_one_line(empty_node: Settings, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(blocker())
    command: list[str | Path] = [
        "export",
        "--all",
        "-o",
        tmp_path / "x.parquet",
        "--data-dir",
        empty_node.data_dir,
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli.main", *command],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = "litegpt-node: Parquet needs pyarrow: pip install 'litegpt-node[export]'\n"
    assert (ended.returncode, ended.stderr) == (2, said)
    assert not (tmp_path / "x.parquet").exists()


ORIGINALS = ("1.2.777", "1.2.888", "HYPERLINK", "0012/7", "2024-01-31", "2026-03-10", "/data", "LL-1")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_pseudonyms_leave_no_original_behind(
    filled: Records, settings: Settings, tmp_path: Path, suffix: str
) -> None:
    targets = [tmp_path / f"{number}{suffix}" for number in range(3)]
    # Keys of our own: under any, a pseudonym could look like an original by chance.
    for key, target in zip(("0a", "0a", "0b"), targets, strict=True):
        _write_key(settings.data_dir, key * 32)
        assert _export(settings, "--all", "--pseudonymise", "-o", target).exit_code == 0
    first, second, third = (target.read_bytes() for target in targets)
    assert first == second
    # As they lie on the disk, too, with Parquet's dictionaries and statistics.
    texts = [_strings(targets[0]), _strings(targets[2]), *(one.decode("latin-1") for one in (first, third))]
    for text in texts:
        assert [original for original in ORIGINALS if original in text] == []
    for name in ("study_instance_uid", "accession_number", "sop_instance_uid", "received_at"):
        assert _values(targets[0], name).isdisjoint(_values(targets[2], name)), name


def _write_key(folder: Path, key: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / KEY_FILE).write_text(key)
    (folder / KEY_FILE).chmod(0o600)


def _values(target: Path, name: str) -> set[str]:
    if target.suffix == ".csv":
        return {row[name] for row in _read_csv(target.read_text())}
    return {str(value) for value in pyarrow.parquet.read_table(target).column(name).to_pylist()}


def _strings(target: Path) -> str:
    return "\n".join(value for name in COLUMNS for value in _values(target, name))


def test_the_originals_are_found_where_there_are_no_pseudonyms(filled: Records, settings: Settings) -> None:
    text = _export(settings, "--all").stdout
    assert [original for original in ORIGINALS if original not in text] == []


def test_pseudonyms_keep_what_belongs_together(filled: Records, settings: Settings) -> None:
    plain = _read_csv(_export(settings, "--all").stdout)
    found = _read_csv(_export(settings, "--all", "--pseudonymise").stdout)
    kept = [name for name in COLUMNS if name in {*BOX, "label", "score", "reported", "model_version"}]
    for before, after in zip(plain, found, strict=True):
        assert [before[name] for name in kept] == [after[name] for name in kept]
    for name in ("study_instance_uid", "accession_number", "sop_instance_uid", "analysis_id"):
        pairs = {(before[name], after[name]) for before, after in zip(plain, found, strict=True)}
        assert len(pairs) == len({one for one, _ in pairs}) == len({other for _, other in pairs}), name
    shifts = {
        (after["study_instance_uid"], _moment(before) - _moment(after))
        for before, after in zip(plain, found, strict=True)
    }
    assert len(shifts) == 2
    assert all(shift.seconds == 0 == shift.microseconds and 1 <= shift.days <= 3650 for _, shift in shifts)
    dates = date.fromisoformat(plain[0]["study_date"]) - date.fromisoformat(found[0]["study_date"])
    assert dates == _moment(plain[0]) - _moment(found[0])
    assert [row["not_read"] for row in found] == ["", "", "", "cannot decode", "lateral view", ""]


def _moment(row: dict[str, str]) -> datetime:
    return datetime.fromisoformat(row["received_at"])


def test_a_pseudonym_is_a_valid_uid_and_a_valid_accession_number() -> None:
    pseudonyms = Pseudonyms(b"k" * 32)
    uids = {pseudonyms.uid(f"1.2.{number}") for number in range(500)}
    assert len(uids) == 500
    for uid in uids:
        assert UID(uid).is_valid and uid.startswith("2.25.")
        assert int(uid.removeprefix("2.25.")) < 2**128
    numbers = {pseudonyms.accession_number(str(number)) for number in range(500)}
    assert len(numbers) == 500
    assert all(re.fullmatch(r"P[A-Z2-7]{15}", number) for number in numbers)
    assert pseudonyms.accession_number("") == ""
    days = {pseudonyms.days(f"1.2.{number}").days for number in range(500)}
    assert min(days) >= 1 and max(days) <= 3650 and len(days) > 400


def test_a_pseudonym_is_an_hmac_under_the_key() -> None:
    """Against OpenSSL: the same digest, of which the UUID's version and variant are fixed."""
    key = bytes(range(32))
    digest = subprocess.run(
        ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key.hex()}", "-binary"],
        input=b"uid\x001.2.3",
        capture_output=True,
        check=True,
    ).stdout
    number = int(Pseudonyms(key).uid("1.2.3").removeprefix("2.25."))
    free = ~((0xF << 76) | (0x3 << 62))
    assert number & free == int.from_bytes(digest[:16]) & free
    assert Pseudonyms(key).uid("1.2.3") != Pseudonyms(bytes(32)).uid("1.2.3")
    assert key.hex() not in repr(Pseudonyms(key)) and repr(key) not in repr(Pseudonyms(key))


def test_the_oldest_date_there_is_is_left_out() -> None:
    assert Pseudonyms(b"k" * 32).of_row(ROW._replace(study_date=date.min)).study_date is None


def test_many_processes_make_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: Pseudonyms.of_folder(tmp_path / "node").key, range(32)))
    assert len(keys) == 1
    assert [path.name for path in (tmp_path / "node").iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((tmp_path / "node" / KEY_FILE).stat().st_mode) == 0o600
    assert keys != {Pseudonyms.of_folder(tmp_path / "another").key}


def test_a_key_that_is_damaged_or_open_to_others_is_refused(tmp_path: Path) -> None:
    Pseudonyms.of_folder(tmp_path)
    key = tmp_path / KEY_FILE
    key.chmod(0o640)
    with pytest.raises(SettingsError, match="others may read"):
        Pseudonyms.of_folder(tmp_path)
    key.chmod(0o600)
    for content in ("", "00" * 31, "no key", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 64):
        key.write_text(content, encoding="utf-8")
        with pytest.raises(SettingsError, match="is damaged"):
            Pseudonyms.of_folder(tmp_path)


def test_who_exported_what_is_in_the_audit(filled: Records, settings: Settings, tmp_path: Path) -> None:
    assert _export(settings, "--label", "COPD", "--pseudonymise").exit_code == 0
    assert _export(settings, "0012/7", "--all-analyses", "-o", tmp_path / "a.csv").exit_code == 0
    with filled.reading() as session:
        second, first = events(session)
    assert first.who.endswith(", command line")
    assert (first.action, first.asked, first.outcome) == (
        "export",
        {"studies": {"label": "COPD"}, "pseudonymised": True, "all_analyses": False},
        {},
    )
    assert (second.asked, second.outcome) == (
        {"studies": {"studies": ["0012/7"]}, "pseudonymised": False, "all_analyses": True},
        {"studies": 1, "rows": 1},
    )


def test_an_export_that_breaks_off_is_in_the_audit_with_what_was_read(
    filled: Records, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_page = rows.pages

    def break_off(*arguments: Any, **more: Any) -> Iterator[rows.Page]:
        yield from of_page(*arguments, **more)
        raise OutOfResources("the records are away")

    monkeypatch.setattr(rows, "pages", break_off)
    assert isinstance(_export(settings, "--all").exception, OutOfResources)
    with filled.reading() as session:
        (event,) = events(session)
    assert event.outcome == {"studies": 2, "rows": 6}
