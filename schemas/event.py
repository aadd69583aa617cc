"""What the events of all topics share: field types, limits, and the rule of time.

`null` means absent, so every optional field is `X | None`; an empty optional string means absent too.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta

MAX_VALUE_BYTES = 1_000_000
"""A record value over 1 MB is malformed."""
MAX_USER_AGENT_BYTES = 1_000
"""A longer user agent is cut (at a code point)."""
MAX_PAGE_URL_BYTES = 2_000
"""A longer page URL is cut (at a code point)."""
MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader holds exactly."""
MAX_FUTURE = timedelta(minutes=5)
"""How far an event's time may lie ahead of its record's own timestamp."""
MIN_EVENT_TIME = datetime(2000, 1, 1, tzinfo=UTC)

MIN_EVENT_MS = int(MIN_EVENT_TIME.timestamp() * 1000)
MAX_FUTURE_MS = int(MAX_FUTURE.total_seconds() * 1000)
MAX_EVENT_MS = int(datetime(2299, 12, 31, tzinfo=UTC).timestamp() * 1000)
"""The store's calendar ends here (ClickHouse's DateTime64), whatever a record's timestamp says."""

Required = Annotated[str, Meta(min_length=1, max_length=128)]
"""A required string: 1 to 128 code points."""
Optional = Annotated[str, Meta(max_length=128)] | None
"""An optional identifier or name: up to 128 code points."""
FreeText = str | None
"""An optional string that is cut, or dropped, rather than refused."""
Count = Annotated[int, Meta(ge=0, le=MAX_INTEGER)]
"""A number of tokens."""
EventTime = str | int
"""RFC 3339 with offset, or integer milliseconds since the epoch."""
