"""Where an order's time goes: how long each step waited to begin, and how long it took."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.own.sagas import Saga, Step


@dataclass(frozen=True)
class Hop:
    """The medians of one step, in milliseconds.

    What it waited is everything between the note that the step before was done and the note that this one began: the
    commit, the message out and in, and what the worker does before it looks at the saga.
    """

    step: str
    waited_ms: float
    took_ms: float

    def __str__(self) -> str:
        return f"{self.step} waited {self.waited_ms:.1f} took {self.took_ms:.1f}"

    def as_json(self) -> dict[str, Any]:
        """Return it by name."""
        return asdict(self)


def hops(sagas: Sequence[Saga], steps: Mapping[str, Sequence[Step]]) -> list[Hop]:
    """Return the steps of these sagas, in the order in which most of them did them.

    Where steps go side by side, a step waits from the end of the last one that had ended when it began.
    """
    waited: dict[str, list[float]] = {}
    took: dict[str, list[float]] = {}
    for saga in sagas:
        done = steps[saga.id]
        for step in done:
            ready = max([saga.created_at, *(other.ended for other in done if other.ended <= step.began)])
            waited.setdefault(step.name, []).append((step.began - ready).total_seconds())
            took.setdefault(step.name, []).append((step.ended - step.began).total_seconds())
    return [Hop(name, 1000 * statistics.median(waited[name]), 1000 * statistics.median(took[name])) for name in waited]
