"""While the broker does not take a saga's message from us, that saga's clock stands still.

A deadline says that a worker did not do in time what it was told to do. One that was never told is not late. What
follows in a chain that is under way is sent by the task before it: there the clock goes on.
"""

import logging

from app import runtime
from app.errors import DatabaseFault
from app.saga import transitions
from app.saga.definition import MOVING
from app.saga.models import SagaInstance

logger = logging.getLogger(__name__)


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
