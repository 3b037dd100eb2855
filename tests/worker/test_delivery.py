"""Results reach a real storescp once; what a peer answers decides what happens next."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from service.actions.action import Course
from service.actions.resending import Resend
from service.errors import TryAgain
from service.peers import ResultKind
from service.records import conclusions
from service.records.selection import Selection
from service.wire.sender import configure_process
from tests.images import CR, SECONDARY_CAPTURE, make_radiograph
from tests.peers.dcmtk import storescp
from tests.ports import free_port
from tests.service.test_sender import _peer as peer
from tests.worker.conftest import SmallNode, small_node
from tests.worker.test_analysis import _Explosive
from worker.analysis import Analyst
from worker.delivery import Courier
from worker.reports.document import read_report
from worker.results.making import make_again

LONG_WAITS = {"retry_first_seconds": 3600, "retry_maximum_seconds": 3600}

SR = "1.2.840.10008.5.1.4.1.1.88.34"
GSPS = "1.2.840.10008.5.1.4.1.1.11.1"
SC = "1.2.840.10008.5.1.4.1.1.7"
SR_2D = "1.2.840.10008.5.1.4.1.1.88.33"


def _analysed(
    folder: Path, *destinations: str, count: int = 1, **settings: object
) -> tuple[SmallNode, list[str]]:
    node = small_node(folder, destinations=list(destinations), **settings)
    images = [make_radiograph() for _ in range(count)]
    node.take(*images)
    _analyse(node)
    return node, [str(image.StudyInstanceUID) for image in images]


def _analyse(node: SmallNode) -> None:
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    analyst.engines.load = lambda _: _Explosive(rows=0)
    analyst.drain()


def _courier(node: SmallNode) -> Courier:
    configure_process()
    return Courier(node.settings, node.records, node.archive)


def test_every_result_arrives_once_and_byte_for_byte(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node, studies = _analysed(tmp_path / "node", pacs.destination, count=7, delivery_batch_size=3)
        _courier(node).drain()
        _courier(node).drain()
        received = {str(dataset.StudyInstanceUID): dataset for dataset in pacs.datasets()}
        assert len(pacs.files()) == 7
    assert set(received) == set(studies)
    for study in studies:
        view = node.show(study)
        assert (view.outcome, view.deliveries[0].attempt) == ("delivered", 1)
        kept = pydicom.dcmread(node.archive.absolute(view.deliveries[0].path))
        assert kept == received[study]
    node.records.close()


def test_each_destination_gets_the_kinds_that_it_wants(tmp_path: Path) -> None:
    with (
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
        storescp(tmp_path / "viewer", ae_title="VIEWER") as viewer,
    ):
        wanted = (f"{pacs.destination}=sr+gsps+sc", f"{viewer.destination}=sc")
        node = small_node(tmp_path / "node", destinations=list(wanted))
        study = str(generate_uid())
        node.take(*(make_radiograph(study_uid=study) for _ in range(2)))
        _analyse(node)
        _courier(node).drain()
        received = pacs.datasets()
        captures = [dataset for dataset in received if dataset.SOPClassUID == SECONDARY_CAPTURE]
        assert sorted(str(dataset.SOPClassUID) for dataset in received) == sorted([SC, SC, GSPS, GSPS, SR])
        assert sorted(str(dataset.SOPInstanceUID) for dataset in viewer.datasets()) == sorted(
            str(dataset.SOPInstanceUID) for dataset in captures
        )
        assert len({dataset.SeriesInstanceUID for dataset in captures}) == 1
        assert sorted(dataset.InstanceNumber for dataset in captures) == [1, 2]
        assert node.show(study).outcome == "delivered"
        node.take(*captures)  # a PACS may send back what it got: nothing is read or drawn again
        assert node.show(study).outcome == "delivered"
    node.records.close()


# pynetdicom 3.0.4 leaves the socket of a failed connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_destination_that_was_away_gets_the_same_bytes_later(tmp_path: Path) -> None:
    port = free_port()
    node, (study,) = _analysed(
        tmp_path / "node", f"PACS@127.0.0.1:{port}", retry_first_seconds=3600, retry_maximum_seconds=3600
    )
    _courier(node).drain()
    view = node.show(study)
    assert (view.outcome, view.deliveries[0].attempt) == ("delivering", 1)
    assert "does not answer" in view.deliveries[0].error
    error = view.deliveries[0].error
    with node.records.writing() as session:
        session.connection().exec_driver_sql("UPDATE delivery SET not_before = '2020-01-01 00:00:00.000000'")
    with storescp(tmp_path / "pacs", ae_title="PACS", port=port) as pacs:
        _courier(node).drain()
        assert len(pacs.files()) == 1
    view = node.show(study)
    assert view.outcome == "delivered"
    away, sent = view.deliveries[0].attempts or ()
    assert (away.attempt, away.outcome, away.said) == (1, "no-association", error)
    assert (sent.attempt, sent.outcome, sent.said) == (2, "sent", "0000")
    assert away.seconds is not None and sent.seconds is not None
    assert 0 < away.seconds < 60 and 0 < sent.seconds < 60
    assert {away.worker, sent.worker} == {f"{socket.gethostname()}/{os.getpid()}"}
    node.records.close()


def test_a_refusal_is_final_and_the_other_destination_is_served(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs, peer(0xC000, sop_class=SR) as refusing:
        node, (study,) = _analysed(tmp_path / "node", str(refusing), pacs.destination)
        _courier(node).drain()
        _courier(node).drain()
    states = {delivery.destination: delivery for delivery in node.show(study).deliveries}
    assert states[str(refusing)].state == "refused"
    assert states[str(refusing)].attempt == 1
    assert "C000" in states[str(refusing)].error
    (refused,) = states[str(refusing)].attempts or ()
    assert (refused.outcome, refused.said) == ("refused", states[str(refusing)].error)
    assert states[pacs.destination].state == "sent"
    node.records.close()


@pytest.mark.parametrize(
    ("takes", "states"),
    [
        (SR, ["sent"]),
        (SR_2D, ["replaced", "sent"]),
        (SC, ["replaced", "replaced", "sent"]),
        (CR, ["replaced", "replaced", "refused"]),
    ],
    ids=["3d", "2d", "pictures", "images-only"],
)
def test_a_destination_gets_what_it_takes(takes: str, states: list[str], tmp_path: Path) -> None:
    with peer(*[0] * 9, sop_class=takes) as destination:
        node, (study,) = _analysed(tmp_path / "node", str(destination))
        _courier(node).drain()
    view = node.show(study)
    assert [delivery.state for delivery in view.deliveries] == states
    assert view.outcome == ("refused" if takes == CR else "delivered")
    for delivery in view.deliveries:
        if delivery.state == "sent":
            assert pydicom.dcmread(node.archive.absolute(delivery.path)).SOPClassUID == takes
    for delivery in view.deliveries[:-1]:
        assert "takes none of the objects offered; " in delivery.error
        assert delivery.error.endswith(" Storage goes in its place")
    node.records.close()


def test_the_simpler_report_says_the_same(tmp_path: Path) -> None:
    """And is the same each time that it is made."""
    with peer(0, 0, sop_class=SR_2D) as destination:
        node, (study,) = _analysed(tmp_path / "node", str(destination))
        _courier(node).drain()
    one, two = (read_report(node.archive.absolute(each.path)) for each in node.show(study).deliveries)
    assert (one.sop_class, two.sop_class) == ("Comprehensive 3D SR Storage", "Comprehensive SR Storage")
    assert one.sop_instance_uid != two.sop_instance_uid
    assert [(group.name, group.certainty) for group in one.groups] == [
        (group.name, group.certainty) for group in two.groups
    ]
    assert one.statements == two.statements
    concluded = conclusions.concluded(node.records, 1)
    kind = ResultKind.STRUCTURED_REPORT
    (again,) = make_again(concluded, kind, SR_2D, node.settings, node.archive)
    assert again.path == node.show(study).deliveries[1].path
    node.records.close()


def test_what_it_gets_anyhow_is_not_sent_twice(tmp_path: Path) -> None:
    with peer(0, 0, 0, sop_class=SC) as destination:
        node, (study,) = _analysed(tmp_path / "node", f"{destination}=sr+sc")
        _courier(node).drain()
    states = sorted(delivery.state for delivery in node.show(study).deliveries)
    assert states == ["replaced", "replaced", "sent"]
    node.records.close()


def test_once_it_takes_reports_they_can_be_sent_after_all(tmp_path: Path) -> None:
    with peer(0, 0, sop_class=SC) as destination:
        node, (study,) = _analysed(tmp_path / "node", str(destination))
        _courier(node).drain()
    course = Course(node.records, "a test")
    assert course.run(Resend(), Selection(studies=(study,)))["due again"] == 2
    states = [delivery.state for delivery in node.show(study).deliveries]
    assert states == ["due", "due", "sent"]
    node.records.close()


def _damaged(image: Path) -> None:
    image.write_bytes(image.read_bytes()[:-100])


def _not_dicom(image: Path) -> None:
    image.write_bytes(b"no image at all")


@pytest.mark.parametrize("takes", [SC, SR_2D])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [(Path.unlink, "is gone from the archive"), (_damaged, "pixel data"), (_not_dicom, "")],
    ids=["gone", "damaged", "not-dicom"],
)
def test_what_cannot_be_made_any_more_is_refused(
    takes: str, spoil: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    """A destination of its own trouble does not hold up another, nor is it tried without end."""
    with (
        peer(*[0] * 9, sop_class=takes) as destination,
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
    ):
        node, (study,) = _analysed(tmp_path / "node", str(destination), pacs.destination)
        (image,) = (node.archive.root / "images").rglob("*.dcm")
        spoil(image)
        assert _courier(node).drain()
        assert len(pacs.files()) == 1
    ended = [each for each in node.show(study).deliveries if each.destination == str(destination)]
    states = [each.state for each in ended]
    if takes == SR_2D and spoil is _damaged:
        assert states == ["replaced", "sent"]  # a report needs the image's header alone
    else:
        assert states[-1] == "refused" and set(states[:-1]) <= {"replaced"}
        error = ended[-1].error
        assert error.startswith(f"{destination} takes none of the objects offered; no ")
        assert f" Storage in its place: {image.name}" in error and words in error
        assert "\n" not in error and str(tmp_path) not in error
    node.records.close()


def test_a_fault_of_our_own_over_one_result_does_not_hold_the_others_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_again(*_: object) -> None:
        raise KeyError("nobody has thought of this")

    monkeypatch.setattr("worker.substitution.make_again", make_again)
    with (
        peer(*[0] * 9, sop_class=SC) as destination,
        storescp(tmp_path / "pacs", ae_title="PACS") as pacs,
    ):
        node, studies = _analysed(tmp_path / "node", str(destination), pacs.destination, count=2)
        assert _courier(node).drain()
        assert len(pacs.files()) == 2
    for study in studies:
        (refused,) = (each for each in node.show(study).deliveries if each.state == "refused")
        assert refused.error.endswith("objects offered; KeyError")
    node.records.close()


def test_a_picture_of_each_image_or_none_goes_in_the_place_of_a_report(tmp_path: Path) -> None:
    """One picture without the other would look like a whole reading."""
    study = str(generate_uid())
    with peer(*[0] * 9, sop_class=SC) as destination:
        node = small_node(tmp_path / "node", destinations=[str(destination)])
        node.take(*(make_radiograph(study_uid=study) for _ in range(2)))
        _analyse(node)
        _damaged(min((node.archive.root / "images").rglob("*.dcm")))
        _courier(node).drain()
    states = [each.state for each in node.show(study).deliveries]
    assert states == ["replaced", "refused"]
    node.records.close()


@pytest.mark.parametrize("what", ["full", "away"])
def test_an_archive_that_is_in_trouble_is_waited_for(what: str, tmp_path: Path) -> None:
    with peer(*[0] * 9, sop_class=SC) as destination:
        node, (study,) = _analysed(tmp_path / "node", str(destination), **LONG_WAITS)
        root, kept = node.archive.root, tmp_path / "kept"
        if what == "full":
            (root / "results").rename(kept)
            (root / "results").touch()
        else:
            _move_folders(root, kept)
        _courier(node).drain()
        view = node.show(study)
        assert (view.outcome, [each.state for each in view.deliveries]) == ("delivering", ["due"])
        assert view.deliveries[0].error.startswith("the archive")
        if what == "full":
            (root / "results").unlink()
            kept.rename(root / "results")
        else:
            _move_folders(kept, root)
        with node.records.writing() as session:
            session.connection().exec_driver_sql(
                "UPDATE delivery SET not_before = '2020-01-01 00:00:00.000000'"
            )
        _courier(node).drain()
        assert node.show(study).outcome == "delivered"
    node.records.close()


def _move_folders(source: Path, target: Path) -> None:
    """As if a share were no longer mounted; the database is elsewhere."""
    target.mkdir(exist_ok=True)
    for name in ("images", "results", "incoming", "station.uid"):
        (source / name).rename(target / name)


def test_a_lost_reply_is_a_second_send_of_the_same_object(tmp_path: Path) -> None:
    with peer(0xFFFF, 0x0000, sop_class=SR) as forgetful:
        node, (study,) = _analysed(tmp_path / "node", str(forgetful))
        _courier(node).drain()
    (delivery,) = node.show(study).deliveries
    assert (delivery.state, delivery.attempt) == ("sent", 2)
    node.records.close()


def test_a_host_whose_name_is_not_known_does_not_hold_the_others_up(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node, (study,) = _analysed(
            tmp_path / "node", "AAA@nowhere.invalid:104", pacs.destination, **LONG_WAITS
        )
        _courier(node).drain()
    states = {delivery.destination: delivery for delivery in node.show(study).deliveries}
    assert states[pacs.destination].state == "sent"
    assert "name is not known" in states["AAA@nowhere.invalid:104"].error
    node.records.close()


def test_a_result_whose_file_is_gone_does_not_hold_the_others_up(tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ae_title="PACS") as pacs:
        node, studies = _analysed(tmp_path / "node", pacs.destination, count=4, **LONG_WAITS)
        node.archive.absolute(node.show(studies[0]).deliveries[0].path).unlink()
        _courier(node).drain()
    assert [node.show(study).outcome for study in studies] == ["delivering"] + ["delivered"] * 3
    assert "cannot be read" in node.show(studies[0]).deliveries[0].error
    node.records.close()


def test_records_that_are_away_leave_the_delivery_due(tmp_path: Path) -> None:
    node, (study,) = _analysed(tmp_path / "node", "PACS@127.0.0.1:1")
    with node.records.writing() as session:
        session.connection().exec_driver_sql("ALTER TABLE delivery RENAME TO elsewhere")
    with pytest.raises(TryAgain):
        _courier(node).drain()
    with node.records.writing() as session:
        session.connection().exec_driver_sql("ALTER TABLE elsewhere RENAME TO delivery")
    assert node.show(study).outcome == "delivering"
    node.records.close()
