"""Tokens that one model call used: the event on `token_usages` and the columns of its row."""

from __future__ import annotations

import msgspec

from schemas.event import Count, EventTime, Optional, Required


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One model call's tokens, as its producer says them."""

    event_id: Required
    bot_id: Required
    event_time: EventTime
    source: Required
    """`chat`, `fs_chat`, `responses`, `ticket_summary`, or any other name."""
    input_tokens: Count
    output_tokens: Count
    model: Optional = None
    provider: Optional = None
    chat_id: Optional = None
    cached_input_tokens: Count | None = None
    """How the producer breaks its input down; never added onto the totals."""
    reasoning_output_tokens: Count | None = None
    """How the producer breaks its output down; never added onto the totals."""


COLUMNS = (
    "bot_id",
    "event_ms",
    "event_id",
    "source",
    "input_tokens",
    "output_tokens",
    "model",
    "provider",
    "chat_id",
    "cached_input_tokens",
    "reasoning_output_tokens",
    "source_topic",
    "source_epoch",
    "source_partition",
    "source_offset",
    "record_ms",
)
"""What the worker inserts, in this order; `event_ms` and `record_ms` become `event_time` and `record_time`."""
