"""Validate incoming messages before Celery handles them. Malformed messages are logged and rejected.

So a poison message cannot crash the worker. Celery itself drops messages that it cannot decode. But one whose headers
or body have an unexpected form (no id, a body of two parts, a time limit that is a string) raises inside its consumer
and ends the worker; the broker then delivers the message to the next worker, and so on.

A task that only another version of the code declares, as during a rolling deploy, is put back instead.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from celery import Celery
from celery.worker.consumer import Consumer
from kombu import Connection
from kombu.common import QoS
from kombu.message import Message
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from app.errors import format_error
from app.sagas import sagas
from durable_sagas.messaging.publisher import service_of
from durable_sagas.messaging.tracebacks import be_brief

logger = logging.getLogger(__name__)

MAX_WAIT = timedelta(minutes=5)
"""The longest ETA. Longer waits are stored in the database: a worker holds a waiting message, unacknowledged."""

MAX_BODY_BYTES = 64 * 1024
"""Enough for a chain of a hundred steps; the longest here has seven."""

MAX_RETRIES = 1000

MIN_PUT_BACK_DELAY_SECONDS = 1.0
MAX_PUT_BACK_DELAY_SECONDS = 30.0
"""Bounds of the delay before a message that only a worker of another version understands is put back.

The delay grows with the time that the message has been coming back: a backlog leaves the worker time for others.
"""

MAX_PUT_BACK_SECONDS = 300.0
"""Such a message is dropped this long after this worker first saw it; the sweep resends it if its saga waits for it.

It is longer than a rolling deploy takes, and measured by this process alone: the sender's clock may differ, and a
message may have waited in its queue for any time.
"""

MAX_PUT_BACK = 10_000
"""How many such messages a worker tracks; others are put back after the longest delay."""


def _text(value: Any) -> Any:
    # pydantic would accept a number as a time, which Celery does not
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


_Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_text)]
_Id = Annotated[str, Field(max_length=64)]
_Arguments = dict[str, _Id]
"""The arguments of every task here: ids only. The data is in the database."""


class _Strict(BaseModel):
    # Celery adds other fields of its own
    model_config = ConfigDict(strict=True, extra="ignore")


class _Signature(_Strict):
    """A task embedded in a message, to be sent when the message's own is done."""

    task: str
    args: Annotated[list[Any], Field(max_length=0)] = []
    kwargs: _Arguments = {}
    options: dict[str, Any] = {}


class _Embed(_Strict):
    """The third part of a message's body: the tasks that follow."""

    chain: list[_Signature] | None = None
    callbacks: list[_Signature] | None = None
    errbacks: list[_Signature] | None = None
    chord: None = None


class _Headers(_Strict):
    """The headers that Celery's worker reads without a type check."""

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
    # nothing here sends one: a forged one would abort a step, or kill its worker's child, midway
    timelimit: Annotated[list[None], Field(min_length=2, max_length=2)] | None = None
    sent_at: Annotated[float, Field(strict=False, allow_inf_nan=False)] | None = None
    """When it was published, in seconds since the epoch: see ``app.celery``."""
    stamps: dict[str, Any] | None = None
    stamped_headers: list[str] | None = None


class UnknownTask(LookupError):
    """Raised for a message whose task is not registered here.

    ``may_be_elsewhere`` is whether a worker of another version may have it.
    """

    def __init__(self, headers: _Headers) -> None:
        super().__init__(f"there is no task {headers.task[:100]}")
        self.message_id = headers.id
        # every version sends ``sent_at``; its value is another machine's clock, so it is not used
        self.may_be_elsewhere = service_of(headers.task) in sagas.services and headers.sent_at is not None


class PutBackLimit:
    """Limits for how long each message is put back, measured from when this process first saw it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first_seen = OrderedDict[str, float]()

    def delay(self, message_id: str) -> float | None:
        """Return the delay in seconds before a message is put back again, or None if it must be dropped."""
        now = self._clock()
        # oldest first; most were consumed by another worker meanwhile, the rest are dropped when they come again
        while self._first_seen and now - next(iter(self._first_seen.values())) > 2 * MAX_PUT_BACK_SECONDS:
            self._first_seen.popitem(last=False)
        if message_id not in self._first_seen and len(self._first_seen) >= MAX_PUT_BACK:
            return MAX_PUT_BACK_DELAY_SECONDS
        age = now - self._first_seen.setdefault(message_id, now)
        if age >= MAX_PUT_BACK_SECONDS:
            return None
        return min(max(age / 2, MIN_PUT_BACK_DELAY_SECONDS), MAX_PUT_BACK_DELAY_SECONDS)


_BODY = TypeAdapter(tuple[Annotated[list[Any], Field(max_length=0)], _Arguments, _Embed | None])


class ValidatingConsumer(Consumer):
    """Celery's consumer, with validation of messages."""

    connection_errors: tuple[type[Exception], ...]
    qos: QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._put_back_limit = PutBackLimit()
        super().__init__(*args, **kwargs)

    def update_strategies(self) -> None:
        """Set up the tracers of the registered tasks."""
        super().update_strategies()
        be_brief(self.app, self.hostname)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Message], None]:
        """Return the handler of messages from the task queues."""
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
        """Put a message back into its queue after a delay: without one this worker could do nothing else."""
        logger.info("message left to a worker of another version", extra={"reason": format_error(error)})
        self.qos.increment_eventually()  # held messages must not use up the prefetch limit
        # in some pools the timer runs in a thread of its own, which must not use the connection
        self.timer.call_after(delay, self.call_soon, (self._put_back, message, self.connection))

    def _put_back(self, message: Message, connection: Connection) -> None:
        if connection is self.connection:  # else the broker has put it back, and counts from zero
            message.reject_log_error(logger, self.connection_errors, requeue=True)
            self.qos.decrement_eventually()


def use_own_clock(message: Message, wait: timedelta | None) -> None:
    """Convert the times of a validated message to this machine's clock, as the sender's may differ.

    A retry waits as long as its sender requested, counted from now. Nothing expires: a late task finds in the log that
    nothing is left to do.
    """
    if wait is not None:
        message.headers["eta"] = (datetime.now(UTC) + wait).isoformat()
    message.headers.pop("expires", None)


def check(message: Message, app: Celery) -> timedelta | None:
    """Validate a message; return how long its sender delayed it, or None.

    Raises an exception if it is invalid, UnknownTask if its task is unknown.
    """
    if len(message.body or "") > MAX_BODY_BYTES:
        raise ValueError(f"its body has more than {MAX_BODY_BYTES} bytes")
    headers = _Headers.model_validate(message.headers)
    wait = None
    if headers.eta:
        sent_at = datetime.now(UTC) if headers.sent_at is None else datetime.fromtimestamp(headers.sent_at, UTC)
        wait = headers.eta - sent_at
    if wait and wait > MAX_WAIT:
        raise ValueError(f"it is not wanted for another {wait}")
    args, kwargs, _ = _BODY.validate_python(message.payload, strict=False)
    task = app.tasks.get(headers.task)
    if task is None or headers.task.startswith("celery."):
        raise UnknownTask(headers)
    # Celery checks arguments this way itself, but only when a message is sent
    task.__header__(*args, **kwargs)  # type: ignore[attr-defined]  # not in the types
    return wait
