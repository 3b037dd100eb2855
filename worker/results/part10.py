"""Results as files."""

from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset


def encode(result: Dataset) -> bytes:
    """A result as a DICOM file (PS3.10), the same bytes for the same result."""
    buffer = BytesIO()
    result.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
