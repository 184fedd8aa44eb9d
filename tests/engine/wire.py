"""Messages as the broker has them, and workers that process one or several."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kombu.exceptions import OperationalError

from app import runtime
from bench.statements import Counted
from tests.simulation.messages import Message, batched, run


class Wire:
    """Messages that were sent and wait for a worker, oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Message] = []
        self.away = False
        """Whether the broker takes no messages at present."""
        self.refused = 0
        """How many messages it did not take."""

    def put(self, queue: str, raw: dict[str, Any], **_: object) -> None:
        """Take a message as a broker does; it stands in for kombu's ``Channel._put``."""
        if self.away:
            self.refused += 1
            raise OperationalError("the broker is away")
        self.waiting.append(Message(0, queue, raw))

    def names(self) -> list[str]:
        return [message.task for message in self.waiting]

    def take(self, task_name: str) -> list[Message]:
        """Take all messages of a task."""
        taken = [message for message in self.waiting if message.task == task_name]
        self.waiting = [message for message in self.waiting if message.task != task_name]
        return taken

    def deliver(self, *task_names: str) -> list[Any]:
        """Process the waiting messages of each task as a batch; returns the results, or errors, of the last one's."""
        results: list[Any] = []
        for task_name in task_names:
            results = run_together(self.take(task_name))
        return results

    def deliver_all(self) -> None:
        """Process what waits, and what that causes, each message alone."""
        while self.waiting:
            run(self.waiting.pop(0))


def run_together(messages: Sequence[Message]) -> list[Any]:
    """Process messages of one task as a batch; returns what their tasks returned or raised."""
    with batched(messages):
        return [run(message) for message in messages]


def sagas_of(messages: Sequence[Message]) -> list[str | None]:
    return [message.saga_id for message in messages]


@contextmanager
def one_commit() -> Iterator[None]:
    """Check that the block commits once."""
    counted = Counted(runtime.current().database.engine)
    yield
    assert sum(count for verb, count in counted.verbs.items() if "commit" in verb) == 1
