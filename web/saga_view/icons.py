"""How states are shown to people: a glyph and a word each, and a class for line and ink. Never colour alone."""

from dataclasses import dataclass

from flask_babel import lazy_gettext as _

from app.saga.definition import Operation, SagaStatus, StepStatus
from app.saga.timeline import Attempt, HistoryEntry


@dataclass(frozen=True)
class Mark:
    """A glyph, the word beside it, and the CSS class of both."""

    glyph: str
    word: str
    style: str


PENDING = Mark("○", _("Pending"), "pending")
RUNNING = Mark("▶", _("Running"), "running")
WAITING = Mark("◷", _("Waiting to retry"), "waiting")
UNKNOWN = Mark("?", _("Unknown"), "unknown")
DONE = Mark("✓", _("Done"), "done")
FAILED = Mark("✕", _("Failed"), "failed")
UNDOING = Mark("↶", _("Undoing"), "undoing")
UNDONE = Mark("↶✓", _("Undone"), "undone")
CLOSED = Mark("⊘", _("Closed: took no effect"), "skipped")
"""Of an action that was refused. The log does not say whether it was asked, and refused, before or after that."""
NOTHING_TO_UNDO = Mark("⊘", _("Nothing to undo"), "skipped")
BY_HAND = Mark("☞", _("Undone by hand"), "undone")
NOT_REACHED = Mark("○", _("Not reached"), "ghost")
NOT_NEEDED = Mark("○", _("Only if needed"), "ghost")
SAID_AGAIN = Mark("□", _("Done before"), "again")
NOTHING_TO_DO = Mark("·", _("Nothing to do (yet)"), "nothing")
TOLD = Mark("◦", _("Told"), "nothing")
STUCK = Mark("⚠", _("Stuck: needs you"), "stuck")

LEGEND = (RUNNING, WAITING, DONE, FAILED, UNDOING, UNDONE, CLOSED, UNKNOWN, STUCK)
"""The marks that every drawing explains."""
SAID = (SAID_AGAIN, NOTHING_TO_DO, TOLD)
"""Those that only a choreography has."""

_OF_SAGA = {
    SagaStatus.PENDING: PENDING,
    SagaStatus.RUNNING: RUNNING,
    SagaStatus.COMPLETED: DONE,
    SagaStatus.COMPENSATING: UNDOING,
    SagaStatus.COMPENSATED: UNDONE,
    SagaStatus.STUCK: STUCK,
}
_OF_ACTION = {
    StepStatus.RUNNING: RUNNING,
    StepStatus.RETRYING: WAITING,
    StepStatus.CLOSING: UNKNOWN,  # what its gateway did is being voided
    StepStatus.COMPLETED: DONE,
    StepStatus.FAILED: FAILED,
    StepStatus.SKIPPED: CLOSED,
}
_OF_COMPENSATION = {
    **_OF_ACTION,
    StepStatus.RUNNING: UNDOING,
    StepStatus.COMPLETED: UNDONE,
    StepStatus.FAILED: STUCK,
    StepStatus.SKIPPED: NOTHING_TO_UNDO,
    StepStatus.BY_HAND: BY_HAND,
}


def of_saga(status: SagaStatus) -> Mark:
    """Return how a saga's status is shown."""
    return _OF_SAGA[SagaStatus(status)]


def of_operation(logged: HistoryEntry) -> Mark:
    """Return how the status of a step's operation is shown."""
    if logged.nothing_to_undo:
        return NOTHING_TO_UNDO
    marks = _OF_ACTION if logged.operation is Operation.ACTION else _OF_COMPENSATION
    return marks[logged.status]


def of_attempt(attempt: Attempt) -> Mark:
    """Return how the outcome of one attempt is shown: one that failed is only failed, though all of them are stuck."""
    if attempt.outcome == StepStatus.FAILED:
        return FAILED
    if attempt.nothing_to_undo:
        return NOTHING_TO_UNDO
    marks = _OF_ACTION if attempt.operation is Operation.ACTION else _OF_COMPENSATION
    return marks[StepStatus(attempt.outcome)]


def under_way(operation: Operation) -> Mark:
    """Return how an operation is shown that is being tried."""
    return RUNNING if operation is Operation.ACTION else UNDOING
