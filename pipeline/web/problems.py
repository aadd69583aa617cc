"""Errors as a client sees them: RFC 9457, `application/problem+json`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from clickhouse.client import StoreError
from pipeline.errors import FootfallError, Unavailable

log = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 2
_TOO_SLOW, _TOO_LARGE = 159, 241
"""ClickHouse's TIMEOUT_EXCEEDED and MEMORY_LIMIT_EXCEEDED."""


class BadParameter(FootfallError):
    """This request can never succeed: names the parameter, and says what would be right."""

    def __init__(self, parameter: str, detail: str) -> None:
        super().__init__(f"{parameter}: {detail}")
        self.parameter = parameter
        self.detail = detail


class UnknownBot(FootfallError):
    """Nobody has seen an event of this bot."""

    def __init__(self, bot_id: str) -> None:
        super().__init__(f"No event of bot {bot_id!r} has been seen.")


class UnknownRow(FootfallError):
    """There is no row of such an event."""

    def __init__(self, event_id: str) -> None:
        super().__init__(f"No row of event {event_id!r} at this time has been seen.")


def problem(
    status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: object
) -> Response:
    """A problem document. `kind` is its type: what a program tells problems apart by."""
    body = {"type": kind, "title": kind.replace("-", " ").capitalize(), "status": status, "detail": detail}
    return Response(
        msgspec.json.encode({**body, **members}),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type="application/problem+json",
    )


def unavailable(detail: str) -> Response:
    """503: the same request may succeed later."""
    return problem(503, "unavailable", detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def bad_parameter(parameter: str, detail: str) -> Response:
    """400: names the parameter at fault."""
    return problem(400, "bad-parameter", f"Parameter {parameter}: {detail}.", parameter=parameter)


def store_problem(error: StoreError) -> Response:
    """What a client can do about a store that did not answer."""
    log.warning("the store did not answer: %s", error)
    if error.code in (_TOO_SLOW, _TOO_LARGE):
        limit = "time" if error.code == _TOO_SLOW else "memory"
        return unavailable(
            f"The question took more {limit} than one question may. Ask about a shorter range or with fewer filters, "
            "or ask again when the store is less busy."
        )
    return unavailable("The store does not answer as it should. Nothing is lost; ask again in a moment.")


def add_handlers(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""

    @app.exception_handler(BadParameter)
    async def _(request: Request, error: BadParameter) -> Response:
        return bad_parameter(error.parameter, error.detail)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        parameter = str(first["loc"][1])
        if first["type"] == "extra_forbidden":
            return bad_parameter(parameter, "is not a parameter of this path")
        reason = str(first.get("ctx", {}).get("error") or first["msg"])
        return bad_parameter(parameter, reason[0].lower() + reason[1:])

    @app.exception_handler(UnknownBot)
    async def _(request: Request, error: UnknownBot) -> Response:
        return problem(404, "unknown-bot", str(error))

    @app.exception_handler(UnknownRow)
    async def _(request: Request, error: UnknownRow) -> Response:
        return problem(404, "unknown-row", str(error))

    @app.exception_handler(StoreError)
    async def _(request: Request, error: StoreError) -> Response:
        return store_problem(error)

    @app.exception_handler(Unavailable)
    async def _(request: Request, error: Unavailable) -> Response:
        return unavailable(str(error))

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        detail = f"{error.detail}."
        if error.status_code == 404:
            detail = f"There is no {request.url.path} here."
        elif allowed := (error.headers or {}).get("Allow"):
            detail = f"{request.url.path} takes {allowed}, not {request.method}."
        return problem(error.status_code, kind, detail, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def _(request: Request, error: ClientDisconnect) -> Response:
        return problem(400, "aborted", "The request was not sent to its end.")  # which nobody reads

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        return problem(
            500, "internal-error", "Something is wrong here, not with the request. It has been logged."
        )
