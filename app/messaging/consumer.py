"""What is let in from the queues. A message that is no task of ours is logged and dropped, and the worker lives on.

A task that only another version of the code declares, as there may be during a rolling deploy, is put back instead.

Celery drops by itself what it cannot decode. But one whose headers or body have an unforeseen form (no id, a body of
two parts, a time limit that is a text) raises in the middle of its consumer, which ends the worker; the broker then
hands the message to the next worker, and so on. So the form is checked here, before Celery sees the message.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from celery import Celery
from celery.concurrency.solo import TaskPool as SoloPool
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu import Connection
from kombu.common import QoS
from kombu.message import Message
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from app.celery import QUEUES, queue_of
from app.errors import format_error
from app.messaging.batcher import Batcher
from app.messaging.tracebacks import be_brief
from app.messaging.transports.amqp import acked_together

logger = logging.getLogger(__name__)

MAX_WAIT = timedelta(minutes=5)
"""Longer waits are kept in the database, never in a message: a worker holds it, unacknowledged, all that time."""

MAX_BODY_BYTES = 64 * 1024
"""A chain of a hundred steps; the longest here has seven."""

MAX_RETRIES = 1000

MIN_PUT_BACK_DELAY_SECONDS = 1.0
MAX_PUT_BACK_DELAY_SECONDS = 30.0
"""How long a message that only a worker of another version understands is kept before it is put back.

The longer it has been coming back, the longer it is kept: a backlog of them leaves the worker time for others.
"""

MAX_PUT_BACK_SECONDS = 300.0
"""How long after this worker first saw such a message it is dropped; the sweep sends it again if its saga waits for it.

It is longer than a rolling deploy takes, and measured by this process alone: the sender's clock may differ, and a
message may have waited in its queue for any time.
"""

MAX_PUT_BACK = 10_000
"""How many such messages a worker keeps track of; what is beyond that is put back after the longest delay."""


def _text(value: Any) -> Any:
    # pydantic would take a number for a time, which Celery does not
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


_Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text)]
_Id = Annotated[str, Field(max_length=64)]
_Arguments = dict[str, _Id]
"""All that a task here is ever told: whose turn it is. The rest is in the database."""


class _Strict(BaseModel):
    # what else Celery puts there is its own business
    model_config = ConfigDict(strict=True, extra="ignore")


class _Signature(_Strict):
    """A task that a message carries along, to be sent when its own is done."""

    task: str
    args: Annotated[list[Any], Field(max_length=0)] = []
    kwargs: _Arguments = {}
    options: dict[str, Any] = {}


class _Embed(_Strict):
    """The fourth part of a message: what follows its task."""

    chain: list[_Signature] | None = None
    callbacks: list[_Signature] | None = None
    errbacks: list[_Signature] | None = None
    chord: None = None


class _Headers(_Strict):
    """The headers that Celery's worker reads without a look at their type."""

    task: str
    id: Annotated[str, Field(min_length=1, max_length=64)]
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    shadow: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    ignore_result: bool | None = None
    replaced_task_nesting: int = 0
    retries: Annotated[int, Field(ge=0, le=MAX_RETRIES)] = 0
    eta: _Time | None = None
    expires: _Time | None = None
    # nothing here sends one: a forged one would end a step, or its worker's child, in the middle
    timelimit: Annotated[list[None], Field(min_length=2, max_length=2)] | None = None
    sent_at: Annotated[float, Field(strict=False, allow_inf_nan=False)] | None = None
    """When it was published, in seconds since the epoch: see ``app.celery``."""
    stamps: dict[str, Any] | None = None
    stamped_headers: list[str] | None = None


class UnknownTask(LookupError):
    """Raised for a message whose task is not registered here.

    ``may_be_elsewhere`` says that it may be in a worker of another version.
    """

    def __init__(self, headers: _Headers) -> None:
        super().__init__(f"there is no task {headers.task[:100]}")
        self.message_id = headers.id
        # every version sends ``sent_at``; its value is another machine's clock, which decides nothing
        self.may_be_elsewhere = queue_of(headers.task) in QUEUES and headers.sent_at is not None


