"""Small datasets in the shapes of real ones, with phantoms as their images."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from PIL import Image

from litegpt.boxes import Box
from litegpt.vocabulary import DIAGNOSES, LOCAL_LABELS
from tests.training.datasets.reading import write
from tests.training.datasets.test_mimic_cxr import image, study
from tests.training.datasets.test_mimic_cxr import write_all as write_tables
from tests.training.datasets.test_nih import BOXES, ENTRIES, entry
from training.phantom.choice import TWELVE
from training.phantom.collection import fresh_phantoms, write_collection
from training.phantom.radiograph import Phantom, phantoms

NIH_SIDE = 1024
NIH_SEED = 5
"""Among its first five phantoms are two with effusion, two with consolidation, and two without finding."""

NIH_NAMES = {
    "Pleural effusion": "Effusion",
    "Nodule/Mass": "Mass",
    "Pulmonary fibrosis": "Fibrosis",
    "Pleural thickening": "Pleural_Thickening",
}
MIMIC_SEED = 3
"""Of its first six phantoms three have no finding, one effusion, two a large heart, one a veil."""

MIMIC_SPOKEN_OF = {
    "Cardiomegaly": "Cardiomegaly",
    "Edema": "Edema",
    "Lung Opacity": "Lung Opacity",
    "Pleural Effusion": "Pleural effusion",
}
NIH_OWN = ("Atelectasis", "Cardiomegaly", "Consolidation", "Pneumothorax")


SEED = 31


def drawn(images: int) -> list[Phantom]:
    return list(islice(phantoms(SEED), images))


def write_phantoms(folder: Path, images: int) -> Path:
    """As ``litegpt-train phantom`` does."""
    list(write_collection(fresh_phantoms(images, SEED), folder))
    return folder


def write_json_lines(folder: Path, images: int) -> Path:
    """PNGs, every line in the test split; two readers, the second of whom draws each box a little larger."""
    lines = []
    for number, one in enumerate(drawn(images)):
        save(one, folder / f"{number}.png")
        findings = [
            {
                "label": finding.label,
                "box": [left - grow, top - grow, right + grow, bottom + grow],
                "reader": reader,
            }
            for finding in one.findings
            for left, top, right, bottom in [corners(finding.box)]
            for reader, grow in (("R1", 0), ("R2", 1))
        ]
        labels = [{"label": name, "reader": reader} for name in one.diagnoses for reader in ("R1", "R2")]
        line = {"image": f"{number}.png", "split": "test", "findings": findings, "labels": labels}
        lines.append(json.dumps({**line, "readers": ["R1", "R2"]}))
    return write(folder / "ours.jsonl", *lines)


def write_vindr_cxr(folder: Path, images: int) -> Path:
    """The test split: boxes and labels in two files, the images DICOM."""
    marks, labels = (
        ["image_id,class_name,x_min,y_min,x_max,y_max"],
        [",".join(("image_id", *LOCAL_LABELS, *DIAGNOSES))],
    )
    items = list(fresh_phantoms(images, SEED))
    for item, path in zip(items, write_collection(iter(items), folder), strict=True):
        name = path.stem
        (folder / "test").mkdir(exist_ok=True)
        path.rename(folder / "test" / f"{name}.dicom")
        said = {*item.phantom.diagnoses, *(finding.label for finding in item.phantom.findings)}
        labels.append(",".join((name, *(str(int(one in said)) for one in (*LOCAL_LABELS, *DIAGNOSES)))))
        for finding in item.phantom.findings:
            marks.append(",".join((name, finding.label, *map(str, corners(finding.box)))))
        if not item.phantom.findings:
            marks.append(f"{name},No finding,,,,")
    (folder / "truth.json").unlink()
    write(folder / "annotations" / "annotations_test.csv", *marks)
    write(folder / "annotations" / "image_labels_test.csv", *labels)
    return folder


def write_nih(folder: Path, images: int, *, boxes: int = 0) -> Path:
    """PNGs of 1024 × 1024 and labels of the whole image; for the first findings, boxes too."""
    entries, marks, names = [ENTRIES], [BOXES], []
    for number, one in enumerate(islice(phantoms(NIH_SEED, drawn_labels=TWELVE), images), start=1):
        name = f"{number:08d}_000.png"
        names.append(name)
        save(one, folder / "images" / name, side=NIH_SIDE)
        said = [NIH_NAMES.get(finding.label, finding.label) for finding in one.findings]
        said = list(dict.fromkeys(label for label in said if label in (*NIH_NAMES.values(), *NIH_OWN)))
        entries.append(entry(name, "|".join(said) or "No Finding"))
        for finding in one.findings:
            if len(marks) <= boxes and finding.label in (*NIH_NAMES, *NIH_OWN):
                rows, columns = one.pixels.shape
                left, top, right, bottom = corners(finding.box)
                x, y, w, h = left / columns, top / rows, (right - left) / columns, (bottom - top) / rows
                sides = ",".join(str(NIH_SIDE * part) for part in (x, y, w, h))
                marks.append(f"{name},{NIH_NAMES.get(finding.label, finding.label)},{sides},,,")
    write(folder / "Data_Entry_2017.csv", *entries)
    write(folder / "test_list.txt", *names)
    write(folder / "train_val_list.txt")
    if boxes:
        write(folder / "BBox_List_2017.csv", *marks)
    return folder


def write_mimic_cxr(folder: Path, images: int) -> Path:
    """JPEGs of one study each, all in the test split; each report speaks of four labels, or of nothing."""
    studies, metadata, splits = [], [], []
    for number, one in enumerate(islice(phantoms(MIMIC_SEED), images), start=1):
        said = {finding.label for finding in one.findings}
        values = {
            name.replace(" ", "_"): str(float(label in said)) for name, label in MIMIC_SPOKEN_OF.items()
        }
        if not one.findings:
            values["No_Finding"] = "1.0"
        studies.append(study(number, **values))
        metadata.append(image(f"i{number}", number))
        splits.append(f"i{number},{number},10000032,test")
        save(one, folder / "files" / "p10" / "p10000032" / f"s{number}" / f"i{number}.jpg")
    write_tables(folder, studies, metadata, splits)
    return folder


def save(one: Phantom, path: Path, *, side: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(one.pixels)
    (picture.resize((side, side)) if side else picture).save(path)


def corners(box: Box) -> tuple[float, float, float, float]:
    return box.x_min, box.y_min, box.x_max, box.y_max
