"""Several models in one worker: each reads what is its own, and what cannot be loaded holds nothing up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import torch
from pydicom import Dataset

from litegpt.engine import Read
from litegpt.errors import ModelError
from litegpt.findings import Finding, Reading
from litegpt.identity import ModelIdentity, read_identity
from service.actions.action import Course
from service.actions.analysing import Rerun
from service.completion import Completion
from service.models.changes import Admin, Change
from service.models.roster import roster_of
from service.peers import Destination
from service.records.reasons import reasons_of
from service.records.selection import Selection
from service.records.states import Priority, Purpose
from service.records.tables import Analysis
from tests.images import make_radiograph
from tests.models import model_copy
from tests.worker.conftest import SmallNode
from worker import engines
from worker.analysis import Analyst

SHIPPED = read_identity("phantom")
TEST = Destination(ae_title="TEST", host="127.0.0.1", port=2)


class Says:
    """A model that says one thing of every image."""

    square_sizes = (16,)

    def __init__(self, label: str) -> None:
        self._label = label

    def read_ahead(self, items: Iterable[Any], load: Callable[[Any], Any]) -> Iterator[Read[Any]]:
        for item in items:
            load(item)
            yield Read(item, Reading((Finding(self._label, 0.5),)))


class Folders:
    """Loads a model that says Edema from the shipped folder, and one that says COPD from any other."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.trouble: dict[str, Exception] = {}

    def __call__(self, folder: str) -> Any:
        name = Path(folder).name
        self.loaded.append(name)
        if name in self.trouble:
            raise self.trouble[name]
        return Says("Edema" if name == "phantom" else "COPD")


@pytest.fixture
def folders() -> Folders:
    return Folders()


@pytest.fixture
def analyst(node: SmallNode, folders: Folders, tmp_path: Path) -> Analyst:
    """A worker of a node that also knows version 2."""
    folder = str(model_copy(tmp_path / "second", "2"))
    _change(node, lambda admin: admin.add(folder))
    analyst = Analyst(node.settings, node.records, node.archive, node.bell)
    analyst.engines.load = folders
    return analyst


def _change(node: SmallNode, do: Callable[[Admin], Change]) -> None:
    with node.records.writing() as session:
        do(Admin(session, node.settings, "a test"))


def _take(node: SmallNode, **attributes: Any) -> Dataset:
    image = make_radiograph(**attributes)
    node.take(image)
    Completion.at_present(node.settings, node.records).complete_due(node.records)
    return image


def _rerun(node: SmallNode, priority: Priority = Priority.BACKLOG) -> None:
    """Has version 2 read everything, whatever it is for."""
    with node.records.reading() as session:
        model = roster_of(session, node.settings).called("2")
    completion = Completion.at_present(node.settings, node.records)
    action = Rerun(completion, priority, model.identity, model.purpose)
    Course(node.records, "a test").run(action, Selection())


def _algorithms(node: SmallNode, paths: Iterable[str]) -> list[list[str]]:
    """What each report says of the version of its algorithm (111003)."""
    reports = [pydicom.dcmread(node.archive.absolute(path)) for path in paths]
    return [
        sorted({item.TextValue for item in _items(report) if _code(item) == "111003"}) for report in reports
    ]


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _items(child)


