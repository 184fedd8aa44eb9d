"""Publish messages: always after a commit, and never raising an error.

A commit stands whether or not the broker accepts the message. A message that could not be sent is logged, and sent
again by the recovery sweep, which reads from the log what is missing.

The messages are identical to those of Celery's canvas. They are built here one level below it, from their common parts,
because building them by the canvas took longer than executing a step.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from celery import Celery
from celery._state import get_current_worker_task
from celery.app.task import Context
from celery.utils.nodenames import anon_nodename
from kombu import Producer
from kombu.exceptions import BatchPublishError, OperationalError  # type: ignore[attr-defined]  # not in the types

from durable_sagas.ids import new_id

logger = logging.getLogger(__name__)

SENT_AT = "saga_sent_at"
"""The header with the time at which a message was sent: its position in the queue."""

ChainLink = dict[str, Any]
"""A task of a chain in a Celery message: a signature as plain JSON."""

OnUndelivered = Callable[[], object]
"""A callback for a message that the broker did not accept."""


@dataclass(frozen=True)
class Message:
    """A task to be sent, and the rest of its chain."""

    link: ChainLink
    rest: Sequence[ChainLink]
    root_id: str | None
    parent_id: str | None
    on_undelivered: OnUndelivered | None = None

    @property
    def task_name(self) -> str:
        """The name of its task."""
        return str(self.link["task"])

    def undelivered(self, error: Exception) -> None:
        """Log that it was not sent, and call ``on_undelivered``."""
        logger.warning("message not sent, the sweep will", extra={"saga_id": self.root_id, "reason": error})
        if self.on_undelivered:
            self.on_undelivered()


_task_id: ContextVar[str | None] = ContextVar("task_id", default=None)
_batch: ContextVar[tuple[object, list[Message]] | None] = ContextVar("batch", default=None)


@contextmanager
def as_task(task_id: str | None) -> Iterator[None]:
    """Set the task that messages registered in the block are sent by, if tasks are processed together."""
    token = _task_id.set(task_id)
    try:
        yield
    finally:
        _task_id.reset(token)


def current_task_id() -> str | None:
    """Return the id of the task that sends messages now (their parent in Flower and traces), or None outside any."""
    if own := _task_id.get():
        return own
    running = get_current_worker_task()
    return str(running.request.id) if running else None


class Publisher:
    """Publishes messages of one Celery app: by its connections, serializer and routes."""

    def __init__(self, celery: Celery, now: Callable[[], datetime]) -> None:
        self.celery = celery
        self._now = now
        self._queues: dict[str, str] = {}

    def queue_of(self, task_name: str) -> str:
        """Return the queue that a task is sent to: by the app's ``task_routes``, else the service before the dot."""
        if task_name not in self._queues:
            route: Any = self.celery.amqp.router.lookup_route(task_name, (), {}, {}, None)
            queue = (route if isinstance(route, str) else (route or {}).get("queue")) or service_of(task_name)
            self._queues[task_name] = str(getattr(queue, "name", queue))
        return self._queues[task_name]

    @contextmanager
    def publish_batch(self) -> Iterator[None]:
        """Buffer the messages sent in the block, and publish them together when it ends, however it ends."""
        batch: list[Message] = []
        token = _batch.set((self, batch))
        try:
            yield
        finally:
            _batch.reset(token)
            if batch:
                self._send_all(batch)

    def send(
        self,
        task_name: str,
        *,
        saga_id: str,
        task_id: str | None = None,
        parent_id: str | None = None,
        on_undelivered: OnUndelivered | None = None,
        **arguments: str,
    ) -> None:
        """Send one task of a saga to its queue; ``on_undelivered`` is called if the broker does not accept it."""
        link = self._link(task_name, saga_id, task_id or new_id(), **arguments)
        self._send(Message(link, [], saga_id, parent_id, on_undelivered))

    def send_chain(
        self,
        task_names: Sequence[str],
        *,
        saga_id: str,
        on_error: str | None = None,
        parent_id: str | None = None,
        on_undelivered: OnUndelivered | None = None,
    ) -> None:
        """Send tasks of a saga to run in sequence; ``on_undelivered`` is called if the first is not accepted.

        ``on_error`` names the task that Celery sends when one of them fails.
        """
        links = [self._link(name, saga_id, new_id()) for name in task_names]
        if on_error:
            errback = self._link(on_error, saga_id, None)
            for link in links:
                link["options"]["link_error"] = [errback]
        # in reverse order: Celery takes the next task from the end
        self._send(Message(links[0], links[:0:-1], saga_id, parent_id, on_undelivered))

    def send_next(self, request: Context) -> None:
        """Send the next task of a completed task's chain. If that fails it is left to Celery, which retries it."""
        chain_left: Sequence[ChainLink] | None = request.chain  # type: ignore[assignment]  # the types say str
        if not chain_left or request.called_directly or request.is_eager:
            return
        if self._try_send(Message(chain_left[-1], chain_left[:-1], request.root_id, request.id)):
            request.chain = None

    def send_errbacks(self, request: Context) -> None:
        """Send the error callbacks of a failed task. If that fails it is left to Celery."""
        errbacks: Sequence[ChainLink] | None = request.errbacks  # type: ignore[assignment]  # links, as sent
        if not errbacks or request.called_directly or request.is_eager:
            return
        links = [{**errback, "options": {**errback["options"], "task_id": new_id()}} for errback in errbacks]
        if all(self._try_send(Message(link, [], request.root_id, request.id)) for link in links):
            request.errbacks = None

    def _send(self, message: Message) -> None:
        """Send a message, now or with the current batch; log it if it is not accepted."""
        try:
            self._enqueue_or_send(message)
        except Exception as error:
            # any error: the commit stands, and clients raise more than they document when a connection is lost
            message.undelivered(error)

    def _try_send(self, message: Message) -> bool:
        """Send a message, now or with the current batch; return False if it must be left to Celery."""
        try:
            self._enqueue_or_send(message)
        except self._delivery_errors() as error:
            logger.debug("message not sent, left to Celery", extra={"saga_id": message.root_id, "reason": error})
            return False
        return True

    def _enqueue_or_send(self, message: Message) -> None:
        owner, batch = _batch.get() or (None, [])
        if owner is self:
            batch.append(message)
        else:
            self.publish(message)

    def _send_all(self, messages: Sequence[Message]) -> None:
        """Send messages in one write, or one by one if it fails, as it is unknown which of them were sent."""
        try:
            with self.celery.producer_or_acquire() as producer, producer.batch():
                declared: set[str] = set()
                for message in messages:
                    queue = self.queue_of(message.task_name)
                    # no retry: it would write this message only, and not the others; and Celery copies a queue each
                    # time that it checks whether it is declared
                    self._write(producer, message, retry=False, declare=[] if queue in declared else None)
                    declared.add(queue)
        except Exception as error:
            # any error, because py-amqp raises more than it documents when a connection is lost, and only this code
            # can handle it
            logger.debug(f"{len(messages)} messages not sent as a batch, now one by one", extra={"reason": error})
            for position, message in enumerate(messages):
                try:
                    self.publish(message)
                except Exception as error:
                    for left in messages[position:]:  # each attempt waits for the timeout: once is enough
                        left.undelivered(error)
                    return

    def publish(self, message: Message) -> None:
        """Send a message now. Raises what the broker's client raises."""
        if self.celery.conf.task_always_eager:
            self._run_here(message)
            return
        with self.celery.producer_or_acquire() as producer:
            self._write(producer, message)

    def _run_here(self, message: Message) -> None:
        """Run a message and the rest of its chain in this thread, as configured by Celery's eager mode."""
        for link in (message.link, *reversed(message.rest)):
            options = link["options"]
            ended = self.celery.tasks[link["task"]].apply(
                kwargs=link["kwargs"], task_id=options["task_id"], link_error=options.get("link_error"), throw=False
            )
            if not ended.successful():
                return  # Celery has sent its error callback

    def _write(self, producer: Producer, message: Message, **options: Any) -> None:
        link = message.link
        content = self.celery.amqp.as_task_v2(
            link["options"]["task_id"],
            link["task"],
            (),
            link["kwargs"],
            root_id=message.root_id,
            parent_id=message.parent_id,
            chain=list(message.rest) or None,
            errbacks=link["options"].get("link_error"),
            ignore_result=self.celery.conf.task_ignore_result,
            argsrepr="()",
            kwargsrepr=repr(link["kwargs"]),
            origin=_origin(),
            create_sent_event=self.celery.conf.task_send_sent_event,
        )
        content.headers[SENT_AT] = self._now().isoformat()
        self.celery.amqp.send_task_message(
            producer, link["task"], content, queue=self.queue_of(message.task_name), **options
        )

    def _delivery_errors(self) -> tuple[type[Exception], ...]:
        """Return the exceptions raised when the broker does not accept a message."""
        connection = self.celery.pool.connection  # type: ignore[attr-defined]  # not in the types
        return (OperationalError, BatchPublishError, *connection.connection_errors, *connection.channel_errors)

    def _link(self, task_name: str, saga_id: str, task_id: str | None, **arguments: str) -> ChainLink:
        # the queue for what Celery sends itself; the saga id as an argument too: Flower searches these, not root ids
        options = {"task_id": task_id, "root_id": saga_id} if task_id else {}
        return {
            "task": task_name,
            "args": [],
            "kwargs": {"saga_id": saga_id, **arguments},
            "options": {**options, "queue": self.queue_of(task_name)},
            "subtask_type": None,
            "immutable": True,
        }


def sent_at_of(headers: Mapping[str, Any]) -> datetime | None:
    """Return when a message was sent; None without a valid header, as in retries, which Celery sends."""
    try:
        sent_at = datetime.fromisoformat(headers[SENT_AT])
    except (KeyError, TypeError, ValueError):
        return None
    return sent_at if sent_at.tzinfo else None


def service_of(task_name: str) -> str:
    """Return the service that owns a task: the part before the dot, as in ``inventory.reserve_stock``."""
    return task_name.partition(".")[0]


@cache
def _origin() -> str:
    return str(anon_nodename())
