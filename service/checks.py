"""Whether what a node stands on is in order: each look returns a fact, or raises what is wrong.

``litegpt-node check`` asks before a node is there, ``/health/ready`` while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from litegpt.errors import ModelError
from service import heartbeat
from service.archive import Archive
from service.errors import NodeError, OutOfResources, SettingsError
from service.loopback import is_loopback
from service.models.roster import Roster, roster_of, roster_without_records
from service.own_files import require_closed, require_folder
from service.peers import Destination
from service.queue import Bell
from service.records.clock import difference
from service.records.database import Records, durability_complaint, utc_now
from service.records.states import ModelState
from service.rules.rulebook import Rules
from service.settings import Settings
from service.sweeper import PART
from service.web import ports
from service.web.ports import Port
from service.wire.association import associated
from service.wire.commitment import ENCODINGS, STORAGE_COMMITMENT
from service.wire.sender import Sender
from service.wire.tls import Identity, requestor_context
from service.wire.users import Users

CLOCKS_DIFFER: Final = timedelta(seconds=5)
"""By more than that a machine's clock is complained about: its logs cannot be read beside others."""

EXPIRES_SOON_DAYS: Final = 30
"""A certificate that ends sooner is complained about."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing looked at: a fact, or a complaint.

    Attributes:
        warns: Whether the fact is one that an admin should know of, and may mean so.
    """

    name: str
    fact: str
    complaint: str | None = None
    warns: bool = False


def line(name: str, look: Callable[[], str]) -> Line:
    """What a look says; its errors are complaints."""
    try:
        return Line(name, look())
    except (NodeError, ModelError) as error:
        return Line(name, "", str(error))
    except PermissionError as error:
        return Line(name, "", f"no permission for {error.filename or error}")


def examine(settings: Settings) -> Iterator[Line]:
    """Everything that a node needs, also of one that has not been up yet; nothing is changed."""
    yield Line("settings", f"AE title {settings.ae_title}, {settings.dicom_ports}")
    yield from _security(settings)
    yield line("model", lambda: model(settings))
    if settings.data_dir.is_dir():
        yield line("data folder", lambda: require_closed(settings.data_dir))
    yield line("archive", lambda: _archive_to_be(settings))
    yield line("database", lambda: _database_to_be(settings))
    yield line("clock", lambda: clock(settings))
    yield line("broker", lambda: broker(settings))
    for port in ports.ports_of(settings):
        yield line(port.name, partial(web_port, settings, port))
    yield line("rules", lambda: rules(settings))
    for to in _destinations(settings):
        yield line(str(to), partial(echo, settings, to))
    for to in _image_destinations(settings):
        yield line(f"images to {to}", partial(echo, settings, to))
    for to in settings.request_commitment_from:
        yield line(f"commitment by {to}", partial(commitment, settings, to))
    if settings.commits_to:
        yield line("commitment to modalities", lambda: safekeeping(settings))
    for webhook in settings.webhooks:
        yield Line(f"webhook {webhook.name}", f"{webhook.origin}; `webhook-test {webhook.name}` tries it")


def _security(settings: Settings) -> Iterator[Line]:
    """What protects the ways in and out over the network."""
    if settings.dicom_port is not None and not is_loopback(settings.dicom_host):
        passwords = ", passwords of dicom_users_file, too" if settings.dicom_users_file else ""
        yield Line(
            "plain DICOM",
            f"other machines reach port {settings.dicom_port} at {settings.dicom_host} without TLS: "
            f"whoever is on the way reads images{passwords} (docs/security.md)",
            warns=True,
        )
    if settings.dicom_tls_certificate is not None:
        yield line("DICOM TLS", lambda: tls(settings))
    if settings.dicom_tls_authorities is not None:
        yield line("TLS authorities", lambda: tls_authorities(settings))
    if settings.dicom_users_file is not None:
        yield line("DICOM users", lambda: dicom_users(settings))
    if not settings.calling_ae_titles and not settings.dicom_users_file:
        yield Line("callers", "anybody who reaches the listener may send: calling_ae_titles", warns=True)


