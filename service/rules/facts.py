"""What rules may ask of an image. Taken from its header when it arrives, and kept with it in the records."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from pydicom import Dataset

from service.header import age_years, storable, text

_DESCRIPTIONS: Final = ("StudyDescription", "SeriesDescription", "ProtocolName")


@dataclass(frozen=True, slots=True)
class Facts:
    """One image, as far as rules see it; what the header does not say is empty.

    Attributes:
        calling_ae_title, called_ae_title: Of the association that brought it; empty for an imported file.
        station_name: Station Name (0008,1010).
        modality: Modality (0008,0060).
        body_part: Body Part Examined (0018,0015).
        descriptions: Those of the study and the series, and the protocol's name, where there are any.
        age_years: The patient's age at the study.
    """

    calling_ae_title: str = ""
    called_ae_title: str = ""
    station_name: str = ""
    modality: str = ""
    body_part: str = ""
    descriptions: tuple[str, ...] = ()
    age_years: float | None = None

    @classmethod
    def of(cls, header: Dataset, calling_ae_title: str, called_ae_title: str) -> Facts:
        """Reads a header; nothing in it can raise."""
        descriptions = (storable(text(header, keyword)) for keyword in _DESCRIPTIONS)
        return cls(
            calling_ae_title=calling_ae_title,
            called_ae_title=called_ae_title,
            station_name=storable(text(header, "StationName")),
            modality=storable(text(header, "Modality")),
            body_part=storable(text(header, "BodyPartExamined")),
            descriptions=tuple(dict.fromkeys(filter(None, descriptions))),
            age_years=age_years(header),
        )

    @classmethod
    def read(cls, kept: str, calling_ae_title: str) -> Facts:
        """From what the records keep; of an image that came before they kept it, who sent it is known."""
        if not kept:
            return cls(calling_ae_title=calling_ae_title)
        values = json.loads(kept)
        return cls(calling_ae_title, **(values | {"descriptions": tuple(values["descriptions"])}))

    def kept(self) -> str:
        """As the records keep it, beside who sent it."""
        values = asdict(self)
        del values["calling_ae_title"]
        return json.dumps(values, ensure_ascii=False)
