"""``python -m app demo``: run every scenario of the seeds, in every saga type, on the embedded stack."""

import tempfile
import time
from pathlib import Path

import click

from app import runtime
from app.migrations import migrate
from app.runtime import Runtime
from app.settings import Settings
from cli.embedded import embedded_stack
from cli.output import table, write_line
from durable_sagas.definition import SagaStatus
from durable_sagas.models import SagaInstance
from tasks.orders import Order
from workflows.operations.audit import audit
from workflows.orders import place
from workflows.read_side import queries
from workflows.read_side.saga_history import attempts
from workflows.scenarios import SAGA_TYPES, SCENARIOS, Scenario
from workflows.seed_data import seed

TIMEOUT_SECONDS = 120

# without scenarios that get stuck: they take until all retries are used up, and are left to the web pages
PLAYED = tuple(scenario for scenario in SCENARIOS if not scenario.stuck)


def run_demo() -> bool:
    """Run all scenarios concurrently and print each; return whether all ended as specified and the audit is clean."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        current = runtime.use(Runtime(_settings(Path(folder))))
        migrate(current.settings.database_url)
        seed()
        with embedded_stack(current):
            runs = [(scenario, kind, place(scenario.order(kind)).saga_id) for scenario in PLAYED for kind in SAGA_TYPES]
            _await_end([saga_id for _, _, saga_id in runs])
            outcomes = [_print_outcome(*run) for run in runs]
        violations = list(audit())
        current.close()
    for violation in violations:
        write_line(f"VIOLATED  {violation}")
    passed = sum(outcomes)
    seconds = time.monotonic() - started
    click.echo(f"\n{passed} of {len(outcomes)} ended as the seeds say; {len(violations)} violations; {seconds:.1f} s")
    return passed == len(outcomes) and not violations


def _settings(folder: Path) -> Settings:
    configured = Settings()
    # short timeouts, so that hanging steps are compensated soon; on a slow machine the environment may set longer ones
    timeouts = {"step_timeout_seconds", "order_timeout_seconds"} - configured.model_fields_set
    return configured.but(
        database_url=f"sqlite:///{folder / 'demo.db'}",
        broker_url="memory://",
        fault_injection=True,
        stall_seconds=2,
        sweep_seconds=0.2,
        **dict.fromkeys(timeouts, 3),
    )


def _await_end(saga_ids: list[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    waiting = set(saga_ids)
    while waiting and time.monotonic() < deadline:
        with runtime.current().database.reading() as session:
            sagas = [session.get_one(SagaInstance, saga_id) for saga_id in waiting]
        waiting = {saga.id for saga in sagas if saga.status not in {"completed", "compensated", "stuck"}}
        runtime.current().stopping.wait(0.1)


def _print_outcome(scenario: Scenario, saga_type: str, saga_id: str) -> bool:
    view = queries.saga(saga_id)
    saga = view.saga
    with runtime.current().database.reading() as session:
        order = session.get_one(Order, saga.aggregate_id)
    states = [entry["state"] for entry in saga.state_history]
    click.echo(f"\n{scenario.title} · {saga_type} · saga {saga_id}")
    for line in table(attempts(view.operations)):
        write_line(f"  {line}")
    click.echo(f"  {' → '.join(states)}")
    expected = (scenario.ends, "completed" if scenario.ends == SagaStatus.COMPLETED else "cancelled")
    as_expected = (saga.status, order.status) == expected and states == scenario.states(saga_type)
    click.echo(f"  {'✓' if as_expected else '✕'} saga {saga.status}, order {order.status}")
    if not as_expected:
        write_line(f"    expected {expected} by {scenario.states(saga_type)}; {saga.failure_reason}")
    return as_expected
