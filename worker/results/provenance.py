"""Where a result comes from, as each of ours says it: who, when, by which algorithm, of which patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict
from zoneinfo import ZoneInfo

from highdicom import ContributingEquipment
from pydicom.dataset import Dataset

from litegpt.identity import ModelIdentity
from worker.results import codes
from worker.results.evaluations import outcome
from worker.results.patient_study import CHARACTER_SET, patient_and_study
from worker.results.reading import MANUFACTURER, ImageReading, ReportingDevice


class Equipment(TypedDict):
    """General Equipment and Specific Character Set, as highdicom's objects take them."""

    manufacturer: str
    manufacturer_model_name: str
    device_serial_number: str
    software_versions: str
    specific_character_set: str


@dataclass(frozen=True)
class Provenance:
    """What all results of one analysis share.

    Attributes:
        algorithm: The model that read.
        device: The node.
        created_at: When the reading was done; with a UTC offset.
        time_zone: The hospital's, in which dates and times are written.
        patient_header: The newest header of the study, for the patient and study attributes.

    Raises:
        ValueError: If ``created_at`` has no offset.
    """

    algorithm: ModelIdentity
    device: ReportingDevice
    created_at: datetime
    time_zone: ZoneInfo
    patient_header: Dataset

    def __post_init__(self) -> None:
        if self.created_at.tzinfo is None:
            raise ValueError("the time of creation needs its UTC offset")

    @property
    def equipment(self) -> Equipment:
        """The node's attributes."""
        return Equipment(
            manufacturer=self.device.manufacturer,
            manufacturer_model_name=self.device.model_name,
            device_serial_number=self.device.station_uid,
            software_versions=self.device.software_version,
            specific_character_set=CHARACTER_SET,
        )

    def series_description(self, readings: Sequence[ImageReading]) -> str:
        """What a viewer's series list shows: the outcome, since some show nothing else of a result."""
        prefix = "DEMONSTRATION " if self.algorithm.demonstration else ""
        return f"{prefix}AI: {outcome(readings)}"[:64]

    def write_into(self, result: Dataset) -> None:
        """Patient and study, times, station and algorithm, in place of what highdicom has put there.

        Dates and times are in the hospital's zone, with its offset; highdicom writes the process's own clock.
        """
        result.update(patient_and_study(self.patient_header))
        local = self.created_at.astimezone(self.time_zone)
        date, time = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
        result.InstanceCreationDate = result.SeriesDate = result.ContentDate = date
        result.InstanceCreationTime = result.SeriesTime = result.ContentTime = time
        result.TimezoneOffsetFromUTC = local.strftime("%z")[:5]
        result.StationName = self.device.ae_title
        result.ContributingEquipmentSequence = [self._contribution(local)]

    def _contribution(self, local: datetime) -> ContributingEquipment:
        """The algorithm; must agree with TID 4019 in a report's groups (IHE AIR 6.5.3.1)."""
        item = ContributingEquipment(
            manufacturer=MANUFACTURER,
            purpose_of_reference=codes.PROCESSING_EQUIPMENT,
            manufacturer_model_name=self.algorithm.id,
            software_versions=self.algorithm.version,
            contribution_datetime=local.strftime("%Y%m%d%H%M%S%z")[:19],
            contribution_description="Reading of chest radiographs by an algorithm",
        )
        item.DeviceUID = self.device.algorithm_uid(self.algorithm)
        return item
