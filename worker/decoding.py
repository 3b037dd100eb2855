"""Decoding images where a damaged one does no harm: in processes beside the one that holds the model.

What comes back is the squares that the model sees, some 50 kB of an image; the whole picture stays there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from litegpt.cores import usable_cores
from litegpt.errors import RadiographError
from litegpt.isolation import Broken, Isolation, Limits
from litegpt.squares import SquashedImage, read_squares
from service.archive import Archive
from service.metrics.processes import AnalysisMetrics
from service.records.claims import ClaimedImage
from service.settings import Settings


class Loading:
    """Images that are being decoded."""

    def __init__(self, begun: Mapping[int, Future[SquashedImage]]) -> None:
        """Args:
        begun: By the instance's id.
        """
        self._begun = begun

    def __call__(self, image: ClaimedImage) -> SquashedImage:
        """Waits for one of them, or raises what ``decoded`` raised."""
        return self._begun[image.instance_id].result()

    def wait(self) -> None:
        """Waits for all of them, whatever comes of them."""
        wait(self._begun.values())


class Decoding:
    """The images of one worker. Processes are started as there is work for them."""

    def __init__(self, settings: Settings, archive: Archive, metrics: AnalysisMetrics) -> None:
        """Args:
        settings: How many at once, and within which limits.
        archive: Where the images are.
        metrics: Told how long each takes.
        """
        self._archive, self._metrics = archive, metrics
        self._maximum_pixels = settings.maximum_pixels
        processes = settings.decoding_processes
        if processes is None:
            processes = usable_cores()
        limits = Limits(settings.decoding_timeout_seconds, settings.decoding_memory_bytes)
        self._isolation = Isolation(processes, limits)
        # A thread waits for each process; without any, the threads decode.
        self._waiting = ThreadPoolExecutor(processes or usable_cores(), thread_name_prefix="decoding")

    def begin(self, images: Sequence[ClaimedImage], sizes: Sequence[int]) -> Loading:
        """Begins to decode images, after those that were begun before.

        Args:
            images: Which.
            sizes: Sides of the squares, in pixels.
        """
        return Loading(
            {image.instance_id: self._waiting.submit(self._decode, image, sizes) for image in images}
        )

    def _decode(self, image: ClaimedImage, sizes: Sequence[int]) -> SquashedImage:
        path = self._archive.absolute(image.path)
        with self._metrics.phase(AnalysisMetrics.LOAD):
            return decoded(self._isolation, path, sizes, self._maximum_pixels)


def decoded(isolation: Isolation, path: Path, sizes: Sequence[int], maximum_pixels: int) -> SquashedImage:
    """The squares of a file.

    Raises:
        RadiographError: If it will never give them, or its decoder does not survive it.
        OSError: If the file itself cannot be read, which may pass.
    """
    try:
        return isolation.call(read_squares, path, sizes, maximum_pixels=maximum_pixels)
    except MemoryError as error:
        raise RadiographError("the pixel data cannot be decoded: the decoder has no memory for it") from error
    except Broken as error:
        raise RadiographError(f"the pixel data cannot be decoded: the decoder {error}") from error
