"""A webhook as it is set up: where to, the secret that signs, and whether it is told who the patient is.

In ``node.toml`` each is a table ``[webhooks.NAME]``; in the environment and in a secret file all of them are
one JSON object by name.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator

from service.loopback import is_loopback

SECRET_PREFIX: Final = "whsec_"
MASK: Final = "***"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_SECRET_BYTES: Final = range(24, 65)


class Webhook(BaseModel):
    """One webhook.

    Attributes:
        name: By which rules, records and commands know it.
        url: Where its calls are posted.
        secret: Base64 of 24 to 64 random bytes, perhaps after ``whsec_``, as Standard Webhooks has it.
        tell_patient: Whether it is told the patient's name and id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    url: str
    secret: SecretStr
    tell_patient: bool = False

    @field_validator("name", mode="after")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(f"a webhook's name has small letters, digits, - and _, not {value!r}")
        return value

    @field_validator("url", mode="after")
    @classmethod
    def _check_url(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            sound = url.scheme in {"http", "https"} and url.hostname and url.port != 0
        except ValueError:
            sound = False
        if not sound or url.username is not None or url.fragment or not value.isascii() or " " in value:
            raise ValueError("a webhook's url is written https://HOST/PATH, without a user or a fragment")
        return value

    @field_validator("secret", mode="after")
    @classmethod
    def _check_secret(cls, value: SecretStr) -> SecretStr:
        try:
            length = len(_decoded(value))
        except binascii.Error:
            length = 0
        if length not in _SECRET_BYTES:
            raise ValueError("a webhook's secret is base64 of 24 to 64 bytes: openssl rand -base64 32")
        return value

    @model_validator(mode="after")
    def _check_patient(self) -> Webhook:
        url = urlsplit(self.url)
        if self.tell_patient and url.scheme != "https" and not is_loopback(url.hostname or ""):
            raise ValueError("who the patient is is told by https alone")
        return self

    @property
    def key(self) -> bytes:
        """What signs."""
        return _decoded(self.secret)

    @property
    def origin(self) -> str:
        """The address without its path, which may be a secret of the receiver's."""
        url = urlsplit(self.url)
        return f"{url.scheme}://{url.netloc}"

    def __str__(self) -> str:
        return f"{self.name} at {self.origin}"


def by_name(webhooks: object) -> object:
    """Tables by name, or JSON of them, as a list of what makes a :class:`Webhook`; anything else as it is.

    Raises:
        ValueError: If a text is no JSON object, without a word of what it says.
    """
    if isinstance(webhooks, str):
        if not webhooks.strip():
            return ()
        try:
            webhooks = json.loads(webhooks)
        except ValueError:
            webhooks = None
        if not isinstance(webhooks, dict):
            raise ValueError('must be a JSON object: {"NAME": {"url": "…", "secret": "…"}}')
    if not isinstance(webhooks, Mapping):
        return webhooks
    return tuple(
        {**table, "name": name} if isinstance(table, Mapping) else {"name": name}
        for name, table in webhooks.items()
    )


def as_json(webhooks: Iterable[Webhook], *, masked: bool = False) -> str:
    """The same as JSON by name: to be read again by :func:`by_name`, or masked, for people."""
    tables = {one.name: _masked(one) if masked else _whole(one) for one in webhooks}
    return json.dumps(tables) if tables else ""


def _whole(webhook: Webhook) -> dict[str, Any]:
    secret = webhook.secret.get_secret_value()
    return {"url": webhook.url, "secret": secret, "tell_patient": webhook.tell_patient}


def _masked(webhook: Webhook) -> dict[str, Any]:
    return {"url": f"{webhook.origin}/{MASK}", "secret": MASK, "tell_patient": webhook.tell_patient}


def _decoded(secret: SecretStr) -> bytes:
    return base64.b64decode(secret.get_secret_value().strip().removeprefix(SECRET_PREFIX), validate=True)
