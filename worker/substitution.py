"""What goes to a destination that takes no objects of a kind: the same findings, told in a simpler form."""

from __future__ import annotations

from typing import Final

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
)

from service.archive import Archive
from service.errors import KindRefused
from service.peers import ResultKind
from service.records import conclusions, deliveries
from service.records.database import Records
from service.records.deliveries import DeliveryClaim
from service.settings import Settings
from worker.errors import CannotReport
from worker.results.making import make_again

IN_PLACE_OF: Final = {
    Comprehensive3DSRStorage: (ResultKind.STRUCTURED_REPORT, ComprehensiveSRStorage),
    ComprehensiveSRStorage: (ResultKind.SECONDARY_CAPTURE, SecondaryCaptureImageStorage),
    GrayscaleSoftcopyPresentationStateStorage: (
        ResultKind.SECONDARY_CAPTURE,
        SecondaryCaptureImageStorage,
    ),
}
"""From what a destination refuses to what it gets instead."""


def replace(
    claim: DeliveryClaim, refusal: KindRefused, settings: Settings, records: Records, archive: Archive
) -> str:
    """Makes what goes in the place of a result, and has it delivered to the same destination.

    Args:
        claim: The delivery that was refused for its SOP class.
        refusal: What the destination said.
        settings: The node's.
        records: Where the findings are, and the new deliveries go.
        archive: Where the images are, and the new results go.

    Returns:
        What was written down about it.

    Raises:
        KindRefused: The same, where there is nothing else to offer.
        CannotReport: If what would go instead cannot be made; the message has the destination's refusal too.
        LeaseLost: If another worker has taken the delivery up since.
        OutOfResources: If the archive or the records would not take it just now.
    """
    known = IN_PLACE_OF.get(UID(claim.sop_class_uid))
    if known is None:
        raise refusal
    kind, sop_class_uid = known
    concluded = conclusions.concluded(records, claim.analysis_id)
    try:
        results = make_again(concluded, kind, sop_class_uid, settings, archive)
    except CannotReport as error:
        raise CannotReport(f"{refusal}; no {sop_class_uid.name} in its place: {error}") from error
    if not results:
        raise refusal
    words = f"{refusal}; {sop_class_uid.name} goes in its place"
    deliveries.replace(records, claim, results, words)
    return words
