"""The API described: OpenAPI, and Swagger UI to read it and to try it. Nothing of it comes from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from pipeline.web.answers import Problem
from pipeline.web.page import File, served
from pipeline.web.parameters import API

router = APIRouter(prefix=API, include_in_schema=False)

_PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Footfall API</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/api/v1/docs/swagger-ui.css">
</head>
<body>
<noscript>Described in OpenAPI: <a href="/api/v1/openapi.json">/api/v1/openapi.json</a></noscript>
<div id="docs"></div>
<script src="/api/v1/docs/swagger-ui-bundle.js"></script>
<script src="/api/v1/docs/start.js"></script>
</body>
</html>
"""
_START: Final = b"""SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  validatorUrl: null,
  docExpansion: "list",
});
"""
_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; object-src 'none'; frame-ancestors 'self'"
)
"""Swagger UI has its icons in its style sheet."""


@cache
def _files() -> dict[str, File | None]:
    # The package brings the files; what it would do with them, loading them into FastAPI's page, needs inline scripts.
    theirs = files("fastapi_offline").joinpath("static")
    bodies = {
        "": _PAGE,
        "start.js": _START,
        **{name: theirs.joinpath(name).read_bytes() for name in ("swagger-ui.css", "swagger-ui-bundle.js")},
    }
    return {name: File.of(name or "index.html", body) for name, body in bodies.items()}


@router.get("/docs")
@router.get("/docs/{name}")
async def docs(request: Request, name: str = "") -> Response:
    """Swagger UI."""
    answer = served(request, _files().get(name))
    answer.headers["Content-Security-Policy"] = _POLICY
    return answer


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The description."""
    return served(request, _described(request.app))


@cache
def _described(app: FastAPI) -> File | None:
    return File.of("openapi.json", msgspec.json.encode(description(app)))


def description(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1. What is required has an example that fits the others'; what is optional has one in its schema."""
    said = get_openapi(
        title=app.title,
        version=app.version,
        description="Requests, tokens and feedback of bots, counted once.",
        routes=app.routes,
    )
    said["components"]["schemas"] = {"Problem": Problem.model_json_schema()} | {
        name: schema
        for name, schema in said["components"]["schemas"].items()
        if "ValidationError" not in name
    }
    for methods in said["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)  # FastAPI's own, which is 400 here
            for parameter in operation.get("parameters", ()):
                # Swagger UI fills examples in, and those of all that is optional contradict each other.
                if parameter["required"]:
                    parameter["example"] = parameter["schema"].pop("examples")[0]
    return said
