"""What crosses between a saga and its participants: events and replies. Plain data, no library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NewType

EventType = NewType("EventType", str)
"""The name of a fact, in the past tense: ``EventType("StockReserved")``."""


@dataclass(frozen=True)
class Event:
    """A fact that a service states about an order; ``payload`` is plain JSON."""

    type: EventType
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A step's answer: its Celery task's result, which Flower shows in the form of seed 001. No message carries it."""

    success: bool
    saga_id: str
    step: str
    result: Any = None
    error: str | None = None

    def __json__(self) -> dict[str, Any]:
        """Return it in that form; Celery, should it ever be told to store results, asks for it by this name."""
        return {
            "success": self.success,
            "sagaId": self.saga_id,
            "stepId": self.step,
            "result": self.result,
            "error": self.error,
        }

    def __repr__(self) -> str:
        # Celery asks for it with every result; a dict it walks through part by part, which takes ten times as long
        return repr(self.__json__())


def number(amount: Decimal) -> int | float:
    """Return an amount as a JSON number: whole ones stay whole, as the seeds write them.

    Exact for every amount the database can hold: 12 digits survive the way through a float.
    """
    return int(amount) if amount == amount.to_integral_value() else float(amount)
