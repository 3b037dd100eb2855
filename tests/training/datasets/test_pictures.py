"""Image files of datasets as they are displayed: DICOM, PNG, JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from litegpt.errors import RadiographError
from litegpt.phantoms import phantom_files
from litegpt.radiograph import read_radiograph
from tests.images import CR, make_radiograph
from training.datasets.pictures import read_image


@pytest.fixture
def gray() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)


def test_eight_bits_are_shown_as_they_are(tmp_path: Path, gray: np.ndarray) -> None:
    for mode in ("L", "RGB", "RGBA", "LA"):
        file = tmp_path / f"{mode}.png"
        Image.fromarray(gray).convert(mode).save(file)
        np.testing.assert_array_equal(read_image(file).pixels, gray)


def test_a_palette_is_looked_up(tmp_path: Path, gray: np.ndarray) -> None:
    picture = Image.fromarray(255 - gray, "P")
    picture.putpalette([255 - value // 3 for value in range(3 * 256)])  # entry i is the gray 255 - i
    picture.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_image(tmp_path / "p.png").pixels, gray)


def test_jpeg_is_what_pillow_decodes(tmp_path: Path, gray: np.ndarray) -> None:
    file = tmp_path / "a.JPG"
    Image.fromarray(gray).save(file, "JPEG")
    np.testing.assert_array_equal(read_image(file).pixels, np.asarray(Image.open(file)))


def test_sixteen_bits_are_shown_as_dicom_without_a_window(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(300, 4096, (40, 30), dtype=np.uint16)
    Image.fromarray(stored).save(tmp_path / "a.png")
    dataset = make_radiograph(stored, bits_stored=16, sop_class=CR, WindowCenter=None, WindowWidth=None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, read_radiograph(dataset).pixels)


def test_any_other_name_is_dicom(tmp_path: Path) -> None:
    file = phantom_files()[0]
    copy = tmp_path / "image.dicom"
    copy.write_bytes(file.read_bytes())
    np.testing.assert_array_equal(read_image(copy).pixels, read_radiograph(file).pixels)


def test_what_is_no_picture_is_refused(tmp_path: Path, gray: np.ndarray) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(gray).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:200])
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(tmp_path / "flat.png")
    Image.fromarray(np.full((9, 9), 7, np.uint16)).save(tmp_path / "flat16.png")
    for name, words in (
        ("text.png", "neither PNG nor JPEG"),
        ("cut.png", "cannot be decoded"),
        ("flat.png", "the same value"),
        ("flat16.png", "the same value"),
    ):
        with pytest.raises(RadiographError, match=words):
            read_image(tmp_path / name)
    with pytest.raises(RadiographError, match="40 × 30 pixels are more than the 1000 allowed"):
        read_image(tmp_path / "whole.png", maximum_pixels=1000)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "nowhere.png")
