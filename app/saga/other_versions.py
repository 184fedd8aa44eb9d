"""Sagas that only processes of another version of the code can move, as there are while a deploy replaces processes.

This process does not judge them: it leaves them to others until nobody has moved them for ``PATIENCE_SECONDS``.
"""

from sqlalchemy.orm import Session

from app import runtime
from app.errors import Conflict
from app.saga import barrier, transitions
from app.saga.by_hand import Statement
from app.saga.definition import COMPENSATION_STARTED, FORWARD, Operation, SagaStatus
from app.saga.models import SagaInstance


class OtherVersion:
    """Stands in for the driver of a saga that this process cannot move; see ``registry.Driver``.

    What is asked of the saga is written on its row, and the next sweep of a process that can move it does it.
    """

    name = "another version"

    def can_drive(self, saga: SagaInstance) -> bool:  # noqa: ARG002  (a driver's)
        """Return False."""
        return False

    def drive(self, session: Session, saga: SagaInstance) -> None:  # noqa: ARG002  (a driver's)
        """Have a sweep look again soon; after too long without progress the saga is stuck."""
        transitions.leave(saga, runtime.current().now(), f"no running process declares all of saga {saga.saga_type}")

    def time_out(self, session: Session, saga: SagaInstance) -> None:
        """Leave the decision to a process that knows the point of no return."""
        self.drive(session, saga)

    def cancel(self, session: Session, saga: SagaInstance) -> bool:
        """Have the next sweep that can decide about the request. Raises Conflict where the status decides."""
        if saga.status == SagaStatus.COMPLETED:
            raise Conflict("too late to cancel: it is completed", status=saga.status)
        if saga.status in {SagaStatus.COMPENSATING, SagaStatus.COMPENSATED}:
            return False
        if saga.status == SagaStatus.STUCK and saga.state == COMPENSATION_STARTED:
            raise Conflict("it is being undone already, and stuck: resume it", status=saga.status)
        self.resume(session, saga)
        return True

    def resume(self, session: Session, saga: SagaInstance) -> None:
        """Set a stuck saga moving again, and have the next sweep that can drive it on."""
        here = runtime.current()
        if saga.status == SagaStatus.STUCK:
            transitions.unstick(saga, here.now(), here.settings.step_timeout_seconds)
            if saga.steps and saga.current_step:
                operation = Operation.ACTION if saga.status in FORWARD else Operation.COMPENSATION
                barrier.reopen(session, saga.id, saga.current_step, operation)
            else:
                barrier.reopen_unsaid(session, saga.id)
        saga.wake_at = here.now()

    def skip(self, session: Session, saga: SagaInstance, statement: Statement) -> None:  # noqa: ARG002  (a driver's)
        """Raise Conflict: only the service's own code can record what was done by hand."""
        raise Conflict(
            f"this process does not declare all of saga {saga.saga_type}: ask one of the version that does",
            status=saga.status,
        )
