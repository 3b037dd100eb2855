"""The conformance statement tells of the results what is in them, attribute by attribute."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag

from litegpt.findings import Finding
from litegpt.vocabulary import LABELS
from service.peers import DEFAULT_RESULTS, ResultKind
from tests.conformance import Row, table, tables
from tests.images import CR, make_radiograph
from tests.worker.results.images_read import capture_of, state_of
from tests.worker.results.test_structured_report import PHANTOM, THREE, header, report
from worker.results import presentation_state, secondary_capture, structured_report
from worker.results.codes import LABEL_CODES, LEFT, findings_summary
from worker.results.identity import SERIES_NUMBERS
from worker.results.reading import ImageReading
from worker.substitution import IN_PLACE_OF

Node = tuple[int, str, str, str]

MODULES = {
    ResultKind.STRUCTURED_REPORT: structured_report,
    ResultKind.SECONDARY_CAPTURE: secondary_capture,
    ResultKind.PRESENTATION_STATE: presentation_state,
}
HEADINGS = {
    ResultKind.STRUCTURED_REPORT: "Structured Report",
    ResultKind.SECONDARY_CAPTURE: "Secondary Capture",
    ResultKind.PRESENTATION_STATE: "Presentation State",
}
EVERYTHING: dict[str, Any] = {
    "IssuerOfPatientID": "HOSPITAL",
    "TypeOfPatientID": "TEXT",
    "PatientBirthTime": "0101",
    "EthnicGroup": "X",
    "PatientSize": "1.7",
    "PatientWeight": "70",
    "PatientIdentityRemoved": "YES",
    "DeidentificationMethod": "by hand",
    "RequestedProcedureID": "P1",
    "LossyImageCompression": "01",
}
"""All that a result takes over from an image where it has it."""


@cache
def results() -> dict[ResultKind, Dataset]:
    """One result of each kind, with all that it can have."""
    image = make_radiograph(**EVERYTHING)
    reading = ImageReading(header(study_uid=image.StudyInstanceUID, **EVERYTHING), THREE)
    before = _read(report([reading]))
    return {
        ResultKind.STRUCTURED_REPORT: _read(report([reading], predecessors=[before])),
        ResultKind.SECONDARY_CAPTURE: _read(capture_of(image, THREE)),
        ResultKind.PRESENTATION_STATE: _read(state_of(image, THREE)),
    }


def _read(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def test_what_goes_instead_is_what_the_code_says() -> None:
    rows = table("What goes in the place of what is not taken")
    documented = {taken: (instead.partition(",")[0], uid) for taken, instead, uid in rows}
    assert documented == {
        taken.name: (instead.name, str(instead)) for taken, (_, instead) in IN_PLACE_OF.items()
    }


def test_the_results_sent_are_those_that_are_made() -> None:
    rows = tables("SOP classes sent")[0]
    documented = {kind.split("`")[1]: rest for _, kind, *rest in rows}
    assert documented.keys() == set(ResultKind)
    for kind, result in results().items():
        _, uid, modality, number, version = documented[kind]
        assert uid == MODULES[kind].SOP_CLASS_UID == result.SOPClassUID
        assert modality == result.Modality
        assert int(number) == SERIES_NUMBERS[kind] == result.SeriesNumber
        assert version == MODULES[kind].TEMPLATE_VERSION
    assert [kind for _, kind, *_ in rows if "default" in kind] == [
        f"`{kind}` (the default)" for kind in DEFAULT_RESULTS
    ]


@pytest.mark.parametrize("kind", list(ResultKind))
def test_the_attributes_of_a_result_are_those_that_are_listed(kind: ResultKind) -> None:
    rows = [*table("Attributes of all three"), *table(HEADINGS[kind])]
    keywords = [keyword.strip("`") for keyword, *_ in rows]
    for keyword, tag, *_ in rows:
        assert keyword_for_tag(int(tag.strip("()").replace(",", ""), 16)) == keyword.strip("`")
    assert sorted(keywords) == sorted(element.keyword for element in results()[kind])


@pytest.mark.parametrize("kind", list(ResultKind))
def test_values_that_are_stated_are_those_of_a_result(kind: ResultKind) -> None:
    """Those that are one word, a number or defined terms; the others tell where a value comes from."""
    rows = [*table("Attributes of all three"), *table(HEADINGS[kind])]
    stated = [
        (keyword, value) for keyword, _, value in rows if re.fullmatch(r"[A-Z0-9_\\]+|LiteGPT( node)?", value)
    ]
    assert len(stated) > 3
    for keyword, value in stated:
        found = results()[kind][keyword.strip("`")].value
        assert (str(found) if isinstance(found, str | int) else "\\".join(found)) == value


def _reports() -> Iterator[Dataset]:
    study = header().StudyInstanceUID
    read = ImageReading(header(study_uid=study), THREE)
    empty = ImageReading(header(sop_class=CR, study_uid=study), (Finding("No finding", 0.9),))
    failed = ImageReading(header(study_uid=study), (), "the pixel data cannot be decoded")
    yield _read(report([read, empty, failed], model=PHANTOM))
    yield _read(report([empty]))


def _nodes(item: Dataset, level: int = 0) -> Iterator[Node]:
    name = item.ConceptNameCodeSequence[0]
    concept = f'({name.CodeValue}, {name.CodingSchemeDesignator}, "{name.CodeMeaning}")'
    yield level, item.get("RelationshipType", ""), item.ValueType, concept
    for child in item.get("ContentSequence", []):
        yield from _nodes(child, level + 1)


def _tree() -> Sequence[Row]:
    return tables("Structured Report")[1]


def test_the_tree_of_a_report_is_the_one_that_is_drawn() -> None:
    written = {node for dataset in _reports() for node in _nodes(dataset)}
    drawn = {(len(level), relation, kind, concept) for level, relation, kind, concept, *_ in _tree()}
    assert drawn == written


def test_the_values_of_coded_items_in_the_tree_are_as_stated() -> None:
    written = {
        (item.ConceptNameCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeValue)
        for dataset in _reports()
        for item in _items(dataset)
        if item.ValueType == "CODE"
    }
    for _, _, kind, concept, value, *_ in _tree():
        for code in re.findall(r"\(([\w-]+), \w+", value) if kind == "CODE" else ():
            if code != LEFT.value:  # no box of these reports lies there
                assert (concept[1:].split(",")[0], code) in written


def _items(item: Dataset) -> Iterator[Dataset]:
    yield item
    for child in item.get("ContentSequence", []):
        yield from _items(child)


def test_the_labels_have_the_codes_that_are_listed() -> None:
    rows = table("Labels and codes")
    assert sorted(label for label, *_ in rows) == sorted(LABELS)
    for label, finding, site, paired in rows:
        codes = LABEL_CODES[label]
        assert finding == (_written(codes.finding) if codes.finding else "none")
        assert site == _written(codes.site)
        assert paired == ("yes" if codes.is_paired else "no")


def _written(code: Any) -> str:
    return f'({code.value}, {code.scheme_designator}, "{code.meaning}")'


def test_the_summaries_are_those_of_a_report_with_an_image_that_was_read() -> None:
    made = {
        findings_summary(read=1, failed=failed, findings=found)
        for failed in (0, 1)
        for found in (False, True)
    }
    documented = {(value, meaning) for value, meaning, _ in table("Findings summary")}
    assert documented == {(code.value, code.meaning) for code in made}
