"""Which deadlines are suspended, because it is not the service that is late.

A deadline says that a worker did not finish its task in time. One without the task's message is not late: while the
broker does not take a saga's message from us, that saga's clock stands still. What follows in a chain that is under way
is sent by the task before it: there the clock goes on.

Neither is a worker late that waits for the database. No deadline passes while the database refuses connections, nor
for an interval without any sweep (the host, the database or every scheduler was down), nor for a while after either,
because those who were refused try again less and less often.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import literal_column, select
from sqlalchemy.orm import Session

from app import runtime
from app.database import dialect_of, insert_if_absent
from app.errors import DatabaseUnavailable
from app.saga import state_machine
from app.saga.definition import ACTIVE
from app.saga.models import SagaInstance, Sweep

logger = logging.getLogger(__name__)

GRACE_SECONDS = 30
"""How long after an outage of the database no deadline passes: longer than any task waits for its next try."""

GAP_SECONDS = 10.0
"""An interval without a sweep is an outage if it is longer than this, and than three regular intervals."""

MAX_TIMEOUTS = 10
"""A saga that has made no progress for so many of the longer timeout is undone in spite of an outage."""

RECOVERY = "recovery"
"""The row of ``sweeps`` that says when the last sweep ran."""

_EXHAUSTED_AT = "connections exhausted"
_GAP_SINCE = "no sweep since"
_GAP_UNTIL = "no sweep until"
_SWEPT_AGAIN_AT = "swept again"

# the limits of the role and of the database, and the reserved connections, are not for superusers; what a standby
# takes is not counted
_EXHAUSTED = """
    (SELECT NOT rolsuper AND (
        (rolconnlimit >= 0 AND
            (SELECT count(*) FROM pg_stat_activity WHERE usesysid = pg_roles.oid) >= rolconnlimit)
        OR (datconnlimit >= 0 AND pg_stat_get_db_numbackends(pg_database.oid) >= datconnlimit))
        OR (SELECT sum(numbackends) FROM pg_stat_database) >=
            current_setting('max_connections')::int - CASE WHEN rolsuper THEN 0 ELSE
                current_setting('superuser_reserved_connections')::int
                + coalesce(current_setting('reserved_connections', true), '0')::int END
    FROM pg_roles, pg_database WHERE rolname = session_user AND datname = current_database())"""


@dataclass(frozen=True)
class Outages:
    """What is known of the last outages when a sweep begins."""

    ended_at: list[datetime]
    """When a shortage of connections, and an interval without a sweep, were last seen; now if that lasts."""
    gap: tuple[datetime, datetime] | None
    """The last interval without a sweep, or the longer one that it followed soon."""

    def suspend(self, saga: SagaInstance, now: datetime) -> bool:
        """Return whether an overdue saga gets a new deadline instead of being undone.

        It does if its deadline passed in an outage, or within ``GRACE_SECONDS`` afterwards, even if the sweeps take
        longer to come to it. Each saga gets it for a bounded time: a connection shortage may last, and the saga's
        service may be down for another reason. The interval without a sweep does not count towards that time.
        """
        deadline = saga.deadline_at
        if deadline is None or not any(deadline < end + timedelta(seconds=GRACE_SECONDS) for end in self.ended_at):
            return False
        silent = now - saga.updated_at
        if self.gap:
            since, until = self.gap
            silent -= max(until - max(since, saga.updated_at), timedelta())
        settings = runtime.current().settings
        longest = max(settings.step_timeout_seconds, settings.order_timeout_seconds)
        return silent <= timedelta(seconds=MAX_TIMEOUTS * longest)


def note_time(session: Session, name: str, moment: datetime) -> None:
    """Write a row of ``sweeps``, over what it said before."""
    written = insert_if_absent(session, Sweep).values(name=name, swept_at=moment)
    session.execute(written.on_conflict_do_update(index_elements=["name"], set_={"swept_at": moment}))


def note_outages(session: Session) -> Outages:
    """Return what is known of outages, and note one that lasts or has just ended; to be called before a sweep is noted.

    All of it is judged by stored rows and by the server, so it makes no difference which process sweeps, or whether it
    has been restarted. Without a row for the last sweep nothing is known about the time before.
    """
    here = runtime.current()
    now = here.now()
    names = [RECOVERY, _EXHAUSTED_AT, _GAP_SINCE, _GAP_UNTIL, _SWEPT_AGAIN_AT]
    noted = dict(session.execute(select(Sweep.name, Sweep.swept_at).where(Sweep.name.in_(names))).all())
    found = {_EXHAUSTED_AT: now} if _connections_exhausted(session) else dict[str, datetime]()
    longest = timedelta(seconds=max(GAP_SECONDS, 3 * here.settings.sweep_seconds))
    if RECOVERY in noted and now - noted[RECOVERY] > longest:
        found[_SWEPT_AGAIN_AT] = now
        if not _follows_a_longer_gap(noted, now):
            found |= {_GAP_SINCE: noted[RECOVERY], _GAP_UNTIL: now}
    for name, moment in found.items():
        note_time(session, name, moment)
    noted |= found
    # one in the future is from before the database's clock was set back
    ended_at = [noted[name] for name in (_EXHAUSTED_AT, _SWEPT_AGAIN_AT) if name in noted and noted[name] <= now]
    gap = (noted[_GAP_SINCE], noted[_GAP_UNTIL]) if _GAP_SINCE in noted else None
    return Outages(ended_at, gap)


def _follows_a_longer_gap(noted: dict[str, datetime], now: datetime) -> bool:
    """Return whether the interval since the last sweep is an aftermath of a longer one, such as a second restart."""
    if _GAP_UNTIL not in noted:
        return False
    is_soon = noted[RECOVERY] - noted[_GAP_UNTIL] < timedelta(seconds=GRACE_SECONDS)
    return is_soon and now - noted[RECOVERY] < noted[_GAP_UNTIL] - noted[_GAP_SINCE]


def _connections_exhausted(session: Session) -> bool:
    """Return whether PostgreSQL would refuse this process another connection."""
    return dialect_of(session) == "postgresql" and bool(session.scalar(select(literal_column(_EXHAUSTED))))


def suspend_deadline(saga_id: str) -> None:
    """Take the deadline off a saga whose message could not be sent, in a transaction of its own.

    The sweep that sends the message sets a new one. If the database is away too, or the process dies here, the deadline
    stays: the saga is then undone when it passes, as if its worker had been away.
    """
    here = runtime.current()
    try:
        with here.database.transaction() as session:
            saga = session.get(SagaInstance, saga_id, with_for_update=True)
            if saga and saga.status in ACTIVE:
                state_machine.suspend_deadline(saga, here.now())
    except DatabaseUnavailable as error:
        logger.warning("the deadline could not be taken off", extra={"saga_id": saga_id, "reason": error})
