"""Users named with their password (PS3.7 D.3.3.7): dcmtk's storescu and pynetdicom, known and unknown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from typer.testing import CliRunner

from service.cli.main import application
from service.errors import SettingsError
from service.settings import load_settings
from service.wire.association import rejection_of
from service.wire.listener import Listener
from service.wire.users import Users
from tests.images import DX, make_radiograph
from tests.peers.dcmtk import Outcome, run_program
from tests.service.conftest import listening_node

PASSWORD = "a long enough password"

pytestmark = pytest.mark.usefixtures("process_settings")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the command prints for a user."""
    password_file = tmp_path_factory.mktemp("secrets") / "password"
    password_file.write_text(PASSWORD + "\n", encoding="utf-8")
    done = CliRunner().invoke(application(), ["dicom-user", "ct1", "--password-file", str(password_file)])
    assert done.exit_code == 0, done.output
    assert PASSWORD not in done.output
    return done.output


@contextmanager
def _listening(folder: Path, line: str) -> Iterator[Listener]:
    users = folder / "users"
    users.write_text(f"# who may send\n\n{line}", encoding="utf-8")
    address = {"dicom_host": "127.0.0.1", "dicom_port": 0, "minimum_free_bytes": 0}
    settings = load_settings(data_dir=folder / "node", dicom_users_file=users, **address)
    with listening_node(settings) as (listener, _):
        yield listener


def _storescu(listener: Listener, folder: Path, *user: str) -> Outcome:
    image = folder / "image.dcm"
    make_radiograph().save_as(image, enforce_file_format=True)
    return run_program(
        *("storescu", "-v", "-xe", "-to", "20", *user, "127.0.0.1", str(listener.port), image),
        package="dcmtk",
    )


def test_only_a_known_user_with_the_password_may_send(tmp_path: Path, line: str) -> None:
    with _listening(tmp_path, line) as listener:
        known = _storescu(listener, tmp_path, "-usr", "ct1", "-pwd", PASSWORD, "-rsp")
        assert known.succeeded, known.output
        for user in (
            (),
            ("-usr", "ct1"),
            ("-usr", "ct1", "-pwd", "another long password"),
            ("-usr", "ct2", "-pwd", PASSWORD),
        ):
            refused = _storescu(listener, tmp_path, *user)
            assert not refused.succeeded
            assert "Rejected Permanent" in refused.output, refused.output


def test_who_asks_whether_it_is_known_is_told_so(tmp_path: Path, line: str) -> None:
    with _listening(tmp_path, line) as listener:
        asked = _associate(listener, ask=True)
        assert asked.is_established
        response: Any = asked.acceptor.user_identity
        assert response is not None and response.server_response == b""
        asked.release()
        not_asked = _associate(listener, ask=False)
        assert not_asked.is_established and not_asked.acceptor.user_identity is None
        not_asked.release()


def _associate(listener: Listener, *, ask: bool) -> Association:
    identity = UserIdentityNegotiation()
    identity.user_identity_type = 2
    identity.primary_field, identity.secondary_field = b"ct1", PASSWORD.encode()
    identity.positive_response_requested = ask
    entity = AE(ae_title="CT1")
    entity.add_requested_context(DX, ExplicitVRLittleEndian)
    return entity.associate("127.0.0.1", listener.port, ext_neg=[identity])


def test_a_change_of_the_file_holds_at_once_and_a_wrong_one_lets_nobody_in(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with _listening(tmp_path, line) as listener:
        (tmp_path / "users").write_text(f"ct1:{PASSWORD}\n", encoding="utf-8")
        assert rejection_of(_associate(listener, ask=False)) is not None
        (tmp_path / "users").write_text(line.replace("ct1", "ct2"), encoding="utf-8")
        assert rejection_of(_associate(listener, ask=False)) is not None
        (tmp_path / "users").write_text(line, encoding="utf-8")
        association = _associate(listener, ask=False)
        assert association.is_established
        association.release()
    assert "nobody is let in: dicom_users_file" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_file_that_is_wrong_is_told_without_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "users"
    with pytest.raises(SettingsError, match="cannot be read"):
        Users(file).read()
    file.write_text("ct1 secret\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 1: not NAME:HASH") as caught:
        Users(file).read()
    assert "secret" not in str(caught.value)
