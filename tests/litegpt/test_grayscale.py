"""The grayscale pipeline against worked tables, dcmtk's dcm2pnm and pydicom's formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from litegpt.errors import RadiographError
from litegpt.grayscale import Grayscale, StoredValues
from litegpt.radiograph import read_radiograph
from tests.images import CR, DX, SECONDARY_CAPTURE, make_radiograph
from tests.peers.dcmtk import run_program
from tests.presence import real_radiographs


def shown(dataset: Dataset) -> list[int]:
    return [int(value) for value in read_radiograph(dataset).pixels.ravel()]


def row(values: list[int], dtype: Any = np.uint16) -> NDArray[Any]:
    return np.array([values], dtype=dtype)


def lut(first: int, bits: int, entries: NDArray[Any], *, packed: bool = False) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("u1" if packed else "<u2").tobytes())
    return item


def square(count: int, bits: int) -> NDArray[np.uint16]:
    return (np.linspace(0, 1, count) ** 2 * (2**bits - 1)).astype(np.uint16)


# Worked by hand from PS3.3 C.11.2.1.2.1, C.11.2.1.3.1 and C.11.2.1.3.2, 0..255 output, rounded
@pytest.mark.parametrize(
    ("function", "center", "width", "stored", "expected"),
    [
        # x <= 127.5 - 127.5 is 0; above 255 is 255; between (x - 127.5) / 255 + 0.5: every value is itself
        ("LINEAR", "128", "256", [0, 1, 100, 254, 255], [0, 1, 100, 254, 255]),
        # The standard's own example: width 1 is a threshold just below the center
        ("LINEAR", "100", "1", [98, 99, 100, 101], [0, 0, 255, 255]),
        # c - 0.5 = 99.5, w - 1 = 10: 94 and below black, 105 and above white, 97 is 0.25
        ("LINEAR", "100", "11", [90, 94, 97, 105, 110], [0, 0, 64, 255, 255]),
        # (x - 100) / 10 + 0.5
        ("LINEAR_EXACT", "100", "10", [95, 97, 100, 105], [0, 51, 128, 255]),
        ("LINEAR_EXACT", "100", "0.5", [99, 100, 101], [0, 128, 255]),
        # 1 / (1 + exp(-4 (x - 100) / 40)): at the center a half, one tenth of the argument per step
        ("SIGMOID", "100", "40", [80, 90, 100, 110, 120], [30, 69, 128, 186, 225]),
    ],
)
def test_windows_worked_by_hand(
    function: str, center: str, width: str, stored: list[int], expected: list[int]
) -> None:
    dataset = make_radiograph(
        row(stored), sop_class=CR, WindowCenter=center, WindowWidth=width, VOILUTFunction=function
    )
    assert shown(dataset) == expected


def test_the_first_of_several_windows_counts() -> None:
    dataset = make_radiograph(row([0, 128, 255]), WindowCenter=["128", "5"], WindowWidth=["256", "2"])
    assert shown(dataset) == [0, 128, 255]


def test_rescale_comes_before_the_window() -> None:
    # 2 x - 100 puts 50, 100, 178 at 0, 100, 256
    dataset = make_radiograph(
        row([50, 100, 178]), WindowCenter="128", WindowWidth="257", RescaleSlope="2", RescaleIntercept="-100"
    )
    assert shown(dataset) == [0, 100, 255]


def test_monochrome1_inverts_after_the_window() -> None:
    # Inverting before would put the window 0..10 of 4095 at the other end and show black only
    attributes = {"WindowCenter": "5.5", "WindowWidth": "11", "sop_class": CR}
    dataset = make_radiograph(row([0, 5, 10, 4095]), photometric="MONOCHROME1", **attributes)
    assert shown(dataset) == [255, 128, 0, 0]


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),  # contradicts itself; the pixels' own attribute counts
        ("MONOCHROME2", None, False),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
    ],
)
def test_polarity_is_inverted_once(photometric: str, shape: str | None, inverted: bool) -> None:
    dataset = make_radiograph(row([0, 4095]), photometric=photometric, PresentationLUTShape=shape)
    assert shown(dataset) == ([255, 0] if inverted else [0, 255])


def test_percentile_window_where_none_is_given() -> None:
    # 2000 pixels 0..1999: 0.5 % is the 10th, 99.5 % the 1990th value
    pixels = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    dataset = make_radiograph(pixels, WindowCenter=None, WindowWidth=None)
    low, high = np.percentile(pixels, (0.5, 99.5), method="inverted_cdf")
    expected = np.rint(np.clip((pixels - float(low)) / (float(high) - float(low)), 0, 1) * 255)
    assert (read_radiograph(dataset).pixels == expected).all()


@pytest.mark.parametrize(
    ("dtype", "padding", "attributes"),
    [
        (np.uint16, 4095, {"PixelPaddingValue": 4095}),
        (np.uint16, 3900, {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 3800}),
        (np.int16, -2048, {"PixelPaddingValue": -2048}),
    ],
)
def test_padding_does_not_disturb_the_percentiles(
    dtype: Any, padding: int, attributes: dict[str, int]
) -> None:
    pixels = np.arange(2000, dtype=dtype).reshape(40, 50)
    without = {"sop_class": CR, "WindowCenter": None, "WindowWidth": None}
    plain = read_radiograph(make_radiograph(pixels, **without)).pixels
    padded = np.pad(pixels, 30, constant_values=padding)
    for keyword, value in attributes.items():
        without[keyword] = value
    shown_padded = read_radiograph(make_radiograph(padded, **without)).pixels
    assert (shown_padded[30:-30, 30:-30] == plain).all()


@pytest.mark.parametrize(
    ("center", "width"), [("100", "0"), ("100", "-5"), ("", ""), ("60000", "10"), ("nan", "1")]
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_window_that_shows_nothing_gives_way(center: str, width: str) -> None:
    dataset = make_radiograph(WindowCenter=None, WindowWidth=None)
    expected = read_radiograph(dataset).pixels
    dataset.add_new("WindowCenter", "LO", center)
    dataset.add_new("WindowWidth", "LO", width)
    assert (read_radiograph(dataset).pixels == expected).all()


def test_voi_lut_takes_precedence_over_a_window() -> None:
    item = lut(0, 8, np.arange(255, -1, -1))
    dataset = make_radiograph(row([0, 1, 255]), VOILUTSequence=[item])
    assert shown(dataset) == [255, 254, 0]


def test_a_broken_voi_lut_gives_way_to_the_window() -> None:
    item = lut(0, 12, np.arange(10))
    item.LUTDescriptor = [4096, 0, 12]
    dataset = make_radiograph(row([0, 4095]), VOILUTSequence=[item])
    assert shown(dataset) == [0, 255]


def test_first_mapped_value_of_a_lut_may_be_negative() -> None:
    pixels = row([-3, -2, -1, 0, 5], np.int16)
    dataset = make_radiograph(pixels, sop_class=CR, VOILUTSequence=[lut(-2, 8, np.array([0, 100, 255]))])
    assert shown(dataset) == [0, 0, 100, 255, 255]


@given(
    center=st.floats(-5000, 5000),
    width=st.floats(1, 5000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    slope=st.floats(0.01, 4),
    intercept=st.floats(-1000, 1000),
)
def test_windows_agree_with_pydicom(
    center: float, width: float, function: str, slope: float, intercept: float
) -> None:
    dataset = make_radiograph(sop_class=CR, VOILUTFunction=function)
    dataset.RescaleSlope, dataset.RescaleIntercept = f"{slope:.8f}"[:16], f"{intercept:.6f}"[:16]
    dataset.WindowCenter, dataset.WindowWidth = f"{center:.6f}"[:16], f"{width:.6f}"[:16]
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    with np.errstate(over="ignore"):
        theirs = apply_windowing(dataset.pixel_array * slope + intercept, dataset)
    theirs = (theirs - intercept) / (4095 * slope) * 255
    if np.ptp(theirs) == 0:
        return  # the percentile window takes over
    assert np.abs(read_radiograph(dataset).pixels - theirs).max() <= 0.5001


_WINDOW = ("+Wi", "1")
_LUT = ("+Wl", "1")
_SIGNED = np.linspace(-2000, 2000, 64 * 48).reshape(64, 48).astype(np.int16)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        *[
            (_WINDOW, {"rows": 256, "columns": 256, "bits_stored": bits, "sop_class": sop_class})
            for bits in (8, 10, 12, 15, 16)
            for sop_class in (CR, DX)
        ],
        *[(_WINDOW, {"photometric": p, "sop_class": CR}) for p in ("MONOCHROME1", "MONOCHROME2")],
        (_WINDOW, {"photometric": "MONOCHROME1"}),
        (_WINDOW, {"photometric": "MONOCHROME2", "PresentationLUTShape": "INVERSE"}),
        *[
            (
                _WINDOW,
                {
                    "sop_class": CR,
                    "VOILUTFunction": function,
                    "WindowCenter": "1500",
                    "WindowWidth": "900",
                    "RescaleSlope": "2",
                    "RescaleIntercept": "-100",
                    "RescaleType": "US",
                },
            )
            for function in ("LINEAR", "LINEAR_EXACT", "SIGMOID", None)
        ],
        (
            _WINDOW,
            {
                "pixels": _SIGNED,
                "sop_class": CR,
                "WindowCenter": "-100",
                "WindowWidth": "1000",
                "RescaleSlope": "-1.5",
                "RescaleIntercept": "10",
                "RescaleType": "US",
            },
        ),
        *[(_LUT, {"VOILUTSequence": [lut(0, bits, square(4096, bits))]}) for bits in (8, 10, 12, 16)],
        (_LUT, {"VOILUTSequence": [lut(0, 8, square(4096, 8), packed=True)]}),
        (_LUT, {"VOILUTSequence": [lut(1000, 12, square(2000, 12))]}),
        (_LUT, {"photometric": "MONOCHROME1", "VOILUTSequence": [lut(0, 12, square(4096, 12))]}),
        *[
            (
                _WINDOW,
                {
                    "sop_class": CR,
                    "ModalityLUTSequence": [lut(0, bits, square(4096, bits))],
                    "WindowCenter": str(2 ** (bits - 1)),
                    "WindowWidth": str(2**bits),
                },
            )
            for bits in (8, 12, 16)
        ],
        (_WINDOW, {"transfer_syntax": ImplicitVRLittleEndian}),
        (_WINDOW, {"transfer_syntax": ExplicitVRBigEndian}),
        (_WINDOW, {"rows": 5, "columns": 3, "bits_stored": 8, "transfer_syntax": ExplicitVRBigEndian}),
        (("+Wm",), {"sop_class": SECONDARY_CAPTURE, "rows": 3, "columns": 3}),
    ],
)
def test_agrees_with_dcm2pnm(tmp_path: Path, options: tuple[str, ...], arguments: dict[str, Any]) -> None:
    path = tmp_path / "image.dcm"
    make_radiograph(**arguments).save_as(path, enforce_file_format=True)
    # dcmtk truncates where we round
    assert np.abs(read_radiograph(path).pixels - dcm2pnm(path, *options)).max() <= 1


def test_real_radiographs_agree_with_dcm2pnm(tmp_path: Path) -> None:
    compared = 0
    for path in real_radiographs():
        pixels = read_radiograph(path).pixels
        assert pixels.max() > 200 and pixels.min() < 50, path.name
        source = path
        for tool in ("dcmdjpls", "dcmdrle"):
            decoded = tmp_path / f"{tool}-{path.name}"
            if run_program(tool, source, decoded, package="dcmtk").succeeded:
                source = decoded
        if path.name == "00001933_000.dcm":  # JPEG 2000, which dcmtk does not read
            continue
        if path.name.startswith("nih_google"):  # no window: dcmtk shows the whole range, we the percentiles
            continue
        assert np.abs(pixels - dcm2pnm(source, *_WINDOW)).max() <= 1, path.name
        compared += 1
    assert compared == 5


def dcm2pnm(path: Path, *options: str) -> NDArray[np.int16]:
    """The image as dcmtk shows it: int16, shape (rows, columns), 0..255."""
    output = path.with_suffix(".pgm")
    ended = run_program("dcmj2pnm", "+opb", *options, path, output, package="dcmtk")
    assert ended.succeeded, ended.output
    return np.asarray(Image.open(output)).astype(np.int16)


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
    padding=st.none() | st.integers(0, 255),
    limit=st.none() | st.integers(0, 255),
    window=st.none() | st.tuples(st.integers(-50, 300), st.integers(0, 300)),
)
def test_some_of_the_pixels_never_lead_to_another_picture_than_all(
    values: list[int],
    seed: int,
    padding: int | None,
    limit: int | None,
    window: tuple[int, int] | None,
) -> None:
    """Images of few values, some of them rare, so that what is seen first is often not all there is."""
    rng = np.random.default_rng(seed)
    codes = np.full((24, 20), values[0], np.uint8)
    for value in values[1:]:
        codes[rng.integers(24), rng.integers(20)] = value
    attributes: dict[str, Any] = {"WindowCenter": None, "WindowWidth": None}
    if window is not None:
        attributes |= {"WindowCenter": str(window[0]), "WindowWidth": str(window[1])}
    if padding is not None:
        attributes["PixelPaddingValue"] = padding
        if limit is not None:
            attributes["PixelPaddingRangeLimit"] = limit
    dataset = make_radiograph(codes, bits_stored=8, **attributes)
    try:
        expected = Grayscale.of(dataset, StoredValues.of(codes, 8, signed=False))
    except RadiographError as error:
        with pytest.raises(RadiographError, match=str(error)[:20]):
            Grayscale.of_image(dataset, codes, 8, signed=False)
        return
    found = Grayscale.of_image(dataset, codes, 8, signed=False)
    assert found.window == expected.window
    np.testing.assert_array_equal(found.show(codes), expected.table()[codes])
