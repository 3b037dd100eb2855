"""Answers as the published code writes them: a strict writer and a lenient reader.

    Local diseases of this chest radiograph are <p>Consolidation</p> {<55><48><80><71>},<p>ILD</p> {…}.
    Global diseases of this chest radiograph are Lung tumor, Pneumonia.

The answer to ``[identify]`` is the local sentence, that to ``[vqa]`` the global one, that to ``[grounding]``
both, the *report*. Local findings are joined by ``,``, diagnoses by ``, ``; where there is nothing, either
sentence says ``No finding``. Boxes are whole numbers on the 0..100 grid (``litegpt.boxes``). The order is
ours (upstream it is arbitrary): the vocabulary's, then top to bottom, then left to right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from litegpt.boxes import GRID, GridBox
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING

LOCAL_PREFIX: Final = "Local diseases of this chest radiograph are "
GLOBAL_PREFIX: Final = "Global diseases of this chest radiograph are "

GridFinding = tuple[str, GridBox]
"""A local label and its box on the grid."""

_SPELLINGS: Final = {
    **{label.casefold(): label for label in (*LOCAL_LABELS, *DIAGNOSES)},
    "other diseases": "Other disease",
    "lung tumour": "Lung tumor",
}
_NAMED: Final = re.compile(r"<p>(?P<name>[^<>]*)</p>")
_PIECE: Final = re.compile(r"(?:(?!\s+and\s|[,;]).)+")
_NUMBER: Final = r"(-?\d{1,9}(?:\.\d{1,9})?)"
_BOX: Final = re.compile(r"\s*\{[\s<]*" + r"[\s,<>]+".join([_NUMBER] * 4) + r"[\s>]*\}")


@dataclass(frozen=True, slots=True)
class ReadLabel:
    """One label as read from an answer.

    Attributes:
        label: The vocabulary's spelling.
        box: On the grid; None for a diagnosis.
        start: Where in the text the preceding statement ended, as a character index.
        end: Where this label's name ends. The text between the two is what had to be chosen to say it.
        box_end: Where the box's last number ends; as ``end`` where there is no box.
    """

    label: str
    box: GridBox | None
    start: int
    end: int
    box_end: int


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """What a text says, and how many of its pieces said nothing that could be kept."""

    labels: tuple[ReadLabel, ...]
    malformed: int


def canonical_order(findings: Iterable[GridFinding]) -> list[GridFinding]:
    """Vocabulary order, then top to bottom, then left to right; repeated findings once."""
    return sorted(
        set(findings), key=lambda item: (LOCAL_LABELS.index(item[0]), item[1][1], item[1][0], item[1])
    )


def write_findings(findings: Iterable[GridFinding]) -> str:
    """The local sentence, in canonical order.

    Raises:
        ValueError: If a label is not a local one, or a box is not on the grid with its corners in order.
    """
    ordered = canonical_order(findings)
    for _, box in ordered:
        if not (0 <= box[0] < box[2] <= GRID and 0 <= box[1] < box[3] <= GRID):
            raise ValueError(f"{box} is no box on the grid of 0 to {GRID}")
    return join_findings(ordered)


def join_findings(findings: Iterable[GridFinding]) -> str:
    """The local sentence, its findings in the order given."""
    items = [f"<p>{label}</p> {{" + "".join(f"<{number}>" for number in box) + "}" for label, box in findings]
    return LOCAL_PREFIX + (",".join(items) or NO_FINDING) + "."


def write_diagnoses(diagnoses: Iterable[str]) -> str:
    """The global sentence, in the vocabulary's order; ``No finding`` where there is none.

    Raises:
        ValueError: If a label is not a diagnosis.
    """
    ordered = sorted(set(diagnoses), key=DIAGNOSES.index)
    return GLOBAL_PREFIX + (", ".join(ordered) or NO_FINDING) + "."


def write_report(findings: Iterable[GridFinding], diagnoses: Iterable[str]) -> str:
    """The global sentence, a blank, the local sentence; the global one alone where it says ``No finding``.

    A diagnosis without any finding in a place is followed by ``Local … No finding.``: upstream writes such a
    local sentence where it stands alone, and what it does here is not known.

    Raises:
        ValueError: As ``write_findings`` and ``write_diagnoses``; if ``No finding`` stands beside anything
            else; or if findings come without a diagnosis, as the global sentence would then deny them.
    """
    local, named = list(findings), set(diagnoses)
    others = named - {NO_FINDING}
    if others != named and (others or local):
        raise ValueError(f"{NO_FINDING!r} contradicts what stands beside it")
    if local and not others:
        raise ValueError(f"findings without a diagnosis: the report would say {NO_FINDING!r} of them")
    overall = write_diagnoses(others)
    return f"{overall} {write_findings(local)}" if others else overall


def read_findings(text: str) -> ReadAnswer:
    """Reads every ``<p>name</p> {box}`` there is.

    Coordinates are clamped to the grid and corners put in order; what has an unknown name, no readable box or
    a box without area is dropped and counted, and so is an answer that says neither a finding nor ``No
    finding``, or that breaks off. Repetitions of the same finding count once and are no fault.
    """
    labels: list[ReadLabel] = []
    malformed, start = 0, _after_prefix(text, LOCAL_PREFIX)
    said = set()
    for match in _NAMED.finditer(text):
        box_match = _BOX.match(text, match.end())
        label = _SPELLINGS.get(match["name"].strip().casefold())
        box = _tidy_box(box_match) if box_match else None
        if label not in LOCAL_LABELS or box is None:
            malformed += 1
        elif box_match and (label, box) not in said:
            said.add((label, box))
            labels.append(ReadLabel(label, box, start, match.end("name"), box_match.end(4)))
        start = (box_match or match).end()
    breaks_off = text.count("<p>") > len(_NAMED.findall(text))
    says_nothing = not labels and not malformed and NO_FINDING.casefold() not in text.casefold()
    if breaks_off or says_nothing:
        malformed += 1
    return ReadAnswer(tuple(labels), malformed)


def read_diagnoses(text: str) -> ReadAnswer:
    """Reads the diagnoses of a global sentence, with or without its beginning.

    ``No finding`` beside another diagnosis contradicts it and is dropped and counted; so is an answer without
    any diagnosis, and each piece between commas (or "and") that is none.
    """
    labels: list[ReadLabel] = []
    malformed, position = 0, _after_prefix(text, GLOBAL_PREFIX)
    sentence = text[position:].split(".")[0]
    start = position
    for match in _PIECE.finditer(sentence):
        name = match[0].strip().removeprefix("and ").strip()
        if not name:
            continue
        label = _SPELLINGS.get(name.casefold())
        end = position + len(sentence[: match.end()].rstrip())
        if label in DIAGNOSES:
            if all(label != known.label for known in labels):
                labels.append(ReadLabel(label, None, start, end, end))
        else:
            malformed += 1
        start = end
    others = [known for known in labels if known.label != NO_FINDING]
    if others and len(others) < len(labels):
        labels, malformed = others, malformed + 1
    if not labels and not malformed:
        malformed = 1
    return ReadAnswer(tuple(labels), malformed)


def read_report(text: str) -> ReadAnswer:
    """Reads both sentences, in either order.

    Beside what ``read_findings`` and ``read_diagnoses`` count, these are faults: diagnoses without a local
    sentence, which may only be left out after ``No finding``; and ``No finding`` in the global sentence of a
    report with findings, where it is dropped.

    Returns:
        The findings, then the diagnoses.
    """
    local_at, global_at = _position(text, LOCAL_PREFIX), _position(text, GLOBAL_PREFIX) or 0
    if local_at is None:
        first, last, local = 0, len(text), ReadAnswer((), 0)
    elif global_at > local_at:
        first, last, local = global_at, len(text), read_findings(text[local_at:global_at])
    else:
        first, last, local = 0, local_at, read_findings(text[local_at:])
    overall = read_diagnoses(text[first:last])
    malformed = local.malformed + overall.malformed
    diagnoses = [label for label in overall.labels if label.label != NO_FINDING]
    if local_at is None and diagnoses:
        malformed += 1
    if not local.labels:
        diagnoses = list(overall.labels)
    elif len(diagnoses) < len(overall.labels):
        malformed += 1
    return ReadAnswer((*_moved(local.labels, local_at or 0), *_moved(diagnoses, first)), malformed)


def _moved(labels: Iterable[ReadLabel], characters: int) -> list[ReadLabel]:
    """Labels read from a part of a text that begins so many characters into it."""
    return [
        replace(
            label,
            start=label.start + characters,
            end=label.end + characters,
            box_end=label.box_end + characters,
        )
        for label in labels
    ]


def _after_prefix(text: str, prefix: str) -> int:
    match = _prefix(text, prefix)
    return match.end() if match else 0


def _position(text: str, prefix: str) -> int | None:
    match = _prefix(text, prefix)
    return match.start() if match else None


def _prefix(text: str, prefix: str) -> re.Match[str] | None:
    return re.search(re.escape(prefix.strip()), text, re.IGNORECASE)


def _tidy_box(match: re.Match[str]) -> GridBox | None:
    x_1, y_1, x_2, y_2 = (min(GRID, max(0, round(float(number)))) for number in match.groups())
    box = (min(x_1, x_2), min(y_1, y_2), max(x_1, x_2), max(y_1, y_2))
    return box if box[0] < box[2] and box[1] < box[3] else None
