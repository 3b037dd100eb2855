"""What may be asked for, in which questions; the daily window; lists of accession numbers from files."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydicom import Dataset

from service.errors import NotSetUp, PeerFailed, PeerRefused, SettingsError, TooManyMatches
from service.retrieval.accessions import read_accession_numbers
from service.retrieval.filters import Filters
from service.retrieval.window import Window, is_open
from service.wire import statuses
from service.wire.query import FoundSeries, StudyQuestion

PARIS = ZoneInfo("Europe/Paris")
JANUARY = {"since": date(2025, 1, 1), "until": date(2025, 1, 31)}


def test_a_range_is_asked_for_day_by_day_and_for_each_modality_alone() -> None:
    filters = Filters(since=date(2024, 2, 28), until=date(2024, 3, 1), modalities=("CR", "DX"))
    asked = [
        (one.identifier().StudyDate, one.identifier().ModalitiesInStudy)
        for number in range(filters.question_count)
        for one in filters.question(number)
    ]
    days = ("20240228", "20240229", "20240301")
    assert asked == [(day, modality) for day in days for modality in ("CR", "DX")]


def test_accession_numbers_are_asked_for_one_by_one_within_the_range() -> None:
    filters = Filters(**JANUARY, accession_numbers=("A1", "Ä2"))  # type: ignore[arg-type]
    (first,), (second,) = filters.question(0), filters.question(1)
    assert filters.question_count == 2
    assert (first.identifier().AccessionNumber, first.identifier().StudyDate) == ("A1", "20250101-20250131")
    assert "SpecificCharacterSet" not in first.identifier()
    assert second.identifier().SpecificCharacterSet == "ISO_IR 192"


def test_no_name_is_ever_asked_for() -> None:
    (question,) = Filters(patient_id="P1").question(0)
    assert question.identifier().PatientID == "P1"
    assert "PatientName" not in question.identifier()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"since": date(2025, 1, 1)},
        {"since": date(2025, 1, 2), "until": date(2025, 1, 1)},
        {"patient_id": "P*"},
        {"patient_id": "P?"},
        {"patient_id": "P\\Q"},
        {"patient_id": "P" * 65},
        {"accession_numbers": ("A*",)},
        {"accession_numbers": ("A" * 17,)},
        {"accession_numbers": ("A\n",) * 2 + ("A\x07",)},
        {"accession_numbers": ("",)},
        {**JANUARY, "modalities": ("C*",)},
        {**JANUARY, "modalities": ("CR\\DX",)},
    ],
)
def test_what_would_match_something_else_is_refused(asked: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Filters.model_validate(asked)


def test_filters_come_back_from_the_records_as_they_were() -> None:
    filters = Filters(**JANUARY, body_part="chest", patient_id="P1", accession_numbers=("A1",))  # type: ignore[arg-type]
    assert Filters.model_validate_json(filters.model_dump_json()) == filters


@pytest.mark.parametrize(
    ("series", "wanted"),
    [
        (FoundSeries("1", "CR", "CHEST"), True),
        (FoundSeries("1", "CR", ""), True),
        (FoundSeries("1", "CR", "HAND"), False),
        (FoundSeries("1", "CT", "CHEST"), False),
        (FoundSeries("1", "", "CHEST"), False),
    ],
)
def test_which_series_are_wanted(series: FoundSeries, wanted: bool) -> None:
    assert Filters(**JANUARY, body_part="chest").wants_series(series) is wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "fits"),
    [
        ({"StudyDate": "20250102", "AccessionNumber": "A1", "ModalitiesInStudy": ["CR", "SR"]}, True),
        ({"StudyDate": "20250102", "AccessionNumber": "a1 "}, True),
        ({"StudyDate": "2025.01.02", "AccessionNumber": "A1"}, True),
        ({"StudyDate": "20250103", "AccessionNumber": "A1"}, False),
        ({"StudyDate": "", "AccessionNumber": "A1"}, False),
        ({"StudyDate": "20250102", "AccessionNumber": "A12"}, False),
        ({"StudyDate": "20250102"}, False),
        ({"StudyDate": "20250102", "AccessionNumber": "A1", "ModalitiesInStudy": "CT"}, False),
    ],
)
def test_a_peer_that_answers_more_than_was_asked_is_not_believed(answer: dict[str, str], fits: bool) -> None:
    day = date(2025, 1, 2)
    identifier = Dataset()
    for keyword, value in answer.items():
        setattr(identifier, keyword, value)
    assert StudyQuestion(day, day, None, "CR", "", "A1").is_answered_by(identifier) is fits


@pytest.mark.parametrize(
    ("window", "at", "open_"),
    [
        ("20:00-06:00", "19:59", False),
        ("20:00-06:00", "20:00", True),
        ("20:00-06:00", "00:00", True),
        ("20:00-06:00", "05:59", True),
        ("20:00-06:00", "06:00", False),
        ("12:00-13:30", "13:29", True),
        ("12:00-13:30", "13:30", False),
        ("12:00-13:30", "11:59", False),
        ("", "11:59", True),
    ],
)
def test_a_window_opens_and_closes_by_the_hospitals_clock(window: str, at: str, open_: bool) -> None:
    summer = datetime.fromisoformat(f"2025-07-01T{at}").replace(tzinfo=PARIS)
    assert is_open(window, summer.astimezone(UTC), PARIS) is open_


_TIMES = st.builds(time, st.integers(0, 23), st.integers(0, 59))


@given(_TIMES, _TIMES, st.datetimes(timezones=st.just(UTC)))
def test_a_window_and_the_one_between_its_ends_share_the_day(
    opens: time, closes: time, now: datetime
) -> None:
    assume(opens != closes)
    within, beside = Window(opens, closes), Window(closes, opens)
    assert within.is_open(now, ZoneInfo("UTC")) is not beside.is_open(now, ZoneInfo("UTC"))
    assert Window.parse(str(within)) == within


@pytest.mark.parametrize(
    "text", ["", "20-6", "20:00", "24:00-06:00", "20:00-20:00", "20:60-21:00", "a:b-c:d"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="window"):
        Window.parse(text)


def _file(folder: Path, content: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_bytes(content.encode(encoding))
    return path


def test_a_list_has_a_number_on_each_line(tmp_path: Path) -> None:
    path = _file(tmp_path, "\ufeffA1\r\n\r\n A2 \nA1\n")
    assert read_accession_numbers(str(path)) == ("A1", "A2")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_has_them_in_a_column(tmp_path: Path, delimiter: str) -> None:
    rows = [["name", "Accession"], ['"Doe, Jane; x"', "A1"], ["nobody"], ["other", "A2"]]
    path = _file(tmp_path, "\n".join(delimiter.join(row) for row in rows))
    assert read_accession_numbers(f"{path}:Accession") == ("A1", "A2")


def test_a_file_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    path = _file(tmp_path, "A1\n").rename(tmp_path / "a:b")
    assert read_accession_numbers(str(path)) == ("A1",)


@pytest.mark.parametrize(
    ("content", "column", "complaint"),
    [
        ("A1\nA*\n", "", r"line 2: an accession number .* 'A\*'"),
        ("a,b\n1,2\n3," + "x" * 17, ":b", "line 3: an accession number has 1 to 16"),
        ("a,b\n1,2\n", ":c", "no column 'c'"),
        ("\n\n", "", "no accession numbers"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(
    tmp_path: Path, content: str, column: str, complaint: str
) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(SettingsError, match=complaint):
        read_accession_numbers(f"{path}{column}")


def test_a_list_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    path = _file(tmp_path, "Ä1\n", "latin-1")
    for named in (str(path), str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(SettingsError):
            read_accession_numbers(named)


@pytest.mark.parametrize(
    ("status", "of_find", "of_retrieve"),
    [
        (0x0000, None, None),
        (0xA700, TooManyMatches, PeerFailed),
        (0xA702, TooManyMatches, PeerFailed),
        (0xA801, PeerFailed, NotSetUp),
        (0xA900, PeerRefused, PeerRefused),
        (0xB000, TooManyMatches, PeerFailed),
        (0xB001, TooManyMatches, PeerFailed),
        (0xC001, PeerFailed, PeerFailed),
        (0xFE00, TooManyMatches, PeerFailed),
        (0x0110, PeerFailed, PeerFailed),
        (0x0122, NotSetUp, NotSetUp),
        (0x0124, NotSetUp, NotSetUp),
    ],
)
def test_what_a_status_means(status: int, of_find: type | None, of_retrieve: type | None) -> None:
    assert statuses.error_of_find(status) is of_find
    assert statuses.error_of_retrieve(status) is of_retrieve
    assert not statuses.is_pending(status)


def test_a_day_is_as_long_as_its_hours() -> None:
    """The hours that a day is split into leave no moment of it out."""
    day = date(2025, 1, 2)
    hours = [StudyQuestion(day, day, (hour, hour)).identifier().StudyTime for hour in range(24)]
    for before, after in pairwise(hours):
        end = datetime.strptime(before.split("-")[1], "%H%M%S.%f")
        assert datetime.strptime(after.split("-")[0], "%H%M%S") - end == timedelta(microseconds=1)
    assert (hours[0][:6], hours[-1][7:]) == ("000000", "235959.999999")
