"""What must be so before the pages are served to anyone: users and HTTPS where other machines reach them."""

from __future__ import annotations

import ssl

from service.errors import SettingsError
from service.records import users
from service.records.database import Records
from service.settings import Settings


def is_open(settings: Settings) -> bool:
    """Whether whoever reaches the pages works at this machine; then they are shown while nobody is a user."""
    return settings.web_is_local and not settings.web_behind_proxy


def require_users(settings: Settings) -> None:
    """Looks whether there are users, where others reach the pages.

    Raises:
        SettingsError: If there are none, or the records have no tables.
        OutOfResources: If the database is away.
    """
    if settings.web_port is None or is_open(settings):
        return
    records = Records.open(settings)
    try:
        records.require_schema()
        with records.reading() as session:
            if not users.there_are_users(session):
                raise SettingsError(
                    f"other machines would reach the pages at {settings.web_host}, and there are no users: "
                    "run `litegpt-node user add` first"
                )
    finally:
        records.close()


def require_certificate(settings: Settings) -> None:
    """Looks whether the certificate and its key can be used, where they are set.

    Raises:
        SettingsError: If not.
    """
    certificate, key = settings.web_tls_certificate, settings.web_tls_key
    if certificate is None or key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or error
        raise SettingsError(f"web_tls_certificate and web_tls_key: {reason}") from None
