"""Every source of settings is read, the first that speaks wins, and what is wrong is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import SettingsError
from service.peers import Destination, ResultKind
from service.settings import load_settings


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_argument_wins_over_the_environment_over_a_secret_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("node.toml").write_text(
        'ae_title = "FILE"\nmodel = "FILE"\ndatabase_url = "FILE"\nlog_level = "ERROR"\n'
    )
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in ("ae_title", "model", "database_url"):
        (secrets / f"litegpt_{name}").write_text("SECRET\n")
    monkeypatch.setenv("LITEGPT_SECRETS_DIR", str(secrets))
    monkeypatch.setenv("LITEGPT_AE_TITLE", "ENVIRONMENT")
    monkeypatch.setenv("LITEGPT_MODEL", "ENVIRONMENT")

    settings = load_settings(ae_title="ARGUMENT")

    assert settings.ae_title == "ARGUMENT"
    assert settings.model == "ENVIRONMENT"
    assert settings.database_url == "SECRET"
    assert settings.log_level == "ERROR"


def test_the_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "other.toml"
    named.write_text('ae_title = "OTHER"\ndestinations = ["PACS@host:104", "ARCHIVE@[::1]:11112"]\n')
    assert load_settings(named).ae_title == "OTHER"
    monkeypatch.setenv("LITEGPT_CONFIG", str(named))
    assert [str(to) for to in load_settings().destinations] == ["PACS@host:104", "ARCHIVE@[::1]:11112"]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"destinations": ["PACS"]}, "destinations: a destination is written AET@HOST:PORT, not 'PACS'"),
        ({"destinations": ["PACS@host:70000"]}, "not 'PACS@host:70000'"),
        ({"destinations": ["PACS@host:104=sr+pdf"]}, "(sr, gsps, sc) joined by +, not 'sr+pdf'"),
        ({"destinations": ["PACS@host:104=sr", "PACS@host:104=sc"]}, "PACS@host:104 is there twice"),
        ({"destinations": ["A" * 17 + "@host:104"]}, "an AE title has 1 to 16 plain characters"),
        ({"ae_title": "a\\b"}, r"ae_title: an AE title has 1 to 16 plain characters, not 'a\\b'"),
        ({"time_zone": "Mars/Olympus"}, "time_zone: no such IANA time zone: 'Mars/Olympus'"),
        ({"dicom_port": 70000}, "dicom_port: Input should be less than or equal to 65535"),
        ({"quiet_seconds": -1}, "quiet_seconds: Input should be greater than or equal to 0"),
        ({"quiet_seconds": 1000}, "quiet_seconds must not exceed maximum_receiving_seconds"),
        ({"colour": "blue"}, "unknown setting 'colour'"),
        ({"dimse_timeout_seconds": 300}, "delivery_lease_seconds must exceed dimse_timeout_seconds"),
        ({"broker_url": "amqp://host"}, "broker_url: must be redis://"),
        ({"broker_url": "redis://host:port/0"}, "broker_url: must be redis://"),
        ({"broker_url": "redis://host/zero"}, "broker_url: must be redis://"),
        ({"log_level": "LOUD"}, "log_level: must be DEBUG, INFO, WARNING or ERROR"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(overrides: dict[str, object], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://host", "redis://:p%40ss@host:6379/1", "rediss://[::1]:6380/0?ssl_cert_reqs=required"]
)
def test_a_redis_is_taken_as_it_is_written(url: str) -> None:
    assert load_settings(broker_url=url).broker_url == url


def test_a_destination_listed_twice_counts_once() -> None:
    settings = load_settings(destinations="A@b:1, C@d:2,A@b:1")
    assert [str(to) for to in settings.destinations] == ["A@b:1", "C@d:2"]


def test_unknown_keys_are_refused_in_the_file_and_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("node.toml").write_text("aetitle = 'X'\n")
    with pytest.raises(SettingsError, match="unknown setting 'aetitle'"):
        load_settings()
    Path("node.toml").write_text("ae_title = \n")
    with pytest.raises(SettingsError, match=r"node\.toml: "):
        load_settings()
    Path("node.toml").unlink()
    monkeypatch.setenv("LITEGPT_AETITLE", "X")
    with pytest.raises(SettingsError, match="unknown setting LITEGPT_AETITLE in the environment"):
        load_settings()


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such settings file: nowhere"):
        load_settings(Path("nowhere"))


def test_settings_survive_the_way_to_a_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(
        ae_title="MY NODE",
        destinations=["A@b:1", "C@[::1]:2"],
        calling_ae_titles=["X", "Y Z"],
        quiet_seconds=1.5,
        accept_all_storage=True,
    )
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    again = load_settings()
    assert again.model_dump(exclude={"data_dir"}) == settings.model_dump(exclude={"data_dir"})
    assert again.data_dir == settings.data_dir.absolute()


def test_what_may_be_unset_is_so_where_its_variable_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    optional = ("web_port", "metrics_port", "decoding_processes", "model_threads", "dicom_tls_port")
    for name in optional:
        monkeypatch.setenv(f"LITEGPT_{name.upper()}", "")
    settings = load_settings()
    assert [getattr(settings, name) for name in optional] == [None] * len(optional)
    monkeypatch.setenv("LITEGPT_QUIET_SECONDS", "")
    with pytest.raises(SettingsError, match="quiet_seconds"):
        load_settings()


_TITLES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\@,"), min_size=1, max_size=16
).filter(lambda text: text.strip() == text)
_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
_IPV6 = st.from_regex(r"[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}", fullmatch=True)


_KINDS = st.lists(st.sampled_from(ResultKind), min_size=1, unique=True).map(tuple)


@given(_TITLES, _NAMES | _IPV6, st.integers(1, 65535), _KINDS)
def test_a_destination_reads_back_as_it_was_written(
    title: str, host: str, port: int, kinds: tuple[ResultKind, ...]
) -> None:
    destination = Destination(ae_title=title, host=host, port=port, results=kinds)
    assert Destination.parse(str(destination)) == destination
