"""The sweep: re-drive sagas whose messages were lost, or whose worker stopped, from the log.

It is idempotent, and safe to run concurrently: rows are claimed with ``FOR UPDATE SKIP LOCKED`` (SQLite has one writer
at a time), and a claim is a lease, because it postpones the row's next check. The index that it reads holds only
unfinished sagas.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from durable_sagas import saga_log
from durable_sagas.definition import ACTIVE, FORWARD
from durable_sagas.engine import Engine
from durable_sagas.errors import Conflict, DatabaseUnavailable
from durable_sagas.events import Events
from durable_sagas.models import SagaInstance, Sweep
from durable_sagas.other_versions import OtherVersion
from durable_sagas.outages import RECOVERY, Outages, note_outages, note_time
from durable_sagas.registry import Driver, driver_of
from durable_sagas.saga_log import SagaRecord
from durable_sagas.signals import SignalType

logger = logging.getLogger(__name__)

BATCH = 100

LOCKED_FOR_SECONDS = 30
"""A saga that has been due this long and is locked is reported: the engine's own transactions end sooner."""

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


class Recovery:
    """The sweep of one binding."""

    def __init__(self, engine: Engine, events: Events) -> None:
        self.engine = engine
        self.events = events

    def sweep(self) -> SweepResult:
        """Re-drive every saga that has made no progress for too long, at most one batch.

        Each saga is claimed, and then driven, in a transaction of its own: one that cannot be driven delays no other.
        """
        database, now = self.engine.database, self.engine.database.now
        with database.transaction() as session:
            outages = note_outages(session, self.engine)
            # before claiming: another sweep waits for this row, and then sees no saga claimed by this one
            note_time(session, RECOVERY, now())
            claimed = self._claim(session)
            # after a full batch, unlocked sagas may be due
            locked = self._locked(session) if len(claimed) < BATCH else 0
            resent = self.events.resend_outbox(session, now(), limit=BATCH)
        outcomes = [self._drive(saga_id, outages) for saga_id in claimed]
        if len(claimed) == BATCH:
            with database.transaction() as session:  # else the time that a full batch takes would look like an outage
                note_time(session, RECOVERY, now())
        return SweepResult(outcomes.count("driven"), outcomes.count("timed out"), resent, locked)

    def sweep_if_available(self, *, once_per_interval: bool = False) -> SweepResult | None:
        """Sweep; if the database is unavailable, log that and return None. The next sweep tries again.

        With ``once_per_interval``, return None if another sweep has just run: messages that request one pile up while
        no worker takes them, and several schedulers may run. They carry no expiry, because that would be checked by
        another machine's clock than the sender's.
        """
        try:
            return None if once_per_interval and self._swept_just_now() else self.sweep()
        except DatabaseUnavailable as fault:
            logger.warning("no sweep: the database does not answer, the next one tries again", extra={"reason": fault})
            return None

    def last_swept(self) -> datetime | None:
        """Return the time of the last sweep, or None if there has been none."""
        with self.engine.database.reading() as session:
            return session.scalar(select(Sweep.swept_at).where(Sweep.name == RECOVERY))

    def is_late(self, swept_at: datetime | None) -> bool:
        """Return whether the last sweep is so long ago that pages and alerts should report it."""
        return swept_at is None or self.engine.database.now() - swept_at > timedelta(seconds=LATE_SECONDS)

    def _swept_just_now(self) -> bool:
        swept_at = self.last_swept()
        # half an interval, because the scheduler is not exact; a time in the future is from before the clock was set
        # back
        interval = timedelta(seconds=self.engine.options.sweep_seconds / 2)
        return swept_at is not None and abs(self.engine.database.now() - swept_at) < interval

    def _claim(self, session: Session) -> list[str]:
        """Lease sagas that are due, so that no other sweep checks them for a while."""
        now = self.engine.database.now()
        # no condition on the status: the planner might use a status index for it, and sort all unfinished sagas
        due = select(SagaInstance).where(SagaInstance.wake_at <= now).order_by(SagaInstance.wake_at)
        sagas = session.scalars(due.limit(BATCH).with_for_update(skip_locked=True)).all()
        for saga in sagas:
            saga.redrives += 1
            saga.wake_at = self.engine.state_machine.next_check_at(saga, now)
        return [saga.id for saga in sagas]

    def _locked(self, session: Session) -> int:
        """Return how many sagas are long due although all unlocked ones were claimed; log the first of them."""
        long_ago = self.engine.database.now() - timedelta(seconds=LOCKED_FOR_SECONDS)
        locked = session.scalars(select(SagaInstance.id).where(SagaInstance.wake_at <= long_ago).limit(BATCH)).all()
        if locked:
            logger.warning(
                f"{len(locked)} sagas cannot be re-driven: they have been due for more than {LOCKED_FOR_SECONDS} s, "
                "and another transaction holds their rows locked",
                extra={"saga_id": locked[0]},
            )
        return len(locked)

    def _drive(self, saga_id: str, outages: Outages) -> str:
        try:
            with self.engine.database.transaction() as session:
                record = saga_log.lock(session, saga_id)
                outcome = self._drive_locked(session, record, outages)
                saga_log.write(session, [record])
                return outcome
        except DatabaseUnavailable as fault:
            reason = {"saga_id": saga_id, "reason": fault}
            logger.warning("saga could not be re-driven, the next sweep tries again", extra=reason)
            return "failed"
        except Exception:
            # one saga's failure must not keep the sweep from the others
            logger.exception("saga could not be re-driven, the next sweep tries again", extra={"saga_id": saga_id})
            return "failed"

    def _drive_locked(self, session: Session, record: SagaRecord, outages: Outages) -> str:
        saga, now = record.saga, self.engine.database.now()
        if saga.status not in ACTIVE:
            saga.wake_at = None
            return "settled meanwhile"
        driver = driver_of(self.engine, saga)
        if isinstance(driver, OtherVersion):
            driver.drive(session, record)
            return "left"
        overdue = saga.deadline_at is not None and saga.deadline_at <= now
        if overdue and outages.suspend(saga, now):
            # its service may have waited for a connection: the deadline restarts when the saga is re-driven
            logger.warning("deadline passed during an outage", extra={"saga_id": saga.id})
            self.engine.state_machine.suspend_deadline(saga, now)
            overdue = False
        kind = SignalType.SAGA_OVERDUE if overdue else SignalType.SAGA_REDRIVEN
        with self.engine.tracer.continue_saga_span(session, saga, kind):
            self.engine.signals.send_saga(kind, saga)
            if not _cancelled(session, driver, record):
                (driver.time_out if overdue else driver.drive)(session, record)
        return "timed out" if overdue else "driven"


def _cancelled(session: Session, driver: Driver, record: SagaRecord) -> bool:
    """Execute a cancellation recorded by ``OtherVersion.cancel``; return whether there was one to execute."""
    if record.saga.cancel_requested_at is None or record.saga.status not in FORWARD:
        return False
    try:
        return driver.cancel(session, record)
    except Conflict:
        return False  # the request came too late
