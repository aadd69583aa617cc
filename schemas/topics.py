"""The three topics that bots publish to."""

from __future__ import annotations

from enum import StrEnum


class Topic(StrEnum):
    """A topic by its own name, without the deployment's prefix."""

    BOT_REQUESTS = "bot_requests"
    TOKEN_USAGES = "token_usages"
    BOT_FEEDBACK = "bot_feedback"

    @property
    def dead_letter(self) -> str:
        """Name of the topic that takes this one's malformed events, without the prefix."""
        return f"{self.value}_dead_letter"
