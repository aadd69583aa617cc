"""`footfall up`: broker, store, worker and web on this machine, watched, and stopped in order.

Every part is a process of its own and speaks to the others over the network, as in production. Whatever dies is
started again; this process dying in any way takes all of them with it.

What takes long to import is imported once the parts have been started: they import no less, at the same time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from pipeline.config import Settings, flag
from pipeline.demo_geography import write_demo_geography
from pipeline.embedded.kafka import kafka, kafka_command
from pipeline.embedded.lock import lock
from pipeline.embedded.supervise import Child
from pipeline.embedded.trial import TrialBroker
from pipeline.errors import Misconfigured

LET_GO_SECONDS: Final = 3.0
"""How long ports and data directory may still be held: by children of an `up` that was killed a moment ago."""

REBALANCE_SECONDS: Final = 0.5
SESSION_SECONDS: Final = 2.0
"""The packaged broker makes whoever joins wait half of the longer of these; there is no second worker to wait for."""

DEMO_BACKFILL: Final = "7d"
DEMO_BACKFILL_WORDS: Final = "7 days"
PAST_LOOK_SECONDS: Final = 0.3
PAST_PROGRESS_SECONDS: Final = 1.0

# A stop takes 26 s at most, so that 30 s are kept whatever hangs.
TRAFFIC_STOP_SECONDS: Final = 1.0
WEB_STOP_SECONDS: Final = 3.0
DRAIN_SECONDS: Final = 10.0
UNREADY_DRAIN_SECONDS: Final = 1.0
WORKER_STOP_SECONDS: Final = 7.0
LAST_STOP_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


async def up(
    settings: Settings,
    *,
    stop: asyncio.Event,
    ready: Callable[[str], None],
    demo_rate: float | None = None,
) -> None:
    """Run everything until `stop` is set; call `ready` with the page's address once posted events will be counted.

    With `demo_rate` there is traffic, of so many events a second: see `docs/simulate.md`. `ready` is then called once
    its past is counted.

    A part that `settings` names elsewhere (`broker`, `clickhouse`) is used and not started. After `stop` what the
    packaged broker has accepted is first brought into the store.

    Raises Misconfigured for a data directory in use, a taken port or a part that cannot run, Refused when the
    database cannot be migrated, RestartNeeded when a part does not stay up.
    """
    with _data_dir_locked(settings.data_dir):
        settings = _with_ports(settings)
        await _check_ports(settings)
        if demo_rate is not None and settings.geoip_database is None:
            places = settings.data_dir / "demo-places.mmdb"
            write_demo_geography(places)
            settings = settings.model_copy(update={"geoip_database": places})
        await _Parts(settings, demo_rate=demo_rate).run(stop, ready)


class _Parts:
    """What `up` consists of."""

    def __init__(self, settings: Settings, *, demo_rate: float | None) -> None:
        self._settings = settings
        self._broker: TrialBroker | None = None
        self._kafka: Child | None = None
        self._store: Child | None = None
        self._is_ready = False
        # What the others are told: where broker and store are, as if they were anybody's.
        told: dict[str, object] = {}
        if settings.runs_broker:
            told |= _defaults("broker_sasl_mechanism", "broker_user", "broker_password_file")
            told |= _defaults("broker_tls", "broker_ca_file")
            told["broker"] = settings.broker_connection().bootstrap
        if settings.broker == "embedded":
            told["broker_rebalance_timeout_seconds"] = REBALANCE_SECONDS
            told["broker_session_timeout_seconds"] = SESSION_SECONDS
            told["collector_closed_file"] = settings.data_dir / "collector-closed"
        if settings.clickhouse == "embedded":
            self._store = Child.of("store", settings)
            told |= _defaults("clickhouse_user", "clickhouse_password_file", "clickhouse_ca_file")
            told["clickhouse"] = settings.store_address().url
        self._told = settings.model_copy(update=told)
        if settings.broker == "embedded":
            self._broker = TrialBroker(self._told)
        self._worker = Child.of("worker", self._told)
        self._web = Child.of("web", self._told)
        self._traffic: list[Child] = []
        if demo_rate is not None:
            words = ["--rate", str(demo_rate), "--backfill", DEMO_BACKFILL]
            self._past = settings.data_dir / "demo-backfilled"
            self._past.unlink(missing_ok=True)  # that of an earlier start
            words += ["--backfilled-file", str(self._past)]
            self._traffic.append(Child.of("simulate", self._told, *words, tells=True))

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Until `stop` is set, or something is wrong that a start does not cure."""
        children = [child for child in (self._store, self._web, self._worker) if child is not None]
        children += self._traffic
        tasks: list[asyncio.Task[object]] = []
        keeping: asyncio.Task[object] | None = None
        try:
            command = await kafka_command() if self._settings.broker == "kafka" else None
            if self._broker is not None:
                await self._broker.start()
            tasks += [asyncio.create_task(child.keep_running()) for child in children]
            if self._broker is not None:
                keeping = asyncio.create_task(self._broker.keep(self._worker, self._traffic))
                tasks.append(keeping)
            if command is not None:
                tasks.append(asyncio.create_task(self._keep_kafka(command)))
            tasks.append(asyncio.create_task(self._begin(ready)))
            await _until_set(stop, tasks)
            if keeping is not None:  # wherever it is: nothing is replaced any more
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._stop()

    async def _begin(self, ready: Callable[[str], None]) -> None:
        """Migrate, and say so when events posted now will be counted."""
        from pipeline.migrate import migrate

        if applied := await migrate(self._told.store_address()):
            log.info("applied migrations %s", ", ".join(migration.label for migration in applied))
        settings, host = self._settings, _reachable(self._settings.host)
        await _answers_200(host, settings.metrics_port, "/readyz")
        await _answers_200(host, settings.port, "/readyz")
        self._is_ready = True
        if self._traffic:
            await self._past_counted()
        ready(f"http://[{host}]:{settings.port}/" if ":" in host else f"http://{host}:{settings.port}/")

    async def _past_counted(self) -> None:
        """Return when readers see all of the demo's past; say now and then how much of it is counted."""
        from clickhouse.analytics import Freshness, freshness
        from clickhouse.client import StoreError, connect
        from pipeline.simulate import backfilled

        log.info("the page will be ready once the last %s are counted", DEMO_BACKFILL_WORDS)
        said, next_word = "", time.monotonic()
        while True:
            await asyncio.sleep(PAST_LOOK_SECONDS)
            if (published := backfilled(self._past)) is None:
                continue
            events, published_ms = published
            with suppress(StoreError):  # whatever is wrong with it, worker and web say
                async with connect(self._told.store_address()) as store:
                    fresh = Freshness.of_all(list((await freshness(store)).values()))
                if (fresh.data_as_of_ms or 0) > published_ms:
                    return
                counted = max(events - fresh.consumer_lag_records, 0)
                word = f"counting the last {DEMO_BACKFILL_WORDS}: {counted:,} of {events:,}"
                if word != said and time.monotonic() > next_word:
                    log.info("%s", word)
                    said, next_word = word, time.monotonic() + PAST_PROGRESS_SECONDS

    async def _keep_kafka(self, command: list[str]) -> None:
        log.info("starting Apache Kafka, which takes some seconds; until then the others find no broker")
        self._kafka = await kafka(self._settings, command)
        await self._kafka.keep_running()

    # --- stopping, in the direction of the flow

    async def _drain(self) -> None:
        """Take in nothing more, and let the worker finish what was taken in."""
        await self._stop_traffic()
        await self._web.stop(seconds=WEB_STOP_SECONDS)
        if self._broker is None:
            return  # a broker that stays keeps what is left
        log.info("bringing what was accepted into the store")
        left: int | None = None
        await self._broker.hold(self._worker)
        try:
            # Before it was ready hardly anything was accepted, and topics or tables may not even be there.
            async with asyncio.timeout(DRAIN_SECONDS if self._is_ready else UNREADY_DRAIN_SECONDS):
                while left != 0:
                    left = await self._broker.undurable()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            log.error(
                "%s accepted events did not get into the store in time, and are lost with the packaged broker",
                "perhaps some" if left is None else left,
            )

    async def _stop_traffic(self) -> None:
        for child in self._traffic:
            await child.stop(seconds=TRAFFIC_STOP_SECONDS)

    async def _stop(self) -> None:
        await self._stop_traffic()
        await self._web.stop(seconds=WEB_STOP_SECONDS)
        await self._worker.stop(seconds=WORKER_STOP_SECONDS)
        last: list[Awaitable[None]] = []
        if self._broker is not None:
            last.append(self._broker.stop())
        last += [
            child.stop(seconds=LAST_STOP_SECONDS) for child in (self._kafka, self._store) if child is not None
        ]
        await asyncio.gather(*last)


