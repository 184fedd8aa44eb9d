"""A message as it waits, and what the pool of a worker does with it."""

import base64
import json
import warnings
from ast import literal_eval
from datetime import datetime
from typing import Any

from celery.app.trace import trace_task_ret

from app.celery import app as celery
from workflows.orders import NewOrder


class Message:
    """A message that waits for a worker."""

    def __init__(self, number: int, raw: dict[str, Any]) -> None:
        headers = raw["headers"]
        self.number = number
        self.raw = raw
        self.task: str = headers["task"]
        self.task_id: str = headers["id"]
        _, arguments, embedded = json.loads(base64.b64decode(raw["body"]))
        self.arguments: dict[str, str] = arguments
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


def described(request: NewOrder) -> str:
    """Return what an order wants, for people."""
    wanted = ", ".join(f"{item.quantity} {item.book_id}" for item in request.items)
    faults = "".join(f", {service} {fault}" for service, fault in request.simulate)
    return f"{request.saga_type or request.pattern}, {wanted}{faults}"
