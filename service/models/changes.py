"""What an admin does to the models of a node: add, activate, roll back, compare, retire.

Each is one transaction. Sweeper and workers look the active model up each round, so that no change needs a
restart; what waits for a model that is no longer asked is handed on here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, Select, and_, select, update
from sqlalchemy.orm import Session

from litegpt.identity import PHANTOM, ModelIdentity
from litegpt.inspection import Inspected, inspect
from service.errors import NameTaken, SettingsError
from service.models.roster import KnownModel, Roster, known_model
from service.peers import Destination
from service.records.database import utc_now
from service.records.journal import write_down
from service.records.naming import new_name
from service.records.states import WAITING, AnalysisState, DeliveryState, ModelState, Purpose
from service.records.tables import Activation, Analysis, Delivery, Model, Result
from service.settings import Settings

_NOTHING_ADDED = "the node has one model, that of its settings: litegpt-node models add FOLDER adds another"


@dataclass(frozen=True, slots=True)
class Change:
    """What was done.

    Attributes:
        model: The one that it is about, as it is now.
        words: What became of it.
    """

    model: KnownModel
    words: str


@dataclass(frozen=True, slots=True)
class Admin:
    """Who changes the models, in one transaction that commits all of it or nothing."""

    session: Session
    settings: Settings
    who: str

    def add(self, folder: str) -> Change:
        """Adds a model folder; the first time, the settings' model is kept beside it as the active one.

        Raises:
            ModelError: If the folder is not a whole model's.
            NameTaken: If another content has its name, or somebody else has just added it.
        """
        given = inspect(folder)
        with new_name(self.session, "somebody else has just added a model: `models list` tells which"):
            return self._add(given, folder)

    def _add(self, given: Inspected, folder: str) -> Change:
        rows = self._rows()
        if not rows:
            rows = [self._keep_the_settings_model()]
        twin = next((row for row in rows if _is(row, given.identity)), None)
        if twin is not None:
            return self._added_before(twin, given, folder)
        row = _row(given, folder)
        self.session.add(row)
        return self._changed("add", row, "added; `models activate` lets it read what comes")

    def activate(self, name: str) -> Change:
        """Lets a model read what comes from now on, and what waits for the former.

        Raises:
            SettingsError: If there is no such model, or it is retired.
            ModelError: If its folder does not hold it any more.
        """
        row = self._called(name)
        if row.state == ModelState.ACTIVE:
            return Change(known_model(row), "active already")
        if row.state == ModelState.RETIRED:
            raise SettingsError(f"{_name(row)} is retired: `models add` its folder to have it back")
        former = self._make_active(row)
        self.session.add(Activation(model=row, at=utc_now(), who=self.who))
        return self._changed("activate", row, f"active, in the place of {former}", former=former)

    def roll_back(self) -> Change:
        """Lets the model read again that was active before; done twice, the one before that.

        Raises:
            SettingsError: If there was none, or it is retired.
            ModelError: If its folder does not hold it any more.
        """
        pile = self._standing_activations()
        if len(pile) < 2:
            raise SettingsError("no model was active before the present one")
        last, before = pile[0], pile[1]
        row = before.model
        if row.state == ModelState.RETIRED:
            raise SettingsError(f"the model before, {_name(row)}, is retired: `models activate` another one")
        last.rolled_back_at = utc_now()
        former = self._make_active(row)
        return self._changed("roll back", row, f"active again, in the place of {former}", former=former)

    def shadow(self, name: str, to: Destination | None) -> Change:
        """Has a model read what comes beside the active one; its results go nowhere, or to a test.

        Raises:
            SettingsError: If there is no such model, it is active or retired, or results go there anyhow.
            ModelError: If its folder does not hold it any more.
        """
        row = self._called(name)
        if row.state in (ModelState.ACTIVE, ModelState.RETIRED):
            raise SettingsError(f"{_name(row)} is {row.state}: a shadow is another one than the active model")
        if to is not None and to.address in {one.address for one in self.settings.destinations}:
            raise SettingsError(f"{to.address} is a destination of the node: a shadow's results go elsewhere")
        known_model(row).require_unchanged()
        former = self.session.scalars(select(Model).where(Model.state == ModelState.SHADOW)).one_or_none()
        if former is not None and former is not row:
            self._end_shadow(former)
            self.session.flush()
        row.state, row.shadow_to, row.activated_at = ModelState.SHADOW, str(to or ""), utc_now()
        where = f"its results go to {to}" if to else "its results go nowhere"
        return self._changed(
            "shadow", row, f"reads what comes beside the active model; {where}", to=str(to or "")
        )

    def end_shadow(self, name: str) -> Change:
        """Has a shadow read no more of what comes.

        Raises:
            SettingsError: If there is no such model, or it is no shadow.
        """
        row = self._called(name)
        if row.state != ModelState.SHADOW:
            raise SettingsError(f"{_name(row)} is no shadow, it is {row.state}")
        self._end_shadow(row)
        return self._changed("end shadow", row, "no shadow any more; what it has read can be compared")

    def retire(self, name: str) -> Change:
        """Gives a model no more work; what it was asked for by name goes to the active one.

        Raises:
            SettingsError: If there is no such model, or it is active.
        """
        row = self._called(name)
        if row.state == ModelState.ACTIVE:
            raise SettingsError(f"{_name(row)} is active: `models activate` another one first")
        if row.state == ModelState.SHADOW:
            self._end_shadow(row)
        row.state = ModelState.RETIRED
        waiting = (_by(row), Analysis.purpose == Purpose.NAMED, Analysis.state.in_(WAITING))
        self.session.execute(update(Analysis).where(*waiting).values(purpose=Purpose.REGULAR))
        return self._changed("retire", row, "retired; it gets no more work")

    def _rows(self) -> Sequence[Model]:
        return self.session.scalars(select(Model).order_by(Model.id).with_for_update()).all()

    def _called(self, name: str) -> Model:
        rows = self._rows()
        if not rows:
            raise SettingsError(_NOTHING_ADDED)
        identity = Roster(tuple(map(known_model, rows))).called(name).identity
        return next(row for row in rows if _is(row, identity))

    def _keep_the_settings_model(self) -> Model:
        now = utc_now()
        row = _row(inspect(self.settings.model), self.settings.model, now)
        row.state, row.activated_at = ModelState.ACTIVE, now
        self.session.add_all([row, Activation(model=row, at=now, who="the node's settings")])
        self.session.flush()
        return row

    def _added_before(self, row: Model, given: Inspected, folder: str) -> Change:
        if row.digest != given.digest:
            raise NameTaken(
                f"{_name(row)} is there already with another content, in {row.folder}: "
                "other weights need another version"
            )
        moved = row.folder != (kept := _written(folder))
        row.folder = kept
        words = "there already" + (f", now in {kept}" if moved else "")
        if row.state == ModelState.RETIRED:
            row.state, words = ModelState.AVAILABLE, "available again"
        return self._changed("add", row, words)

    def _make_active(self, row: Model) -> str:
        """The name of the one in whose place it is."""
        known_model(row).require_unchanged()
        former = self.session.scalars(select(Model).where(Model.state == ModelState.ACTIVE)).one()
        if row.state == ModelState.SHADOW:
            self._end_shadow(row)
        former.state = ModelState.AVAILABLE
        self.session.flush()  # before the other: there is never more than one
        row.state, row.activated_at = ModelState.ACTIVE, utc_now()
        return _name(former)

    def _end_shadow(self, row: Model) -> None:
        """What it was to read beside the active one is not read, what it was to send is not sent."""
        why = f"{_name(row)} is no shadow any more"
        in_shadow = (_by(row), Analysis.purpose == Purpose.SHADOW)
        self.session.execute(
            update(Analysis)
            .where(*in_shadow, Analysis.state.in_(WAITING))
            .values(state=AnalysisState.CANCELLED, finished_at=utc_now(), error=why)
        )
        results = select(Result.id).join(Analysis, Analysis.id == Result.analysis_id).where(*in_shadow)
        self.session.execute(
            update(Delivery)
            .where(Delivery.state == DeliveryState.DUE, Delivery.result_id.in_(results))
            .values(state=DeliveryState.WITHDRAWN, error=why)
        )
        row.state, row.shadow_to = ModelState.AVAILABLE, ""

    def _standing_activations(self) -> Sequence[Activation]:
        self._rows()
        standing: Select[Activation] = select(Activation).where(Activation.rolled_back_at.is_(None))
        return self.session.scalars(standing.order_by(Activation.id.desc()).limit(2)).all()

    def _changed(self, action: str, row: Model, words: str, **asked: str) -> Change:
        self.session.flush()
        write_down(self.session, self.who, f"model {action}", None, model=_name(row), **asked)
        return Change(known_model(row), words)


def _row(given: Inspected, folder: str, now: datetime | None = None) -> Model:
    return Model(
        model_id=given.identity.id,
        model_version=given.identity.version,
        folder=_written(folder),
        digest=given.digest,
        demonstration=given.identity.demonstration,
        state=ModelState.AVAILABLE,
        added_at=now or utc_now(),
    )


def _written(folder: str) -> str:
    return folder if folder == PHANTOM else str(Path(folder).absolute())


def _is(row: Model, identity: ModelIdentity) -> bool:
    return (row.model_id, row.model_version) == (identity.id, identity.version)


def _by(row: Model) -> ColumnElement[bool]:
    return and_(Analysis.model_id == row.model_id, Analysis.model_version == row.model_version)


def _name(row: Model) -> str:
    return f"{row.model_id} {row.model_version}"
