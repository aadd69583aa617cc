"""A user agent taken apart by ua-parser's rules, as user-agents puts the parts together. Slow to import."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from ua_parser import Domain, load_lazy_builtins
from ua_parser.lazy import DeviceMatcher, UserAgentMatcher
from ua_parser.regex import Resolver
from user_agents.parsers import UserAgent, parse_browser, parse_device, parse_operating_system

OTHER: Final = "Other"
"""What ua-parser and user-agents call everything they do not know."""


class ParsedUserAgent(UserAgent):
    """What user-agents says of a user agent, in a twentieth of the time.

    Its own constructor always takes ua-parser's pure Python path; this one takes the compiled one.
    """

    def __init__(self, user_agent: str) -> None:
        # A lone surrogate cannot be encoded, which the compiled path has to do.
        result = resolver()(user_agent.encode(errors="replace").decode(), Domain.ALL)
        browser, system, device = result.user_agent, result.os, result.device
        self.ua_string = user_agent
        self.browser = (
            parse_browser(OTHER)
            if browser is None
            else parse_browser(browser.family, browser.major, browser.minor, browser.patch)
        )
        self.os = (
            parse_operating_system(OTHER)
            if system is None
            else parse_operating_system(system.family, system.major, system.minor, system.patch)
        )
        self.device = (
            parse_device(OTHER, None, None)
            if device is None
            else parse_device(device.family, device.brand, device.model)
        )


@cache
def resolver() -> Resolver:
    """The rules, compiled once per process, which takes 0.1 s."""
    rules: Any = load_lazy_builtins()  # typed as functions alone, without their fields
    browsers, systems, devices = rules
    return Resolver(
        (
            [
                UserAgentMatcher(_bounded(r.regex), r.family, r.major, r.minor, r.patch, r.patch_minor)
                for r in browsers
            ],
            systems,
            [DeviceMatcher(_bounded(r.regex), r.regex_flag, r.family, r.brand, r.model) for r in devices],
        )
    )


def _bounded(regex: str) -> str:
    """The same rule, spelt so that the compiled path keeps to its bound.

    It reads `{0,n}` as `*`, which makes of "a robot's name within the first 100 characters" one anywhere, and
    crawlers of people whose browser ends in a toolbar's name. `{00,n}` it leaves alone.
    """
    return _BOUNDED_START.sub(r"\1{00,", regex)


_BOUNDED_START = re.compile(r"^(\^\(?\.)\{0,")