def tls(settings: Settings) -> str:
    """Our certificate can be used, and still for a while.

    Raises:
        SettingsError: If it cannot, or a file beside it.
    """
    identity = Identity.of(settings)
    if identity is None:
        return "none"
    ends = identity.valid_until()
    if (days := (ends - utc_now()).days) < EXPIRES_SOON_DAYS:
        raise SettingsError(
            f"dicom_tls_certificate {identity.certificate} ends in {days} days, {ends:%Y-%m-%d}"
        )
    callers = "callers need one, too" if identity.authorities else "callers need none"
    return f"certificate until {ends:%Y-%m-%d}, {callers}"


def tls_authorities(settings: Settings) -> str:
    """The authorities that peers are checked with can be read.

    Raises:
        SettingsError: If they cannot.
    """
    requestor_context(settings)
    return f"peers are checked with {settings.dicom_tls_authorities}"


def dicom_users(settings: Settings) -> str:
    """The users' file can be read.

    Raises:
        SettingsError: If it cannot.
    """
    if settings.dicom_users_file is None:
        return "none"
    return f"{len(Users(settings.dicom_users_file).read())} in {settings.dicom_users_file}"


def _archive_to_be(settings: Settings) -> str:
    require_folder(settings.data_dir)
    if not settings.data_dir.is_dir():
        return f"{settings.data_dir} does not exist yet; `up` makes it"
    folder = Archive(settings.data_dir)
    return archive(settings) if folder.is_there else _room(folder, settings)


def _database_to_be(settings: Settings) -> str:
    embedded = settings.embedded_database
    if embedded and not embedded.is_file():
        return f"{embedded} does not exist yet; `up` makes it"
    return database(settings)


def rules(settings: Settings) -> str:
    """The hospital's own rules can be read.

    Raises:
        SettingsError: If they cannot, or name a model that the node does not know.
    """
    read = Rules.read(settings)
    own = f"{len(read.study) - 1} for studies, {len(read.result) - 1} for results"
    for rule in read.study:
        if rule.model:
            roster(settings).called(rule.model)
    where = f"{own}, in {settings.rules_file}" if settings.rules_file else "none of your own"
    return where if read.destinations else f"{where}; no destination: results stay in the node"


def _destinations(settings: Settings) -> tuple[Destination, ...]:
    try:
        return Rules.read(settings).destinations
    except SettingsError:
        return settings.destinations


def _image_destinations(settings: Settings) -> tuple[Destination, ...]:
    try:
        return Rules.read(settings).image_destinations
    except SettingsError:
        return settings.forward_images_to


def model(settings: Settings) -> str:
    """The folders of the active model and of its shadow hold what they should.

    Raises:
        ModelError: If they do not.
    """
    models = roster(settings).models
    used = [model for model in models if model.state in (ModelState.ACTIVE, ModelState.SHADOW)]
    for one in used:
        one.require_named()
    return "; ".join(
        f"{one}{', a demonstration' if one.identity.demonstration else ''}"
        f"{', the shadow' if one.state is ModelState.SHADOW else ''}"
        for one in used
    )


def roster(settings: Settings) -> Roster:
    """The models as the records have them; without records, the settings' one.

    Raises:
        ModelError: If that one cannot be read.
    """
    if settings.embedded_database is None or settings.embedded_database.is_file():
        # Where the records are away, or have no such table yet, the look at them says so.
        away = suppress(OutOfResources, DBAPIError)
        with closing(Records.open(settings)) as records, away, records.reading() as session:
            return roster_of(session, settings)
    return roster_without_records(settings)


def archive(settings: Settings) -> str:
    """The archive takes files, and its disk has room.

    Raises:
        OutOfResources: If it does not.
        SettingsError: If there is less room than images are taken with.
    """
    folder = Archive(settings.data_dir)
    if not folder.is_there:
        raise OutOfResources(f"the archive {folder.root} is not there")
    folder.probe()
    return _room(folder, settings)


