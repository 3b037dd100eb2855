"""The distributions that an installation of the project brings, from the metadata of what is installed."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, packages_distributions
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT: Final = "litegpt-node"


def runtime_distributions(extras: Iterable[str] = ()) -> dict[str, Distribution]:
    """Everything that ``pip install litegpt-node[extras]`` needs on this machine, the project included.

    Args:
        extras: Of the project.

    Returns:
        Distributions by canonical name.

    Raises:
        importlib.metadata.PackageNotFoundError: If something that is needed is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting = [(PROJECT, frozenset(extras))]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        found[name] = distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if _is_needed(requirement, wanted):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def _is_needed(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""}))


def packages_outside(extras: Iterable[str] = ()) -> frozenset[str]:
    """Importable top-level names here that an installation with only these extras would not have."""
    inside = runtime_distributions(extras)
    return frozenset(
        package
        for package, owners in packages_distributions().items()
        if not any(canonicalize_name(owner) in inside for owner in owners)
    )


BLOCKER: Final = '''
import sys

class Blocker:
    """Makes packages impossible to import that an installation would not have."""
    absent = {absent!r}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.absent:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by a test)", name=name)

sys.meta_path.insert(0, Blocker())
'''
"""Source of a module that blocks imports in a fresh interpreter; fill in ``absent``."""


def blocker(extras: Iterable[str] = ()) -> str:
    """Source that leaves an interpreter only what an installation with these extras has."""
    return BLOCKER.format(absent=packages_outside(extras))
