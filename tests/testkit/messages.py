"""What a test can hold in its hands: the messages that were sent, and the clock."""

from datetime import UTC, datetime, timedelta

from celery.canvas import Signature

ERROR_CALLBACK = "orchestrator.request_compensation"


class Post:
    """Messages that were sent and not delivered. A test delivers them in the order it likes, or never, or twice."""

    def __init__(self) -> None:
        self.waiting: list[Signature] = []
        self.away = False
        """Whether it takes no messages at present."""
        self.revoked: set[str] = set()
        """The tasks that an operator revoked: workers discard whatever has one of these ids."""

    def names(self) -> list[str]:
        return [str(message.task) for message in self.waiting]

    def take(self, task_name: str) -> Signature:
        """Take the oldest message of a task out of the post."""
        message = next(message for message in self.waiting if message.task == task_name)
        self.waiting.remove(message)
        return message

    def revoke(self, task_name: str) -> None:
        """Revoke the oldest message of a task, which waits."""
        self.revoked.add(self.take(task_name).options["task_id"])

    def deliver(self, *task_names: str) -> None:
        """Deliver the oldest message of each of these tasks, in this order."""
        for task_name in task_names:
            run(self.take(task_name))

    def deliver_until(self, task_name: str) -> None:
        """Deliver what waits, oldest first, until a message of this task waits."""
        while task_name not in self.names():
            run(self.waiting.pop(0))

    def deliver_all(self) -> None:
        """Deliver what waits, and what that causes, until nothing waits."""
        while self.waiting:
            message = self.waiting.pop(0)
            if message.options.get("task_id") not in self.revoked:
                run(message)


def run(message: Signature) -> None:
    """Run a task as a worker would; what it raises is the worker's business."""
    message.apply()


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.time

    def catch_up(self) -> None:
        """Stand at the present moment, as the clock of a process of its own does."""
        self.time = datetime.now(UTC)

    def forward(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
