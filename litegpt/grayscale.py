"""The grayscale transformation pipeline: stored pixel values to 8-bit display values (PS3.3 C.11, PS3.4 N.2).

Stored values have at most 16 bits, so the whole pipeline is a function of at most 65536 codes. It is
computed once on a table of all codes, in floating point, and the image is looked up in that table: exact, and
no copy of a large image in floating point. Reading the pixels is ``litegpt.radiograph``'s affair.

``pydicom.pixels.apply_modality_lut``, ``apply_voi`` and ``apply_windowing`` state the same formulas (a test
compares with them), but real files keep us from calling them: the LUT functions wrap indices in the type of
the LUT's output (an 8-bit VOI LUT over 12-bit values), refuse 10 to 15 bit modality LUTs and misread 8-bit
LUTs packed two to a word; windowing returns values in a range that it does not tell, and overflows in
``SIGMOID``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from litegpt.attributes import integer, numbers, sequence_item, text
from litegpt.errors import RadiographError

logger = logging.getLogger(__name__)

PERCENTILES: Final = (0.5, 99.5)
"""Of the pixels' values, the ends of the window where the image brings none."""

_COUNTED_AT_ONCE: Final = 2**16
"""Pixels; bincount copies what it counts as 64-bit integers, which should stay in the cache."""

_SHOWN_AT_ONCE: Final = 2**17
"""Pixels; ``take`` makes 64-bit integers of them, too."""

_EVERY: Final = 8
"""Of the rows and columns, those that are looked at first."""

_Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StoredValues:
    """How often each stored value occurs in one image.

    Attributes:
        values: Each code's meaning as a stored value, shape (codes,): two's complement where signed.
        counts: Pixels per code, shape (codes,), padding left out.
    """

    values: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.unsignedinteger[Any]], bits_stored: int, signed: bool) -> StoredValues:
        """Counts the codes of an image, shape (rows, columns), each below 2 ** ``bits_stored``."""
        values = np.arange(2**bits_stored, dtype=np.int64)  # (codes,)
        if signed:
            values[2 ** (bits_stored - 1) :] -= 2**bits_stored
        counts = np.zeros(2**bits_stored, dtype=np.int64)  # (codes,)
        pixels = codes.ravel()  # (rows * columns,)
        for start in range(0, pixels.size, _COUNTED_AT_ONCE):
            counts += np.bincount(pixels[start : start + _COUNTED_AT_ONCE], minlength=len(counts))
        return cls(values, counts)

    def without_padding(self, dataset: Dataset) -> StoredValues:
        """Leaves out Pixel Padding Value, or the range up to its Range Limit (PS3.3 C.7.5.1.1.2)."""
        counts = self.counts_without_padding(dataset)
        return StoredValues(self.values, counts) if counts.any() else self

    def counts_without_padding(self, dataset: Dataset) -> NDArray[np.int64]:
        """The counts, 0 for padding: of an image that is nothing else, for all."""
        first = _padding_value(dataset, "PixelPaddingValue", self.values)
        if first is None:
            return self.counts
        last = _padding_value(dataset, "PixelPaddingRangeLimit", self.values)
        low, high = sorted((first, first if last is None else last))
        padding = (self.values >= low) & (self.values <= high)  # (codes,)
        return np.where(padding, 0, self.counts)


