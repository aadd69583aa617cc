"""A request to a bot: the event on `bot_requests` and the columns of its row."""

from __future__ import annotations

import msgspec

from schemas.event import EventTime, FreeText, Optional, Required


class BotRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call of a bot, as its producer says it."""

    event_id: Required
    bot_id: Required
    event_time: EventTime
    endpoint: Required
    """The integration surface: `api`, `widget`, `fs_chat`, or any other name."""
    chat_id: Optional = None
    ip: FreeText = None
    user_agent: FreeText = None
    page_url: FreeText = None
    timezone: Optional = None


COLUMNS = (
    "bot_id",
    "event_ms",
    "event_id",
    "endpoint",
    "chat_id",
    "ip",
    "country",
    "region",
    "city",
    "browser",
    "client_class",
    "timezone",
    "page_url",
    "user_agent",
    "geo_build_seconds",
    "source_topic",
    "source_epoch",
    "source_partition",
    "source_offset",
    "record_ms",
)
"""What the worker inserts, in this order; `event_ms` and `record_ms` become `event_time` and `record_time`."""
