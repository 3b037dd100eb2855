"""Decoding images where a damaged one does no harm: in processes beside the one that holds the model."""

from __future__ import annotations

from pathlib import Path

from litegpt.errors import RadiographError
from litegpt.isolation import Broken, Isolation, Limits
from litegpt.radiograph import Radiograph, read_radiograph
from service.settings import Settings


def decoding(settings: Settings) -> Isolation:
    """The processes that the settings ask for; none is started yet."""
    limits = Limits(settings.decoding_timeout_seconds, settings.decoding_memory_bytes)
    return Isolation(settings.decoding_processes, limits)


def decoded(isolation: Isolation, path: Path, maximum_pixels: int) -> Radiograph:
    """The radiograph of a file.

    Raises:
        RadiographError: If it will never give one, or its decoder does not survive it.
        OSError: If the file itself cannot be read, which may pass.
    """
    try:
        return isolation.call(read_radiograph, path, maximum_pixels=maximum_pixels)
    except MemoryError as error:
        raise RadiographError("the pixel data cannot be decoded: the decoder has no memory for it") from error
    except Broken as error:
        raise RadiographError(f"the pixel data cannot be decoded: the decoder {error}") from error
