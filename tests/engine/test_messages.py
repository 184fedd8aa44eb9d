"""The messages that the engine builds by itself are those that Celery's canvas would send."""

import base64
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import pytest
from celery import chain
from celery._state import _task_stack  # type: ignore[attr-defined]
from celery.canvas import Signature
from kombu import Producer, Queue
from kombu.exceptions import OperationalError
from kombu.transport.memory import Channel

from app.celery import app as celery
from app.sagas import sagas
from durable_sagas.ids import is_uuid, new_id
from durable_sagas.messaging.publisher import SENT_AT, Publisher, as_task, current_task_id, service_of
from durable_sagas.messaging.serialization import write
from tests.engine import trip
from tests.engine.wire import Wire
from tests.simulation.messages import Message, run
from tests.testkit import stored
from tests.testkit.messages import ERROR_CALLBACK

pytestmark = pytest.mark.usefixtures("agency")

STEPS = ("orders.book_hotel", "inventory.book_car", "shipping.book_flight")
HOTEL, CAR, FLIGHT = STEPS
REACTION = "inventory.reserve_on_order_created"
TRIES = 3
"""How often the broker is asked to take a message at most: see ``task_publish_retry_policy``."""


def signature(task_name: str, saga_id: str, **arguments: str) -> Signature:
    arguments = {"saga_id": saga_id, **arguments}
    return celery.signature(task_name, kwargs=arguments, immutable=True, queue=service_of(task_name))


def content(message: Message) -> dict[str, Any]:
    """Return all of a message but what is meant to differ from one to the next, or from Celery's.

    These differ: the ids of tasks, which are only to be ids, each another; when it was sent, and the broker's number
    for it; whom to reply to, for nobody waits for a reply; an empty rest of a chain, which is written in two ways.
    """
    raw = json.loads(json.dumps(message.raw))
    args, kwargs, embedded = json.loads(base64.b64decode(raw.pop("body")))
    embedded["chain"] = embedded["chain"] or None
    headers, properties = raw["headers"], raw["properties"]
    links = embedded["chain"] or []
    for link in links:
        link["options"].pop("reply_to", None)
    properties.pop("reply_to")
    properties.pop("delivery_tag")
    assert isinstance(headers.pop("sent_at"), float)
    headers.pop(SENT_AT, None)  # ours only: what Celery sends by itself has no position in a queue
    ids = [headers.pop("id"), *(link["options"].pop("task_id") for link in links)]
    assert all(is_uuid(one) for one in ids)
    assert len(set(ids)) == len(ids)
    assert properties.pop("correlation_id") == ids[0]
    return {**raw, "body": [args, kwargs, embedded]}


def assert_alike(wire: Wire) -> None:
    """See that of two messages that wait, ours and Celery's, one is as good as the other."""
    ours, theirs = wire.waiting
    assert content(ours) == content(theirs)
    assert ours.raw["properties"]["reply_to"] == ""
    wire.waiting.clear()


@contextmanager
def running(task_id: str | None) -> Iterator[None]:
    """Be inside a task that a worker runs, unless it is None."""
    if task_id is None:
        yield
        return
    task = celery.tasks[ERROR_CALLBACK]
    _task_stack.push(task)
    task.push_request(id=task_id, called_directly=False)
    try:
        yield
    finally:
        task.pop_request()
        _task_stack.pop()


@pytest.mark.parametrize("steps", [STEPS, STEPS[:1]], ids=len)
@pytest.mark.parametrize("on_error", [None, ERROR_CALLBACK])
@pytest.mark.parametrize("parent_id", [None, new_id()], ids=["root", "child"])
def test_a_chain(wire: Wire, steps: tuple[str, ...], on_error: str | None, parent_id: str | None) -> None:
    saga_id = new_id()
    tasks = [signature(step, saga_id) for step in steps]
    callback = signature(on_error, saga_id) if on_error else None

    with running(parent_id):
        sagas.engine.publisher.send_chain(steps, saga_id=saga_id, parent_id=current_task_id(), on_error=on_error)
        chain(*tasks).apply_async(root_id=saga_id, link_error=callback)

    assert [message.parent_id for message in wire.waiting] == [parent_id] * 2
    assert_alike(wire)


