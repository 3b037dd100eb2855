"""``/health/live``: the process answers. ``/health/ready``: all that the node stands on is in order."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from service.web.node import OfNode

router = APIRouter(prefix="/health")


@router.get("/live")
async def live() -> dict[str, bool]:
    """Says that this process lives."""
    return {"live": True}


@router.get("/ready")
def ready(node: OfNode) -> JSONResponse:
    """Says of each dependency whether it is in order; 503 where one is not."""
    lines = node.readiness.ask()
    in_order = all(line.complaint is None for line in lines)
    told: dict[str, dict[str, Any]] = {}
    for line in lines:
        told[line.name] = {"ok": line.complaint is None}
        if node.tells_why:
            told[line.name]["says"] = line.complaint or line.fact
    return JSONResponse({"ready": in_order, **told}, status_code=200 if in_order else 503)
