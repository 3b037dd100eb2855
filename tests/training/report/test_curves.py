"""What is drawn is what is measured."""

from __future__ import annotations

import re

import numpy as np
import pytest

from litegpt.vocabulary import LABELS, LOCAL_LABELS
from tests.training.evaluation.random_cases import FEW
from tests.training.report.conftest import made_up
from training.evaluation.average_precision import AveragePrecision
from training.evaluation.froc import RATES, Froc
from training.report import curves
from training.report.confusion import confusion
from training.report.drawing import GRID, INK, new_axes, svg
from training.report.precision_recall import box_curves, label_curves, mean_curve
from training.report.reliability import box_reliability, label_reliability

EXAMINED = made_up(7, 60)
TRUTHS = [one.case.truth for one in EXAMINED]
READINGS = [one.reading for one in EXAMINED]
ALL = np.arange(len(EXAMINED))


def test_the_area_under_a_label_s_curve_is_its_average_precision() -> None:
    drawn = label_curves(EXAMINED, LABELS)
    assert set(FEW) <= set(drawn)
    for curve in drawn.values():
        area = (np.diff(curve.recall, prepend=0.0) * curve.precision).sum()
        assert area == pytest.approx(curve.average)
        assert (curve.recall == 1).sum() == 1


def test_boxes_have_the_curves_behind_the_measures() -> None:
    values = AveragePrecision(LOCAL_LABELS, TRUTHS, READINGS).values(ALL)
    drawn = box_curves(EXAMINED, LOCAL_LABELS)
    assert set(drawn) == {label for label in LOCAL_LABELS if not np.isnan(values["ap", "0.5", label])}
    for label, curve in drawn.items():
        assert curve.average == pytest.approx(values["ap", "0.5", label])
    mean = mean_curve(drawn)
    assert mean.average == mean.precision.mean() == pytest.approx(values["map", "0.5"])


def test_the_froc_curve_goes_through_the_marks() -> None:
    measure = Froc(LOCAL_LABELS, TRUTHS, READINGS)
    false, found = measure.curve()
    values = measure.values(ALL)
    assert false[0] == found[0] == 0
    assert (np.diff(false) >= 0).all() and (np.diff(found) >= 0).all()
    for rate in RATES:
        assert found[false <= float(rate)].max() == pytest.approx(values["froc", str(rate)])


@pytest.mark.parametrize("reliability", [label_reliability, box_reliability])
def test_ten_bins_hold_all_scores(reliability) -> None:  # type: ignore[no-untyped-def]
    found = reliability(EXAMINED, LABELS)
    assert len(found.scores) == len(found.shares) == 10
    assert (np.diff(found.scores) >= 0).all()
    counts = np.array([len(part) for part in np.array_split(np.arange(found.examples), 10)])
    assert found.error >= abs((found.scores - found.shares) @ counts) / found.examples - 1e-9


def test_without_scores_there_is_no_calibration() -> None:
    assert label_reliability([], LABELS) is None
    assert box_reliability(EXAMINED, []) is None


def test_a_figure_has_the_page_s_colours_and_ids_of_its_own() -> None:
    drawn = str(curves.confusion_matrix(confusion(EXAMINED, LOCAL_LABELS), "here"))
    assert drawn.startswith("<svg") and drawn.rstrip().endswith("</svg>")
    assert "currentColor" in drawn and not {INK, GRID} & set(re.findall("#[0-9a-f]{6}", drawn))
    ids = re.findall(r'\bid="([^"]+)"', drawn)
    assert len(ids) == len(set(ids)) and all(one.startswith("here-") for one in ids)
    for used in re.findall(r'(?:url\(|href=")#([^")]+)', drawn):
        assert used in ids


def test_the_same_figure_is_the_same_text_and_its_title_is_escaped() -> None:
    first, second = (str(svg(new_axes(2, 2)[0], "a", 'x"<b>')) for _ in range(2))
    assert first == second
    assert 'aria-label="x&#34;&lt;b&gt;"' in first
