"""The disk that each role's installation takes: what it requires, and what those require, as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT: Final = "litegpt-node"
ROLES: Final = {"node without workers": "", "worker": "worker", "training": "training"}
"""What is installed for it: the project with this extra."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One role's installation.

    Attributes:
        sizes: Bytes of each package that is not the project itself, the largest first.
    """

    role: str
    sizes: dict[str, int]

    @property
    def bytes(self) -> int:
        """Of all packages."""
        return sum(self.sizes.values())


def installed() -> list[Installed]:
    """The installation of each role."""
    return [Installed(role, _sizes(extra)) for role, extra in ROLES.items()]


def required(extra: str) -> set[str]:
    """Names of all packages that the project with an extra brings along, on this machine."""
    seen: set[tuple[str, str]] = set()
    open_ends = [(PROJECT, extra), (PROJECT, "")]
    while open_ends:
        if (end := open_ends.pop()) in seen:
            continue
        seen.add(end)
        open_ends += _asked_for(*end)
    return {name for name, _ in seen} - {PROJECT}


def _asked_for(name: str, extra: str) -> Iterator[tuple[str, str]]:
    """What a package requires for an extra, each with its own extras."""
    if (found := _found(name)) is None:
        return
    for line in found.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for own_extra in ("", *requirement.extras):
                yield canonicalize_name(requirement.name), own_extra


def _found(name: str) -> Distribution | None:
    """A package, if it is installed: some are for other machines, or other extras."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _sizes(extra: str) -> dict[str, int]:
    sizes = {name: _bytes(found) for name in required(extra) if (found := _found(name)) is not None}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def _bytes(found: Distribution) -> int:
    """Of a package's files, their compiled forms included where there are any."""
    paths = {Path(str(found.locate_file(file))) for file in found.files or ()}
    return sum(path.stat().st_size for path in paths if path.is_file())
