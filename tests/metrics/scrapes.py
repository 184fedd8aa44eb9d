"""What Prometheus would read, and what it would make of it."""

import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from app.observability.metrics import registry
from durable_sagas.models import SagaInstance, SagaStep
from tests.testkit.shop import Shop

Series = tuple[str, frozenset[tuple[str, str]]]
Samples = Mapping[Series, float]
Counts = Counter[tuple[str, ...]]
"""How often what was counted, by metric, type, and, of steps, step and operation; of sagas' durations, outcome."""

COUNTED = (
    "saga_started_total",
    "saga_completed_total",
    "saga_failed_total",
    "saga_compensated_total",
    "step_completed_total",
    "step_failed_total",
    "step_retried_total",
    "saga_duration_seconds_count",
    "step_duration_seconds_count",
)
"""What the database can be asked for as well."""


def parse(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return str(answer.read().decode())


def own() -> Samples:
    """Return what this process has counted."""
    return parse(generate_latest(registry.registry()).decode())


def of(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels."""
    wanted = set(labels.items())
    return sum(value for (found, having), value in samples.items() if found == name and wanted <= having)


def counts(samples: Samples) -> Counts:
    counted: Counts = Counter()
    for (name, having), value in samples.items():
        if name in COUNTED and value:
            labels = dict(having)
            extra = [labels[label] for label in ("step", "operation", "outcome") if label in labels]
            counted[(name, labels["type"], *extra)] += int(value)
    return counted


class Watched:
    """A target that is scraped again and again, and counts from 0 when it is restarted: its increases are added up."""

    def __init__(self, scrape: Callable[[], str]) -> None:
        self._scrape = scrape
        self._last: Samples = {}
        self._increased: dict[Series, float] = defaultdict(float)

    def look(self) -> Counts:
        """Scrape; returns what it has counted since it was watched first, whatever happened to it meanwhile."""
        now = parse(self._scrape())
        for series, value in now.items():
            before = self._last.get(series, 0)
            self._increased[series] += value - before if value >= before else value
        self._last = now
        return counts(self._increased)


def truth(shop: Shop) -> Counts:
    """Return what the database says has happened."""
    found: Counts = Counter()
    turned_back = "CAST(state_history AS TEXT) LIKE '%COMPENSATION_STARTED%'"
    for saga_type, status, back, number in shop.rows(
        f"SELECT saga_type, status, {turned_back}, count(*) FROM saga_instances GROUP BY 1, 2, 3"
    ):
        found["saga_started_total", saga_type] += number
        if back:
            found["saga_failed_total", saga_type] += number
        if status in {"completed", "compensated"}:
            found[f"saga_{status}_total", saga_type] += number
            found["saga_duration_seconds_count", saga_type, status] += number
    logged = select(SagaInstance.saga_type, SagaStep).where(SagaStep.saga_id == SagaInstance.id)
    with shop.here.database.reading() as session:
        rows = session.execute(logged).all()
    for saga_type, row in rows:
        step, operation, status, failures = row.step, row.operation, row.status, row.failures
        kinds = ["step_retried_total" if "retry_at" in failure else "step_failed_total" for failure in failures]
        for name in kinds + ["step_completed_total"] * (status == "completed"):
            found[name, saga_type, step, operation] += 1
            found["step_duration_seconds_count", saga_type, step, operation] += 1
    return found
