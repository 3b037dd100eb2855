"""Asking a node's web server: its ports, what it answers, and its metrics as Prometheus reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families

from service.web.ports import running_ports
from tests.waiting import wait_until


def web_url(data_dir: Path, port: str = "pages") -> str:
    """Where the web server of this node is, when it is."""
    number = wait_until(lambda: running_ports(data_dir).get(port), 30, f"web server's port for {port}")
    return f"http://127.0.0.1:{number}"


def ask(url: str, *, host: str | None = None, timeout_seconds: float = 30) -> tuple[int, str]:
    """Status and body of a GET."""
    request = Request(url, headers={"Host": host} if host else {})
    try:
        with urlopen(request, timeout=timeout_seconds) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask_json(url: str, *, timeout_seconds: float = 30) -> tuple[int, Any]:
    """Status and decoded body of a GET."""
    status, body = ask(url, timeout_seconds=timeout_seconds)
    return status, json.loads(body)


class Scrape:
    """One scrape's samples."""

    def __init__(self, text: str) -> None:
        self.text = text
        families = list(text_string_to_metric_families(text))
        self.types = {family.name: family.type for family in families}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in families:
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"{key} is told twice"
                self.samples[key] = sample.value

    @property
    def names(self) -> set[str]:
        """The names of all samples, such as ``…_total`` and ``…_bucket``."""
        return {name for name, _ in self.samples}

    def __call__(self, name: str, **labels: str) -> float:
        """The sample of this name and exactly these labels; 0 where there is none."""
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def all_of(self, name: str) -> Mapping[frozenset[tuple[str, str]], float]:
        """The samples of this name by their labels."""
        return {labels: value for (found, labels), value in self.samples.items() if found == name}


def scrape(url: str) -> Scrape:
    """Reads ``/metrics``."""
    status, body = ask(f"{url}/metrics")
    assert status == 200, body
    return Scrape(body)
