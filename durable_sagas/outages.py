"""Suspend deadlines during outages of the broker or the database, which are not the service's delay.

A deadline passes when a worker did not finish its task in time. Without the task's message the worker is not late:
while the broker does not accept a saga's message, that saga's deadline is suspended. The next messages of a
chain under way are sent by the task before them: there the deadline continues.

A worker that waits for the database is not late either. No deadline passes while the database refuses connections, nor
because of an interval without any sweep (the host, the database or every scheduler was down), nor for a while after
either, because clients that were refused back off.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import literal_column, select
from sqlalchemy.orm import Session

from durable_sagas import saga_log
from durable_sagas.database import dialect_of, insert_if_absent
from durable_sagas.definition import ACTIVE
from durable_sagas.engine import Engine
from durable_sagas.errors import DatabaseUnavailable, NotFound
from durable_sagas.models import SagaInstance, Sweep
from durable_sagas.options import Options

logger = logging.getLogger(__name__)

GRACE_SECONDS = 30
"""No deadline passes for this long after a database outage: longer than any task waits for its next retry."""

GAP_SECONDS = 10.0
"""An interval without a sweep counts as an outage if it exceeds this and three regular intervals."""

MAX_TIMEOUTS = 10
"""A saga without progress for this many times the longer timeout is compensated despite an outage."""

RECOVERY = "recovery"
"""The row of ``sweeps`` with the time of the last sweep."""

_EXHAUSTED_AT = "connections exhausted"
_GAP_SINCE = "no sweep since"
_GAP_UNTIL = "no sweep until"
_SWEPT_AGAIN_AT = "swept again"
_REFUSED_AT = "message refused"

# superusers are exempt from the limits of role and database and from reserved connections; the connections of a standby
# are not counted
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
    """The last outages as known at the start of a sweep."""

    ended_at: list[datetime]
    """When a shortage of connections, and an interval without a sweep, were last seen; now if it still lasts."""
    gap: tuple[datetime, datetime] | None
    """The last interval without a sweep, or a longer one shortly before it."""
    options: Options
    swept_again_at: datetime | None
    """When the last interval without a sweep ended."""
    refused_at: datetime | None
    """When the broker last refused a message."""

    def silent_since(self, moved_at: datetime, now: datetime) -> datetime:
        """Return since when a queue that was last served at ``moved_at`` is silent for its service's reasons.

        Refused messages and connections count for a bounded time, as in ``suspend``.
        """
        since = max(filter(None, (moved_at, self.swept_again_at)))
        if now - since > self._longest_suspension():
            return since
        return max(filter(None, (since, *self.ended_at, self.refused_at)))

    def _longest_suspension(self) -> timedelta:
        longest = max(self.options.step_timeout_seconds, self.options.saga_timeout_seconds)
        return timedelta(seconds=MAX_TIMEOUTS * longest)

    def suspend(self, saga: SagaInstance, now: datetime) -> bool:
        """Return whether an overdue saga gets a new deadline instead of being compensated.

        It does if its deadline passed during an outage, or within ``GRACE_SECONDS`` afterwards, even if a sweep checks
        it later. This is bounded for each saga: a connection shortage may last, and the saga's service may be down for
        another reason. The interval without a sweep does not count towards the bound.
        """
        deadline = saga.deadline_at
        if deadline is None or not any(deadline < end + timedelta(seconds=GRACE_SECONDS) for end in self.ended_at):
            return False
        silent = now - saga.updated_at
        if self.gap:
            since, until = self.gap
            silent -= max(until - max(since, saga.updated_at), timedelta())
        return silent <= self._longest_suspension()


def note_time(session: Session, name: str, moment: datetime) -> None:
    """Insert or overwrite a row of ``sweeps``."""
    written = insert_if_absent(session, Sweep).values(name=name, swept_at=moment)
    session.execute(written.on_conflict_do_update(index_elements=["name"], set_={"swept_at": moment}))


def note_outages(session: Session, engine: Engine) -> Outages:
    """Return the last outages, and record one that lasts or has just ended; call it before the sweep is recorded.

    Everything is derived from stored rows and from the server, so it does not matter which process sweeps, or whether
    it was restarted. Without a row for the last sweep nothing is known about the time before.
    """
    now, options = engine.database.now(), engine.options
    names = [RECOVERY, _EXHAUSTED_AT, _GAP_SINCE, _GAP_UNTIL, _SWEPT_AGAIN_AT, _REFUSED_AT]
    noted = dict(session.execute(select(Sweep.name, Sweep.swept_at).where(Sweep.name.in_(names))).all())
    found = {_EXHAUSTED_AT: now} if _connections_exhausted(session) else dict[str, datetime]()
    longest = timedelta(seconds=max(GAP_SECONDS, 3 * options.sweep_seconds))
    if RECOVERY in noted and now - noted[RECOVERY] > longest:
        found[_SWEPT_AGAIN_AT] = now
        if not _follows_a_longer_gap(noted, now):
            found |= {_GAP_SINCE: noted[RECOVERY], _GAP_UNTIL: now}
    for name, moment in found.items():
        note_time(session, name, moment)
    noted |= found
    # a time in the future is from before the database's clock was set back
    ended_at = [noted[name] for name in (_EXHAUSTED_AT, _SWEPT_AGAIN_AT) if name in noted and noted[name] <= now]
    gap = (noted[_GAP_SINCE], noted[_GAP_UNTIL]) if _GAP_SINCE in noted else None
    swept_again_at, refused_at = (
        noted[name] if name in noted and noted[name] <= now else None for name in (_SWEPT_AGAIN_AT, _REFUSED_AT)
    )
    return Outages(ended_at, gap, options, swept_again_at, refused_at)


def _follows_a_longer_gap(noted: dict[str, datetime], now: datetime) -> bool:
    """Return whether the interval since the last sweep soon follows a longer one, as after a second restart."""
    if _GAP_UNTIL not in noted:
        return False
    is_soon = noted[RECOVERY] - noted[_GAP_UNTIL] < timedelta(seconds=GRACE_SECONDS)
    return is_soon and now - noted[RECOVERY] < noted[_GAP_UNTIL] - noted[_GAP_SINCE]


def _connections_exhausted(session: Session) -> bool:
    """Return whether PostgreSQL would refuse this process another connection."""
    return dialect_of(session) == "postgresql" and bool(session.scalar(select(literal_column(_EXHAUSTED))))


def suspend_deadline(engine: Engine, saga_id: str) -> None:
    """Suspend the deadline of a saga whose message could not be sent, in a transaction of its own.

    The sweep that sends the message sets a new deadline. If the database is unavailable too, or the process dies here,
    the deadline stays, and the saga is compensated when it passes, as if its worker had been down.
    """
    try:
        with engine.database.transaction() as session:
            note_time(session, _REFUSED_AT, engine.database.now())
            record = saga_log.lock(session, saga_id)
            if record.saga.status in ACTIVE:
                engine.state_machine.suspend_deadline(record.saga, engine.database.now())
                saga_log.write(session, [record])
    except (DatabaseUnavailable, NotFound) as error:
        logger.warning("the deadline could not be suspended", extra={"saga_id": saga_id, "reason": error})
