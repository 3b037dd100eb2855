"""``/health/live``: the process answers."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(prefix="/health")


@router.get("/live")
async def live() -> dict[str, bool]:
    """Says that this process lives."""
    return {"live": True}
