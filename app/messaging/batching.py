"""Messages of one task that wait together are done together: one transaction, and one commit, for all of them.

It happens in two phases. First the work of all is done and committed, and its outcomes are kept here. Then Celery runs
each message as ever, and its task sends what follows, and returns or raises the outcome that waits for it: so results,
acks and events stay Celery's, and all of it comes after the commit. A message whose work could not be done in the first
phase has no outcome, and its task does the work alone; one that is delivered again finds in the log that it was done.
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
"""How long a task's messages are done one by one after they could not be done together."""


@dataclass(frozen=True)
class Wanted:
    """What a message asks of its task."""

    task_id: str
    arguments: Mapping[str, Any]


Outcomes = Mapping[str | None, Any]
"""What the tasks of messages return or, if it is an exception, raise; by task id. None stands for nothing done."""

Do = Callable[[Sequence[Wanted]], Outcomes]

_do: dict[str, Do] = {}
_alone_until: dict[str, float] = {}
_outcomes: dict[str | None, Any] = {}


def register(task_name: str, do: Do) -> None:
    """Have messages of a task done by ``do`` if several wait.

    It returns the outcomes of those that it did. It may raise anything: then it must have done none.
    """
    _do[task_name] = do


def possible(task_name: str) -> bool:
    """Tell whether messages of a task are to be gathered at present."""
    return task_name in _do and time.monotonic() >= _alone_until.get(task_name, 0)


@contextmanager
def done(task_name: str, wanted: Sequence[Wanted]) -> Iterator[None]:
    """Do what these messages ask for; in the block their tasks find the outcomes."""
    outcomes = _attempt(task_name, wanted)
    _outcomes.update(outcomes)
    try:
        yield
    finally:
        for task_id in outcomes:
            _outcomes.pop(task_id, None)  # Celery need not have asked: it may have been told to revoke the task


def outcome_of(task_id: str | None) -> Any:
    """Return, once, what the task of this id has already done, or None if it is still to do. Raises what it raised."""
    outcome = _outcomes.pop(task_id, None)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _attempt(task_name: str, wanted: Sequence[Wanted]) -> Outcomes:
    try:
        return _do[task_name](wanted)
    except Exception as error:
        # one of them may be the cause: each alone fails, or not, by itself, and says so where it must be said
        logger.info(f"{len(wanted)} messages of {task_name} are done one by one", extra={"reason": format_error(error)})
        _alone_until[task_name] = time.monotonic() + ALONE_SECONDS
        return {}
