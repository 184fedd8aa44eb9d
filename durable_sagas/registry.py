"""The drivers of the saga types of a binding, for recovery and operators, whatever the pattern."""

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy.orm import Session

from durable_sagas.decisions import Check, QueueState
from durable_sagas.engine import Engine
from durable_sagas.errors import DefinitionError
from durable_sagas.manual_completion import ManualCompletion
from durable_sagas.models import SagaInstance
from durable_sagas.other_versions import OtherVersion
from durable_sagas.saga_log import SagaRecord


class Driver(Protocol):
    """Drives the sagas of one type from outside.

    Every method is called with the saga's row locked; the caller writes the record. Messages are sent after the commit.
    """

    name: str

    def can_drive(self, saga: SagaInstance) -> bool:
        """Return whether this process's version of the code can drive the saga."""

    def timeout(self, saga: SagaInstance) -> float:
        """Return the seconds that a service has for what an unfinished saga waits for."""

    def check(self, session: Session, record: SagaRecord, queues: Mapping[str, QueueState], found: Check) -> Check:
        """Return what to do with a saga for which a look at its row alone has ``found`` something to do."""

    def drive(self, session: Session, record: SagaRecord) -> None:
        """Send again the messages that an unfinished saga waits for."""

    def time_out(self, session: Session, record: SagaRecord) -> None:
        """Handle a passed deadline."""

    def cancel(self, session: Session, record: SagaRecord) -> bool:
        """Start compensation, unless it has started; return whether this changed anything.

        Raises Conflict when it is too late.
        """

    def resume(self, session: Session, record: SagaRecord) -> None:
        """Resume a stuck saga, or re-drive a stalled one. Raises Conflict when there is nothing to resume."""

    def skip(self, session: Session, record: SagaRecord, report: ManualCompletion) -> None:
        """Continue as if the compensation that the saga is stuck on had succeeded.

        Raises Conflict; see ``Operations.skip``.
        """


def register(engine: Engine, driver: Driver) -> None:
    """Register the driver of a saga type. Raises DefinitionError if its name is taken."""
    if driver.name in engine.drivers:
        raise DefinitionError(f"saga {driver.name} is declared twice")
    engine.drivers[driver.name] = driver


def driver_of(engine: Engine, saga: SagaInstance) -> Driver:
    """Return the driver of a saga: a stand-in if only code of another version can drive it."""
    driver = engine.drivers.get(saga.saga_type)
    return driver if driver and driver.can_drive(saga) else OtherVersion(engine)
