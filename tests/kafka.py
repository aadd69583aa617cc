"""A real Apache Kafka for tests: one node, KRaft, on free ports of 127.0.0.1, gone when the tests are.

Its jars come from `$KAFKA_HOME/libs`, else from `.kafka/libs` in the project's root, filled by `make kafka`.
"""

from __future__ import annotations

import atexit
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.embedded.child import dies_with_parent
from pipeline.embedded.kafka import jars, java

# StorageTool refuses an id that begins with a dash, which a random one does now and then.
CLUSTER_ID = "Zm9vdGZhbGwtdGVzdHMtMQ"

_random = random.SystemRandom()  # Hypothesis seeds the other one, the same in each process


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on right now.

    It is below those that the system hands out for the near ends of connections, any of which may be taken before
    somebody listens, and another one than test processes beside this one are likely to choose.
    """
    while True:
        port = _random.randrange(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Kafka:
    """One broker, the same over `stop` or `kill` and `start`: it keeps its port and its log."""

    def __init__(
        self,
        directory: Path,
        *,
        protocol: str = "PLAINTEXT",
        properties: dict[str, str] | None = None,
        proxies: Mapping[int, int] | None = None,
    ) -> None:
        """Everything it writes goes below `directory`.

        `protocol` is what clients have to speak: SASL_SSL and its like want `properties` as well, which are
        added to, or replace, its own. `proxies` are further ports to listen on, each with the port of the proxy
        before it: clients that come through a proxy are sent back to it.
        """
        self._directory = directory
        self._java, self._jars = java(), jars()
        self._port, controller_port = free_port(), free_port()
        ours = f"{protocol}://127.0.0.1:{self._port}"
        behind = [(f"PROXY{n}", port, proxy) for n, (port, proxy) in enumerate((proxies or {}).items())]
        self._process: subprocess.Popen[bytes] | None = None
        self._properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(
                [ours, f"CONTROLLER://127.0.0.1:{controller_port}"]
                + [f"{name}://127.0.0.1:{port}" for name, port, _ in behind]
            ),
            "advertised.listeners": ",".join(
                [ours] + [f"{name}://127.0.0.1:{proxy}" for name, _, proxy in behind]
            ),
            "listener.security.protocol.map": ",".join(
                [f"{protocol}:{protocol}", "CONTROLLER:PLAINTEXT"]
                + [f"{name}:{protocol}" for name, _, _ in behind]
            ),
            "inter.broker.listener.name": protocol,
            "log.dirs": str(directory / "log"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "auto.create.topics.enable": "false",
            "delete.topic.enable": "true",
            "file.delete.delay.ms": "100",
            "log.retention.check.interval.ms": "1000",
            "log.cleaner.backoff.ms": "500",
            # After a kill the controller takes a broker's id back only when the dead one's session is over.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
        } | (properties or {})

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients; the same over a restart."""
        return f"127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "Kafka is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when it accepts connections (about 2 s, after a kill 5 s). Call it in the main thread."""
        assert not self.is_running, "Kafka is running already"
        server_properties = self._directory / "server.properties"
        if not server_properties.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            server_properties.write_text("".join(f"{k}={v}\n" for k, v in self._properties.items()))
            self._run("kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(server_properties))
        with (self._directory / "kafka.out").open("ab") as output:
            command = self._command("-Xmx768m", "kafka.Kafka", str(server_properties))
            self._process = subprocess.Popen(
                dies_with_parent(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        atexit.register(self.kill)
        self._wait_until_it_accepts()

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it again with the same port and log."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self, heap: str, *words: str) -> list[str]:
        # Compiling with C1 alone starts faster and leaves the machine's few cores to what is tested.
        return [
            self._java,
            heap,
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{self._jars}/*",
            *words,
        ]

    def _run(self, *words: str) -> None:
        done = subprocess.run(self._command("-Xmx256m", *words), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{words[0]} failed: {done.stdout}{done.stderr}"

    def _wait_until_it_accepts(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if not self.is_running:
                break
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        output = (self._directory / "kafka.out").read_text()
        self.kill()
        raise AssertionError(f"Kafka did not start: {output[-2000:]}")

    def _end(self, how: signal.Signals) -> None:
        atexit.unregister(self.kill)
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
