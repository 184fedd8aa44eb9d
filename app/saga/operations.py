"""What an operator, or a customer, may ask of a saga: the same for both patterns."""

from sqlalchemy import select

from app import runtime
from app.errors import Conflict, NotFound
from app.ids import is_uuid
from app.saga import registry
from app.saga.definition import SagaStatus
from app.saga.models import SagaInstance


def cancel(saga_id: str) -> SagaInstance:
    """Ask for a saga to be undone; returns it as it stands after the commit.

    Asking again changes nothing. Raises NotFound, and Conflict past the point of no return.
    """
    return _with_driver(saga_id, "cancel")


def resume(saga_id: str) -> SagaInstance:
    """Set a stuck saga moving again where it stands, or drive on one that is unfinished.

    Raises NotFound, and Conflict when the saga has ended.
    """
    return _with_driver(saga_id, "resume")


def saga_of(aggregate_id: str) -> str:
    """Return the id of the saga about an aggregate (an order). Raises NotFound."""
    with runtime.current().database.reading() as session:
        saga_id = session.scalar(select(SagaInstance.id).where(SagaInstance.aggregate_id == aggregate_id))
    if saga_id is None:
        raise NotFound(f"there is no saga of order {aggregate_id}")
    return saga_id


def _with_driver(saga_id: str, request: str) -> SagaInstance:
    with runtime.current().database.transaction() as session:
        saga = session.get(SagaInstance, saga_id, with_for_update=True) if is_uuid(saga_id) else None
        if saga is None:
            raise NotFound(f"there is no saga {saga_id}")
        driver = registry.driver_of(saga)
        if driver is None:
            raise Conflict(f"no code deployed here declares saga {saga.saga_type}", status=saga.status)
        if request == "cancel":
            driver.cancel(session, saga)
        elif saga.status in {SagaStatus.COMPLETED, SagaStatus.COMPENSATED}:
            raise Conflict(f"there is nothing to resume: the saga is {saga.status}", status=saga.status)
        else:
            driver.resume(session, saga)
    return saga
