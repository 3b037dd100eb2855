"""The node's settings: one frozen object, built once in ``main``.

Sources, the first that speaks wins: command line, environment (``LITEGPT_<NAME>``), secret files
(``LITEGPT_SECRETS_DIR``, one file a setting), ``node.toml`` (or the file that ``LITEGPT_CONFIG`` names).
Unknown keys are refused wherever they stand.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, Self, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from service.errors import SettingsError
from service.logs import LogFormat
from service.loopback import is_loopback
from service.peers import DEFAULT_RESULTS, Caller, Destination, ae_title
from service.webhooks import webhook
from service.webhooks.webhook import Webhook

PREFIX: Final = "LITEGPT_"
SOURCES: Final = frozenset({"LITEGPT_CONFIG", "LITEGPT_SECRETS_DIR"})
"""Environment variables that name a source of settings instead of a setting."""

_COMMITMENT: Final = ("request_commitment_from", "commitment_reports_to")

RULE_TABLES: Final = ("study_rules", "result_rules")
"""What else may stand in a settings file (``service.rules``)."""

TESTS: Final = "LITEGPT_TEST_"
"""Prefix of the variables that only the test suite reads."""


def _is_redis_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        named = bool(url.hostname) and url.port != 0 and bool(re.fullmatch(r"/?\d*", url.path))
        return named and url.scheme in {"redis", "rediss"}
    except ValueError:
        return False


def _split(value: object) -> object:
    return [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Settings(BaseSettings):
    """Everything an admin may set; README has the same as a table."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    data_dir: Path = Field(Path("node-data"), description="Folder of images, results and embedded records")
    database_url: str | None = Field(
        None, repr=False, description="SQLAlchemy URL; unset: SQLite in `data_dir`"
    )
    broker_url: str | None = Field(
        None, repr=False, description="Redis, `redis://` or `rediss://`; unset: files in `data_dir`"
    )
    model: str = Field(
        "phantom",
        description="Model folder, or `phantom`, the shipped demonstration; until `models add` adds another",
    )

    ae_title: str = Field("LITEGPT", description="Our application entity title")
    dicom_host: str = Field("0.0.0.0", description="Address the listener binds")
    dicom_port: int | None = Field(
        11112, ge=0, le=65535, description="Port of the listener; 0 takes a free one; empty: no plain DICOM"
    )
    dicom_tls_port: int | None = Field(
        None, ge=0, le=65535, description="Port of the listener for TLS, usually 2762; unset: none"
    )
    dicom_tls_certificate: Path | None = Field(
        None, description="PEM file: our certificate, shown to who calls us and to whom we call"
    )
    dicom_tls_key: Path | None = Field(None, description="PEM file with its key, not encrypted")
    dicom_tls_client_authorities: Path | None = Field(
        None,
        description="PEM file of authorities: who calls by TLS needs a certificate of theirs; unset: none",
    )
    dicom_tls_authorities: Path | None = Field(
        None,
        description="PEM file of authorities that peers which we call by TLS are checked with; unset: this "
        "machine's",
    )
    dicom_users_file: Path | None = Field(
        None,
        description="File of `NAME:HASH` lines (`litegpt-node dicom-user`): who calls must name one of these "
        "users; unset: nobody need",
    )
    calling_ae_titles: Annotated[tuple[Caller, ...], NoDecode] = Field(
        (), description="Who may call us, `AET` or `AET@ADDRESS` or `AET@10.0.0.0/24`; empty: anyone"
    )
    called_ae_titles: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names of ours that may be called; empty: any"
    )
    destinations: Annotated[tuple[Destination, ...], NoDecode] = Field(
        (),
        description="Where results go, `AET@HOST:PORT`, by TLS `dicoms://AET@HOST:PORT`, comma-separated; "
        "`…=sr+sc` says which results",
    )
    rules_file: Path | None = Field(
        None, description="TOML file of rules for studies and results; unset: the settings file itself"
    )
    forward_images_to: Annotated[tuple[Destination, ...], NoDecode] = Field(
        (), description="Where what is sent to us is passed on, the exact bytes; `AET@HOST:PORT`, as above"
    )
    wait_for_study_seconds: float = Field(
        0, ge=0, description="Results wait so long for a destination that answers C-FIND to show the study"
    )
    request_commitment_from: Annotated[tuple[Destination, ...], NoDecode] = Field(
        (),
        description="Which of `destinations` and `forward_images_to` are asked to commit to what they got "
        "(storage commitment); `AET@HOST:PORT`, as there",
    )
    commitment_timeout_seconds: float = Field(
        3600, gt=0, description="They are asked again after this, then after twice as long, up to a day"
    )
    commit_for_days: float = Field(
        0, ge=0, description="The node commits to modalities to keep what they ask for so long; 0: to nobody"
    )
    commitment_reports_to: Annotated[tuple[Destination, ...], NoDecode] = Field(
        (), description="The modalities that may ask, where they take reports, `AET@HOST:PORT`"
    )
    webhooks: Annotated[tuple[Webhook, ...], NoDecode] = Field(
        (),
        repr=False,
        description="Whom analyses are told by HTTP, a table `[webhooks.NAME]` each (docs/deliveries.md); "
        "in the environment or a secret file JSON",
    )
    webhook_days: float = Field(3, ge=0, description="A webhook that does not answer is given up after this")
    accept_all_storage: bool = Field(False, description="Take every storage SOP class, not only radiographs")

    listener_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that receive on the same port; each has these limits for itself",
    )
    maximum_associations: int = Field(25, ge=1, description="Associations at once")
    maximum_associations_per_address: int = Field(
        20, ge=1, description="Of these from one address: so others come in, too"
    )
    maximum_association_seconds: float = Field(
        14_400, ge=0, description="An association that lasts longer is ended; 0: none is"
    )
    maximum_pdu_bytes: int = Field(1 << 20, ge=0, description="Largest PDU we ask for; 0: any")
    maximum_dataset_bytes: int = Field(
        1_000_000_000, gt=0, description="Larger objects are refused (A700), and nothing is kept of them"
    )
    maximum_instances_per_study: int = Field(
        10_000, gt=0, description="More objects of one study are refused (A700)"
    )
    acse_timeout_seconds: float = Field(30, gt=0, description="Wait for an association to be agreed on")
    dimse_timeout_seconds: float = Field(60, gt=0, description="Wait for a DIMSE reply")
    network_timeout_seconds: float = Field(60, gt=0, description="Silence after which a peer is dropped")
    pdu_timeout_seconds: float = Field(
        60,
        gt=0,
        description="A PDU is whole after this, or comes at 1000 bytes a second, or the peer is dropped",
    )
    connect_timeout_seconds: float = Field(10, gt=0, description="Wait for a TCP connection")
    minimum_free_bytes: int = Field(
        1_000_000_000, ge=0, description="Free disk below which images are refused (try later)"
    )

    quiet_seconds: float = Field(60, ge=0, description="Silence after which a study is complete")
    maximum_receiving_seconds: float = Field(900, gt=0, description="Complete at the latest after this")
    sweep_interval_seconds: float = Field(
        1.0, gt=0, description="How often the sweeper looks, besides whenever a study's time comes"
    )

    minimum_age_years: float = Field(18, ge=0, description="Younger patients are not analysed; 0: everyone")
    maximum_pixels: int = Field(100_000_000, gt=0, description="Larger images are not analysed")
    decoding_processes: int | None = Field(
        None,
        ge=0,
        description="Processes of a worker that decode images; unset: one for each core that it may use; "
        "0: it decodes them itself, and makes the results itself, for which there is else one more",
    )
    decoding_timeout_seconds: float = Field(60, gt=0, description="An image that takes longer is not read")
    decoding_memory_bytes: int = Field(
        4 << 30, ge=1 << 28, description="Memory that decoding one image may take; more, and it is not read"
    )
    model_threads: int | None = Field(
        None,
        ge=1,
        description="Threads of a model that computes on the processor; unset: half as many as the cores "
        "that it may use, since images are decoded and results made at the same time",
    )
    analysis_batch_size: int = Field(4, ge=1, description="Analyses a worker claims at once")
    backlog_every: int = Field(
        10, ge=2, description="Every how many-th batch is of the backlog while newer studies wait"
    )
    models_loaded: int = Field(
        1, ge=1, description="Models that a worker keeps loaded; with a shadow, 2 where memory holds both"
    )
    analysis_lease_seconds: float = Field(120, gt=0, description="A silent worker loses its claim after this")
    delivery_lease_seconds: float = Field(300, gt=0, description="The same for deliveries on one association")
    delivery_batch_size: int = Field(50, ge=1, description="Deliveries sent on one association")
    keep_association_seconds: float = Field(
        5,
        ge=0,
        description="An association for deliveries stays open so long for the next ones, but no longer than "
        "half of `network_timeout_seconds`; 0: not at all",
    )
    retrieval_lease_seconds: float = Field(
        120, gt=0, description="A silent retriever loses its study after this"
    )
    retrieval_timeout_seconds: float = Field(
        600, gt=0, description="Wait for a PACS's next word while it retrieves a series"
    )
    maximum_attempts: int = Field(
        5, ge=1, description="Attempts before an analysis is quarantined, or a retrieval has failed"
    )
    retry_first_seconds: float = Field(10, ge=0, description="First wait before another attempt; doubles")
    retry_maximum_seconds: float = Field(900, ge=0, description="Longest wait between attempts")

    web_host: str = Field(
        "127.0.0.1", description="Address the pages bind; another than this machine's own needs users and TLS"
    )
    web_port: int | None = Field(
        8043, ge=0, le=65535, description="Port of the pages; 0 takes a free one; empty: no pages"
    )
    web_tls_certificate: Path | None = Field(None, description="PEM file: the pages speak HTTPS with it")
    web_tls_key: Path | None = Field(None, description="PEM file with its key")
    web_behind_proxy: bool = Field(
        False, description="A proxy of yours speaks HTTPS for the pages, and alone reaches them"
    )
    show_patients: bool = Field(
        False,
        description="Whether pages and API tell names and ids of patients, one by one, when asked to",
    )
    metrics_host: str = Field("0.0.0.0", description="Address that `/metrics` and `/health` alone bind")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port of these for other machines; unset: only beside the pages"
    )

    time_zone: str = Field("UTC", description="The hospital's IANA time zone, written into results")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: LogFormat = Field(LogFormat.TEXT, description="`text`, or `json`: an object a line")

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object, info: ValidationInfo) -> object:
        """What may be unset is so where it is empty: a variable cannot say it otherwise."""
        may_be_unset = NoneType in get_args(cls.model_fields[str(info.field_name)].annotation)
        return None if value == "" and may_be_unset else value

    @field_validator("broker_url", mode="after")
    @classmethod
    def _check_broker_url(cls, value: str | None) -> str | None:
        if value is not None and not _is_redis_url(value):
            raise ValueError("must be redis://HOST:PORT/NUMBER or rediss://HOST:PORT/NUMBER")
        return value

    @field_validator("ae_title", mode="after")
    @classmethod
    def _check_ae_title(cls, value: str) -> str:
        return ae_title(value)

    @field_validator("calling_ae_titles", mode="before")
    @classmethod
    def _parse_callers(cls, value: object) -> object:
        parts = _split(value)
        if isinstance(parts, (list, tuple)):
            return tuple(Caller.parse(part) if isinstance(part, str) else part for part in parts)
        return parts

    @field_validator("called_ae_titles", mode="before")
    @classmethod
    def _split_called(cls, value: object) -> object:
        return _split(value)

    @field_validator("called_ae_titles", mode="after")
    @classmethod
    def _check_called(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(ae_title(title) for title in value)

    @field_validator("destinations", "forward_images_to", *_COMMITMENT, mode="before")
    @classmethod
    def _parse_destinations(cls, value: object) -> object:
        parts = _split(value)
        if isinstance(parts, (list, tuple)):
            return tuple(Destination.parse(part) if isinstance(part, str) else part for part in parts)
        return parts

    @field_validator("forward_images_to", mode="after")
    @classmethod
    def _check_forwarding(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        for destination in value:
            if destination.results != DEFAULT_RESULTS:
                raise ValueError(
                    f"{destination}: images alone are passed on, so no kinds of results are said"
                )
        return value

    @field_validator(*_COMMITMENT, mode="after")
    @classmethod
    def _check_commitment(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        for destination in value:
            if destination.results != DEFAULT_RESULTS:
                raise ValueError(
                    f"{destination}: no kinds of results are said here: leave out what follows ="
                )
        return value

    @field_validator("destinations", "forward_images_to", *_COMMITMENT, mode="after")
    @classmethod
    def _count_destinations_once(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        once = tuple(dict.fromkeys(value))
        addresses = [destination.address for destination in once]
        for address in addresses:
            if addresses.count(address) > 1:
                raise ValueError(f"{address} is there twice: join its results with +")
        return once

    @field_validator("webhooks", mode="before")
    @classmethod
    def _read_webhooks(cls, value: object) -> object:
        return webhook.by_name(value)

    @field_validator("time_zone", mode="after")
    @classmethod
    def _check_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no such IANA time zone: {value!r}") from None
        return value

    @field_validator("log_level", mode="after")
    @classmethod
    def _check_log_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @model_validator(mode="after")
    def _check_waits(self) -> Self:
        if self.quiet_seconds > self.maximum_receiving_seconds:
            raise ValueError("quiet_seconds must not exceed maximum_receiving_seconds")
        if self.delivery_lease_seconds <= self.dimse_timeout_seconds:
            raise ValueError("delivery_lease_seconds must exceed dimse_timeout_seconds")
        return self

    @model_validator(mode="after")
    def _check_safekeeping(self) -> Self:
        if self.commit_for_days and not self.commitment_reports_to:
            raise ValueError("commit_for_days needs commitment_reports_to: nobody could be told")
        return self

    @model_validator(mode="after")
    def _check_web(self) -> Self:
        if (self.web_tls_certificate is None) != (self.web_tls_key is None):
            raise ValueError("web_tls_certificate and web_tls_key go together")
        if not self.web_is_local and not self.web_is_secure:
            raise ValueError(
                f"web_host: pages that other machines reach, at {self.web_host}, need "
                "web_tls_certificate and web_tls_key, or web_behind_proxy"
            )
        return self

    @model_validator(mode="after")
    def _check_dicom(self) -> Self:
        if (self.dicom_tls_certificate is None) != (self.dicom_tls_key is None):
            raise ValueError("dicom_tls_certificate and dicom_tls_key go together")
        if self.dicom_tls_port is not None and self.dicom_tls_certificate is None:
            raise ValueError("dicom_tls_port needs dicom_tls_certificate and dicom_tls_key")
        if self.dicom_port is None and self.dicom_tls_port is None:
            raise ValueError("dicom_port or dicom_tls_port must be set: nobody could send images")
        return self

    @property
    def commits_to(self) -> frozenset[str]:
        """AE titles of the modalities that may ask the node to commit."""
        return frozenset(one.ae_title for one in self.commitment_reports_to if self.commit_for_days)

    @property
    def commitment_addresses(self) -> frozenset[str]:
        """The addresses of ``request_commitment_from``."""
        return frozenset(destination.address for destination in self.request_commitment_from)

    @property
    def dicom_ports(self) -> str:
        """The listener's ports, for a person."""
        by_tls = "" if self.dicom_tls_port is None else f"port {self.dicom_tls_port} by TLS"
        plain = "" if self.dicom_port is None else f"port {self.dicom_port}"
        return " and ".join(filter(None, (plain, by_tls)))

    @property
    def web_is_local(self) -> bool:
        """Whether the pages are bound to an address that only this machine reaches."""
        return is_loopback(self.web_host)

    @property
    def web_is_secure(self) -> bool:
        """Whether browsers reach the pages by HTTPS alone."""
        return self.web_tls_certificate is not None or self.web_behind_proxy

    @property
    def webhook_names(self) -> tuple[str, ...]:
        """The names of all webhooks."""
        return tuple(webhook.name for webhook in self.webhooks)

    @property
    def zone(self) -> ZoneInfo:
        """The hospital's time zone."""
        return ZoneInfo(self.time_zone)

    @property
    def embedded_database(self) -> Path | None:
        """The SQLite file of an embedded node; ``None`` where a database is configured."""
        return self.data_dir / "node.sqlite" if self.database_url is None else None

    @property
    def sqlalchemy_url(self) -> str:
        """URL of the records' database."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'node.sqlite').absolute()}"

    def as_environment(self) -> dict[str, str]:
        """All of the settings as ``LITEGPT_…`` variables: a process that gets them needs no other source."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        values["data_dir"] = self.data_dir.absolute()
        values["webhooks"] = webhook.as_json(self.webhooks)
        return {PREFIX + name.upper(): _as_text(value) for name, value in values.items()}


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Builds the settings from every source.

    Args:
        config: A TOML file; by default what ``LITEGPT_CONFIG`` names, else ``node.toml`` where there is one.
        **overrides: Values from the command line; ``None`` means "not given".

    Raises:
        SettingsError: One line that names the setting and what is wrong with it.
    """
    _refuse_unknown_variables()
    toml_file = _toml_file(config)
    secrets = Path(os.environ.get("LITEGPT_SECRETS_DIR", "/run/secrets"))

    def sources(settings_cls: type[BaseSettings]) -> Iterator[PydanticBaseSettingsSource]:
        yield EnvSettingsSource(settings_cls)
        if secrets.is_dir():
            yield SecretsSettingsSource(settings_cls, secrets)
        if toml_file:
            yield InitSettingsSource(settings_cls, file_values)

    file_values, has_rules = _values_of(toml_file) if toml_file else ({}, False)
    settings = _settings({name: value for name, value in overrides.items() if value is not None}, sources)
    if toml_file and has_rules and settings.rules_file != toml_file.absolute():
        raise SettingsError(f"{toml_file} has rules, and rules_file names another file")
    return settings


def settings_without_sources(**values: Any) -> Settings:
    """Settings of these values and the defaults alone, whatever the environment or a file says.

    Raises:
        SettingsError: If a value is wrong.
    """
    return _settings(values, lambda _: iter(()))


def _settings(
    values: dict[str, Any],
    sources: Callable[[type[BaseSettings]], Iterator[PydanticBaseSettingsSource]],
) -> Settings:
    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, *sources(settings_cls)

    try:
        return Sourced(**values)
    except ValidationError as error:
        raise SettingsError(_first_complaint(error)) from None


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _refuse_unknown_variables() -> None:
    for name in sorted(os.environ):
        if not name.startswith(PREFIX) or name in SOURCES or name.startswith(TESTS):
            continue
        if name.removeprefix(PREFIX).lower() not in Settings.model_fields:
            raise SettingsError(f"unknown setting {name} in the environment")


def _toml_file(config: Path | None) -> Path | None:
    named = config or os.environ.get("LITEGPT_CONFIG")
    if named and not Path(named).is_file():
        raise SettingsError(f"no such settings file: {named}")
    if named:
        return Path(named)
    return Path("node.toml") if Path("node.toml").is_file() else None


def _values_of(toml_file: Path) -> tuple[dict[str, Any], bool]:
    """The settings of a file, and whether there are rules in it; whoever goes by those reads them."""
    try:
        values = tomllib.loads(toml_file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{toml_file}: {error}") from None
    of_settings = {name: value for name, value in values.items() if name not in RULE_TABLES}
    own = {"rules_file": str(toml_file.absolute())}
    return own | of_settings, len(of_settings) < len(values)


def _first_complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"])) or "settings"
    if first["type"] == "extra_forbidden":
        return f"unknown setting {name!r}"
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"
