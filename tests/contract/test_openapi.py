"""Schemathesis asks what our own OpenAPI allows, and what it does not: no 5xx, no answer that it does not describe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from schemas.topics import Topic
from tests.api import Api, request, usage, vote

T0 = 1_767_225_600_000  # 2026-01-01T00:00:00Z
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)


def test_whatever_is_asked_the_answer_is_as_openapi_says(api: Api, tmp_path: Path) -> None:
    bot, row = "support", (T0 + 12 * 3_600_000 + 250, "e-1")  # as in the examples
    api.put(
        Topic.BOT_REQUESTS,
        request(bot, *row),
        *(request(bot, T0 + n, f"r{n}", country="DE") for n in range(20)),
    )
    api.put(
        Topic.TOKEN_USAGES,
        usage(bot, *row),
        *(usage(bot, T0 + n, f"t{n}", input_tokens=n) for n in range(20)),
    )
    api.put(Topic.BOT_FEEDBACK, vote(bot, T0, "f", "positive"))
    # In a directory of its own, where it finds no settings and may leave what it likes.
    (tmp_path / "schemathesis.toml").write_text('[parameters]\n"path.bot" = "support"\n')
    description = api.ask("/openapi.json").json()
    # Lines of events are nothing that it could write; tests of the collector do.
    del description["paths"]["/api/v1/events/{topic}"]["post"]["requestBody"]["content"][
        "application/x-ndjson"
    ]
    (tmp_path / "openapi.json").write_text(json.dumps(description))
    before = answered(api)
    command = [
        *(str(Path(sys.executable).with_name("st")), "run", "openapi.json", "--url", api.url),
        *("--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "10"),
        *("--max-time", "25", "--request-timeout", "15", "--generation-deterministic", "--no-color"),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{done.stdout[-8000:]}{done.stderr[-2000:]}{api.log}"
    operations = {
        (method.upper(), path) for path, methods in description["paths"].items() for method in methods
    }
    reached = {(method, route) for method, route, status in answered(api) - before if status.startswith("2")}
    assert operations - reached == set()


def answered(api: Api) -> Counter[tuple[str, str, str]]:
    """How many requests were answered so far, by method, route and status."""
    counts = Counter[tuple[str, str, str]]()
    for family in text_string_to_metric_families(httpx.get(f"{api.url}/metrics").text):
        for sample in family.samples:
            if sample.name == "footfall_http_requests_total":
                of = sample.labels
                counts[of["method"], of["route"], of["status"]] += int(sample.value)
    return counts
