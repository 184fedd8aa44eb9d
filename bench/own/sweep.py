"""One sweep over very many finished orders, with and without some that are unfinished and not due."""

import time
from dataclasses import dataclass

from sqlalchemy import text

from app import runtime
from app.runtime import Runtime
from app.sagas import sagas
from app.settings import Settings
from bench.own.filled import Filled, tidy
from bench.own.measured import Figure, Measured, percentile
from durable_sagas.recovery import SweepResult

AT_MOST_MS = 5.0
UNFINISHED = (0, 100)
WARM_UP = 3
PAUSE_SECONDS = 0.02

# what the sweep sees of an unfinished order that is not due: when to look at it
BEGIN_AGAIN = """
    UPDATE saga_instances SET status = 'running', wake_at = now() + interval '1 day'
    WHERE id IN (SELECT id FROM saga_instances WHERE status = 'completed' ORDER BY id LIMIT :count)"""
END_AGAIN = "UPDATE saga_instances SET status = 'completed', wake_at = NULL WHERE wake_at IS NOT NULL"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    finished: int
    sweeps: int


def measure(plan: Plan, filled: Filled) -> Measured:
    """Sweep in this process, as the orchestrator's worker does it."""
    url = filled.url(plan.finished)
    measured = Measured("sweep", details={"finished": plan.finished, "sweeps": plan.sweeps})
    before = runtime.current()
    here = runtime.use(Runtime(Settings(database_url=url, broker_url="memory://", log_level="WARNING")))
    try:
        for unfinished in UNFINISHED:
            _change(here, BEGIN_AGAIN, count=unfinished)
            tidy(url)
            took = [_sweep(measured) for _ in range(WARM_UP + plan.sweeps)][WARM_UP:]
            _change(here, END_AGAIN)
            says = f"a sweep, {plan.finished:,} orders finished, {unfinished} not yet"
            measured.figures += [
                Figure(f"{says}: median", percentile(50, took), "ms", at_most=AT_MOST_MS),
                Figure(f"{says}: p95", percentile(95, took), "ms"),
            ]
            measured.details[f"ms_{unfinished}_unfinished"] = took
    finally:
        runtime.use(before)
        here.close()
    return measured


def _sweep(measured: Measured) -> float:
    """Return the milliseconds that a sweep takes which has nothing to do."""
    time.sleep(PAUSE_SECONDS)  # so that sweeps are apart, as scheduled ones are
    began = time.perf_counter()
    swept = sagas.sweep()
    took = 1000 * (time.perf_counter() - began)
    if swept != SweepResult(driven=0, timed_out=0, resent=0):
        measured.wrong.append(f"nothing was due, and yet: {swept}")
    return took


def _change(here: Runtime, statement: str, **parameters: int) -> None:
    with here.database.transaction() as session:
        session.execute(text(statement), parameters)