@pytest.mark.parametrize("parent_id", [None, new_id()], ids=["root", "child"])
def test_a_single_task(wire: Wire, parent_id: str | None) -> None:
    saga_id, event_id, task_id = new_id(), new_id(), new_id()

    sagas.engine.publisher.send(REACTION, saga_id=saga_id, task_id=task_id, parent_id=parent_id, event_id=event_id)
    signature(REACTION, saga_id, event_id=event_id).apply_async(root_id=saga_id, parent_id=parent_id, task_id=task_id)

    assert [message.task_id for message in wire.waiting] == [task_id] * 2
    assert_alike(wire)


def run_by_ours_and_by_celery(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a task twice: once we send what follows it, once that is left to Celery."""
    run(message)
    with monkeypatch.context() as patch:
        patch.setattr(sagas.engine.publisher, "send_next", lambda _: None)
        patch.setattr(sagas.engine.publisher, "send_errbacks", lambda _: None)
        run(message)


def test_what_follows_in_a_chain(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    trip.start()
    for step in STEPS:
        (message,) = wire.take(step)
        run_by_ours_and_by_celery(message, monkeypatch)
        ours, theirs = wire.waiting

        # the chain gave them their ids when it began
        assert ours.task_id == theirs.task_id
        assert ours.parent_id == message.task_id
        assert_alike(wire)
        wire.waiting.append(ours)


@pytest.mark.parametrize("failing", STEPS)
def test_an_error_callback(wire: Wire, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    trip.start(refuse=[failing.partition(".")[2]])
    while failing not in wire.names():
        run(wire.waiting.pop())
    (message,) = wire.take(failing)

    run_by_ours_and_by_celery(message, monkeypatch)

    ours, theirs = wire.waiting
    assert ours.task == ERROR_CALLBACK
    assert ours.task_id != theirs.task_id
    assert ours.parent_id == message.task_id
    # Celery sends it as a group of one, which nobody asks for
    headers = theirs.raw["headers"]
    assert is_uuid(headers["group"])
    headers.update(group=None, group_index=None)
    assert_alike(wire)


def test_what_a_task_sends_has_it_as_its_parent_or_the_one_for_which_it_is_sent(wire: Wire) -> None:
    assert current_task_id() is None
    with as_task("one of several"):
        assert current_task_id() == "one of several"
        with as_task("another"):
            assert current_task_id() == "another"
        assert current_task_id() == "one of several"
    assert current_task_id() is None


def take_nothing(*_: object) -> None:
    """Stand in for the broker as we see it; Celery finds it there."""
    raise OperationalError("the broker is away")


def test_a_broker_that_takes_no_message_is_asked_by_celery_again_and_then_the_step_fails(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    saga_id = trip.start()
    (message,) = wire.take(HOTEL)
    wire.away = True

    with monkeypatch.context() as patch:
        # the error callback would not be taken either: not what is tested here
        patch.setattr(celery.backend, "_call_task_errbacks", lambda *_: None)
        failure = run(message)

    assert isinstance(failure, OperationalError)
    assert wire.refused >= 2  # by us and by Celery, once each or as often as each tries
    assert wire.waiting == []
    assert stored.step(saga_id, "book_hotel").status == "completed"  # what was committed stands

    wire.away = False
    run(message)  # delivered again, or the sweep sends a chain of its own
    wire.deliver_all()
    assert stored.saga(saga_id).status == "completed"


@pytest.mark.parametrize(
    ("payload", "follows", "ends"),
    [({}, CAR, "completed"), ({"refuse": ["book_hotel"]}, ERROR_CALLBACK, "compensated")],
)
def test_what_the_broker_does_not_take_from_us_is_sent_once_by_celery(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, payload: dict[str, Any], follows: str, ends: str
) -> None:
    saga_id = trip.start(**payload)
    (message,) = wire.take(HOTEL)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish", take_nothing)
        run(message)

    assert wire.names() == [follows]
    wire.deliver_all()
    assert stored.saga(saga_id).status == ends


@pytest.mark.parametrize("away", [False, True])
def test_a_sender_is_notified_if_the_broker_does_not_accept_its_message(wire: Wire, away: bool) -> None:
    wire.away = away
    lost: list[str] = []

    sagas.engine.publisher.send_chain(STEPS, saga_id=new_id(), on_undelivered=lambda: lost.append("chain"))
    sagas.engine.publisher.send(
        REACTION, saga_id=new_id(), event_id=new_id(), on_undelivered=lambda: lost.append("reaction")
    )

    assert len(wire.waiting) == (0 if away else 2)
    assert lost == (["chain", "reaction"] if away else [])


@pytest.mark.parametrize("ends", [nullcontext(), pytest.raises(SystemExit)], ids=["normally", "by an exception"])
def test_what_is_sent_together_leaves_when_the_block_ends(wire: Wire, ends: AbstractContextManager[object]) -> None:
    with ends, sagas.engine.publisher.publish_batch():
        sagas.engine.publisher.send_chain(STEPS, saga_id=new_id())
        sagas.engine.publisher.send(REACTION, saga_id=new_id(), event_id=new_id())
        assert wire.waiting == []
        if not isinstance(ends, nullcontext):
            raise SystemExit

    assert wire.names() == [HOTEL, REACTION]


def test_messages_are_written_by_the_fast_writer(wire: Wire) -> None:
    sagas.engine.publisher.send_chain(STEPS, saga_id=new_id())
    celery.signature(HOTEL, kwargs={"saga_id": new_id()}).apply_async()  # Celery's own, as a retry is

    for message in wire.waiting:
        body = base64.b64decode(message.raw["body"])
        assert body.decode() == write(json.loads(body)), "kombu's writer puts spaces between"


def test_of_all_that_is_sent_together_each_queue_is_declared_once(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    declared: list[str] = []

    def note(producer: Producer, queue: Queue, retry: bool = False, **policy: Any) -> bool:
        declared.append(queue.name)
        return maybe_declare(producer, queue, retry, **policy)

    maybe_declare = Producer.maybe_declare
    monkeypatch.setattr(Producer, "maybe_declare", note)
    for _ in range(2):  # a queue that has gone meanwhile is made again
        with sagas.engine.publisher.publish_batch():
            for task in (HOTEL, CAR, HOTEL, HOTEL, CAR):
                sagas.engine.publisher.send(task, saga_id=new_id())

    assert declared == ["orders", "inventory"] * 2
    assert len(wire.waiting) == 10


def test_a_message_that_breaks_off_what_is_sent_together_is_sent_again_with_all_others(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_all_but_the_second(_: Channel, queue: str, raw: dict[str, Any], **options: object) -> None:
        wire.away = wire.refused == 0 and len(wire.waiting) == 1
        wire.put(queue, raw, **options)

    monkeypatch.setattr(Channel, "_put", put_all_but_the_second)
    ids = [new_id(), new_id(), new_id()]
    lost: list[str] = []

    with sagas.engine.publisher.publish_batch():
        for saga_id in ids:
            sagas.engine.publisher.send_chain(STEPS, saga_id=saga_id, on_undelivered=partial(lost.append, saga_id))

    assert wire.refused == 1
    # the first was taken before: to be done twice does no harm, not to be done would
    assert [message.raw["headers"]["root_id"] for message in wire.waiting] == [ids[0], *ids]
    assert lost == []


def test_every_sender_of_a_batch_is_notified_and_the_broker_is_asked_once_more(wire: Wire) -> None:
    wire.away = True
    lost: list[int] = []

    with sagas.engine.publisher.publish_batch():
        for number in range(20):
            sagas.engine.publisher.send_chain(STEPS, saga_id=new_id(), on_undelivered=partial(lost.append, number))

    assert lost == list(range(20))
    assert wire.refused <= 1 + TRIES


@pytest.mark.usefixtures("wire")
def test_after_any_error_each_message_of_a_batch_is_sent_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def send_by_itself_only(_: object, task: str, *__: object, retry: bool = True, **___: object) -> None:
        if not retry:
            raise AttributeError("'NoneType' object has no attribute 'send'")  # as py-amqp does then
        sent.append(task)

    sent: list[str] = []
    monkeypatch.setattr(celery.amqp, "send_task_message", send_by_itself_only)

    with sagas.engine.publisher.publish_batch():
        sagas.engine.publisher.send_chain(STEPS, saga_id=new_id())
        sagas.engine.publisher.send_chain(STEPS, saga_id=new_id())

    assert sent == [STEPS[0], STEPS[0]]


def test_a_task_that_sends_with_others_leaves_nothing_to_celery(wire: Wire) -> None:
    saga_id = trip.start()
    (message,) = wire.take(HOTEL)

    with sagas.engine.publisher.publish_batch():
        run(message)
        assert wire.waiting == []

    assert wire.names() == [CAR]
    wire.deliver_all()
    assert stored.saga(saga_id).status == "completed"