def _code(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""


def _results(node: SmallNode, analysis_id: int) -> list[tuple[str, list[str]]]:
    """Path and destinations of each."""
    with node.records.reading() as session:
        row = session.get_one(Analysis, analysis_id)
        assert row.state == "done", row.error
        return [(one.path, [to.destination for to in one.deliveries]) for one in row.results]


def test_each_model_reads_its_own_and_its_reports_say_who_did(
    node: SmallNode, analyst: Analyst, folders: Folders
) -> None:
    image = _take(node)
    _rerun(node)
    assert analyst.drain()
    assert folders.loaded == ["phantom", "second"]
    view = node.show(image.StudyInstanceUID)
    assert (view.model, view.reported_labels) == (f"{SHIPPED.id} 2", ("COPD",))
    paths = [path for number in (1, 2) for path, _ in _results(node, number)]
    assert _algorithms(node, paths) == [[SHIPPED.version], ["2"]]


def test_an_activation_takes_effect_between_two_batches(node: SmallNode, analyst: Analyst) -> None:
    first = _take(node)
    analyst.drain()
    _change(node, lambda admin: admin.activate("2"))
    second = make_radiograph()
    # Completed for the former one by a sweeper that had just looked.
    node.take(second)
    Completion.at_present(node.settings, node.records).adopt_waiting(node.records)
    analyst.drain()
    _change(node, lambda admin: admin.roll_back())
    third = _take(node)
    analyst.drain()
    versions = [node.show(image.StudyInstanceUID).model.split()[-1] for image in (first, second, third)]
    assert versions == [SHIPPED.version, "2", SHIPPED.version]


@pytest.mark.parametrize("to", [None, TEST], ids=["to nobody", "to a test"])
def test_a_shadows_results_go_nowhere_or_to_the_test(
    node: SmallNode, analyst: Analyst, to: Destination | None
) -> None:
    _change(node, lambda admin: admin.shadow("2", to))
    image = make_radiograph()
    node.take(image)
    _rerun(node)
    analyst.drain()
    assert [goes_to for _, goes_to in _results(node, 1)] == [["PACS@127.0.0.1:1"]]
    assert [goes_to for _, goes_to in _results(node, 2)] == ([[to.address]] if to else [])
    view = node.show(image.StudyInstanceUID)
    assert (view.model, view.reported_labels) == (f"{SHIPPED.id} {SHIPPED.version}", ("Edema",))
    with node.records.reading() as session:
        shadow = session.get_one(Analysis, 2)
        assert (shadow.purpose, [one.label for one in shadow.images[0].findings]) == (
            Purpose.SHADOW,
            ["COPD"],
        )


def test_a_model_that_cannot_be_loaded_holds_nothing_up_and_is_tried_again(
    node: SmallNode, analyst: Analyst, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _take(node)
    _rerun(node, Priority.STAT)
    folders.trouble["second"] = ModelError("its weights are damaged")
    assert analyst.drain()
    assert folders.loaded == ["second", "phantom"]
    with node.records.reading() as session:
        named = session.get_one(Analysis, 2)
        assert (named.state, named.failures) == ("queued", 0)
        assert named.error == "the model litegpt-phantom 2 cannot be loaded: its weights are damaged"
        (reason,) = [one for one in reasons_of(session, [1])[1] if "analysis 2" in one.what]
        assert "its weights are damaged" in reason.what
    assert [goes_to for _, goes_to in _results(node, 1)]
    folders.trouble.clear()
    assert analyst.drain() and folders.loaded == ["second", "phantom"]
    monkeypatch.setattr(engines.time, "monotonic", lambda now=engines.time.monotonic: now() + 3600)
    assert analyst.drain()
    assert node.show(image.StudyInstanceUID).model == f"{SHIPPED.id} 2"


def test_a_folder_that_holds_another_model_now_reads_nothing(
    node: SmallNode, analyst: Analyst, folders: Folders, tmp_path: Path
) -> None:
    _change(node, lambda admin: admin.activate("2"))
    (tmp_path / "second").rename(tmp_path / "away")
    model_copy(tmp_path / "second", "3")
    _take(node)
    Completion.at_present(node.settings, node.records).adopt_waiting(node.records)
    analyst.drain()
    assert folders.loaded == []
    with node.records.reading() as session:
        row = session.get_one(Analysis, 1)
        assert row.state == "queued" and "holds litegpt-phantom 3 now, not litegpt-phantom 2" in row.error


def _known(folder: Path, version: str) -> Any:
    from service.models.roster import KnownModel

    return KnownModel(ModelIdentity(SHIPPED.id, version, True), str(model_copy(folder / version, version)))


def test_so_many_are_held_and_the_one_used_longest_ago_goes(tmp_path: Path, folders: Folders) -> None:
    one, two, three = (_known(tmp_path, version) for version in ("1", "2", "3"))
    held = engines.Engines(2, folders)
    for model in (one, two, one, three, one, two):
        held.get(model)
    assert folders.loaded == ["1", "2", "3", "2"]
    assert [held.holds(model) for model in (one, two, three)] == [True, True, False]


def test_where_memory_has_no_room_beside_the_others_they_go(tmp_path: Path) -> None:
    one, two = (_known(tmp_path, version) for version in ("1", "2"))
    tried: list[str] = []

    def load(folder: str) -> Any:
        tried.append(Path(folder).name)
        if len(tried) == 2:
            raise torch.OutOfMemoryError("no room")
        return Says("Edema")

    held = engines.Engines(2, load)
    held.get(one)
    held.get(two)
    assert tried == ["1", "2", "2"]
    assert [held.holds(model) for model in (one, two)] == [False, True]
