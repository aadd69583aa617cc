"""Every metric of the web process. Labels are bounded: routes by their template, never a bot or an address."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "footfall_http_requests",
    "Requests answered, by the template of their path; aborted: the client or we ended it half-way.",
    ["method", "route", "status"],
)
REQUEST_SECONDS = Histogram(
    "footfall_http_request_seconds",
    "Time from a request's head to the last byte of its answer.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
COLLECTED_EVENTS = Counter(
    "footfall_collector_events",
    "Events posted: published, malformed (of a refused request those at fault alone), or unavailable.",
    ["topic", "outcome"],
)
