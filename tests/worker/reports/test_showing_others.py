"""What a person sees of others' reports: the print, the drawing, the comparison; and broken ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian

from litegpt.radiograph import Radiograph, read_radiograph
from tests.images import CR, make_radiograph
from tests.worker.reports.test_reading_back import coded, item, node
from worker.reports.comparison import compare
from worker.reports.document import read_report
from worker.reports.drawing import draw_regions
from worker.reports.group import Group
from worker.reports.regions import Region

SAMPLES = Path(__file__).parent / "samples"
IMAGE = "2.25.153"
GROUP = coded("125007", "DCM", "Measurement Group")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The image that the samples speak of, gray: every colour in a drawing is the drawing's."""
    path = tmp_path / "image.dcm"
    made = make_radiograph(sop_class=CR, study_uid="2.25.151", sop_instance_uid=IMAGE)
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def radiograph(image: Path) -> Radiograph:
    return read_radiograph(image)


def hand_made(path: Path, *items: Dataset) -> Path:
    """A report with ``items`` in it, as bare as a careless writer makes it."""
    dataset = item("CONTAINER", coded("126000", "DCM", "Imaging Measurement Report"), *items)
    dataset.SOPClassUID, dataset.SOPInstanceUID = ComprehensiveSRStorage, "2.25.170"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def coloured(picture: Image.Image, x: float, y: float) -> bool:
    """Whether something is drawn within a pixel of a place; the radiograph is gray."""
    around = np.asarray(picture).astype(int)[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2]
    return bool((np.ptp(around, axis=2) > 0).any())


def check_drawn(radiograph: Radiograph, group: Group, drawn: Iterable[tuple[float, float]]) -> Image.Image:
    picture = draw_regions(radiograph, IMAGE, [group])
    assert [place for place in drawn if not coloured(picture, *place)] == []
    return picture


def test_every_region_of_cornerstone_is_drawn_at_its_place(radiograph: Radiograph) -> None:
    found = {
        group.comments[0] if group.comments else group.tracking_identifier: group
        for group in read_report(SAMPLES / "cornerstone.dcm").groups
    }
    box = check_drawn(radiograph, found["effusion, right"], [(3, 18), (20, 18), (10, 30), (20, 5)])
    assert not coloured(box, 12, 22)
    circle = check_drawn(radiograph, found["round"], [(19, 32), (29, 32), (24, 37)])
    assert not coloured(circle, 24, 33)
    check_drawn(radiograph, found["dense"], [(12, 50)])
    line = check_drawn(radiograph, found["open line"], [(2, 60), (10, 55), (20, 60)])
    assert not coloured(line, 11, 60)  # from its end back to its start
    check_drawn(radiograph, found["closed line"], [(37, 40), (42, 48), (35, 48)])
    arrow = check_drawn(radiograph, found["look here"], [(40, 50), (44, 60)])
    assert not coloured(arrow, 46, 62)  # its text


def test_an_ellipse_and_points_are_drawn_at_their_place(radiograph: Radiograph) -> None:
    oval = read_report(SAMPLES / "dwv.dcm").groups[2]
    picture = check_drawn(radiograph, oval, [(18, 30), (30, 30), (24, 40)])
    assert not coloured(picture, 24, 30)
    points = Group(regions=[Region("MULTIPOINT", ((5, 50), (40, 60)), IMAGE)])
    picture = check_drawn(radiograph, points, [(5, 50), (40, 60)])
    assert not coloured(picture, 22, 55)


