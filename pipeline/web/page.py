"""The page: files of this package, served as they are."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

router = APIRouter(include_in_schema=False)

_MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}


@dataclass(frozen=True, kw_only=True)
class _File:
    body: bytes
    gzipped: bytes
    etag: str
    media_type: str


@cache
def _files() -> dict[str, _File]:
    """Everything below `static/`, by its path there: what is not in here cannot be asked for."""
    found: dict[str, _File] = {}
    folders = [("", files("pipeline.web").joinpath("static"))]
    for prefix, folder in folders:
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((f"{prefix}{entry.name}/", entry))
            elif media_type := _MEDIA_TYPES.get(entry.name.rpartition(".")[2]):
                body = entry.read_bytes()
                found[prefix + entry.name] = _File(
                    body=body,
                    gzipped=gzip.compress(body, mtime=0),
                    etag=blake2b(body, digest_size=12).hexdigest(),
                    media_type=media_type,
                )
    return found


@router.get("/")
@router.get("/bots/{bot}/analytics")
async def page(request: Request) -> Response:
    """The page; its state is in its address and none of our business."""
    return _served(request, "index.html")


@router.get("/static/{name:path}")
async def static(request: Request, name: str) -> Response:
    """A part of the page."""
    return _served(request, name)


def _served(request: Request, name: str) -> Response:
    file = _files().get(name)
    if file is None:
        raise HTTPException(404)
    is_gzipped = "gzip" in request.headers.get("accept-encoding", "")
    etag = f'"{file.etag}-gzip"' if is_gzipped else f'"{file.etag}"'
    # Kept by the browser and asked about each time: a new release shows at once, an old one costs no bytes.
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if is_gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(file.gzipped if is_gzipped else file.body, headers=headers, media_type=file.media_type)
