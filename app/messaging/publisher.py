"""Publish messages: always after a commit, and never raising an error.

A commit stands whether or not the broker accepts the message. A message that could not be sent is logged, and sent
again by the recovery sweep, which reads from the log what is missing.

The messages are identical to those of Celery's canvas. They are built here one level below it, from their common parts,
because building them by the canvas took longer than executing a step.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

from celery import chain
from celery.app.task import Context
from celery.canvas import Signature
from celery.utils.nodenames import anon_nodename
from kombu import Producer
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]  # not in the types

from app.celery import app, route_of
from app.errors import StepFailed
from app.ids import new_id

logger = logging.getLogger(__name__)

Link = dict[str, Any]
"""A task of a chain in a Celery message: a signature as plain JSON."""

NotTaken = Callable[[], object]
"""A callback for a message that the broker did not accept."""


@dataclass(frozen=True)
class _Message:
    """A task to be sent, and the rest of its chain."""

    link: Link
    rest: Sequence[Link]
    root_id: str | None
    parent_id: str | None
    on_undelivered: NotTaken | None = None

    @property
    def queue(self) -> str:
        """Return the queue of its task."""
        return route_of(self.link["task"])

    def lost(self, error: Exception) -> None:
        """Log that it was not sent, and call ``on_undelivered``."""
        logger.warning("message not sent, the sweep will", extra={"saga_id": self.root_id, "reason": error})
        if self.on_undelivered:
            self.on_undelivered()


_sender: ContextVar[str | None] = ContextVar("sender", default=None)
_parcel: ContextVar[list[_Message] | None] = ContextVar("parcel", default=None)


@contextmanager
def sent_by(task_id: str | None) -> Iterator[None]:
    """Set the task that messages registered in the block are sent by, if tasks are processed together."""
    token = _sender.set(task_id)
    try:
        yield
    finally:
        _sender.reset(token)


def sender() -> str | None:
    """Return the id of the task that sends messages now (their parent in Flower and traces), or None outside any."""
    if own := _sender.get():
        return own
    running = app.current_worker_task
    return str(running.request.id) if running else None


@contextmanager
def publish_batch() -> Iterator[None]:
    """Buffer the messages sent in the block, and publish them together when it ends, however it ends."""
    parcel: list[_Message] = []
    token = _parcel.set(parcel)
    try:
        yield
    finally:
        _parcel.reset(token)
        if parcel:
            _send_all(parcel)


def send(
    task_name: str,
    *,
    saga_id: str,
    task_id: str | None = None,
    parent_id: str | None = None,
    on_undelivered: NotTaken | None = None,
    **arguments: str,
) -> None:
    """Send one task of a saga to its queue; ``on_undelivered`` is called if the broker does not accept it."""
    task_id = task_id or new_id()
    if app.conf.task_always_eager:
        if not _publish(_signature(task_name, saga_id, **arguments), saga_id, task_id=task_id) and on_undelivered:
            on_undelivered()
        return
    _send(_Message(_link(task_name, saga_id, task_id, **arguments), [], saga_id, parent_id, on_undelivered))


def send_chain(
    task_names: Sequence[str],
    *,
    saga_id: str,
    on_error: str | None = None,
    parent_id: str | None = None,
    on_undelivered: NotTaken | None = None,
) -> None:
    """Send tasks of a saga to run in sequence; ``on_undelivered`` is called if the first is not accepted.

    ``on_error`` names the task that Celery sends when one of them fails.
    """
    if app.conf.task_always_eager:
        tasks = chain(*(_signature(name, saga_id) for name in task_names))
        # immutable, so that it is sent as a task: an errback that accepts the error would run inside the failing
        # process
        options: dict[str, Any] = {"link_error": _signature(on_error, saga_id)} if on_error else {}
        if not _publish(tasks, saga_id, **options) and on_undelivered:
            on_undelivered()
        return
    links = [_link(name, saga_id, new_id()) for name in task_names]
    if on_error:
        errbacks = [{**_link(on_error, saga_id), "options": {}}]
        for link in links:
            link["options"]["link_error"] = errbacks
    # in reverse order: Celery takes the next task from the end
    _send(_Message(links[0], links[:0:-1], saga_id, parent_id, on_undelivered))


def send_next(request: Context) -> None:
    """Send the next task of a completed task's chain. If that fails it is left to Celery, which retries it."""
    chain_left: Sequence[Link] | None = request.chain  # type: ignore[assignment]  # the types say str
    if not chain_left or request.called_directly or request.is_eager:
        return
    if _sent(_Message(chain_left[-1], chain_left[:-1], request.root_id, request.id)):
        request.chain = None


