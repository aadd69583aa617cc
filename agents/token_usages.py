"""Listens to `token_usages`."""

from __future__ import annotations

from typing import Any

from pipeline.app import the_app
from pipeline.batches import batches
from schemas.topics import Topic

app = the_app()
flow = app.flows[Topic.TOKEN_USAGES]


@app.agent(app.source(Topic.TOKEN_USAGES), concurrency=1)
async def token_usages(stream: Any) -> None:
    async for batch in batches(stream):
        decoded = flow.decode(batch)
        await app.refuse(decoded)  # the malformed, to their topic
        rows = flow.enrich(decoded)
        cells = flow.window(decoded, rows)
        await flow.flush(decoded, rows, cells)  # see sink.py; acknowledges
