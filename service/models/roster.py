"""Which models the node knows at this moment, and what each of them is for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from litegpt.errors import ModelError
from litegpt.identity import ModelIdentity, read_identity
from litegpt.inspection import content_digest
from service.errors import SettingsError
from service.peers import Destination
from service.records.states import ModelState, Purpose
from service.records.tables import Model
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model folder that the node may use.

    Attributes:
        identity: Whose it is.
        folder: Where it is; ``phantom`` is the shipped one.
        digest: Of what is in it; empty of the settings' model, which is taken as it is.
        state: What it is for.
        shadow_to: Where a shadow's results go, if anywhere.
        added_at: When it was added; ``None`` of the settings' model.
        activated_at: Since when it is what it is.
    """

    identity: ModelIdentity
    folder: str
    digest: str = ""
    state: ModelState = ModelState.AVAILABLE
    shadow_to: str = ""
    added_at: datetime | None = None
    activated_at: datetime | None = None

    def __str__(self) -> str:
        return f"{self.identity.id} {self.identity.version}"

    @property
    def purpose(self) -> Purpose:
        """Why it reads a study that it is asked to read."""
        purposes = {ModelState.ACTIVE: Purpose.REGULAR, ModelState.SHADOW: Purpose.SHADOW}
        return purposes.get(self.state, Purpose.NAMED)

    @property
    def test_destinations(self) -> tuple[Destination, ...]:
        """Where a shadow's results go."""
        return (Destination.parse(self.shadow_to),) if self.shadow_to else ()

    def require_named(self) -> None:
        """Looks whether the folder is there, and still says the same name.

        Raises:
            ModelError: If not.
        """
        identity = read_identity(self.folder)
        if identity != self.identity:
            holds = f"{self.folder} holds {identity.id} {identity.version} now, not {self}"
            raise ModelError(f"{holds}: `litegpt-node models add` and `activate` it")

    def require_unchanged(self) -> None:
        """Looks whether the folder still holds what was added; without checksums that is to read all of it.

        Raises:
            ModelError: If it does not.
        """
        self.require_named()
        if self.digest and content_digest(self.folder) != self.digest:
            raise ModelError(f"{self.folder} does not hold the {self} that was added")


@dataclass(frozen=True, slots=True)
class Roster:
    """All of them, the active one first, then the shadow, the others as they were added."""

    models: tuple[KnownModel, ...]

    @property
    def active(self) -> KnownModel:
        """The one that reads what comes."""
        return self.models[0]

    @property
    def shadow(self) -> KnownModel | None:
        """The one that is compared with it."""
        return next((model for model in self.models if model.state is ModelState.SHADOW), None)

    @property
    def readers(self) -> tuple[KnownModel, ...]:
        """Those that may read."""
        return tuple(model for model in self.models if model.state is not ModelState.RETIRED)

    def called(self, name: str) -> KnownModel:
        """The model of this name: id and version, or a version that no other model has.

        Raises:
            SettingsError: If there is none, or more than one.
        """
        by_version = [model for model in self.models if name == model.identity.version]
        meant = [model for model in self.models if name == str(model)] or by_version
        if len(meant) == 1:
            return meant[0]
        there = ", ".join(map(str, meant or self.models))
        raise SettingsError(
            f"{'more than one' if meant else 'no'} model is called {name!r}; there are: {there}"
        )

    def reader_called(self, name: str) -> KnownModel:
        """The same, of those that may read.

        Raises:
            SettingsError: If there is none, more than one, or it is retired.
        """
        model = self.called(name)
        if model.state is ModelState.RETIRED:
            raise SettingsError(f"{model} is retired: it reads nothing any more")
        return model


def roster_of(session: Session, settings: Settings) -> Roster:
    """The models in the records, or the settings' one where there are none.

    Raises:
        ModelError: If that one's folder cannot be read.
    """
    rows = session.scalars(select(Model).order_by(Model.id)).all()
    if not rows:
        return roster_without_records(settings)
    order = list(ModelState)
    known = sorted(map(known_model, rows), key=lambda model: order.index(model.state))
    return Roster(tuple(known))


def roster_without_records(settings: Settings) -> Roster:
    """The settings' model alone.

    Raises:
        ModelError: If its folder cannot be read.
    """
    return Roster((KnownModel(read_identity(settings.model), settings.model, state=ModelState.ACTIVE),))


def known_model(row: Model) -> KnownModel:
    """A row as others see it."""
    return KnownModel(
        identity=ModelIdentity(row.model_id, row.model_version, row.demonstration),
        folder=row.folder,
        digest=row.digest,
        state=ModelState(row.state),
        shadow_to=row.shadow_to,
        added_at=row.added_at,
        activated_at=row.activated_at,
    )
