"""`/livez`, `/readyz` and `/metrics`."""

from __future__ import annotations

import asyncio

import msgspec
from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline.web.connections import Connections, connections
from pipeline.web.problems import RETRY_AFTER_SECONDS

router = APIRouter(include_in_schema=False)


@router.get("/livez")
async def livez() -> Response:
    """The process answers; whether anything it needs does, says `/readyz`."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.get("/readyz")
async def readyz(kept: Connections = Depends(connections)) -> Response:  # noqa: B008 - how FastAPI injects
    """200 when the store answers, has all migrations, and the broker answers; else 503, saying which part does not."""
    store, broker = await asyncio.gather(kept.store_problem(), kept.broker_problem())
    is_ready = store is None and broker is None
    body = {
        "status": "ready" if is_ready else "not ready",
        "store": store or "ok",
        "broker": broker or "ok",
    }
    headers = {} if is_ready else {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return Response(
        msgspec.json.encode(body), 200 if is_ready else 503, headers, media_type="application/json"
    )


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus' text format."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
