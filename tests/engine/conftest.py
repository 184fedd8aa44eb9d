"""The engine's tests: a saga of their own, and messages that are held back when a test wants to deliver them itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from celery.canvas import Signature, _chain

from app import publishing
from app.runtime import Runtime
from tests.engine import trip


@pytest.fixture
def agency(here: Runtime) -> Iterator[None]:
    with trip.agency():
        yield


class Post:
    """Messages that were sent and not delivered. A test delivers them in the order it likes, or never, or twice."""

    def __init__(self) -> None:
        self.waiting: list[Signature] = []

    def names(self) -> list[str]:
        return [str(message.task) for message in self.waiting]

    def take(self, task_name: str) -> Signature:
        """Take the oldest message of a task out of the post."""
        message = next(message for message in self.waiting if message.task == task_name)
        self.waiting.remove(message)
        return message

    def deliver(self, task_name: str) -> None:
        """Deliver the oldest message of a task."""
        run(self.take(task_name))

    def deliver_all(self, *, last_first: bool = False) -> int:
        """Deliver what waits, and what that causes, until nothing waits; returns how many messages it were."""
        delivered = 0
        while self.waiting:
            run(self.waiting.pop(-1 if last_first else 0))
            delivered += 1
        return delivered


def run(message: Signature) -> None:
    """Run a task as a worker would; what it raises is the worker's business."""
    message.apply()


@pytest.fixture
def post(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> Post:
    """Hold back every message. A chain is held as its single steps: they are what crosses the wire."""
    held = Post()

    def hold(signature: Signature, saga_id: str, **options: object) -> bool:
        held.waiting.extend(signature.tasks if isinstance(signature, _chain) else [signature])
        return True

    monkeypatch.setattr(publishing, "_publish", hold)
    return held


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock(here: Runtime) -> Clock:
    here.now = Clock()
    return here.now
