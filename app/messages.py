"""What crosses between a saga and its participants: events and replies. Plain data, no library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NewType, TypedDict

EventType = NewType("EventType", str)
"""The name of a fact, in the past tense: ``EventType("StockReserved")``."""


@dataclass(frozen=True)
class Event:
    """A fact that a service states about an order; ``payload`` is plain JSON."""

    type: EventType
    payload: Mapping[str, Any] = field(default_factory=dict)


class Reply(TypedDict):
    """A step's answer, in the form of seed 001; it is the Celery result and what Flower shows."""

    success: bool
    sagaId: str
    stepId: str
    result: Any
    error: str | None


def number(amount: Decimal) -> int | float:
    """Return an amount as a JSON number: whole ones stay whole, as the seeds write them.

    Exact for every amount the database can hold: 12 digits survive the way through a float.
    """
    return int(amount) if amount == amount.to_integral_value() else float(amount)
