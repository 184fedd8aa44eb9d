"""A message as it waits, and what the pool of a worker does with it."""

import base64
import json
import warnings
from ast import literal_eval
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from celery.app.trace import trace_task_ret

from app.celery import app as celery
from app.sagas import sagas
from durable_sagas.messaging.batching import BatchedMessage
from durable_sagas.messaging.publisher import sent_at_of
from workflows.orders import NewOrder


class Message:
    """A message that waits for a worker."""

    def __init__(self, number: int, queue: str, raw: dict[str, Any]) -> None:
        headers = raw["headers"]
        self.number = number
        self.queue = queue
        self.raw = raw
        self.task: str = headers["task"]
        self.task_id: str = headers["id"]
        _, arguments, embedded = json.loads(base64.b64decode(raw["body"]))
        self.parent_id: str | None = headers["parent_id"]
        """The id of the task that sent it."""
        self.arguments: dict[str, str] = arguments
        self.saga_id = arguments.get("saga_id")
        self.followers = " ".join(follower["task"] for follower in reversed(embedded["chain"] or ()))
        """The tasks of the chain that are sent after this one."""
        self.due = datetime.fromisoformat(headers["eta"]) if headers["eta"] else None
        """When a retry may be delivered."""
        self.first = not headers["retries"]
        """Whether it is no retry."""

    def __str__(self) -> str:
        return f"message {self.number}, {self.task}"


def run(message: Message) -> Any:
    """Run a message's task as a worker does, with everything that Celery does around it.

    Returns what the task returned or, as an exception, raised.
    """
    raw = message.raw
    request = {**raw["headers"], "delivery_info": {}, "is_eager": False}
    content = base64.b64decode(raw["body"]), raw["content-type"], raw["content-encoding"]
    # an error callback that cannot be published: Celery warns, and the worker takes the next message
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Exception raised outside body", RuntimeWarning)
        failed, result, _ = trace_task_ret(message.task, raw["headers"]["id"], request, *content, app=celery)
    return result.exception if failed else literal_eval(result)  # of a reply a worker keeps the text only


@contextmanager
def batched(messages: Sequence[Message]) -> Iterator[None]:
    """Process messages of one task as a worker does that has gathered them; inside the block their tasks find this."""
    batch = [
        BatchedMessage(message.task_id, message.arguments, sent_at_of(message.raw["headers"])) for message in messages
    ]
    with sagas.engine.batches.batch_results(messages[0].task, batch):
        yield


def described(request: NewOrder) -> str:
    """Return what an order wants, for people."""
    wanted = ", ".join(f"{item.quantity} {item.book_id}" for item in request.items)
    faults = "".join(f", {service} {fault}" for service, fault in request.simulate)
    return f"{request.saga_type or request.pattern}, {wanted}{faults}"
