"""The sweep: re-drive sagas whose messages were lost, or whose worker stopped, from the log.

It is idempotent, and safe to run concurrently: rows are claimed with ``FOR UPDATE SKIP LOCKED`` (SQLite has one writer
at a time), and a claim is a lease, because it postpones the row's next check. The index that it reads holds only
unfinished sagas.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from durable_sagas import saga_log
from durable_sagas.decisions import MAX_DOUBLINGS, Check, QueueState, decide_check, next_look_at, patience
from durable_sagas.definition import ACTIVE, FORWARD
from durable_sagas.engine import Engine
from durable_sagas.errors import Conflict, DatabaseUnavailable
from durable_sagas.events import Events
from durable_sagas.models import SagaInstance, Sweep
from durable_sagas.other_versions import OtherVersion
from durable_sagas.outages import RECOVERY, Outages, note_outages, note_time
from durable_sagas.queue_progress import progress_of, prune, read_reports
from durable_sagas.registry import Driver, driver_of
from durable_sagas.saga_log import SagaRecord
from durable_sagas.signals import SignalType

logger = logging.getLogger(__name__)

BATCH = 100
"""How many sagas a sweep drives at most."""

LOOKS = 1000
"""How many sagas a sweep looks at at most: most of those that wait in a long queue wait their turn."""

LOCKED_FOR_SECONDS = 30
"""A saga that has been due this long and is locked is reported: the engine's own transactions end sooner."""

FIRST_PROBE = timedelta(seconds=2)
"""How long a queue in which something waits may be silent before one of its messages is sent again."""

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


