"""What the command line calls: each function is a command, its parameters are the command's.

Every command takes every setting, and imports what it runs when it runs. What it is for says `cli.COMMANDS`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

import cyclopts
from cyclopts import Parameter, Token, validators

from pipeline import logs
from pipeline.config import Command, Loaded, Settings, default_text, load
from pipeline.errors import Misconfigured, Refused, RestartNeeded

HARD_EXIT: Final = timedelta(seconds=27)
"""After a signal to stop, a process that has not come to its end by then is ended as it is."""

DEMO_DATA_DIR: Final = Path("footfall-demo")
DEMO_RATE: Final = 2.0
"""Events a second: enough to see the page move, and little enough for the week before not to look empty beside it."""

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)

T = TypeVar("T")

_SETTINGS = cyclopts.Group(
    "Settings",
    sort_key=10,
    help="Each is also a variable (--store-port: FOOTFALL_STORE_PORT) and a key of the TOML file "
    "(store_port). A command ignores those it does not use.",
)

if TYPE_CHECKING:
    from clickhouse.dead_letters import Selection

    @dataclasses.dataclass(frozen=True)
    class Flags:
        """What the command line gave of the settings."""

else:
    # One optional text per setting: what is wrong with it, `load` says, and says all of it at once.
    Flags = dataclasses.make_dataclass(
        "Flags",
        [
            (
                name,
                Annotated[
                    (bool if field.annotation is bool else str) | None,
                    Parameter(
                        help=field.description,
                        group=_SETTINGS,
                        show_default=lambda _, name=name: default_text(name) or "empty",
                    ),
                ],
                dataclasses.field(default=None),
            )
            for name, field in Settings.model_fields.items()
        ],
        frozen=True,
        kw_only=True,
        # Its own module by default is a standard one, and cyclopts does not look into classes of those.
        namespace={"__module__": __name__},
    )

Shared = Annotated[Flags | None, Parameter(name="*")]
ConfigFile = Annotated[Path | None, Parameter(group=_SETTINGS, help="TOML file of settings.")]


def _duration(kind: type[timedelta], tokens: Sequence[Token]) -> timedelta:
    return _read(kind, tokens, "a duration: 30s, 10m, 2h, 7d, or 1h30m")


def _moment(kind: type[datetime | timedelta], tokens: Sequence[Token]) -> datetime | timedelta:
    return _read(kind, tokens, "a time, 2026-01-31 or 2026-01-31T12:00Z, or so long ago: 10m, 36h, 7d")


def _read(kind: type[T], tokens: Sequence[Token], forms: str) -> T:
    """What one word says. Raises ValueError, naming the forms that there are."""
    try:
        read: T = cyclopts.convert(kind, tokens)
    except cyclopts.CoercionError:
        raise ValueError(f'"{tokens[0].value}" should be {forms}') from None
    return read


# With a hyphen it may begin: what is wrong with -3s is the value.
_DURATION = Parameter(converter=_duration, allow_leading_hyphen=True)
_MOMENT = Parameter(converter=_moment, allow_leading_hyphen=True)

AsJson = Annotated[bool, Parameter(negative="", help="Print one JSON object.")]


def up(
    *,
    demo: Annotated[
        bool,
        Parameter(
            negative="",
            help=f"With lively traffic of forty bots; data in ./{DEMO_DATA_DIR} unless told otherwise.",
        ),
    ] = False,
    demo_rate: Annotated[
        float | None,
        Parameter(
            help="Of the demo's traffic: events a second.",
            show_default=lambda _: DEMO_RATE,
            validator=validators.Number(gt=0, lt=float("inf")),
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Shared = None,
) -> None:
    loaded = _start("up", settings, config)
    read = loaded.settings
    if demo_rate is not None and not demo:
        raise Misconfigured("--demo-rate is of no use without --demo")
    if demo and loaded.origins["data_dir"] == "default":
        # Bots that do not exist are not to get among those that do.
        read = read.model_copy(update={"data_dir": DEMO_DATA_DIR})
    from pipeline.embedded.up import up

    rate = (DEMO_RATE if demo_rate is None else demo_rate) if demo else None

    def ready(url: str) -> None:
        _print(f"Footfall is ready: {url}")

    _serve(lambda stop: up(read, stop=stop, ready=ready, demo_rate=rate))


def worker(*, config: ConfigFile = None, settings: Shared = None) -> None:
    read = _start("worker", settings, config).settings
    from pipeline.worker import run_worker

    _serve(lambda stop: run_worker(read, stop=stop))


def web(*, config: ConfigFile = None, settings: Shared = None) -> None:
    read = _start("web", settings, config).settings
    from pipeline.web.serve import serve_web

    _serve(lambda stop: serve_web(read, stop=stop))


def store(*, config: ConfigFile = None, settings: Shared = None) -> None:
    read = _start("store", settings, config).settings
    from pipeline.embedded.store import serve_store

    def ready() -> None:
        _print(f"The store is ready: http://127.0.0.1:{read.store_port}")

    _serve(
        lambda stop: serve_store(
            data_dir=read.data_dir, host="127.0.0.1", port=read.store_port, ready=ready, stop=stop
        )
    )


def migrate(
    *,
    dry_run: Annotated[bool, Parameter(negative="", help="Only print what would be done.")] = False,
    config: ConfigFile = None,
    settings: Shared = None,
) -> None:
    read = _start("migrate", settings, config).settings
    from pipeline.migrate import migrate

    done = asyncio.run(migrate(read.store_address(), dry_run=dry_run))
    for migration in done:
        _print(f"-- {migration.label}\n{migration.text}" if dry_run else f"applied {migration.label}")
    if not done:
        _print("-- nothing to do" if dry_run else "nothing to do: the database is at this version")


def replay(
    file: Annotated[Path, Parameter(help="What to publish.")],
    /,
    *,
    format: Annotated[
        Literal["access-log", "token-trace", "ndjson"], Parameter(name="--as", help="What the file is.")
    ],
    topic: Annotated[str | None, Parameter(help="Topic to publish to.")] = None,
    bot: Annotated[str | None, Parameter(help="bot_id of events that have none.")] = None,
    speed: Annotated[float | Literal["max"], Parameter(help="Times as fast as it happened, or max.")] = "max",
    shift_to: Annotated[
        Literal["now"] | None, Parameter(help="Move all event times, so that the last one is now.")
    ] = None,
    config: ConfigFile = None,
    settings: Shared = None,
) -> None:
    read = _start("replay", settings, config).settings
    from pipeline.replay import replay

    _until_done(
        lambda stop: replay(
            read,
            file=file,
            format=format,
            topic=topic,
            bot=bot,
            speed=None if speed == "max" else speed,
            shift_to_now=shift_to == "now",
            stop=stop,
        )
    )


def simulate(
    *,
    rate: Annotated[float, Parameter(help="Events a second, of all three topics together.")] = 20,
    duration: Annotated[
        timedelta | None,
        _DURATION,
        Parameter(help="For how long (30s, 10m, 2h).", show_default=lambda _: "until stopped"),
    ] = None,
    backfill: Annotated[
        timedelta,
        _DURATION,
        Parameter(help="First publish this much of the past (7d).", show_default=lambda _: "none"),
    ] = timedelta(0),
    seed: Annotated[int, Parameter(help="Another number, another population.")] = 1,
    backfilled_file: Annotated[Path | None, Parameter(show=False)] = None,  # for `up`
    config: ConfigFile = None,
    settings: Shared = None,
) -> None:
    read = _start("simulate", settings, config).settings
    from pipeline.simulate import simulate

    _until_done(
        lambda stop: simulate(
            read,
            rate=rate,
            duration=duration,
            backfill=backfill,
            seed=seed,
            backfilled_file=backfilled_file,
            stop=stop,
        )
    )


def audit(
    *,
    since: Annotated[
        datetime | timedelta | None,
        _MOMENT,
        Parameter(
            help="Only offsets consumed, and intervals that begin, since then: 2026-01-31, or 36h ago.",
            show_default=lambda _: "everything",
        ),
    ] = None,
    repair: Annotated[
        bool, Parameter(negative="", help="Mend what can be mended, audit again, and say what cannot.")
    ] = False,
    json: AsJson = False,
    config: ConfigFile = None,
    settings: Shared = None,
) -> None:
    read = _start("audit", settings, config).settings
    from pipeline.audit_report import as_json, summary, verdict
    from pipeline.repair import run_audit

    report = asyncio.run(run_audit(read, since_ms=_milliseconds(since) or 0, mend=repair))
    _print(as_json(report) if json else summary(report))
    if not report.is_clean:
        raise Refused(verdict(report))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filters:
    """What the command line says of dead letters; all of it holds of those that are meant."""

    reason: Annotated[list[str] | None, Parameter(help="Refused for this reason; repeatable.")] = None
    topic: Annotated[list[str] | None, Parameter(help="Came to this topic; repeatable.")] = None
    partition: Annotated[list[int] | None, Parameter(help="Came to this partition; repeatable.")] = None
    bot: Annotated[list[str] | None, Parameter(help="Of this bot, as far as one is known; repeatable.")] = (
        None
    )
    since: Annotated[
        datetime | timedelta | None,
        _MOMENT,
        Parameter(help="Came since then: 2026-01-31, or 36h ago.", show_default=lambda _: "ever"),
    ] = None
    until: Annotated[
        datetime | timedelta | None,
        _MOMENT,
        Parameter(help="Came before then: 2026-01-31, or 36h ago.", show_default=lambda _: "now"),
    ] = None

    def selection(self, settings: Settings, addresses: Sequence[str] = ()) -> Selection:
        """Those that are meant. Raises Misconfigured."""
        from pipeline.dead_letters import selection

        return selection(
            settings,
            topics=self.topic or (),
            reasons=self.reason or (),
            partitions=self.partition or (),
            bots=self.bot or (),
            since_ms=_milliseconds(self.since),
            until_ms=_milliseconds(self.until),
            addresses=addresses,
        )


NO_FILTERS: Final = Filters()
GivenFilters = Annotated[
    Filters, Parameter(name="*", negative_iterable="", group=cyclopts.Group("Filters", sort_key=5))
]


def dead_letters_list(
    *,
    filters: GivenFilters = NO_FILTERS,
    limit: Annotated[int, Parameter(help="At most so many, the newest.")] = 50,
    json: AsJson = False,
    config: ConfigFile = None,
    settings: Shared = None,
) -> None:
    read = _start("dead-letters list", settings, config).settings
    from pipeline.dead_letters import list_letters

    listing = asyncio.run(list_letters(read, filters.selection(read), limit=limit))
    _print(listing.as_json() if json else str(listing))


def dead_letters_show(
    address: Annotated[str, Parameter(help="TOPIC/EPOCH/PARTITION/OFFSET, as the list has it.")],
    /,
    *,
    json: AsJson = False,
    config: ConfigFile = None,
    settings: Shared = None,
) -> None:
    read = _start("dead-letters show", settings, config).settings
    from pipeline.dead_letters import show_letter

    shown = asyncio.run(show_letter(read, address))
    _print(shown.as_json() if json else str(shown))


def dead_letters_replay(
    *addresses: Annotated[
        str, Parameter(help="Those that are meant, as the list has them; or give filters.")
    ],
    filters: GivenFilters = NO_FILTERS,
    limit: Annotated[
        int | None,
        Parameter(help="At most so many different ones, the newest.", show_default=lambda _: "all"),
    ] = None,
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be published.")] = False,
    config: ConfigFile = None,
    settings: Shared = None,
) -> None:
    read = _start("dead-letters replay", settings, config).settings
    if bool(addresses) == (filters != NO_FILTERS):
        raise Misconfigured(
            "say which dead letters are meant: either their addresses, or one or more of --reason, --topic, "
            "--partition, --bot, --since, --until"
        )
    from pipeline.dead_letters import replay_letters

    selected = filters.selection(read, addresses)
    done = _until_done(lambda stop: replay_letters(read, selected, limit=limit, is_dry=dry_run, stop=stop))
    if done.refusals:
        raise Refused(f"{done.refusals.total():,} of them cannot be published")


def config(*, config: ConfigFile = None, settings: Shared = None) -> None:
    loaded = _start("config", settings, config)
    rows = [("setting", "value", "from")]
    for name, value in loaded.settings:
        shown = "none" if value is None else "empty" if value == "" else str(value)
        rows.append((name, shown.lower() if isinstance(value, bool) else shown, loaded.origins[name]))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for setting, shown, origin in rows:
        _print(f"{setting:{widths[0]}}  {shown:{widths[1]}}  {origin}")


# --- how a command begins and ends -----------------------------------------------------------------------


def _start(command: Command, flags: Flags | None, config: Path | None) -> Loaded:
    """Read the settings, and let the log begin."""
    values = {} if flags is None else dataclasses.asdict(flags)
    given = {name: value for name, value in values.items() if value is not None}
    loaded = load(command, given, config=config)
    logs.set_up(loaded.settings.log_format, process=command)
    for warning in loaded.warnings:
        log.warning(warning)
    return loaded


def _serve(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run until SIGTERM or SIGINT sets the event and `serve` comes to its end, or `HARD_EXIT` is over."""

    async def until_stopped() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()

        def handle(number: int, _frame: object) -> None:
            if not stop.is_set():
                log.info("%s: stopping", signal.Signals(number).name)
                timer = threading.Timer(HARD_EXIT.total_seconds(), _exit_hard)
                timer.daemon = True
                timer.start()
                loop.call_soon_threadsafe(stop.set)

        # Not the loop's own handlers: these run, and the timer starts, even when something blocks the loop.
        for number in _STOP_SIGNALS:
            signal.signal(number, handle)
        await serve(stop)
        if not stop.is_set():
            raise RestartNeeded("it ended without being told to")

    asyncio.run(until_stopped())


def _until_done(work: Callable[[asyncio.Event], Awaitable[T]]) -> T:
    """Run to the end, or until SIGTERM or SIGINT sets the event; print and return what comes of it."""

    async def until_done_or_stopped() -> T:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
        return await work(stop)

    done = asyncio.run(until_done_or_stopped())
    _print(str(done))
    return done


def _milliseconds(moment: datetime | timedelta | None) -> int | None:
    """That moment, or so long ago, in milliseconds since the epoch; without a zone it is UTC."""
    if moment is None:
        return None
    if isinstance(moment, timedelta):
        moment = datetime.now(UTC) - moment
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _exit_hard() -> None:
    log.error("still not stopped after %.0f s: ending as it is", HARD_EXIT.total_seconds())
    os._exit(0)


def _print(line: str) -> None:
    """A result: seen at once, also through a pipe."""
    print(line, flush=True)  # noqa: T201
