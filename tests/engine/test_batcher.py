"""What a worker does with messages as they come: at once, or with others of their task. Time moves when a test says."""

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
        self.takes = 0.0
        """How long a task takes."""
        self.handed: list[str] = []
        """The messages that were run, in order."""
        self.outcomes: list[Any] = []
        """What each of them found done."""
        self.said: list[str] = []
        """What happened, in order, to acknowledgements and to what the tasks sent."""
        self.batches: list[list[str]] = []
        self.broken = False
        """Whether nothing can be done together."""
        self._later: list[Entry] = []
        self.gathering = Batcher(cast(Callable[[Request], object], self._run), cast(Hub, self), self._ack_together)

    def monotonic(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Entry:
        """Stand in for the hub."""
        assert seconds == QUIET_SECONDS
        self._later.append(Entry(callback))
        return self._later[-1]

    @property
    def expected(self) -> list[Entry]:
        """What the hub is to call."""
        return [entry for entry in self._later if not entry.canceled]

    @property
    def quiet(self) -> bool:
        """Whether the worker will sleep until a message comes."""
        return not self.expected

    def forget(self) -> None:
        """Forget what is to be called, as Celery may when its connection breaks."""
        self._later.clear()

    def add(self, *ids: str, task: str = STEP, retries: int = 0) -> None:
        """Have messages come."""
        for one in ids:
            request = SimpleNamespace(id=one, name=task, kwargs={"saga_id": one}, request_dict={"retries": retries})
            self.gathering.add(cast(Request, request), sagas.engine)

    def look(self) -> None:
        """Have the loop turn when nothing more is to be read."""
        (entry,) = self.expected
        self._later.clear()
        self.now += QUIET_SECONDS
        entry()

    def do(self, wanted: Sequence[BatchedMessage]) -> Results:
        """Do what is wanted together."""
        self.batches.append([one.task_id for one in wanted])
        assert [one.arguments for one in wanted] == [{"saga_id": one.task_id} for one in wanted]
        if self.broken:
            raise RuntimeError("one of them is broken")
        return {one.task_id: f"{one.task_id} is done" for one in wanted}

    @contextmanager
    def _ack_together(self) -> Iterator[None]:
        self.said.append("acks are held")
        try:
            yield
        finally:
            self.said.append("acks leave")

    def _run(self, request: Request) -> None:
        self.handed.append(request.id)
        self.outcomes.append(sagas.engine.batches.results.pop(request.id, None))
        self.now += self.takes


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr(batcher, "time", worker)
    monkeypatch.setattr(batching, "time", worker)
    monkeypatch.setattr(sagas.engine.batches, "_handlers", {})
    monkeypatch.setattr(sagas.engine.batches, "_cooldown_until", {})
    monkeypatch.setattr(tracing, "provider", lambda: None)
    sagas.engine.batches.register(STEP, worker.do)
    sagas.engine.batches.register(OTHER, worker.do)
    return worker


@pytest.fixture
def busy(worker: Worker) -> Worker:
    """A worker that has just done a message, with the loop about to look for more."""
    worker.add("first")
    worker.handed.clear()
    worker.outcomes.clear()
    return worker


def test_a_message_that_finds_the_worker_idle_is_done_at_once_and_alone(worker: Worker) -> None:
    worker.add("a")

    assert worker.handed == ["a"]
    assert worker.outcomes == [None]
    assert worker.batches == []


def test_those_that_come_while_it_is_busy_are_done_together_when_nothing_more_comes(busy: Worker) -> None:
    busy.add("a", "b", "c")
    assert busy.handed == []

    busy.look()
    assert busy.handed == []  # they had only just come
    busy.look()

    assert busy.batches == [["a", "b", "c"]]
    assert busy.handed == ["a", "b", "c"]
    assert busy.outcomes == ["a is done", "b is done", "c is done"]


def test_as_long_as_more_come_it_waits(busy: Worker) -> None:
    for one in "abcd":
        busy.add(one)
        busy.look()
        assert busy.handed == []

    busy.look()

    assert busy.batches == [["a", "b", "c", "d"]]


def test_however_long_reading_takes_they_are_gathered_until_the_loop_has_looked(busy: Worker) -> None:
    busy.add("a")
    busy.now += 2 * BUSY_SECONDS
    busy.add("b")
    assert busy.handed == []

    busy.look()
    busy.look()
    assert busy.batches == [["a", "b"]]


def test_the_most_that_are_done_together_begin_at_once(busy: Worker) -> None:
    ids = [str(number) for number in range(MAX_BATCH + 1)]

    busy.add(*ids)

    assert busy.batches == [ids[:MAX_BATCH]]
    assert busy.handed == ids[:MAX_BATCH]
    busy.look()
    busy.look()
    assert busy.handed == ids  # the last one, alone
    assert len(busy.batches) == 1


def test_a_message_that_found_no_company_is_done_alone(busy: Worker) -> None:
    busy.add("a")

    busy.look()
    busy.look()

    assert busy.handed == ["a"]
    assert busy.batches == []


def test_tasks_take_turns_and_who_has_waited_longest_is_first(busy: Worker) -> None:
    busy.add("a1")
    busy.add("b1", task=OTHER)
    busy.add("a2")
    busy.look()

    busy.look()
    assert busy.handed == ["a1", "a2"]
    busy.add("a3")  # it is behind the other's
    busy.add("b2", task=OTHER)  # and this was worth waiting for
    busy.look()
    assert busy.handed == ["a1", "a2"]
    busy.look()
    assert busy.handed == ["a1", "a2", "b1", "b2"]
    busy.look()
    assert busy.handed == ["a1", "a2", "b1", "b2", "a3"]
    assert busy.batches == [["a1", "a2"], ["b1", "b2"]]


def test_a_retry_goes_straight_on(busy: Worker) -> None:
    busy.add("a", "b")
    busy.add("again", retries=1)

    assert busy.handed == ["again"]
    busy.look()
    busy.look()
    assert busy.batches == [["a", "b"]]


def test_a_task_that_is_not_registered_goes_straight_on(busy: Worker) -> None:
    busy.add("sweep", "another", task=UNKNOWN)

    assert busy.handed == ["sweep", "another"]
    assert busy.batches == []


def test_nothing_is_gathered_while_traces_are_written(busy: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "is_enabled", lambda: True)

    busy.add("a", "b")

    assert busy.handed == ["a", "b"]
    assert busy.batches == []


def test_after_the_last_it_is_quiet(worker: Worker) -> None:
    assert worker.quiet
    worker.add("alone")
    assert worker.quiet
    worker.now += BUSY_SECONDS

    worker.add("a", "b")
    worker.look()
    worker.look()
    assert worker.handed == ["alone", "a", "b"]
    assert worker.quiet


def test_what_the_tasks_send_leaves_when_all_are_done_and_before_their_acknowledgements(
    busy: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def publish_batch() -> Iterator[None]:
        yield
        busy.said.append(f"what {', '.join(busy.handed)} sent leaves")

    monkeypatch.setattr(sagas.engine.publisher, "publish_batch", publish_batch)
    busy.add("a", "b")
    busy.look()
    busy.look()

    # else one of them could be forgotten by the broker, and what follows it lost with this process
    assert busy.said == ["acks are held", "what a, b sent leaves", "acks leave"]


def test_it_is_still_busy_for_a_moment_after_a_long_task(worker: Worker) -> None:
    worker.takes = 10.0
    worker.add("a")  # and while that was done, others came
    worker.add("b", "c")
    assert worker.handed == ["a"]

    worker.look()
    worker.look()
    assert worker.batches == [["b", "c"]]

    worker.now += BUSY_SECONDS
    worker.add("d")
    assert worker.handed == ["a", "b", "c", "d"]


def test_what_could_not_be_done_together_is_done_all_the_same_and_the_next_come_alone(busy: Worker) -> None:
    busy.broken = True
    busy.add("a", "b")
    busy.look()
    busy.look()
    assert busy.handed == ["a", "b"]
    assert busy.outcomes == [None, None]

    busy.add("c", "d")
    assert busy.handed == ["a", "b", "c", "d"]
    assert busy.batches == [["a", "b"]]

    assert busy.quiet
    busy.broken = False
    busy.now += batching.COOLDOWN_SECONDS
    busy.add("e", "f", "g")
    busy.look()
    busy.look()
    assert busy.handed == ["a", "b", "c", "d", "e", "f", "g"]
    assert busy.batches == [["a", "b"], ["f", "g"]]


def test_a_message_that_is_there_twice_is_handed_on_twice(busy: Worker) -> None:
    busy.add("a", "a")
    busy.look()
    busy.look()

    assert busy.handed == ["a", "a"]
    assert busy.outcomes == ["a is done", None]  # the second looks for itself, and is acknowledged as well


@pytest.mark.parametrize(
    ("pool", "hub", "gathers"),
    [(SoloPool, object(), True), (SoloPool, None, False), (PreforkPool, object(), False)],
    ids=["solo", "solo without a loop", "prefork"],
)
def test_only_a_worker_of_one_process_gathers(
    monkeypatch: pytest.MonkeyPatch, pool: type[Any], hub: object, gathers: bool
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(strategy, "default", lambda task, app, consumer: given.append(consumer.on_task_request))
    consumer = Consumer.__new__(Consumer)
    vars(consumer).update(pool=object.__new__(pool), hub=hub, on_task_request=print, restart_count=0)

    strategy.batching_strategy(celery.tasks["orders.create_order"], celery, consumer)

    assert (given == [print]) != gathers


def test_foreign_tasks_are_not_gathered() -> None:
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