def send_errbacks(request: Context) -> None:
    """Send the error callbacks of a failed task. If that fails it is left to Celery."""
    errbacks: Sequence[Link] | None = request.errbacks  # type: ignore[assignment]  # links, as sent
    if not errbacks or request.called_directly or request.is_eager:
        return
    links = [{**errback, "options": {**errback["options"], "task_id": new_id()}} for errback in errbacks]
    if all(_sent(_Message(link, [], request.root_id, request.id)) for link in links):
        request.errbacks = None


def _send(message: _Message) -> None:
    """Send a message, now or with the current batch; log it if it is not accepted."""
    try:
        _enqueue_or_send(message)
    except _not_taken() as error:
        message.lost(error)


def _sent(message: _Message) -> bool:
    """Send a message, now or with the current batch; return False if it must be left to Celery."""
    try:
        _enqueue_or_send(message)
    except _not_taken() as error:
        logger.debug("message not sent, left to Celery", extra={"saga_id": message.root_id, "reason": error})
        return False
    return True


def _enqueue_or_send(message: _Message) -> None:
    parcel = _parcel.get()
    if parcel is None:
        _publish_message(message)
    else:
        parcel.append(message)


def _send_all(messages: Sequence[_Message]) -> None:
    """Send messages in one write, or one by one if it fails, as it is unknown which of them were sent."""
    try:
        with app.producer_or_acquire() as producer, producer.batch():
            declared: set[str] = set()
            for message in messages:
                # no retry: it would write this message only, and not the others; and Celery copies a queue each time
                # that it checks whether it is declared
                _write(producer, message, retry=False, declare=[] if message.queue in declared else None)
                declared.add(message.queue)
    except Exception as error:
        # any error, because py-amqp raises more than it documents when a connection is lost, and only this code can
        # handle it
        logger.debug(f"{len(messages)} messages not sent as a batch, now one by one", extra={"reason": error})
        _send_one_by_one(messages)


def _send_one_by_one(messages: Sequence[_Message]) -> None:
    for position, message in enumerate(messages):
        try:
            _publish_message(message)
        except Exception as error:
            for lost in messages[position:]:  # each attempt waits for the timeout: once is enough
                lost.lost(error)
            return


def _publish_message(message: _Message) -> None:
    with app.producer_or_acquire() as producer:
        _write(producer, message)


def _write(producer: Producer, message: _Message, **options: Any) -> None:
    link = message.link
    content = app.amqp.as_task_v2(
        link["options"]["task_id"],
        link["task"],
        (),
        link["kwargs"],
        root_id=message.root_id,
        parent_id=message.parent_id,
        chain=list(message.rest) or None,
        errbacks=link["options"].get("link_error"),
        ignore_result=app.conf.task_ignore_result,
        argsrepr="()",
        kwargsrepr=repr(link["kwargs"]),
        origin=_origin(),
        create_sent_event=app.conf.task_send_sent_event,
    )
    app.amqp.send_task_message(producer, link["task"], content, queue=message.queue, **options)


@cache
def _origin() -> str:
    return str(anon_nodename())


def _not_taken() -> tuple[type[Exception], ...]:
    """Return the exceptions raised when the broker does not accept a message."""
    connection = app.pool.connection  # type: ignore[attr-defined]  # not in the types
    return (OperationalError, BatchPublishError, *connection.connection_errors, *connection.channel_errors)


def _link(task_name: str, saga_id: str, task_id: str | None = None, **arguments: str) -> Link:
    # the saga id as an argument too: Flower searches arguments, not root ids
    return {
        "task": task_name,
        "args": [],
        "kwargs": {"saga_id": saga_id, **arguments},
        "options": {"task_id": task_id, "root_id": saga_id},
        "subtask_type": None,
        "immutable": True,
    }


def _signature(task_name: str, saga_id: str, **arguments: str) -> Signature:
    return app.signature(task_name, kwargs={"saga_id": saga_id, **arguments}, immutable=True)


def _publish(signature: Signature, saga_id: str, **options: Any) -> bool:
    """Run tasks in this process, as configured by Celery's eager mode; return whether they were accepted."""
    try:
        signature.apply_async(root_id=saga_id, **options)
    except OperationalError as error:
        logger.warning("message not sent, the sweep will", extra={"saga_id": saga_id, "reason": error})
        return False
    except StepFailed:
        # the chain has run in this process, and so has its error callback
        logger.debug("eager chain ended early", extra={"saga_id": saga_id})
    return True
