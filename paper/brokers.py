"""Real servers of message queues for tests and benchmarks, on loopback addresses and free ports."""

from __future__ import annotations

import contextlib
import glob
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from paper.measure import ROOT, MissingData

HOW = "install it with `apt-get install rabbitmq-server`; it need not be started"


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def rabbit_script() -> str:
    """RabbitMQ's own script; Debian's command of that name wants root and another user.

    Raises:
        MissingData: it is not installed.
    """
    found = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
    script = found[-1] if found else shutil.which("rabbitmq-server")
    if script is None:
        raise MissingData(f"RabbitMQ is not installed; {HOW}")
    return script


class RabbitMQ:
    """A server in a folder of its own, whose messages outlive being killed."""

    def __init__(self, folder: Path, config: str = ""):
        """Starts the server; `config` is appended to its own, TLS_PORT replaced by a free port."""
        self._folder, self._script = folder, rabbit_script()
        self.port, distribution, self._epmd, self.tls_port = free_ports(4)
        config = config.replace("TLS_PORT", str(self.tls_port))
        (folder / "rabbitmq.conf").write_text(f"loopback_users = none\n{config}")
        (folder / "plugins").write_text("[].")
        self._environment = os.environ | {
            "HOME": str(folder), "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd), "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"), "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
        }  # fmt: skip
        self._process: subprocess.Popen | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is, with its usual user."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                [self._script], env=self._environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 300
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError):
                with socket.create_connection(("127.0.0.1", self.port), 1) as link:
                    # It answers a wrong greeting with its own.
                    link.sendall(b"GET /\r\n\r\n")
                    if link.recv(4) == b"AMQP":
                        return
            time.sleep(0.1)
        self.close()
        raise RuntimeError((self._folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        """As kill -9 does it."""
        assert self._process is not None, "it was started"
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Ends the server and whatever it started."""
        self.kill()
        # The port mapper is a process of its own, which stays.
        epmd, until = shutil.which("epmd"), time.monotonic() + 10
        # It refuses as long as it believes that the server lives.
        while epmd and time.monotonic() < until:
            ran = subprocess.run([epmd, "-kill"], env=self._environment, capture_output=True)
            if b"Killed" in ran.stdout:
                return
            time.sleep(0.1)


@contextlib.contextmanager
def mock_kafka() -> Iterator[str]:
    """The URL of librdkafka's mock cluster in a process of its own.

    It speaks Kafka's protocol, but is no broker: it keeps about 5 MB of a topic, in memory.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "paper.brokers"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None, "it was asked for"
    try:
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready, "the mock cluster does not start"
        yield f"kafka://{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    from confluent_kafka import Producer

    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    broker = next(iter(cluster.list_topics(timeout=30).brokers.values()))
    print(f"{broker.host}:{broker.port}", flush=True)
    while True:
        cluster.poll(1)
