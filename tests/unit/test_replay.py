"""What lines become, and what a replay says of them before any broker is asked."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import replay as replaying
from pipeline.config import Settings
from pipeline.errors import Misconfigured, Unavailable
from pipeline.replay import ReplaySummary, replay
from pipeline.replay_formats import (
    Format,
    Line,
    Skipped,
    SkipReason,
    access_log_line,
    is_token_trace_header,
    ndjson_line,
    repeats_a_key,
    token_trace_line,
)
from schemas.dead_letter import Reason
from schemas.event import MAX_VALUE_BYTES

# --- access logs ---------------------------------------------------------------------------------------


def log_line(
    *,
    host: str = "192.0.2.1",
    user: str = "-",
    time: str = "17/May/2015:10:05:03 +0000",
    request: str = "GET /blog/today HTTP/1.1",
    rest: str = ' 200 1234 "https://example.com/page" "curl/8.4.0"',
) -> bytes:
    return f'{host} - {user} [{time}] "{request}"{rest}'.encode()


def test_a_combined_log_line_is_a_request() -> None:
    assert access_log_line(log_line()) == Line(
        fields={
            "endpoint": "blog",
            "ip": "192.0.2.1",
            "user_agent": "curl/8.4.0",
            "page_url": "https://example.com/page",
        },
        event_ms=1431857103000,
    )


@pytest.mark.parametrize(
    ("time", "iso"),
    [
        ("17/May/2015:10:05:03 +0200", "2015-05-17T08:05:03Z"),
        ("31/Dec/2024:23:59:59 -0330", "2025-01-01T03:29:59Z"),
        ("29/Feb/2024:00:00:00 +0545", "2024-02-28T18:15:00Z"),
        ("30/Jun/2015:23:59:60 +0000", "2015-07-01T00:00:00Z"),
    ],
)
def test_the_offset_of_a_log_line_is_minded(time: str, iso: str) -> None:
    assert access_log_line(log_line(time=time)).event_ms == datetime.fromisoformat(iso).timestamp() * 1000


@pytest.mark.parametrize(
    ("request_line", "endpoint"),
    [
        ("GET / HTTP/1.1", "/"),
        ("GET /?utm=1 HTTP/1.1", "/"),
        ("POST /api/chat?stream=1 HTTP/2.0", "api"),
        ("GET //wp-login.php HTTP/1.0", "wp-login.php"),
        ("GET /a#b HTTP/1.1", "a"),
        ("GET https://bot.example/widget/1 HTTP/1.1", "widget"),
        ("GET https://bot.example HTTP/1.1", "/"),
        ("GET http://[broken/x HTTP/1.1", "http://[broken/x"),
        ("OPTIONS * HTTP/1.1", "*"),
        ("CONNECT bot.example:443 HTTP/1.1", "bot.example:443"),
        ("GET /no-version", "no-version"),
        ("GET /a b/c HTTP/1.1", "a b"),
        (r"GET /\"quoted\" HTTP/1.1", '"quoted"'),
        (r"GET /\xe6\x97\xa5/x HTTP/1.1", "日"),
        (r"GET /\xe4\xe5/x HTTP/1.1", r"\xe4\xe5"),
        (f"GET /{'x' * 500} HTTP/1.1", "x" * 128),
    ],
)
def test_the_endpoint_is_the_first_segment_of_the_path(request_line: str, endpoint: str) -> None:
    assert access_log_line(log_line(request=request_line)).fields["endpoint"] == endpoint


@pytest.mark.parametrize("rest", ["", " 200", " 200 1234", ' 200 - "-" "-"', ' 200 0 "" ""'])
def test_a_dash_nothing_and_the_common_log_format_leave_fields_absent(rest: str) -> None:
    line = access_log_line(log_line(host="-", rest=rest))
    assert line.fields == {"endpoint": "blog", "ip": None, "user_agent": None, "page_url": None}
    assert not line.is_cut


def test_fields_after_the_user_agent_and_spaces_in_a_user_name_are_no_matter() -> None:
    line = log_line(user="jo doe [x]", rest=' 200 12 "-" "curl/8" 0.003 "upstream"')
    assert access_log_line(line).fields["user_agent"] == "curl/8"


def test_a_line_cut_off_in_its_user_agent_is_a_request_all_the_same() -> None:
    line = access_log_line(log_line(rest=' 200 12 "-" "Mozilla/5.0 (compat'))
    assert line.fields["user_agent"] == "Mozilla/5.0 (compat"
    assert line.is_cut


@pytest.mark.parametrize("request_line", ["-", "", r"\x16\x03\x01\x02", "GET", "quit"])
def test_a_connection_without_a_request_is_none(request_line: str) -> None:
    with pytest.raises(Skipped) as skipped:
        access_log_line(log_line(request=request_line))
    assert skipped.value.reason is SkipReason.NO_REQUEST


@pytest.mark.parametrize(
    "line",
    [
        b"not a log line",
        b"192.0.2.1 - -",
        b'192.0.2.1 - - [17/May/2015:10:05:03 +0000] "GET / HT',
        log_line(time="31/Feb/2015:10:05:03 +0000"),
        log_line(time="17/Mai/2015:10:05:03 +0000"),
        log_line(time="17/May/2015:25:05:03 +0000"),
        log_line(time="2015-05-17T10:05:03Z"),
        log_line(rest=" ok"),
        log_line(rest=" 200 12 junk"),
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"192.0.2.1 - " + b"[17/May/2015:10:05:03 +0000] " * 10_000,
        b'a - - [17/May/2015:10:05:03 +0000] "' + b"\\" * 100_001,
    ],
)
def test_what_is_no_log_line_is_skipped_and_takes_no_time(line: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(Skipped) as skipped:
        access_log_line(line)
    assert skipped.value.reason is SkipReason.OTHER_FORMAT
    assert time.monotonic() - started < 2


# --- token traces --------------------------------------------------------------------------------------


def test_a_line_of_a_token_trace_is_a_token_usage() -> None:
    assert token_trace_line(b"2023-11-16 18:15:46.6805900,374,44") == Line(
        fields={"source": "chat", "input_tokens": 374, "output_tokens": 44}, event_ms=1700158546680
    )


@pytest.mark.parametrize("when", [b"2024-05-10 02:00:00.009930+02:00", b"2024-05-10T00:00:00.0099Z"])
def test_a_token_trace_may_say_its_offset(when: bytes) -> None:
    assert token_trace_line(when + b",1,2").event_ms == 1715299200009


@pytest.mark.parametrize(
    "line",
    [
        b"2023-11-16 18:15:46.6805900,374",
        b"2023-11-16 18:15:46.6805900,374,44,1",
        b"2023-11-16 18:15:46.6805900,-1,44",
        b"2023-11-16 18:15:46.6805900,1.5,44",
        b"2023-13-16 18:15:46.6805900,374,44",
        b"yesterday,374,44",
        "2023-11-16 18:15:46,３,44".encode(),
        b"\xff",
    ],
)
def test_what_is_no_line_of_a_token_trace_is_skipped(line: bytes) -> None:
    with pytest.raises(Skipped) as skipped:
        token_trace_line(line)
    assert skipped.value.reason is SkipReason.OTHER_FORMAT


def test_the_header_of_a_token_trace_is_known() -> None:
    assert is_token_trace_header(b"TIMESTAMP,ContextTokens,GeneratedTokens")
    assert is_token_trace_header(b"timestamp, contexttokens, generatedtokens")
    assert not is_token_trace_header(b"2023-11-16 18:15:46.6805900,374,44")


# --- events --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [b"[]", b'"x"', b"1", b"{", b"{}x", b"\xff", b"nonsense", b"[" * 100_000])
def test_what_is_no_json_object_is_skipped(line: bytes) -> None:
    with pytest.raises(Skipped) as skipped:
        ndjson_line(line)
    assert skipped.value.reason is SkipReason.OTHER_FORMAT


@pytest.mark.parametrize(
    ("line", "event_ms"),
    [
        (b'{"event_time": "2023-11-16T18:15:46.680+01:00"}', 1700154946680),
        (b'{"event_time": 1700158546680}', 1700158546680),
        (b'{"event_time": true}', None),
        (b'{"event_time": "yesterday"}', None),
        (b'{"event_time": [1]}', None),
        (b'{"event_time": null}', None),
        (b'{"event_time": 1e999}', None),
        (b"{}", None),
    ],
)
def test_the_time_of_an_event_is_known_where_it_is_one(line: bytes, event_ms: int | None) -> None:
    assert ndjson_line(line).event_ms == event_ms


@pytest.mark.parametrize(
    ("line", "repeats"),
    [
        (b'{"a": 1, "b": {"a": 1}}', False),
        (b'{"a": 1, "a": 1}', True),
        (b'{"b": {"a": 1, "\\u0061": 1}}', True),
        (b'{"a":' * 100_000, True),
    ],
)
def test_a_repeated_key_is_seen(line: bytes, repeats: bool) -> None:
    assert repeats_a_key(line) is repeats


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(str.encode),
        st.text(alphabet='[]"\\/: {},-+0123456789MayGET', max_size=200).map(str.encode),
        st.builds(log_line, request=st.from_regex(r"[^\ud800-\udfff]*", fullmatch=True).filter(str.isascii)),
    )
)
def test_no_line_makes_a_parser_fail(line: bytes) -> None:
    for parse in (access_log_line, token_trace_line, ndjson_line):
        try:
            parsed = parse(line)
        except Skipped:
            continue
        assert isinstance(parsed, Line)


# --- whole files, without a broker ---------------------------------------------------------------------

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.99,3,4\n"


def events_of(
    file: Path,
    format: Format,
    *,
    topic: str | None = None,
    bot: str | None = "my-bot",
    shift_ms: int = 0,
) -> tuple[list[dict[str, Any]], ReplaySummary]:
    """What would be published, and the summary so far."""
    rules = replaying._Rules.checked(format, topic, bot)
    summary = ReplaySummary(file=file, topic=rules.topic)

    async def read() -> list[dict[str, Any]]:
        events = []
        async for event in replaying._events(replaying._Source.checked(file), rules, shift_ms, summary):
            summary.add(event.event_ms)
            events.append(json.loads(event.value))
        return events

    return asyncio.run(read()), summary


def file_of(tmp_path: Path, *lines: bytes | str, name: str = "lines") -> Path:
    file = tmp_path / name
    file.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return file


def test_reading_a_file_twice_gives_the_same_events(tmp_path: Path) -> None:
    file = file_of(tmp_path, log_line(), log_line())
    first, _ = events_of(file, "access-log")
    again, _ = events_of(file, "access-log")
    assert first == again
    assert first[0]["event_id"] != first[1]["event_id"]
    assert {name: first[0][name] for name in ("bot_id", "event_time", "endpoint")} == {
        "bot_id": "my-bot",
        "event_time": 1431857103000,
        "endpoint": "blog",
    }


def test_a_log_that_has_grown_keeps_the_events_it_had(tmp_path: Path) -> None:
    before, _ = events_of(file_of(tmp_path, log_line(), log_line()), "access-log")
    after, _ = events_of(file_of(tmp_path, log_line(), log_line(), log_line()), "access-log")
    assert after[:2] == before
    assert len({event["event_id"] for event in after}) == 3


def test_line_ends_and_packing_change_no_event(tmp_path: Path) -> None:
    plain, _ = events_of(file_of(tmp_path, log_line(), log_line()), "access-log")
    (tmp_path / "crlf").write_bytes(log_line() + b"\r\n" + log_line())
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(log_line() + b"\n" + log_line() + b"\n"))
    assert events_of(tmp_path / "crlf", "access-log")[0] == plain
    assert events_of(packed, "access-log")[0] == plain


def test_other_lines_before_it_make_an_event_another_one(tmp_path: Path) -> None:
    one, _ = events_of(file_of(tmp_path, log_line(host="192.0.2.7"), log_line()), "access-log")
    other, _ = events_of(file_of(tmp_path, log_line(host="192.0.2.8"), log_line()), "access-log")
    assert one[1]["event_id"] != other[1]["event_id"]


def test_a_shift_moves_every_time_by_the_same_and_makes_other_events(tmp_path: Path) -> None:
    file = file_of(tmp_path, *TRACE.splitlines())
    plain, _ = events_of(file, "token-trace")
    shifted, summary = events_of(file, "token-trace", shift_ms=5_000)
    again, _ = events_of(file, "token-trace", shift_ms=5_000)
    assert [b["event_time"] - a["event_time"] for a, b in zip(plain, shifted, strict=True)] == [5_000, 5_000]
    assert {e["event_id"] for e in plain}.isdisjoint(e["event_id"] for e in shifted)
    assert shifted == again
    assert (summary.first_event_ms, summary.last_event_ms) == (1700158551680, 1700158555990)


def test_the_shift_to_now_is_of_whole_seconds_and_ends_now(tmp_path: Path) -> None:
    file = file_of(tmp_path, log_line(), log_line(time="17/May/2015:10:04:00 +0000"), "junk")
    rules = replaying._Rules.checked("access-log", None, "my-bot")
    shift = asyncio.run(replaying._shift(replaying._Source.checked(file), rules))
    newest = (1431857103000 + shift) / 1000
    assert shift % 1000 == 0
    assert time.time() - 10 < newest <= time.time()


def test_every_line_is_an_event_or_skipped_for_a_reason(tmp_path: Path) -> None:
    future = datetime.fromtimestamp(time.time() + 3600, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    file = file_of(
        tmp_path,
        log_line(),
        "",
        "junk",
        "x" * (MAX_VALUE_BYTES + 1),
        log_line(request="-"),
        log_line(time="17/May/1999:10:05:03 +0000"),
        log_line(time=future),
        *["junk"] * 6,
        log_line(rest=' 200 1 "-" "cut'),
    )
    events, summary = events_of(file, "access-log")
    assert len(events) == 2
    assert summary.lines == 14
    assert {reason: tally.count for reason, tally in summary.skipped.items()} == {
        SkipReason.BLANK: 1,
        SkipReason.OTHER_FORMAT: 7,
        SkipReason.TOO_LONG: 1,
        SkipReason.NO_REQUEST: 1,
        SkipReason.NOT_AN_EVENT: 2,
    }
    assert set(summary.skipped) == set(SkipReason)
    assert summary.cut.first_lines == [14]
    text = str(summary)
    assert "other_format         7 (line 3, 8, 9, 10, 11, …)" in text
    assert "of a line cut off    1 (line 14)" in text


def test_tokens_that_no_event_may_have_are_skipped(tmp_path: Path) -> None:
    file = file_of(tmp_path, *TRACE.splitlines(), f"2023-11-16 18:15:50.99,{2**53},4")
    events, summary = events_of(file, "token-trace")
    assert len(events) == 2
    assert summary.skipped[SkipReason.NOT_AN_EVENT].first_lines == [4]


def test_a_whole_event_is_published_byte_by_byte(tmp_path: Path) -> None:
    line = '{"bot_id":"b",  "event_id":"1","event_time":"2024-01-01T00:00:00Z","rating":"none","x":1.50}'
    file = file_of(tmp_path, line)
    rules = replaying._Rules.checked("ndjson", "bot_feedback", "my-bot")
    event = rules.event(line.encode(), rules.line(line.encode()), 1, "id", 0)
    assert (event.value, event.key) == (line.encode(), b"b")
    assert events_of(file, "ndjson", topic="bot_feedback")[0] == [json.loads(line)]


def test_an_event_without_bot_or_id_is_given_them(tmp_path: Path) -> None:
    file = file_of(tmp_path, '{"event_id":null,"event_time":1704067200000,"rating":"none","x":1.50}')
    (event,), summary = events_of(file, "ndjson", topic="bot_feedback")
    assert event["bot_id"] == "my-bot"
    assert len(event["event_id"]) == 32
    assert not summary.refused


def test_a_malformed_event_is_published_as_it_is_and_foretold(tmp_path: Path) -> None:
    repeated = '{"rating":"none","rating":"positive","event_time":1704067200000}'
    file = file_of(tmp_path, repeated, '{"event_time":1704067200000}', '{"event_time":"soon"}', "nonsense")
    events, summary = events_of(file, "ndjson", topic="bot_feedback", shift_ms=1000)
    assert len(events) == 3
    assert {r: t.first_lines for r, t in summary.refused.items()} == {Reason.MISSING_FIELD: [1, 2, 3]}
    assert events[0] == json.loads(repeated)
    assert summary.skipped[SkipReason.OTHER_FORMAT].first_lines == [4]


def test_a_bot_that_is_no_string_is_for_the_workers_to_refuse(tmp_path: Path) -> None:
    for odd in ("1", "1e300", '{"a":[]}', '""'):
        file = file_of(tmp_path, f'{{"bot_id":{odd},"event_id":"1","event_time":1,"rating":"none"}}')
        (event,), summary = events_of(file, "ndjson", topic="bot_feedback")
        assert event["bot_id"] == json.loads(odd)
        assert len(summary.refused) == 1


def test_the_shift_moves_events_too_where_they_have_a_time(tmp_path: Path) -> None:
    file = file_of(tmp_path, '{"event_id":"1","event_time":"2024-01-01T00:00:00Z","rating":"none"}')
    (event,), _ = events_of(file, "ndjson", topic="bot_feedback", shift_ms=2000)
    assert (event["event_id"], event["event_time"]) == ("1", 1704067202000)


def test_the_summary_says_what_was_published_and_when_it_happened(tmp_path: Path) -> None:
    events, summary = events_of(file_of(tmp_path, *TRACE.splitlines()), "token-trace")
    summary.is_complete = True
    summary.seconds = 0.5
    assert len(events) == summary.lines == 2
    assert str(summary).splitlines()[1:] == [
        "topic                  token_usages",
        "lines read             2",
        "events published       2",
        "lines skipped          0",
        "first event            2023-11-16T18:15:46.680Z",
        "last event             2023-11-16T18:15:50.990Z",
        "took                   0.5 s, 4 events/s",
    ]


def test_progress_is_logged_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replaying, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(replaying, "LOOK_SECONDS", 0.0)
    with caplog.at_level("INFO"):
        events_of(file_of(tmp_path, *[log_line()] * 3), "access-log")
    assert "publishing: 3 lines, 100 %" in [record.getMessage() for record in caplog.records]


# --- what has to be said otherwise ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "topic", "bot", "said"),
    [
        ("access-log", "bot_request", "b", "unknown topic"),
        ("access-log", "token_usages", "b", "becomes events of bot_requests"),
        ("token-trace", "bot_requests", "b", "becomes events of token_usages"),
        ("ndjson", None, None, "say which topic"),
        ("access-log", None, None, "--bot"),
        ("token-trace", None, "a/b", "no bot can be called"),
        ("ndjson", "bot_requests", "", "no bot can be called"),
        ("access-log", None, "x" * 129, "no bot can be called"),
    ],
)
def test_what_does_not_fit_together_is_said_before_anything_is_read(
    format: Format, topic: str | None, bot: str | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match=said):
        asyncio.run(replay(Settings(), file=tmp_path / "absent", format=format, topic=topic, bot=bot))


@pytest.mark.parametrize("name", ["absent", ".", "\0"])
def test_a_file_that_cannot_be_read_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot"):
        asyncio.run(replay(Settings(), file=tmp_path / name, format="access-log", bot="b"))


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf")])
def test_a_speed_is_a_number_above_nothing(speed: float, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="speed"):
        asyncio.run(replay(Settings(), file=tmp_path, format="access-log", bot="b", speed=speed))


def test_a_token_trace_begins_with_its_header(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no token trace"):
        events_of(file_of(tmp_path, "2023-11-16 18:15:46.68,374,44"), "token-trace")


@pytest.mark.parametrize(
    "content", [gzip.compress(b"x\n" * 1000)[:-12], b"no gzip at all"], ids=["cut off", "no archive"]
)
def test_a_broken_archive_is_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.gz").write_bytes(content)
    with pytest.raises(Misconfigured, match="cannot read"):
        events_of(tmp_path / "log.gz", "access-log")


def test_a_broker_that_stays_away_is_an_outage(tmp_path: Path, free_port: int) -> None:
    file = file_of(tmp_path, log_line())
    settings = Settings(broker=f"127.0.0.1:{free_port}")
    with pytest.raises(Unavailable):
        asyncio.run(
            replay(settings, file=file, format="access-log", bot="b", patience=timedelta(seconds=0.3))
        )


def test_a_stop_ends_a_replay_and_what_it_did_is_told(tmp_path: Path, free_port: int) -> None:
    file = file_of(tmp_path, log_line())
    settings = Settings(broker=f"127.0.0.1:{free_port}")

    async def stopped() -> ReplaySummary:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, stop.set)
        return await replay(settings, file=file, format="access-log", bot="b", stop=stop)

    summary = asyncio.run(stopped())
    assert not summary.is_complete
    assert "nothing counts twice" in str(summary)


def test_after_a_shift_another_run_is_not_said_to_be_harmless(tmp_path: Path) -> None:
    summary = ReplaySummary(file=tmp_path, topic="t", shift=timedelta(seconds=1))
    assert "would count beside these" in str(summary)


# --- pace ----------------------------------------------------------------------------------------------


def test_events_come_as_far_apart_as_they_happened_divided_by_the_speed(tmp_path: Path) -> None:
    times = ["10:05:00", "10:05:01", "10:05:01", "10:05:00", "10:05:03"]
    file = file_of(tmp_path, *(log_line(time=f"17/May/2015:{clock} +0000") for clock in times))
    rules = replaying._Rules.checked("access-log", None, "my-bot")
    summary = ReplaySummary(file=file, topic="bot_requests")

    async def arrivals() -> list[tuple[int, float]]:
        events = replaying._events(replaying._Source.checked(file), rules, 0, summary)
        started = time.monotonic()
        return [
            (len(chunk), time.monotonic() - started) async for chunk in replaying._chunks(events, speed=2)
        ]

    chunks = asyncio.run(arrivals())
    assert [count for count, _ in chunks] == [1, 3, 1]
    # A chunk leaves when the next event is not yet due; the last one at its own time, 1.5 s after the first.
    assert chunks[0][1] < 0.5
    assert 1.49 < chunks[2][1] < 3


def test_at_full_speed_chunks_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "CHUNK_EVENTS", 2)
    file = file_of(tmp_path, *[log_line()] * 5)
    rules = replaying._Rules.checked("access-log", None, "my-bot")
    summary = ReplaySummary(file=file, topic="bot_requests")

    async def sizes() -> list[int]:
        events = replaying._events(replaying._Source.checked(file), rules, 0, summary)
        return [len(chunk) async for chunk in replaying._chunks(events, speed=None)]

    assert asyncio.run(sizes()) == [2, 2, 1]


# --- the documentation ---------------------------------------------------------------------------------


def test_the_documentation_names_every_reason_to_skip_a_line() -> None:
    text = (Path(__file__).parents[2] / "docs" / "replay.md").read_text()
    table = text.partition("## Lines that are skipped")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(SkipReason)
