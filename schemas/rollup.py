"""What one rollup is of: an interval or a day, both half-open, of UTC."""

from __future__ import annotations

from typing import Final

INTERVAL_MS: Final = 15 * 60 * 1000
"""It fits every zone in use."""
DAY_MS: Final = 24 * 60 * 60 * 1000
