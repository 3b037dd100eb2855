"""The Grayscale Softcopy Presentation State of one image: boxes and labels for a viewer to lay over it.

The image is to be displayed as the algorithm saw it, with the header's own window or LUT where that could be
used. The annotations are on one layer, named for the algorithm. Graphics in PIXEL units share their
coordinates with our boxes: pixel edges, (column, row) (PS3.3 C.10.5.1.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from highdicom import (
    VOILUT,
    ModalityLUTTransformation,
    PresentationLUTShapeValues,
    PresentationLUTTransformation,
    RescaleTypeValues,
)
from highdicom.color import CIELabColor
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextJustificationValues,
    TextObject,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, GrayscaleSoftcopyPresentationStateStorage

from litegpt.grayscale import Grayscale, Window
from litegpt.identity import ModelIdentity
from litegpt.overlay import DEMONSTRATION_BANNERS
from litegpt.radiograph import Radiograph
from worker.results.evaluations import NO_DIAGNOSIS, caption, statement
from worker.results.identity import ResultIdentity
from worker.results.measurement_groups import outline
from worker.results.provenance import Provenance
from worker.results.reading import ImageReading
from worker.results.source_image import source_image

TEMPLATE_VERSION: Final = "2"
"""Part of a result's identity: counted up whenever the same reading is laid over in another way."""

SOP_CLASS_UID: Final = GrayscaleSoftcopyPresentationStateStorage

_YELLOW: Final = CIELabColor(97.1, -21.5, 94.5)
_HIGHEST: Final = 65535
_LINE_HEIGHT: Final = 0.03
"""Of a line of text, as a share of the image's rows."""


def presentation_state(
    reading: ImageReading,
    radiograph: Radiograph,
    *,
    instance_number: int,
    identity: ResultIdentity,
    provenance: Provenance,
) -> Dataset:
    """Says how to display an image, with what was found in it.

    Args:
        reading: The image, which was read.
        radiograph: Its pixels as displayed, which tell how they were made from the stored values.
        instance_number: Its place among the study's presentation states, from 1.
        identity: Names the presentation states of the study.
        provenance: Who read, when, and of whom the study is.

    Returns:
        The presentation state, Explicit VR Little Endian.

    Raises:
        ValueError: If the image lacks its UIDs, is of another study, or is in colour, or a box lies outside.
    """
    grayscale = radiograph.grayscale
    if grayscale is None:
        raise ValueError("a colour image has no grayscale presentation state")
    source = source_image(reading.header, identity.study_instance_uid)
    algorithm, description = provenance.algorithm, provenance.series_description([reading])
    layer = GraphicLayer(
        "AI", 1, description=f"{algorithm.id} {algorithm.version}"[:64], display_color=_YELLOW
    )
    modality, voi = _transformations(grayscale)
    shape = PresentationLUTShapeValues.INVERSE if grayscale.inverse else PresentationLUTShapeValues.IDENTITY
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[source],
        series_instance_uid=identity.series_instance_uid,
        series_number=identity.series_number,
        series_description=description,
        sop_instance_uid=identity.instance_uid(source.SOPInstanceUID),
        instance_number=instance_number,
        content_label="AI",
        content_description=description,
        graphic_annotations=[_annotation(reading, source, layer, algorithm)],
        graphic_layers=[layer],
        modality_lut_transformation=modality,
        voi_lut_transformations=[voi],
        presentation_lut_transformation=PresentationLUTTransformation(presentation_lut_shape=shape),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **provenance.equipment,
    )
    # What applies to all the images referred to, here one, needs no reference of its own (PS3.3 C.10.5);
    # with it DICOMscope draws nothing.
    del state.GraphicAnnotationSequence[0].ReferencedImageSequence
    provenance.write_into(state)
    state.Laterality = ""  # of a paired part of the body, which a chest is not
    state.PresentationCreationDate, state.PresentationCreationTime = state.ContentDate, state.ContentTime
    del state.ContentDate, state.ContentTime
    return state


def _annotation(
    reading: ImageReading, source: Dataset, layer: GraphicLayer, algorithm: ModelIdentity
) -> GraphicAnnotation:
    """Boxes with their labels, and in a corner what is said of the whole image."""
    boxed = [
        (caption(finding), finding.box.clipped(source.Columns, source.Rows))
        for finding in reading.positive
        if finding.box is not None
    ]
    texts = [_text(words, source, left=box.x_min, above=box.y_min) for words, box in boxed]
    texts.append(_text("\r\n".join(_statements(reading, algorithm)), source))
    return GraphicAnnotation(
        referenced_images=[source],
        graphic_layer=layer,
        graphic_objects=[
            GraphicObject(GraphicTypeValues.POLYLINE, outline(box), AnnotationUnitsValues.PIXEL)
            for _, box in boxed
        ]
        or None,
        text_objects=texts,
    )


def _statements(reading: ImageReading, algorithm: ModelIdentity) -> Iterator[str]:
    if algorithm.demonstration:
        yield DEMONSTRATION_BANNERS[0]
    yield statement(algorithm, [reading])
    yield NO_DIAGNOSIS
    yield from (caption(finding) for finding in reading.positive if finding.box is None)


def _text(words: str, image: Dataset, *, left: float = 0.0, above: float = 0.0) -> TextObject:
    """Words from ``left`` on, above a row where there is room for them, else from the first row on.

    In a box, not at an anchor point: how far from that the words stand is each viewer's own affair.
    """
    height = min(_LINE_HEIGHT * image.Rows * len(words.splitlines()), image.Rows)
    top = max(0.0, above - height)
    return TextObject(
        words,
        AnnotationUnitsValues.PIXEL,
        bounding_box=(left, top, image.Columns, top + height),
        text_justification=TextJustificationValues.LEFT,
    )


def _transformations(
    grayscale: Grayscale,
) -> tuple[ModalityLUTTransformation, SoftcopyVOILUTTransformation]:
    """A rescale and a window; where LUTs took part, one table from stored values to what is shown."""
    if grayscale.window is not None:
        return _rescale(grayscale.slope, grayscale.intercept), _windowed(grayscale.window)
    order = np.argsort(grayscale.values)  # (codes,)
    table = np.rint(grayscale.shown[order] * _HIGHEST).astype(np.uint16)  # (codes,)
    # The table begins at 0: what it maps from has no sign
    first = -float(grayscale.values[order[0]])
    return _rescale(1.0, first), SoftcopyVOILUTTransformation(voi_luts=[VOILUT(0, table)])


def _rescale(slope: float, intercept: float) -> ModalityLUTTransformation:
    return ModalityLUTTransformation(
        rescale_slope=slope, rescale_intercept=intercept, rescale_type=RescaleTypeValues.US
    )


def _windowed(window: Window) -> SoftcopyVOILUTTransformation:
    """The window; LINEAR_EXACT as the LINEAR one that gives the same, which every viewer knows."""
    center, width, function = window.center, window.width, window.function
    if function == "LINEAR_EXACT":
        center, width, function = center + 0.5, width + 1.0, "LINEAR"
    return SoftcopyVOILUTTransformation(
        window_center=center,
        window_width=width,
        voi_lut_function=None if function == "LINEAR" else function,
    )
