"""Registry of the saga types of this process, for recovery and operators, whatever the pattern."""

from collections.abc import Collection
from typing import Protocol

from sqlalchemy.orm import Session

from app.errors import DefinitionError
from app.saga.manual_completion import ManualCompletion
from app.saga.models import SagaInstance
from app.saga.other_versions import OtherVersion
from app.saga.saga_log import SagaRecord


class Driver(Protocol):
    """Drives the sagas of one type from outside.

    Every method is called with the saga's row locked; the caller writes the record. Messages are sent after the commit.
    """

    name: str

    def can_drive(self, saga: SagaInstance) -> bool:
        """Return whether this process's version of the code can drive the saga."""

    def drive(self, session: Session, record: SagaRecord) -> None:
        """Send again the messages that an unfinished saga waits for."""

    def time_out(self, session: Session, record: SagaRecord) -> None:
        """Handle a passed deadline."""

    def cancel(self, session: Session, record: SagaRecord) -> bool:
        """Start compensation; return whether this changed anything. Raises Conflict when it is too late."""

    def resume(self, session: Session, record: SagaRecord) -> None:
        """Resume a stuck saga, or re-drive a stalled one. Raises Conflict when there is nothing to resume."""

    def skip(self, session: Session, record: SagaRecord, report: ManualCompletion) -> None:
        """Continue as if the compensation that the saga is stuck on had succeeded.

        Raises Conflict; see ``operations.skip``.
        """


OTHER_VERSION = OtherVersion()

_drivers: dict[str, Driver] = {}


def register(driver: Driver) -> None:
    """Register the driver of a saga type. Raises DefinitionError if its name is taken."""
    if driver.name in _drivers:
        raise DefinitionError(f"saga {driver.name} is declared twice")
    _drivers[driver.name] = driver


def driver_of(saga: SagaInstance) -> Driver:
    """Return the driver of a saga: a stand-in if only code of another version can drive it."""
    driver = named(saga.saga_type)
    return driver if driver and driver.can_drive(saga) else OTHER_VERSION


def known() -> Collection[Driver]:
    """Return the drivers of all saga types."""
    return _drivers.values()


def named(name: str) -> Driver | None:
    """Return the driver of the saga type of this name, or None."""
    return _drivers.get(name)
