"""One worker: the Faust app with its agents, the sealer, progress, the watchdog, and the metrics port."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TypeVar

from aiohttp import web
from aiokafka.errors import KafkaError
from faust.types import TP
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from clickhouse import ledger
from clickhouse.client import Store, StoreError, connect
from pipeline import metrics
from pipeline.app import App, configure
from pipeline.browser import warm_up
from pipeline.config import Settings
from pipeline.errors import Misconfigured, RestartNeeded, Unavailable
from pipeline.geography import Geography
from pipeline.progress import Progress, Watchdog
from pipeline.seal import seal
from pipeline.topics import broker_answers, ensure_topics, worker_client_id
from schemas.topics import Topic

log = logging.getLogger(__name__)

T = TypeVar("T")

WATCHDOG_SECONDS = 60.0
"""Lag, a store and a broker that answer, and nothing written for this long: something in this process hangs."""
FLUSH_GRACE_SECONDS = 8.0
"""How long a stop waits for flushes on their way."""
STOP_SECONDS = 12.0
"""How long a stop waits for Faust to leave the consumer group."""
WAITING_SECONDS = 0.05
OBSERVE_SECONDS = 10.0
"""How long a look at broker or store may take before it counts as no answer."""
SEAL_SECONDS = 300.0
"""How long a pass of the sealer may take."""
CLOCK_SYNC_SECONDS = 30.0
MAX_SYNC_SECONDS = 1.0
LEDGER_CHECK_SECONDS = 5.0
FIRST_RETRY_SECONDS = 0.1
RETRY_SECONDS = 1.0


class StoreClock:
    """The store's clock as this process knows it: workers whose own clocks differ agree on what is open."""

    def __init__(self) -> None:
        self._store_ms = time.time() * 1000
        self._read_at = time.monotonic()
        self._is_synced = False

    def now_ms(self) -> float:
        """Milliseconds since the epoch."""
        return self._store_ms + (time.monotonic() - self._read_at) * 1000

    async def sync(self, store: Store) -> None:
        """Read it again; an answer that took long says too little. Raises StoreError."""
        asked_at = time.monotonic()
        store_ms = await ledger.now_ms(store)
        answered_at = time.monotonic()
        if self._is_synced and answered_at - asked_at > MAX_SYNC_SECONDS:
            return
        # As if the store had read its clock when the answer came: behind it rather than ahead, since what is said to
        # be visible through now must be.
        self._store_ms, self._read_at, self._is_synced = store_ms, answered_at, True


class Health:
    """What /readyz says."""

    def __init__(self) -> None:
        self.waiting_for: dict[str, str] = {"start": "still starting", "partitions": "not assigned yet"}
        """What is needed and not there, with the reason; ready when empty."""

    def note(self, part: str, problem: str | None) -> None:
        """Say what is wrong with a part, or that it is fine."""
        if problem is None:
            self.waiting_for.pop(part, None)
        else:
            self.waiting_for[part] = problem


