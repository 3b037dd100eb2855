"""OHIF, the viewer of the demonstration: its published build, fetched once with npm."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from litegpt.cache_folder import default_cache_folder
from service.errors import NodeError, SettingsError

OHIF_VERSION: Final = "3.12.10"
"""What a report needs for its boxes to be shown has changed between versions; this one is tested."""

_FETCH_SECONDS: Final = 900.0


def ohif_folder(version: str = OHIF_VERSION) -> Path:
    """Where a version's build is kept."""
    return default_cache_folder("litegpt-node") / f"ohif-{version}"


def is_fetched(build: Path) -> bool:
    """Whether a build is there; it is there whole or not at all."""
    return (build / "index.html").is_file()


def fetch_ohif(version: str = OHIF_VERSION) -> Path:
    """The folder of a version's build, fetched where it is not there yet.

    Args:
        version: Of the npm package ``@ohif/app``, whose checksum npm compares.

    Raises:
        SettingsError: If there is no npm on this machine.
        NodeError: If npm could not get it.
    """
    build = ohif_folder(version)
    if is_fetched(build):
        return build
    npm = _npm(version)
    build.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build.parent, prefix=".fetching-") as name:
        place = Path(name)
        with tarfile.open(_pack(npm, version, place)) as members:
            members.extractall(place, filter="data")
        try:
            (place / "package" / "dist").rename(build)
        except OSError as error:
            if not is_fetched(build):  # nor has anybody else fetched it meanwhile
                raise NodeError(f"OHIF {version} could not be kept in {build}: {error.strerror}") from error
    return build


def _npm(version: str) -> str:
    npm = shutil.which("npm")
    if npm is None:
        raise SettingsError(
            f"npm is not installed: the viewer, OHIF {version}, is fetched with it (Debian package npm)"
        )
    return npm


def _pack(npm: str, version: str, place: Path) -> Path:
    """The package as one archive, in ``place``."""
    try:
        done = subprocess.run(
            [npm, "pack", "--silent", f"@ohif/app@{version}"],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NodeError(f"npm has not fetched OHIF {version} in {_FETCH_SECONDS / 60:.0f} minutes") from None
    archives = list(place.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NodeError(f"npm could not fetch OHIF {version}: {said[0] if said else 'it did not say why'}")
    return archives[0]
