"""What a reaction of a choreographed service may decide."""

from collections.abc import Callable
from dataclasses import dataclass

from durable_sagas.definition import Command
from durable_sagas.errors import DefinitionError
from durable_sagas.history import History
from durable_sagas.messages import EventType


@dataclass(frozen=True)
class Execute:
    """Run a service's action once.

    Raises DefinitionError if it calls a gateway and does not declare ``void``.

    After the event ``unless`` the action is neither started nor recorded as done; another reaction must compensate it.
    """

    command: Command
    unless: EventType | None = None

    def __post_init__(self) -> None:
        if self.command.call and not self.command.void:
            raise DefinitionError(f"{self.command.name} calls a gateway, so it must declare a void")


@dataclass(frozen=True)
class Compensate:
    """Compensate an action, whether or not it has run; if it has not, it is blocked."""

    action: Command
    compensation: Command
    event_if_nothing_done: EventType | None = None
    """The event to publish when there was nothing to compensate and the compensation did not run."""

    def __post_init__(self) -> None:
        if self.action.call and not self.compensation.call:
            raise DefinitionError(f"{self.compensation.name} must void what {self.action.name} did at its gateway")


@dataclass(frozen=True)
class Abort:
    """Publish an action's outcome; an action that has not ended is blocked and counts as failed.

    Raises DefinitionError if the action does not declare ``on_rejected``.
    """

    action: Command
    reason: str

    def __post_init__(self) -> None:
        if not self.action.on_rejected:
            raise DefinitionError(f"{self.action.name} can be aborted, so it must declare an on_rejected")


Decision = Execute | Compensate | Abort | None
Reaction = Callable[[History], Decision]
