"""Where a result comes from, as each of ours says it: series, times, and the algorithm as equipment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from highdicom import ContributingEquipment
from pydicom.dataset import Dataset

from litegpt.identity import ModelIdentity
from worker.results import codes
from worker.results.evaluations import outcome
from worker.results.reading import MANUFACTURER, ImageReading, ReportingDevice


def series_description(readings: Sequence[ImageReading], algorithm: ModelIdentity) -> str:
    """What a viewer's series list shows: the outcome, since some show nothing else of a result."""
    prefix = "DEMONSTRATION " if algorithm.demonstration else ""
    return f"{prefix}AI: {outcome(readings)}"[:64]


def write_times(result: Dataset, local: datetime) -> None:
    """Dates and times in the hospital's zone, with its offset; highdicom writes the process's own clock."""
    date, time = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    result.InstanceCreationDate = result.SeriesDate = result.ContentDate = date
    result.InstanceCreationTime = result.SeriesTime = result.ContentTime = time
    result.TimezoneOffsetFromUTC = local.strftime("%z")[:5]


def contribution(algorithm: ModelIdentity, device: ReportingDevice, local: datetime) -> ContributingEquipment:
    """The algorithm as contributing equipment; must agree with TID 4019 in the groups (IHE AIR 6.5.3.1)."""
    item = ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=codes.PROCESSING_EQUIPMENT,
        manufacturer_model_name=algorithm.id,
        software_versions=algorithm.version,
        contribution_datetime=local.strftime("%Y%m%d%H%M%S%z")[:19],
        contribution_description="Reading of chest radiographs by an algorithm",
    )
    item.DeviceUID = device.algorithm_uid(algorithm)
    return item
