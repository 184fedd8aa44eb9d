"""Classic and quorum queues on one RabbitMQ node: ``python -m bench.quorum``.

Starts a broker of its own and measures, in turns: how many messages go through each type of queue; how many that the
publisher believed to be sent are gone after the broker was killed; and how long a message waits behind retries that
are not due yet, at a real Celery worker. Ends by itself, and everything that it started with it.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import click
from amqp.exceptions import AMQPError
from kombu import Connection, Producer, Queue

from bench.quorum_tasks import make
from tests.testkit.private_servers import KILL, STOP, MissingServer, PrivateRabbitmq, folder_for_servers
from tests.testkit.processes import kill_group, spawn, wait_for

PREFETCH = 8
"""What a worker with two processes fetches ahead."""

COUNTDOWN_SECONDS = 5
RETRIES = 2 * PREFETCH


@dataclass(frozen=True)
class Kind:
    """A type of queue, and whether the publisher waits for the broker's word."""

    type: str
    confirm: bool

    def __str__(self) -> str:
        return f"{self.type}, {'confirmed' if self.confirm else 'not confirmed'}"

    def queue(self) -> Queue:
        """Return a new queue."""
        return Queue(f"{self.type}-{uuid4().hex[:8]}", queue_arguments={"x-queue-type": self.type})

    def connect(self, url: str) -> Connection:
        """Return a connection that publishes so."""
        return Connection(url, transport_options={"confirm_publish": self.confirm}, connect_timeout=5)


NOW, CONFIRMED, QUORUM = Kind("classic", confirm=False), Kind("classic", confirm=True), Kind("quorum", confirm=True)
KINDS = (NOW, CONFIRMED, QUORUM)


@click.command(help=__doc__.partition("\n\n")[0])
@click.option("--messages", type=click.IntRange(100, 1_000_000), default=3000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--kills", type=click.IntRange(1, 100), default=5, show_default=True)
def main(messages: int, rounds: int, kills: int) -> None:
    """Measure and print."""
    try:
        with _broker() as broker:
            _throughput(broker.url, messages, rounds)
            for queue_type in ("classic", "quorum"):
                waited = _wait_behind_retries(broker, queue_type)
                click.echo(f"{queue_type}: behind {RETRIES} retries due in {COUNTDOWN_SECONDS} s, {waited:.1f} s")
            for kind, queue in _declare_for_good(broker).items():
                sent, lost = _kill_while_publishing(broker, kind, queue, kills)
                click.echo(f"{kind}: {kills} kills of the broker, {lost} of {sent} messages believed sent are gone")
    except MissingServer as missing:
        click.echo(missing, err=True)
        sys.exit(2)


@contextmanager
def _broker() -> Iterator[PrivateRabbitmq]:
    with folder_for_servers() as folder:
        broker = PrivateRabbitmq(folder)
        try:
            broker.start()
            yield broker
        finally:
            broker.end()


def _throughput(url: str, messages: int, rounds: int) -> None:
    took: dict[Kind, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            took[kind].append(_through(kind, url, messages))
    click.echo(f"{'':<26}{'published/s':>13}{'handled/s':>11}   median of {rounds} rounds of {messages} messages")
    for kind, times in took.items():
        published, handled = (statistics.median(messages / one[place] for one in times) for place in (0, 1))
        click.echo(f"{kind!s:<26}{published:>13.0f}{handled:>11.0f}")


def _through(kind: Kind, url: str, messages: int) -> tuple[float, float]:
    """Return the seconds to publish so many messages, and then to fetch and acknowledge each."""
    with kind.connect(url) as connection:
        queue = kind.queue()(connection.default_channel)
        queue.declare()
        began = time.monotonic()
        producer = Producer(connection.default_channel)
        for number in range(messages):
            producer.publish({"number": number}, routing_key=queue.name, delivery_mode=2)
        published = time.monotonic() - began
        left = messages

        def handle(_body: object, message: object) -> None:
            nonlocal left
            message.ack()  # type: ignore[attr-defined]  # not in the types
            left -= 1

        began = time.monotonic()
        with connection.Consumer(queue, callbacks=[handle], prefetch_count=PREFETCH):
            while left:
                connection.drain_events(timeout=30)
        handled = time.monotonic() - began
        queue.delete()
    return published, handled


def _wait_behind_retries(broker: PrivateRabbitmq, queue_type: str) -> float:
    """Return how long a message waited at a worker that holds more retries than it fetches ahead."""
    environment = {**os.environ, "BENCH_BROKER_URL": broker.url, "BENCH_QUEUE_TYPE": queue_type}
    options = ["-c", "2", "-Q", queue_type, "--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    command = [sys.executable, "-m", "celery", "-A", "bench.quorum_tasks", "worker", *options]
    worker = spawn(command, environment, broker.folder / f"{queue_type}.log")
    try:
        with tempfile.TemporaryDirectory() as name, make(queue_type, broker.url) as app:
            folder = Path(name)
            app.send_task("touch", (str(folder / "first"),))
            wait_for(f"the worker, see {broker.folder}", (folder / "first").exists)
            for number in range(RETRIES):
                app.send_task("touch", (str(folder / f"retry-{number}"),), countdown=COUNTDOWN_SECONDS)
            began = time.monotonic()
            app.send_task("touch", (str(folder / "prompt"),))
            wait_for("the message behind the retries", (folder / "prompt").exists)
            return time.monotonic() - began
    finally:
        _end(worker)


def _end(worker: "subprocess.Popen[bytes]") -> None:
    worker.terminate()
    try:
        worker.wait(20)
    except subprocess.TimeoutExpired:
        kill_group(worker)


def _declare_for_good(broker: PrivateRabbitmq) -> dict[Kind, Queue]:
    """Return a new queue of each kind; one that was declared right before a kill may be gone with its messages."""
    queues = {kind: kind.queue() for kind in KINDS}
    with Connection(broker.url) as connection:
        for queue in queues.values():
            queue(connection.default_channel).declare()
    broker.down(STOP)
    broker.start()
    return queues


def _kill_while_publishing(broker: PrivateRabbitmq, kind: Kind, queue: Queue, kills: int) -> tuple[int, int]:
    """Return how many messages were believed to be sent, and how many of them are not in the queue afterwards."""
    sent = lost = 0
    for _ in range(kills):
        believed = _publish_until_it_is_gone(broker, kind, queue.name)
        broker.start()
        with Connection(broker.url) as connection:
            kept = _take_all(connection, queue)
        sent += believed
        lost += max(0, believed - kept)
    return sent, lost


def _publish_until_it_is_gone(broker: PrivateRabbitmq, kind: Kind, queue: str) -> int:
    killer = threading.Timer(0.5, broker.down, [KILL])
    believed = 0
    with kind.connect(broker.url) as connection:
        producer = Producer(connection.default_channel)
        killer.start()
        try:
            while True:
                producer.publish({"number": believed}, routing_key=queue, delivery_mode=2, timeout=5)
                believed += 1
        except (OSError, AMQPError):
            killer.join()
    return believed


def _take_all(connection: Connection, queue: Queue) -> int:
    """Empty a queue, once it is back; returns how many messages were in it."""
    found: list[int] = []

    def back() -> bool:
        try:
            found.append(queue(connection.channel()).purge() or 0)
        except AMQPError:
            return False
        return True

    wait_for(f"the queue {queue.name} to be back", back)
    return found[-1]


if __name__ == "__main__":
    main()
