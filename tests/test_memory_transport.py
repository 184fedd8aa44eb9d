"""The broker in memory: nobody looks for messages before there is one to be found, and nobody is held up at the end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

import pytest
from kombu import Consumer, Producer, Queue
from kombu.transport.virtual import base

from app.runtime import Runtime
from cli.embedded import PromptTimer, embedded_stack
from durable_sagas.messaging.transports import memory
from durable_sagas.messaging.transports.memory import NOTIFIER, Channel
from tests.testkit.servers import connection_to

PATIENCE_SECONDS = 30


class Watched:
    """What the consumers of this process do: how often they looked into a queue, and when they began to wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks = 0
        self.waits = threading.Semaphore(0)
        self.slept: list[float] = []
        get, wait = Channel._get, NOTIFIER.wait

        def look(channel: Channel, queue: str, timeout: float | None = None) -> Any:
            self.looks += 1
            return get(channel, queue, timeout)

        def begin_to_wait(rung: int, seconds: float | None) -> bool:
            self.waits.release()
            return wait(rung, seconds)

        monkeypatch.setattr(Channel, "_get", look)
        monkeypatch.setattr(NOTIFIER, "wait", begin_to_wait)
        monkeypatch.setattr(base, "sleep", self.slept.append)

    def until_somebody_waits(self) -> None:
        assert self.waits.acquire(timeout=PATIENCE_SECONDS)


class Draining:
    """A thread that consumes one queue until it is told that its connection is closed."""

    def __init__(self, queue: str, limit: int = 0) -> None:
        self._came: SimpleQueue[Any] = SimpleQueue()
        self._connection = connection_to("memory://")
        channel: Any = self._connection.default_channel
        channel.basic_qos(0, limit, False)
        take = [lambda _, message: self._came.put(message)]
        self._consumer = Consumer(channel, [Queue(queue)], callbacks=take, accept=["json"])
        self._consumer.consume()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(TimeoutError):
            while True:
                self._connection.drain_events()

    def next(self, says: str) -> Any:
        """Wait for the next message, which must say this."""
        message = self._came.get(timeout=PATIENCE_SECONDS)
        assert message.payload["says"] == says
        return message

    def is_idle(self) -> bool:
        return self._came.empty()

    def close(self) -> None:
        self._connection.close()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


Drain = Callable[..., Draining]


@pytest.fixture
def drain() -> Iterator[Drain]:
    """Begin to consume a queue."""
    begun: list[Draining] = []

    def begin(queue: str, limit: int = 0) -> Draining:
        begun.append(Draining(queue, limit))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


@pytest.fixture
def queue() -> str:
    return f"queue-{uuid4().hex[:8]}"


Put = Callable[[str], object]


@pytest.fixture
def put(queue: str) -> Iterator[Put]:
    """Send a message on a connection that stays open: to close it wakes the consumers too."""
    with connection_to("memory://") as connection:
        producer = Producer(connection)
        yield lambda says: producer.publish({"says": says}, routing_key=queue, declare=[Queue(queue)])


def test_a_message_wakes_who_waits_and_nobody_looks_before(
    watched: Watched, drain: Drain, queue: str, put: Put
) -> None:
    consumer = drain(queue)
    watched.until_somebody_waits()
    assert watched.looks == 1  # it was empty

    for body in ("first", "second"):
        put(body)
        consumer.next(body)
        watched.until_somebody_waits()

    # each message is found at the first look, and what follows is one look that finds nothing more
    assert watched.looks == 5
    assert watched.slept == []


def test_a_message_between_look_and_wait_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, drain: Drain, queue: str, put: Put
) -> None:
    get = Channel._get
    late = iter(["late"])

    def look_and_then_put(channel: Channel, name: str, timeout: float | None = None) -> Any:
        try:
            return get(channel, name, timeout)
        except Empty:
            for body in late:
                put(body)
            raise

    monkeypatch.setattr(Channel, "_get", look_and_then_put)
    drain(queue).next("late")


@pytest.mark.parametrize("done", ["ack", "reject"])
def test_who_has_all_it_may_take_is_woken_when_one_is_done(
    watched: Watched, drain: Drain, queue: str, put: Put, done: str
) -> None:
    consumer = drain(queue, limit=1)
    watched.until_somebody_waits()
    for body in ("first", "second"):
        put(body)
        watched.until_somebody_waits()
    first = consumer.next("first")
    assert consumer.is_idle()

    getattr(first, done)()

    consumer.next("second")


def test_a_message_given_back_comes_again(watched: Watched, drain: Drain, queue: str, put: Put) -> None:
    consumer = drain(queue, limit=1)
    put("once")

    consumer.next("once").requeue()

    assert consumer.next("once").properties["delivery_info"]["routing_key"] == queue


def test_a_wait_ends_in_time_without_a_message(queue: str) -> None:
    with connection_to("memory://") as connection, Consumer(connection, [Queue(queue)]), pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.01)


def test_an_idle_stack_waits_and_ends_without_being_waited_for(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    # nothing but being woken ends any of these waits before the test gives up
    monkeypatch.setattr(memory, "monotonic", lambda: 0.0)
    wait = NOTIFIER.wait
    monkeypatch.setattr(NOTIFIER, "wait", lambda rung, _seconds: wait(rung, None))
    ended = threading.Event()

    def run() -> None:
        with embedded_stack(here):
            watched.until_somebody_waits()
        ended.set()

    threading.Thread(target=run, daemon=True).start()

    assert ended.wait(PATIENCE_SECONDS)
    assert not {"worker", "scheduler"} & {thread.name for thread in threading.enumerate()}
    assert watched.slept == []


def test_the_timer_calls_what_is_due_first_however_late_it_was_entered() -> None:
    called: list[str] = []
    both = threading.Event()
    timer = PromptTimer(max_interval=1000)
    try:
        timer.call_after(1000, called.append, ("never",))
        timer.call_after(0.01, called.append, ("soon",))
        timer.call_after(0.02, both.set)
        assert both.wait(PATIENCE_SECONDS)
        assert called == ["soon"]
    finally:
        timer.stop()
    assert not timer.is_alive()
