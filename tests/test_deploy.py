"""Alerts fire when they should, and systemd takes the unit: Prometheus and systemd themselves are asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, load_settings
from tests.presence import find_program, program
from tests.worker.conftest import small_node

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"

IN_ORDER = {
    'up{job="litegpt-node", instance="node"}': "1",
    "litegpt_records_up": "1",
    "litegpt_last_sweep_timestamp_seconds": "0+60x60",
    'litegpt_worker_last_beat_timestamp_seconds{part="analysis",host="gpu1"}': "0+60x60",
    'litegpt_worker_last_beat_timestamp_seconds{part="delivery",host="gpu1"}': "-5+60x60",
    "litegpt_oldest_waiting_analysis_seconds": "30",
    "litegpt_quarantined_studies": "0",
    'litegpt_instances{state="conflict"}': "0",
    'litegpt_oldest_undelivered_seconds{destination="PACS@host:104"}': "5",
    'litegpt_delivery_attempts_total{destination="PACS@host:104",outcome="refused"}': "7",
    'litegpt_destination_up{destination="PACS@host:104"}': "1",
    'litegpt_oldest_webhook_call_seconds{webhook="radiology"}': "5",
    'litegpt_webhook_calls{webhook="radiology",state="refused"}': "0",
    'litegpt_webhook_calls{webhook="radiology",state="due"}': "9",
    'litegpt_webhook_calls{webhook="radiology",state="sent"}': "100",
    "litegpt_rules_valid": "1",
    'litegpt_modality_silence_seconds{calling_ae_title="DX1"}': "20000",
    'litegpt_modality_silence_usual_seconds{calling_ae_title="DX1"}': "14400",
    'litegpt_modality_silence_seconds{calling_ae_title="NEW"}': "1000000",
    "litegpt_archive_free_bytes": "50000000000",
    "litegpt_archive_minimum_free_bytes": "1000000000",
}
"""A node with nothing to complain about; a value, or Prometheus' notation for a series of a minute's step."""

FIRES = {
    "LiteGPTNodeDoesNotAnswer": {'up{job="litegpt-node", instance="node"}': "0"},
    "LiteGPTRecordsAway": {"litegpt_records_up": "0"},
    "LiteGPTNothingSweeps": {"litegpt_last_sweep_timestamp_seconds": "600"},
    "LiteGPTWorkerIsSilent": {
        'litegpt_worker_last_beat_timestamp_seconds{part="analysis",host="gpu1"}': "1500"
    },
    "LiteGPTQueueIsOld": {"litegpt_oldest_waiting_analysis_seconds": "901"},
    "LiteGPTRulesRefused": {"litegpt_rules_valid": "0"},
    "LiteGPTQuarantine": {"litegpt_quarantined_studies": "1"},
    "LiteGPTConflict": {'litegpt_instances{state="conflict"}': "1"},
    "LiteGPTUndelivered": {'litegpt_oldest_undelivered_seconds{destination="PACS@host:104"}': "3601"},
    "LiteGPTDestinationDown": {'litegpt_destination_up{destination="PACS@host:104"}': "0"},
    "LiteGPTDestinationRefuses": {
        'litegpt_delivery_attempts_total{destination="PACS@host:104",outcome="refused"}': "0+1x60"
    },
    "LiteGPTUncommitted": {'litegpt_oldest_uncommitted_seconds{destination="PACS@host:104"}': "180000"},
    "LiteGPTWebhookNotTold": {'litegpt_oldest_webhook_call_seconds{webhook="radiology"}': "3601"},
    "LiteGPTWebhookRefuses": {'litegpt_webhook_calls{webhook="radiology",state="refused"}': "1"},
    "LiteGPTModalityIsSilent": {'litegpt_modality_silence_seconds{calling_ae_title="DX1"}': "21700"},
    "LiteGPTDiskNearlyFull": {"litegpt_archive_free_bytes": "2900000000"},
    "LiteGPTDiskFull": {"litegpt_archive_free_bytes": "999999999"},
}
"""What alone must be otherwise for each alert."""


_FIRING = 'count(ALERTS{{alertname="{}",alertstate="firing"}}) or vector(0)'


def _run(*command: str | Path) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_each_alert_has_a_case() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    assert [rule["alert"] for group in groups for rule in group["rules"]] == list(FIRES)


def test_prometheus_takes_the_rules() -> None:
    _run(program("promtool", package="prometheus"), "check", "rules", RULES)


def test_alerts_fire_for_what_they_are_for_and_for_nothing_else(tmp_path: Path) -> None:
    promtool = program("promtool", package="prometheus")
    cases = [_case(dict(IN_ORDER), firing=set())]
    for alert, change in FIRES.items():
        # A full disk is nearly full, too.
        firing = {alert, "LiteGPTDiskNearlyFull"} if alert == "LiteGPTDiskFull" else {alert}
        cases.append(_case(IN_ORDER | change, firing))
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": cases}))
    _run(promtool, "test", "rules", file)


def _case(values: dict[str, str], firing: set[str]) -> dict[str, Any]:
    """After 30 minutes these alerts fire and no others; their words are left to Prometheus."""
    series = [
        {"series": name, "values": value if "x" in value else f"{value}+0x60"}
        for name, value in values.items()
    ]
    told = [
        {
            "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
            **_at(alert in firing),
        }
        for alert in FIRES
    ]
    return {"interval": "1m", "input_series": series, "promql_expr_test": told}


def _at(fires: bool) -> dict[str, Any]:
    return {"eval_time": "30m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}


@pytest.mark.parametrize("name", ["litegpt-node.service", "litegpt-node-purge.timer"])
def test_systemd_takes_the_unit(tmp_path: Path, name: str) -> None:
    """A timer is looked at with the service that it starts."""
    analyze = find_program("systemd-analyze") or pytest.skip("this machine has no systemd")
    for file in (DEPLOY / "systemd").glob("*.[st]*"):
        text = file.read_text().replace("/opt/litegpt/bin/litegpt-node", "/bin/true")
        (tmp_path / file.name).write_text(text)
    ended = subprocess.run([analyze, "verify", tmp_path / name], capture_output=True, text=True, timeout=60)
    if "Failed to" in ended.stderr and "manager" in ended.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {ended.stderr}")
    # It also looks at the units of this machine, which are not ours to judge.
    assert [line for line in ended.stderr.splitlines() if "litegpt" in line] == []


def _value(unit: str, key: str) -> str:
    (value,) = re.findall(rf"^{key}=(.*)$", (DEPLOY / "systemd" / unit).read_text(), re.M)
    return str(value)


@pytest.mark.parametrize("options", ["", "--older-than 90d --until-free 1K"])
def test_the_nightly_purge_removes_as_far_as_it_is_told_and_nothing_unasked(
    tmp_path: Path, options: str
) -> None:
    """The unit's own command, with the example's own options, words split as systemd splits ``$NAME``."""
    node = small_node(tmp_path / "node")
    node.records.close()
    words = _value("litegpt-node-purge.service", "ExecStart").split()
    assert words[0] == "/opt/litegpt/bin/litegpt-node" and words[-1] == "$PURGE_OPTIONS"
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli.main", *words[1:-1], *options.split()],
        env={**os.environ, "LITEGPT_DATA_DIR": str(node.settings.data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == (0 if options else 2), ended.stderr
    example = (DEPLOY / "systemd" / "litegpt-node.env.example").read_text()
    assert "\n#PURGE_OPTIONS=--older-than 90d --until-free 200G\n" in example, "unset unless an admin says so"


def test_the_purge_has_the_node_s_user_settings_and_data() -> None:
    for key in ("User", "Group", "EnvironmentFile", "StateDirectory", "StateDirectoryMode", "UMask"):
        assert _value("litegpt-node-purge.service", key) == _value("litegpt-node.service", key)
    assert _value("litegpt-node-purge.timer", "Persistent") == "yes"


def test_the_unit_s_settings_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = (DEPLOY / "systemd" / "litegpt-node.env.example").read_text()
    unit = (DEPLOY / "systemd" / "litegpt-node.service").read_text()
    named = re.findall(rf"^#?({PREFIX}\w+)=(.*)$", example, re.M)
    named += re.findall(rf"\b({PREFIX}\w+)=(\S+)", unit)
    assert len(named) > 8
    for name, value in named:
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert load_settings().metrics_port == 9043
