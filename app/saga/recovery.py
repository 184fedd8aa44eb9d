"""The sweep: re-drive sagas whose messages were lost, or whose worker stopped, from the log.

It is idempotent, and safe to run concurrently: rows are claimed with ``FOR UPDATE SKIP LOCKED`` (SQLite has one writer
at a time), and a claim is a lease, because it postpones the row's next check. The index that it reads holds only
unfinished sagas.
"""

import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import runtime
from app.celery import app
from app.errors import Conflict, DatabaseUnavailable
from app.events import resend_outbox
from app.observability import tracing
from app.saga import registry, saga_log, signals, state_machine
from app.saga.definition import ACTIVE, FORWARD
from app.saga.models import SagaInstance, Sweep
from app.saga.outage import RECOVERY, Outages, note_outages, note_time
from app.saga.registry import Driver
from app.saga.saga_log import SagaRecord
from app.saga.signals import SignalType

logger = logging.getLogger(__name__)

BATCH = 100

LOCKED_FOR_SECONDS = 30
"""A saga that has been due this long and is locked is reported: a transaction of the shop itself ends sooner."""

LATE_SECONDS = 60.0
"""Pages and alerts report a sweep that is later than this: twice the longest ``sweep_seconds``.

``deploy/prometheus`` has the same number.
"""


@dataclass(frozen=True)
class SweepResult:
    """The result of one sweep: sagas re-driven, sagas timed out, events sent again to subscribers.

    ``locked`` counts the sagas that have long been due and whose rows another transaction holds locked.
    """

    driven: int
    timed_out: int
    resent: int
    locked: int = 0


def sweep() -> SweepResult:
    """Re-drive every saga that has made no progress for too long, at most one batch.

    Each saga is claimed, and then driven, in a transaction of its own: one that cannot be driven delays no other.
    """
    database = runtime.current().database
    with database.transaction() as session:
        outages = note_outages(session)
        # before claiming: another sweep waits for this row, and then sees no saga claimed by this one
        note_time(session, RECOVERY, runtime.current().now())
        claimed = _claim(session)
        locked = _locked(session) if len(claimed) < BATCH else 0  # after a full batch, unlocked sagas may be due
        resent = resend_outbox(session, runtime.current().now(), limit=BATCH)
    outcomes = [_drive(saga_id, outages) for saga_id in claimed]
    if len(claimed) == BATCH:
        with database.transaction() as session:  # else the time that a full batch takes would look like an outage
            note_time(session, RECOVERY, runtime.current().now())
    return SweepResult(outcomes.count("driven"), outcomes.count("timed out"), resent, locked)


def sweep_if_available() -> SweepResult | None:
    """Sweep; if the database is unavailable, log that and return None. The next sweep tries again."""
    try:
        return sweep()
    except DatabaseUnavailable as fault:
        _log_missed_sweep(fault)
        return None


def _log_missed_sweep(fault: DatabaseUnavailable) -> None:
    logger.warning("no sweep: the database does not answer, the next one tries again", extra={"reason": fault})


@app.task(name="orchestrator.sweep")
def run_sweep() -> dict[str, int] | None:
    """Sweep once, unless another sweep has just run. ``celery beat`` sends this task.

    Its messages pile up while no worker takes them, and several schedulers may run. They carry no expiry, because that
    would be checked by another machine's clock than the sender's.
    """
    try:
        if _swept_just_now():
            return None
    except DatabaseUnavailable as fault:
        _log_missed_sweep(fault)
        return None
    swept = sweep_if_available()
    return asdict(swept) if swept else None


def last_swept() -> datetime | None:
    """Return the time of the last sweep, or None if there has been none."""
    with runtime.current().database.reading() as session:
        return session.scalar(select(Sweep.swept_at).where(Sweep.name == RECOVERY))


def is_late(swept_at: datetime | None) -> bool:
    """Return whether the last sweep is so long ago that pages and alerts should report it."""
    here = runtime.current()
    return swept_at is None or here.now() - swept_at > timedelta(seconds=LATE_SECONDS)


def _swept_just_now() -> bool:
    here = runtime.current()
    swept_at = last_swept()
    # half an interval, because the scheduler is not exact; a time in the future is from before the clock was set back
    interval = timedelta(seconds=here.settings.sweep_seconds / 2)
    return swept_at is not None and abs(here.now() - swept_at) < interval


def _claim(session: Session) -> list[str]:
    """Lease sagas that are due, so that no other sweep checks them for a while."""
    now = runtime.current().now()
    # no condition on the status: the planner might use a status index for it, and sort all unfinished sagas
    due = select(SagaInstance).where(SagaInstance.wake_at <= now).order_by(SagaInstance.wake_at)
    sagas = session.scalars(due.limit(BATCH).with_for_update(skip_locked=True)).all()
    for saga in sagas:
        saga.redrives += 1
        saga.wake_at = state_machine.next_check_at(saga, now)
    return [saga.id for saga in sagas]


def _locked(session: Session) -> int:
    """Return how many sagas are long due although all unlocked ones were claimed; log the first of them."""
    long_ago = runtime.current().now() - timedelta(seconds=LOCKED_FOR_SECONDS)
    locked = session.scalars(select(SagaInstance.id).where(SagaInstance.wake_at <= long_ago).limit(BATCH)).all()
    if locked:
        logger.warning(
            f"{len(locked)} sagas cannot be re-driven: they have been due for more than {LOCKED_FOR_SECONDS} s, "
            "and another transaction holds their rows locked",
            extra={"saga_id": locked[0]},
        )
    return len(locked)


def _drive(saga_id: str, outages: Outages) -> str:
    here = runtime.current()
    try:
        with here.database.transaction() as session:
            record = saga_log.lock(session, saga_id)
            saga = record.saga
            driver = registry.driver_of(saga)
            if saga.status not in ACTIVE:
                saga.wake_at = None
                saga_log.write(session, [record])
                return "settled meanwhile"
            if driver is registry.OTHER_VERSION:
                driver.drive(session, record)
                saga_log.write(session, [record])
                return "left"
            overdue = saga.deadline_at is not None and saga.deadline_at <= here.now()
            if overdue and outages.suspend(saga, here.now()):
                # its service may have waited for a connection: the deadline restarts when the saga is re-driven
                logger.warning("deadline passed during an outage", extra={"saga_id": saga_id})
                state_machine.suspend_deadline(saga, here.now())
                overdue = False
            kind = SignalType.SAGA_OVERDUE if overdue else SignalType.SAGA_REDRIVEN
            with tracing.driving_on(session, saga, kind):
                signals.send_saga(kind, saga)
                if not _cancelled(session, driver, record):
                    (driver.time_out if overdue else driver.drive)(session, record)
            saga_log.write(session, [record])
    except DatabaseUnavailable as fault:
        reason = {"saga_id": saga_id, "reason": fault}
        logger.warning("saga could not be re-driven, the next sweep tries again", extra=reason)
        return "failed"
    except Exception:
        # one saga's failure must not keep the sweep from the others
        logger.exception("saga could not be re-driven, the next sweep tries again", extra={"saga_id": saga_id})
        return "failed"
    return "timed out" if overdue else "driven"


def _cancelled(session: Session, driver: Driver, record: SagaRecord) -> bool:
    """Execute a cancellation recorded by ``OtherVersion.cancel``; return whether there was one to execute."""
    if record.saga.cancel_requested_at is None or record.saga.status not in FORWARD:
        return False
    try:
        return driver.cancel(session, record)
    except Conflict:
        return False  # the request came too late
