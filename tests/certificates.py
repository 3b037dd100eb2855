"""Authorities and certificates for tests, made by the program openssl when they are needed: none is kept."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.presence import program

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, PEM files."""

    file: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """A certification authority with a folder of its own."""

    folder: Path

    @classmethod
    def new(cls, folder: Path) -> Authority:
        """Makes one in a folder, which is made, too."""
        folder.mkdir(parents=True)
        authority = cls(folder)
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-days", "30", "-subj", f"/CN={folder.name}"),
            *("-keyout", folder / "ca.key", "-out", authority.file),
        )
        return authority

    @property
    def file(self) -> Path:
        """Its own certificate."""
        return self.folder / "ca.pem"

    def issue(self, name: str, hosts: str = "DNS:localhost,IP:127.0.0.1", days: int = 60) -> Certificate:
        """A certificate for a name and for hosts (as subjectAltName writes them)."""
        request, made = self.folder / f"{name}.csr", self.folder / f"{name}.pem"
        key = self.folder / f"{name}.key"
        _openssl(
            *("req", *_NEW_KEY, "-keyout", key, "-out", request),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={hosts}"),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self.folder / "ca.key"),
            *("-copy_extensions", "copy", "-days", str(days), "-out", made),
        )
        return Certificate(made, key)


def _openssl(*arguments: str | Path) -> None:
    command = [program("openssl", package="openssl"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
