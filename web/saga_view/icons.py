"""Icons of statuses: a glyph, a word and a CSS class for line and ink, so that none is shown by colour alone."""

from dataclasses import dataclass

from flask_babel import lazy_gettext as _

from durable_sagas.definition import Operation, SagaStatus, StepStatus
from workflows.read_side.saga_history import HistoryEntry, LoggedAttempt


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
COMPENSATING = Mark("↶", _("Compensating"), "undoing")
COMPENSATED = Mark("↶✓", _("Compensated"), "undone")
CLOSED = Mark("⊘", _("Closed: took no effect"), "skipped")
"""The icon of a blocked action. The log does not show whether it was attempted and rejected before or after that."""
NOTHING_TO_COMPENSATE = Mark("⊘", _("Nothing to compensate"), "skipped")
RESOLVED_MANUALLY = Mark("☞", _("Resolved manually"), "undone")
NOT_REACHED = Mark("○", _("Not reached"), "ghost")
NOT_NEEDED = Mark("○", _("Only if needed"), "ghost")
ALREADY_DONE = Mark("□", _("Already done"), "again")
NOTHING_TO_DO = Mark("·", _("Nothing to do (yet)"), "nothing")
NOTIFIED = Mark("◦", _("Notified"), "nothing")
STUCK = Mark("⚠", _("Stuck: needs you"), "stuck")

LEGEND = (RUNNING, WAITING, DONE, FAILED, COMPENSATING, COMPENSATED, CLOSED, UNKNOWN, STUCK)
"""The legend of every diagram."""
DELIVERY_LEGEND = (ALREADY_DONE, NOTHING_TO_DO, NOTIFIED)
"""The additional legend of choreographed sagas."""

_OF_SAGA = {
    SagaStatus.PENDING: PENDING,
    SagaStatus.RUNNING: RUNNING,
    SagaStatus.COMPLETED: DONE,
    SagaStatus.COMPENSATING: COMPENSATING,
    SagaStatus.COMPENSATED: COMPENSATED,
    SagaStatus.STUCK: STUCK,
}
_OF_ACTION = {
    StepStatus.RUNNING: RUNNING,
    StepStatus.RETRYING: WAITING,
    StepStatus.CLOSING: UNKNOWN,  # its gateway call, whose outcome is unknown, is being voided
    StepStatus.COMPLETED: DONE,
    StepStatus.FAILED: FAILED,
    StepStatus.SKIPPED: CLOSED,
}
_OF_COMPENSATION = {
    **_OF_ACTION,
    StepStatus.RUNNING: COMPENSATING,
    StepStatus.COMPLETED: COMPENSATED,
    StepStatus.FAILED: STUCK,
    StepStatus.SKIPPED: NOTHING_TO_COMPENSATE,
    StepStatus.BY_HAND: RESOLVED_MANUALLY,
}


def of_saga(status: SagaStatus) -> Mark:
    """Return the icon of a saga's status."""
    return _OF_SAGA[SagaStatus(status)]


def of_operation(logged: HistoryEntry) -> Mark:
    """Return the icon of an operation's status."""
    return _mark(logged, logged.status)


def of_attempt(attempt: LoggedAttempt) -> Mark:
    """Return the icon of one attempt's outcome: a failed one is Failed, even if the operation as a whole is stuck."""
    return FAILED if attempt.outcome == StepStatus.FAILED else _mark(attempt, StepStatus(attempt.outcome))


def _mark(done: HistoryEntry | LoggedAttempt, status: StepStatus) -> Mark:
    if done.nothing_to_undo:
        return NOTHING_TO_COMPENSATE
    return (_OF_ACTION if done.operation is Operation.ACTION else _OF_COMPENSATION)[status]


def running(operation: Operation) -> Mark:
    """Return the icon of an operation that is being attempted."""
    return RUNNING if operation is Operation.ACTION else COMPENSATING
