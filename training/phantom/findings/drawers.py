"""Every finding's drawer, in the order in which they are drawn."""

from __future__ import annotations

from typing import Final

from training.phantom.findings.bones import draw_clavicle_fracture, draw_rib_fracture
from training.phantom.findings.hollows import draw_emphysema, draw_lung_cavity, draw_lung_cyst
from training.phantom.findings.mediastinum import (
    draw_aortic_enlargement,
    draw_cardiomegaly,
    draw_enlarged_pulmonary_artery,
    draw_mediastinal_shift,
)
from training.phantom.findings.networks import (
    draw_atelectasis,
    draw_interstitial_disease,
    draw_pulmonary_fibrosis,
)
from training.phantom.findings.opacities import (
    draw_consolidation,
    draw_edema,
    draw_infiltration,
    draw_lung_opacity,
)
from training.phantom.findings.pleura import draw_pleural_effusion, draw_pleural_thickening, draw_pneumothorax
from training.phantom.findings.scene import Drawer
from training.phantom.findings.solids import draw_calcification, draw_nodule_or_mass, draw_other_lesion

DRAWERS: Final[dict[str, Drawer]] = {
    "Cardiomegaly": draw_cardiomegaly,
    "Aortic enlargement": draw_aortic_enlargement,
    "Enlarged PA": draw_enlarged_pulmonary_artery,
    "Mediastinal shift": draw_mediastinal_shift,
    "Clavicle fracture": draw_clavicle_fracture,
    "Pleural effusion": draw_pleural_effusion,
    "Pneumothorax": draw_pneumothorax,
    "Pleural thickening": draw_pleural_thickening,
    "ILD": draw_interstitial_disease,
    "Edema": draw_edema,
    "Lung Opacity": draw_lung_opacity,
    "Emphysema": draw_emphysema,
    "Consolidation": draw_consolidation,
    "Pulmonary fibrosis": draw_pulmonary_fibrosis,
    "Infiltration": draw_infiltration,
    "Other lesion": draw_other_lesion,
    "Lung cyst": draw_lung_cyst,
    "Lung cavity": draw_lung_cavity,
    "Nodule/Mass": draw_nodule_or_mass,
    "Atelectasis": draw_atelectasis,
    "Calcification": draw_calcification,
    "Rib fracture": draw_rib_fracture,
}
"""In drawing order: what is large or bound to its place first, what finds room anywhere last."""
