"""The words LiteGPT may say: VinDr-CXR's 22 local findings and 6 diagnoses.

The spelling is that of the VinDr-CXR 1.0.0 annotation files (doi 10.13026/3akn-b287), in their column order,
with one choice of ours: the train file writes ``Other diseases`` and the test file ``Other disease``; we say
``Other disease``.
"""

from typing import Final

LOCAL_LABELS: Final = (
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "Other lesion",
)
"""Findings that have a place in the image; the answers list them in this order."""

NO_FINDING: Final = "No finding"
"""The diagnosis of an image in which nothing was found."""

DIAGNOSES: Final = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other disease", NO_FINDING)
"""Diagnoses of the whole image, without a place in it ("global labels" in VinDr-CXR)."""

LABELS: Final = LOCAL_LABELS + DIAGNOSES
