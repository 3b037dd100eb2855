"""The models of a node: added, activated, rolled back, compared, retired; and what that does to the work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from litegpt.errors import ModelError
from litegpt.findings import Finding
from litegpt.identity import read_identity
from service.actions.action import Course, Tally
from service.actions.analysing import Rerun, Retry
from service.actions.purging import Limits, Purge
from service.actions.resending import Resend
from service.archive import Archive
from service.comparing import readings
from service.completion import Completion
from service.errors import SettingsError
from service.exporting.rows import pages as exported
from service.models.changes import Admin, Change
from service.models.figures import figures_by_model
from service.models.roster import Roster, roster_of
from service.peers import Destination
from service.records import analyses, conclusions, deliveries, overview, tally
from service.records.claims import Claim
from service.records.conclusions import ImageOutcome, WrittenResult
from service.records.database import utc_now
from service.records.intake import Receiver
from service.records.journal import events
from service.records.reconciliation import sum_up
from service.records.retry import Retry as Waits
from service.records.selection import Selection
from service.records.standing import Question, Verdict
from service.records.states import Priority, Purpose
from service.records.tables import Analysis, Delivery
from service.selftest.marks import new_study_uid
from service.settings import Settings
from tests.images import make_radiograph
from tests.models import model_copy
from tests.service.conftest import incoming, sent_to

SHIPPED = read_identity("phantom")
MINUTE = timedelta(minutes=1)
WAITS = Waits(first=timedelta(0), maximum=timedelta(0), maximum_attempts=2)
PACS = Destination(ae_title="PACS", host="host", port=104)
TEST = Destination(ae_title="TEST", host="host", port=105)


class Node:
    """A node whose studies have one image each, and its models."""

    def __init__(self, settings: Settings, receiver: Receiver, folder: Path) -> None:
        self.settings, self.receiver, self.folder = settings, receiver, folder
        self.records = receiver.records
        self._results = 0

    def folder_of(self, version: str, **config: Any) -> str:
        folder = self.folder / f"model-{len(list(self.folder.glob('model-*')))}"
        return str(model_copy(folder, version, **config))

    def add(self, *versions: str) -> None:
        for version in versions:
            self.add_folder(self.folder_of(version))

    def add_folder(self, folder: str) -> str:
        return self.change(lambda admin: admin.add(folder))

    def change(self, do: Callable[[Admin], Change]) -> str:
        with self.records.writing() as session:
            return do(Admin(session, self.settings, "a test")).words

    def activate(self, name: str) -> str:
        return self.change(lambda admin: admin.activate(name))

    def roll_back(self) -> str:
        return self.change(lambda admin: admin.roll_back())

    def shadow(self, name: str, to: Destination | None = None) -> str:
        return self.change(lambda admin: admin.shadow(name, to))

    @property
    def roster(self) -> Roster:
        with self.records.reading() as session:
            return roster_of(session, self.settings)

    @property
    def completion(self) -> Completion:
        return Completion.at_present(self.settings, self.records)

    def take(self, **attributes: Any) -> str:
        """Receives a study and completes it, as the sweeper does; its UID."""
        image = make_radiograph(**attributes)
        self.receiver.take(incoming(self.receiver.archive, image))
        self.sweep()
        return str(image.StudyInstanceUID)

    def sweep(self) -> None:
        self.completion.adopt_waiting(self.records)
        self.completion.complete_due(self.records)

    def claim(self, version: str) -> list[Claim]:
        return analyses.claim(
            self.records, model_id=SHIPPED.id, model_version=version, limit=99, lease=MINUTE, retry=WAITS
        )

    def read(self, version: str, label: str = "Edema", to: tuple[Destination, ...] = (PACS,)) -> int:
        """Has a version read what waits for it, each image with one finding; how many studies those were."""
        claims = self.claim(version)
        for claim in claims:
            self._results += 1
            result = WrittenResult("sr", "1.2", f"2.25.{self._results}", "1", f"results/{self._results}", "0")
            outcomes = [ImageOutcome(image.instance_id, (Finding(label, 0.5),)) for image in claim.images]
            conclusions.finish(self.records, claim, outcomes, [result] if to else [], sent_to(*to))
        return len(claims)

    def send(self, to: Destination = PACS) -> int:
        claims = deliveries.claim(self.records, to, limit=99, lease=MINUTE)
        for claim in claims:
            deliveries.sent(self.records, claim)
        return len(claims)

    def rerun(self, name: str = "", **options: Any) -> Tally:
        model = self.roster.called(name) if name else self.roster.active
        action = Rerun(self.completion, model=model.identity, purpose=model.purpose, **options)
        return self.run(action)

    def run(self, action: Any) -> Tally:
        return Course(self.records, "a test").run(action, Selection())

    def analyses(self) -> list[tuple[str, str, str]]:
        """Version, purpose and state of each, oldest first."""
        columns = (Analysis.model_version, Analysis.purpose, Analysis.state)
        with self.records.reading() as session:
            return [tuple(row) for row in session.execute(select(*columns).order_by(Analysis.id))]

    def deliveries(self) -> list[tuple[str, str]]:
        """Destination and state of each, oldest first."""
        rows = select(Delivery.destination, Delivery.state).order_by(Delivery.id)
        with self.records.reading() as session:
            return [(row[0], row[1]) for row in session.execute(rows)]

    def newest(self, uid: str) -> tuple[str, str, set[str]]:
        """Version, state and labels that a study is judged by, the same wherever one looks."""
        with self.records.reading() as session:
            view = overview.show_study(session, uid)
        version = view.model.removeprefix(f"{SHIPPED.id} ")
        labels = {finding.label for image in view.images for finding in image.findings}
        rows = [row for page in exported(self.records, Selection()) for row in page.rows]
        ours = [row for row in rows if row.study_instance_uid == uid]
        assert {row.model_version for row in ours} == {version}
        assert {row.label for row in ours} - {None} == labels
        assert {row.analysis_state for row in ours} == {view.analysis_state}
        assert [*Selection(model=version).pages(self.records)] != []
        assert [*Selection(model=version, states=(view.outcome,)).pages(self.records)] != []
        return version, view.analysis_state, labels

    def verdicts(self) -> dict[Verdict, int]:
        with self.records.snapshot() as session:
            sums = sum_up(session, Question(utc_now(), MINUTE))
        return {row.verdict: sums.studies(row.verdict) for row in sums.standings}


@pytest.fixture
def node(settings: Settings, receiver: Receiver, tmp_path: Path) -> Iterator[Node]:
    yield Node(settings, receiver, tmp_path)


def test_without_any_added_the_settings_model_is_the_active_one(node: Node) -> None:
    (only,) = node.roster.models
    assert (only.identity, only.folder, only.purpose) == (SHIPPED, "phantom", Purpose.REGULAR)
    with pytest.raises(SettingsError, match=r"the node has one model, that of its settings: .* models add"):
        node.activate("2")
    with pytest.raises(SettingsError, match="no model was active before"):
        node.roll_back()


def test_the_first_that_is_added_stands_beside_the_settings_one(node: Node) -> None:
    node.add("2")
    assert [(model.identity.version, model.state) for model in node.roster.models] == [
        (SHIPPED.version, "active"),
        ("2", "available"),
    ]
    same = node.roster.called("2").folder
    assert node.add_folder(same) == "there already"
    moved = node.folder_of("2")
    assert node.add_folder(moved) == f"there already, now in {moved}"
    assert node.add_folder("phantom") == "there already"
    other = node.folder_of("2", max_new_tokens=7)
    with pytest.raises(SettingsError, match=f"{SHIPPED.id} 2 is there already with another content"):
        node.add_folder(other)
    assert [model.folder for model in node.roster.models] == ["phantom", moved]


def test_a_folder_that_is_not_whole_is_refused_and_nothing_is_kept(node: Node) -> None:
    folder = node.folder_of("2", checksums={"gone.bin": "0" * 64})
    with pytest.raises(ModelError, match=r"gone.bin is missing"):
        node.add_folder(folder)
    assert [model.added_at for model in node.roster.models] == [None]


def test_without_checksums_the_files_themselves_are_the_content(node: Node) -> None:
    folders = [Path(node.folder_of("2", checksums=None)) for _ in range(2)]
    node.add_folder(str(folders[0]))
    assert "there already" in node.add_folder(str(folders[1]))
    vocabulary = folders[1] / "training_log.csv"
    vocabulary.unlink()
    vocabulary.write_text("other")
    with pytest.raises(SettingsError, match="another content"):
        node.add_folder(str(folders[1]))
    with pytest.raises(ModelError, match=r"does not hold the .* that was added"):
        node.activate("2")


def test_to_roll_back_is_to_go_back_along_what_was_active(node: Node) -> None:
    node.add("2", "3")
    first = SHIPPED.version

    def active() -> str:
        return node.roster.active.identity.version

    node.activate("2")
    node.activate("3")
    assert node.activate("3") == "active already"
    assert [node.roll_back() and active() for _ in range(2)] == ["2", first]
    with pytest.raises(SettingsError, match="no model was active before"):
        node.roll_back()
    node.activate("3")
    node.activate("2")
    node.roll_back()
    assert active() == "3"
    node.roll_back()
    assert active() == first
    with node.records.reading() as session:
        last = events(session)[0]
    assert (last.who, last.action) == ("a test", "model roll back")
    assert last.asked == {"model": f"{SHIPPED.id} {first}", "former": f"{SHIPPED.id} 3"}


def test_what_cannot_be_is_refused(node: Node) -> None:
    node.add("2", "3")
    node.activate("2")
    for do, complaint in (
        (lambda: node.activate("4"), "no model is called '4'; there are: "),
        (lambda: node.change(lambda admin: admin.retire("2")), "2 is active: `models activate` another one"),
        (lambda: node.shadow("2"), "2 is active: a shadow is another one"),
        (lambda: node.change(lambda admin: admin.end_shadow("3")), "3 is no shadow, it is available"),
    ):
        with pytest.raises(SettingsError, match=complaint):
            do()
    node.change(lambda admin: admin.retire(SHIPPED.version))
    for do in (node.roll_back, lambda: node.activate(SHIPPED.version)):
        with pytest.raises(SettingsError, match=f"{SHIPPED.version}, is retired|is retired: `models add`"):
            do()
    assert node.add_folder("phantom") == "available again"
    node.roll_back()
    assert node.roster.active.identity == SHIPPED


def test_a_folder_that_changed_is_not_activated(node: Node) -> None:
    node.add("2")
    folder = Path(node.roster.called("2").folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_new_tokens": 7}))
    with pytest.raises(ModelError, match=r"does not hold the .* 2 that was added"):
        node.activate("2")
    config["operating_point"]["version"] = config["version"] = "2b"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="holds litegpt-phantom 2b now, not litegpt-phantom 2"):
        node.activate("2")
    assert node.roster.active.identity == SHIPPED


def test_what_waits_goes_to_the_model_that_is_activated_but_not_what_was_asked_of_another(node: Node) -> None:
    node.add("2", "3")
    node.shadow("3")
    node.take()
    node.rerun("2")
    first = SHIPPED.version
    assert node.analyses() == [
        (first, "regular", "queued"),
        ("3", "shadow", "queued"),
        ("2", "named", "queued"),
    ]
    node.add("4")
    node.activate("4")
    node.sweep()
    assert [version for version, *_ in node.analyses()] == ["4", "3", "2"]
    node.change(lambda admin: admin.retire("2"))
    node.sweep()
    # The one that was asked of the retired model: the active one reads the same images already.
    assert node.analyses()[2] == ("2", "regular", "superseded")
    assert node.read("4") == 1
    assert node.verdicts() == {Verdict.OPEN: 1} and node.send() == 1
    assert node.verdicts() == {Verdict.SETTLED: 1}


def test_rolling_back_what_an_older_model_has_read_counts_again(node: Node) -> None:
    """Its analysis cannot be made anew, and has a smaller number than what waits for the newer model."""
    uid = node.take()
    first = SHIPPED.version
    node.read(first, "Edema")
    node.send()
    node.add("2")
    node.activate("2")
    assert node.rerun() == {"queued": 1}
    assert node.newest(uid) == ("2", "queued", set())
    node.roll_back()
    node.sweep()
    assert node.newest(uid) == (first, "done", {"Edema"})
    assert node.analyses() == [(first, "regular", "done"), ("2", "regular", "superseded")]
    assert node.verdicts() == {Verdict.SETTLED: 1}
    assert node.run(Resend(again=True)) == {"due again": 1}


def test_what_the_active_model_is_to_read_of_more_images_stays_the_newest(node: Node) -> None:
    """An older reading of fewer images does not come back past it."""
    uid = node.take()
    first = SHIPPED.version
    node.read(first, "Edema")
    node.add("2")
    node.activate("2")
    node.rerun()
    with node.records.writing() as session:
        session.execute(
            update(Analysis).where(Analysis.model_version == "2").values(not_before=utc_now() + MINUTE)
        )
    node.roll_back()
    node.take(study_uid=uid)
    with node.records.writing() as session:
        waiting = {"state": "queued", "finished_at": None, "not_before": utc_now()}
        session.execute(update(Analysis).where(Analysis.model_version == "2").values(waiting))
    node.sweep()
    assert node.analyses()[1:] == [("2", "regular", "superseded"), (first, "regular", "queued")]
    assert node.newest(uid) == (first, "queued", set())
    node.read(first, "Mass")
    assert node.newest(uid) == (first, "done", {"Mass"})


def test_rerun_after_rolling_back_makes_the_older_reading_count(node: Node) -> None:
    first = SHIPPED.version
    uid = node.take()
    node.read(first, "Edema")
    node.add("2")
    node.activate("2")
    node.rerun()
    node.read("2", "Mass")
    assert node.newest(uid) == ("2", "done", {"Mass"})
    assert node.deliveries() == [("PACS@host:104", "withdrawn"), ("PACS@host:104", "due")]
    node.roll_back()
    assert node.newest(uid)[0] == "2"
    assert node.rerun() == {"read by this model before: that counts again": 1}
    assert node.newest(uid) == (first, "done", {"Edema"})
    assert node.deliveries() == [("PACS@host:104", "due"), ("PACS@host:104", "withdrawn")]
    assert node.rerun() == {"read by this model already": 1}
    node.activate("2")
    assert node.rerun() == {"read by this model before: that counts again": 1}
    assert node.newest(uid) == ("2", "done", {"Mass"})


@pytest.mark.parametrize("end", ["cancelled", "superseded", "failed"])
def test_an_older_analysis_that_came_to_no_end_is_the_newest_once_it_is_taken_up_again(
    node: Node, end: str
) -> None:
    first = SHIPPED.version
    uid = node.take()
    with node.records.writing() as session:
        session.execute(update(Analysis).values(state=end, finished_at=utc_now()))
    node.add("2")
    node.activate("2")
    node.rerun()
    node.read("2", "Mass")
    node.roll_back()
    assert node.rerun() == {"queued": 1}
    assert node.newest(uid) == (first, "queued", set())
    assert node.read(first, "Edema") == 1
    assert node.newest(uid) == (first, "done", {"Edema"})
    node.send()
    assert node.verdicts() == {Verdict.SETTLED: 1}


def test_a_shadow_reads_what_comes_and_nothing_looks_at_it(node: Node) -> None:
    first = SHIPPED.version
    node.add("2")
    node.shadow("2", TEST)
    uid = node.take()
    assert node.analyses() == [(first, "regular", "queued"), ("2", "shadow", "queued")]
    node.read(first, "Edema")
    node.send()
    assert node.newest(uid) == (first, "done", {"Edema"})
    assert node.verdicts() == {Verdict.SETTLED: 1}  # though the shadow is still to read it
    assert node.read("2", "Mass", (TEST,)) == 1
    assert node.newest(uid) == (first, "done", {"Edema"})
    every = [row for page in exported(node.records, Selection(), all_analyses=True) for row in page.rows]
    assert [row.label for row in every] == ["Edema"]
    assert [*Selection(label="Mass").pages(node.records)] == []
    assert [*Selection(model="2").pages(node.records)] == []
    assert node.verdicts() == {Verdict.SETTLED: 1}  # though its test destination waits
    with node.records.snapshot() as session:
        sums = sum_up(session, Question(utc_now(), MINUTE))
        flow, stock = tally.flow(session), tally.stock(session)
        by_model = figures_by_model(session, roster_of(session, node.settings))
    assert [row.destination for row in sums.deliveries] == [PACS.address]
    assert (flow.analyses, flow.shadow_analyses, flow.oldest_due) == ({"done": 1}, {"done": 1}, {})
    assert [(row.model_version, row.label) for row in stock.findings] == [(first, "Edema")]
    assert [(one.version, one.studies, dict(one.reported)) for one in by_model.models] == [
        (first, 1, {"Edema": 1}),
        ("2", 1, {"Mass": 1}),
    ]
    assert node.run(Resend(again=True)) == {"due again": 1}
    assert node.run(Retry()) == {"not in quarantine": 1}


def test_a_failed_shadow_is_nobodys_quarantine(node: Node) -> None:
    node.add("2")
    node.shadow("2")
    node.take()
    node.read(SHIPPED.version)
    node.send()
    (claim,) = node.claim("2")
    analyses.fail(node.records, claim, "it broke", again=False, retry=WAITS)
    assert node.verdicts() == {Verdict.SETTLED: 1}
    with node.records.snapshot() as session:
        assert tally.flow(session).quarantined == 0
    assert node.rerun("2") == {"queued": 1}
    assert node.analyses()[1] == ("2", "shadow", "queued")


def test_a_late_image_replaces_the_shadows_work_and_the_active_ones_apart(node: Node) -> None:
    node.add("2")
    node.shadow("2", TEST)
    uid = node.take()
    node.read("2", to=(TEST,))
    node.take(study_uid=uid)
    first = SHIPPED.version
    assert node.analyses() == [
        (first, "regular", "superseded"),
        ("2", "shadow", "done"),
        (first, "regular", "queued"),
        ("2", "shadow", "queued"),
    ]
    assert node.deliveries() == [(TEST.address, "withdrawn")]
    node.read(first)
    assert node.deliveries()[1:] == [(PACS.address, "due")]
    assert node.rerun("2") == {"queued already": 1}
    assert node.deliveries()[1:] == [(PACS.address, "due")]


def test_a_shadow_names_no_report_of_the_active_model_as_its_predecessor_nor_the_other_way(
    node: Node,
) -> None:
    node.add("2")
    node.shadow("2", TEST)
    uid = node.take()
    node.read(SHIPPED.version)
    node.read("2", to=(TEST,))
    node.send()
    node.send(TEST)
    node.take(study_uid=uid)
    claims = [*node.claim(SHIPPED.version), *node.claim("2")]
    named = [[one.sop_instance_uid for one in claim.predecessors] for claim in claims]
    assert named == [["2.25.1"], ["2.25.2"]]


def test_a_shadow_that_is_activated_reads_again_what_it_read_for_nobody(node: Node) -> None:
    first = SHIPPED.version
    node.add("2")
    node.shadow("2", TEST)
    read, waiting = node.take(), node.take()
    node.read(first, "Edema")
    node.read("2", "Mass", (TEST,))
    node.send()
    late = node.take()
    assert "active, in the place of" in node.activate("2")
    node.sweep()
    # What waited for the former goes to it, and its own reading of the same as a shadow with that.
    assert node.analyses()[-2:] == [(first, "regular", "superseded"), ("2", "regular", "queued")]
    assert node.deliveries()[2:] == [(TEST.address, "withdrawn")] * 2
    assert node.read("2", "Fibrosis") == 1
    assert node.newest(late) == ("2", "done", {"Fibrosis"})
    assert node.newest(read) == (first, "done", {"Edema"})
    assert node.rerun() == {"queued": 2, "read by this model already": 1}
    assert node.read("2", "Fibrosis") == 2
    for uid in (read, waiting, late):
        assert node.newest(uid) == ("2", "done", {"Fibrosis"})
    assert [to for to, state in node.deliveries() if state == "due"] == [PACS.address] * 3


def test_a_result_made_for_the_test_goes_to_the_destinations_once_its_model_is_active(node: Node) -> None:
    node.add("2")
    node.shadow("2", TEST)
    node.take()
    (claim,) = node.claim("2")
    outcomes = [ImageOutcome(image.instance_id) for image in claim.images]
    result = WrittenResult("sr", "1.2", "2.25.7", "1", "results/7", "0")
    conclusions.finish(node.records, claim, outcomes, [result], sent_to(TEST))
    node.activate("2")
    node.rerun()
    (claim,) = node.claim("2")
    conclusions.finish(node.records, claim, outcomes, [result], sent_to(PACS))
    assert node.deliveries() == [(TEST.address, "withdrawn"), (PACS.address, "due")]


def test_another_shadow_ends_the_first_ones_work(node: Node) -> None:
    node.add("2", "3")
    node.shadow("2")
    node.take()
    node.shadow("3")
    assert node.analyses()[1] == ("2", "shadow", "cancelled")
    assert [(model.identity.version, model.state) for model in node.roster.models][1:] == [
        ("3", "shadow"),
        ("2", "available"),
    ]
    node.change(lambda admin: admin.end_shadow("3"))
    node.take()
    assert len(node.analyses()) == 3


def test_a_selftest_has_no_shadow(node: Node) -> None:
    node.add("2")
    node.shadow("2")
    node.take(study_uid=new_study_uid(held=True))
    assert [purpose for _, purpose, _ in node.analyses()] == ["regular"]


def test_an_old_study_is_read_by_the_shadow_when_that_is_asked_by_its_name(node: Node) -> None:
    uid = node.take()
    node.read(SHIPPED.version)
    node.send()
    node.add("2")
    node.shadow("2")
    assert node.rerun("2") == {"queued": 1}
    assert node.rerun("2", priority=Priority.ROUTINE) == {"moved up in the queue": 1}
    assert node.read("2", to=()) == 1
    assert node.rerun("2") == {"read by this model already": 1}
    assert node.newest(uid)[0] == SHIPPED.version and node.verdicts() == {Verdict.SETTLED: 1}


def test_a_purge_waits_for_the_shadow(node: Node, archive: Archive) -> None:
    node.add("2")
    node.shadow("2", TEST)
    node.take()
    node.read(SHIPPED.version)
    node.send()
    limits = Limits(received_before=utc_now() + MINUTE)
    purge = Purge(node.records, archive, "a test")
    assert purge.run(limits).images == 0
    node.read("2", to=(TEST,))
    assert purge.run(limits).images == 0
    node.send(TEST)
    assert purge.run(limits).images == 1


def test_what_is_asked_of_another_model_ends_nothing_that_is_due_to_a_patient(node: Node) -> None:
    node.add("2")
    uid = node.take()
    node.rerun("2")
    assert node.analyses() == [(SHIPPED.version, "regular", "queued"), ("2", "named", "queued")]
    node.read(SHIPPED.version)
    node.read("2", "Mass")
    assert node.newest(uid) == ("2", "done", {"Mass"})
    assert [state for _, state in node.deliveries()] == ["due", "due"]


def test_the_active_model_and_its_shadow_are_compared(node: Node) -> None:
    node.add("2")
    node.shadow("2")
    uid = node.take()
    node.take()
    node.read(SHIPPED.version, "Edema")
    (claim, _) = node.claim("2")
    outcomes = [ImageOutcome(image.instance_id, (Finding("COPD", 0.5),)) for image in claim.images]
    conclusions.finish(node.records, claim, outcomes, [], sent_to())
    first, second = readings.models_named(node.records, [SHIPPED.version, "2"])
    (page,) = [page for _, page in readings.pages(node.records, Selection(), first, second)]
    (study,) = page
    assert study.study_instance_uid == uid
    assert [(set(a), set(b)) for a, b in study.images] == [({"Edema"}, {"COPD"})]
