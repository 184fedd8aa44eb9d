"""Format a saga's log as a text table."""

from collections.abc import Iterable, Iterator

from workflows.read_side.saga_history import LoggedAttempt


def table(attempts: Iterable[LoggedAttempt]) -> Iterator[str]:
    """Yield a header and one line per attempt."""
    yield f"{'step':<18}{'operation':<14}{'outcome':<11}{'attempt':>7}{'ms':>9}"
    for attempt in attempts:
        milliseconds = "" if attempt.milliseconds is None else f"{attempt.milliseconds:.1f}"
        line = f"{attempt.step:<18}{attempt.operation:<14}{attempt.outcome:<11}{attempt.number:>7}{milliseconds:>9}"
        remark = "found nothing to compensate" if attempt.nothing_to_undo else attempt.error
        yield f"{line}  {remark}" if remark else line
