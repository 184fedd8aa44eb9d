"""Process waiting messages of one task together: one transaction, and one commit, for the whole batch.

This has two phases. First the work of the batch is done and committed, and the results are kept here. Then Celery runs
each message as usual, and its task sends the next messages, and returns or raises its result. So results,
acknowledgements and events remain Celery's, and all come after the commit. A message that was not processed in the
first phase has no result, and its task processes it alone; a redelivered one finds in the log that it is done.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from durable_sagas.errors import format_error

logger = logging.getLogger(__name__)

COOLDOWN_SECONDS = 5.0
"""How long a task's messages are processed one by one after a batch of them failed."""


@dataclass(frozen=True)
class BatchedMessage:
    """A message of a batch: its task id and arguments, and when it was sent."""

    task_id: str
    arguments: Mapping[str, Any]
    sent_at: datetime | None = None


Results = Mapping[str | None, Any]
"""The results of the tasks that were executed, by task id."""

Handler = Callable[[Sequence[BatchedMessage]], Results]


class Batches:
    """The batch handlers of one binding's tasks, and the results of the batches under way."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._cooldown_until: dict[str, float] = {}
        self.results: dict[str | None, Any] = {}
        """The results of the batch under way, by task id; each task takes its own, once."""

    def register(self, task_name: str, handler: Handler) -> None:
        """Register the batch handler of a task.

        It returns the results of the messages that it processed. It may raise anything: then it must have processed
        none.
        """
        self._handlers[task_name] = handler

    def is_batchable(self, task_name: str) -> bool:
        """Return whether messages of a task are batched at present."""
        return task_name in self._handlers and time.monotonic() >= self._cooldown_until.get(task_name, 0)

    @contextmanager
    def batch_results(self, task_name: str, messages: Sequence[BatchedMessage]) -> Iterator[None]:
        """Process these messages; inside the block their tasks find the results."""
        results = self._execute(task_name, messages)
        self.results.update(results)
        try:
            yield
        finally:
            for task_id in results:
                self.results.pop(task_id, None)  # the task may not have run: it may have been revoked

    def _execute(self, task_name: str, messages: Sequence[BatchedMessage]) -> Results:
        try:
            return self._handlers[task_name](messages)
        except Exception as error:
            # one of them may be the cause: processed alone, each fails, or not, by itself, and logs its failure
            logger.info(
                f"{len(messages)} messages of {task_name} are processed one by one",
                extra={"reason": format_error(error)},
            )
            self._cooldown_until[task_name] = time.monotonic() + COOLDOWN_SECONDS
            return {}
