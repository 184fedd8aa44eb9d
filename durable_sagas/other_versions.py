"""Handle sagas that only processes of another version of the code can drive, as during a rolling deploy.

This process leaves them to other processes, and marks them stuck after ``state_machine.ABANDONED_AFTER_SECONDS``.
"""

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy.orm import Session

from durable_sagas.decisions import Check, QueueState
from durable_sagas.definition import FORWARD, Operation, SagaStatus
from durable_sagas.engine import Engine
from durable_sagas.errors import Conflict
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.models import SagaInstance
from durable_sagas.saga_log import SagaRecord

RECHECK_SECONDS = 2.0
"""Seconds until the next sweep, perhaps of a capable process, checks a saga that this process cannot drive."""


class OtherVersion:
    """Stand-in for the driver of a saga that this process cannot drive; see ``registry.Driver``.

    Requests are recorded on the saga's row and executed by the next sweep of a process that can drive it.
    """

    name = "another version"

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def can_drive(self, saga: SagaInstance) -> bool:  # noqa: ARG002  (a driver's)
        """Return False."""
        return False

    def timeout(self, saga: SagaInstance) -> float:  # noqa: ARG002  (a driver's)
        """Return the default of a step: the saga's own is not known here."""
        return self.engine.options.step_timeout_seconds

    def check(
        self,
        session: Session,  # noqa: ARG002  (a driver's)
        record: SagaRecord,  # noqa: ARG002
        queues: Mapping[str, QueueState],  # noqa: ARG002
        found: Check,
    ) -> Check:
        """Return what was found."""
        return found

    def drive(self, session: Session, record: SagaRecord) -> None:  # noqa: ARG002  (a driver's)
        """Schedule another sweep soon, or mark the saga stuck if it is abandoned."""
        saga, now = record.saga, self.engine.database.now()
        if self.engine.state_machine.is_abandoned(saga, now):
            reason = f"no running process declares all of saga {saga.saga_type}"
            self.engine.state_machine.mark_stuck(saga, now, reason)
        else:
            saga.redrives = max(0, saga.redrives - 1)  # this sweep has not sent anything
            saga.wake_at = now + timedelta(seconds=RECHECK_SECONDS)

    def time_out(self, session: Session, record: SagaRecord) -> None:
        """Schedule another sweep: only a process that declares the pivot can decide."""
        self.drive(session, record)

    def cancel(self, session: Session, record: SagaRecord) -> bool:  # noqa: ARG002  (a driver's)
        """Record the request for the next sweep that can decide it; return whether it is the first.

        A stuck saga stays stuck: only operators resume it.
        """
        saga = record.saga
        if saga.status != SagaStatus.STUCK:
            saga.wake_at = self.engine.database.now()
        return saga.cancel_requested_at is None

    def resume(self, session: Session, record: SagaRecord) -> None:  # noqa: ARG002  (a driver's)
        """Resume a stuck saga, and schedule a sweep at once."""
        now, saga = self.engine.database.now(), record.saga
        if saga.status == SagaStatus.STUCK:
            self.engine.state_machine.resume(saga, now, self.engine.options.step_timeout_seconds)
            if saga.steps and saga.current_step:
                operation = Operation.ACTION if saga.status in FORWARD else Operation.COMPENSATION
                record.reset(saga.current_step, operation)
            else:
                record.reset_exhausted()
        saga.wake_at = now

    def skip(self, session: Session, record: SagaRecord, report: ManualCompletion) -> None:  # noqa: ARG002  (a driver's)
        """Raise Conflict: only the service's own code can record a manual completion."""
        raise Conflict(
            f"this process does not declare all of saga {record.saga.saga_type}: ask one of the version that does",
            status=record.saga.status,
        )
