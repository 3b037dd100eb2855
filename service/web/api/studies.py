"""Reading studies: the list, one of them, its images as pictures, its results as they are sent."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from litegpt.errors import RadiographError
from service.archive import Archive
from service.errors import NotThere, SettingsError, WrongState
from service.patient import Patient, read_patient
from service.records import dossier
from service.records.dossier import Dossier
from service.records.journal import write_down
from service.records.states import Role
from service.records.worklist import Key, page_of
from service.web.api.callers import AdmittingRoute, AnOperator, AViewer, Caller
from service.web.api.choosing import StudyQuery, StudyUID
from service.web.api.problems import responses
from service.web.api.shapes import StudyDetail, StudyLine, StudyPage
from service.web.filters import read_key, write_key
from service.web.node import Node, OfNode
from service.web.pictures import draw
from service.web.visitors import Forbidden, require_role

router = APIRouter(route_class=AdmittingRoute, prefix="/studies", tags=["studies"], responses=responses(404))

UID = Annotated[StudyUID, Path(description="Study Instance UID.")]
RowID = Annotated[int, Path(ge=1, lt=2**31)]

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}


class Wishes(BaseModel):
    """What more of a study is wanted."""

    model_config = ConfigDict(extra="forbid")

    patient: bool = Field(
        False, description="Name the patient: for operators, where `show_patients` is on; the audit has it."
    )


@router.get("", responses=responses())
def studies(query: Annotated[StudyQuery, Query()], node: OfNode, caller: AViewer) -> StudyPage:
    """A page of the studies that fulfil all conditions, newest first."""
    selection, key = query.filters().selection(node.settings.zone), _key(query.after)
    with node.records.snapshot() as session:
        page = page_of(session, selection, key)
    return StudyPage(
        studies=[StudyLine.of(row) for row in page.rows],
        next=write_key(page.after) if page.after else None,
        searched_to=page.searched_to,
    )


@router.get("/{uid}")
def study(
    uid: UID,
    node: OfNode,
    caller: AViewer,
    query: Annotated[Wishes, Query()],
) -> StudyDetail:
    """One study: its images with what was found, its analyses, results and deliveries, and its history."""
    with node.records.snapshot() as session:
        whole = dossier.dossier_of(session, uid)
    return StudyDetail.whole(whole, _patients(whole, node, caller) if query.patient else None)


@router.get(
    "/{uid}/images/{image_id}/picture",
    response_class=Response,
    responses={
        200: {"description": "The picture.", "content": {"image/png": _BINARY}},
        **responses(404, 409),
    },
)
def picture(uid: UID, image_id: RowID, node: OfNode, caller: AViewer) -> Response:
    """An image as a viewer would show it, as PNG, its longest side at most 1600 pixels.

    409 where it cannot be drawn.
    """
    with node.records.reading() as session:
        image = dossier.image_of(session, uid, image_id)
    file = Archive(node.settings.data_dir).absolute(image.path)
    try:
        return Response(draw(file, node.settings.maximum_pixels), media_type="image/png")
    except RadiographError as error:
        raise WrongState(str(error)) from None
    except OSError:
        raise NotThere("The file cannot be read.") from None


@router.get(
    "/{uid}/images/{image_id}/file",
    response_class=Response,
    responses={
        200: {"description": "The DICOM file.", "content": {"application/dicom": _BINARY}},
        **responses(404),
    },
)
def file(uid: UID, image_id: RowID, node: OfNode, caller: AnOperator) -> FileResponse:
    """An object that was received, its DICOM file as the archive has it.

    It names the patient: only where `show_patients` is on, and the audit has who took it.
    """
    _require_patients_shown(node)
    with node.records.reading() as session:
        image = dossier.image_of(session, uid, image_id)
    path = Archive(node.settings.data_dir).absolute(image.path)
    if image.purged_at is not None or not path.is_file():
        raise NotThere("The file is not there.")
    with node.records.writing() as session:
        write_down(session, caller.who, "fetch image", studies={"studies": [uid]}, image=image_id)
    return FileResponse(path, media_type="application/dicom", filename=f"{image.sop_instance_uid}.dcm")


@router.get(
    "/{uid}/results/{result_id}",
    response_class=Response,
    responses={
        200: {"description": "The DICOM file.", "content": {"application/dicom": _BINARY}},
        **responses(404),
    },
)
def result(uid: UID, result_id: RowID, node: OfNode, caller: AViewer) -> FileResponse:
    """A result, the very bytes that are sent. They name the patient, so the audit has who took them."""
    with node.records.reading() as session:
        found = dossier.result_of(session, uid, result_id)
    file = Archive(node.settings.data_dir).absolute(found.path)
    if not file.is_file():
        raise NotThere("The file is not there.")
    with node.records.writing() as session:
        write_down(session, caller.who, "fetch result", studies={"studies": [uid]}, result=result_id)
    name = f"{found.kind}.{found.sop_instance_uid}.dcm"
    return FileResponse(file, media_type="application/dicom", filename=name)


def _key(after: str | None) -> Key | None:
    try:
        return read_key(after or "")
    except SettingsError as error:
        raise NotThere(str(error)) from None


def _require_patients_shown(node: Node) -> None:
    if not node.settings.show_patients:
        raise Forbidden("This node does not show names of patients: show_patients is off.")


def _patients(whole: Dossier, node: Node, caller: Caller) -> tuple[Patient, ...]:
    require_role(caller.role, Role.OPERATOR)
    _require_patients_shown(node)
    with node.records.writing() as session:
        uid = whole.study.study_instance_uid
        write_down(session, caller.who, "show patient", studies={"studies": [uid]})
    archive = Archive(node.settings.data_dir)
    named = (read_patient(archive.absolute(image.view.path)) for image in whole.images)
    return tuple(dict.fromkeys(filter(None, named)))
