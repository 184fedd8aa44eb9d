"""What a worker does with messages as they come: at once, or in a batch. Time moves when a test says."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from app.celery import app as celery
from app.observability import tracing
from app.sagas import sagas
from durable_sagas.messaging import batcher, batching, strategy
from durable_sagas.messaging.batcher import BUSY_SECONDS, MAX_BATCH, QUIET_SECONDS, Batcher
from durable_sagas.messaging.batching import BatchedMessage, Results
from tests.engine.wire import Wire

STEP, OTHER, UNKNOWN = "orders.step", "orders.other", "orders.not_registered"


class Worker:
    """A worker whose loop turns when a test says, and whose tasks take as long as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.seconds_per_task = 0.0
        self.executed: list[str] = []
        """The messages that were executed, in order."""
        self.results: list[Any] = []
        """What each of them found executed in its batch."""
        self.batches: list[list[str]] = []
        self.log: list[str] = []
        """When acknowledgements were held and sent."""
        self.broken = False
        """Whether every batch fails."""
        self._timers: list[Entry] = []
        self._batcher = Batcher(cast(Callable[[Request], object], self._run), cast(Hub, self), self._ack_together)

    def monotonic(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Entry:
        """Stand in for the hub."""
        assert seconds == QUIET_SECONDS
        self._timers.append(Entry(callback))
        return self._timers[-1]

    @property
    def idle(self) -> bool:
        """Whether the worker will sleep until a message comes."""
        return all(timer.canceled for timer in self._timers)

    def receive(self, *ids: str, task: str = STEP, retries: int = 0) -> None:
        for one in ids:
            request = SimpleNamespace(id=one, name=task, kwargs={"saga_id": one}, request_dict={"retries": retries})
            self._batcher.add(cast(Request, request), sagas.engine)

    def turn(self, times: int = 1) -> None:
        """Run one turn of the event loop with nothing left to read."""
        for _ in range(times):
            (timer,) = (timer for timer in self._timers if not timer.canceled)
            self._timers.clear()
            self.now += QUIET_SECONDS
            timer()

    def execute(self, batch: Sequence[BatchedMessage]) -> Results:
        self.batches.append([one.task_id for one in batch])
        assert [one.arguments for one in batch] == [{"saga_id": one.task_id} for one in batch]
        if self.broken:
            raise RuntimeError("one of them is broken")
        return {one.task_id: f"{one.task_id} is done" for one in batch}

    @contextmanager
    def _ack_together(self) -> Iterator[None]:
        self.log.append("acks are held")
        yield
        self.log.append("acks leave")

    def _run(self, request: Request) -> None:
        self.executed.append(request.id)
        self.results.append(sagas.engine.batches.results.pop(request.id, None))
        self.now += self.seconds_per_task


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr(batcher, "time", worker)
    monkeypatch.setattr(batching, "time", worker)
    monkeypatch.setattr(sagas.engine.batches, "_handlers", {STEP: worker.execute, OTHER: worker.execute})
    monkeypatch.setattr(sagas.engine.batches, "_cooldown_until", {})
    monkeypatch.setattr(tracing, "provider", lambda: None)
    return worker


@pytest.fixture
def busy(worker: Worker) -> Worker:
    """A worker that has just executed a message, with the loop about to look for more."""
    worker.receive("first")
    worker.executed.clear()
    worker.results.clear()
    return worker


def test_a_message_that_finds_the_worker_idle_is_executed_at_once_and_alone(worker: Worker) -> None:
    worker.receive("a")

    assert (worker.executed, worker.results, worker.batches) == (["a"], [None], [])
    assert worker.idle


def test_messages_that_come_while_it_is_busy_are_executed_together_when_nothing_more_comes(busy: Worker) -> None:
    busy.receive("a", "b", "c")
    busy.turn()
    assert busy.executed == []  # they had only just come
    busy.turn()

    assert busy.batches == [["a", "b", "c"]]
    assert busy.executed == ["a", "b", "c"]
    assert busy.results == ["a is done", "b is done", "c is done"]
    assert busy.idle


def test_as_long_as_more_come_it_waits(busy: Worker) -> None:
    for one in "abcd":
        busy.receive(one)
        busy.turn()
        assert busy.executed == []

    busy.turn()

    assert busy.batches == [["a", "b", "c", "d"]]


def test_however_long_reading_takes_they_wait_until_the_loop_has_turned(busy: Worker) -> None:
    busy.receive("a")
    busy.now += 2 * BUSY_SECONDS
    busy.receive("b")
    assert busy.executed == []

    busy.turn(2)
    assert busy.batches == [["a", "b"]]


def test_a_full_batch_is_executed_at_once(busy: Worker) -> None:
    ids = [str(number) for number in range(MAX_BATCH + 1)]

    busy.receive(*ids)

    assert busy.batches == [ids[:MAX_BATCH]]
    assert busy.executed == ids[:MAX_BATCH]
    busy.turn(2)
    assert busy.executed == ids  # the last one, alone
    assert len(busy.batches) == 1


def test_tasks_take_turns_and_the_longest_waiting_is_first(busy: Worker) -> None:
    busy.receive("a1")
    busy.receive("b1", task=OTHER)
    busy.receive("a2")
    busy.turn(2)
    assert busy.executed == ["a1", "a2"]

    busy.receive("a3")  # it is behind the other task's
    busy.receive("b2", task=OTHER)
    busy.turn(2)
    assert busy.executed == ["a1", "a2", "b1", "b2"]
    busy.turn()

    assert busy.executed == ["a1", "a2", "b1", "b2", "a3"]
    assert busy.batches == [["a1", "a2"], ["b1", "b2"]]


def test_retries_and_tasks_that_are_not_registered_are_executed_at_once(busy: Worker) -> None:
    busy.receive("a", "b")
    busy.receive("again", retries=1)
    busy.receive("sweep", "another", task=UNKNOWN)

    assert busy.executed == ["again", "sweep", "another"]
    busy.turn(2)
    assert busy.batches == [["a", "b"]]


def test_nothing_is_batched_while_traces_are_written(busy: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "is_enabled", lambda: True)

    busy.receive("a", "b")

    assert (busy.executed, busy.batches) == (["a", "b"], [])


def test_what_the_tasks_send_leaves_when_all_are_done_and_before_their_acknowledgements(
    busy: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def publish_batch() -> Iterator[None]:
        yield
        busy.log.append(f"what {', '.join(busy.executed)} sent leaves")

    monkeypatch.setattr(sagas.engine.publisher, "publish_batch", publish_batch)
    busy.receive("a", "b")
    busy.turn(2)

    # else one of them could be forgotten by the broker, and what follows it lost with this process
    assert busy.log == ["acks are held", "what a, b sent leaves", "acks leave"]


def test_it_is_still_busy_for_a_moment_after_a_long_task(worker: Worker) -> None:
    worker.seconds_per_task = 10.0
    worker.receive("a")  # and while that was executed, others came
    worker.receive("b", "c")
    assert worker.executed == ["a"]

    worker.turn(2)
    assert worker.batches == [["b", "c"]]

    worker.now += BUSY_SECONDS
    worker.receive("d")
    assert worker.executed == ["a", "b", "c", "d"]


def test_what_a_failed_batch_held_is_executed_alone_as_is_what_follows_for_a_while(busy: Worker) -> None:
    busy.broken = True
    busy.receive("a", "b")
    busy.turn(2)
    assert (busy.executed, busy.results) == (["a", "b"], [None, None])

    busy.now += batching.COOLDOWN_SECONDS - 0.1
    busy.receive("c", "d")
    assert busy.executed == ["a", "b", "c", "d"]
    assert busy.batches == [["a", "b"]]

    assert busy.idle
    busy.broken = False
    busy.now += 0.1
    busy.receive("e", "f", "g")
    busy.turn(2)
    assert busy.executed == ["a", "b", "c", "d", "e", "f", "g"]
    assert busy.batches == [["a", "b"], ["f", "g"]]


def test_a_message_that_is_there_twice_is_executed_twice(busy: Worker) -> None:
    busy.receive("a", "a")
    busy.turn(2)

    assert busy.executed == ["a", "a"]
    assert busy.results == ["a is done", None]  # the second looks for itself, and is acknowledged as well


@pytest.mark.parametrize(
    ("pool", "hub", "batches"),
    [(SoloPool, object(), True), (SoloPool, None, False), (PreforkPool, object(), False)],
    ids=["solo", "solo without a loop", "prefork"],
)
def test_only_a_worker_of_one_process_batches(
    monkeypatch: pytest.MonkeyPatch, pool: type[Any], hub: object, batches: bool
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(strategy, "default", lambda task, app, consumer: given.append(consumer.on_task_request))
    consumer = Consumer.__new__(Consumer)
    vars(consumer).update(pool=object.__new__(pool), hub=hub, on_task_request=print, restart_count=0)

    strategy.batching_strategy(celery.tasks["orders.create_order"], celery, consumer)

    assert (given == [print]) != batches


def test_foreign_tasks_are_not_batched() -> None:
    assert celery.tasks["celery.backend_cleanup"].Strategy == "celery.worker.strategy:default"


def test_an_engines_task_goes_to_its_services_queue_whoever_sends_it(wire: Wire) -> None:
    celery.tasks["orchestrator.sweep"].apply_async()
    celery.send_task("inventory.reserve_stock", kwargs={"saga_id": "none"})
    celery.tasks["celery.backend_cleanup"].apply_async()

    assert [message.raw["properties"]["delivery_info"]["routing_key"] for message in wire.waiting] == [
        "orchestrator",
        "inventory",
        "celery",
    ]
