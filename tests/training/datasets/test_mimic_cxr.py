"""MIMIC-CXR: three files joined by study and image, with what the reports leave open."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from litegpt.vocabulary import LABELS
from tests.training.datasets.reading import read, touch, write
from training.datasets.mimic_cxr import LABEL_COLUMNS
from training.errors import DatasetError

CHEXPERT = ",".join(
    [
        "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum",
        "Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax",
        "Support Devices",
    ]
)
METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)
SPLIT = "dicom_id,study_id,subject_id,split"


def study(number: int, **values: str) -> str:
    """A row of the label file; underscores in names stand for blanks."""
    given = {name.replace("_", " "): value for name, value in values.items()}
    assert set(given) <= set(LABEL_COLUMNS)
    return ",".join(["10000032", str(number), *(given.get(name, "") for name in LABEL_COLUMNS)])


def image(name: str, number: int, view: str = "PA") -> str:
    """A row of the metadata."""
    return f'{name},10000032,{number},"CHEST (PA AND LAT)",{view},3056,2544,21800506,213014.531,,,Erect'


def write_all(folder: Path, studies: list[str], images: list[str], splits: list[str]) -> None:
    for name, lines in (
        ("chexpert", [CHEXPERT, *studies]),
        ("metadata", [METADATA, *images]),
        ("split", [SPLIT, *splits]),
    ):
        file = write(folder / f"mimic-cxr-2.0.0-{name}.csv", *lines)
        packed = folder / f"{file.name}.gz"
        packed.write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()


def test_images_get_the_labels_of_their_study(tmp_path: Path) -> None:
    write_all(
        tmp_path,
        [
            study(
                1,
                Pleural_Effusion="1.0",
                Lung_Lesion="1.0",
                Edema="0.0",
                Pneumonia="-1.0",
                Support_Devices="1.0",
            )
        ],
        [image("a", 1), image("b", 1, "LATERAL"), image("c", 1, "AP"), image("d", 1, "")],
        ["a,1,10000032,validate", "b,1,10000032,validate", "c,1,10000032,validate", "d,1,10000032,validate"],
    )
    (pa, ap), problems = read("mimic-cxr", tmp_path)
    assert pa.labels == ap.labels == {"published": {"Pleural effusion", "Nodule/Mass"}}
    assert pa.judged == {"Pleural effusion", "Nodule/Mass", "Edema", "No finding"}
    assert (pa.patient, pa.split) == ("10000032", "validation")
    assert problems == [
        ("unmapped-class", "mimic-cxr-2.0.0-chexpert.csv.gz", 2, "Support Devices"),
        ("label-uncertain", "mimic-cxr-2.0.0-chexpert.csv.gz", 2, "Pneumonia"),
        ("not-frontal", "mimic-cxr-2.0.0-metadata.csv.gz", 3, "ViewPosition"),
        ("not-frontal", "mimic-cxr-2.0.0-metadata.csv.gz", 5, "ViewPosition"),
    ]


@pytest.mark.parametrize(
    ("values", "said", "judged"),
    [
        ({"No_Finding": "1.0"}, {"No finding"}, set(LABELS) & {
            "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Nodule/Mass", "Lung Opacity",
            "Pleural effusion", "Pneumonia", "Pneumothorax", "No finding",
        }),
        ({}, set(), set()),
        ({"Fracture": "1.0"}, set(), {"No finding"}),
        ({"Support_Devices": "1.0"}, set(), set()),
        ({"Edema": "-1.0"}, set(), set()),
        ({"Edema": "x"}, set(), set()),
        ({"No_Finding": "1.0", "Edema": "1.0"}, {"Edema"}, {"Edema", "No finding"}),
    ],
)  # fmt: skip
def test_what_a_report_says_and_leaves_open(
    tmp_path: Path, values: dict[str, str], said: set[str], judged: set[str]
) -> None:
    write_all(tmp_path, [study(1, **values)], [image("a", 1)], ["a,1,10000032,train"])
    (example,), _ = read("mimic-cxr", tmp_path)
    assert (example.said, example.judged) == (said, judged)


def test_images_lie_by_patient_and_study(tmp_path: Path) -> None:
    images = [image(name, 1) for name in ("a", "b", "c")]
    splits = [f"{name},1,10000032,train" for name in ("a", "b", "c")]
    write_all(tmp_path, [study(1, No_Finding="1.0")], images, splits)
    folder = tmp_path / "files" / "p10" / "p10000032" / "s1"
    files = [touch(folder / "a.jpg"), touch(folder / "b.dcm")]
    examples, problems = read("mimic-cxr", tmp_path)
    assert [example.image for example in examples] == files
    assert problems == [("missing-image", "mimic-cxr-2.0.0-metadata.csv.gz", 4, "dicom_id")]


def test_rows_that_do_not_fit_together(tmp_path: Path) -> None:
    write_all(
        tmp_path,
        [study(1, Edema="1.0"), study(1, Edema="1.0"), study(1, Edema="0.0"), study(2, Edema="high")],
        [image("a", 1), image("a", 1), image("b", 9), image("c", 2), image("d", 1), image("", 1)],
        ["a,1,10000032,train", "b,9,10000032,train", "c,2,10000032,dev", "a,1,10000032,test"],
    )
    (example,), problems = read("mimic-cxr", tmp_path)
    assert (example.image_id, example.said, example.split) == ("a", {"Edema"}, "train")
    metadata, chexpert, split = (
        f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "chexpert", "split")
    )
    assert problems == [
        ("no-image-id", metadata, 7, "dicom_id"),
        ("duplicate-row", chexpert, 3, ""),
        ("duplicate-row", metadata, 3, ""),
        ("contradictory-row", chexpert, 4, ""),
        ("contradictory-row", split, 5, "split"),
        ("label-value", chexpert, 5, "Edema"),
        ("no-labels", metadata, 4, "study_id"),
        ("no-labels", metadata, 5, "study_id"),
        ("no-labels", metadata, 6, "study_id"),
        ("split-value", split, 4, "split"),
    ]


def test_a_plain_file_is_preferred_to_the_packed_one(tmp_path: Path) -> None:
    write_all(tmp_path, [study(1, Edema="1.0")], [image("a", 1)], ["a,1,10000032,train"])
    write(tmp_path / "mimic-cxr-2.0.0-chexpert.csv", CHEXPERT, study(1, Pneumonia="1.0"))
    (example,), _ = read("mimic-cxr", tmp_path)
    assert example.said == {"Pneumonia"}


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    write_all(tmp_path, [], [], [])
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    with pytest.raises(DatasetError, match=r"there is no mimic-cxr-\*-split\.csv"):
        read("mimic-cxr", tmp_path)