def test_the_command_prints_and_draws_what_dwv_says(image: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "drawn.png"
    said = node("show-report", SAMPLES / "dwv.dcm", "--image", image, "--png", drawing)
    assert said.returncode == 0, said.stderr
    assert f"image   1 {IMAGE}" in said.stdout
    assert said.stdout.split("\n\n")[1].splitlines() == [
        "1   Pleural effusion, Lung structure",
        "    where      POLYLINE 3, 5, 20, 30 (left, top, right, bottom)",
        "    measured   Area 1.0625 cm2",
        "    says       Short Label: {surface}",
        "    says       Color: #ffff80",
        "    tracked as dwv-1 2.25.161",
    ]
    assert "    where      POINT 40, 50\n" in said.stdout
    with Image.open(drawing) as picture:
        assert picture.size == (48, 64) and coloured(picture, 20, 20)


def test_the_command_says_that_a_segmentation_is_not_drawn(image: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "drawn.png"
    said = node("show-report", SAMPLES / "dcmqi.dcm", "--image", image, "--png", drawing)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.split("\n\n")[1].splitlines()
    for line in (
        "1   Pleural effusion, right Lung structure",
        "    where      segment 1 of segmentation 2.25.158 (not drawn)",
        "    measured   Volume 70361.9 mm3",
        "    says       Remark: larger than it looks",
        "    algorithm  thresholder 1.2",
        "    tracked as effusion 1 2.25.161",
    ):
        assert line in lines
    with Image.open(drawing) as picture:
        assert (np.ptp(np.asarray(picture).astype(int), axis=2) == 0).all()


def test_nothing_is_cut_off_in_a_narrow_window() -> None:
    wide, narrow = (
        node("show-report", SAMPLES / "cornerstone.dcm", columns=each).stdout for each in (200, 20)
    )
    assert "Cornerstone3DTools@^0.1.0:PlanarFreehandROI 2.25." in narrow and narrow == wide


def measurement_groups(report: Dataset) -> list[Dataset]:
    return [
        group
        for container in report.ContentSequence
        if container.ConceptNameCodeSequence[0].CodeValue == "126010"
        for group in container.ContentSequence
    ]


def test_a_finding_that_is_tracked_is_kept_with_what_changed(tmp_path: Path) -> None:
    report = dcmread(SAMPLES / "dcmqi.dcm")
    effusion, heart = measurement_groups(report)
    (volume,) = [each for each in effusion.ContentSequence if "118565006" in str(each)]
    volume.MeasuredValueSequence[0].NumericValue = "80000"
    said_of_heart = {each.ConceptNameCodeSequence[0].CodeValue: each for each in heart.ContentSequence[:4]}
    said_of_heart["112040"].UID = "2.25.999"
    said_of_heart["121071"].ConceptCodeSequence[0].CodeMeaning = "Mass"
    report.save_as(tmp_path / "later.dcm")
    said = node("show-report", tmp_path / "later.dcm", "--against", SAMPLES / "dcmqi.dcm")
    assert said.stdout.splitlines() == [
        "new    Mass",
        "gone   Heart",
        "kept   Pleural effusion, right Lung structure Volume 70361.9 to 80000 mm3",
    ]


def test_regions_of_others_are_compared(tmp_path: Path) -> None:
    """The box of 17 × 25 moved by 5 to the right overlaps 12 of 22 columns; the circle is far away."""
    report = dcmread(SAMPLES / "dwv.dcm")
    box, circle, *_ = measurement_groups(report)
    box.ContentSequence[0].GraphicData = [8, 5, 8, 30, 25, 30, 25, 5, 8, 5]
    circle.ContentSequence[0].GraphicData = [10, 50, 15, 50]
    for number, group in enumerate((box, circle)):  # a later report that tracks nothing of the first
        group.ContentSequence[2].UID = f"2.25.99{number}"
    report.save_as(tmp_path / "later.dcm")
    found = compare(read_report(SAMPLES / "dwv.dcm"), read_report(tmp_path / "later.dcm"))
    overlaps = {after.tracking_identifier: overlap for _, after, overlap in found.kept}
    assert overlaps["dwv-1"] == pytest.approx(12 / 22)
    assert [group.tracking_identifier for group in found.gone] == ["dwv-2"]
    assert [group.tracking_identifier for group in found.new] == ["dwv-2"]


@pytest.mark.parametrize("data", [[], [1.0, 2.0, 3.0], [1.0, float("nan")]])
def test_a_graphic_without_whole_points_is_said(data: list[float], image: Path, tmp_path: Path) -> None:
    scoord = item("SCOORD", None, GraphicType="POLYLINE", GraphicData=data)
    file = hand_made(tmp_path / "broken.dcm", item("CONTAINER", GROUP, scoord))
    said = node("show-report", file, "--image", image, "--png", tmp_path / "drawn.png")
    assert said.returncode == 0, said.stderr
    assert "    where      POLYLINE without whole points (not drawn)\n" in said.stdout


def test_a_measurement_without_a_value_gives_the_reason(tmp_path: Path) -> None:
    volume = item("NUM", coded("118565006", "SCT", "Volume"), MeasuredValueSequence=[])
    volume.NumericValueQualifierCodeSequence = [coded("114000", "DCM", "Not a number")]
    certainty = item("NUM", coded("111012", "DCM", "Certainty of Finding"), MeasuredValueSequence=[])
    (group,) = read_report(hand_made(tmp_path / "r.dcm", item("CONTAINER", GROUP, volume, certainty))).groups
    assert (group.measurements, group.certainty) == ([("Volume", "Not a number", "")], None)


def test_what_stands_outside_or_inside_of_a_group_is_told(tmp_path: Path) -> None:
    """A group within a group is a finding of its own; a graphic without one is said."""
    graphic = item("SCOORD", coded("111030", "DCM", "Image Region"), GraphicType="POINT", GraphicData=[1, 2])
    found = coded("121071", "DCM", "Finding")
    inner = item("CODE", found, ConceptCodeSequence=[coded("1", "99TEST", "inner")])
    outer = item("CODE", found, ConceptCodeSequence=[coded("2", "99TEST", "outer")])
    nested = item("CONTAINER", GROUP, outer, item("CONTAINER", GROUP, inner, graphic))
    report = read_report(hand_made(tmp_path / "nested.dcm", nested, graphic))
    assert [(group.finding, len(group.regions)) for group in report.groups] == [("outer", 0), ("inner", 1)]
    assert report.statements == ["Image Region: POINT (in no measurement group, not drawn)"]
