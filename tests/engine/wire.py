"""What crosses the wire, in a test's hands: messages as the broker has them, and workers that run one or several."""

from collections.abc import Sequence
from typing import Any

from kombu.exceptions import OperationalError

from app.sagas import sagas
from durable_sagas.messaging.batching import BatchedMessage
from tests.simulation.messages import Message, run


class Wire:
    """Messages that were sent and wait for a worker, oldest first."""

    def __init__(self) -> None:
        self.waiting: list[Message] = []
        self.away = False
        """Whether the broker takes no messages at present."""
        self.refused = 0
        """How many messages it did not take."""
        self._count = 0

    def put(self, _queue: str, raw: dict[str, Any], **_: object) -> None:
        """Take a message as a broker does; it stands in for kombu's ``Channel._put``."""
        if self.away:
            self.refused += 1
            raise OperationalError("the broker is away")
        self._count += 1
        self.waiting.append(Message(self._count, raw))

    def names(self) -> list[str]:
        return [message.task for message in self.waiting]

    def take(self, task_name: str) -> list[Message]:
        """Take all messages of a task."""
        taken = [message for message in self.waiting if message.task == task_name]
        self.waiting = [message for message in self.waiting if message.task != task_name]
        return taken

    def deliver(self, task_name: str) -> list[Any]:
        """Have the messages of a task that wait done together; returns what their tasks returned or raised."""
        return run_together(self.take(task_name))

    def deliver_all(self) -> None:
        """Have what waits done, and what that causes, each message alone."""
        while self.waiting:
            run(self.waiting.pop(0))


def id_of(message: Message) -> str:
    """Return the id of a message's task."""
    return str(message.raw["headers"]["id"])


def parent_of(message: Message) -> str | None:
    """Return the id of the task that sent a message."""
    parent: str | None = message.raw["headers"]["parent_id"]
    return parent


def wanted(messages: Sequence[Message]) -> list[BatchedMessage]:
    """Return what messages ask of their tasks."""
    return [BatchedMessage(id_of(message), message.arguments) for message in messages]


def run_together(messages: Sequence[Message]) -> list[Any]:
    """Do what a worker does with messages of one task that it has gathered."""
    with sagas.engine.batches.batch_results(messages[0].task, wanted(messages)):
        return [run(message) for message in messages]
