"""One study: its images with the findings over them, its results, and all that happened to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response

from litegpt.errors import RadiographError
from service.archive import Archive
from service.patient import Patient, read_patient
from service.records import dossier
from service.records.dossier import Dossier, ShadowReading, StoredImage
from service.records.journal import write_down
from service.records.overview import FindingView
from service.records.states import InstanceState, Role
from service.web.node import Node, OfNode
from service.web.pages.acting import offers
from service.web.pages.footing import Footing, OfPages
from service.web.pictures import Header, draw, read_header, tag_of
from service.web.visitors import AForm, AnOperator, AViewer, Forbidden, Visitor

router = APIRouter(prefix="/studies/{uid}")

UID = Annotated[str, Path(pattern=r"^[0-9.]{1,64}$")]
Key = Annotated[int, Path(ge=1, lt=2**31)]


@dataclass(frozen=True, slots=True)
class Shown:
    """An image as the page shows it; ``header`` where it has a size to draw boxes in."""

    image: StoredImage
    header: Header | None

    @property
    def letter(self) -> float:
        """Height of the letters at the boxes, in pixels of the image."""
        return 0.022 * self.header.columns if self.header else 0.0

    @property
    def boxed(self) -> list[FindingView]:
        """Findings with a box, the large ones first so that small ones lie above them."""
        boxed = [finding for finding in self.image.view.findings if finding.box]
        return sorted(boxed, key=_area, reverse=True)


@dataclass(frozen=True, slots=True)
class ShownShadow:
    """What a shadow found as the page shows it: apart, each image by the number that it has above."""

    reading: ShadowReading
    shown: list[tuple[int, Shown]]


@router.get("")
def study(request: Request, uid: UID, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """The page."""
    return _page(request, uid, node, pages, visitor)


@router.post("/patient")
def patient(
    request: Request, uid: UID, node: OfNode, pages: OfPages, visitor: AnOperator, form: AForm
) -> Response:
    """The page with the patient's name and id, where that is allowed; who asked is written down."""
    if not node.settings.show_patients:
        raise Forbidden("This node does not show names of patients: show_patients is off.")
    with node.records.reading() as session:
        paths = [image.view.path for image in dossier.dossier_of(session, uid).images]
    with node.records.writing() as session:
        write_down(session, visitor.name, "show patient", studies={"studies": [uid]})
    archive = Archive(node.settings.data_dir)
    patients = dict.fromkeys(filter(None, (read_patient(archive.absolute(path)) for path in paths)))
    return _page(request, uid, node, pages, visitor, tuple(patients))


@router.get("/now")
def now(request: Request, uid: UID, node: OfNode, pages: OfPages, visitor: AViewer) -> Response:
    """What changes on it."""
    with node.records.snapshot() as session:
        whole = dossier.dossier_of(session, uid)
    return pages.rendering.page(request, "study_now.html", visitor, **_now(whole, visitor))


@router.get("/images/{instance_id}.png")
def picture(request: Request, uid: UID, instance_id: Key, node: OfNode, visitor: AViewer) -> Response:
    """One of its images, as a viewer would show it."""
    with node.records.reading() as session:
        image = dossier.image_of(session, uid, instance_id)
    tag = tag_of(image.digest)
    # Only this browser may keep it, and has to ask whether its user may still see it.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in {given.strip() for given in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=304, headers=headers)
    file = Archive(node.settings.data_dir).absolute(image.path)
    try:
        return Response(draw(file, node.settings.maximum_pixels), media_type="image/png", headers=headers)
    except RadiographError as error:
        return PlainTextResponse(f"{error}\n", 422)
    except OSError:
        return PlainTextResponse("The file cannot be read.\n", 404)


@router.get("/results/{result_id}.dcm")
def result(uid: UID, result_id: Key, node: OfNode, visitor: AViewer) -> Response:
    """One of its results, the very bytes that are sent."""
    with node.records.reading() as session:
        found = dossier.result_of(session, uid, result_id)
    file = Archive(node.settings.data_dir).absolute(found.path)
    if not file.is_file():
        return PlainTextResponse("The file is not there.\n", 404)
    name = f"{found.kind}.{found.sop_instance_uid}.dcm"
    return FileResponse(file, media_type="application/dicom", filename=PurePath(name).name)


def _page(
    request: Request,
    uid: str,
    node: Node,
    pages: Footing,
    visitor: Visitor,
    patients: tuple[Patient, ...] | None = None,
) -> Response:
    with node.records.snapshot() as session:
        whole = dossier.dossier_of(session, uid)
    archive = Archive(node.settings.data_dir)
    shown: list[Shown] = []
    others: list[Shown] = []
    for image in whole.images:
        header = read_header(archive.absolute(image.view.path))
        drawn = header is not None and header.columns > 0 and header.rows > 0
        purged = image.view.purged_at is not None and not image.view.reason
        (shown if drawn or purged else others).append(Shown(image, header))
    # The images that were read, first.
    shown.sort(key=lambda one: bool(one.image.view.reason))
    values = {
        "shown": shown,
        "shadows": [_shadow(reading, shown) for reading in whole.shadows],
        "others": others,
        "patients": patients,
        "may_ask_for_patient": node.settings.show_patients and visitor.may(Role.OPERATOR),
        **_now(whole, visitor),
    }
    return pages.rendering.page(request, "study.html", visitor, **values)


def _now(whole: Dossier, visitor: Visitor) -> dict[str, Any]:
    in_conflict = any(image.view.state == InstanceState.CONFLICT for image in whole.images)
    return {
        "whole": whole,
        "study": whole.study,
        # Images and findings stand outside of what is refreshed: with another of these the page loads anew.
        "version": "-".join(map(str, _version(whole, in_conflict))),
        "actions": offers(visitor, in_conflict),
    }


def _version(whole: Dossier, in_conflict: bool) -> Iterator[object]:
    yield from (len(whole.images), in_conflict, whole.study.analysis_id, whole.study.analysis_state)
    yield from (shadow.analysis_id for shadow in whole.shadows)


def _shadow(reading: ShadowReading, shown: Sequence[Shown]) -> ShownShadow:
    images = {image.id: image for image in reading.images}
    numbered = [(number, one) for number, one in enumerate(shown, 1) if one.image.id in images]
    return ShownShadow(
        reading, [(number, Shown(images[one.image.id], one.header)) for number, one in numbered]
    )


def _area(finding: FindingView) -> float:
    if finding.box is None:
        return 0.0
    left, top, right, bottom = finding.box
    return (right - left) * (bottom - top)
