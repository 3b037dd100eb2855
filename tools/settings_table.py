"""Writes the table of settings into README.md from the settings class itself.

python tools/settings_table.py           rewrites the table
python tools/settings_table.py --check   exit code 1 if it would change
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from service.settings import PREFIX, Settings

README = Path(__file__).resolve().parents[1] / "README.md"
_PLACE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- /settings -->)", re.DOTALL)


def settings_table() -> str:
    """A Markdown table with a row per setting."""
    rows = ["| `node.toml` | variable | default | meaning |", "| --- | --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        default = _written(field.default)
        rows.append(f"| `{name}` | `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _written(default: Any) -> str:
    if default is None or default == () or default == "":
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`"


def main() -> int:
    """Rewrites or checks the table."""
    before = README.read_text(encoding="utf-8")
    after = _PLACE.sub(lambda _: settings_table(), before)
    if "--check" in sys.argv[1:]:
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
