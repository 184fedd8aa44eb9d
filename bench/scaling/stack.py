"""What a way to run the shop has to offer, so that one service's replicas can be counted up while it is loaded."""

from typing import Protocol

from workflows.order_orchestration import ORDER

SERVICES = tuple(dict.fromkeys(step.action.service for step in ORDER.steps))
"""The services that take part in an order; scaling another would show nothing."""

CALL_OUTSIDE = tuple(dict.fromkeys(step.action.service for step in ORDER.steps if step.action.call))
"""Those of them that wait for somebody else's system."""


class NotUsable(Exception):
    """Raised when a stack cannot be opened or scaled; says what to do."""


class Stack(Protocol):
    """A running shop."""

    name: str
    url: str
    token: str
    """What operator calls carry."""

    def scale(self, service: str, replicas: int) -> None:
        """Run so many workers of a service; returns once each of them takes messages. Raises NotUsable."""

    def audit(self) -> tuple[bool, str]:
        """Run the audit; returns whether it is clean, and what it said."""

    def describe(self) -> dict[str, str]:
        """Return what a reader of the figures has to know of it."""