@dataclass(frozen=True)
class Claim:
    """A saga that a sweep has leased, and what it found; None if it waits in no queue whose progress is known."""

    saga_id: str
    check: Check | None
    queue: str | None


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
            reports = read_reports(session)
            states = {queue: progress_of(rows, outages.silent_since, now()) for queue, rows in reports.items()}
            queues = {queue: state for queue, state in states.items() if state}
            # before claiming: another sweep waits for this row, and then sees no saga claimed by this one
            note_time(session, RECOVERY, now())
            claimed, is_complete = self._claim(session, queues)
            locked = self._locked(session) if is_complete else 0
            resent = self.events.resend_outbox(session, now(), limit=BATCH)
            prune(session, reports, now())
        outcomes = [self._drive(claim, outages, queues) for claim in claimed]
        if len(claimed) >= BATCH:
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

    def _claim(self, session: Session, queues: Mapping[str, QueueState]) -> tuple[list[Claim], bool]:
        """Lease sagas that something is to be done with, so that no other sweep checks them for a while.

        Return them, and whether none is left that is due and not locked.
        """
        now = self.engine.database.now()
        # no condition on the status: the planner might use a status index for it, and sort all unfinished sagas
        due = _select_locked(session, SagaInstance.wake_at, LOOKS, SagaInstance.wake_at <= now)
        found = [(saga, self._look(saga, queues, now)) for saga in due]
        for queue, state in queues.items():
            waiting = (SagaInstance.queue == queue, SagaInstance.wake_at > now)
            if state.served_until:
                overtaken = _is_overtaken(state.served_until)
                lost = _select_locked(session, SagaInstance.ready_at, BATCH, *waiting, overtaken)
                found += [(saga, self._look(saga, queues, now)) for saga in lost]
            found += [(saga, Check.PROBE) for saga in self._probe(session, queue, state, now)]
        claimed: dict[str, Claim] = {}
        for saga, check in found:
            if check is Check.WAIT:
                self._let_wait(saga, queues, now)
            elif saga.id not in claimed and len(claimed) < BATCH:
                claimed[saga.id] = Claim(saga.id, check, saga.queue)
                saga.redrives += 1
                if check:
                    saga.queue = None  # else the next sweep would find it in its queue again
                saga.wake_at = self.engine.state_machine.next_check_at(saga, now)
        return list(claimed.values()), len(due) < LOOKS and len(claimed) < BATCH

    def _probe(self, session: Session, queue: str, state: QueueState, now: datetime) -> Sequence[SagaInstance]:
        """Return the saga to send again to a silent queue, to learn whether its messages are lost or wait.

        What is sent to a queue must not grow with what waits in it. So only the oldest is sent; others follow, ever
        more slowly, for as long as nothing is served; and once something is, what was sent will have its turn.
        """
        if now - state.silent_since < FIRST_PROBE:
            return []
        waiting = (SagaInstance.queue == queue, SagaInstance.ready_at <= now, SagaInstance.wake_at > now)
        oldest = _select_locked(session, SagaInstance.ready_at, 1, *waiting)
        for saga in oldest:
            sent = select(func.count(), func.max(SagaInstance.ready_at)).where(*waiting, SagaInstance.redrives > 0)
            probes, last_sent = session.execute(sent).one()
            longest = 0.8 * self._timeout(saga)
            if not probes:
                is_due = saga.ready_at is not None and now - max(saga.ready_at, state.silent_since) >= FIRST_PROBE
            elif last_sent and last_sent > state.silent_since:
                is_due = now - last_sent >= min(FIRST_PROBE * 2 ** min(probes, 10), longest)
            else:
                is_due = now - state.silent_since >= longest
            if is_due:
                return oldest
        return []

    def _timeout(self, saga: SagaInstance) -> timedelta:
        """Return the time that a service has for what a saga waits for; the default if its row cannot be read."""
        try:
            return timedelta(seconds=driver_of(self.engine, saga).timeout(saga))
        except Exception:
            # logged when the saga is driven; here it must not keep the sweep from the other sagas
            return timedelta(seconds=self.engine.options.step_timeout_seconds)

    def _let_wait(self, saga: SagaInstance, queues: Mapping[str, QueueState], now: datetime) -> None:
        """Look at a saga again when it could have timed out."""
        if saga.queue in queues and saga.queue and saga.ready_at:
            timeout = self._timeout(saga)
            saga.wake_at = next_look_at(saga.ready_at, saga.deadline_at, timeout, queues[saga.queue], now)

    def _look(self, saga: SagaInstance, queues: Mapping[str, QueueState], now: datetime) -> Check | None:
        """Return what to do with a saga that waits in a queue; None if it does not, or if nothing is known of it."""
        if saga.queue is None or saga.queue not in queues or saga.ready_at is None or saga.status not in ACTIVE:
            return None
        timeout = self._timeout(saga)
        return decide_check(saga.ready_at, saga.redrives, saga.deadline_at, timeout, queues[saga.queue], now)

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

    def _drive(self, claim: Claim, outages: Outages, queues: Mapping[str, QueueState]) -> str:
        try:
            with self.engine.database.transaction() as session:
                record = saga_log.lock(session, claim.saga_id)
                outcome = self._drive_locked(session, record, claim, outages, queues)
                saga_log.write(session, [record])
                return outcome
        except DatabaseUnavailable as fault:
            reason = {"saga_id": claim.saga_id, "reason": fault}
            logger.warning("saga could not be re-driven, the next sweep tries again", extra=reason)
            return "failed"
        except Exception:
            # one saga's failure must not keep the sweep from the others
            logger.exception(
                "saga could not be re-driven, the next sweep tries again", extra={"saga_id": claim.saga_id}
            )
            return "failed"

    def _drive_locked(
        self, session: Session, record: SagaRecord, claim: Claim, outages: Outages, queues: Mapping[str, QueueState]
    ) -> str:
        saga, now = record.saga, self.engine.database.now()
        if saga.status not in ACTIVE:
            saga.wake_at = saga.queue = saga.ready_at = None
            return "settled meanwhile"
        if claim.check and saga.queue is not None:
            return "went on meanwhile"
        saga.queue = saga.queue or claim.queue
        driver = driver_of(self.engine, saga)
        if isinstance(driver, OtherVersion):
            driver.drive(session, record)
            saga.queue = saga.ready_at = None  # it goes by time, or it would be claimed again by every sweep
            return "left"
        check = claim.check or self._by_time(saga, outages, now)
        if check is not Check.TIME_OUT or claim.check:
            check = driver.check(session, record, queues, check)
        if check is Check.WAIT:
            saga.redrives -= 1
            self._let_wait(saga, queues, now)
            return "waits"
        overdue = check is Check.TIME_OUT
        kind = SignalType.SAGA_OVERDUE if overdue else SignalType.SAGA_REDRIVEN
        with self.engine.tracer.continue_saga_span(session, saga, kind):
            self.engine.signals.send_saga(kind, saga)
            if not _cancelled(session, driver, record):
                (driver.time_out if overdue else driver.drive)(session, record)
        if claim.check:
            self._let_wait(saga, queues, now)
        return "timed out" if overdue else "driven"

    def _by_time(self, saga: SagaInstance, outages: Outages, now: datetime) -> Check:
        """Return what to do with a saga that waits in no queue, or in one without reported progress."""
        if saga.deadline_at is None or saga.deadline_at > now:
            return Check.REDRIVE
        if saga.queue is None and saga.ready_at is not None:
            return Check.REDRIVE  # an earlier sweep claimed it and did not drive it: it may have waited its turn
        if outages.suspend(saga, now):
            # its service may have waited for a connection: the deadline restarts when the saga is re-driven
            logger.warning("deadline passed during an outage", extra={"saga_id": saga.id})
            self.engine.state_machine.suspend_deadline(saga, now)
            return Check.REDRIVE
        return Check.TIME_OUT


def _select_locked(
    session: Session, order: InstrumentedAttribute[datetime | None], limit: int, *conditions: ColumnElement[bool]
) -> Sequence[SagaInstance]:
    """Return the first sagas in an order that meet conditions, locked; without those that others hold locked."""
    query = select(SagaInstance).where(*conditions).order_by(order).limit(limit)
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def _is_overtaken(served_until: datetime) -> ColumnElement[bool]:
    """Return the condition by which ``decide_check`` finds that a saga's message is lost."""
    within = [
        and_(SagaInstance.redrives == redrives, SagaInstance.ready_at < served_until - patience(redrives))
        for redrives in range(MAX_DOUBLINGS)
    ]
    last = served_until - patience(MAX_DOUBLINGS)
    often = and_(SagaInstance.redrives >= MAX_DOUBLINGS, SagaInstance.ready_at < last)
    return and_(SagaInstance.ready_at < served_until, or_(*within, often))


def _cancelled(session: Session, driver: Driver, record: SagaRecord) -> bool:
    """Execute a cancellation recorded by ``OtherVersion.cancel``; return whether there was one to execute."""
    if record.saga.cancel_requested_at is None or record.saga.status not in FORWARD:
        return False
    try:
        return driver.cancel(session, record)
    except Conflict:
        return False  # the request came too late
