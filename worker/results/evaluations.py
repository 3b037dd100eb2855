"""Qualitative Evaluations of TID 1500: what a report says about whole images and about itself.

Diagnoses, "No finding", which images were not read and why, whether this is a demonstration. TID 1500 wants
codes and texts here; being extensible, it lets a code carry its certainty, image and algorithm as children.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from litegpt.findings import Finding
from litegpt.identity import ModelIdentity
from litegpt.vocabulary import NO_FINDING
from worker.results import codes
from worker.results.reading import MANUFACTURER, ImageReading

DEMONSTRATION: Final = (
    "DEMONSTRATION - not for clinical use. This model was trained on synthetic images; what it says about a "
    "patient has no meaning."
)
NO_DIAGNOSIS: Final = "AI, not for diagnosis by itself"
_UNVERIFIED: Final = "Preliminary result of an algorithm, not verified by a person."

_CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS


def evaluations(
    readings: Sequence[ImageReading],
    sources: Sequence[Dataset],
    other_images: Sequence[ImageReading],
    algorithm: ModelIdentity,
) -> sr.ContainerContentItem:
    """The container with every statement that has no place in an image.

    Args:
        readings: The images that were to be read.
        sources: Their source images, as ``source_image`` gives them, in the same order.
        other_images: Images that were not meant to be read.
        algorithm: The model that read.
    """
    container = sr.ContainerContentItem(name=codes.QUALITATIVE_EVALUATIONS, relationship_type=_CONTAINS)
    content: list[sr.ContentItem] = []
    for reading, source in zip(readings, sources, strict=True):
        if reading.not_read is None:
            content += _of_image(reading, source, algorithm)
    if len(readings) > 1 or not _is_empty(readings[0]):  # else the only image's own statement says the same
        content.insert(0, _code(codes.FINDINGS_SUMMARY, _summary(readings)))
    content += [comment(text) for text in _statements(readings, other_images, algorithm)]
    container.ContentSequence = sr.ContentSequence(content)
    return container


def outcome(readings: Sequence[ImageReading]) -> str:
    """The whole reading in a few words, such as ``3 findings``."""
    findings = sum(len(reading.positive) for reading in readings)
    failed = sum(reading.not_read is not None for reading in readings)
    if failed == len(readings):
        return "not read"
    found = "no finding" if not findings else f"{findings} finding{'s' if findings > 1 else ''}"
    return f"{found}, {failed} of {len(readings)} images not read" if failed else found


def statement(algorithm: ModelIdentity, readings: Sequence[ImageReading]) -> str:
    """Who says what, such as ``litegpt 1.0: 3 findings``."""
    return f"{algorithm.id} {algorithm.version}: {outcome(readings)}"


def caption(finding: Finding) -> str:
    """A finding for people: the vocabulary's own label and the score."""
    return f"{finding.label} {finding.score:.2f}"


def comment(text: str, relationship: sr.RelationshipTypeValues = _CONTAINS) -> sr.TextContentItem:
    """A text for people."""
    return sr.TextContentItem(name=codes.COMMENT, value=text, relationship_type=relationship)


def percent(score: float) -> float:
    """A score of 0..1 as a report tells it, 0..100."""
    return round(score * 100, 1)


def algorithm_identification(algorithm: ModelIdentity) -> sr.AlgorithmIdentification:
    """TID 4019: which model said so."""
    return sr.AlgorithmIdentification(name=algorithm.id, version=algorithm.version, manufacturer=MANUFACTURER)


def _is_empty(reading: ImageReading) -> bool:
    """Whether the image was read and nothing found in it."""
    return reading.not_read is None and not reading.positive


def _summary(readings: Sequence[ImageReading]) -> Code:
    failed = sum(reading.not_read is not None for reading in readings)
    return codes.findings_summary(
        read=len(readings) - failed, failed=failed, findings=any(reading.positive for reading in readings)
    )


def _of_image(
    reading: ImageReading, source: Dataset, algorithm: ModelIdentity
) -> Iterator[sr.CodeContentItem]:
    """Its diagnoses, or that nothing was found in it."""
    for finding in reading.positive:
        if finding.box is None:
            yield _diagnosis(finding, source, algorithm)
    if _is_empty(reading):
        nothing = codes.findings_summary(read=1, failed=0, findings=False)
        item = _code(codes.FINDINGS_SUMMARY, nothing)
        said = reading.no_finding
        item.ContentSequence = _particulars(
            codes.label_codes(NO_FINDING).site,
            caption(said) if said else NO_FINDING,
            said.score if said else None,
            source,
            algorithm,
        )
        yield item


def _diagnosis(finding: Finding, source: Dataset, algorithm: ModelIdentity) -> sr.CodeContentItem:
    label = codes.label_codes(finding.label)
    assert label.finding is not None  # "No finding" alone has none, and is no diagnosis
    item = _code(codes.FINDING, label.finding)
    item.ContentSequence = _particulars(label.site, caption(finding), finding.score, source, algorithm)
    return item


def _particulars(
    site: Code, words: str, score: float | None, source: Dataset, algorithm: ModelIdentity
) -> sr.ContentSequence:
    """Where, how sure, from which image, and by which algorithm."""
    content = sr.ContentSequence([sr.FindingSite(site)])
    content.extend(algorithm_identification(algorithm))
    if score is not None:
        content.append(
            sr.NumContentItem(
                name=codes.CERTAINTY,
                value=percent(score),
                unit=codes.PERCENT,
                relationship_type=sr.RelationshipTypeValues.HAS_PROPERTIES,
            )
        )
    content.append(comment(words, sr.RelationshipTypeValues.HAS_PROPERTIES))
    content.append(
        sr.ImageContentItem(
            name=codes.SOURCE,
            referenced_sop_class_uid=source.SOPClassUID,
            referenced_sop_instance_uid=source.SOPInstanceUID,
            relationship_type=sr.RelationshipTypeValues.INFERRED_FROM,
        )
    )
    return content


def _code(name: Code, value: Code) -> sr.CodeContentItem:
    return sr.CodeContentItem(name=name, value=value, relationship_type=_CONTAINS)


def _statements(
    readings: Sequence[ImageReading], other_images: Sequence[ImageReading], algorithm: ModelIdentity
) -> Iterator[str]:
    if algorithm.demonstration:
        yield DEMONSTRATION
    yield f"{statement(algorithm, readings)}. {_UNVERIFIED}"
    for reading in (*readings, *other_images):
        if reading.not_read is not None:
            yield f"Image {reading.sop_instance_uid} was not read: {reading.not_read}"
            continue
        found = ", ".join(map(caption, reading.positive))
        said = caption(reading.no_finding) if reading.no_finding else ""
        if found and said:
            yield f'Image {reading.sop_instance_uid}: {found}; the model also answered "{said}".'
        else:
            yield f"Image {reading.sop_instance_uid}: {found or said or NO_FINDING}."
