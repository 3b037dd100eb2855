"""Which studies and which of their series are asked for, and the questions that ask for them."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from service.eligibility import MODALITIES
from service.wire.query import FoundSeries, FoundStudy, StudyQuestion

_LONGEST: Final = {"an accession number": 16, "a patient's id": 64}
"""PS3.5 6.2, the value representations SH and LO."""


def accession_number(text: str) -> str:
    """The text as an accession number that matches itself alone (PS3.4 C.2.2.2).

    Raises:
        ValueError: If it is empty, too long, or holds what a PACS would take for a pattern or for two values.
    """
    return _literal(text, "an accession number")


def _patient_id(text: str) -> str:
    return _literal(text, "a patient's id") if text else ""


def _literal(text: str, what: str) -> str:
    text = text.strip()
    if not text or len(text) > _LONGEST[what]:
        raise ValueError(f"{what} has 1 to {_LONGEST[what]} characters, not {text!r}")
    if not text.isprintable() or re.search(r"[*?\\]", text):
        raise ValueError(f"{what} is asked for as it stands, without * ? or \\, not {text!r}")
    return text


def _modality(text: str) -> str:
    if not re.fullmatch(r"[A-Z0-9_ ]{1,16}", text):
        raise ValueError(f"a modality is written like CR, not {text!r}")
    return text


class Filters(BaseModel):
    """What a find or a job asks for; everything that is given must be so.

    Attributes:
        since, until: Days of Study Date, the first and the last.
        modalities: Of a study's series, one of them.
        body_part: In Body Part Examined of such a series, in any case; a series that does not say is wanted.
        patient_id: Patient ID.
        accession_numbers: One of these.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: date | None = None
    until: date | None = None
    modalities: tuple[Annotated[str, AfterValidator(_modality)], ...] = MODALITIES
    body_part: str = ""
    patient_id: Annotated[str, AfterValidator(_patient_id)] = ""
    accession_numbers: tuple[Annotated[str, AfterValidator(accession_number)], ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.since is None) != (self.until is None):
            raise ValueError("a range of days has a first and a last one")
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ValueError(f"{self.since} is after {self.until}")
        if self.since is None and not self.patient_id and not self.accession_numbers:
            raise ValueError("say which studies: since which day, of which patient, or by accession numbers")
        return self

    @property
    def question_count(self) -> int:
        """How many questions there are, asked one after the other."""
        if self.accession_numbers:
            return len(self.accession_numbers)
        if self.since is not None and self.until is not None:
            return (self.until - self.since).days + 1
        return 1

    def question(self, number: int) -> tuple[StudyQuestion, ...]:
        """The ``number``-th question: an accession number, or a day, once for each modality.

        Modalities in Study is an optional key, and a list of values in it another: each is asked for alone.
        """
        if self.accession_numbers:
            asked = self.accession_numbers[number]
            return (StudyQuestion(self.since, self.until, None, "", self.patient_id, asked),)
        if self.since is None:
            return (StudyQuestion(patient_id=self.patient_id),)
        day = self.since + timedelta(days=number)
        return tuple(StudyQuestion(day, day, None, modality, self.patient_id) for modality in self.modalities)

    def in_words(self, *, with_patient: bool) -> str:
        """What is asked for, in a line; the patient's id in full or only that there is one."""
        numbers = len(self.accession_numbers)
        patient = f"patient {self.patient_id}" if with_patient else "one patient"
        parts = (
            f"{self.since} to {self.until}" if self.since else "",
            f"{numbers} accession number{'' if numbers == 1 else 's'}" if numbers else "",
            patient if self.patient_id else "",
            "/".join(self.modalities),
            f"body part {self.body_part}" if self.body_part else "",
        )
        return ", ".join(filter(None, parts))

    def wants_study(self, study: FoundStudy) -> bool:
        """Whether a study may have such series, as far as the peer says."""
        return not study.modalities or not set(self.modalities).isdisjoint(study.modalities)

    def wants_series(self, series: FoundSeries) -> bool:
        """Whether a series is one of those."""
        part = series.body_part.casefold()
        return series.modality in self.modalities and (not part or self.body_part.casefold() in part)
