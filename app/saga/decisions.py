"""What a reaction may decide: the whole vocabulary of a choreographed service."""

from collections.abc import Callable
from dataclasses import dataclass

from app.errors import DefinitionError
from app.events import History
from app.messages import EventType
from app.saga.definition import Command


@dataclass(frozen=True)
class Act:
    """Run a service's action, once. Raises DefinitionError if it calls a gateway and could not be voided.

    Once ``unless`` has happened the action is neither begun nor stated as done; another reaction must undo it.
    """

    command: Command
    unless: EventType | None = None

    def __post_init__(self) -> None:
        if self.command.call and not self.command.void:
            raise DefinitionError(f"{self.command.name} calls a gateway, so it must say how that is voided")


@dataclass(frozen=True)
class Undo:
    """Undo an action, whether or not it has run; if it has not, it never will.

    Raises DefinitionError if the action calls a gateway and the compensation does not.
    """

    action: Command
    compensation: Command
    otherwise: EventType | None = None
    """What to say when there was nothing to undo and the compensation had no need to run."""

    def __post_init__(self) -> None:
        if self.action.call and not self.compensation.call:
            raise DefinitionError(f"{self.compensation.name} must void what {self.action.name} did at its gateway")


@dataclass(frozen=True)
class Close:
    """Say how an action ended; if it has not ended yet it has failed now, and never takes effect."""

    action: Command
    reason: str


Decision = Act | Undo | Close | None
Reaction = Callable[[History], Decision]
