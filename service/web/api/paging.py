"""Where a page of a list begins, by the number of a row; a parameter that is none of these is refused."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

_LARGEST: Final = 2**31 - 1


class Before(BaseModel):
    """Of a list that begins with the newest."""

    model_config = ConfigDict(extra="forbid")

    before: int = Field(_LARGEST, ge=1, le=_LARGEST, description="`next` of the page before.")


class After(BaseModel):
    """Of a list that begins with the oldest."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, le=_LARGEST, description="`next` of the page before.")
