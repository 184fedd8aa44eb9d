"""``python -m app demo``: every scenario of the seeds, in every kind of saga, on the embedded stack."""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import click

from app import runtime
from app.migrations import migrate
from app.runtime import Runtime
from app.saga.definition import FAILED
from app.saga.models import SagaInstance
from app.saga.timeline import attempts
from app.settings import Settings
from cli.embedded import EmbeddedStack
from cli.table import table
from tasks.orders import Order
from workflows import queries
from workflows.audit import audit
from workflows.first_data import seed
from workflows.ordering import Item, NewOrder, Pattern, place

PATIENCE_SECONDS = 15

ORDER, PAYMENT_FIRST, CHOREOGRAPHY = "order", "order-payment-first", "order-choreography"
SAGA_TYPES = (ORDER, PAYMENT_FIRST, CHOREOGRAPHY)

# the milestones of the two orchestrated sagas, in their order; a scenario says how many of them it reaches
_MILESTONES = {
    ORDER: ("ORDER_CREATED", "STOCK_RESERVED", "PAYMENT_COMPLETED"),
    PAYMENT_FIRST: ("ORDER_CREATED", "PAYMENT_COMPLETED", "STOCK_RESERVED"),
}


@dataclass(frozen=True)
class Scenario:
    """A story of a seed: what is ordered, what breaks, and where it must end.

    ``fails_at`` is what makes it turn back: stock, payment or shipping; None if nothing does.
    """

    title: str
    items: tuple[Item, ...]
    completes: bool
    breaks: dict[str, str] = field(default_factory=dict)
    fails_at: str | None = None


SCENARIOS = (
    Scenario("success (002)", (Item("book-123", 1),), True),
    Scenario("success, several items (000)", (Item("item-001", 2), Item("product-1", 3)), True),
    Scenario("out of stock (002, scenario 1)", (Item("book-456", 1),), False, fails_at="stock"),
    Scenario("payment declined (002, scenario 2)", (Item("book-789", 1),), False, {"payments": "decline"}, "payment"),
    Scenario("payment of 999999 declined (000)", (Item("book-999999", 1),), False, fails_at="payment"),
    Scenario("carrier failure (002, scenario 3)", (Item("book-789", 1),), False, {"shipping": "decline"}, "shipping"),
    Scenario(
        "transient faults, retried (003)", (Item("item-001", 1),), True, {"inventory": "fail:2", "payments": "fail:1"}
    ),
    Scenario("a charge whose answer is lost", (Item("item-001", 1),), False, {"payments": "timeout"}, "payment"),
    Scenario("a service that hangs (000)", (Item("item-001", 1),), False, {"payments": "hang"}, "payment"),
)

_REACHED = {
    "stock": {ORDER: 1, PAYMENT_FIRST: 2},
    "payment": {ORDER: 2, PAYMENT_FIRST: 1},
    "shipping": {ORDER: 3, PAYMENT_FIRST: 3},
}


def expected_states(scenario: Scenario, saga_type: str) -> list[str] | None:
    """Return the state history that the seeds give; None for a choreography, which has no conductor to pass states."""
    if saga_type == CHOREOGRAPHY:
        return None
    milestones = _MILESTONES[saga_type]
    if scenario.completes:
        return ["STARTED", *milestones, "COMPLETED"]
    reached = _REACHED[scenario.fails_at or "shipping"][saga_type]
    return ["STARTED", *milestones[:reached], "COMPENSATION_STARTED", FAILED]


def play() -> bool:
    """Play all scenarios at once, then tell each; returns whether all ended as they must and the audit is clean."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        here = runtime.use(Runtime(_settings(Path(folder))))
        migrate(here.settings.database_url)
        seed()
        with EmbeddedStack(here):
            played = [(scenario, kind, _order(scenario, kind)) for scenario in SCENARIOS for kind in SAGA_TYPES]
            _await_end([saga_id for _, _, saga_id in played])
            verdicts = [_tell(*story) for story in played]
        violations = list(audit())
        here.close()
    for violation in violations:
        click.echo(f"VIOLATED  {violation.check}: {violation.subject}: {violation.detail}")
    right = sum(verdicts)
    seconds = time.monotonic() - started
    click.echo(f"\n{right} of {len(verdicts)} ended as the seeds say; {len(violations)} violations; {seconds:.1f} s")
    return right == len(verdicts) and not violations


def _settings(folder: Path) -> Settings:
    return Settings(
        database_url=f"sqlite:///{folder / 'demo.db'}",
        broker_url="memory://",
        fault_injection=True,
        step_timeout_seconds=3,
        order_timeout_seconds=3,
        stall_seconds=2,
        sweep_seconds=0.2,
    )


def _order(scenario: Scenario, saga_type: str) -> str:
    choreographed = saga_type == CHOREOGRAPHY
    request = NewOrder(
        items=scenario.items,
        pattern=Pattern.CHOREOGRAPHY if choreographed else Pattern.ORCHESTRATION,
        saga_type=None if choreographed else saga_type,
        simulate=tuple(scenario.breaks.items()),
    )
    return place(request).saga_id


def _await_end(saga_ids: list[str]) -> None:
    give_up = time.monotonic() + PATIENCE_SECONDS
    waiting = set(saga_ids)
    while waiting and time.monotonic() < give_up:
        with runtime.current().database.reading() as session:
            sagas = [session.get_one(SagaInstance, saga_id) for saga_id in waiting]
        waiting = {saga.id for saga in sagas if saga.status not in {"completed", "compensated", "stuck"}}
        runtime.current().stopping.wait(0.1)


def _tell(scenario: Scenario, saga_type: str, saga_id: str) -> bool:
    view = queries.saga(saga_id)
    saga = view.saga
    with runtime.current().database.reading() as session:
        order = session.get_one(Order, saga.aggregate_id)
    states = [entry["state"] for entry in saga.state_history]
    click.echo(f"\n{scenario.title} · {saga_type} · saga {saga_id}")
    for line in table(attempts(view.operations)):
        click.echo(f"  {line}")
    click.echo(f"  {' → '.join(states)}")
    wanted = ("completed", "completed") if scenario.completes else ("compensated", "cancelled")
    ended_right = (saga.status, order.status) == wanted and expected_states(scenario, saga_type) in (None, states)
    click.echo(f"  {'✓' if ended_right else '✕'} saga {saga.status}, order {order.status}")
    if not ended_right:
        click.echo(f"    expected {wanted} by {expected_states(scenario, saga_type)}; {saga.trouble}")
    return ended_right
