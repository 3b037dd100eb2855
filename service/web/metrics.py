"""``/metrics``, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.web.node import OfNode

router = APIRouter()


@router.get("/metrics")
def metrics(node: OfNode) -> Response:
    """All metrics in Prometheus' text format."""
    return Response(generate_latest(node.metrics), headers={"Content-Type": CONTENT_TYPE_LATEST})
