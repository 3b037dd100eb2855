"""Random studies through the node's own parts, and what was put in, to compare with what comes out.

Everything is drawn from one seed. Coordinates are eighths of a pixel and scores are thousandths: both are the
same numbers again after a report has told them (32-bit floats, percent with one decimal).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import UID, generate_uid

from litegpt.boxes import Box
from litegpt.engine import Read
from litegpt.findings import Finding, Reading
from litegpt.squares import SquashedImage
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS, NO_FINDING
from service.peers import ResultKind
from service.records import conclusions
from service.records.claims import ClaimedImage
from tests.images import CR, DX, SECONDARY_CAPTURE, make_radiograph
from tests.worker.conftest import SmallNode
from tests.worker.results.test_structured_report import NAMES as SCRIPTS
from worker.analysis import Analyst
from worker.results.making import make_again

SR = "1.2.840.10008.5.1.4.1.1.88.34"
SR_2D = "1.2.840.10008.5.1.4.1.1.88.33"
GSPS = "1.2.840.10008.5.1.4.1.1.11.1"
SC = "1.2.840.10008.5.1.4.1.1.7"

NAMES: Final = SCRIPTS | {"ISO_IR 6": "Doe^Jane"}
"""A patient's name by the character set of the images."""

COUNTS: Final = (0, 1, 2, 3, 5, 7, 9, 11, 13, 15, 18, 20)
"""Findings of the first studies; the others have few, since reports take long to make."""

REASONS: Final = ("the model's numbers broke down", "the pixel data is truncated")
ORIENTATIONS: Final = (["L", "F"], ["R", "F"], ["F", "L"], ["H", "R"], ["LH", "FA"], ["A", "F"], ["L"], None)


@dataclass
class Image:
    """One image of a study, and what is said of it.

    Attributes:
        dataset: As it is received.
        findings: What the model says.
        not_read: Why it does not, else empty.
    """

    dataset: Dataset
    findings: tuple[Finding, ...] = ()
    not_read: str = ""

    @property
    def uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    @property
    def is_grayscale(self) -> bool:
        return bool(self.dataset.SamplesPerPixel == 1)

    @property
    def told(self) -> list[Finding]:
        """What a result has to tell: reported, and not that there is nothing."""
        return [finding for finding in self.findings if finding.reported and finding.label != NO_FINDING]

    @property
    def boxed(self) -> list[Finding]:
        return [finding for finding in self.told if finding.box]


@dataclass
class Study:
    """A study, and the files of its results.

    Attributes:
        images: In the order received.
        character_set: Of the patient's name.
        files: By SOP class.
    """

    images: list[Image]
    character_set: str
    files: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def uid(self) -> str:
        return str(self.images[0].dataset.StudyInstanceUID)

    @property
    def read(self) -> list[Image]:
        return [image for image in self.images if not image.not_read]


def draw_studies(seed: int, count: int) -> list[Study]:
    """Studies of one to three images each, with 0 to 20 findings in all."""
    random = Random(seed)
    return [_study(random, number) for number in range(count)]


def make_results_of(studies: Sequence[Study], node: SmallNode) -> None:
    """Has a node receive and analyse the studies, and fills in the files of all results."""
    node.take(*(image.dataset for study in studies for image in study.images))
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    engine = SayingEngine({image.uid: image for study in studies for image in study.images})
    analyst.engines.load = lambda _: engine
    analyst.drain()
    for study in studies:
        view = node.show(study.uid)
        assert view.analysis_state == "done", view.error
        concluded = conclusions.concluded(node.records, view.analysis_id or 0)
        kind = ResultKind.STRUCTURED_REPORT
        (simpler,) = make_again(concluded, kind, SR_2D, node.settings, node.archive)
        for path in (simpler.path, *(delivery.path for delivery in view.deliveries)):
            file = node.archive.absolute(path)
            study.files.setdefault(_sop_class(file), []).append(file)


class SayingEngine:
    """An engine that loads as the real one does, and says what was drawn."""

    square_sizes = (16,)

    def __init__(self, images: Mapping[str, Image]) -> None:
        self._images = images

    def read_ahead(
        self, images: Sequence[ClaimedImage], load: Callable[[ClaimedImage], SquashedImage]
    ) -> Iterator[Read[ClaimedImage]]:
        for claimed in images:
            assert load(claimed).rows
            said = self._images[claimed.sop_instance_uid]
            yield Read(claimed, Reading(said.findings, failure=said.not_read or None))


def _sop_class(file: Path) -> str:
    return str(UID(dcmread(file, specific_tags=["SOPClassUID"]).SOPClassUID))


def _study(random: Random, number: int) -> Study:
    character_set = random.choice(list(NAMES))
    more = _patient(random, character_set, number)
    images = [Image(_image(random, more)) for _ in range(random.randint(1, 3))]
    for image in images[1:]:
        if random.random() < 0.3:
            image.not_read = random.choice(REASONS)
    random.shuffle(images)
    read = [image for image in images if not image.not_read]
    for _ in range(COUNTS[number] if number < len(COUNTS) else random.randint(0, 4)):
        image = random.choice(read)
        image.findings += (_finding(random, image.dataset),)
    for image in read:
        if random.random() < (0.1 if image.told else 0.7):
            image.findings += (Finding(NO_FINDING, random.randint(1, 999) / 1000),)
    return Study(images, character_set)


def _patient(random: Random, character_set: str, number: int) -> dict[str, Any]:
    return {
        "study_uid": generate_uid(entropy_srcs=[f"study {number}"]),
        "SpecificCharacterSet": character_set.split("\\"),
        "PatientName": NAMES[character_set],
        "PatientID": f"P{number}",
        "AccessionNumber": random.choice(["", f"A{number}"]),
        "PatientSex": random.choice(["M", "F", "O", ""]),
    }


def _image(random: Random, more: dict[str, Any]) -> Dataset:
    sop_class = random.choice([CR, DX, SECONDARY_CAPTURE])
    rows, columns = random.randint(33, 401), random.randint(33, 401)
    more = more | {"PatientOrientation": random.choice(ORIENTATIONS), "sop_class": sop_class}
    if sop_class == SECONDARY_CAPTURE:
        more |= {"Modality": random.choice(["CR", "DX", "RG"]), "ImageType": None}
        if random.random() < 0.4:
            ramp = np.linspace(0, 255, rows * columns * 3).reshape(rows, columns, 3).astype(np.uint8)
            return make_radiograph(ramp, bits_stored=8, photometric="RGB", **more)
    if sop_class == DX:
        more |= {"ImageLaterality": random.choice(["U", "B", "L", "R"])}
    photometric = random.choice(["MONOCHROME1", "MONOCHROME2"])
    bits = random.choice([8, 10, 12, 16])
    return make_radiograph(rows=rows, columns=columns, bits_stored=bits, photometric=photometric, **more)


def _finding(random: Random, image: Dataset) -> Finding:
    score, reported = random.randint(1, 999) / 1000, random.random() < 0.9
    if random.random() < 0.15:
        return Finding(random.choice(DIAGNOSES[:-1]), score, reported=reported)
    (left, right), (top, bottom) = (_sides(random, int(image[side].value)) for side in ("Columns", "Rows"))
    return Finding(random.choice(LOCAL_LABELS), score, Box(left, top, right, bottom), 0.5, reported=reported)


def _sides(random: Random, length: int) -> tuple[float, float]:
    low, high = sorted(random.sample(range(8 * length + 1), 2))
    return low / 8, high / 8
