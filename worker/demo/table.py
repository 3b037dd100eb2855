"""What the demonstration shows in the end: a line for each image, and its overlay as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from litegpt.boxes import Box
from litegpt.errors import RadiographError
from litegpt.findings import Finding
from litegpt.overlay import draw_overlay
from litegpt.radiograph import read_radiograph
from service.cli.studies import finding_text
from service.records.overview import ImageView
from worker.demo.modality import SentImage
from worker.demo.run import DemoStudy


def results_table(studies: Sequence[DemoStudy]) -> Table:
    """A line for each image: findings with scores and boxes in pixels, and how long the report took."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column(Text("label, score,\nbox in pixels [left top right bottom]"), no_wrap=True)
    table.add_column("report", justify="right", no_wrap=True)
    for study in studies:
        for sent in study.sent:
            table.add_row(Text(sent.image.name), Text(_what_was_said(study, sent)), _when(study, sent))
    return table


def write_overlays(studies: Sequence[DemoStudy], folder: Path) -> dict[str, Path]:
    """Draws every analysed image with its boxes; returns the files by SOP Instance UID."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for study in studies:
        for sent in study.sent:
            view = _image_view(study, sent)
            if view is None or view.reason or view.not_read:
                continue
            try:
                radiograph = read_radiograph(sent.image.path)
            except RadiographError:
                continue
            # Below the same folders, with the whole name: a CD has A/IM1 and B/IM1, or IM.1 beside IM.2.
            path = folder / f"{sent.image.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_overlay(radiograph, _findings(view), demonstration=True).save(path)
            written[sent.image.sop_instance_uid] = path
    return written


def _what_was_said(study: DemoStudy, sent: SentImage) -> str:
    view = _image_view(study, sent)
    if sent.complaint or view is None:
        return sent.complaint or "no such image in the node"
    if view.reason or view.not_read:
        return view.reason or f"not read: {view.not_read}"
    return "\n".join(finding_text(finding) for finding in view.findings)


def _image_view(study: DemoStudy, sent: SentImage) -> ImageView | None:
    images = study.view.images if study.view else ()
    return next((view for view in images if view.sop_instance_uid == sent.image.sop_instance_uid), None)


def _when(study: DemoStudy, sent: SentImage) -> Text:
    if sent.complaint or study.view is None:
        return Text("not taken", style="red")
    if study.is_delivered and study.seconds is not None:
        return Text(f"{study.seconds:.1f} s", style="green")
    return Text(study.view.outcome, style="red")


def _findings(view: ImageView) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            finding.label,
            finding.score,
            Box(*finding.box) if finding.box else None,
            reported=finding.reported,
        )
        for finding in view.findings
    )
