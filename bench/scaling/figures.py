"""What is measured, read from the sagas' own log: so it costs nothing while it is measured, on every stack alike."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import accumulate

from bench.scaling.shop import Ran, Seen, Shop
from workflows.order_orchestration import ORDER


@dataclass(frozen=True)
class Figures:
    """What so many replicas did."""

    replicas: int
    orders: int
    completed: int
    settled_per_second: float
    median_seconds: float
    """From the order's acceptance to its end."""
    p95_seconds: float
    queue_peak: int
    """How many sagas at most waited for the service at the same time: in its queue, or fetched by a worker."""

    def as_json(self) -> dict[str, float]:
        """Return them by name."""
        return asdict(self)


def measure(shop: Shop, service: str, replicas: int, sagas: Sequence[Seen]) -> Figures:
    """Return what these sagas, all of one run and all ended, tell of a service."""
    took = [(saga.updated_at - saga.created_at).total_seconds() for saga in sagas]
    seconds = (max(saga.updated_at for saga in sagas) - min(saga.created_at for saga in sagas)).total_seconds()
    waits = [wait for saga in sagas for wait in waits_for(service, saga.created_at, shop.steps(saga.id))]
    return Figures(
        replicas=replicas,
        orders=len(sagas),
        completed=sum(saga.status == "completed" for saga in sagas),
        settled_per_second=len(sagas) / seconds,
        median_seconds=statistics.median(took),
        p95_seconds=statistics.quantiles(took, n=20, method="inclusive")[-1],
        queue_peak=most_at_once(waits),
    )


def waits_for(service: str, created_at: datetime, steps: Sequence[Ran]) -> Iterable[tuple[datetime, datetime]]:
    """Yield from when to when a saga waited for a service: from the end of the step before to the step's beginning."""
    mine = {step.name for step in ORDER.steps if step.action.service == service}
    ready = created_at
    for ran in steps:
        if ran.step in mine and ran.began > ready:
            yield ready, ran.began
        ready = ran.ended


def most_at_once(intervals: Iterable[tuple[datetime, datetime]]) -> int:
    """Return how many intervals overlap at most; one that ends when another begins does not overlap it."""
    changes = sorted((at, change) for begin, end in intervals for at, change in ((begin, 1), (end, -1)))
    return max(accumulate(change for _, change in changes), default=0)
