"""Every kind of saga this process knows, by name: what recovery and operators use without caring which kind it is."""

from collections.abc import Collection
from typing import Protocol

from sqlalchemy.orm import Session

from app.errors import DefinitionError
from app.saga.manual_completion import ManualCompletion
from app.saga.models import SagaInstance
from app.saga.other_versions import OtherVersion


class Driver(Protocol):
    """How one kind of saga is moved from outside. Each is called with the saga's row locked.

    What is to be sent leaves after the commit.
    """

    name: str

    def can_drive(self, saga: SagaInstance) -> bool:
        """Return whether this process's version of the code can move the saga."""

    def drive(self, session: Session, saga: SagaInstance) -> None:
        """Send again whatever an unfinished saga waits for."""

    def time_out(self, session: Session, saga: SagaInstance) -> None:
        """Act on a deadline that has passed."""

    def cancel(self, session: Session, saga: SagaInstance) -> bool:
        """Have the saga undone; tells whether it was not so already. Raises Conflict when it is too late."""

    def resume(self, session: Session, saga: SagaInstance) -> None:
        """Set a stuck saga moving again, or drive a stalled one. Raises Conflict when there is nothing to resume."""

    def skip(self, session: Session, saga: SagaInstance, statement: ManualCompletion) -> None:
        """Go on as if the compensation that the saga is stuck on had been done. Raises Conflict.

        See ``operations.skip`` for when.
        """


OTHER_VERSION = OtherVersion()

_drivers: dict[str, Driver] = {}


def register(driver: Driver) -> None:
    """Make a kind of saga known under its name. Raises DefinitionError if the name is taken."""
    if driver.name in _drivers:
        raise DefinitionError(f"saga {driver.name} is declared twice")
    _drivers[driver.name] = driver


def driver_of(saga: SagaInstance) -> Driver:
    """Return what moves this saga here: a stand-in if only code of another version can."""
    driver = named(saga.saga_type)
    return driver if driver and driver.can_drive(saga) else OTHER_VERSION


def known() -> Collection[Driver]:
    """Return every kind of saga."""
    return _drivers.values()


def named(name: str) -> Driver | None:
    """Return the kind of saga of this name, or None."""
    return _drivers.get(name)