@dataclass(frozen=True, slots=True)
class Window:
    """A window over the modality LUT's output (PS3.3 C.11.2.1.2).

    Attributes:
        center, width: As the function takes them.
        function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
    """

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True, eq=False)
class Grayscale:
    """How an image's stored values are displayed: what was used of its header, or chosen in its place.

    Attributes:
        slope, intercept: Of the modality LUT, where ``window`` tells the rest.
        window: None where a LUT took part, which ``shown`` alone tells.
        values: Stored value of each code, shape (codes,).
        shown: 0..1 of each code, shape (codes,), before the polarity.
        inverse: Whether 0 is shown brightest.
    """

    slope: float
    intercept: float
    window: Window | None
    values: NDArray[np.int64]
    shown: NDArray[np.float64]
    inverse: bool

    @classmethod
    def of(cls, dataset: Dataset, stored: StoredValues) -> Grayscale:
        """Modality LUT, VOI LUT, then the presentation's polarity.

        Args:
            dataset: The image's attributes.
            stored: The image's stored values.

        Raises:
            RadiographError: If all pixels have one value, or the modality LUT cannot be used.
        """
        stored = stored.without_padding(dataset)
        if np.count_nonzero(stored.counts) < 2:
            raise RadiographError("all pixels of the image have the same value: there is nothing to read")
        modality = _modality_values(dataset, stored.values)  # (codes,)
        shown = next(_voi_transforms(dataset, modality, stored.counts))
        return cls._made(dataset, stored.values, shown)

    @classmethod
    def of_image(
        cls,
        dataset: Dataset,
        codes: NDArray[np.unsignedinteger[Any]],
        bits_stored: int,
        signed: bool,
    ) -> Grayscale:
        """The same of an image's codes, shape (rows, columns); all of them are counted only where some of
        them do not show that what the header says can be used.

        Raises:
            RadiographError: As ``of``.
        """
        some = StoredValues.of(codes[::_EVERY, ::_EVERY], bits_stored, signed)
        return cls._of_header(dataset, some) or cls.of(dataset, StoredValues.of(codes, bits_stored, signed))

    @classmethod
    def _of_header(cls, dataset: Dataset, some: StoredValues) -> Grayscale | None:
        """By the header's own LUT or window, unless there is any doubt about it."""
        occurring = some.counts_without_padding(dataset) > 0  # (codes,)
        if np.count_nonzero(occurring) < 2:
            return None
        modality = _modality_values(dataset, some.values)  # (codes,)
        for transform in (_voi_lut, _window):
            try:
                shown = transform(dataset, modality)
            except ValueError:
                return None
            if shown is not None:
                differ = np.ptp(shown[0][occurring]) > 0
                return cls._made(dataset, some.values, shown) if differ else None
        return None

    @classmethod
    def _made(cls, dataset: Dataset, values: NDArray[np.int64], by: _Shown) -> Grayscale:
        shown, window = by
        if sequence_item(dataset, "ModalityLUTSequence") is not None:
            window = None  # it is meant for what that gives
        slope, intercept = _rescale(dataset)
        return cls(slope, intercept, window, values, shown, _is_inverse(dataset))

    def table(self) -> NDArray[np.uint8]:
        """The display value of every code, shape (codes,), 255 = brightest."""
        # After the VOI transform, never before: the window is meant for the values as stored (C.7.6.3.1.2)
        shown = 1.0 - self.shown if self.inverse else self.shown  # (codes,)
        return np.rint(shown * 255.0).astype(np.uint8)

    def show(self, codes: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint8]:
        """The display values of an image's codes, shape (rows, columns)."""
        table = self.table()
        shown = np.empty(codes.shape, np.uint8)  # (rows, columns)
        rows = max(1, _SHOWN_AT_ONCE // codes.shape[1])
        for start in range(0, codes.shape[0], rows):
            some = slice(start, start + rows)
            # Every code is in the table: "clip" never clips, but asks no more.
            np.take(table, codes[some], mode="clip", out=shown[some])
        return shown


_Shown = tuple[_Table, Window | None]
"""0..1 of each code, and the window that gives it, if one does."""


def _modality_values(dataset: Dataset, values: NDArray[np.int64]) -> _Table:
    """Modality LUT Sequence, or Rescale Slope and Intercept (PS3.3 C.11.1)."""
    item = sequence_item(dataset, "ModalityLUTSequence")
    if item is not None:
        try:
            output, _ = _look_up(values.astype(np.float64), item, dataset)
        except ValueError as error:
            raise RadiographError(f"the modality LUT cannot be used: {error}") from error
        return output
    slope, intercept = _rescale(dataset)
    return values.astype(np.float64) * slope + intercept


def _rescale(dataset: Dataset) -> tuple[float, float]:
    slope = (numbers(dataset, "RescaleSlope") or [1.0])[0] or 1.0
    return slope, (numbers(dataset, "RescaleIntercept") or [0.0])[0]


def _voi_transforms(dataset: Dataset, modality: _Table, counts: NDArray[np.int64]) -> Iterator[_Shown]:
    """The VOI transforms that can be used, best first: first LUT, first window, percentile window.

    A LUT or window that the standard forbids, or that shows all pixels alike, would hide the whole image.
    """
    occurring = counts > 0  # (codes,)
    for name, transform in (("VOI LUT", _voi_lut), ("window", _window)):
        try:
            shown = transform(dataset, modality)
        except ValueError as error:
            logger.warning("the image's %s is not used: %s", name, error)
            continue
        if shown is None:
            continue
        if np.ptp(shown[0][occurring]) > 0:
            yield shown
        else:
            logger.warning("the image's %s is not used: it shows all pixels alike", name)
    yield _percentile_window(modality, counts)


def _voi_lut(dataset: Dataset, modality: _Table) -> _Shown | None:
    """The first item of the VOI LUT Sequence (PS3.3 C.11.2.1.1), scaled to 0..1; None where there is none."""
    item = sequence_item(dataset, "VOILUTSequence")
    if item is None:
        return None
    output, highest = _look_up(modality, item, dataset)
    return output / highest, None


def _window(dataset: Dataset, modality: _Table) -> _Shown | None:
    """The first window (PS3.3 C.11.2.1.2 and C.11.2.1.3), scaled to 0..1; None where there is none.

    Raises:
        ValueError: If the width is one that the window's function forbids.
    """
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if not centers or not widths:
        return None
    center, width = centers[0], widths[0]
    function = text(dataset, "VOILUTFunction").upper()
    if function not in ("LINEAR_EXACT", "SIGMOID"):
        function = "LINEAR"  # is the default
    window = Window(center, width, function)
    if function == "LINEAR":
        if width < 1:
            raise ValueError(f"its width is {width:g}, less than 1")
        center, width = center - 0.5, width - 1.0
        if width == 0:
            return np.where(modality > center, 1.0, 0.0), window
    elif width <= 0:
        raise ValueError(f"its width is {width:g}, not above 0")
    position = (modality - center) / width  # -0.5 .. 0.5 within the window
    if function == "SIGMOID":
        exponent = np.clip(-4.0 * position, -700.0, 700.0)  # beyond, exp overflows
        return np.asarray(1.0 / (1.0 + np.exp(exponent)), dtype=np.float64), window
    return np.clip(position + 0.5, 0.0, 1.0), window


def _percentile_window(modality: _Table, counts: NDArray[np.int64]) -> _Shown:
    """A linear window over all but the darkest and brightest few of the pixels, scaled to 0..1."""
    order = np.argsort(modality, kind="stable")
    cumulative = np.cumsum(counts[order])  # (codes,)
    ranks = np.array(PERCENTILES) / 100.0 * cumulative[-1]
    low, high = modality[order[np.searchsorted(cumulative, ranks)]]
    if low == high:  # fewer than one pixel in 200 differs from the rest: show those
        low, high = modality[counts > 0].min(), modality[counts > 0].max()
    if low == high:
        raise RadiographError("the modality LUT gives all pixels the same value: there is nothing to read")
    window = Window(float(low + high) / 2, float(high - low), "LINEAR_EXACT")
    return np.clip((modality - low) / (high - low), 0.0, 1.0), window


def _is_inverse(dataset: Dataset) -> bool:
    """Whether the lowest value is shown brightest.

    In an image Presentation LUT Shape INVERSE goes with MONOCHROME1 and says the same thing again
    (PS3.3 C.8.11.3.1.2): together they invert once.
    """
    monochrome1 = text(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    return monochrome1 or text(dataset, "PresentationLUTShape") == "INVERSE"


def _look_up(values: _Table, item: Dataset, dataset: Dataset) -> tuple[_Table, float]:
    """Maps values through a LUT of a Modality or VOI LUT Sequence item (PS3.3 C.11.1.1, C.11.2.1.1).

    Returns:
        The LUT's output for each value, and the highest output the LUT can have.

    Raises:
        ValueError: If the LUT contradicts itself.
    """
    descriptor = numbers(item, "LUTDescriptor")
    if len(descriptor) != 3:
        raise ValueError("its LUT Descriptor has not three values")
    entries, first, bits = (int(number) for number in descriptor)
    entries = entries or 65536
    if first > 32767 and values.min() < 0:
        first -= 65536  # written as US where SS was meant
    if not 1 <= bits <= 16:
        raise ValueError(f"it has {bits} bits an entry")
    table = _lut_data(item, dataset, entries, bits)  # (entries,)
    index = np.clip(np.rint(values) - first, 0, entries - 1).astype(np.int64)
    # Some descriptors claim fewer bits than the entries have; the entries are right
    highest = max(2**bits - 1, 2 ** int(table.max()).bit_length() - 1)
    return table[index].astype(np.float64), float(highest)


def _lut_data(item: Dataset, dataset: Dataset, entries: int, bits: int) -> NDArray[np.uint16]:
    """LUT Data, shape (entries,), whether it is US or OW, and 8-bit entries one or two to a word."""
    data: Any = item.get("LUTData")
    if data is None:
        raise ValueError("it has no LUT Data")
    if isinstance(data, bytes):
        words = np.frombuffer(data[: len(data) // 2 * 2], ">u2" if _is_big_endian(dataset) else "<u2")
    else:
        words = np.atleast_1d(np.asarray(data)).astype("<u2")
    if bits <= 8 and len(words) == (entries + 1) // 2 and entries > 1:
        return np.frombuffer(words.astype("<u2").tobytes(), np.uint8)[:entries].astype(np.uint16)
    if len(words) < entries:
        raise ValueError(f"it holds {len(words)} entries where its descriptor says {entries}")
    return words[:entries].astype(np.uint16)


def _padding_value(dataset: Dataset, keyword: str, values: NDArray[np.int64]) -> int | None:
    value = integer(dataset, keyword)
    if value is not None and value > values.max() and values.min() < 0:
        return value - 65536  # written as US where SS was meant
    return value


def _is_big_endian(dataset: Dataset) -> bool:
    file_meta = getattr(dataset, "file_meta", None)
    transfer_syntax = file_meta.get("TransferSyntaxUID") if file_meta is not None else None
    return transfer_syntax is not None and not transfer_syntax.is_little_endian
