"""The page: files of this package, served as they are."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import URL
from starlette.exceptions import HTTPException

from pipeline.web.encoding import accepts_gzip

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
class File:
    """What is served as it is."""

    body: bytes
    gzipped: bytes
    etag: str
    media_type: str

    @classmethod
    def of(cls, name: str, body: bytes) -> File | None:
        """None where the name says nothing of its type."""
        media_type = _MEDIA_TYPES.get(name.rpartition(".")[2])
        if media_type is None:
            return None
        etag = blake2b(body, digest_size=12).hexdigest()
        return cls(body=body, gzipped=gzip.compress(body, mtime=0), etag=etag, media_type=media_type)


@cache
def _files() -> dict[str, File]:
    """Everything below `static/`, by its path there: what is not in here cannot be asked for."""
    found: dict[str, File] = {}
    folders = [("", files("pipeline.web").joinpath("static"))]
    for prefix, folder in folders:
        for entry in folder.iterdir():
            if entry.is_dir():
                folders.append((f"{prefix}{entry.name}/", entry))
            elif file := File.of(entry.name, entry.read_bytes()):
                found[prefix + entry.name] = file
    return found


@cache
def _version() -> str:
    """Another one when any file is another."""
    etags = "".join(f"{name} {file.etag}\n" for name, file in sorted(_files().items()))
    return blake2b(etags.encode(), digest_size=8).hexdigest()


@cache
def _index() -> File | None:
    """The page, whose parts are named with their version: a browser never asks about them again.

    Modules name one another relative to themselves.
    """
    body = _files()["index.html"].body
    return File.of("index.html", body.replace(b'"/static/', b'"/static/%s/' % _version().encode()))


@router.get("/")
@router.get("/bots/{bot}/analytics")
async def page(request: Request) -> Response:
    """The page; its state is in its address and none of our business."""
    return served(request, _index())


@router.get("/bots")
@router.get("/bots/")
@router.get("/bots/{bot}")
@router.get("/bots/{bot}/")
@router.get("/bots/{bot}/analytics/")
async def page_near(request: Request, bot: str = "") -> Response:
    """To the page that is meant."""
    path = f"/bots/{quote(bot, safe='')}/analytics" if bot else "/"
    return RedirectResponse(
        str(URL(path).replace(query=request.url.query)), headers={"Cache-Control": "no-cache"}
    )


@router.get("/static/{name:path}")
async def static(request: Request, name: str) -> Response:
    """A part of the page."""
    version, _, versioned = name.partition("/")
    if version == _version():
        return served(request, _files().get(versioned), caching="public, max-age=31536000, immutable")
    return served(request, _files().get(name))


def served(request: Request, file: File | None, *, caching: str = "no-cache") -> Response:
    """The file, or 304 where the client has it. Raises HTTPException where there is none.

    Unless told otherwise a browser keeps it and asks about it each time: a new release shows at once, an old one costs
    no bytes.
    """
    if file is None:
        raise HTTPException(404)
    is_gzipped = accepts_gzip(request)
    etag = f'"{file.etag}-gzip"' if is_gzipped else f'"{file.etag}"'
    headers = {"ETag": etag, "Cache-Control": caching, "Vary": "Accept-Encoding"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if is_gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(file.gzipped if is_gzipped else file.body, headers=headers, media_type=file.media_type)
