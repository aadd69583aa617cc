"""What answers look like, for OpenAPI. Tests hold every answer against these."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from pipeline.web.ranges import Interval

Data = TypeVar("Data")
Row = TypeVar("Row")
Bucket = TypeVar("Bucket")

Time = str
"""RFC 3339 with milliseconds, in the zone that was asked for."""


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AnsweredRange(_Said):
    """`[from, to)`"""

    from_: Time = Field(alias="from")
    to: Time
    tz: str


class AnsweredFreshness(_Said):
    """How far the answer can be trusted to be complete."""

    data_as_of: Time | None = Field(
        description="Every record appended before is counted; null: not known yet."
    )
    provisional_from: Time | None = Field(description="Later intervals may hold duplicates; null: all may.")
    consumer_lag_records: int = Field(description="Records appended and not consumed yet.")
    late_events_24h: int = Field(
        description="Of 24 hours, what came after its interval was closed. Repeats count."
    )
    dead_letters_24h: int = Field(description="Malformed events.")


class Answer(_Said, Generic[Data]):
    """Every answer. `data` depends on stored events and parameters alone."""

    range: AnsweredRange
    data: Data
    freshness: AnsweredFreshness


class Rows(_Said, Generic[Row]):
    """A page of a list."""

    rows: list[Row]
    next: str | None = Field(description="The cursor of the next page; null: this is the last one.")


class Series(_Said, Generic[Bucket]):
    """A chart over time."""

    interval: Interval
    buckets: list[Bucket]


class Exact(_Said):
    """Whether a unique count is exact."""

    unique_ips: bool
    unique_conversations: bool


class KnownBot(_Said):
    """The bot, of which at least one event has been seen at some time."""

    bot_id: str


class Summary(_Said):
    """The cards."""

    total_requests: int
    unique_ips: int
    unique_conversations: int
    last_request: Time | None
    input_tokens: int
    output_tokens: int
    total_tokens: int
    positive_feedbacks: int
    negative_feedbacks: int
    exact: Exact
    unfiltered: list[str] = Field(description="Cards to which none of the given filters applies.")


class BotRow(_Said):
    """A bot."""

    bot_id: str
    last_request: Time | None
    requests_7d: int


class RequestRow(_Said):
    """A request."""

    time: Time
    endpoint: str
    ip: str | None
    country: str | None
    region: str | None
    city: str | None
    browser: str | None
    timezone: str | None
    page_url: str | None
    chat_id: str | None
    client_class: str | None
    event_id: str


class TokenRow(_Said):
    """A model call."""

    time: Time
    source: str
    input_tokens: int
    output_tokens: int
    total_tokens: int
    model: str | None
    event_id: str


class _Origin(_Said):
    record_time: Time = Field(description="The Kafka record's own timestamp.")
    ingested_at: Time = Field(description="When the store took the row.")
    source_topic: str = Field(description="Kafka topic that the event came from.")
    source_partition: int
    source_offset: int


class RequestDetails(_Origin, RequestRow):
    """Everything known of a request."""

    user_agent: str | None = Field(description="As it was sent, cut at 1 kB.")
    geo_built_at: Time | None = Field(
        description="When the geo database was built that said where; null: none."
    )


class TokenDetails(_Origin, TokenRow):
    """Everything known of a model call."""

    provider: str | None
    chat_id: str | None
    cached_input_tokens: int | None = Field(description="Part of the input, as the producer breaks it down.")
    reasoning_output_tokens: int | None = Field(
        description="Part of the output, as the producer breaks it down."
    )


class RequestBucket(_Said):
    """Requests of an interval."""

    start: Time
    requests: int


class UniqueBucket(_Said):
    """Who came in an interval: who comes in several counts in each, so buckets add up to more than the range has."""

    start: Time
    unique_ips: int
    unique_conversations: int


class TokenBucket(_Said):
    """Tokens of an interval."""

    start: Time
    input_tokens: int
    output_tokens: int


class TopEntry(_Said):
    """A value, or all others together, or those whose value is unknown."""

    kind: Literal["value", "other", "unknown"]
    value: str | None
    requests: int
    share: float


class ValueEntry(_Said):
    """A value that exists; null: the unknown one."""

    value: str | None
    requests: int


class TopTokensEntry(_Said):
    """A value, or all others together, or those whose value is unknown. The share is of all tokens."""

    kind: Literal["value", "other", "unknown"]
    value: str | None
    usages: int
    input_tokens: int
    output_tokens: int
    share: float


class Published(_Said):
    """What the collector took."""

    published: int


class Problem(BaseModel):
    """RFC 9457: what went wrong, and what to do about it."""

    type: str = Field(description="What a program tells problems apart by.")
    title: str
    status: int
    detail: str
    parameter: str | None = Field(None, description="The one at fault.")


def problems(**examples: tuple[int, str]) -> dict[int | str, dict[str, Any]]:
    """For a path that may answer with these: (status, detail) by type, whose dashes are underscores here."""
    found: dict[int | str, dict[str, Any]] = {}
    for name, (status, detail) in examples.items():
        kind = name.replace("_", "-")
        value = {
            "type": kind,
            "title": kind.replace("-", " ").capitalize(),
            "status": status,
            "detail": detail,
        }
        if kind == "bad-parameter":
            value["parameter"] = detail.split()[1].rstrip(":")
        said = found.setdefault(status, _problem(HTTPStatus(status).phrase))
        said["content"]["application/problem+json"]["examples"][kind] = {"value": value}
        if status == 503:
            said["headers"] = {
                "Retry-After": {
                    "schema": {"type": "integer"},
                    "description": "Seconds to wait.",
                    "example": 2,
                }
            }
    return found


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": schema, "examples": {}}},
    }


AWAY: Final = (503, "The store does not answer as it should. Nothing is lost; ask again in a moment.")
BAD: Final = (400, "Parameter tz: should be an IANA time zone such as Europe/Berlin.")
UNKNOWN_BOT: Final = (404, "No event of bot 'support' has been seen.")
UNKNOWN_ROW: Final = (404, "No row of event 'e-1' at this time has been seen.")


def said(model: type[BaseModel], status: int = 200) -> dict[int | str, dict[str, Any]]:
    """For a path that answers with this."""
    return {status: {"model": model}}


def said_of_bot(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """For a path below a bot that answers with this."""
    return said(model) | problems(unknown_bot=UNKNOWN_BOT)


def said_of_row(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """For a path of one row of a bot that answers with this."""
    return said(model) | problems(unknown_bot=UNKNOWN_BOT, unknown_row=UNKNOWN_ROW)
