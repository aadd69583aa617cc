"""Errors, each named for what happens next."""

from __future__ import annotations


class FootfallError(Exception):
    """Base of every error that Footfall raises on purpose."""


class Malformed(FootfallError):
    """Can never succeed: dead-letter it, and go on."""


class Unavailable(FootfallError):
    """May succeed later: retry, acknowledge nothing."""


class Misconfigured(FootfallError):
    """Cannot start like this: say what to change, and exit with 2."""


class Refused(FootfallError):
    """The answer is no: say why, and exit with 1."""


class RestartNeeded(FootfallError):
    """What this process holds in memory can no longer be trusted: exit with 70, and be started again."""
