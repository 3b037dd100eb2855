"""The coded concepts of our results: a finding and a site for every label of the vocabulary.

The codes were collected from DICOM PS3.16 (as pydicom carries it), from public implementation guides and from
several independent public files; none was made up. Three labels have no code that could be verified: they are
coded in a private scheme of our own with the label as meaning. ``No finding`` has no finding code on purpose:
"Normal" would claim more than an algorithm that found nothing can know; see ``findings_summary``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydicom.sr.coding import Code

from litegpt.vocabulary import NO_FINDING

PRIVATE_SCHEME: Final = "99LITEGPT"
PRIVATE_SCHEME_NAME: Final = "LiteGPT labels without a code in a public terminology"

ABNORMAL_STRUCTURE: Final = Code("49755003", "SCT", "Morphologically Abnormal Structure")
BOUNDED_BY: Final = Code("75958009", "SCT", "Bounded by")
CERTAINTY: Final = Code("111012", "DCM", "Certainty of Finding")
COMMENT: Final = Code("121106", "DCM", "Comment")
DEVICE: Final = Code("121007", "DCM", "Device")
DIAGNOSTIC_IMAGING_REPORT: Final = Code("18748-4", "LN", "Diagnostic Imaging Report")
ENGLISH: Final = Code("en-US", "RFC5646", "English (United States)")
FINDING: Final = Code("121071", "DCM", "Finding")
FINDINGS_SUMMARY: Final = Code("111017", "DCM", "CAD Processing and Findings Summary")
LEFT: Final = Code("7771000", "SCT", "Left")
IMAGING_MEASUREMENT_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
IMAGING_MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
PERCENT: Final = Code("%", "UCUM", "Percent")
PLAIN_CHEST_RADIOGRAPH: Final = Code("399208008", "SCT", "Plain chest X-ray")
PROCEDURE_REPORTED: Final = Code("121058", "DCM", "Procedure reported")
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
"""The container of TID 1500 for statements that belong to no measurement."""
RIGHT: Final = Code("24028007", "SCT", "Right")
SOURCE_IMAGE: Final = Code("121322", "DCM", "Source Image for Image Processing Operation")
SOURCE: Final = Code("260753009", "SCT", "Source")

_CLAVICLE: Final = Code("51299004", "SCT", "Clavicle")
_HEART: Final = Code("80891009", "SCT", "Heart")
_LUNG: Final = Code("39607008", "SCT", "Lung")
_MEDIASTINUM: Final = Code("72410000", "SCT", "Mediastinum")
_PLEURA: Final = Code("3120008", "SCT", "Pleura")
_RIB: Final = Code("113197003", "SCT", "Rib")
_THORAX: Final = Code("51185008", "SCT", "Thoracic structure")
_PAIRED: Final = (_CLAVICLE, _LUNG, _PLEURA, _RIB)


@dataclass(frozen=True, slots=True)
class LabelCodes:
    """What a label is called in a report.

    Attributes:
        finding: Code of the finding or diagnosis; ``None`` for "No finding".
        site: Code of the anatomic structure.
    """

    finding: Code | None
    site: Code

    @property
    def is_paired(self) -> bool:
        """Whether the patient has two such structures, a left and a right one."""
        return self.site in _PAIRED


def _private(value: str, meaning: str) -> Code:
    return Code(value, PRIVATE_SCHEME, meaning)


LABEL_CODES: Final = MappingProxyType(
    {
        "Aortic enlargement": LabelCodes(
            Code("260376009", "SCT", "Enlarged"), Code("15825003", "SCT", "Aorta")
        ),
        "Atelectasis": LabelCodes(Code("46621007", "SCT", "Atelectasis"), _LUNG),
        "Calcification": LabelCodes(Code("112063", "DCM", "Abnormal calcifications"), _LUNG),
        "Cardiomegaly": LabelCodes(Code("8186001", "SCT", "Cardiomegaly"), _HEART),
        "Clavicle fracture": LabelCodes(Code("58150001", "SCT", "Fracture of clavicle"), _CLAVICLE),
        "Consolidation": LabelCodes(Code("95436008", "SCT", "Lung consolidation"), _LUNG),
        "Edema": LabelCodes(Code("19242006", "SCT", "Pulmonary edema"), _LUNG),
        "Emphysema": LabelCodes(Code("87433001", "SCT", "Pulmonary emphysema"), _LUNG),
        "Enlarged PA": LabelCodes(
            Code("260376009", "SCT", "Enlarged"), Code("81040000", "SCT", "Pulmonary artery")
        ),
        "ILD": LabelCodes(Code("233703007", "SCT", "Interstitial lung disease"), _LUNG),
        "Infiltration": LabelCodes(Code("112121", "DCM", "Infiltrate"), _LUNG),
        "Lung Opacity": LabelCodes(Code("112001", "DCM", "Opacity"), _LUNG),
        "Lung cavity": LabelCodes(_private("LUNG-CAVITY", "Lung cavity"), _LUNG),
        "Lung cyst": LabelCodes(Code("367643001", "SCT", "Cyst"), _LUNG),
        "Mediastinal shift": LabelCodes(_private("MEDIASTIN-SHIFT", "Mediastinal shift"), _MEDIASTINUM),
        "Nodule/Mass": LabelCodes(Code("4147007", "SCT", "Mass"), _LUNG),
        "Pleural effusion": LabelCodes(Code("60046008", "SCT", "Pleural effusion"), _PLEURA),
        "Pleural thickening": LabelCodes(_private("PLEURAL-THICK", "Pleural thickening"), _PLEURA),
        "Pneumothorax": LabelCodes(Code("36118008", "SCT", "Pneumothorax"), _PLEURA),
        "Pulmonary fibrosis": LabelCodes(Code("51615001", "SCT", "Fibrosis of lung"), _LUNG),
        "Rib fracture": LabelCodes(Code("33737001", "SCT", "Fracture of rib"), _RIB),
        "Other lesion": LabelCodes(Code("52988006", "SCT", "Lesion"), _LUNG),
        "COPD": LabelCodes(Code("13645005", "SCT", "Chronic obstructive lung disease"), _LUNG),
        "Lung tumor": LabelCodes(Code("126713003", "SCT", "Neoplasm of lung"), _LUNG),
        "Pneumonia": LabelCodes(Code("233604007", "SCT", "Pneumonia"), _LUNG),
        "Tuberculosis": LabelCodes(Code("154283005", "SCT", "Pulmonary tuberculosis"), _LUNG),
        "Other disease": LabelCodes(Code("64572001", "SCT", "Disease"), _THORAX),
        NO_FINDING: LabelCodes(None, _THORAX),
    }
)


def label_codes(label: str) -> LabelCodes:
    """The codes of a label; one outside the vocabulary gets a private code made of its own words."""
    known = LABEL_CODES.get(label)
    if known is not None:
        return known
    value = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in label.upper())
    return LabelCodes(_private(value[:16], label[:64]), _THORAX)


def findings_summary(*, read: int, failed: int, findings: bool) -> Code:
    """What became of the whole reading, from CID 6047 "CAD Analysis Types and Findings" as TID 4000 uses it.

    Args:
        read: Images that were read.
        failed: Images that should have been read and could not.
        findings: Whether anything was found in those that were read.
    """
    if not read:
        return Code("111245", "DCM", "No algorithms succeeded; without findings")
    if failed and findings:
        return Code("111244", "DCM", "Not all algorithms succeeded; with findings")
    if failed:
        return Code("111243", "DCM", "Not all algorithms succeeded; without findings")
    if findings:
        return Code("111242", "DCM", "All algorithms succeeded; with findings")
    return Code("111241", "DCM", "All algorithms succeeded; without findings")