def _room(folder: Archive, settings: Settings) -> str:
    free = folder.free_bytes()
    if free < settings.minimum_free_bytes:
        raise SettingsError(f"{free / 1e9:.1f} GB free: images are refused below minimum_free_bytes")
    return f"{folder.root}, {free / 1e9:.1f} GB free"


def database(settings: Settings) -> str:
    """The records answer, have the present tables, and keep what they are told.

    Raises:
        SettingsError: If they do not.
    """
    if settings.embedded_database and not settings.embedded_database.is_file():
        raise SettingsError(f"there is no node in {settings.data_dir}")
    records = Records.open(settings)
    try:
        records.require_schema()
        complaint = durability_complaint(records.engine)
        if complaint:
            raise SettingsError(complaint)
        return records.engine.dialect.name
    finally:
        records.close()


def clock(settings: Settings) -> str:
    """This machine's clock and the database's go alike.

    A database that does not answer has a complaint of its own.

    Raises:
        SettingsError: If they do not.
    """
    if settings.embedded_database:
        return "this machine's"
    with closing(Records.open(settings)) as records:
        try:
            ahead = difference(records.engine)
        except SQLAlchemyError:
            return "not compared: the database does not tell its own"
    side = "ahead of" if ahead > timedelta(0) else "behind"
    how = f"{abs(ahead.total_seconds()):.1f} s {side} the database's"
    if abs(ahead) > CLOCKS_DIFFER:
        raise SettingsError(f"this machine's clock is {how}, which is the node's: set up NTP on both")
    return how


def broker(settings: Settings) -> str:
    """The broker answers.

    Raises:
        OutOfResources: If it does not.
    """
    if settings.broker_url is None:
        return "files in the data folder"
    bell = Bell(settings)
    try:
        bell.check()
    finally:
        bell.close()
    return "answers"


def sweeper(settings: Settings) -> str:
    """A sweeper has been round lately, on whatever machine.

    Raises:
        OutOfResources: If none has.
    """
    if not heartbeat.is_beating_anywhere(settings.data_dir, PART):
        raise OutOfResources("no sweeper has been round lately")
    return "goes round"


def web_port(settings: Settings, port: Port) -> str:
    """The port is free, or the node that is up has it.

    Raises:
        SettingsError: If another program has it.
    """
    if ports.running_ports(settings.data_dir).get(port.name) == port.number:
        return f"{port.url}, up"
    ports.bind(port).close()
    return port.url if port.number else "on a free port"


def echo(settings: Settings, destination: Destination) -> str:
    """The destination answers.

    Raises:
        PeerUnavailable: If it does not.
        PeerRefused: If it does not want us.
    """
    Sender(settings).echo(destination)
    return "answers C-ECHO"


def commitment(settings: Settings, destination: Destination) -> str:
    """The destination gets something, and offers storage commitment.

    Raises:
        SettingsError: If nothing is sent there, or it may not report to us.
        PeerUnavailable: If it does not answer.
        KindRefused: If it does not offer it.
        PeerRefused: If it does not want us.
    """
    served = {to.address for to in (*_destinations(settings), *_image_destinations(settings))}
    if destination.address not in served:
        raise SettingsError("it is no destination of results or images, so there is nothing to ask it for")
    callers = settings.calling_ae_titles
    if callers and destination.ae_title not in {caller.ae_title for caller in callers}:
        raise SettingsError("it cannot report on an association of its own: calling_ae_titles leaves it out")
    with associated(settings, destination, [(STORAGE_COMMITMENT, ENCODINGS)]):
        return "offers storage commitment"


def safekeeping(settings: Settings) -> str:
    """The modalities that we commit to may call.

    Raises:
        SettingsError: If one may not.
    """
    callers = {caller.ae_title for caller in settings.calling_ae_titles}
    if callers and (strangers := settings.commits_to - callers):
        raise SettingsError(f"calling_ae_titles leaves {', '.join(sorted(strangers))} out")
    to = ", ".join(map(str, settings.commitment_reports_to))
    return f"for {settings.commit_for_days:g} days, on request of {to}"
