"""A vote on an answer of a bot: the event on `bot_feedback` and the columns of its row."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.event import EventTime, Optional, Required


class BotFeedback(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One vote. A later vote on the same message replaces it; `none` withdraws it."""

    event_id: Required
    bot_id: Required
    event_time: EventTime
    rating: Literal["positive", "negative", "none"]
    chat_id: Optional = None
    message_id: Optional = None
    endpoint: Optional = None


COLUMNS = (
    "bot_id",
    "event_ms",
    "event_id",
    "rating",
    "chat_id",
    "message_id",
    "endpoint",
    "source_topic",
    "source_epoch",
    "source_partition",
    "source_offset",
    "record_ms",
)
"""What the worker inserts, in this order; `event_ms` and `record_ms` become `event_time` and `record_time`."""
