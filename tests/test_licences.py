"""No runtime dependency's licence forbids a product under the Apache Licence 2.0.

Read from the metadata of everything that a worker's installation brings. A licence is permissive, or the
table of exceptions says why it does not stand in the way, or the test fails.
"""

from __future__ import annotations

import re
from importlib.metadata import Distribution
from typing import Final

import pytest

from tests.dependencies import runtime_distributions

PERMISSIVE: Final = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "HPND",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    }
)

SPELLED: Final = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "freebsd": "BSD-2-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "new bsd": "BSD-3-Clause",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "the unlicense (unlicense)": "Unlicense",
}
"""Other spellings, in lower case, of what older metadata says in words."""

EXCEPTIONS: Final = {
    "psycopg": "LGPL-3.0: used as a library that a person can replace, neither changed nor shipped by us",
    "psycopg-binary": "LGPL-3.0: as psycopg",
    "certifi": "MPL-2.0: Mozilla's list of certificates, used unchanged",
    "tqdm": "MPL-2.0 for some files: used unchanged, as a library",
    "cuda-toolkit": "a list of NVIDIA's packages without content of its own",
}
"""Why the licence of a distribution does not stand in the way, where it is not permissive."""

NVIDIA: Final = (
    "NVIDIA's licence for CUDA libraries: PyTorch's default build on Linux fetches them; we neither ship nor "
    "need them (the CPU build has none), and the licence lets applications use and redistribute them"
)


def licences(found: Distribution) -> set[str]:
    """Identifiers of the licences that all apply, as far as the metadata tells."""
    metadata = found.metadata
    stated = metadata.get("License-Expression") or ""
    if not stated:
        text = (metadata.get("License") or "").strip()
        stated = text if text and len(text) < 60 and text.lower() != "dual license" else ""
    if not stated:
        classifiers = metadata.get_all("Classifier") or []
        names = [line.split(" :: ")[-1] for line in classifiers if line.startswith("License :: ")]
        stated = " OR ".join(names)
    alternatives = [
        {SPELLED.get(part.strip(" ()").lower(), part.strip(" ()")) for part in choice.split(" AND ")}
        for choice in stated.split(" OR ")
    ]
    return min(alternatives, key=lambda choice: len(choice - PERMISSIVE))


def objection(name: str, found: Distribution) -> str | None:
    """Why the distribution may not be a dependency, or ``None``."""
    applying = licences(found)
    if applying <= PERMISSIVE or name in EXCEPTIONS or re.match(r"nvidia-", name):
        return None
    return f"{name} {found.version}: {sorted(applying) or 'no licence stated'}"


def test_no_licence_stands_in_the_way() -> None:
    found = runtime_distributions(["worker", "training"])
    assert len(found) > 50
    assert [line for name in sorted(found) if (line := objection(name, found[name]))] == []


def test_every_exception_is_still_needed() -> None:
    found = runtime_distributions(["worker", "training"])
    permissive = [name for name in EXCEPTIONS if name in found and licences(found[name]) <= PERMISSIVE]
    assert permissive == []


@pytest.mark.parametrize("name", ["pylibjpeg-libjpeg"])
def test_the_codec_under_the_gpl_comes_only_when_asked_for(name: str) -> None:
    assert name not in runtime_distributions(["worker", "training", "dev"])


class _Metadata(dict[str, str]):
    def get_all(self, name: str) -> list[str]:
        return self.get(name, "").splitlines()


@pytest.mark.parametrize(
    "metadata",
    [
        {"License-Expression": "GPL-3.0-or-later"},
        {"License": "GPLv3"},
        {"License-Expression": "MIT AND AGPL-3.0-only"},
        {"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"},
        {},
    ],
    ids=["expression", "words", "one of two", "classifier", "nothing stated"],
)
def test_a_forbidding_or_unknown_licence_is_objected_to(metadata: dict[str, str]) -> None:
    class Found:
        version = "1.0"

    Found.metadata = _Metadata(metadata)
    assert objection("other", Found())