async def run_worker(settings: Settings, *, stop: asyncio.Event) -> None:
    """Consume until `stop` is set. Starts, waits and goes on whichever side is away.

    Raises RestartNeeded when a new process has to take over, Misconfigured when none could.
    """
    health, clock = Health(), StoreClock()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_serve_health(settings, health))
        run = asyncio.create_task(_run(settings, health, clock, stop), name="worker")
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({run, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not run.done():
            await asyncio.wait({run}, timeout=FLUSH_GRACE_SECONDS + STOP_SECONDS)
            run.cancel()
        stopped.cancel()
        try:
            await run
        except asyncio.CancelledError:
            if "start" in health.waiting_for:
                log.info("stopped before it had started")
            else:
                log.warning("stopped before everything on its way was finished; it will be consumed again")


async def _run(settings: Settings, health: Health, clock: StoreClock, stop: asyncio.Event) -> None:
    connection = settings.broker_connection()
    await _until(stop, health, "broker", lambda: broker_answers(connection, patience=timedelta(seconds=5)))
    await _until(stop, health, "broker", lambda: ensure_topics(connection, prefix=settings.topic_prefix))
    async with AsyncExitStack() as stack:
        store = await _until(
            stop, health, "store", lambda: stack.enter_async_context(connect(settings.store_address()))
        )
        await _until(stop, health, "store", lambda: clock.sync(store))
        if stop.is_set():
            return
        geography = Geography(settings.geoip_database)
        worker = worker_client_id(os.getpid())
        app = App(settings, store=store, geography=geography, worker=worker, now_ms=clock.now_ms)
        configure(app)
        for topic in Topic:
            importlib.import_module(f"agents.{topic}")
        app.finalize()
        await app.start()
        try:
            # Meanwhile the broker lets us wait for our partitions.
            await asyncio.to_thread(warm_up)
            # The cyclic collector is the largest removable cost of a batch worker; what start-up made stays for ever.
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 50, 100)
            health.note("start", None)
            await _watch(app, settings, store, health, clock, stop, geography)
        finally:
            await _finish(app)


async def _watch(
    app: App,
    settings: Settings,
    store: Store,
    health: Health,
    clock: StoreClock,
    stop: asyncio.Event,
    geography: Geography,
) -> None:
    """Run the periodic work until told to stop, or until something is wrong."""
    watcher = Watcher(app, store, health, clock)
    tasks = [
        asyncio.create_task(watcher.follow(), name="progress"),
        asyncio.create_task(_every(LEDGER_CHECK_SECONDS, watcher.check_ledger), name="ledger"),
        asyncio.create_task(_every(CLOCK_SYNC_SECONDS, watcher.sync_clock), name="clock"),
        *(
            asyncio.create_task(
                _every(settings.seal_interval_seconds, watcher.sealer(topic)), name=f"seal {topic}"
            )
            for topic in Topic
        ),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    metrics.GEO_BUILD_TIME.set_function(lambda: geography.build_seconds)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _finish(app: App) -> None:
    """Let flushes on their way finish, commit, leave the group; each with a limit."""
    app.batch_consumer.stop_flow()
    try:
        async with asyncio.timeout(FLUSH_GRACE_SECONDS):
            await asyncio.gather(*(flow.idle() for flow in app.flows.values()))
            await app.batch_consumer.force_commit()
    except TimeoutError:
        log.warning("a flush did not finish in time; its records will be consumed again")
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await app.stop()
    except TimeoutError:
        log.warning("Faust did not stop in time")


class Watcher:
    """The periodic work of a worker, a method each."""

    def __init__(self, app: App, store: Store, health: Health, clock: StoreClock) -> None:
        self._app = app
        self._store = store
        self._health = health
        self._clock = clock
        self._progress = Progress()
        self._watchdog = Watchdog(patience_seconds=WATCHDOG_SECONDS)
        self._store_problem: str | None = None
        """Why the store did not answer the last look at it."""

    async def follow(self) -> None:
        """Observe for ever: every second, and while partitions are waited for more often, which asks nobody."""
        while True:
            await self.observe()
            await asyncio.sleep(1.0 if self._app.batch_consumer.is_resumed else WAITING_SECONDS)

    async def observe(self) -> None:
        """Ask the broker where its logs end; tell readers, metrics and /readyz; notice when nothing moves."""
        app = self._app
        if isinstance(app.failure, RestartNeeded):
            raise app.failure
        if app.failure is not None:
            raise RestartNeeded(f"an agent ended: {app.failure!r}") from app.failure
        if app.crashed:
            raise RestartNeeded("Faust ended")
        is_resumed = app.batch_consumer.is_resumed
        self._health.note("partitions", None if is_resumed else "not assigned yet")
        problems = [flow.sink.insist.problem for flow in app.flows.values()]
        self._health.note("store", next((problem for problem in problems if problem), self._store_problem))
        self._health.note("broker", app.insist.problem)
        for flow in app.flows.values():
            metrics.ASSIGNED_PARTITIONS.labels(topic=flow.topic).set(
                len(flow.partitions) if is_resumed else 0
            )
        if is_resumed:
            await self._observe_progress()
        self._watch_for_standstill(is_resumed)

    async def _observe_progress(self) -> None:
        app = self._app
        asked_ms = int(self._clock.now_ms())
        try:
            async with asyncio.timeout(OBSERVE_SECONDS):
                ends = await app.batch_consumer.end_offsets()
                # After it, so that these are known to be the ends of what was resumed.
                made_anew = await app.batch_consumer.made_anew({flow.source for flow in app.flows.values()})
        except (KafkaError, TimeoutError, Unavailable) as error:
            self._health.note("broker", f"{error!r}")
            return
        if made_anew:
            raise RestartNeeded(f"made anew, so offsets begin again: {', '.join(made_anew)}")
        self._health.note("broker", app.insist.problem)
        by_topic = {flow.topic.value: flow for flow in app.flows.values()}
        topics = {flow.source: flow.topic.value for flow in app.flows.values()}
        durable = {
            TP(flow.source, partition): max(state.position, state.beginning)
            for flow in app.flows.values()
            for partition, state in flow.partitions.items()
        }
        positions = {
            (topics[tp.topic], tp.partition): position
            for tp, position in app.batch_consumer.reached(durable).items()
        }
        if positions.keys() != self._progress.partitions.keys():
            epochs = [flow.epoch for flow in app.flows.values()]
            known = await self._try_store(ledger.read_progress(self._store, epochs=epochs))
            if known is None:
                return
            self._progress.hold(positions, known)
        self._progress.observe(
            asked_ms=asked_ms,
            ends={(topics[tp.topic], tp.partition): end for tp, end in ends.items()},
            positions=positions,
        )
        partitions = self._progress.partitions.items()
        metrics.CONSUMER_LAG.clear()
        for (topic, partition), progress in partitions:
            metrics.CONSUMER_LAG.labels(topic=topic, partition=partition).set(progress.lag)
        rows = [
            (
                topic,
                by_topic[topic].epoch,
                partition,
                progress.caught_up_through_ms,
                progress.lag,
                progress.end,
            )
            for (topic, partition), progress in partitions
        ]
        if rows:
            await self._try_store(ledger.write_progress(self._store, rows))

    def _watch_for_standstill(self, is_resumed: bool) -> None:
        waiting: dict[str, float] = {}
        if "store" in self._health.waiting_for or "broker" in self._health.waiting_for:
            pass  # it is not this process that hangs
        elif not is_resumed:
            waiting["no partitions were assigned"] = 0.0
        else:
            lagging = {topic for (topic, _), progress in self._progress.partitions.items() if progress.lag}
            for flow in self._app.flows.values():
                if flow.topic in lagging:
                    waiting[f"nothing was written of {flow.source}"] = flow.last_flush
        if hanging := self._watchdog.hanging(time.monotonic(), waiting):
            raise RestartNeeded(
                f"broker and store answer, but for {WATCHDOG_SECONDS:.0f} s {' and '.join(hanging)}"
            )

    async def check_ledger(self) -> None:
        """Notice a store that was restored to an older state, or a ledger that was put back, while nothing comes in."""
        app = self._app
        if not app.batch_consumer.is_resumed:
            return
        for flow in app.flows.values():
            if reason := await self._try_store(flow.is_behind()):
                raise RestartNeeded(reason)

    async def sync_clock(self) -> None:
        """Follow the store's clock."""
        await self._try_store(self._clock.sync(self._store))

    def sealer(self, topic: Topic) -> Callable[[], Awaitable[None]]:
        """The sealer's pass over one topic, if this worker is the one to run it."""
        flow, gauge = self._app.flows[topic], metrics.SEAL_LAG.labels(topic=topic)
        last_pass: float | None = None
        gauge.set_function(lambda: 0.0 if last_pass is None else time.monotonic() - last_pass)

        async def run() -> None:
            nonlocal last_pass
            if not self._app.batch_consumer.is_resumed or 0 not in flow.partitions:
                last_pass = None
                return
            began = time.monotonic()
            last_pass = last_pass or began
            partitions = self._app.batch_consumer.topic_partitions(flow.source) or 1
            if await self._try_store(seal(self._store, topic, partitions=partitions), seconds=SEAL_SECONDS):
                last_pass = began

        return run

    async def _try_store(self, work: Awaitable[T], *, seconds: float = OBSERVE_SECONDS) -> T | None:
        """What the store answered; None if it did not do it in time. The next turn comes soon."""
        try:
            async with asyncio.timeout(seconds):
                answer = await work
        except (StoreError, TimeoutError) as error:
            metrics.STORE_ERRORS.labels(code=getattr(error, "label", "0")).inc()
            self._store_problem = str(error) or f"no answer for {seconds:.0f} s"
            log.warning("the store does not do as asked, trying again: %s", self._store_problem)
            return None
        self._store_problem = None
        return answer


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do it, pause, and again, until it raises."""
    while True:
        await work()
        await asyncio.sleep(seconds)


async def _until(stop: asyncio.Event, health: Health, part: str, work: Callable[[], Awaitable[T]]) -> T:
    """The work's result, however often it takes; says what it waits for. Raises CancelledError on stop."""
    pause = FIRST_RETRY_SECONDS
    while True:
        try:
            result = await work()
        except (Unavailable, StoreError) as error:
            if part not in health.waiting_for:
                log.warning("waiting for the %s: %s", part, error)
            health.note(part, str(error))
        else:
            if part in health.waiting_for:
                log.info("the %s answers", part)
            health.note(part, None)
            return result
        try:
            async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):  # noqa: S311 - spreads retries, guards nothing
                await stop.wait()
        except TimeoutError:
            pause = min(2 * pause, RETRY_SECONDS)
            continue
        raise asyncio.CancelledError


@asynccontextmanager
async def _serve_health(settings: Settings, health: Health) -> AsyncIterator[None]:
    """/livez, /readyz and /metrics. Raises Misconfigured when the port is taken."""

    async def livez(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        waiting: Mapping[str, str] = health.waiting_for
        body = {"status": "waiting" if waiting else "ready", "waiting_for": waiting}
        return web.json_response(body, status=503 if waiting else 200)

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    routes = web.Application()
    routes.add_routes(
        [web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", show_metrics)]
    )
    runner = web.AppRunner(routes, access_log=None)
    await runner.setup()
    try:
        try:
            site = web.TCPSite(runner, settings.host, settings.metrics_port)
            await site.start()
        except OSError as error:
            raise Misconfigured(
                f"cannot listen on {settings.host}:{settings.metrics_port} for /livez, /readyz and /metrics "
                f"({error.strerror}). Choose another port with --metrics-port, or 0 for any free one."
            ) from error
        for address in runner.addresses:
            log.info("the worker's /livez, /readyz and /metrics are on http://%s:%d", *address[:2])
        yield
    finally:
        await runner.cleanup()