class PutBackLimit:
    """Bounds for how long each message is put back, by when this process first saw it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_seen = OrderedDict[str, float]()

    def delay(self, message_id: str) -> float | None:
        """Return how many seconds to keep a message before it is put back once more; None if it is to be dropped."""
        now = self._clock()
        # oldest first; most were taken by another worker meanwhile, the rest are dropped when they come again
        while self._first_seen and now - next(iter(self._first_seen.values())) > 2 * MAX_PUT_BACK_SECONDS:
            self._first_seen.popitem(last=False)
        if message_id not in self._first_seen and len(self._first_seen) >= MAX_PUT_BACK:
            return MAX_PUT_BACK_DELAY_SECONDS
        age = now - self._first_seen.setdefault(message_id, now)
        if age >= MAX_PUT_BACK_SECONDS:
            return None
        return min(max(age / 2, MIN_PUT_BACK_DELAY_SECONDS), MAX_PUT_BACK_DELAY_SECONDS)


_BODY = TypeAdapter(tuple[Annotated[list[Any], Field(max_length=0)], _Arguments, _Embed | None])


class Inbox(Consumer):
    """Celery's consumer behind a gate."""

    connection_errors: tuple[type[Exception], ...]
    qos: QoS

    def __init__(self, on_task_request: Callable[[Request], object], *args: Any, **kwargs: Any) -> None:
        pool, hub = kwargs.get("pool"), kwargs.get("hub")
        self._gathering: Batcher | None = None
        self._put_back_limit = PutBackLimit()
        # elsewhere what is done together here would be done in another process than what Celery asks for it
        if isinstance(pool, SoloPool) and hub is not None:
            self._gathering = Batcher(on_task_request, hub, lambda: acked_together(self.connection))
            on_task_request = self._gathering.take
        super().__init__(on_task_request, *args, **kwargs)

    def call_soon_ack(self, acknowledge: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        """Acknowledge or reject a message: where its task runs in this thread now, not with the loop's next turn."""
        if self._gathering:
            return acknowledge(*args, **kwargs)
        return super().call_soon_ack(acknowledge, *args, **kwargs)  # type: ignore[misc]  # not in the types

    def update_strategies(self) -> None:
        """Decide how the tasks that are known now are run."""
        super().update_strategies()
        be_brief(self.app, self.hostname)

    def on_close(self) -> None:
        """Forget, with Celery, what came over the connection that is closed."""
        super().on_close()
        if self._gathering:
            self._gathering.forget()

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        """Return what is called with every message that comes from a task queue."""
        handle: Callable[[Message], None] = super().create_task_handler(*args, **kwargs)

        def receive(message: Message) -> None:
            try:
                use_own_clock(message, check(message, self.app))
            except Exception as error:
                delay = None
                if isinstance(error, UnknownTask) and error.may_be_elsewhere:
                    delay = self._put_back_limit.delay(error.message_id)
                if delay is None:
                    self._drop(message, error)
                else:
                    self._put_back_later(message, delay, error)
            else:
                handle(message)

        return receive

    def _drop(self, message: Message, error: Exception) -> None:
        queue = (message.delivery_info or {}).get("routing_key")
        reason = {"reason": format_error(error)}
        logger.error(f"message dropped from queue {queue}: it is no task of ours", extra=reason)
        message.reject_log_error(logger, self.connection_errors)

    def _put_back_later(self, message: Message, delay: float, error: Exception) -> None:
        """Put a message back into its queue after a while: at once, this worker could do nothing else."""
        logger.info("message left to a worker of another version", extra={"reason": format_error(error)})
        self.qos.increment_eventually()  # those that are kept must not use up what may be prefetched
        # a thread of its own has the timer of some pools, and may not use the connection
        self.timer.call_after(delay, self.call_soon, (self._put_back, message, self.connection))

    def _put_back(self, message: Message, connection: Connection) -> None:
        if connection is self.connection:  # else the broker has put it back, and begun to count anew
            message.reject_log_error(logger, self.connection_errors, requeue=True)
            self.qos.decrement_eventually()


def use_own_clock(message: Message, headers: _Headers) -> None:
    """Restate the times of a message that has been checked by this machine's clock: the sender's may be another.

    A retry waits as long as its sender said, from now on. Nothing expires: a task that comes late finds in the log that
    there is nothing left to do.
    """
    wait = _wait(headers)
    if wait is not None:
        message.headers["eta"] = (datetime.now(UTC) + wait).isoformat()
    message.headers.pop("expires", None)


def _wait(headers: _Headers) -> timedelta | None:
    """Return how long the sender of a message wanted it to wait, if at all."""
    if headers.eta is None:
        return None
    sent_at = datetime.now(UTC) if headers.sent_at is None else datetime.fromtimestamp(headers.sent_at, UTC)
    return headers.eta - sent_at


def check(message: Message, app: Celery) -> _Headers:
    """Return the headers of a message, as they were read; raises what is wrong with it, if anything is."""
    if len(message.body or "") > MAX_BODY_BYTES:
        raise ValueError(f"its body has more than {MAX_BODY_BYTES} bytes")
    headers = _Headers.model_validate(message.headers)
    wait = _wait(headers)
    if wait and wait > MAX_WAIT:
        raise ValueError(f"it is not wanted for another {wait}")
    args, kwargs, _ = _BODY.validate_python(message.payload, strict=False)
    task = app.tasks.get(headers.task)
    if task is None or headers.task.startswith("celery."):
        raise UnknownTask(headers)
    # what Celery itself checks arguments with, but only where a message is sent
    task.__header__(*args, **kwargs)  # type: ignore[attr-defined]  # not in the types
    return headers
