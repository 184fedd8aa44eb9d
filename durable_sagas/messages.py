"""Events and replies exchanged between a saga and its participants: plain data, no library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

EventType = NewType("EventType", str)
"""The name of an event, in the past tense: ``EventType("StockReserved")``."""


@dataclass(frozen=True)
class Event:
    """A fact about an aggregate, published by a service; ``payload`` is plain JSON."""

    type: EventType
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """A step's reply: its Celery task's result, shown by Flower in the form of seed 001. No message carries it."""

    success: bool
    saga_id: str
    step: str
    result: Any = None
    error: str | None = None

    def __json__(self) -> dict[str, Any]:
        """Return the form of seed 001; Celery calls this method if it is configured to store results."""
        return {
            "success": self.success,
            "sagaId": self.saga_id,
            "stepId": self.step,
            "result": self.result,
            "error": self.error,
        }

    def __repr__(self) -> str:
        # Celery calls this for every result; for a dict it would format part by part, which takes ten times as long
        return repr(self.__json__())