async def _until_set(stop: asyncio.Event, tasks: Sequence[asyncio.Task[object]]) -> None:
    """Return when `stop` is set; raise what any of the tasks raises before."""
    stopped = asyncio.create_task(stop.wait())
    pending: set[asyncio.Task[object]] = {stopped, *tasks}
    try:
        while not stopped.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        stopped.cancel()


async def _answers_200(host: str, port: int, path: str) -> None:
    """Return when it has answered 200 once; ask until then."""
    question = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
    while True:
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(question)
                    if b" 200 " in await reader.readline():
                        return
                finally:
                    writer.close()
        await asyncio.sleep(0.05)


# --- what has to be ours before anything starts -------------------------------------------------------------


@contextmanager
def _data_dir_locked(data_dir: Path) -> Iterator[None]:
    """Hold the data directory against every other `up`, and see that no `store` holds it."""
    ours = lock(data_dir, "up.lock")
    try:
        os.close(lock(data_dir, "store.lock", seconds=LET_GO_SECONDS))  # our own store takes it next
        yield
    finally:
        os.close(ours)


def _with_ports(settings: Settings) -> Settings:
    """The settings with a free port wherever any will do. Raises Misconfigured for a host that is not ours."""
    chosen = {}
    with ExitStack() as held:  # until both are chosen, or they might be the same
        for name in ("port", "metrics_port"):
            if getattr(settings, name) == 0:
                try:
                    free = held.enter_context(_listener(settings.host, 0))
                except OSError as error:
                    reason = f"{flag('host')}: {settings.host} cannot be listened on: {error.strerror}"
                    raise Misconfigured(reason) from error
                chosen[name] = free.getsockname()[1]
    return settings.model_copy(update=chosen)


async def _check_ports(settings: Settings) -> None:
    """Raises Misconfigured naming every port that is taken, and the setting that moves it."""
    wanted = [("port", settings.host), ("metrics_port", settings.host)]
    wanted += [("broker_port", "127.0.0.1")] if settings.runs_broker else []
    wanted += [("store_port", "127.0.0.1")] if settings.clickhouse == "embedded" else []
    deadline = time.monotonic() + LET_GO_SECONDS
    while problems := [
        f"{flag(name)}: port {getattr(settings, name)} of {host} {problem}"
        for name, host in wanted
        if (problem := _port_problem(host, getattr(settings, name)))
    ]:
        if time.monotonic() > deadline:
            raise Misconfigured("\n".join(problems))
        await asyncio.sleep(0.1)


def _port_problem(host: str, port: int) -> str | None:
    try:
        _listener(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "is taken: stop what listens there, or choose another"
        return f"cannot be listened on: {error.strerror}"
    return None


def _listener(host: str, port: int) -> socket.socket:
    """Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family)


def _reachable(host: str) -> str:
    """The address under which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - nothing listens here


def _defaults(*names: str) -> dict[str, object]:
    return {name: Settings.model_fields[name].default for name in names}
