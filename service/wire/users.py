"""The users that who calls us must name, with their password, where the settings name a file of them.

User Identity Negotiation, user name with passcode (PS3.7 D.3.3.7); the file has a line ``NAME:HASH`` each.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from service.errors import SettingsError
from service.passwords import is_password

log = logging.getLogger(__name__)

USERNAME_AND_PASSCODE: Final = 2
"""The User Identity Type that is answered (PS3.7 D.3.3.7.1)."""


@dataclass(frozen=True, slots=True)
class Users:
    """Those of a file, which is read for each association: a change holds at once."""

    file: Path

    def read(self) -> dict[str, str]:
        """Hashes of passwords by name.

        Raises:
            SettingsError: If the file cannot be read, or a line is not ``NAME:HASH``.
        """
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"dicom_users_file {self.file} cannot be read: {error}") from None
        users = {}
        for number, line in enumerate(lines, 1):
            name, colon, password_hash = line.strip().partition(":")
            if not name or name.startswith("#"):
                continue
            if not colon or not password_hash.startswith("$argon2"):
                raise SettingsError(
                    f"dicom_users_file {self.file}, line {number}: not NAME:HASH; "
                    "`litegpt-node dicom-user NAME` writes one"
                )
            users[name] = password_hash
        return users

    def admit(self, association: Association) -> bool:
        """Whether who asks for an association is one of them; if they ask for it, they are told so."""
        asked: Any = association.requestor.user_identity
        if asked is None or asked.user_identity_type != USERNAME_AND_PASSCODE:
            return False
        try:
            name, password = asked.primary_field.decode(), asked.secondary_field.decode()
            users = self.read()
        except UnicodeDecodeError:
            return False
        except SettingsError as error:
            log.error("nobody is let in: %s", error)
            return False
        if not is_password(password, users.get(name)):
            return False
        if asked.positive_response_requested:
            # pynetdicom itself answers only the types that have something to say.
            response = UserIdentityNegotiation()
            response.server_response = b""
            association.acceptor.add_negotiation_item(response)
        return True
