"""Enrich: a valid event becomes a row, with what it says between the lines: its place, its browser, its client class.

Never raises, never waits, never guesses: what is not known is empty. Values are in the order of the table's columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.address import normalise_ip
from pipeline.batches import Arrival
from pipeline.browser import client
from pipeline.decode import cut
from pipeline.geography import Geography
from pipeline.metrics import INVALID_ADDRESSES
from schemas.bot_feedback import BotFeedback
from schemas.bot_request import BotRequest
from schemas.event import MAX_PAGE_URL_BYTES, MAX_USER_AGENT_BYTES
from schemas.token_usage import TokenUsage
from schemas.topics import Topic

Row = tuple[Any, ...]
BuildRow = Callable[[Arrival, str, str, Geography], Row]
"""(arrival, source topic, its epoch, geography) → row."""


def request_row(arrival: Arrival, topic: str, epoch: str, geography: Geography) -> Row:
    """By `schemas.bot_request.COLUMNS`."""
    event, event_ms, partition, offset, record_ms = arrival
    assert isinstance(event, BotRequest)  # noqa: S101 - for the type checker; the topic decides the type
    ip = normalise_ip(event.ip) if event.ip else ""
    if event.ip and not ip:
        INVALID_ADDRESSES.inc()
    country, region, city = geography.lookup(ip) if ip else ("", "", "")
    user_agent = cut(event.user_agent, MAX_USER_AGENT_BYTES) if event.user_agent else ""
    browser, client_class = client(user_agent)
    return (
        event.bot_id,
        event_ms,
        event.event_id,
        event.endpoint,
        event.chat_id or "",
        ip,
        country,
        region,
        city,
        browser,
        client_class,
        event.timezone or "",
        cut(event.page_url, MAX_PAGE_URL_BYTES) if event.page_url else "",
        user_agent,
        geography.build_seconds,
        topic,
        epoch,
        partition,
        offset,
        record_ms,
    )


def usage_row(arrival: Arrival, topic: str, epoch: str, geography: Geography) -> Row:
    """By `schemas.token_usage.COLUMNS`."""
    event, event_ms, partition, offset, record_ms = arrival
    assert isinstance(event, TokenUsage)  # noqa: S101
    return (
        event.bot_id,
        event_ms,
        event.event_id,
        event.source,
        event.input_tokens,
        event.output_tokens,
        event.model or "",
        event.provider or "",
        event.chat_id or "",
        event.cached_input_tokens,
        event.reasoning_output_tokens,
        topic,
        epoch,
        partition,
        offset,
        record_ms,
    )


def feedback_row(arrival: Arrival, topic: str, epoch: str, geography: Geography) -> Row:
    """By `schemas.bot_feedback.COLUMNS`."""
    event, event_ms, partition, offset, record_ms = arrival
    assert isinstance(event, BotFeedback)  # noqa: S101
    return (
        event.bot_id,
        event_ms,
        event.event_id,
        event.rating,
        event.chat_id or "",
        event.message_id or "",
        event.endpoint or "",
        topic,
        epoch,
        partition,
        offset,
        record_ms,
    )


BUILD_ROW: dict[Topic, BuildRow] = {
    Topic.BOT_REQUESTS: request_row,
    Topic.TOKEN_USAGES: usage_row,
    Topic.BOT_FEEDBACK: feedback_row,
}
