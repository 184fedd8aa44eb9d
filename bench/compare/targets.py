"""What the engine is to reach, as ratios of one run: in it all took turns on the same machine."""

from collections.abc import Mapping
from dataclasses import dataclass

ORCHESTRATED, CHOREOGRAPHED = "orchestrated, rabbitmq", "choreographed, rabbitmq"


@dataclass(frozen=True)
class Target:
    """One row's rate by another's; of several to be compared with, the fastest counts."""

    says: str
    of: str
    by: tuple[str, ...]
    at_least: float

    def measured(self, rates: Mapping[str, float]) -> float | None:
        """Return the ratio; None if one of the two was not measured."""
        others = [rates[name] for name in self.by if name in rates]
        return rates[self.of] / max(others) if self.of in rates and others else None


TARGETS = (
    Target("orchestrated ÷ empty chain of default Celery", ORCHESTRATED, ("empty chain, default Celery",), 1.5),
    Target("orchestrated ÷ empty chain, same broker and workers", ORCHESTRATED, ("empty chain, rabbitmq",), 0.55),
    Target("orchestrated ÷ Restate", ORCHESTRATED, ("Restate",), 1.2),
    Target("orchestrated ÷ DBOS", ORCHESTRATED, ("DBOS", "DBOS, started in its workers"), 3.0),
    Target("choreographed ÷ orchestrated", CHOREOGRAPHED, (ORCHESTRATED,), 0.8),
    Target("failing ÷ successful, orchestrated", f"{ORCHESTRATED} (undone)", (ORCHESTRATED,), 0.6),
    Target("with task events ÷ without, orchestrated", f"{ORCHESTRATED}, task events", (ORCHESTRATED,), 0.8),
)
