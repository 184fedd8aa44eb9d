"""While the broker does not take a saga's message from us, that saga's clock stands still.

A deadline says that a worker did not do in time what it was told to do. One that was never told is not late. What
follows in a chain that is under way is sent by the task before it: there the clock goes on.

Neither is a worker late that waits for the database: while that refuses connections, or does not answer, no deadline
passes; and for a while after that, for those who were refused try again less and less often.
"""

import logging
from datetime import timedelta
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Select, false, literal_column, select
from sqlalchemy.orm import Session

from app import runtime
from app.database import dialect_of, insert_if_absent
from app.errors import DatabaseFault
from app.saga import transitions
from app.saga.definition import MOVING
from app.saga.models import SagaInstance, Sweep

logger = logging.getLogger(__name__)

GRACE_SECONDS = 30
"""How long after an outage of the database no deadline passes: longer than any task waits for its next try."""

_OUTAGE = "database outage"

# the limits of the role and of the database are not for superusers; what a standby takes is not counted
_EXHAUSTED = """
    (SELECT NOT rolsuper AND (
        (rolconnlimit >= 0 AND
            (SELECT count(*) FROM pg_stat_activity WHERE usesysid = pg_roles.oid) >= rolconnlimit)
        OR (datconnlimit >= 0 AND pg_stat_get_db_numbackends(pg_database.oid) >= datconnlimit)
        OR (SELECT sum(numbackends) FROM pg_stat_database) >=
            current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true), '0')::int)
    FROM pg_roles, pg_database WHERE rolname = session_user AND datname = current_database())"""


def database_was_away(session: Session) -> bool:
    """Return whether workers may have waited for the database lately, and note it if they may be waiting now.

    That is so while all connections are taken that it gives to this role, and when this process could not sweep.
    """
    here = runtime.current()
    now = here.now()
    exhausted, last = session.execute(_state(dialect_of(session))).one()
    if not exhausted and not here.missed_sweep:
        return last is not None and now - last < timedelta(seconds=GRACE_SECONDS)
    here.missed_sweep = False
    noted = insert_if_absent(session, Sweep).values(name=_OUTAGE, swept_at=now)
    session.execute(noted.on_conflict_do_update(index_elements=["name"], set_={"swept_at": now}))
    return True


def _state(dialect: str) -> Select[Any, Any]:
    exhausted: ColumnElement[bool] = literal_column(_EXHAUSTED, Boolean) if dialect == "postgresql" else false()
    last = select(Sweep.swept_at).where(Sweep.name == _OUTAGE).scalar_subquery()
    return select(exhausted, last)


def stop_clock(saga_id: str) -> None:
    """Take the deadline off a saga whose message could not be sent, in a transaction of its own.

    The sweep that sends the message sets a new one. If the database is away too, or the process dies here, the deadline
    stays: the saga is then undone when it passes, as if its worker had been away.
    """
    here = runtime.current()
    try:
        with here.database.transaction() as session:
            saga = session.get(SagaInstance, saga_id, with_for_update=True)
            if saga and saga.status in MOVING:
                transitions.stop_clock(saga, here.now())
    except DatabaseFault as error:
        logger.warning("the deadline could not be taken off", extra={"saga_id": saga_id, "reason": error})
