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
from typing import Any

from app.errors import format_error

logger = logging.getLogger(__name__)

ALONE_SECONDS = 5.0
"""How long a task's messages are processed one by one after a batch of them failed."""


@dataclass(frozen=True)
class Wanted:
    """A message of a batch: its task id and arguments."""

    task_id: str
    arguments: Mapping[str, Any]


Outcomes = Mapping[str | None, Any]
"""The tasks' return values, or exceptions to raise, by task id. None means that nothing was done."""

Do = Callable[[Sequence[Wanted]], Outcomes]

_do: dict[str, Do] = {}
_alone_until: dict[str, float] = {}
_outcomes: dict[str | None, Any] = {}


def register(task_name: str, do: Do) -> None:
    """Register the batch handler of a task.

    It returns the results of the messages that it processed. It may raise anything: then it must have processed none.
    """
    _do[task_name] = do


def possible(task_name: str) -> bool:
    """Return whether messages of a task are batched at present."""
    return task_name in _do and time.monotonic() >= _alone_until.get(task_name, 0)


@contextmanager
def done(task_name: str, wanted: Sequence[Wanted]) -> Iterator[None]:
    """Process these messages; inside the block their tasks find the results."""
    outcomes = _attempt(task_name, wanted)
    _outcomes.update(outcomes)
    try:
        yield
    finally:
        for task_id in outcomes:
            _outcomes.pop(task_id, None)  # the task may not have run: it may have been revoked


def outcome_of(task_id: str | None) -> Any:
    """Return, once, the result of a task processed in a batch, or None if there is none. Raises its exception."""
    outcome = _outcomes.pop(task_id, None)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _attempt(task_name: str, wanted: Sequence[Wanted]) -> Outcomes:
    try:
        return _do[task_name](wanted)
    except Exception as error:
        # one of them may be the cause: processed alone, each fails, or not, by itself, and logs its failure
        logger.info(f"{len(wanted)} messages of {task_name} are done one by one", extra={"reason": format_error(error)})
        _alone_until[task_name] = time.monotonic() + ALONE_SECONDS
        return {}
