"""Handle sagas that only processes of another version of the code can drive, as during a rolling deploy.

This process leaves them to other processes, and marks them stuck after ``state_machine.ABANDONED_AFTER_SECONDS``.
"""

from sqlalchemy.orm import Session

from app import runtime
from app.errors import Conflict
from app.saga import state_machine
from app.saga.definition import COMPENSATION_STARTED, FORWARD, Operation, SagaStatus
from app.saga.manual_completion import ManualCompletion
from app.saga.models import SagaInstance
from app.saga.saga_log import SagaRecord


class OtherVersion:
    """Stand-in for the driver of a saga that this process cannot drive; see ``registry.Driver``.

    Requests are recorded on the saga's row and executed by the next sweep of a process that can drive it.
    """

    name = "another version"

    def can_drive(self, saga: SagaInstance) -> bool:  # noqa: ARG002  (a driver's)
        """Return False."""
        return False

    def drive(self, session: Session, record: SagaRecord) -> None:  # noqa: ARG002  (a driver's)
        """Schedule another sweep soon, or mark the saga stuck if it is abandoned."""
        saga = record.saga
        state_machine.leave(saga, runtime.current().now(), f"no running process declares all of saga {saga.saga_type}")

    def time_out(self, session: Session, record: SagaRecord) -> None:
        """Schedule another sweep: only a process that declares the pivot can decide."""
        self.drive(session, record)

    def cancel(self, session: Session, record: SagaRecord) -> bool:  # noqa: ARG002  (a driver's)
        """Record the request for the next sweep that can decide it; return whether it is the first.

        A stuck saga stays stuck: only operators resume it. Raises Conflict if the status alone decides.
        """
        saga = record.saga
        if saga.status == SagaStatus.COMPLETED:
            raise Conflict("too late to cancel: it is completed", status=saga.status)
        if saga.status in {SagaStatus.COMPENSATING, SagaStatus.COMPENSATED}:
            return False
        if saga.status == SagaStatus.STUCK and saga.state == COMPENSATION_STARTED:
            raise Conflict("it is being undone already, and stuck: resume it", status=saga.status)
        if saga.status != SagaStatus.STUCK:
            saga.wake_at = runtime.current().now()
        return saga.cancel_requested_at is None

    def resume(self, session: Session, record: SagaRecord) -> None:  # noqa: ARG002  (a driver's)
        """Resume a stuck saga, and schedule a sweep at once."""
        here, saga = runtime.current(), record.saga
        if saga.status == SagaStatus.STUCK:
            state_machine.unstick(saga, here.now(), here.settings.step_timeout_seconds)
            if saga.steps and saga.current_step:
                operation = Operation.ACTION if saga.status in FORWARD else Operation.COMPENSATION
                record.reset(saga.current_step, operation)
            else:
                record.reset_exhausted()
        saga.wake_at = here.now()

    def skip(self, session: Session, record: SagaRecord, report: ManualCompletion) -> None:  # noqa: ARG002  (a driver's)
        """Raise Conflict: only the service's own code can record a manual completion."""
        raise Conflict(
            f"this process does not declare all of saga {record.saga.saga_type}: ask one of the version that does",
            status=record.saga.status,
        )
